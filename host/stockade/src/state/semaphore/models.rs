//! Semaphore in every order of takers, drops, deadlines and the end: `just shuttle`.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::base::sync::model::{StreamPoller, Time, check, exhaust, far, pause};
use crate::base::sync::thread::{self, JoinHandle};

fn spawn<T: Send + 'static>(
    semaphore: &Arc<Semaphore>,
    act: impl FnOnce(&Arc<Semaphore>) -> T + Send + 'static,
) -> JoinHandle<T> {
    let semaphore = semaphore.clone();
    thread::spawn(move || act(&semaphore))
}

#[test]
fn as_many_are_let_in_as_there_is_room_and_all_in_turn() {
    check(Time::Stands, || {
        let (semaphore, inside) = (Arc::new(Semaphore::new(2)), Arc::new(AtomicUsize::new(0)));
        let takers: Vec<_> = (0..4)
            .map(|_| {
                let inside = inside.clone();
                spawn(&semaphore, move |semaphore| {
                    for _ in 0..2 {
                        let _place = semaphore.take(Patience::Endless).unwrap();
                        assert!(inside.fetch_add(1, Ordering::Relaxed) < 2);
                        pause();
                        inside.fetch_sub(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        takers.into_iter().for_each(|taker| taker.join().unwrap());
        assert_eq!(lock(&semaphore.inner).taken, 0);
    });
}

/// Each permit that is freed is one taker's: nobody waits while one is free.
#[test]
fn as_many_places_as_are_freed_are_taken_and_kept() {
    exhaust(Time::Stands, || {
        let semaphore = Arc::new(Semaphore::new(2));
        let held = [0, 1].map(|_| semaphore.take(Patience::None).unwrap());
        let takers = [0, 1]
            .map(|_| spawn(&semaphore, |semaphore| semaphore.take(Patience::Endless).unwrap()));
        drop(held);
        let _kept = takers.map(|taker| taker.join().unwrap());
        assert!(semaphore.take(Patience::None).is_none());
    });
}

/// A wake-up that meets a deadline is not lost for those who have none.
#[test]
fn takers_that_give_up_take_no_wake_up_with_them() {
    check(Time::Flies, || {
        let semaphore = Arc::new(Semaphore::new(1));
        let held = semaphore.take(Patience::None).unwrap();
        let impatient = [Patience::Until(far()), Patience::Until(far()), Patience::None]
            .map(|patience| spawn(&semaphore, move |semaphore| drop(semaphore.take(patience))));
        let patient = [0, 1].map(|_| {
            spawn(&semaphore, |semaphore| drop(semaphore.take(Patience::Endless).unwrap()))
        });
        drop(held);
        patient.into_iter().chain(impatient).for_each(|taker| taker.join().unwrap());
        assert_eq!(lock(&semaphore.inner).taken, 0);
    });
}

#[test]
fn a_closed_room_holds_nobody_up_whatever_he_waits_for() {
    check(Time::Stands, || {
        let semaphore = Arc::new(Semaphore::new(1));
        let _held = semaphore.take(Patience::None).unwrap();
        let takers = [Patience::Endless, Patience::Endless, Patience::Until(far())]
            .map(|patience| spawn(&semaphore, move |semaphore| semaphore.take(patience).unwrap()));
        let closers = [0, 1]
            .map(|_| spawn(&semaphore, |semaphore| semaphore.close().into_iter().for_each(wake)));
        closers.into_iter().for_each(|closer| closer.join().unwrap());
        // Kept, so that nobody is let in by another's leaving.
        let _kept = takers.map(|taker| taker.join().unwrap());
        assert!(semaphore.take(Patience::None).is_some());
    });
}

/// As a stream does: looks, and asks to be woken where there is no permit.
#[cfg(feature = "stream")]
fn poll_for_a_place(semaphore: &Arc<Semaphore>) -> Permit {
    let poller = Arc::new(StreamPoller::default());
    loop {
        match semaphore.take(Patience::None) {
            Some(permit) => return permit,
            None => semaphore.wake_when_free(&poller.waker()),
        }
        poller.wait();
    }
}

#[cfg(feature = "stream")]
#[test]
fn streams_and_threads_that_want_the_same_place_all_get_it() {
    check(Time::Stands, || {
        let semaphore = Arc::new(Semaphore::new(1));
        let held = semaphore.take(Patience::None).unwrap();
        let streams =
            [0, 1].map(|_| spawn(&semaphore, |semaphore| drop(poll_for_a_place(semaphore))));
        let thread =
            spawn(&semaphore, |semaphore| drop(semaphore.take(Patience::Endless).unwrap()));
        drop(held);
        streams.into_iter().for_each(|stream| stream.join().unwrap());
        thread.join().unwrap();
    });
}

#[cfg(feature = "stream")]
#[test]
fn the_end_wakes_streams_too() {
    exhaust(Time::Stands, || {
        let semaphore = Arc::new(Semaphore::new(1));
        let _held = semaphore.take(Patience::None).unwrap();
        let stream = spawn(&semaphore, poll_for_a_place);
        semaphore.close().into_iter().for_each(wake);
        stream.join().unwrap();
    });
}

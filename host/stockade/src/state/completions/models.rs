//! Completions in every order of ends, looks and deadlines: `just shuttle`.

use std::sync::Arc;

use super::*;
use crate::base::sync::model::{Time, check, exhaust, far};
use crate::base::sync::thread::{self, JoinHandle};

fn spawn<T: Send + 'static>(
    completions: &Arc<Completions>,
    act: impl FnOnce(&Completions) -> T + Send + 'static,
) -> JoinHandle<T> {
    let completions = completions.clone();
    thread::spawn(move || act(&completions))
}

fn push_all(completions: &Arc<Completions>, numbers: usize) -> Vec<JoinHandle<()>> {
    let push = |number| spawn(completions, move |completions| completions.push(number));
    (0..numbers).map(push).collect()
}

#[test]
fn every_number_comes_out_once_whoever_blocks_for_it() {
    check(Time::Stands, || {
        let completions = Arc::new(Completions::default());
        let takers = [2, 1].map(|count| {
            spawn(&completions, move |from| (0..count).map(|_| from.next(None)).collect())
        });
        push_all(&completions, 3);
        let mut taken: Vec<Option<usize>> = Vec::new();
        takers.into_iter().for_each(|taker| taken.extend::<Vec<_>>(taker.join().unwrap()));
        taken.sort_unstable();
        assert_eq!(taken, [Some(0), Some(1), Some(2)]);
        assert_eq!(completions.try_next(), None);
    });
}

#[test]
fn an_end_is_heard_whenever_the_follower_begins_to_listen() {
    exhaust(Time::Stands, || {
        let completions = Arc::new(Completions::default());
        push_all(&completions, 1);
        assert_eq!(completions.next(None), Some(0));
    });
}

/// A wake-up that meets a deadline is not lost for who has none.
#[test]
fn a_follower_that_gives_up_takes_no_number_with_it() {
    check(Time::Flies, || {
        let completions = Arc::new(Completions::default());
        let impatient = spawn(&completions, |completions| completions.next(Some(far())));
        let patient = spawn(&completions, |completions| completions.next(None));
        for pusher in push_all(&completions, 2) {
            pusher.join().unwrap();
        }
        let mut taken = vec![impatient.join().unwrap(), patient.join().unwrap()];
        taken.push(completions.try_next());
        taken.retain(Option::is_some);
        taken.sort_unstable();
        assert_eq!(taken, [Some(0), Some(1)]);
    });
}

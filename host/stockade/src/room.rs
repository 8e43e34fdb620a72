//! Room for pending tasks: how many may wait at a time, and who waits to add another.
//!
//! ```text
//! submit ── take ──► Place ──► task ── started, or ended ──► dropped: room for the next
//! ```
//!
//! Invariant: as many places are taken as [`Place`]s exist, and until the room is closed never more
//! than the maximum; so a place that is lost with whatever held it is free again.
//!
//! Deliberately absent: whether the pool still takes tasks. Who was let in asks that again.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crate::sync::{Condvar, Mutex, lock, wait, wake};

/// The places of one pool.
#[derive(Debug)]
pub(crate) struct Room {
    places_max: usize,
    inner: Mutex<Inner>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    taken: usize,
    /// Nobody waits any more: the pool takes no tasks.
    closed: bool,
    wakers: Vec<Waker>,
}

/// One pending task's place; free again when dropped, or given up.
#[derive(Debug)]
pub(crate) struct Place {
    /// `None` once it is given up.
    room: Option<Arc<Room>>,
}

/// How long to wait for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// For as long as it takes.
    Endless,
    /// Until then.
    Until(Instant),
    /// Not at all.
    None,
}

impl Room {
    /// Room for so many pending tasks.
    pub(crate) fn new(places_max: usize) -> Self {
        Self { places_max, inner: Mutex::default(), freed: Condvar::new() }
    }

    /// The most tasks that may be pending.
    pub(crate) fn places_max(&self) -> usize {
        self.places_max
    }

    /// Takes a place, or waits for one; `None` where there is none in time. Once the room is closed
    /// there is always one, because the pool then refuses the task itself.
    pub(crate) fn take(self: &Arc<Self>, patience: Patience) -> Option<Place> {
        let mut inner = lock(&self.inner);
        while inner.taken >= self.places_max && !inner.closed {
            let deadline = match patience {
                Patience::None => return None,
                Patience::Until(deadline) => Some(deadline),
                Patience::Endless => None,
            };
            inner = wait(&self.freed, inner, deadline)?;
        }
        inner.taken += 1;
        Some(Place { room: Some(self.clone()) })
    }

    /// Wakes `waker` when there may be a place: at once if there is one now.
    #[cfg(feature = "stream")]
    pub(crate) fn wake_when_free(&self, waker: &Waker) {
        let mut inner = lock(&self.inner);
        if inner.taken < self.places_max || inner.closed {
            drop(inner);
            waker.wake_by_ref();
        } else if !inner.wakers.iter().any(|known| known.will_wake(waker)) {
            inner.wakers.push(waker.clone());
        }
    }

    /// Lets everybody through who waits or comes. Gives whom to wake for that, once no lock is held.
    #[must_use]
    pub(crate) fn close(&self) -> Vec<Waker> {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        let wakers = std::mem::take(&mut inner.wakers);
        drop(inner);
        self.freed.notify_all();
        wakers
    }
}

impl Place {
    /// Gives it up under a lock of the pool's: gives whom to wake for that after it.
    #[must_use]
    pub(crate) fn give_up(mut self) -> Vec<Waker> {
        self.free()
    }

    fn free(&mut self) -> Vec<Waker> {
        let Some(room) = self.room.take() else { return Vec::new() };
        let mut inner = lock(&room.inner);
        inner.taken -= 1;
        let wakers = std::mem::take(&mut inner.wakers);
        drop(inner);
        room.freed.notify_one();
        wakers
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.free().into_iter().for_each(wake);
    }
}

#[cfg(test)]
#[cfg(shuttle)]
mod models;

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn as_many_places_as_allowed_and_no_more() {
        let room = Arc::new(Room::new(2));
        let first = room.take(Patience::None).unwrap();
        let _second = room.take(Patience::None).unwrap();
        assert!(room.take(Patience::None).is_none());
        assert!(room.take(Patience::Until(Instant::now())).is_none());
        drop(first);
        assert!(room.take(Patience::None).is_some());
    }

    #[test]
    fn a_place_that_is_freed_lets_in_who_waits() {
        let room = Arc::new(Room::new(1));
        let place = room.take(Patience::None).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| room.take(Patience::Endless).is_some());
            drop(place);
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn a_closed_room_holds_nobody_up() {
        let room = Arc::new(Room::new(1));
        let _place = room.take(Patience::None).unwrap();
        let far = Patience::Until(Instant::now() + Duration::from_secs(3600));
        std::thread::scope(|scope| {
            let waiting = [Patience::Endless, far].map(|patience| {
                let room = &room;
                scope.spawn(move || room.take(patience).is_some())
            });
            assert!(room.close().is_empty(), "nobody is to be woken");
            assert!(waiting.into_iter().all(|waiting| waiting.join().unwrap()));
        });
        assert!(room.take(Patience::None).is_some());
    }
}

//! The semaphore of pending tasks: bounds them, and queues submissions that wait for a permit.
//!
//! ```text
//! submit ── take ──► Permit ──► task ── started, or ended ──► dropped: semaphore for the next
//! ```
//!
//! Invariant: as many permits are taken as [`Permit`]s exist, and until the semaphore is closed never more
//! than the maximum; so dropping a permit frees it.
//!
//! Deliberately absent: whether the pool still accepts tasks. A submission checks that again after
//! it got a permit.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crate::base::sync::{Condvar, Mutex, lock, wait, wake};

/// The permits of one pool.
#[derive(Debug)]
pub(crate) struct Semaphore {
    permits_max: usize,
    inner: Mutex<Inner>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    taken: usize,
    /// Closed: the pool accepts no tasks, and there are no waiters.
    closed: bool,
    wakers: Vec<Waker>,
}

/// Places of pending tasks, at first one; free again when dropped, or given up.
#[derive(Debug)]
pub(crate) struct Permit {
    semaphore: Arc<Semaphore>,
    /// How many; 0 once they are given up.
    count: usize,
}

/// How long to wait for a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// For as long as it takes.
    Endless,
    /// Until then.
    Until(Instant),
    /// Not at all.
    None,
}

impl Semaphore {
    /// Semaphore for so many pending tasks.
    pub(crate) fn new(permits_max: usize) -> Self {
        Self { permits_max, inner: Mutex::default(), freed: Condvar::new() }
    }

    /// The most tasks that may be pending.
    pub(crate) fn permits_max(&self) -> usize {
        self.permits_max
    }

    /// Takes a permit, or waits for one; `None` where there is none in time. Once the semaphore is closed
    /// there is always one, because the pool then refuses the task itself.
    pub(crate) fn take(self: &Arc<Self>, patience: Patience) -> Option<Permit> {
        let mut inner = lock(&self.inner);
        while inner.taken >= self.permits_max && !inner.closed {
            let deadline = match patience {
                Patience::None => return None,
                Patience::Until(deadline) => Some(deadline),
                Patience::Endless => None,
            };
            inner = wait(&self.freed, inner, deadline)?;
        }
        inner.taken += 1;
        Some(Permit { semaphore: self.clone(), count: 1 })
    }

    /// Wakes `waker` when there may be a permit: at once if there is one now.
    pub(crate) fn wake_when_free(&self, waker: &Waker) {
        let mut inner = lock(&self.inner);
        if inner.taken < self.permits_max || inner.closed {
            drop(inner);
            waker.wake_by_ref();
        } else if !inner.wakers.iter().any(|known| known.will_wake(waker)) {
            inner.wakers.push(waker.clone());
        }
    }

    /// Closes the semaphore: all waiters and later callers pass. Returns the wakers to call when no
    /// lock is held.
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

impl Permit {
    /// Takes so many more, as far as there are, without waiting. Returns how many these are.
    pub(crate) fn extend(&mut self, more: usize) -> usize {
        let mut inner = lock(&self.semaphore.inner);
        let free = self.semaphore.permits_max.saturating_sub(inner.taken);
        let more = if inner.closed { more } else { more.min(free) };
        inner.taken += more;
        self.count += more;
        more
    }

    /// So many of them, as far as it has them, apart.
    pub(crate) fn split_off(&mut self, count: usize) -> Self {
        let count = count.min(self.count);
        self.count -= count;
        Self { semaphore: self.semaphore.clone(), count }
    }

    /// Takes over those of another permit of the same semaphore.
    pub(crate) fn merge(&mut self, mut other: Self) {
        self.count += std::mem::take(&mut other.count);
    }

    /// Gives all of them up under a lock of the pool's. Returns whom to wake for that after it.
    #[must_use]
    pub(crate) fn give_up(mut self) -> Vec<Waker> {
        self.free(self.count)
    }

    /// Gives one of them up, as [`give_up`](Self::give_up).
    #[must_use]
    pub(crate) fn give_up_one(&mut self) -> Vec<Waker> {
        self.free(1)
    }

    fn free(&mut self, count: usize) -> Vec<Waker> {
        let count = count.min(self.count);
        if count == 0 {
            return Vec::new();
        }
        self.count -= count;
        let mut inner = lock(&self.semaphore.inner);
        inner.taken -= count;
        let wakers = std::mem::take(&mut inner.wakers);
        drop(inner);
        match count {
            1 => self.semaphore.freed.notify_one(),
            _ => self.semaphore.freed.notify_all(),
        }
        wakers
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.free(self.count).into_iter().for_each(wake);
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
        let semaphore = Arc::new(Semaphore::new(2));
        let first = semaphore.take(Patience::None).unwrap();
        let _second = semaphore.take(Patience::None).unwrap();
        assert!(semaphore.take(Patience::None).is_none());
        assert!(semaphore.take(Patience::Until(Instant::now())).is_none());
        drop(first);
        assert!(semaphore.take(Patience::None).is_some());
    }

    #[test]
    fn several_places_are_taken_as_far_as_there_are_and_given_up_one_by_one() {
        let semaphore = Arc::new(Semaphore::new(3));
        let mut permits = semaphore.take(Patience::None).unwrap();
        assert_eq!(permits.extend(5), 2);
        assert!(semaphore.take(Patience::None).is_none());
        assert!(permits.give_up_one().is_empty());
        drop(semaphore.take(Patience::None).unwrap());
        drop(permits);
        assert_eq!(semaphore.take(Patience::None).unwrap().extend(9), 2);
    }

    #[test]
    fn a_place_that_is_freed_lets_in_who_waits() {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.take(Patience::None).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| semaphore.take(Patience::Endless).is_some());
            drop(permit);
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn a_closed_room_holds_nobody_up() {
        let semaphore = Arc::new(Semaphore::new(1));
        let _place = semaphore.take(Patience::None).unwrap();
        let far = Patience::Until(Instant::now() + Duration::from_secs(3600));
        std::thread::scope(|scope| {
            let waiting = [Patience::Endless, far].map(|patience| {
                let semaphore = &semaphore;
                scope.spawn(move || semaphore.take(patience).is_some())
            });
            assert!(semaphore.close().is_empty(), "nobody is to be woken");
            assert!(waiting.into_iter().all(|waiting| waiting.join().unwrap()));
        });
        assert!(semaphore.take(Patience::None).is_some());
    }
}

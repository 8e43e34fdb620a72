//! The window: how many items may be under way.
//!
//! As many as are done within some milliseconds: enough that no worker waits for the session, and few
//! enough that little has to be done again after a kill, because in order a result waits for all before
//! it.
//!
//! This module never reads the clock.

use std::time::{Duration, Instant};

/// The most items under way.
const ITEMS_MAX: usize = 1024;

/// A window that is done sooner than this doubles, and one that takes longer than this halves.
const QUICK: Duration = Duration::from_millis(20);
const SLOW: Duration = Duration::from_millis(200);

/// How many items may be under way.
#[derive(Debug)]
pub(crate) struct Window {
    least: usize,
    items: usize,
    /// Items that have ended since then.
    ended: usize,
    since: Instant,
}

impl Window {
    /// At first, and at least: four chunks for each worker, and 16.
    pub(crate) fn new(workers: usize, chunk: usize, now: Instant) -> Self {
        let least = (4 * workers).max(16).saturating_mul(chunk);
        Self { least, items: least, ended: 0, since: now }
    }

    /// So many items may be under way.
    pub(crate) fn items(&self) -> usize {
        self.items
    }

    /// Some items have ended.
    pub(crate) fn ended(&mut self, count: usize, now: Instant) {
        self.ended += count;
        let took = now.saturating_duration_since(self.since);
        if self.ended < self.items && took < SLOW {
            return;
        }
        if self.ended >= self.items && took < QUICK {
            self.items = (2 * self.items).min(ITEMS_MAX.max(self.least));
        } else if took >= SLOW {
            self.items = (self.items / 2).max(self.least);
        }
        (self.ended, self.since) = (0, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_grows_while_items_are_quick_and_shrinks_when_they_are_slow() {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut window = Window::new(2, 1, begun);
        assert_eq!(window.items(), 16);
        window.ended(15, at(1));
        assert_eq!(window.items(), 16);
        window.ended(1, at(2));
        assert_eq!(window.items(), 32);
        for _ in 0..10 {
            window.ended(2000, at(3));
        }
        assert_eq!(window.items(), ITEMS_MAX);
        // Neither quick nor slow.
        window.ended(2000, at(100));
        assert_eq!(window.items(), ITEMS_MAX);
        window.ended(3, at(299));
        assert_eq!(window.items(), ITEMS_MAX);
        window.ended(3, at(300));
        assert_eq!(window.items(), ITEMS_MAX / 2);
        for seconds in 1..20 {
            window.ended(1, at(1000 * seconds));
        }
        assert_eq!(window.items(), 16);
    }

    #[test]
    fn chunks_and_workers_make_a_window_that_no_haste_exceeds() {
        let begun = Instant::now();
        let mut window = Window::new(8, 100, begun);
        assert_eq!(window.items(), 3200);
        window.ended(10_000, begun);
        assert_eq!(window.items(), 3200);
    }
}

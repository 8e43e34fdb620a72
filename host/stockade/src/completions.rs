//! Completions: the numbers of tasks that have ended, in the order of their ends, for whoever follows
//! several tasks at once.
//!
//! Each task is told a number of the follower's choice and says it once, when it ends. A follower
//! blocks or looks.
//!
//! Invariant: a number that was said is given out once.

use std::collections::VecDeque;
use std::time::Instant;

use crate::event_loop::Awaited;
use crate::sync::{Condvar, Mutex, lock, wait};

/// Where tasks say that they have ended.
#[derive(Debug, Default)]
pub(crate) struct Completions {
    ended: Mutex<VecDeque<usize>>,
    said: Condvar,
}

impl Completions {
    /// A task says its number.
    pub(crate) fn push(&self, number: usize) {
        lock(&self.ended).push_back(number);
        self.said.notify_one();
    }

    /// What a leader that waits for the next number waits for.
    pub(crate) fn awaited(&self) -> Awaited {
        std::ptr::from_ref(self).addr() as Awaited
    }

    /// Whether a number was said and not given out.
    pub(crate) fn has_next(&self) -> bool {
        !lock(&self.ended).is_empty()
    }

    /// The next number, if one was said.
    pub(crate) fn try_next(&self) -> Option<usize> {
        lock(&self.ended).pop_front()
    }

    /// Blocks for the next number; `None` once `deadline` has come.
    pub(crate) fn next(&self, deadline: Option<Instant>) -> Option<usize> {
        let mut ended = lock(&self.ended);
        loop {
            if let Some(number) = ended.pop_front() {
                return Some(number);
            }
            ended = wait(&self.said, ended, deadline)?;
        }
    }
}

#[cfg(test)]
#[cfg(shuttle)]
mod models;

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_out_in_the_order_of_the_ends_and_once() {
        let completions = Completions::default();
        completions.push(7);
        completions.push(3);
        assert_eq!(completions.next(None), Some(7));
        assert_eq!(completions.try_next(), Some(3));
        assert_eq!(completions.try_next(), None);
        assert_eq!(completions.next(Some(Instant::now())), None);
    }

    #[test]
    fn who_blocks_is_woken_by_an_end() {
        let completions = Completions::default();
        std::thread::scope(|scope| {
            let next = scope.spawn(|| completions.next(None));
            completions.push(1);
            assert_eq!(next.join().unwrap(), Some(1));
        });
    }
}

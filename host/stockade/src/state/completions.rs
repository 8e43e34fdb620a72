//! Completions: the numbers of ended tasks, in the order of their ends, for a thread that waits for
//! several tasks.
//!
//! Each task gets a number from the follower and sends it once, when it ends. A follower blocks or
//! polls.
//!
//! Invariant: each sent number is returned once.

use std::collections::VecDeque;
use std::time::Instant;

use crate::base::sync::{Condvar, Mutex, lock, wait};
use crate::state::backend::Awaited;

/// A queue of numbers of ended tasks.
#[derive(Debug, Default)]
pub(crate) struct Completions {
    ended: Mutex<VecDeque<usize>>,
    said: Condvar,
}

impl Completions {
    /// A task sends its number.
    pub(crate) fn push(&self, number: usize) {
        lock(&self.ended).push_back(number);
        self.said.notify_one();
    }

    /// The number that a leader waits for.
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

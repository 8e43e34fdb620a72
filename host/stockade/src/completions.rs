//! Completions: the numbers of tasks that have ended, in the order of their ends, for whoever follows
//! several tasks at once.
//!
//! Each task is told a number of the follower's choice and says it once, when it ends. A follower
//! blocks, looks, or is woken as a future is.
//!
//! Invariant: a number that was said is given out once.

use std::collections::VecDeque;
use std::time::Instant;

#[cfg(feature = "stream")]
use std::task::{Context, Poll};

use std::task::Waker;

use crate::hub::Awaited;
use crate::sync::{Condvar, Mutex, lock, wait};

/// Where tasks say that they have ended.
#[derive(Debug, Default)]
pub(crate) struct Completions {
    inner: Mutex<Inner>,
    said: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    ended: VecDeque<usize>,
    waker: Option<Waker>,
}

impl Completions {
    /// A task says its number. Answers whom to wake for that.
    #[must_use]
    pub(crate) fn push(&self, number: usize) -> Option<Waker> {
        let mut inner = lock(&self.inner);
        inner.ended.push_back(number);
        let waker = inner.waker.take();
        drop(inner);
        self.said.notify_one();
        waker
    }

    /// What a leader that waits for the next number waits for.
    pub(crate) fn awaited(&self) -> Awaited {
        std::ptr::from_ref(self).addr() as Awaited
    }

    /// Whether a number was said and not given out.
    pub(crate) fn has_next(&self) -> bool {
        !lock(&self.inner).ended.is_empty()
    }

    /// The next number, if one was said.
    pub(crate) fn try_next(&self) -> Option<usize> {
        lock(&self.inner).ended.pop_front()
    }

    /// Blocks for the next number; `None` once `deadline` has come.
    pub(crate) fn next(&self, deadline: Option<Instant>) -> Option<usize> {
        let mut inner = lock(&self.inner);
        loop {
            if let Some(number) = inner.ended.pop_front() {
                return Some(number);
            }
            inner = wait(&self.said, inner, deadline)?;
        }
    }

    /// The next number, or a wake-up of the one who polled last.
    #[cfg(feature = "stream")]
    pub(crate) fn poll_next(&self, context: &Context<'_>) -> Poll<usize> {
        let mut inner = lock(&self.inner);
        if let Some(number) = inner.ended.pop_front() {
            return Poll::Ready(number);
        }
        inner.waker = Some(context.waker().clone());
        Poll::Pending
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
        assert!(completions.push(7).is_none());
        assert!(completions.push(3).is_none());
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
            assert!(completions.push(1).is_none());
            assert_eq!(next.join().unwrap(), Some(1));
        });
    }
}

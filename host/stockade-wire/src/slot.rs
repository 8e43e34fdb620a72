//! A slot of the status page: how far a worker has come in one batch, and how far it may go.
//!
//! ```text
//!            offer(batch)             start                    start
//!  anything ─────────────► next=0 ──────────► next=1 … ──────────► next=limit
//!   (host)                 limit=n  (worker)      │   (worker)
//!                                                 └─ revoke(index): limit = max(next, index)
//!                                                      (host)
//! ```
//!
//! One atomic word holds the number of the batch's first task, the index of the task that starts next,
//! and the index of the first that must not start. Both sides change it by a compare-and-swap from that
//! very word. So each task either starts or is revoked, however often and by whom, and a side that is
//! late finds the word of another batch and changes nothing.
//!
//! Invariant: nothing follows from a word but whether a swap succeeds. A worker that writes what it
//! likes can lie about its own tasks, and that is all.
//!
//! Deliberately absent: waiting. Every operation is a few instructions on one word.

// A model checker's atomics are larger than a word; only this file's tests see them.
#[cfg(all(loom, test))]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(all(loom, test)))]
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{BATCH_TASKS_MAX, TaskId, TaskRange};

/// One slot's word; zero before its first offer.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Slot(AtomicU64);

/// What a slot's word says: of the batch that begins with this task, `next` is the index of the task
/// that starts next, and `limit` that of the first that must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    first: u64,
    next: u32,
    limit: u32,
}

/// Bits of an index, from 0 to [`BATCH_TASKS_MAX`].
const INDEX_BITS: u32 = 11;

const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

const _: () = assert!(BATCH_TASKS_MAX as u64 <= INDEX_MASK);

/// The bits of a task's number that a word has room for. Two batches with the same bits are as many
/// tasks apart as a pool runs in weeks, and nobody keeps a slot for so long.
const FIRST_MASK: u64 = u64::MAX >> (2 * INDEX_BITS);

impl Word {
    fn encode(self) -> u64 {
        self.first << (2 * INDEX_BITS) | u64::from(self.next) << INDEX_BITS | u64::from(self.limit)
    }

    fn decode(word: u64) -> Self {
        let index = |bits: u64| (bits & INDEX_MASK) as u32;
        Self {
            first: word >> (2 * INDEX_BITS),
            next: index(word >> INDEX_BITS),
            limit: index(word),
        }
    }

    /// Whether it is of the batch that begins with this task.
    fn is_of(self, first: TaskId) -> bool {
        self.first == first.0 & FIRST_MASK
    }
}

impl Slot {
    /// Host: the tasks of `batch`, at most [`BATCH_TASKS_MAX`], may start from now on, one after the
    /// other; it has the slot to itself until it is answered whole. What was written before is seen by
    /// the worker that starts one of them.
    pub(crate) fn offer(&self, batch: TaskRange) {
        let limit = batch.count().min(BATCH_TASKS_MAX);
        let word = Word { first: batch.first().0 & FIRST_MASK, next: 0, limit };
        self.0.store(word.encode(), Ordering::Release);
    }

    /// Worker: the task at `index` of the batch that begins with `first` starts now. False where it must
    /// not: it was revoked, or is not the next, or the batch is not offered.
    pub(crate) fn start(&self, first: TaskId, index: u32) -> bool {
        self.change(first, |word| {
            (word.next == index && index < word.limit).then(|| Word { next: index + 1, ..word })
        })
        .is_some()
    }

    /// Host: revokes the tasks of the batch from `index` on, as far as they have not started and were
    /// not revoked before. Returns the index of the first task that this has revoked and the index
    /// behind the last; `None` where there is none, or the slot is another batch's.
    pub(crate) fn revoke_from(&self, first: TaskId, index: u32) -> Option<(u32, u32)> {
        let before = self.change(first, |word| {
            let limit = index.max(word.next);
            (limit < word.limit).then_some(Word { limit, ..word })
        })?;
        Some((index.max(before.next), before.limit))
    }

    /// Host: has the task at `index` of the batch never start. False where that is too late: it has
    /// started, or the slot is another batch's. Those behind it in its batch are revoked with it.
    pub(crate) fn revoke(&self, first: TaskId, index: u32) -> bool {
        // Where it has started, those behind it are not touched.
        let revoked = self.change(first, |word| {
            (word.next <= index && index < word.limit).then_some(Word { limit: index, ..word })
        });
        if revoked.is_some() {
            return true;
        }
        let word = Word::decode(self.0.load(Ordering::Acquire));
        word.is_of(first) && word.next <= index && word.limit <= index
    }

    /// Host: whether the task at `index` of the batch has started, and nothing else has been offered
    /// here since.
    pub(crate) fn has_started(&self, first: TaskId, index: u32) -> bool {
        // A caller that was too late to revoke the task has seen such a word here, and sees none before it.
        let word = Word::decode(self.0.load(Ordering::Relaxed));
        word.is_of(first) && index < word.next
    }

    /// Changes the word of the batch that begins with `first`, if `change` wants to. Returns the word
    /// before the change.
    fn change(&self, first: TaskId, change: impl Fn(Word) -> Option<Word>) -> Option<Word> {
        let mut current = self.0.load(Ordering::Relaxed);
        loop {
            let word = Word::decode(current);
            let next = if word.is_of(first) { change(word)? } else { return None };
            // Acquire, to see what was written before the offer.
            let swapped = self.0.compare_exchange_weak(
                current,
                next.encode(),
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => return Some(word),
                Err(changed) => current = changed,
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const TASK: TaskId = TaskId(7);
    const NEXT: TaskId = TaskId(8);

    fn slot() -> Slot {
        Slot(AtomicU64::new(0))
    }

    fn batch(first: TaskId, count: u32) -> TaskRange {
        TaskRange::new(first, count).expect("tasks")
    }

    fn offered(first: TaskId, count: u32) -> Slot {
        let slot = slot();
        slot.offer(batch(first, count));
        slot
    }

    #[test]
    fn offered_tasks_start_once_each_and_in_order() {
        let slot = offered(TASK, 3);
        assert!(!slot.start(TASK, 1), "not its turn");
        for index in 0..3 {
            assert!(!slot.has_started(TASK, index));
            assert!(slot.start(TASK, index));
            assert!(!slot.start(TASK, index));
            assert!(slot.has_started(TASK, index) && !slot.has_started(TASK, index + 1));
        }
        assert!(!slot.start(TASK, 3), "no task of the batch");
    }

    #[test]
    fn a_revoked_task_never_starts_and_those_before_it_do() {
        let slot = offered(TASK, 4);
        assert!(slot.start(TASK, 0));
        assert!(slot.revoke(TASK, 2));
        assert!(slot.revoke(TASK, 2), "it never starts, however often that is asked");
        assert!(slot.revoke(TASK, 3), "nor does what stands behind it");
        assert!(slot.start(TASK, 1));
        assert!(!slot.start(TASK, 2) && !slot.start(TASK, 3));
    }

    #[test]
    fn the_rest_of_a_batch_is_revoked_from_what_has_not_started() {
        let slot = offered(TASK, 5);
        assert!(slot.start(TASK, 0) && slot.start(TASK, 1));
        assert_eq!(slot.revoke_from(TASK, 3), Some((3, 5)));
        assert_eq!(slot.revoke_from(TASK, 3), None, "once");
        assert_eq!(slot.revoke_from(TASK, 0), Some((2, 3)));
        assert_eq!(slot.revoke_from(TASK, 0), None);
        assert!(!slot.start(TASK, 2));
    }

    #[test]
    fn who_is_too_late_for_a_task_does_not_touch_those_behind_it() {
        let slot = offered(TASK, 3);
        assert!(slot.start(TASK, 0));
        assert!(!slot.revoke(TASK, 0));
        assert!(slot.start(TASK, 1) && slot.start(TASK, 2));
    }

    #[test]
    fn a_started_task_cannot_be_revoked() {
        let slot = offered(TASK, 1);
        assert!(slot.start(TASK, 0));
        assert!(!slot.revoke(TASK, 0));
        assert!(slot.has_started(TASK, 0) && !slot.has_started(NEXT, 0));
        slot.offer(NEXT.into());
        assert!(!slot.has_started(TASK, 0) && !slot.has_started(NEXT, 0));
    }

    #[test]
    fn what_was_never_offered_neither_starts_nor_is_revoked() {
        for task in [TaskId(1), TASK] {
            assert!(!slot().start(task, 0));
            assert!(!slot().revoke(task, 0));
            assert_eq!(slot().revoke_from(task, 0), None);
        }
    }

    #[test]
    fn an_operation_on_the_batch_before_changes_nothing() {
        let slot = offered(TASK, 1);
        assert!(slot.start(TASK, 0));
        slot.offer(batch(NEXT, 2));
        assert!(!slot.revoke(TASK, 0));
        assert_eq!(slot.revoke_from(TASK, 0), None);
        assert!(!slot.start(TASK, 0));
        assert!(slot.start(NEXT, 0) && slot.start(NEXT, 1));
    }

    #[test]
    fn a_task_that_was_revoked_may_be_offered_again() {
        let slot = offered(TASK, 2);
        assert!(slot.revoke(TASK, 0));
        slot.offer(batch(TASK, 2));
        assert!(slot.start(TASK, 0) && slot.start(TASK, 1));
    }

    #[test]
    fn the_largest_batch_fits_and_no_larger_one_is_offered() {
        let slot = offered(TASK, BATCH_TASKS_MAX);
        assert!((0..BATCH_TASKS_MAX).all(|index| slot.start(TASK, index)));
        let slot = offered(TASK, BATCH_TASKS_MAX + 1);
        assert!((0..BATCH_TASKS_MAX).all(|index| slot.start(TASK, index)));
        assert!(!slot.start(TASK, BATCH_TASKS_MAX));
    }

    #[test]
    fn words_tell_batches_and_indices_apart() {
        for first in [0, 1, 2, FIRST_MASK] {
            for next in [0, 1, BATCH_TASKS_MAX] {
                for limit in [0, 1, BATCH_TASKS_MAX] {
                    let word = Word { first, next, limit };
                    assert_eq!(Word::decode(word.encode()), word);
                }
            }
        }
        let far = TaskId(TASK.0 + FIRST_MASK + 1);
        assert!(offered(far, 1).start(far, 0), "a number that a word has no room for");
    }

    /// A worker may write anything.
    #[test]
    fn whatever_is_written_is_a_number_of_tasks_of_a_batch() {
        for word in [1, 7 << 22, 7 << 22 | 2047, 7 << 22 | 2047 << 11, u64::MAX] {
            let slot = Slot(AtomicU64::new(word));
            if let Some((from, to)) = slot.revoke_from(TASK, 0) {
                assert!(from < to && u64::from(to) <= INDEX_MASK);
            }
            assert!(!slot.start(TASK, BATCH_TASKS_MAX + 1) || word >> 22 == 7);
        }
    }
}

/// Every interleaving, and every reordering that the orderings allow: `just loom`.
#[cfg(all(test, loom))]
mod model {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    const TASK: TaskId = TaskId(7);
    const NEXT: TaskId = TaskId(9);

    fn offered(count: u32) -> Arc<Slot> {
        let slot = Arc::new(Slot(AtomicU64::new(0)));
        slot.offer(TaskRange::new(TASK, count).unwrap());
        slot
    }

    /// As a worker does: one after the other, until one must not start.
    fn run(slot: &Slot, first: TaskId, count: u32) -> u32 {
        (0..count).take_while(|index| slot.start(first, *index)).count() as u32
    }

    #[test]
    fn of_a_start_and_a_revocation_exactly_one_happens() {
        loom::model(|| {
            let slot = offered(1);
            let worker = {
                let slot = Arc::clone(&slot);
                thread::spawn(move || slot.start(TASK, 0))
            };
            let revoked = slot.revoke(TASK, 0);
            let started = worker.join().unwrap();
            assert!(revoked != started, "revoked: {revoked}, started: {started}");
        });
    }

    #[test]
    fn each_task_of_a_batch_starts_or_is_revoked_by_one() {
        loom::model(|| {
            let slot = offered(2);
            let worker = {
                let slot = Arc::clone(&slot);
                thread::spawn(move || run(&slot, TASK, 2))
            };
            let driver = {
                let slot = Arc::clone(&slot);
                thread::spawn(move || slot.revoke_from(TASK, 1))
            };
            let caller = slot.revoke(TASK, 1);
            let (started, revoked) = (worker.join().unwrap(), driver.join().unwrap());
            assert!(started >= 1);
            assert_eq!(caller, started == 1, "who cancels knows whether it started");
            assert!(revoked.is_none() || started == 1);
        });
    }

    #[test]
    fn who_revokes_the_rest_is_told_where_it_begins() {
        loom::model(|| {
            let slot = offered(2);
            let worker = {
                let slot = Arc::clone(&slot);
                thread::spawn(move || run(&slot, TASK, 2))
            };
            let revoked = slot.revoke_from(TASK, 0);
            let started = worker.join().unwrap();
            assert_eq!(revoked, (started < 2).then_some((started, 2)));
        });
    }

    /// The caller of a task that has ended cancels it while the driver offers the next batch.
    #[test]
    fn a_late_revocation_never_hits_the_next_offer() {
        loom::model(|| {
            let slot = offered(1);
            assert!(slot.start(TASK, 0));
            let caller = {
                let slot = Arc::clone(&slot);
                thread::spawn(move || slot.revoke(TASK, 0))
            };
            slot.offer(NEXT.into());
            let worker = {
                let slot = Arc::clone(&slot);
                thread::spawn(move || slot.start(NEXT, 0))
            };
            assert!(!caller.join().unwrap());
            assert!(worker.join().unwrap());
        });
    }

    /// The input is as weak as memory can be: a worker that had not seen the write could read zero.
    #[test]
    fn a_task_that_starts_sees_what_was_written_before_its_offer() {
        loom::model(|| {
            let shared = Arc::new((Slot(AtomicU64::new(0)), AtomicU64::new(0)));
            let worker = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let (slot, input) = &*shared;
                    slot.start(TASK, 0).then(|| input.load(Ordering::Relaxed))
                })
            };
            let (slot, input) = &*shared;
            input.store(42, Ordering::Relaxed);
            slot.offer(TASK.into());
            assert!(matches!(worker.join().unwrap(), None | Some(42)));
        });
    }
}

//! A slot of the status page: whether one task of a window has started, or was taken back.
//!
//! ```text
//!            offer                start
//!  anything ───────► offered(t) ────────► started(t)      no move but an offer leads
//!   (host)               │       (worker)                 out of these two
//!                        └──────────────► revoked(t)
//!                           revoke (host)
//! ```
//!
//! One atomic word holds the task's number and its state, and both ways out of `offered` are a
//! compare-and-swap from that very word. So of a start and any number of revocations exactly one
//! happens, and one that is late finds another task's word and changes nothing. The same task may be
//! offered again: whoever takes it back then means the task, wherever it is.
//!
//! Invariant: nothing follows from a word but whether a swap succeeds. A worker that writes what it
//! likes can lie about its own tasks, and that is all.
//!
//! Deliberately absent: waiting. Every operation is one instruction on one word.

// A model checker's atomics are larger than a word; only this file's tests see them.
#[cfg(all(loom, test))]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(all(loom, test)))]
use std::sync::atomic::{AtomicU64, Ordering};

use crate::TaskId;

/// One slot's word; zero before its first offer.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Slot(AtomicU64);

/// What became of a task in its slot. The numbers fit in [`STATE_BITS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Offered = 1,
    Started = 2,
    Revoked = 3,
}

const STATE_BITS: u32 = 2;

/// The word of `task` in `state`. Tasks are counted from 1, so no pool reaches the numbers whose
/// highest bits are lost here.
fn word(task: TaskId, state: State) -> u64 {
    task.0 << STATE_BITS | state as u64
}

impl Slot {
    /// Host: `task` may start from now on; it has the slot to itself until it has ended. What was
    /// written before is seen by whoever starts the task.
    pub(crate) fn offer(&self, task: TaskId) {
        self.0.store(word(task, State::Offered), Ordering::Release);
    }

    /// Worker: `task` starts now. False where it must not: it was taken back, or is not offered.
    pub(crate) fn start(&self, task: TaskId) -> bool {
        self.leave_offered(task, State::Started)
    }

    /// Host: takes `task` back. False where that is too late: it has started, or was taken back
    /// before, or its slot is another's.
    pub(crate) fn revoke(&self, task: TaskId) -> bool {
        self.leave_offered(task, State::Revoked)
    }

    /// Host: whether `task` has started, and nothing else has been offered here since.
    pub(crate) fn has_started(&self, task: TaskId) -> bool {
        // Whoever was late to revoke the task has seen that word here, and sees none before it.
        self.0.load(Ordering::Relaxed) == word(task, State::Started)
    }

    fn leave_offered(&self, task: TaskId, next: State) -> bool {
        let (offered, next) = (word(task, State::Offered), word(task, next));
        // Acquire, to see what was written before the offer; who loses learns nothing else from it.
        self.0.compare_exchange(offered, next, Ordering::Acquire, Ordering::Relaxed).is_ok()
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

    fn offered(task: TaskId) -> Slot {
        let slot = slot();
        slot.offer(task);
        slot
    }

    #[test]
    fn an_offered_task_starts_once() {
        let slot = offered(TASK);
        assert!(slot.start(TASK));
        assert!(!slot.start(TASK));
    }

    #[test]
    fn a_revoked_task_never_starts_and_is_revoked_once() {
        let slot = offered(TASK);
        assert!(slot.revoke(TASK));
        assert!(!slot.start(TASK));
        assert!(!slot.revoke(TASK));
    }

    #[test]
    fn a_started_task_cannot_be_revoked() {
        let slot = offered(TASK);
        assert!(!slot.has_started(TASK));
        assert!(slot.start(TASK));
        assert!(!slot.revoke(TASK));
        assert!(slot.has_started(TASK) && !slot.has_started(NEXT));
        slot.offer(NEXT);
        assert!(!slot.has_started(TASK) && !slot.has_started(NEXT));
    }

    #[test]
    fn what_was_never_offered_neither_starts_nor_is_revoked() {
        for task in [TaskId(0), TASK] {
            assert!(!slot().start(task));
            assert!(!slot().revoke(task));
        }
    }

    #[test]
    fn an_operation_on_the_task_before_changes_nothing() {
        let slot = offered(TASK);
        assert!(slot.start(TASK));
        slot.offer(NEXT);
        assert!(!slot.revoke(TASK));
        assert!(!slot.start(TASK));
        assert!(slot.start(NEXT));
    }

    #[test]
    fn a_task_that_was_taken_back_may_be_offered_again() {
        let slot = offered(TASK);
        assert!(slot.revoke(TASK));
        slot.offer(TASK);
        assert!(slot.start(TASK));
    }

    #[test]
    fn words_tell_tasks_and_states_apart() {
        let states = [State::Offered, State::Started, State::Revoked];
        let tasks = [0, 1, 2, 3, 4, (1 << 62) - 1].map(TaskId);
        let words: Vec<u64> =
            tasks.iter().flat_map(|task| states.map(|state| word(*task, state))).collect();
        let mut distinct = words.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), words.len());
        assert!(!words.contains(&0));
    }

    /// A worker may write anything: every word is some state of some task, or of none.
    #[test]
    fn whatever_is_written_only_the_very_offer_can_be_taken_back() {
        for number in [1, 2, 3, 4, 28, 29, 30, 31, 32, u64::MAX] {
            let slot = Slot(AtomicU64::new(number));
            assert_eq!(slot.revoke(TASK), number == word(TASK, State::Offered));
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
    const NEXT: TaskId = TaskId(8);

    fn slot() -> Arc<Slot> {
        Arc::new(Slot(AtomicU64::new(0)))
    }

    #[test]
    fn of_a_start_and_a_revocation_exactly_one_happens() {
        loom::model(|| {
            let slot = slot();
            slot.offer(TASK);
            let worker = {
                let slot = Arc::clone(&slot);
                thread::spawn(move || slot.start(TASK))
            };
            let revoked = slot.revoke(TASK);
            let started = worker.join().unwrap();
            assert!(revoked != started, "revoked: {revoked}, started: {started}");
        });
    }

    #[test]
    fn of_a_start_and_two_revocations_exactly_one_happens() {
        loom::model(|| {
            let slot = slot();
            slot.offer(TASK);
            let spawn = |act: fn(&Slot) -> bool| {
                let slot = Arc::clone(&slot);
                thread::spawn(move || act(&slot))
            };
            let worker = spawn(|slot| slot.start(TASK));
            let caller = spawn(|slot| slot.revoke(TASK));
            let driver = slot.revoke(TASK);
            let happened = [worker.join().unwrap(), caller.join().unwrap(), driver];
            assert_eq!(happened.iter().filter(|one| **one).count(), 1, "{happened:?}");
        });
    }

    /// The caller of a task that has ended cancels it while the driver offers the next one.
    #[test]
    fn a_late_revocation_never_hits_the_next_offer() {
        loom::model(|| {
            let slot = slot();
            slot.offer(TASK);
            assert!(slot.start(TASK));
            let caller = {
                let slot = Arc::clone(&slot);
                thread::spawn(move || slot.revoke(TASK))
            };
            slot.offer(NEXT);
            let worker = {
                let slot = Arc::clone(&slot);
                thread::spawn(move || slot.start(NEXT))
            };
            assert!(!caller.join().unwrap());
            assert!(worker.join().unwrap());
        });
    }

    /// The whole life of a slot: whoever cancels, and whenever, the tasks that start are those that
    /// were not taken back, and each starts after its own offer.
    #[test]
    fn two_tasks_in_turn_each_start_or_are_revoked() {
        loom::model(|| {
            let slot = slot();
            slot.offer(TASK);
            let caller = {
                let slot = Arc::clone(&slot);
                thread::spawn(move || [slot.revoke(TASK), slot.revoke(NEXT)])
            };
            let started_first = slot.start(TASK);
            slot.offer(NEXT);
            let started_next = slot.start(NEXT);
            let [revoked_first, revoked_next] = caller.join().unwrap();
            assert!(started_first != revoked_first);
            assert!(started_next != revoked_next);
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
                    slot.start(TASK).then(|| input.load(Ordering::Relaxed))
                })
            };
            let (slot, input) = &*shared;
            input.store(42, Ordering::Relaxed);
            slot.offer(TASK);
            assert!(matches!(worker.join().unwrap(), None | Some(42)));
        });
    }
}

//! Calls: what the pool's own thread was rung for while another thread had the driver.
//!
//! Invariant: a worker stands here once, however often it rings; so there are never more of these than
//! workers.

use std::collections::BTreeSet;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use stockade_wire::WorkerId;

/// Workers that are to be heard, and whether a turn is due.
#[derive(Debug, Default)]
pub(super) struct Calls {
    workers: Mutex<BTreeSet<WorkerId>>,
    /// Whether there is anything, so that who looks needs no lock. Written under it.
    any: AtomicBool,
}

impl Calls {
    /// This worker is to be heard.
    pub(super) fn add(&self, worker: WorkerId) {
        let mut workers = self.lock();
        workers.insert(worker);
        self.any.store(true, Ordering::SeqCst);
    }

    /// A turn is due.
    pub(super) fn add_turn(&self) {
        let _workers = self.lock();
        self.any.store(true, Ordering::SeqCst);
    }

    /// Whether no turn is due.
    pub(super) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::SeqCst)
    }

    /// Takes them, for the turn that begins.
    pub(super) fn take(&self) -> BTreeSet<WorkerId> {
        if self.is_empty() {
            return BTreeSet::new();
        }
        let mut workers = self.lock();
        self.any.store(false, Ordering::SeqCst);
        mem::take(&mut workers)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<WorkerId>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_rings_again_and_again_is_called_once() {
        let calls = Calls::default();
        assert!(calls.is_empty());
        for _ in 0..1000 {
            calls.add(WorkerId(2));
            calls.add(WorkerId(1));
        }
        assert!(!calls.is_empty());
        assert_eq!(calls.take().into_iter().collect::<Vec<_>>(), [WorkerId(1), WorkerId(2)]);
        assert!(calls.is_empty() && calls.take().is_empty());
    }

    #[test]
    fn a_turn_may_be_due_for_no_worker() {
        let calls = Calls::default();
        calls.add_turn();
        assert!(!calls.is_empty());
        assert!(calls.take().is_empty());
        assert!(calls.is_empty());
    }
}

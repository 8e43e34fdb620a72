//! Requests for workers, with or without waiting tasks.
//!
//! A request is granted a number at once, as far as the maximum allows, and answered when the last
//! worker of all that were granted has started: until then the restart budget or a snapshot may hold
//! them up. Workers start for requests in the order of these.
//!
//! Invariant: every request is answered once, with what was granted or, where the pool stops before
//! that, with what had started.
//!
//! Deliberately absent: how many may be granted. The dispatcher counts its workers.

use alloc::collections::VecDeque;

use super::RequestId;

/// What was asked for and has not been answered.
#[derive(Debug, Default)]
pub(super) struct Requests {
    unspawned: usize,
    unanswered: VecDeque<(RequestId, usize)>,
}

impl Requests {
    /// Granted workers that are still to start.
    pub(super) fn unspawned(&self) -> usize {
        self.unspawned
    }

    /// Somebody asked, and was granted so many.
    pub(super) fn add(&mut self, request: RequestId, granted: usize) {
        self.unspawned += granted;
        self.unanswered.push_back((request, granted));
    }

    /// A worker has started, for any reason.
    pub(super) fn spawned(&mut self) {
        self.unspawned = self.unspawned.saturating_sub(1);
    }

    /// No worker that was granted will start any more; the latest requests lose theirs.
    pub(super) fn give_up(&mut self) {
        for (_, granted) in self.unanswered.iter_mut().rev() {
            let lost = self.unspawned.min(*granted);
            *granted -= lost;
            self.unspawned -= lost;
        }
    }

    /// The next answer that is due.
    pub(super) fn poll_answer(&mut self) -> Option<(RequestId, usize)> {
        if self.unspawned > 0 { None } else { self.unanswered.pop_front() }
    }
}

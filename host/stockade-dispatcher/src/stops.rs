//! How the whole pool stops, by a shutdown or because it is broken, and how a module does, by its
//! quarantine.
//!
//! All of them cancel what waits in the queue, recall what waits in windows, and let finish what runs; only
//! a kill ends that too.
//!
//! Invariant: what has stopped never starts again, and takes no more tasks.
//!
//! Deliberately absent: the end itself, which is announced when the last worker is gone.

use alloc::vec::Vec;

use stockade_wire::ModuleId;

use super::worker::{Lifecycle, Verdict};
use super::{Action, BrokenCause, CancelReason, Dispatcher, Resolution, ShutdownMode};

impl Dispatcher {
    /// Ends the pool, in this or a harsher way.
    pub(super) fn shut_down(&mut self, mode: ShutdownMode) {
        if self.shutdown >= Some(mode) {
            return;
        }
        self.shutdown = Some(mode);
        self.requests.give_up();
        match mode {
            ShutdownMode::Drain => {}
            ShutdownMode::Cancel => self.cancel_pending(CancelReason::Shutdown, None),
            ShutdownMode::Kill => self.kill_everything(),
        }
    }

    /// Lets the pool start nothing any more.
    pub(super) fn break_pool(&mut self, cause: BrokenCause) {
        if self.broken || self.terminated {
            return;
        }
        self.broken = true;
        self.requests.give_up();
        self.actions.push_back(Action::Broken(cause));
        self.cancel_pending(CancelReason::Broken, None);
    }

    /// Lets no task of a module start any more.
    pub(super) fn quarantine(&mut self, module: ModuleId) {
        self.actions.push_back(Action::Quarantine(module));
        self.cancel_pending(CancelReason::Quarantined, Some(module));
    }

    /// Why a task of this module may not wait for a worker, if so.
    pub(super) fn refusal(&self, module: ModuleId) -> Option<CancelReason> {
        if self.shutdown >= Some(ShutdownMode::Cancel) {
            return Some(CancelReason::Shutdown);
        }
        if self.broken {
            return Some(CancelReason::Broken);
        }
        self.losses.is_quarantined(module).then_some(CancelReason::Quarantined)
    }

    /// Whether the pool may start new workers.
    pub(super) fn is_open(&self) -> bool {
        self.shutdown.is_none() && !self.broken
    }

    /// Cancels what waits in the queue and recalls what waits in windows: everything, or one module's. What
    /// is taken back ends likewise, as nothing may wait for another worker.
    fn cancel_pending(&mut self, reason: CancelReason, only: Option<ModuleId>) {
        let concerns = |module| only.is_none_or(|only| module == only);
        let queued: Vec<_> = self.queue.iter(&self.batches).collect();
        for key in queued {
            if concerns(self.batches[key].module) {
                self.queue.remove(&mut self.batches, key);
                self.resolve(key, Resolution::Cancelled(reason));
            }
        }
        let busy = |state| matches!(state, Lifecycle::Busy(_));
        let holders = self.workers.iter().filter(|(_, worker)| busy(worker.state));
        let holders: Vec<_> = holders.map(|(id, _)| id).collect();
        for id in holders {
            self.recall(id, usize::MAX, concerns);
        }
    }

    /// Kills every worker; what stands behind a window's first task is resolved when it is gone.
    fn kill_everything(&mut self) {
        let running = Resolution::CancelledRunning(CancelReason::Shutdown);
        let alive: Vec<_> = self.workers.iter().map(|(id, worker)| (id, worker.state)).collect();
        for (id, state) in alive {
            match state {
                Lifecycle::Dying { .. } => {}
                Lifecycle::Busy(_) => self.end_running(id, running),
                _ => self.kill(id, Verdict::Excused),
            }
        }
        self.cancel_pending(CancelReason::Shutdown, None);
    }
}

//! Tasks that come back from a window unstarted: for their callers, for the pool, or for another worker.
//!
//! ```text
//! caller revokes ─► Cancel ─────────────────────┐
//! shutdown, break, quarantine ─► Recall ─► TakenBack ─► ghost; the task ends
//! first task slow, or others idle ─► Recall ─► TakenBack ─► ghost; the task is queued again, in front
//! ```
//!
//! Recalls of one window are decided from its end, so that what comes back is queued in its old order
//! and the worker, which comes from the other end, is met as late as possible.
//!
//! Invariant: a task is wanted back once from one window. If that came too late, it has started, and
//! ends as any other.
//!
//! Deliberately absent: pages. Whether a task was taken back is the driver's to find out.

use stockade_wire::{ModuleId, TaskId, WorkerId};

use super::task::Fate;
use super::tasks::Key;
use super::window::SentState;
use super::worker::{Front, State, Worker};
use super::{Action, CancelReason, Dispatcher, Moment, Place, Resolution};

impl Dispatcher {
    /// Ends a task that never starts.
    pub(super) fn cancel(&mut self, now: Moment, task: TaskId) {
        let Some(key) = self.tasks.find(task) else { return };
        match self.tasks[key].place {
            Place::Queued { .. } => self.queue.remove(&mut self.tasks, key),
            Place::Window(id) => {
                self.leave_ghost(now, id, task);
            }
        }
        self.resolve(key, Resolution::Cancelled(CancelReason::Asked));
    }

    /// Ends a task that has started, or, if another one's answer is on its way, after that.
    pub(super) fn cancel_running(&mut self, now: Moment, task: TaskId) {
        let Some(key) = self.tasks.find(task) else { return };
        match self.tasks[key].place {
            Place::Queued { .. } => {
                self.queue.remove(&mut self.tasks, key);
                self.resolve(key, Resolution::Cancelled(CancelReason::Asked));
            }
            Place::Window(id) => {
                // So that it is not tried again if its worker dies first.
                self.tasks[key].is_stopped = true;
                if self.workers.get(id).is_some_and(|worker| worker.runs(task)) {
                    let stopped = Resolution::CancelledRunning(CancelReason::Asked);
                    self.stop_running(now, id, stopped);
                } else {
                    self.workers.change(id, |worker| worker.window.keep(task));
                }
            }
        }
    }

    /// Wants back the last tasks that wait in a window, at most so many, of the modules concerned.
    pub(super) fn recall(
        &mut self,
        id: WorkerId,
        tasks_max: usize,
        concerns: impl Fn(ModuleId) -> bool,
    ) {
        let Self { workers, tasks, actions, .. } = self;
        let wanted = |key: Key| concerns(tasks[key].module);
        workers.change(id, |worker| {
            worker.window.recall(tasks_max, wanted, |task| {
                actions.push_back(Action::Recall(id, task));
            });
        });
    }

    /// A task was revoked on its worker's page. Where its caller was faster, it may have ended.
    pub(super) fn taken_back(&mut self, now: Moment, id: WorkerId, task: TaskId) {
        let Some(key) = self.leave_ghost(now, id, task) else { return };
        let refusal = self.refusal(self.tasks[key].module);
        match self.tasks[key].returned(refusal) {
            Fate::Again => self.queue.push_front(&mut self.tasks, key),
            Fate::Ends(resolution) => self.resolve(key, resolution),
        }
    }

    /// A worker says that it has not run a task; it has to be its turn, and that of a ghost.
    pub(super) fn handed_back(&mut self, now: Moment, id: WorkerId, task: TaskId) {
        let answered = self.workers.change(id, |worker| {
            let front = worker.window.front();
            front.filter(|front| front.task == task && front.state == SentState::Ghost)?;
            worker.window.pop();
            Some(worker.advance(now))
        });
        match answered {
            Some(Some(true)) => self.close(now, id),
            Some(None) => self.misbehaved(id),
            Some(Some(false)) | None => {}
        }
    }

    /// The driver has not sent a task after all.
    pub(super) fn withheld(&mut self, now: Moment, id: WorkerId, task: TaskId) {
        let withdrawn = self.workers.change(id, |worker| {
            // There may be room again.
            worker.is_sated = false;
            worker.window.withdraw(task)
        });
        let Some((state, was_first)) = withdrawn.flatten() else { return };
        if let Some(key) = state.key() {
            self.resolve(key, Resolution::Cancelled(CancelReason::Asked));
        }
        if was_first && self.workers.change(id, |worker| worker.advance(now)) == Some(true) {
            self.close(now, id);
        }
    }

    /// What waits behind a task that takes long goes to others.
    pub(super) fn lose_patience(&mut self, id: WorkerId) {
        self.recall(id, usize::MAX, |_| true);
    }

    /// Whether what stands first in a window has done so for long enough to let nobody wait for it.
    pub(super) fn is_overdue(&self, now: Moment, worker: &Worker) -> bool {
        match worker.state {
            State::Busy(Front::Known { since, .. }) => {
                self.config.workers_max > 1 && now >= since.saturating_add(self.config.patience)
            }
            _ => false,
        }
    }

    /// Notes since when a worker idles while tasks wait in another's window.
    pub(super) fn watch_crowds(&mut self, now: Moment) {
        let census = self.workers.census();
        let is_uneven = census.idle > 0 && census.waiting > 0 && self.queue.is_empty();
        self.uneven_since = is_uneven.then(|| self.uneven_since.unwrap_or(now));
    }

    /// When half of a window goes to those who idle.
    pub(super) fn next_relief(&self) -> Option<Moment> {
        self.uneven_since.map(|since| since.saturating_add(self.config.patience))
    }

    /// Wants back half of what waits in the fullest window, if somebody idles for it. At most once in
    /// the time of patience, so it may look at every worker.
    pub(super) fn relieve(&mut self, now: Moment) {
        if self.next_relief().is_none_or(|due| now < due) {
            return;
        }
        self.uneven_since = None;
        if self.workers.census().idle > 0
            && let Some((id, waiting)) = self.workers.most_crowded()
        {
            self.recall(id, waiting.div_ceil(2), |_| true);
        }
    }

    /// A task that is here becomes a ghost in its window.
    fn leave_ghost(&mut self, now: Moment, id: WorkerId, task: TaskId) -> Option<Key> {
        let recall_timeout = self.config.recall_timeout;
        let (key, _) = self.workers.change(id, |worker| {
            let (key, is_first) = worker.window.revoke(task)?;
            // It does not run, and so has no wall time any more.
            if let State::Busy(Front::Known { deadline, .. }) = &mut worker.state
                && is_first
            {
                *deadline = Some(now.saturating_add(recall_timeout));
            }
            Some((key, is_first))
        })??;
        self.was_not_given(id);
        Some(key)
    }

    /// Whether one more worker could count against the maximum.
    pub(super) fn has_room(&self) -> bool {
        self.workers_active() + self.requests.unspawned() < self.config.workers_max
    }

    /// A task that was given to a worker does not count, unless another has its place by now.
    fn was_not_given(&mut self, id: WorkerId) {
        let has_room = self.has_room();
        self.workers.change(id, |worker| {
            worker.assigned -= 1;
            worker.is_retired &= !has_room;
        });
    }
}

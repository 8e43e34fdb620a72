//! Tasks that come back from a window unstarted: for their callers, for the pool, or for another worker.
//!
//! ```text
//! caller revokes ─► Cancel ─────────────────────┐
//! shutdown, break, quarantine ─► Recall ─► TakenBack ─► revoked; the tasks end
//! first task slow, or others idle ─► Recall ─► TakenBack ─► revoked; the tasks are queued again, in front
//! ```
//!
//! A recall names the first task of the rest of a batch. Recalls of one window are decided from its end, so
//! that what comes back is queued in its old order, and so that the worker, which comes from the other end,
//! is met as late as possible.
//!
//! Invariant: a task is recalled once from one window. If that came too late, it has started, and ends as
//! any other.
//!
//! Deliberately absent: pages. Whether a task was taken back is the driver's to find out.

use alloc::vec::Vec;

use stockade_wire::{ModuleId, TaskId, TaskRange, WorkerId};

use super::batch::{Fate, Place};
use super::batches::Key;
use super::worker::{Front, Lifecycle, Worker};
use super::{Action, CancelReason, Dispatcher, Moment, Resolution, first_of};

/// What is known of tasks that leave a window unfinished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// They never started.
    Unstarted,
    /// The worker died, and may have started them.
    Suspected,
    /// The worker died, and had started them.
    Lost,
}

impl Dispatcher {
    /// Ends tasks that never start, as far as they have not ended. Takes constant time for each batch, and
    /// for each task that has ended.
    pub(super) fn cancel(&mut self, now: Moment, tasks: TaskRange) {
        let mut left = Some(tasks);
        while let Some(tasks) = left
            && !self.batches.is_empty()
        {
            let key = self.batches.find(tasks.first());
            let found = key.and_then(|key| Some((key, self.batches[key].tasks.overlap(tasks)?)));
            if let Some((key, part)) = found {
                self.cancel_part(now, key, part);
            }
            (_, left) = tasks.split_at(found.map_or(1, |(_, part)| part.count()));
        }
    }

    /// Ends these tasks of a batch, which never start.
    fn cancel_part(&mut self, now: Moment, key: Key, part: TaskRange) {
        let cancelled = Resolution::Cancelled(CancelReason::Asked);
        match self.batches[key].place {
            Place::Queued { .. } => {
                let key = self.queue.split(&mut self.batches, key, part.first());
                self.queue.split_behind(&mut self.batches, key, part);
                self.queue.remove(&mut self.batches, key);
                self.resolve(key, cancelled);
            }
            Place::Window(id) => {
                let Some(key) = self.revoke(now, id, part.first()) else { return };
                let behind = self.batches.split_behind(key, part);
                self.resolve(key, cancelled);
                if let Some(behind) = behind {
                    self.requeue(behind);
                }
            }
        }
    }

    /// Ends a task that has started, or, if another one's answer is on its way, after that.
    pub(super) fn cancel_running(&mut self, now: Moment, task: TaskId) {
        let Some(key) = self.batches.find(task) else { return };
        let Place::Window(id) = self.batches[key].place else {
            return self.cancel_part(now, key, task.into());
        };
        // So that it is not tried again if its worker dies first. It may be recalled with those behind it:
        // what has started, the page says then.
        self.stopped.insert(task);
        if self.workers.get(id).and_then(Worker::running) == Some(task) {
            let stopped = Resolution::CancelledRunning(CancelReason::Asked);
            self.stop_running(now, id, stopped);
        }
    }

    /// Recalls the last tasks that wait in a window, at most so many, of the modules concerned.
    pub(super) fn recall(
        &mut self,
        id: WorkerId,
        tasks_max: usize,
        concerns: impl Fn(ModuleId) -> bool,
    ) {
        let Self { workers, batches, actions, .. } = self;
        let wanted = |key: Key| concerns(batches[key].module);
        workers.change(id, |worker| {
            worker.window.recall(tasks_max, wanted, |key, task| {
                actions.push_back(Action::Recall(id, batches[key].entry, task));
            });
        });
    }

    /// The rest of a batch was revoked on its worker's page. Where a caller was faster, it may have ended.
    pub(super) fn taken_back(&mut self, now: Moment, id: WorkerId, task: TaskId) {
        if let Some(key) = self.revoke(now, id, task) {
            self.requeue(key);
        }
    }

    /// A worker says that it has not run the rest of a batch. That has to be its turn, and revoked.
    pub(super) fn handed_back(&mut self, now: Moment, id: WorkerId, task: TaskId) {
        let answered = self.workers.change(id, |worker| {
            let was_due = worker.window.hand_back(task);
            was_due.then(|| worker.advance(now))
        });
        match answered {
            Some(Some(true)) => self.close(now, id),
            Some(None) => self.misbehaved(id),
            Some(Some(false)) | None => {}
        }
    }

    /// The driver has not sent some tasks after all.
    pub(super) fn withheld(&mut self, now: Moment, id: WorkerId, tasks: TaskRange) {
        let Self { workers, batches, .. } = self;
        let withdrawn = workers.change(id, |worker| {
            // There may be room again.
            worker.is_full = false;
            worker.window.withdraw(tasks, |key, task| batches.split(key, task))
        });
        let Some(withdrawn) = withdrawn.flatten() else { return };
        if let Some(key) = withdrawn.live {
            self.resolve(key, Resolution::Cancelled(CancelReason::Asked));
        }
        if withdrawn.was_first
            && self.workers.change(id, |worker| worker.advance(now)) == Some(true)
        {
            self.close(now, id);
        }
    }

    /// Tasks that were taken back end or wait for another worker, before those that were submitted later.
    fn requeue(&mut self, key: Key) {
        let mut again = Vec::new();
        self.leave_window(key, Left::Unstarted, &mut again);
        self.queue_again(again);
    }

    /// Puts batches, which are in their old order, before all others of their priorities.
    pub(super) fn queue_again(&mut self, keys: Vec<Key>) {
        for key in keys.into_iter().rev() {
            self.queue.push_front(&mut self.batches, key);
        }
    }

    /// Decides what becomes of a batch that is in no window any more. Adds what is to be queued again to
    /// `again`, in order.
    pub(super) fn leave_window(&mut self, key: Key, left: Left, again: &mut Vec<Key>) {
        let mut rest = Some(key);
        while let Some(key) = rest.take() {
            let tasks = self.batches[key].tasks;
            let Some(&stopped) = first_of(&self.stopped, tasks) else {
                return self.decide_fate(key, left, again);
            };
            let stopped_key = self.batches.split(key, stopped);
            if stopped_key != key {
                self.decide_fate(key, left, again);
            }
            rest = self.batches.split_behind(stopped_key, stopped.into());
            let resolution = match left {
                Left::Lost => Resolution::CancelledRunning(CancelReason::Asked),
                Left::Suspected | Left::Unstarted => Resolution::Cancelled(CancelReason::Asked),
            };
            self.resolve(stopped_key, resolution);
        }
    }

    /// As [`leave_window`](Self::leave_window), of tasks that nobody wants ended.
    fn decide_fate(&mut self, key: Key, left: Left, again: &mut Vec<Key>) {
        let refusal = self.refusal(self.batches[key].module);
        let batch = &mut self.batches[key];
        let fate = match left {
            Left::Unstarted => batch.returned(refusal),
            Left::Suspected => batch.suspected(refusal),
            Left::Lost => batch.lost(refusal),
        };
        match fate {
            Fate::Again => again.push(key),
            Fate::Ends(resolution) => self.resolve(key, resolution),
        }
    }

    /// Whether what stands first in a window has done so for long enough to let nobody wait for it.
    pub(super) fn is_overdue(&self, now: Moment, worker: &Worker) -> bool {
        match worker.state {
            Lifecycle::Busy(Front::Known { since, .. }) => {
                self.config.workers_max > 1 && now >= since.saturating_add(self.config.patience)
            }
            _ => false,
        }
    }

    /// Notes since when a worker idles while tasks wait in another's window.
    pub(super) fn watch_idle(&mut self, now: Moment) {
        let census = self.workers.census();
        let is_uneven = census.idle > 0 && census.waiting > 0 && self.queue.is_empty();
        self.uneven_since = is_uneven.then(|| self.uneven_since.unwrap_or(now));
    }

    /// When work is stolen for those that idle.
    pub(super) fn next_steal(&self) -> Option<Moment> {
        self.uneven_since.map(|since| since.saturating_add(self.config.patience))
    }

    /// If a worker idles, recalls half of the longest window's unstarted tasks (work stealing). At most once
    /// in the time of patience, so it may look at every worker.
    pub(super) fn steal_work(&mut self, now: Moment) {
        if self.next_steal().is_none_or(|due| now < due) {
            return;
        }
        self.uneven_since = None;
        if self.workers.census().idle > 0
            && let Some((id, waiting)) = self.workers.longest_window()
        {
            self.recall(id, waiting.div_ceil(2), |_| true);
        }
    }

    /// The rest of a batch, from a task on that is live in this window, leaves it and is to be handed back.
    /// Returns those tasks as a batch of their own, whose place is the caller's to decide.
    fn revoke(&mut self, now: Moment, id: WorkerId, task: TaskId) -> Option<Key> {
        let recall_timeout = self.config.recall_timeout;
        let (key, lost) = self.workers.change(id, |worker| {
            let (key, lost, was_first) = worker.window.revoke(task)?;
            // It does not run, and so has no wall time any more.
            if let Lifecycle::Busy(Front::Known { deadline, .. }) = &mut worker.state
                && was_first
            {
                *deadline = Some(now.saturating_add(recall_timeout));
            }
            Some((key, lost))
        })??;
        self.were_not_given(id, lost.count());
        Some(self.batches.split(key, lost.first()))
    }

    /// How many more workers could count against the maximum.
    pub(super) fn workers_missing(&self) -> usize {
        let wanted = self.workers_active() + self.requests.unspawned();
        self.config.workers_max.saturating_sub(wanted)
    }

    /// Tasks that were given to a worker do not count, unless another has its place by now.
    fn were_not_given(&mut self, id: WorkerId, tasks: u32) {
        let is_missed = self.workers_missing() > 0;
        self.workers.change(id, |worker| {
            worker.assigned -= u64::from(tasks);
            worker.is_retired &= !is_missed;
        });
    }
}

//! What must be true of a task that ends as it does.

use stockade_wire::{TaskId, WorkerId};

use super::super::super::{CancelReason, Moment, Resolution, ShutdownMode};
use super::super::coverage::Coverage;
use super::{Oracle, Task, Worker};

impl Oracle {
    /// A task ended.
    pub(super) fn resolve(
        &mut self,
        now: Moment,
        id: TaskId,
        resolution: Resolution,
        coverage: &mut Coverage,
    ) {
        let task = self.tasks.get_mut(&id).expect("a task that was submitted");
        assert_eq!(task.resolution, None, "task {id} ends twice");
        task.resolution = Some(resolution);
        let task = &self.tasks[&id];
        let holder = self.workers.iter().find(|(_, worker)| worker.window.contains(&id));
        let holder = holder.map(|(&id, worker)| (id, worker));
        let is_killed_first =
            holder.is_some_and(|(_, worker)| worker.killed && worker.window.front() == Some(&id));
        let is_lost = self.exit.as_ref().is_some_and(|exit| exit.lost_tasks().contains(&id));
        if task.is_revoked() {
            let cancelled = Resolution::Cancelled(CancelReason::Asked);
            assert_eq!(resolution, cancelled, "a task that was taken back is cancelled");
        }
        match resolution {
            Resolution::Finished => {
                assert!(self.was_answered(id, holder, false), "finished by its worker's word");
                if is_killed_first {
                    coverage.see("situation: a dying worker's last answer counted");
                }
            }
            Resolution::DeadlinePassed => {
                let wall_time = task.submission.wall_time.expect("a deadline");
                let since = holder.map_or(now, |(_, worker)| worker.front_since);
                assert!(is_killed_first && now >= since + wall_time, "late indeed");
            }
            Resolution::WorkerLost => {
                assert!(!(is_lost && task.stop_asked), "ended as was asked");
                self.check_lost(id, task, is_lost, coverage);
            }
            Resolution::Cancelled(reason) => {
                let answered = self.was_answered(id, holder, true);
                if answered && task.is_revoked() {
                    coverage.see("situation: a task was handed back to its caller");
                }
                let ended_early = task.is_revoked() && is_killed_first;
                let waits = holder.is_none();
                assert!(waits || answered || task.withheld || ended_early, "never started");
                let honest = !is_lost || task.is_revoked();
                assert!(honest, "a task that had started is not said never to have");
                self.check_reason(task, reason, holder.is_some() || self.exit.is_some());
            }
            Resolution::CancelledRunning(CancelReason::Asked) => {
                assert!(task.stop_asked && (is_killed_first || is_lost), "ended while it ran");
            }
            Resolution::CancelledRunning(reason) => {
                assert_eq!(reason, CancelReason::Shutdown);
                assert_eq!(self.shutdown, Some(ShutdownMode::Kill));
                assert!(is_killed_first, "ended while it ran");
            }
        }
        self.forget(now, id, resolution, coverage);
    }

    fn was_answered(
        &self,
        id: TaskId,
        holder: Option<(WorkerId, &Worker)>,
        recalled: bool,
    ) -> bool {
        holder.is_some_and(|(holder, _)| self.answer == Some((holder, id, recalled)))
    }

    fn check_lost(&self, id: TaskId, task: &Task, is_lost: bool, coverage: &mut Coverage) {
        let exit = self.exit.as_ref().expect("its worker is gone");
        let stopping = self.shutdown >= Some(ShutdownMode::Cancel) || self.broken;
        let quarantined = self.quarantined.contains(&task.submission.module);
        let refused = stopping || quarantined || task.is_withdrawn();
        let given_up = exit.window.front() == Some(&id) && task.returns > self.config.requeues_max;
        if given_up && !is_lost {
            coverage.see("situation: a task stopped being queued again");
        }
        let spent = task.losses > task.submission.retries;
        assert!(is_lost && (spent || refused) || given_up, "lost for good");
    }

    /// A reason applies; and where the pool alone wanted a task back, it is the first one.
    fn check_reason(&self, task: &Task, reason: CancelReason, was_sent: bool) {
        let module = task.submission.module;
        let asked = task.cancel_asked || task.stop_asked || task.withheld;
        match reason {
            CancelReason::Asked => assert!(asked, "somebody asked"),
            CancelReason::Shutdown => assert!(self.shutdown.is_some(), "the pool shuts down"),
            CancelReason::Broken => assert!(self.broken, "the pool is broken"),
            CancelReason::Quarantined => {
                assert!(self.quarantined.contains(&module), "its module is quarantined");
                assert_ne!(self.must_quarantine, Some(module), "and everybody knows");
            }
        }
        if let Some(first) = task.recalled.filter(|_| was_sent && !asked) {
            assert_eq!(reason, first, "the first reason counts");
        }
    }

    /// Takes a task that has ended out of the queue or its window.
    fn forget(&mut self, now: Moment, id: TaskId, resolution: Resolution, coverage: &mut Coverage) {
        self.unresolved -= 1;
        self.queue.retain(|waiting| *waiting != id);
        let module = self.tasks[&id].submission.module;
        if resolution == Resolution::Finished {
            if self.record.iter().rfind(|(other, _)| *other == module) == Some(&(module, false)) {
                coverage.see("situation: a module was forgiven");
            }
            if self.quarantined.contains(&module) {
                coverage.see("situation: a quarantined module finished what it ran");
            }
            self.record.push((module, true));
        }
        if let Some(worker) = self.workers.values_mut().find(|worker| worker.window.contains(&id)) {
            if worker.window.front() == Some(&id) {
                worker.window.pop_front();
                worker.begin(now);
            } else {
                assert!(self.tasks[&id].withheld, "windows empty in order");
                worker.window.retain(|sent| *sent != id);
            }
            if resolution == Resolution::Finished {
                worker.finished += 1;
                (self.paused_until, self.pauses) = (Moment::ZERO, 0);
            }
        }
    }
}

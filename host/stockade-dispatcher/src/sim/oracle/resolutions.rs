//! What must be true of a task that ends as it does.

use stockade_wire::{TaskId, TaskRange};

use super::super::super::{CancelReason, EntryKey, Moment, Resolution, ShutdownMode};
use super::super::coverage::Coverage;
use super::{Oracle, Task, Worker};

impl Oracle {
    /// Tasks ended alike.
    pub(super) fn resolve_all(
        &mut self,
        now: Moment,
        entry: EntryKey,
        tasks: TaskRange,
        resolution: Resolution,
        coverage: &mut Coverage,
    ) {
        self.check_entry(entry, tasks);
        let alone =
            matches!(resolution, Resolution::DeadlinePassed | Resolution::CancelledRunning(_));
        assert!(!alone || tasks.count() == 1, "one task runs at a time");
        if resolution == Resolution::Finished {
            self.see_how_a_batch_ends(tasks, coverage);
        } else if resolution == Resolution::WorkerLost && tasks.count() > 1 {
            coverage.see("situation: several tasks were lost for good together");
        }
        for task in tasks.iter() {
            self.resolve(now, task, resolution, coverage);
        }
    }

    fn see_how_a_batch_ends(&self, tasks: TaskRange, coverage: &mut Coverage) {
        let holds = |worker: &&Worker| worker.holds(tasks.first());
        let Some(worker) = self.workers.values().find(holds) else { return };
        let sending = worker.window[0].sending;
        let of_it = worker.window.iter().filter(|sent| sent.sending == sending).count();
        if tasks.count() > 1 {
            coverage.see("situation: several tasks were answered together");
        }
        if of_it > tasks.count() as usize {
            coverage.see("situation: a batch was answered in part");
        }
    }

    /// A task ended.
    fn resolve(
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
        let holder = self.workers.iter().find(|(_, worker)| worker.holds(id));
        let holder = holder.map(|(&id, worker)| (id, worker));
        let is_killed_first =
            holder.is_some_and(|(_, worker)| worker.killed && worker.front() == Some(id));
        let is_lost = self.exit.as_ref().is_some_and(|exit| exit.lost_tasks().contains(&id));
        if task.cancel_asked {
            let cancelled = Resolution::Cancelled(CancelReason::Asked);
            assert_eq!(resolution, cancelled, "a task that was taken back is cancelled");
        }
        match resolution {
            Resolution::Finished => {
                let answered =
                    holder.is_some_and(|(holder, _)| self.answers.contains(&(holder, id)));
                assert!(answered, "finished by its worker's word");
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
                assert!(holder.is_none() || task.withheld, "never started");
                assert!(!is_lost, "a task that had started is not said never to have");
                self.check_reason(task, reason);
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

    fn check_lost(&self, id: TaskId, task: &Task, is_lost: bool, coverage: &mut Coverage) {
        let exit = self.exit.as_ref().expect("its worker is gone");
        let stopping = self.shutdown >= Some(ShutdownMode::Cancel) || self.broken;
        let quarantined = self.quarantined.contains(&task.submission.module);
        let refused = stopping || quarantined;
        let given_up = exit.window.front() == Some(&id) && task.returns > self.config.requeues_max;
        if given_up && !is_lost {
            coverage.see("situation: a task stopped being queued again");
        }
        let spent = task.losses > task.submission.retries;
        assert!(is_lost && (spent || refused) || given_up, "lost for good");
    }

    /// The reason applies.
    fn check_reason(&self, task: &Task, reason: CancelReason) {
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
    }

    /// Takes a task that has ended out of the queue or its window.
    fn forget(&mut self, now: Moment, id: TaskId, resolution: Resolution, coverage: &mut Coverage) {
        self.unresolved -= 1;
        self.queue.retain(|waiting| waiting.task != id);
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
        if let Some(worker) = self.workers.values_mut().find(|worker| worker.holds(id)) {
            let index = worker.window.iter().rposition(|sent| sent.task == id).unwrap();
            assert!(index == 0 || self.tasks[&id].withheld, "windows empty in order");
            worker.window.remove(index);
            if index == 0 {
                worker.begin(now);
            }
            if resolution == Resolution::Finished {
                worker.finished += 1;
                (self.paused_until, self.pauses) = (Moment::ZERO, 0);
            }
        }
    }
}

//! What every action must satisfy, given everything before it.

use stockade_wire::{TaskId, WorkerId};

use super::super::super::{
    Action, BrokenCause, CancelReason, Hook, Moment, Resolution, ShutdownMode,
};
use super::super::coverage::Coverage;
use super::{Oracle, Worker};

impl Oracle {
    /// An action was decided.
    pub(in super::super) fn action(
        &mut self,
        now: Moment,
        action: &Action,
        coverage: &mut Coverage,
    ) {
        match *action {
            Action::Prepare => {
                assert!(!self.preparing && !self.prepared, "prepared once");
                assert!(self.requested > 0 || !self.queue.is_empty(), "prepared for somebody");
                self.preparing = true;
            }
            Action::Spawn(id) => self.spawn(now, id),
            Action::Run(id, ref batch) => self.run(now, id, batch, coverage),
            Action::Start(id) => {
                assert!(!self.tasks[&id].withdrawn, "a withdrawn task is not said to run");
                let holds = |worker: &&mut Worker| worker.window.front() == Some(&id);
                let worker = self.workers.values_mut().find(holds).expect("a front starts");
                assert!(!worker.killed && !worker.announced, "a front starts once");
                worker.announced = true;
            }
            Action::Recall(id, task) => self.recall(id, task),
            Action::Close(id) => self.close(now, id, coverage),
            Action::Kill(id) => self.kill(now, id, coverage),
            Action::Resolve(id, resolution) => self.resolve(now, id, resolution, coverage),
            Action::Broken(cause) => self.break_pool(cause),
            Action::Joined => {
                assert!(self.joining && self.is_empty(), "joined when empty");
                assert!(!self.awaits_snapshot(), "joined when nothing is under way");
                self.joining = false;
            }
            Action::Terminated => {
                assert!(self.shutdown.is_some() && self.is_empty(), "terminated when empty");
                assert!(!self.terminated, "terminated once");
                self.terminated = true;
            }
        }
    }

    fn spawn(&mut self, now: Moment, id: WorkerId) {
        self.workers_spawned += 1;
        assert_eq!(id, WorkerId(self.workers_spawned), "worker ids are never reused");
        assert!(self.prepared, "no worker before the snapshot");
        assert!(!self.broken && self.shutdown < Some(ShutdownMode::Cancel), "no worker to no end");
        assert!(now >= self.paused_until, "a pause follows a failure");
        assert!(self.requested > 0 || self.misses_worker(), "no worker without work");
        self.requested = self.requested.saturating_sub(1);
        self.workers.insert(id, Worker::new(now));
        assert!(self.active() <= self.config.workers_max, "too many workers");
        assert!(self.workers.len() <= 2 * self.config.workers_max, "too many processes");
    }

    fn run(&mut self, now: Moment, id: WorkerId, batch: &[TaskId], coverage: &mut Coverage) {
        let worker = self.workers.get_mut(&id).expect("work goes to the living");
        assert!(worker.is_idle(), "work goes to idle workers");
        assert!(!batch.is_empty() && batch.len() <= self.config.window_tasks_max);
        worker.assigned += batch.len() as u64;
        let tasks_max = self.config.tasks_per_worker_max;
        assert!(tasks_max.is_none_or(|max| worker.assigned <= max), "a worker is used up");
        if tasks_max == Some(worker.assigned) {
            coverage.see("situation: a worker retired");
        }
        worker.begin(now);
        worker.window.extend(batch);
        let chunk = self.tasks[&batch[0]].submission.chunk;
        let mut bytes = 0;
        for id in batch {
            assert_eq!(self.queue.pop_front(), Some(*id), "work goes out in order");
            let task = &self.tasks[id];
            assert_eq!(task.resolution, None, "an ended task does not run");
            assert!(!task.withdrawn, "a cancelled task does not run");
            assert!(batch.len() == 1 || chunk.is_some() && task.submission.chunk == chunk);
            bytes += task.submission.inline_bytes;
            if task.losses > 0 {
                coverage.see("situation: a task was retried");
            } else if task.returns > 0 {
                coverage.see("situation: a task was queued again untouched");
            }
        }
        assert!(batch.len() == 1 || bytes <= self.config.window_bytes_max, "a window is too full");
    }

    fn recall(&mut self, id: WorkerId, task: TaskId) {
        let worker = self.workers.get_mut(&id).expect("recalls go to the living");
        assert!(!worker.killed && worker.window.iter().skip(1).any(|waiting| *waiting == task));
        assert!(worker.recalled.insert(task), "recalled once");
        assert!(self.tasks[&task].withdrawn, "recalled for a reason");
    }

    fn close(&mut self, now: Moment, id: WorkerId, coverage: &mut Coverage) {
        let worker = self.workers.get_mut(&id).expect("the living close");
        assert!(worker.is_idle(), "an idle worker closes");
        let timeout = self.config.idle_timeout;
        let idled_out = timeout.is_some_and(|timeout| now >= worker.idle_since + timeout);
        let stops = self.shutdown.is_some() || self.broken || self.joining;
        if idled_out && !stops {
            coverage.see("situation: a worker idled out");
        }
        let retired = self.config.tasks_per_worker_max == Some(worker.assigned);
        assert!(stops || retired || idled_out, "a worker closes for a reason");
        worker.close_at = Some(now);
    }

    fn kill(&mut self, now: Moment, id: WorkerId, coverage: &mut Coverage) {
        let worker = self.workers.get_mut(&id).expect("the living are killed");
        assert!(!worker.killed, "killed once");
        let start_late =
            worker.is_starting() && now >= worker.spawned_at + self.config.start_timeout;
        let close_late = worker.close_at.is_some_and(|at| now >= at + self.config.close_timeout);
        if start_late {
            coverage.see("situation: a start timed out");
        } else if close_late {
            coverage.see("situation: a close timed out");
        }
        let front = worker.window.front().map(|front| &self.tasks[front]);
        let front_late = front.is_some_and(|task| {
            let wall_time = task.submission.wall_time;
            wall_time.is_some_and(|wall_time| now >= worker.front_since + wall_time)
        });
        let stopped = front.is_some_and(|task| task.stop_asked);
        let ends = self.shutdown == Some(ShutdownMode::Kill);
        let ours = front_late || stopped || ends || worker.excused || worker.close_at.is_some();
        let reason = start_late || close_late || worker.distrusted || worker.excused;
        assert!(reason || front_late || stopped || ends, "a worker is killed for a reason");
        worker.excused |= ours && !worker.distrusted;
        worker.killed = true;
    }

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
        let holder = self.workers.iter().find(|(_, worker)| worker.window.contains(&id));
        let killed_first =
            holder.is_some_and(|(_, worker)| worker.killed && worker.window.front() == Some(&id));
        let waits = holder.is_none();
        let answered = |recalled| {
            holder.is_some_and(|(&holder, _)| self.answer == Some((holder, id, recalled)))
        };
        let holder_since = holder.map_or(now, |(_, worker)| worker.front_since);
        let stopping = self.shutdown >= Some(ShutdownMode::Cancel);
        let exit = self.exit.as_ref();
        match resolution {
            Resolution::Finished => {
                assert!(answered(false), "finished by its worker's word");
                if killed_first {
                    coverage.see("situation: a dying worker's last answer counted");
                }
            }
            Resolution::DeadlinePassed => {
                let wall_time = task.submission.wall_time.expect("a deadline");
                assert!(killed_first && now >= holder_since + wall_time, "late indeed");
            }
            Resolution::WorkerLost => {
                let exit = exit.expect("its worker is gone");
                let lost = exit.lost_tasks().contains(&id);
                let refused = stopping || self.broken || task.withdrawn;
                let given_up =
                    exit.window.front() == Some(&id) && task.returns > self.config.requeues_max;
                if given_up && !lost {
                    coverage.see("situation: a task stopped being queued again");
                }
                let spent = task.losses > task.submission.retries;
                assert!(lost && (spent || refused) || given_up, "lost for good");
            }
            Resolution::Cancelled(reason) => {
                assert!(waits || answered(true) || task.withheld, "never started");
                let lost = exit.is_some_and(|exit| exit.lost_tasks().contains(&id));
                assert!(!lost, "a task that had started is not said never to have");
                match reason {
                    CancelReason::Asked => assert!(task.cancel_asked || task.withheld),
                    CancelReason::Shutdown => assert!(self.shutdown.is_some()),
                    CancelReason::Broken => assert!(self.broken),
                }
            }
            Resolution::CancelledRunning(CancelReason::Asked) => {
                let lost = exit.is_some_and(|exit| exit.lost_tasks().contains(&id));
                assert!(task.stop_asked && (killed_first || lost), "ended while it ran");
                if killed_first && task.withdrawn {
                    coverage.see("situation: a recalled task was stopped after its grace");
                }
            }
            Resolution::CancelledRunning(_) => {
                assert_eq!(self.shutdown, Some(ShutdownMode::Kill));
                assert!(killed_first, "ended while it ran");
            }
        }
        self.forget(now, id, resolution);
    }

    /// Takes a task that has ended out of the queue or its window.
    fn forget(&mut self, now: Moment, id: TaskId, resolution: Resolution) {
        self.unresolved -= 1;
        self.queue.retain(|waiting| *waiting != id);
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

    fn break_pool(&mut self, cause: BrokenCause) {
        assert!(!self.broken, "broken once");
        match cause {
            BrokenCause::Initializer => assert_eq!(self.hook_failed, Some(Hook::Initializer)),
            BrokenCause::Finalizer => assert_eq!(self.hook_failed, Some(Hook::Finalizer)),
            BrokenCause::Preparation => assert!(self.preparation_failed),
            BrokenCause::WorkersCannotStart => {
                assert!(self.starts_failed >= self.config.start_failures_max);
                assert!(!self.workers.values().any(Worker::is_serving));
            }
        }
        self.broken = true;
        self.requested = 0;
        self.withdraw_all();
    }
}

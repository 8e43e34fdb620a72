//! What every action must satisfy, given everything before it.

use stockade_wire::{TaskId, WorkerId};

use super::super::super::{
    Action, BrokenCause, CancelReason, Hook, Moment, RequestId, ShutdownMode,
};
use super::super::coverage::Coverage;
use super::{Oracle, Request, Worker};

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
            Action::Start(id) => self.start(id),
            Action::Recall(id, task) => {
                assert!(self.must_recall.remove(&(id, task)), "recalled once, and for a reason");
            }
            Action::Close(id) => self.close(now, id, coverage),
            Action::Kill(id) => self.kill(now, id, coverage),
            Action::Resolve(id, resolution) => self.resolve(now, id, resolution, coverage),
            Action::Broken(cause) => self.break_pool(cause),
            Action::Quarantine(module) => {
                let due = self.must_quarantine.take();
                assert_eq!(due, Some(module), "quarantined once, and for a reason");
            }
            Action::Spawned(request, workers) => self.answer(request, workers, coverage),
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
        if self.requested > 0 {
            self.requested -= 1;
            let unserved = |request: &&mut Request| request.started < request.granted;
            self.requests.iter_mut().find(unserved).expect("somebody asked").started += 1;
        }
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
            assert!(!self.queue.is_empty(), "work that waits goes out");
            assert_eq!(self.queue.remove(0), *id, "work goes out in order");
            let task = &self.tasks[id];
            assert_eq!(task.resolution, None, "an ended task does not run");
            assert!(!task.is_withdrawn(), "a cancelled task does not run");
            let module = task.submission.module;
            assert!(!self.quarantined.contains(&module), "a quarantined module does not run");
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

    fn start(&mut self, id: TaskId) {
        let task = self.tasks.get_mut(&id).expect("a task that was submitted");
        assert!(!task.is_revoked() && !task.stop_asked, "a cancelled task is not said to run");
        task.started = true;
        let holds = |worker: &&mut Worker| worker.window.front() == Some(&id);
        let worker = self.workers.values_mut().find(holds).expect("a front starts");
        assert!(!worker.killed && !worker.announced, "a front starts once");
        worker.announced = true;
    }

    fn answer(&mut self, request: RequestId, workers: usize, coverage: &mut Coverage) {
        assert_eq!(self.requested, 0, "answered when everything that was granted has started");
        let index = self.requests.iter().position(|asked| asked.id == request);
        let Request { granted, started, .. } = self.requests.remove(index.expect("answered once"));
        assert_eq!(workers, started, "answered with what started for it");
        if workers < granted {
            coverage.see("situation: a request was cut short");
        }
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
        let hand_back_late = front
            .and_then(|task| task.revoked_since)
            .is_some_and(|since| now >= since.max(worker.front_since) + self.config.recall_timeout);
        if hand_back_late {
            coverage.see("situation: a task was not handed back in time");
        }
        let stopped = front.is_some_and(|task| task.stop_asked && !task.is_revoked());
        if stopped && now == worker.front_since && !worker.announced {
            coverage.see("situation: a task was stopped as its turn came");
        }
        let ends = self.shutdown == Some(ShutdownMode::Kill);
        let front_ends = front_late || hand_back_late || stopped;
        let ours = front_ends || ends || worker.excused || worker.close_at.is_some();
        let reason = start_late || close_late || worker.distrusted || worker.excused;
        assert!(reason || front_ends || ends, "a worker is killed for a reason");
        worker.excused |= ours && !worker.distrusted;
        worker.killed = true;
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
        self.drop_requests();
        self.withdraw_all(CancelReason::Broken, None);
    }
}

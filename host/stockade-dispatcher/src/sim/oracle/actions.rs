//! What every action must satisfy, given everything before it.

use stockade_wire::{TaskId, WorkerId};

use super::super::super::{Action, BrokenCause, Hook, Moment, RequestId, ShutdownMode};
use super::super::coverage::Coverage;
use super::{Oracle, Request, Sent, Worker};

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
            Action::Recall(id, task) => self.recall(now, id, task),
            Action::Stop(id, task) => self.stop(now, id, task),
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
        let worker = &self.workers[&id];
        assert!(
            worker.ready && worker.is_serving() && !worker.retired,
            "work goes to who may work"
        );
        assert!(!batch.is_empty(), "work goes out");
        let room = self.config.window_tasks_max - worker.window.len();
        let depth = worker.depth(self.config.window_time);
        let bytes: usize = batch.iter().map(|id| self.tasks[id].submission.inline_bytes).sum();
        let bytes_fit = worker.bytes() + bytes <= self.config.window_bytes_max;
        if worker.is_idle() {
            let chunk = self.tasks[&batch[0]].submission.chunk;
            let same = |id| chunk.is_some() && self.tasks[id].submission.chunk == chunk;
            assert!(batch.len() == 1 || batch.iter().all(same), "a batch is of one chunk");
            assert!(batch.len() == 1 || bytes_fit, "a window is too full");
            assert!(batch.len() <= depth.unwrap_or(room).min(room), "a window is too deep");
        } else {
            self.check_deepening(now, worker, batch.len(), coverage);
            assert!(bytes_fit && batch.len() <= room, "a window is too full");
        }
        for id in batch {
            assert!(!self.queue.is_empty(), "work that waits goes out");
            assert_eq!(self.queue.remove(0), *id, "work goes out in order");
            let task = &self.tasks[id];
            assert_eq!(task.resolution, None, "an ended task does not run");
            assert!(!task.cancel_asked && !task.stop_asked, "a cancelled task does not run");
            let module = task.submission.module;
            assert!(!self.quarantined.contains(&module), "a quarantined module does not run");
            if task.losses > 0 {
                coverage.see("situation: a task was retried");
            } else if task.returns > 0 {
                coverage.see("situation: a task was queued again untouched");
            }
        }
        self.send(now, id, batch, coverage);
        if self.idle() == 0 {
            // Also where the driver then keeps back what would have kept the last one busy.
            self.uneven_since = None;
        }
    }

    /// What has to be so where a worker is given more than it has.
    fn check_deepening(&self, now: Moment, worker: &Worker, given: usize, coverage: &mut Coverage) {
        let held = worker.tasks().count();
        let depth = worker.depth(self.config.window_time).expect("a worker whose pace is known");
        assert!(held * 2 <= depth, "a window is filled when it has run low");
        assert!(held + given <= depth, "a window is too deep");
        assert!(!self.is_overdue(now, worker), "nobody goes behind a slow task");
        let starting = self.workers.values().filter(|worker| worker.is_starting()).count();
        assert_eq!(self.idle() + starting, 0, "depth comes after parallelism");
        let may_start = self.prepared && now >= self.paused_until && self.has_room();
        assert!(!may_start || !self.misses_worker(), "depth comes after another worker");
        let share = self.queue.len().div_ceil(self.active());
        assert!(given <= share, "everybody gets a share");
        let most = (depth - held).min(self.config.window_tasks_max - worker.window.len());
        coverage.see(if given == share && given < most {
            "situation: what was left was shared out"
        } else {
            "situation: a busy worker was given more"
        });
        if worker.front_since == now && held > 0 && !worker.announced {
            coverage.see("situation: a worker ran dry and was given more than a batch");
        }
    }

    fn send(&mut self, now: Moment, id: WorkerId, batch: &[TaskId], coverage: &mut Coverage) {
        let Self { workers, tasks, config, .. } = self;
        let worker = workers.get_mut(&id).unwrap();
        if worker.window.is_empty() {
            worker.begin(now);
        }
        for task in batch {
            if worker.window.iter().any(|sent| sent.task == *task) {
                coverage.see("situation: a task went back to the worker that had its ghost");
            }
            let bytes = tasks[task].submission.inline_bytes;
            let sent = Sent { task: *task, ghost_since: None, is_recalled: false, bytes };
            worker.window.push_back(sent);
        }
        worker.assigned += batch.len() as u64;
        if let Some(max) = config.tasks_per_worker_max {
            assert!(worker.assigned <= max, "a worker is used up");
            if worker.was_retired {
                coverage.see("situation: a retired worker was given more after all");
            }
            if worker.assigned == max {
                worker.retired = true;
                worker.was_retired = true;
                coverage.see("situation: a worker retired");
            }
        }
    }

    /// A task is wanted back because it may not run, because it waits behind a slow one or one that is
    /// ended with its worker, or because somebody idles; and the last of a window first.
    fn recall(&mut self, now: Moment, id: WorkerId, task: TaskId) {
        let must = self.must_recall.remove(&(id, task));
        let is_slow = self.is_overdue(now, &self.workers[&id]);
        let relieves = self.relief.is_some() && self.idle() > 0;
        let ends = self.front_ends(now, &self.workers[&id]);
        assert!(must || is_slow || relieves || ends, "wanted back for a reason");
        if ends && !must && !is_slow {
            self.must_die.push(id);
        }
        let worker = self.workers.get_mut(&id).unwrap();
        assert!(!worker.killed, "what a dying worker has is waited for");
        let index = worker.window.iter().rposition(|sent| sent.task == task).unwrap();
        assert!(index > 0, "what is first has started");
        let is_passed = |sent: &Sent| must || sent.is_ghost() || sent.is_recalled;
        assert!(worker.window.iter().skip(index + 1).all(is_passed), "the last comes back first");
        let sent = &mut worker.window[index];
        assert!(!sent.is_ghost() && !sent.is_recalled, "wanted back once");
        sent.is_recalled = true;
    }

    fn stop(&mut self, now: Moment, id: WorkerId, task: TaskId) {
        let worker = &self.workers[&id];
        assert!(!worker.killed && worker.stopping_since.is_none(), "stopped once");
        let is_first = worker.window.front().is_some_and(|sent| sent.task == task);
        assert!(is_first && self.front_ends(now, worker), "stopped for a reason");
        let is_passed = |sent: &Sent| sent.is_ghost() || sent.is_recalled;
        assert!(worker.window.iter().skip(1).all(is_passed), "what waits behind it comes back");
        self.must_die.push(id);
    }

    fn start(&mut self, id: TaskId) {
        let task = self.tasks.get_mut(&id).expect("a task that was submitted");
        assert!(!task.cancel_asked && !task.stop_asked, "a cancelled task is not said to run");
        task.started = true;
        let holds = |worker: &&mut Worker| worker.front() == Some(id);
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
        assert!(stops || worker.retired || idled_out, "a worker closes for a reason");
        worker.close_at = Some(now);
    }

    /// Whether what is first in a window ends now, and with it its worker.
    fn front_ends(&self, now: Moment, worker: &Worker) -> bool {
        let front = worker.front().map(|front| &self.tasks[&front]);
        let is_late = front.is_some_and(|task| {
            let wall_time = task.submission.wall_time;
            wall_time.is_some_and(|wall_time| now >= worker.front_since + wall_time)
        });
        let is_stopped = front.is_some_and(|task| task.stop_asked);
        let ends = self.shutdown == Some(ShutdownMode::Kill);
        let is_over = self.stop_is_over(now, worker) || self.hand_back_is_late(now, worker);
        is_late || is_stopped || ends || is_over
    }

    /// Whether what is first was to be stopped, and has had the time to be answered instead.
    fn stop_is_over(&self, now: Moment, worker: &Worker) -> bool {
        worker.stopping_since.is_some_and(|since| now >= since + self.config.recall_timeout)
    }

    fn hand_back_is_late(&self, now: Moment, worker: &Worker) -> bool {
        worker
            .window
            .front()
            .and_then(|sent| sent.ghost_since)
            .is_some_and(|since| now >= since.max(worker.front_since) + self.config.recall_timeout)
    }

    fn kill(&mut self, now: Moment, id: WorkerId, coverage: &mut Coverage) {
        let front_ends = self.front_ends(now, &self.workers[&id]);
        let hand_back_late = self.hand_back_is_late(now, &self.workers[&id]);
        let stop_over = self.stop_is_over(now, &self.workers[&id]);
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
        let front = worker.front().map(|front| &self.tasks[&front]);
        if stop_over {
            coverage.see("situation: a stop was not answered in time");
        }
        worker.was_alone = self.stoppable.contains(&id);
        if hand_back_late {
            coverage.see("situation: a task was not handed back in time");
        }
        let stopped = front.is_some_and(|task| task.stop_asked);
        if stopped && now == worker.front_since && !worker.announced {
            coverage.see("situation: a task was stopped as its turn came");
        }
        let ends = self.shutdown == Some(ShutdownMode::Kill);
        let ours = front_ends || worker.excused || worker.close_at.is_some();
        let reason = start_late || close_late || worker.distrusted || worker.excused;
        assert!(reason || front_ends, "a worker is killed for a reason");
        let is_known = reason || stop_over || ends || worker.was_alone;
        assert!(is_known, "nobody asked what a kill would cost");
        worker.excused |= ours && !worker.distrusted;
        worker.killed = true;
        // The ghost that it was ended for is waited for no longer; a task's end follows.
        let is_over = hand_back_late || stop_over || ends;
        if is_over && !worker.distrusted && worker.front().is_none() {
            worker.window.pop_front();
        }
    }

    fn break_pool(&mut self, cause: BrokenCause) {
        assert!(!self.broken, "broken once");
        match cause {
            BrokenCause::Initializer => assert_eq!(self.hook_failed, Some(Hook::Initializer)),
            BrokenCause::Finalizer => assert_eq!(self.hook_failed, Some(Hook::Finalizer)),
            BrokenCause::Preparation => assert!(self.preparation_failed),
            BrokenCause::WorkersCannotStart => {
                assert!(self.may_break, "broken in time");
                assert!(!self.workers.values().any(Worker::is_serving));
            }
        }
        self.broken = true;
        self.drop_requests();
        self.withdraw_all(None);
    }
}

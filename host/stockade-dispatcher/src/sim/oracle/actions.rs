//! What every action must satisfy, given everything before it.

use stockade_wire::{TaskId, TaskRange, WorkerId};

use super::super::super::{Action, BrokenCause, EntryKey, Hook, Moment, RequestId, ShutdownMode};
use super::super::coverage::Coverage;
use super::{Giving, Oracle, Request, SentTask, Steal, Waiting, Worker};

impl Oracle {
    /// An action was decided.
    pub(in super::super) fn action(
        &mut self,
        now: Moment,
        action: &Action,
        coverage: &mut Coverage,
    ) {
        self.note_full_windows();
        if !matches!(action, Action::Run(..)) {
            self.giving = None;
        }
        match *action {
            Action::Prepare => {
                assert!(!self.preparing && !self.prepared, "prepared once");
                assert!(self.requested > 0 || !self.queue.is_empty(), "prepared for somebody");
                self.preparing = true;
            }
            Action::Spawn(id) => self.spawn(now, id),
            Action::Run(id, entry, tasks) => self.run(now, id, entry, tasks, coverage),
            Action::Start(entry, id) => self.start(entry, id),
            Action::Recall(id, entry, task) => self.recall(now, id, entry, task, coverage),
            Action::Stop(id, task) => self.stop(now, id, task),
            Action::Close(id) => self.close(now, id, coverage),
            Action::Kill(id) => self.kill(now, id, coverage),
            Action::Resolve(entry, tasks, resolution) => {
                self.resolve_all(now, entry, tasks, resolution, coverage);
            }
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
        self.workers.insert(id, Worker::new(now, &self.config));
        assert!(self.active() <= self.config.workers_max, "too many workers");
        assert!(self.workers.len() <= 2 * self.config.workers_max, "too many processes");
    }

    fn run(
        &mut self,
        now: Moment,
        id: WorkerId,
        entry: EntryKey,
        tasks: TaskRange,
        coverage: &mut Coverage,
    ) {
        self.check_entry(entry, tasks);
        let is_late = |waiting: &Waiting| waiting.is_late && waiting.task == tasks.first();
        let late = if self.queue.iter().any(is_late) { Vec::new() } else { self.take_late() };
        let worker = &self.workers[&id];
        assert!(
            worker.ready && worker.is_serving() && !worker.retired,
            "work goes to who may work"
        );
        let batch = *self.waiting_batches().first().expect("work that waits goes out");
        assert_eq!(batch.first(), tasks.first(), "work goes out in order");
        let (count, given) = (batch.count() as usize, tasks.count() as usize);
        let task_bytes = self.tasks[&tasks.first()].submission.task_bytes;
        // What was withheld meanwhile was not known when this was decided.
        let room = self.room(worker, worker.batches() - worker.split, task_bytes);
        let expected = if worker.is_idle() {
            if count > room {
                coverage.see("situation: a batch was cut at a window");
            }
            count.min(room.max(1))
        } else {
            let wanted = self.check_deepening(now, id, given, coverage);
            let is_cut = count > room && self.is_oversized(count, task_bytes);
            if is_cut {
                coverage.see("situation: a batch was cut for a busy worker");
            }
            assert!(given <= room, "a window is too full");
            if is_cut { wanted.min(room) } else { count }
        };
        let is_exact = given == expected || self.decided_before_cancel;
        assert!(is_exact, "a batch is cut where it has to be, and nowhere else");
        for id in tasks.iter() {
            assert_eq!(self.queue.remove(0).task, id, "work goes out in order");
            let task = &self.tasks[&id];
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
        self.put_back_late(late);
        self.send(now, id, tasks, coverage);
        if self.idle() == 0 {
            // Also where the driver then keeps back what would have kept the last one busy.
            self.uneven_since = None;
        }
    }

    /// What has to be so where a worker is given more than it has. Returns how many tasks it may be given
    /// unless they are a whole batch.
    fn check_deepening(
        &mut self,
        now: Moment,
        id: WorkerId,
        given: usize,
        coverage: &mut Coverage,
    ) -> usize {
        let worker = &self.workers[&id];
        if let Some(giving) = &mut self.giving
            && giving.worker == id
            && giving.given < giving.wanted
        {
            let wanted = giving.wanted - giving.given;
            if given <= wanted {
                giving.given += given;
                return wanted;
            }
        }
        let held = worker.tasks().count();
        let depth = worker.pace.depth().expect("a worker whose pace is known");
        assert!(held * 2 <= depth, "a window is filled when it has run low");
        assert!(!self.is_overdue(now, worker), "nobody goes behind a slow task");
        let starting = self.workers.values().filter(|worker| worker.is_starting()).count();
        assert_eq!(self.idle() + starting, 0, "depth comes after parallelism");
        let may_start = self.prepared && now >= self.paused_until && self.has_room();
        assert!(!may_start || !self.misses_worker(), "depth comes after another worker");
        let share = self.queue.len().div_ceil(self.active());
        let room = self.config.window_tasks_max - worker.window.len();
        let most = (depth - held).min(room);
        let wanted = most.min(share);
        assert!(wanted > 0, "nothing is wanted");
        if share < most {
            coverage.see("situation: what was left was shared out");
        } else {
            coverage.see("situation: a busy worker was given more");
        }
        if given > wanted {
            coverage.see("situation: a batch went whole beyond what was wanted");
        }
        if worker.front_since == now && held > 0 && !worker.announced {
            coverage.see("situation: a worker ran dry and was given more than a batch");
        }
        self.giving = Some(Giving { worker: id, wanted, given });
        wanted
    }

    fn send(&mut self, now: Moment, id: WorkerId, tasks: TaskRange, coverage: &mut Coverage) {
        let sending = self.next_batch();
        let Self { workers, tasks: known, config, .. } = self;
        let worker = workers.get_mut(&id).unwrap();
        if worker.window.is_empty() {
            worker.begin(now);
        }
        for task in tasks.iter() {
            if worker.window.iter().any(|sent| sent.task == task) {
                coverage.see("situation: a task went back to the worker that was to hand it back");
            }
            let bytes = known[&task].submission.task_bytes;
            let sent = SentTask { task, sending, revoked_since: None, is_recalled: false, bytes };
            worker.window.push_back(sent);
        }
        let batches = worker.batches() - worker.split;
        assert!(batches <= config.window_batches_max, "a window has too many batches");
        if worker.batches() == config.window_batches_max && config.window_batches_max > 1 {
            coverage.see("situation: a window had as many batches as it may");
        }
        worker.assigned += u64::from(tasks.count());
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

    /// The rest of a batch is recalled because it may not run, because it waits behind a slow task or one
    /// that is ended with its worker, or because somebody idles; and the last of a window first.
    fn recall(
        &mut self,
        now: Moment,
        id: WorkerId,
        entry: EntryKey,
        task: TaskId,
        coverage: &mut Coverage,
    ) {
        self.check_entry(entry, task.into());
        let worker = &self.workers[&id];
        assert!(!worker.killed, "what a dying worker has is waited for");
        let is_it = |sent: &SentTask| sent.task == task && !sent.is_revoked();
        let index = worker.window.iter().position(is_it).unwrap();
        assert!(index > 0, "what is first has started");
        let sending = worker.window[index].sending;
        let is_of_it =
            |sent: &&SentTask| sent.sending == sending && !sent.is_revoked() && !sent.is_recalled;
        let rest = worker.window.iter().skip(index).take_while(is_of_it);
        let rest: Vec<_> = rest.map(|sent| sent.task).collect();
        assert!(!rest.is_empty(), "recalled once");
        if worker.window[index - 1].sending == sending && index > 1 {
            coverage.see("situation: a part of a batch was recalled");
        }
        let must = rest.iter().filter(|task| self.must_recall.remove(&(id, **task))).count();
        assert!(must == 0 || must == rest.len(), "as many as have to be");
        let must = must > 0;
        let is_slow = self.is_overdue(now, worker);
        let steals = self.steal_due.is_some() && self.idle() > 0;
        let ends = self.front_ends(now, worker);
        assert!(must || is_slow || steals || ends, "recalled for a reason");
        let is_passed = |sent: &SentTask| must || sent.is_revoked() || sent.is_recalled;
        let mut behind = worker.window.iter().skip(index + rest.len());
        assert!(behind.all(is_passed), "the last comes back first");
        if ends && !must && !is_slow {
            self.must_die.push(id);
        }
        if steals && !must && !is_slow && !ends {
            self.steal(id, rest.len());
        }
        let window = &mut self.workers.get_mut(&id).unwrap().window;
        window.iter_mut().skip(index).take(rest.len()).for_each(|sent| sent.is_recalled = true);
    }

    /// Tasks of the longest window are recalled for a worker that idles.
    fn steal(&mut self, id: WorkerId, tasks: usize) {
        let longest = self.workers.values().map(Worker::waiting).max().unwrap_or_default();
        let steal = self.steal.get_or_insert_with(|| {
            assert_eq!(self.workers[&id].waiting(), longest, "from the longest window");
            Steal { worker: id, wanted: longest.div_ceil(2), recalled: 0 }
        });
        assert_eq!(steal.worker, id, "from one window");
        steal.recalled += tasks;
    }

    fn stop(&mut self, now: Moment, id: WorkerId, task: TaskId) {
        let worker = &self.workers[&id];
        assert!(!worker.killed && worker.stopping_since.is_none(), "stopped once");
        let is_first = worker.window.front().is_some_and(|sent| sent.task == task);
        assert!(is_first && self.front_ends(now, worker), "stopped for a reason");
        let is_passed = |sent: &SentTask| sent.is_revoked() || sent.is_recalled;
        assert!(worker.window.iter().skip(1).all(is_passed), "what waits behind it comes back");
        self.must_die.push(id);
    }

    fn start(&mut self, entry: EntryKey, id: TaskId) {
        self.check_entry(entry, id.into());
        let task = self.tasks.get_mut(&id).expect("a task that was submitted");
        task.started = true;
        if task.sent_revoked {
            return;
        }
        assert!(!task.cancel_asked && !task.stop_asked, "a cancelled task is not said to run");
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
            .and_then(|sent| sent.revoked_since)
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
        // What it was to hand back is waited for no longer; or a task's end follows.
        let is_over = hand_back_late || stop_over || ends;
        if is_over && !worker.distrusted && worker.front().is_none() {
            worker.pop_revoked();
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

//! Follows a dispatcher by naive means, and panics at the first thing that it must not do.
//!
//! It hears of every event before the dispatcher does, and of every action in order. It keeps its
//! own queue and windows; what it demands is written in terms of those alone.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use stockade_wire::{TaskId, WorkerId};

use super::super::{
    Action, BrokenCause, CancelReason, Config, Dispatcher, Event, Hook, Moment, Resolution,
    ShutdownMode, Submission,
};
use super::coverage::Coverage;
use super::ledger::{Exit, Task, Worker};
use super::process::Process;

pub(super) struct Oracle {
    config: Config,
    tasks: BTreeMap<TaskId, Task>,
    unresolved: usize,
    queue: VecDeque<TaskId>,
    workers: BTreeMap<WorkerId, Worker>,
    workers_spawned: u64,
    /// Spawns that somebody asked for and that were not yet seen.
    requested: usize,
    preparing: bool,
    prepared: bool,
    idle_timeout_set_at: Moment,
    shutdown: Option<ShutdownMode>,
    broken: bool,
    joining: bool,
    terminated: bool,
    /// No worker starts before this.
    paused_until: Moment,
    /// Pauses since a task finished.
    pauses: u32,
    starts_failed: u32,
    hook_failed: Option<Hook>,
    preparation_failed: bool,
    /// What the present event lets happen, or demands.
    answer: Option<(WorkerId, TaskId, bool)>,
    exit: Option<Exit>,
    must_end: Vec<TaskId>,
    must_die: Vec<WorkerId>,
}

impl Oracle {
    pub(super) fn new(config: Config) -> Self {
        Self {
            prepared: !config.needs_preparation,
            config,
            tasks: BTreeMap::new(),
            unresolved: 0,
            queue: VecDeque::new(),
            workers: BTreeMap::new(),
            workers_spawned: 0,
            requested: 0,
            preparing: false,
            idle_timeout_set_at: Moment::ZERO,
            shutdown: None,
            broken: false,
            joining: false,
            terminated: false,
            paused_until: Moment::ZERO,
            pauses: 0,
            starts_failed: 0,
            hook_failed: None,
            preparation_failed: false,
            answer: None,
            exit: None,
            must_end: Vec::new(),
            must_die: Vec::new(),
        }
    }

    pub(super) fn is_shut_down(&self) -> bool {
        self.shutdown.is_some()
    }

    pub(super) fn wall_time(&self, task: TaskId) -> Option<Duration> {
        self.tasks[&task].submission.wall_time
    }

    /// A timeout is about to be handled.
    pub(super) fn timeout(&mut self) {
        self.answer = None;
        self.exit = None;
    }

    /// An event is about to be handled.
    pub(super) fn event(&mut self, now: Moment, event: &Event, coverage: &mut Coverage) {
        self.timeout();
        match *event {
            Event::Submit(ref submission) => self.submit(submission),
            Event::Cancel(task) => self.cancel(task, false),
            Event::CancelRunning(task) => self.cancel(task, true),
            Event::SpawnWorkers(count) if self.shutdown.is_none() && !self.broken => {
                let room = self.config.workers_max - self.active();
                self.requested = (self.requested + count).min(room);
            }
            Event::SpawnWorkers(_) => {}
            Event::Prepared => self.prepared |= self.preparing,
            Event::PreparationFailed => self.preparation_failed = true,
            Event::Ready(id) => self.ready(now, id),
            Event::Finished { worker, task, recalled } => self.finished(worker, task, recalled),
            Event::HookFailed { worker, hook } => self.hook_fails(worker, hook),
            Event::Closed(id) => {
                if self.workers.get(&id).is_some_and(|worker| worker.close_at.is_none()) {
                    self.distrust(id);
                }
            }
            Event::Misbehaved(id) => self.distrust(id),
            Event::Exited { worker, started } => self.exits(now, worker, started, coverage),
            Event::SpawnFailed(worker) => self.exits(now, worker, None, coverage),
            Event::SetIdleTimeout(timeout) => {
                self.config.idle_timeout = timeout;
                self.idle_timeout_set_at = now;
            }
            Event::Join => self.joining = true,
            Event::JoinGivenUp => self.joining = false,
            Event::Shutdown(mode) => {
                self.shutdown = self.shutdown.max(Some(mode));
                self.requested = 0;
                if mode == ShutdownMode::Kill {
                    let alive = self.workers.iter().filter(|(_, worker)| !worker.killed);
                    self.must_die.extend(alive.map(|(&id, _)| id));
                }
                if self.shutdown >= Some(ShutdownMode::Cancel) {
                    self.withdraw_all();
                }
            }
        }
    }

    fn submit(&mut self, submission: &Submission) {
        let id = submission.task;
        assert!(self.tasks.insert(id, Task::new(submission)).is_none());
        self.unresolved += 1;
        if self.shutdown.is_some() || self.broken {
            self.must_end.push(id);
        } else {
            self.queue.push_back(id);
        }
    }

    fn cancel(&mut self, id: TaskId, even_running: bool) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.resolution.is_some() {
            return;
        }
        task.cancel_asked = true;
        task.stop_asked |= even_running;
        let holder = self.workers.values().find(|worker| worker.window.contains(&id));
        let Some(worker) = holder else { return self.must_end.push(id) };
        if worker.killed || worker.window.front() != Some(&id) {
            task.withdrawn = true;
        } else if even_running {
            self.must_end.push(id);
        }
    }

    /// Everything that waits is to be cancelled, and what waits in a window to be handed back.
    fn withdraw_all(&mut self) {
        self.must_end.extend(&self.queue);
        for worker in self.workers.values() {
            for id in worker.window.iter().skip(usize::from(!worker.killed)) {
                self.tasks.get_mut(id).unwrap().withdrawn = true;
            }
        }
    }

    fn ready(&mut self, now: Moment, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.is_starting() {
            worker.ready = true;
            worker.idle_since = now;
            self.starts_failed = 0;
        } else {
            self.distrust(id);
        }
    }

    fn finished(&mut self, id: WorkerId, task: TaskId, recalled: bool) {
        let Some(worker) = self.workers.get(&id) else { return };
        let believable =
            worker.window.front() == Some(&task) && (!recalled || self.tasks[&task].withdrawn);
        if believable {
            self.answer = Some((id, task, recalled));
            self.must_end.push(task);
        } else {
            self.distrust(id);
        }
    }

    fn hook_fails(&mut self, id: WorkerId, hook: Hook) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.killed {
            return;
        }
        if hook == Hook::Initializer || worker.close_at.is_some() {
            worker.excused = true;
            self.hook_failed = Some(hook);
            self.must_die.push(id);
        } else {
            self.distrust(id);
        }
    }

    fn distrust(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id)
            && !worker.killed
        {
            worker.distrusted = true;
            self.must_die.push(id);
        }
    }

    fn exits(
        &mut self,
        now: Moment,
        id: WorkerId,
        started: Option<TaskId>,
        coverage: &mut Coverage,
    ) {
        let Some(worker) = self.workers.remove(&id) else { return };
        if worker.failed() {
            if now >= self.paused_until {
                let pause = self.config.backoff_min * 2_u32.pow(self.pauses);
                self.paused_until = now + pause.min(self.config.backoff_max);
                self.pauses += 1;
            }
            self.starts_failed += u32::from(!worker.ready);
        }
        let exit = Exit::new(&worker, started);
        for (index, id) in worker.window.iter().enumerate() {
            let task = self.tasks.get_mut(id).unwrap();
            if index < exit.lost {
                task.losses += 1;
            } else if index == 0 && worker.is_at_fault() {
                task.returns += 1;
            }
            if task.losses > task.submission.retries || task.returns > self.config.requeues_max {
                self.must_end.push(*id);
            }
            if task.withdrawn {
                self.must_end.push(*id);
            }
        }
        if exit.lost > 1 {
            coverage.see("situation: several tasks were lost together");
        }
        for id in worker.window.iter().rev() {
            self.queue.push_front(*id);
        }
        self.exit = Some(exit);
    }

    /// An action was decided.
    pub(super) fn action(&mut self, now: Moment, action: &Action, coverage: &mut Coverage) {
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
                assert!(waits || answered(true), "never started");
                let lost = exit.is_some_and(|exit| exit.lost_tasks().contains(&id));
                assert!(!lost, "a task that had started is not said never to have");
                match reason {
                    CancelReason::Asked => assert!(task.cancel_asked),
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
            assert_eq!(worker.window.pop_front(), Some(id), "windows empty in order");
            worker.begin(now);
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

    /// An event or a timeout has been handled and all its actions are known.
    pub(super) fn check_step(&mut self, now: Moment, dispatcher: &Dispatcher) {
        for id in self.must_end.drain(..) {
            assert!(self.tasks[&id].resolution.is_some(), "task {id} has to end now");
        }
        for id in self.must_die.drain(..) {
            let spared = self.workers.get(&id).is_some_and(|worker| !worker.killed);
            assert!(!spared, "worker {id} has to be killed now");
        }
        assert!(dispatcher.queue.iter().eq(self.queue.iter().copied()), "the queue is another");
        let counts = dispatcher.counts();
        assert_eq!(counts.workers, self.workers.len());
        let running = self.workers.values().filter(|w| !w.killed && !w.window.is_empty()).count();
        assert_eq!(counts.busy, running);
        assert_eq!(counts.pending_tasks, self.unresolved - running);
        assert!(self.hook_failed.is_none() || self.broken, "a failed hook breaks the pool");
        self.check_deadlines(now);
        self.check_progress(now);
        self.check_end();
    }

    /// No deadline lies in the past.
    fn check_deadlines(&self, now: Moment) {
        for (id, worker) in self.workers.iter().filter(|(_, worker)| !worker.killed) {
            let since = |since: Moment, span: Option<Duration>, what: &str| {
                let in_time = span.is_none_or(|span| now <= since + span);
                assert!(in_time, "worker {id} is past its {what}");
            };
            if let Some(at) = worker.close_at {
                since(at, Some(self.config.close_timeout), "close timeout");
            } else if !worker.ready {
                since(worker.spawned_at, Some(self.config.start_timeout), "start timeout");
            } else if let Some(front) = worker.window.front() {
                let task = &self.tasks[front];
                since(worker.front_since, task.submission.wall_time, "task's deadline");
                let grace =
                    (task.stop_asked && task.withdrawn).then_some(self.config.recall_timeout);
                since(worker.front_since, grace, "recall timeout");
                assert!(worker.announced || task.withdrawn, "nobody heard of a start");
            } else {
                // A shorter one may have passed when it was set; then it is due at once.
                if now > self.idle_timeout_set_at {
                    since(worker.idle_since, self.config.idle_timeout, "idle timeout");
                }
            }
        }
    }

    /// Nobody waits without a need.
    fn check_progress(&self, now: Moment) {
        let idle = self.workers.values().filter(|worker| worker.is_idle()).count();
        assert!(idle == 0 || self.queue.is_empty(), "a worker idles while a task waits");
        let stops = self.shutdown.is_some() || self.broken || self.joining;
        assert!(idle == 0 || !stops, "a worker idles to no end");
        let used_up = |worker: &Worker| {
            worker.is_idle() && self.config.tasks_per_worker_max == Some(worker.assigned)
        };
        assert!(!self.workers.values().any(used_up), "a used-up worker closes");
        if self.prepared && now >= self.paused_until {
            assert!(!self.misses_worker() || !self.has_room(), "a task waits for no worker");
            assert!(self.requested == 0 || !self.has_room(), "a request waits for nothing");
        }
        assert!(
            self.prepared || self.preparing || (self.queue.is_empty() && self.requested == 0),
            "nobody makes the snapshot"
        );
    }

    fn check_end(&self) {
        let empty = self.is_empty();
        assert!(self.terminated == (empty && self.shutdown.is_some()), "terminates when empty");
        let preparing = self.preparing && !self.prepared && !self.preparation_failed;
        let waits = preparing && self.shutdown.is_none();
        assert!(!self.joining || !empty || waits || self.requested > 0, "joins when empty");
    }

    /// Nothing is left, and nothing was done that honest processes could hold against the
    /// dispatcher.
    pub(super) fn check_settled<'a>(&self, processes: impl Iterator<Item = &'a Process>) {
        assert!(self.terminated && self.unresolved == 0 && self.workers.is_empty());
        let mut starts: BTreeMap<TaskId, Option<u32>> = BTreeMap::new();
        for process in processes {
            for task in &process.sent {
                let starts = starts.entry(*task).or_insert(Some(0));
                let began = process.starts.iter().filter(|began| *began == task).count() as u32;
                *starts = starts.filter(|_| !process.lied).map(|starts| starts + began);
            }
        }
        for (id, task) in &self.tasks {
            let Some(&Some(starts)) = starts.get(id) else { continue };
            assert!(starts <= 1 + task.submission.retries, "task {id} started too often");
            match task.resolution {
                Some(Resolution::Finished) => assert!(starts > task.losses),
                Some(Resolution::Cancelled(_)) => assert_eq!(starts, task.losses),
                _ => {}
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.unresolved == 0 && self.workers.is_empty()
    }

    fn active(&self) -> usize {
        let tasks_max = self.config.tasks_per_worker_max;
        self.workers.values().filter(|worker| worker.is_active(tasks_max)).count()
    }

    fn has_room(&self) -> bool {
        self.active() < self.config.workers_max && self.workers.len() < 2 * self.config.workers_max
    }

    /// Whether more batches wait than workers come for them.
    fn misses_worker(&self) -> bool {
        let chunk = |id: &TaskId| self.tasks[id].submission.chunk;
        let breaks = self
            .queue
            .iter()
            .zip(self.queue.iter().skip(1))
            .filter(|(first, second)| chunk(first).is_none() || chunk(first) != chunk(second));
        let batches = usize::from(!self.queue.is_empty()) + breaks.count();
        let coming =
            self.workers.values().filter(|worker| worker.is_starting() || worker.is_idle());
        batches > coming.count()
    }
}

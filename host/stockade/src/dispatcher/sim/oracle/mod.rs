//! Follows a dispatcher by naive means, and panics at the first thing that it must not do.
//!
//! It hears of every event before the dispatcher does, and of every action in order. It keeps its
//! own queue and windows; what it demands is written in terms of those alone.

mod actions;
mod demands;
mod ledger;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use stockade_wire::{TaskId, WorkerId};

use super::super::{Config, Event, Hook, Moment, ShutdownMode, Submission};
use super::coverage::Coverage;
use ledger::{Exit, Task, Worker};

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
            Event::Withheld { worker, task } => {
                if self.workers.get(&worker).is_some_and(|worker| worker.window.contains(&task)) {
                    self.tasks.get_mut(&task).unwrap().withheld = true;
                    self.must_end.push(task);
                }
            }
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

    fn awaits_snapshot(&self) -> bool {
        let preparing = self.preparing && !self.prepared && !self.preparation_failed;
        preparing && self.shutdown.is_none()
    }
}

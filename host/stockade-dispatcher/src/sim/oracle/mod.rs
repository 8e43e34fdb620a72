//! Follows a dispatcher by naive means, and panics at the first thing that it must not do.
//!
//! It hears of every event before the dispatcher does, and of every action in order. It keeps its
//! own queue and windows; what it demands is written in terms of those alone.

mod actions;
mod demands;
mod events;
mod ledger;
mod resolutions;

use std::collections::{BTreeMap, BTreeSet};

use stockade_wire::{ModuleId, TaskId, WorkerId};

use super::super::{CancelReason, Config, Hook, Moment, ShutdownMode};
use super::process::Job;
use ledger::{Exit, Request, Sent, Task, Worker};

pub(super) struct Oracle {
    config: Config,
    tasks: BTreeMap<TaskId, Task>,
    unresolved: usize,
    queue: Vec<TaskId>,
    workers: BTreeMap<WorkerId, Worker>,
    workers_spawned: u64,
    /// Spawns that somebody asked for and that were not yet seen.
    requested: usize,
    /// Those who wait for an answer, the first first.
    requests: Vec<Request>,
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
    /// Since when starts were ended from outside.
    ended_since: Option<Moment>,
    /// Whether the last worker that failed to start was one too many, or one too late.
    may_break: bool,
    /// What was ever held against modules, or for them: whose, and whether for.
    record: Vec<(ModuleId, bool)>,
    quarantined: BTreeSet<ModuleId>,
    hook_failed: Option<Hook>,
    preparation_failed: bool,
    /// What the present event lets happen, or demands.
    answer: Option<(WorkerId, TaskId)>,
    exit: Option<Exit>,
    stoppable: BTreeSet<WorkerId>,
    must_end: Vec<TaskId>,
    must_die: Vec<WorkerId>,
    must_recall: BTreeSet<(WorkerId, TaskId)>,
    must_quarantine: Option<ModuleId>,
    /// Whether a worker may count against the maximum again, of which the dispatcher knows more while
    /// its actions wait to be polled.
    pub(super) may_unretire: bool,
    /// Since when somebody has been idle while tasks waited in another's window.
    uneven_since: Option<Moment>,
    /// Somebody has idled like that for long enough: how many tasks waited then.
    relief: Option<usize>,
}

impl Oracle {
    pub(super) fn new(config: Config) -> Self {
        Self {
            prepared: !config.needs_preparation,
            config,
            tasks: BTreeMap::new(),
            unresolved: 0,
            queue: Vec::new(),
            workers: BTreeMap::new(),
            workers_spawned: 0,
            requested: 0,
            requests: Vec::new(),
            preparing: false,
            idle_timeout_set_at: Moment::ZERO,
            shutdown: None,
            broken: false,
            joining: false,
            terminated: false,
            paused_until: Moment::ZERO,
            pauses: 0,
            starts_failed: 0,
            ended_since: None,
            may_break: false,
            record: Vec::new(),
            quarantined: BTreeSet::new(),
            hook_failed: None,
            preparation_failed: false,
            answer: None,
            exit: None,
            stoppable: BTreeSet::new(),
            must_end: Vec::new(),
            must_die: Vec::new(),
            must_recall: BTreeSet::new(),
            must_quarantine: None,
            may_unretire: true,
            uneven_since: None,
            relief: None,
        }
    }

    pub(super) fn is_shut_down(&self) -> bool {
        self.shutdown.is_some()
    }

    /// What a process is sent of a task.
    pub(super) fn job(&self, task: TaskId) -> Job {
        let submission = &self.tasks[&task].submission;
        Job { task, module: submission.module, wall_time: submission.wall_time }
    }

    /// Tasks that were submitted and neither started nor ended.
    pub(super) fn unstarted(&self) -> usize {
        self.tasks.values().filter(|task| task.resolution.is_none() && !task.started).count()
    }

    /// Whether a worker has to answer this task next, and what it was sent behind that.
    pub(super) fn behind(&self, worker: WorkerId, task: TaskId) -> Option<Vec<TaskId>> {
        let mut window = self.workers.get(&worker)?.window.iter().map(|sent| sent.task);
        (window.next()? == task).then(|| window.collect())
    }

    /// Where a task goes among those that wait.
    fn enqueue(&mut self, id: TaskId, at_back: bool) {
        let priority = |id: &TaskId| self.tasks[id].submission.priority;
        let own = priority(&id);
        let index = if at_back {
            self.queue.iter().rposition(|other| priority(other) >= own).map_or(0, |last| last + 1)
        } else {
            let first = self.queue.iter().position(|other| priority(other) <= own);
            first.unwrap_or(self.queue.len())
        };
        self.queue.insert(index, id);
    }

    /// Everything that waits is to be cancelled, and what waits in a window to be taken back: all of
    /// it, or one module's.
    fn withdraw_all(&mut self, only: Option<ModuleId>) {
        let Self { tasks, must_end, must_recall, .. } = self;
        let concerned = |task: &Task| only.is_none_or(|module| task.submission.module == module);
        must_end.extend(self.queue.iter().filter(|id| concerned(&tasks[id])));
        for (&worker_id, worker) in self.workers.iter().filter(|(_, worker)| !worker.killed) {
            for sent in worker.window.iter().skip(1) {
                let task = &tasks[&sent.task];
                if concerned(task) && !sent.is_ghost() && !sent.is_recalled {
                    must_recall.insert((worker_id, sent.task));
                }
            }
        }
    }

    /// Why a task may not wait for a worker, if so.
    fn refusal(&self, id: TaskId) -> Option<CancelReason> {
        let module = self.tasks[&id].submission.module;
        let shutdown = self.shutdown >= Some(ShutdownMode::Cancel);
        let broken = self.broken.then_some(CancelReason::Broken);
        let quarantined = self.quarantined.contains(&module);
        let quarantined = quarantined.then_some(CancelReason::Quarantined);
        shutdown.then_some(CancelReason::Shutdown).or(broken).or(quarantined)
    }

    fn idle(&self) -> usize {
        self.workers.values().filter(|worker| worker.is_idle()).count()
    }

    /// Tasks that wait in windows.
    fn waiting(&self) -> usize {
        self.workers.values().map(Worker::waiting).sum()
    }

    /// Whether a window's first has been that for so long that nobody has to wait for it.
    fn is_overdue(&self, now: Moment, worker: &Worker) -> bool {
        self.config.workers_max > 1 && now >= worker.front_since + self.config.patience
    }

    /// No worker that was asked for starts any more.
    fn drop_requests(&mut self) {
        self.requested = 0;
    }

    fn is_empty(&self) -> bool {
        self.unresolved == 0 && self.workers.is_empty()
    }

    fn active(&self) -> usize {
        self.workers.values().filter(|worker| worker.is_active()).count()
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

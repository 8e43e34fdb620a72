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
use std::mem;

use stockade_wire::{ModuleId, TaskId, TaskRange, WorkerId};

use super::super::{CancelReason, Config, EntryKey, Hook, Moment, ShutdownMode};
use super::process::Job;
use ledger::{Exit, Request, SentTask, Task, Worker};

/// A task that waits in the queue.
#[derive(Clone, Copy)]
struct Waiting {
    task: TaskId,
    /// The same for tasks that joined the queue as one batch, and for no others.
    batch: u64,
    /// Whether it came back after the actions were decided that are being performed.
    is_late: bool,
}

/// What a busy worker is being given.
#[derive(Clone, Copy)]
struct Giving {
    worker: WorkerId,
    wanted: usize,
    given: usize,
}

/// What is stolen from the longest window for a worker that idles.
#[derive(Clone, Copy)]
struct Steal {
    worker: WorkerId,
    wanted: usize,
    recalled: usize,
}

pub(super) struct Oracle {
    config: Config,
    tasks: BTreeMap<TaskId, Task>,
    unresolved: usize,
    queue: Vec<Waiting>,
    /// Batches that joined the queue or were sent, so far.
    batches: u64,
    giving: Option<Giving>,
    steal: Option<Steal>,
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
    answers: BTreeSet<(WorkerId, TaskId)>,
    exit: Option<Exit>,
    stoppable: BTreeSet<WorkerId>,
    must_end: Vec<TaskId>,
    must_die: Vec<WorkerId>,
    must_recall: BTreeSet<(WorkerId, TaskId)>,
    must_quarantine: Option<ModuleId>,
    /// Whether the actions that are being performed may have been decided before a cancel was told.
    decided_before_cancel: bool,
    /// How many workers may count against the maximum again, of which the dispatcher knows more while
    /// its actions wait to be polled.
    pub(super) may_unretire: usize,
    /// Since when somebody has been idle while tasks waited in another's window.
    uneven_since: Option<Moment>,
    /// A worker has idled like that for long enough: how many tasks waited then.
    steal_due: Option<usize>,
}

impl Oracle {
    pub(super) fn new(config: Config) -> Self {
        Self {
            prepared: !config.needs_preparation,
            config,
            tasks: BTreeMap::new(),
            unresolved: 0,
            queue: Vec::new(),
            batches: 0,
            giving: None,
            steal: None,
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
            answers: BTreeSet::new(),
            exit: None,
            stoppable: BTreeSet::new(),
            must_end: Vec::new(),
            must_die: Vec::new(),
            must_recall: BTreeSet::new(),
            must_quarantine: None,
            decided_before_cancel: false,
            may_unretire: 0,
            uneven_since: None,
            steal_due: None,
        }
    }

    pub(super) fn is_shut_down(&self) -> bool {
        self.shutdown.is_some()
    }

    /// Whether a worker is given so many tasks and no more.
    pub(super) fn retires_workers(&self) -> bool {
        self.config.tasks_per_worker_max.is_some()
    }

    /// Tasks are about to be cancelled that are sent as revoked.
    pub(super) fn sent_revoked(&mut self, tasks: TaskRange) {
        self.decided_before_cancel = true;
        for task in tasks.iter() {
            self.tasks.get_mut(&task).unwrap().sent_revoked = true;
        }
    }

    /// What a process is sent of a task.
    pub(super) fn job(&self, task: TaskId) -> Job {
        let submission = &self.tasks[&task].submission;
        Job { task, module: submission.module, wall_time: submission.wall_time }
    }

    /// Batches that were submitted and of which some task has neither started nor ended.
    pub(super) fn unstarted(&self) -> usize {
        let unstarted =
            self.tasks.values().filter(|task| task.resolution.is_none() && !task.started);
        let entries = unstarted.map(|task| task.submission.entry);
        entries.collect::<BTreeSet<EntryKey>>().len()
    }

    /// Tasks are of the batch that the driver knows by this key.
    fn check_entry(&self, entry: EntryKey, tasks: TaskRange) {
        for task in tasks.iter() {
            let own = self.tasks.get(&task).map(|task| task.submission.entry);
            assert_eq!(own, Some(entry), "task {task} is of another batch");
        }
    }

    /// Whether a worker has to answer this task next, and what it was sent behind that.
    pub(super) fn behind(&self, worker: WorkerId, task: TaskId) -> Option<Vec<TaskId>> {
        let mut window = self.workers.get(&worker)?.window.iter().map(|sent| sent.task);
        (window.next()? == task).then(|| window.collect())
    }

    /// Another batch joins the queue or is sent.
    fn next_batch(&mut self) -> u64 {
        self.batches += 1;
        self.batches
    }

    /// Where tasks of one batch go among those that wait.
    fn enqueue(&mut self, tasks: &[TaskId], at_back: bool) {
        let batch = self.next_batch();
        for (offset, &task) in tasks.iter().enumerate() {
            let priority = |task: &TaskId| self.tasks[task].submission.priority;
            let own = priority(&task);
            let is_before = |other: &Waiting| priority(&other.task) >= own;
            let index = if at_back {
                self.queue.iter().rposition(is_before).map_or(0, |last| last + 1)
            } else {
                let first = self.queue.iter().position(|other| priority(&other.task) <= own);
                first.unwrap_or(self.queue.len()) + offset
            };
            self.queue.insert(index, Waiting { task, batch, is_late: false });
        }
    }

    /// Takes out of the queue what came back after the next action was decided.
    fn take_late(&mut self) -> Vec<Waiting> {
        let (late, queue) = self.queue.iter().partition(|waiting| waiting.is_late);
        self.queue = queue;
        late
    }

    /// Puts back what [`take_late`](Self::take_late) has taken out.
    fn put_back_late(&mut self, late: Vec<Waiting>) {
        for waiting in late.into_iter().rev() {
            let priority = |id: &TaskId| self.tasks[id].submission.priority;
            let own = priority(&waiting.task);
            let first = self.queue.iter().position(|other| priority(&other.task) <= own);
            self.queue.insert(first.unwrap_or(self.queue.len()), waiting);
        }
    }

    /// The batches that wait, in order. What was in between two tasks has left.
    fn waiting_batches(&self) -> Vec<TaskRange> {
        let belongs = |first: &Waiting, second: &Waiting| {
            first.batch == second.batch && first.task.0 + 1 == second.task.0
        };
        let runs = self.queue.chunk_by(belongs);
        let range = |run: &[Waiting]| TaskRange::between(run[0].task, run[run.len() - 1].task);
        runs.map(|run| range(run).unwrap()).collect()
    }

    /// How many tasks of so many bytes fit into a worker's window, besides so many batches.
    fn room(&self, worker: &Worker, batches: usize, task_bytes: usize) -> usize {
        let left = self.config.tasks_per_worker_max.map(|max| (max - worker.assigned) as usize);
        let room = self.config.window_tasks_max - worker.window.len();
        let by_bytes = self.config.window_bytes_max.saturating_sub(worker.bytes()) / task_bytes;
        let has_slot = batches < self.config.window_batches_max;
        if has_slot { room.min(left.unwrap_or(room)).min(by_bytes) } else { 0 }
    }

    /// Whether no window holds so many tasks of so many bytes.
    fn is_oversized(&self, tasks: usize, task_bytes: usize) -> bool {
        tasks > self.config.window_tasks_max.min(self.config.window_bytes_max / task_bytes)
    }

    /// Takes note of windows that have no room for what waits first.
    fn note_full_windows(&mut self) {
        let Some(first) = self.queue.first() else { return };
        let follows = |(offset, waiting): &(usize, &Waiting)| {
            waiting.batch == first.batch && waiting.task.0 == first.task.0 + *offset as u64
        };
        let count = self.queue.iter().enumerate().take_while(follows).count();
        let bytes = self.tasks[&first.task].submission.task_bytes;
        let needed = if self.is_oversized(count, bytes) { 1 } else { count };
        let mut workers = mem::take(&mut self.workers);
        for worker in workers.values_mut().filter(|worker| !worker.was_full) {
            worker.was_full = self.room(worker, worker.batches(), bytes) < needed;
        }
        self.workers = workers;
    }

    /// Everything that waits is to be cancelled, and what waits in a window to be taken back: all of
    /// it, or one module's.
    fn withdraw_all(&mut self, only: Option<ModuleId>) {
        let Self { tasks, must_end, must_recall, .. } = self;
        let concerned = |task: &Task| only.is_none_or(|module| task.submission.module == module);
        let waiting = self.queue.iter().map(|waiting| waiting.task);
        must_end.extend(waiting.filter(|id| concerned(&tasks[id])));
        for (&worker_id, worker) in self.workers.iter().filter(|(_, worker)| !worker.killed) {
            for sent in worker.window.iter().skip(1) {
                let task = &tasks[&sent.task];
                if concerned(task) && !sent.is_revoked() && !sent.is_recalled {
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

    /// Whether more batches wait than workers come for them, or more tasks than those may get.
    fn misses_worker(&self) -> bool {
        let waiting = self.waiting_batches();
        let batches = match self.config.tasks_per_worker_max {
            None => waiting.len(),
            Some(max) => {
                let tasks: u64 = waiting.iter().map(|batch| u64::from(batch.count())).sum();
                waiting.len().max(tasks.div_ceil(max) as usize)
            }
        };
        let coming =
            self.workers.values().filter(|worker| worker.is_starting() || worker.is_idle());
        batches > coming.count()
    }

    fn awaits_snapshot(&self) -> bool {
        let preparing = self.preparing && !self.prepared && !self.preparation_failed;
        preparing && self.shutdown.is_none()
    }
}

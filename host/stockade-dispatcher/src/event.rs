//! The interface between the dispatcher and its driver: events in, actions out.
//!
//! Every event about a worker may be late, forged or repeated, because a worker is hostile; every
//! event about a task comes from the driver, which is not. The driver reports any number of events,
//! then polls actions until there are none, and performs each before it polls the next. Meanwhile
//! it reports only events that result from the actions themselves: [`Event::TakenBack`],
//! [`Event::Withheld`], [`Event::Stoppable`], [`Event::SpawnFailed`], [`Event::Prepared`],
//! [`Event::PreparationFailed`], [`Event::Cancel`] of tasks of the [`Action::Run`] that is being
//! performed, and [`Event::Misbehaved`] of a worker that says it has run a task which its caller
//! had cancelled.
//!
//! Tasks are submitted in batches, each of tasks whose numbers follow each other and which have
//! everything in common; a single task is a batch of one. A batch may be split anywhere, and its parts
//! are batches like any other.
//!
//! ```text
//! Run ──► worker runs its tasks in turn ──────────────────────► Finished     first in its window
//!   └───► its rest revoked on the page ─► Cancel, TakenBack ··· ► HandedBack  likewise
//!   └───► Withheld: never sent
//! ```
//!
//! A worker runs what it is sent in the order of the sending, a batch's tasks in the order of their
//! numbers, and answers each task that it has run once. On its page the rest of a batch can be revoked,
//! from any task on that has not started: those tasks end or go elsewhere at once, and the worker owes
//! one answer for all of them, [`Event::HandedBack`], after those for the tasks before. The same task
//! may be sent to the same worker again, behind that; the order tells the answers apart. A batch keeps
//! its slot until it is answered whole.
//!
//! Deliberately absent: payloads, processes and handles. The driver keeps those under the [`EntryKey`].

use core::time::Duration;

use stockade_wire::{ModuleId, TaskId, TaskRange, WorkerId};

/// A point in time, as the span since the pool was made. Only the driver reads a clock.
pub type Moment = Duration;

/// The configuration of a dispatcher.
#[derive(Clone, Debug)]
pub struct Config {
    /// Workers that may start or serve at a time, at least 1. Those that retire, close or die come
    /// on top; all together are never more than twice as many.
    pub workers_max: usize,
    /// Tasks given to one worker before it closes, at least 1.
    pub tasks_per_worker_max: Option<u64>,
    /// How long an idle worker stays; `None`: it never closes.
    pub idle_timeout: Option<Duration>,
    /// From the spawn of a worker until it is ready.
    pub start_timeout: Duration,
    /// From a worker's `Close` until it is gone: its finalizers.
    pub close_timeout: Duration,
    /// How long a revoked task may be first in its worker's window before the worker is killed;
    /// also a task to be stopped whose answer is on its way. In this time the worker only has to
    /// send its answer.
    pub recall_timeout: Duration,
    /// How much work a worker is given at a time, by the times of its latest tasks.
    pub window_time: Duration,
    /// Tasks one worker may hold, revoked ones that it has not handed back among them, at least 1.
    pub window_tasks_max: usize,
    /// Batches that one worker is given at a time, those that are to be handed back among them, at least 1:
    /// the slots of its status page. See [`Event::Withheld`] for where it may hold more.
    pub window_batches_max: usize,
    /// Bytes in line that one worker may hold; a single task may have more.
    pub window_bytes_max: usize,
    /// How long a task may stand first in a window before those behind it are taken back, and how
    /// long a worker idles, while tasks wait in another's window, before it gets some of them; not zero.
    pub patience: Duration,
    /// Whether a snapshot has to be made before the first worker.
    pub needs_preparation: bool,
    /// Starts that may fail one after the other; the pool is broken by the last of them.
    pub start_failures_max: u32,
    /// How long starts may be ended from outside one after the other; the pool is broken by the first that
    /// is ended later. `None` never does.
    pub start_patience: Option<Duration>,
    /// The first pause after a failed worker; doubles with every further failure.
    pub backoff_min: Duration,
    /// The longest pause after a failed worker.
    pub backoff_max: Duration,
    /// How often a task may stand first in the window of a worker that dies without saying what it
    /// had started, and be queued again. More than 255 counts as 255.
    pub requeues_max: u32,
    /// Deaths of workers that may be held against one module in a row, at least 1, until one of its
    /// tasks finishes; the last of them quarantines the module. `None` never does.
    pub losses_in_a_row_max: Option<u32>,
}

/// Identifies one [`Event::SpawnWorkers`] and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// The driver's key of a batch, returned in every action about a task of that batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryKey(pub u32);

/// A batch for the dispatcher. Each of its tasks is retried, requeued and limited by itself.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Their numbers, never used before; at most
    /// [`BATCH_TASKS_MAX`](stockade_wire::BATCH_TASKS_MAX).
    pub tasks: TaskRange,
    /// The driver's key.
    pub entry: EntryKey,
    /// Their module, against which a worker's death counts.
    pub module: ModuleId,
    /// Higher goes first; within one, first come, first served. Strict: a lower one waits for as
    /// long as a higher one has tasks in the queue. What runs is not interrupted.
    pub priority: i32,
    /// What each of them takes of a window at most, in bytes.
    pub task_bytes: usize,
    /// How long each may run; `None` is without limit.
    pub wall_time: Option<Duration>,
    /// How often each may be started again after it was lost with its worker.
    pub retries: u32,
}

/// An initializer or finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Before the first task, and again when a trap has cost a worker its instance.
    Initializer,
    /// After `Close`.
    Finalizer,
}

/// How a pool ends; a later one is harsher and replaces an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShutdownMode {
    /// Everything that was submitted finishes.
    Drain,
    /// Pending tasks are cancelled, running ones finish.
    Cancel,
    /// Running ones are ended too.
    Kill,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Tasks are to be run.
    Submit(Submission),
    /// Tasks' callers have taken them back, so that they never start: they stand in the queue, or were
    /// revoked on their worker's page before the worker came to them. They end at once. In a window,
    /// whatever stands behind them in their batch was revoked with them, and is queued again. Tasks of
    /// the range that have ended are passed over. Said before the [`HandedBack`](Self::HandedBack)
    /// that answers just that.
    Cancel(TaskRange),
    /// A task's caller wants it ended though it has started, as far as its worker's page says. Where
    /// it stands behind another, that one's answer is still on its way.
    CancelRunning(TaskId),
    /// Workers are to start without waiting for work, as far as the maximum allows.
    SpawnWorkers {
        /// Who asks, never used before; [`Action::Spawned`] answers.
        request: RequestId,
        /// How many; `None` is one for every pending task that no worker is free for.
        count: Option<usize>,
    },
    /// The snapshot is made: an answer to [`Action::Prepare`].
    Prepared,
    /// The snapshot cannot be made: an answer to [`Action::Prepare`].
    PreparationFailed,
    /// A worker is set up and has loaded every module.
    Ready(WorkerId),
    /// A worker reports that it has run tasks to their ends, one after the other. They may be of
    /// several consecutive batches of its window.
    Finished {
        /// Who says so.
        worker: WorkerId,
        /// Which tasks.
        tasks: TaskRange,
        /// How long they ran, all together: as the worker claims; it decides how much work it is
        /// given next.
        wall_time: Duration,
    },
    /// The rest of a batch was revoked on its worker's page: the answer to an [`Action::Recall`] that
    /// came in time for any task, said before the next action is polled. Where a caller was faster,
    /// this may be said or not. Nothing is said where every task had started.
    TakenBack {
        /// Whose page says so.
        worker: WorkerId,
        /// The first task that never starts there: the one of the recall, or one behind it. Those
        /// before it in its batch have started.
        task: TaskId,
    },
    /// A worker says that it has not run the rest of a batch because its page said so: whatever it
    /// answers as recalled, whether or not the driver still knows the tasks.
    HandedBack {
        /// Who says so.
        worker: WorkerId,
        /// The first task that it has not run.
        task: TaskId,
    },
    /// The driver did not send these tasks of an [`Action::Run`], because their callers have taken them
    /// back meanwhile; those before and behind them were sent as batches of their own. Said before the
    /// next action is polled, though an [`Action::Start`] of them may still follow; the worker will
    /// never hear of them, and they count among those the worker was given. What is left of the batch
    /// before and behind them takes a slot each, so the window may hold more batches than
    /// [`Config::window_batches_max`]. A driver whose page has no slot left sends the batch whole, with its
    /// rest revoked from the first of these tasks on, and says [`Cancel`](Self::Cancel) of them instead,
    /// before the next action is polled; here, too, an [`Action::Start`] of them may still follow.
    Withheld {
        /// To whom they were to be sent.
        worker: WorkerId,
        /// Which tasks.
        tasks: TaskRange,
    },
    /// Nothing behind the task that stands first in a worker's window has started, in its batch or
    /// behind that, or ever will: the answer to [`Action::Stop`].
    Stoppable {
        /// Whose window it is.
        worker: WorkerId,
        /// What stands first.
        task: TaskId,
    },
    /// A worker reports that its guest's hook failed.
    HookFailed {
        /// Who says so.
        worker: WorkerId,
        /// Which hook.
        hook: Hook,
    },
    /// A worker reports that it is finalized and about to exit.
    Closed(WorkerId),
    /// A worker sent an invalid or unexpected message.
    Misbehaved(WorkerId),
    /// A worker is gone: the last event about it, after everything that it sent.
    Exited {
        /// Who is gone.
        worker: WorkerId,
        /// The task that its status page claims was started last.
        started: Option<TaskId>,
    },
    /// What ends a worker, or keeps its process from being made, comes from outside: a signal that is
    /// nobody's of the pool, or a machine that has no more memory or processes. Said before the
    /// [`Exited`](Self::Exited) or [`SpawnFailed`](Self::SpawnFailed) that it brings about, by the kernel's
    /// word and never by the worker's.
    EndedFromOutside(WorkerId),
    /// A worker's process could not be made; the last event about it.
    SpawnFailed(WorkerId),
    /// The idle timeout changes, also for the workers that are idle now.
    SetIdleTimeout(Option<Duration>),
    /// From now on idle workers close, until no task and no worker is left.
    Join,
    /// That wait was given up.
    JoinGivenUp,
    /// The pool ends.
    Shutdown(ShutdownMode),
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the snapshot, then say [`Event::Prepared`] or [`Event::PreparationFailed`]. At most once.
    Prepare,
    /// Start a worker.
    Spawn(WorkerId),
    /// Send these tasks to a worker as one batch, behind what it has. Several such actions about one
    /// worker may follow each other. A task comes again if it was taken back, or not started, or lost
    /// and has retries left.
    Run(WorkerId, EntryKey, TaskRange),
    /// This task is now first in its worker's window and thus as good as running. Not said of one
    /// that was answered before it was known to be first.
    Start(EntryKey, TaskId),
    /// Revoke, on a worker's page, a task that is not first in its window, with all that stand behind
    /// it in its batch and as far as they have not started; say [`Event::TakenBack`]. Where they all
    /// have, or the worker is gone, say nothing.
    Recall(WorkerId, EntryKey, TaskId),
    /// The task that stands first in a worker's window is to be stopped, with the worker. Say
    /// [`Event::Stoppable`], unless its page says that a task behind it has started: then this one has
    /// ended, its answer is on its way, and a kill would cost the other. In that case, or where this
    /// is not first any more or the worker is gone, say nothing. What waits behind it was revoked.
    Stop(WorkerId, TaskId),
    /// Ask a worker that has no task to run its finalizers and exit.
    Close(WorkerId),
    /// End a worker now. Its [`Event::Exited`] is still to come.
    Kill(WorkerId),
    /// Tasks of one batch ended alike. Exactly once for every task, and the last action about it.
    Resolve(EntryKey, TaskRange, Resolution),
    /// The pool is broken. At most once, before the tasks that are cancelled by it.
    Broken(BrokenCause),
    /// A module has cost too many workers, and no task of it will start any more. Once for a module,
    /// before the tasks that are cancelled by it.
    Quarantine(ModuleId),
    /// This many workers have started for a request. Once for each request, when no requested
    /// worker is still to start, in any state of the pool.
    Spawned(RequestId, usize),
    /// No task and no worker is left since [`Event::Join`]. Once for every such event that was not
    /// given up or repeated.
    Joined,
    /// The pool has shut down: no task and no worker is left. Once. A preparation may still be
    /// under way; its answer is ignored.
    Terminated,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// As its worker reported; the driver has the answer.
    Finished,
    /// It ran for longer than its wall time.
    DeadlinePassed,
    /// Its worker died, and it has no retries left.
    WorkerLost,
    /// It never started, as far as is known.
    Cancelled(CancelReason),
    /// It was ended while it ran.
    CancelledRunning(CancelReason),
}

/// Why a task was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// Its caller cancelled it.
    Asked,
    /// The pool shuts down.
    Shutdown,
    /// The pool is broken.
    Broken,
    /// The task's module is quarantined.
    Quarantined,
}

/// Why a pool will never run another task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenCause {
    /// The initializer failed in a worker.
    Initializer,
    /// The finalizer failed in a worker.
    Finalizer,
    /// The snapshot could not be made.
    Preparation,
    /// One start after the other failed, or was ended from outside for too long.
    WorkersCannotStart,
}

/// The phase of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not yet ready.
    Starting,
    /// Ready, without a task.
    Idle,
    /// With tasks, or with batches that are to be handed back.
    Busy,
    /// On its own way out.
    Closing,
    /// Killed, and not yet gone.
    Dying,
}

/// Counters of workers and tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Processes, from their spawn until they are gone: the sum of the next four.
    pub workers: usize,
    /// Those not yet ready.
    pub starting: usize,
    /// Those with a task, or with a batch that is to be handed back.
    pub busy: usize,
    /// Those ready and without either.
    pub free: usize,
    /// Those that close or were killed, and are not yet gone.
    pub leaving: usize,
    /// Tasks that wait, in the queue or behind another in a window.
    pub pending_tasks: usize,
    /// Tasks that fill all windows, as far as the paces of their workers are known.
    pub window_tasks: usize,
}

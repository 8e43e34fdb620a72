//! The pool: what callers hold, what can be asked of it, and how it ends.
//!
//! ```text
//! Pool, Pool, … ──► Core ──► Link ◄── TaskCell ◄── TaskHandle
//!                    │        └─► Shared, commands to the driver, callbacks
//!                    └─► blueprint, counters, the pool's threads
//! ```
//!
//! Invariant: nobody but pools holds the [`Core`], so the last of them ends it; handles reach it
//! only through a link that does not keep it alive.
//!
//! Deliberately absent: submission, which is beside this in `submit`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use std::{fmt, io};

use stockade_wire::{ChunkId, Limits, ModuleDescription, Setup};

use crate::callbacks::Callbacks;
use crate::cancelled::CancelledTask;
use crate::driver::{Driver, Parts, Request as DriverRequest};
use crate::ending::{Ending, How};
use crate::event_loop::{EventLoop, is_own_thread};
use crate::hooks::Hook;
use crate::link::Link;
use crate::options::WhenFull;
use crate::poller::Poller;
use crate::prepare::Preparation;
use crate::process;
use crate::semaphore::Semaphore;
use crate::shared::{Shared, WorkerInfo};
use crate::spec::TaskSpecs;
use crate::supervisor::Supervisor;
use crate::target::ModuleEntry;
use crate::watch::Tally;
use crate::worker::Loadable;
use crate::{BrokenError, LockdownError, PoolBuilder, PoolLockdown, SubmitError, lockdown};
use stockade_dispatcher::{Config, Dispatcher, RequestId};

/// What the builder leaves to be started.
#[derive(Clone)]
pub(crate) struct Blueprint {
    pub(crate) config: Config,
    pub(crate) max_pending_tasks: Option<usize>,
    pub(crate) when_full: WhenFull,
    pub(crate) shutdown_grace_period: Duration,
    /// Whether the feature `metrics` counts what happens here.
    pub(crate) metered: bool,
    pub(crate) program: PathBuf,
    pub(crate) setup: Setup,
    pub(crate) name: String,
    pub(crate) modules: Vec<ModuleEntry>,
    pub(crate) loadables: Vec<Loadable>,
    pub(crate) preparation: Option<Preparation>,
    pub(crate) initializer: Option<Hook>,
    pub(crate) finalizer: Option<Hook>,
}

/// A pool of worker processes that run the functions of its modules.
///
/// Workers start when there is work for them, up to the maximum, and close when they have had none
/// for a while. Every method may be called from any thread; none waits behind a running task but
/// those that say so. A clone is the same pool; dropping the last shuts it down.
#[derive(Clone)]
pub struct Pool {
    pub(crate) core: Arc<Core>,
}

/// What the clones of a pool share; its end is the pool's.
pub(crate) struct Core {
    pub(crate) blueprint: Blueprint,
    pub(crate) link: Arc<Link>,
    pub(crate) spec: TaskSpecs,
    ending: Arc<Ending>,
    pub(crate) task_count: AtomicU64,
    chunk_count: AtomicU64,
    request_count: AtomicU64,
    lockdown: OnceLock<PoolLockdown>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.blueprint.name).finish_non_exhaustive()
    }
}

impl PartialEq for Pool {
    /// Whether both are the same pool.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }
}

/// A pool's tasks and workers did not finish in time; they go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pool did not become empty within {0:?}")]
pub struct JoinTimeout(pub Duration);

/// Making one.
impl Pool {
    /// Begins to build a pool.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }

    /// Begins to build a pool of one worker.
    pub fn single() -> PoolBuilder {
        Self::builder().max_workers(1)
    }

    /// Begins to build a pool of two workers.
    pub fn dual() -> PoolBuilder {
        Self::builder().max_workers(2)
    }

    /// Begins to build a pool of three workers.
    pub fn triple() -> PoolBuilder {
        Self::builder().max_workers(3)
    }

    /// Begins to build a pool of four workers.
    pub fn quad() -> PoolBuilder {
        Self::builder().max_workers(4)
    }

    pub(crate) fn start(blueprint: Blueprint) -> io::Result<Self> {
        let room = blueprint.max_pending_tasks.map(|tasks| Arc::new(Semaphore::new(tasks)));
        let shared = Arc::new(Shared::new(room, blueprint.config.idle_timeout));
        let callbacks = Callbacks::new(blueprint.name.clone());
        let poller = Arc::new(Poller::new()?);
        let event_loop = Arc::new(EventLoop::new(Some(poller.clone()), shared.clone()));
        let link = Arc::new(Link::new(event_loop.clone(), callbacks, shared.clone()));
        let (supervisor, supervisor_thread) = Supervisor::start(
            format!("{}-supervisor", blueprint.name),
            blueprint.program.clone(),
            Arc::downgrade(&event_loop),
            Tally { pool: blueprint.name.clone(), metered: blueprint.metered },
            shared.clone(),
        )?;
        let parts = Parts {
            dispatcher: Dispatcher::new(blueprint.config.clone()),
            supervisor,
            poller,
            setup: blueprint.setup.clone(),
            pool_name: blueprint.name.clone(),
            modules: blueprint.loadables.clone(),
            preparation: blueprint.preparation.clone(),
            quarantine_after: blueprint.config.losses_in_a_row_max,
            epoch: link.made(),
            shared,
            event_loop: Arc::downgrade(&event_loop),
        };
        event_loop.begin(Driver::new(parts));
        let name = format!("{}-driver", blueprint.name);
        let driver = std::thread::Builder::new().name(name).spawn(move || {
            event_loop.serve();
        })?;
        let limits = Arc::new(blueprint.setup.limits.clone());
        let ending = Arc::new(Ending {
            link: link.clone(),
            pool: blueprint.name.clone(),
            wall_time: limits.wall_time,
            grace_period: blueprint.shutdown_grace_period,
            threads: Mutex::new(vec![driver, supervisor_thread]),
        });
        let core = Arc::new(Core {
            spec: TaskSpecs::new(link.clone(), limits, &blueprint.modules),
            blueprint,
            link,
            ending,
            task_count: AtomicU64::new(0),
            chunk_count: AtomicU64::new(0),
            request_count: AtomicU64::new(0),
            lockdown: OnceLock::new(),
        });
        core.link.lead_to(Arc::downgrade(&core));
        let (pool, workers_max) = (&core.blueprint.name, core.blueprint.config.workers_max);
        tracing::debug!(target: "stockade::pool", pool, workers_max, "a pool begins");
        Ok(Self { core })
    }

    pub(crate) fn from_core(core: Arc<Core>) -> Self {
        Self { core }
    }
}

/// What it was built with.
impl Pool {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.core.blueprint.name
    }

    /// The most workers it may have at a time.
    pub fn max_workers(&self) -> usize {
        self.core.blueprint.config.workers_max
    }

    /// How long a worker stays without work, as last set; `None` for ever.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.core.link.shared.idle_timeout()
    }

    /// After how many tasks a worker closes; `None` for never.
    pub fn max_tasks_per_worker(&self) -> Option<u64> {
        self.core.blueprint.config.tasks_per_worker_max
    }

    /// How many tasks may be pending; `None` for any number.
    pub fn max_pending_tasks(&self) -> Option<usize> {
        self.core.blueprint.max_pending_tasks
    }

    /// What one task may use.
    pub fn limits(&self) -> &Limits {
        &self.core.blueprint.setup.limits
    }

    /// What became of each layer of the lockdown in this pool's workers and compilers. The first call
    /// asks one process of each role, started for it alone, and blocks for the few milliseconds that
    /// takes; the answer is kept.
    ///
    /// # Errors
    /// [`LockdownError`] where such a process could not be asked.
    ///
    /// ```no_run
    /// # let pool = stockade::Pool::builder().module("tasks.wasm").build()?;
    /// for layer in &pool.lockdown()?.worker.0 {
    ///     println!("{:18} {:8} {}", layer.layer, layer.level, layer.reason);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lockdown(&self) -> Result<&PoolLockdown, LockdownError> {
        if let Some(known) = self.core.lockdown.get() {
            return Ok(known);
        }
        let Blueprint { program, setup, .. } = &self.core.blueprint;
        let found = lockdown::ask(program, setup)?;
        Ok(self.core.lockdown.get_or_init(|| found))
    }

    /// What runs before the first task, and with what.
    pub fn initializer(&self) -> Option<&Hook> {
        self.core.blueprint.initializer.as_ref()
    }

    /// What runs when a worker closes, and with what.
    pub fn finalizer(&self) -> Option<&Hook> {
        self.core.blueprint.finalizer.as_ref()
    }

    /// The program that its workers are processes of.
    pub fn worker_program(&self) -> &Path {
        &self.core.blueprint.program
    }

    /// Its modules by name, each with what it holds.
    pub fn modules(&self) -> impl Iterator<Item = (&str, &ModuleDescription)> {
        let modules = self.core.blueprint.modules.iter();
        modules.map(|module| (module.name.as_str(), &module.description))
    }
}

/// How things stand. Nothing here waits.
impl Pool {
    /// Whether it takes tasks.
    ///
    /// # Errors
    /// [`SubmitError::Closed`] from the start of its shutdown, else [`SubmitError::Broken`] with the
    /// cause.
    pub fn check(&self) -> Result<(), SubmitError> {
        self.core.check()
    }

    /// The workers that are alive, as the driver last saw them, with the memory they have now.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        let workers = self.core.link.event_loop.ask(Driver::worker_infos);
        let mut workers = workers.unwrap_or_default();
        for worker in &mut workers {
            worker.memory_bytes = process::memory_of(worker.pid);
        }
        workers
    }

    /// How many workers are alive, whatever they do.
    pub fn count_workers(&self) -> usize {
        self.core.link.shared.counts().workers
    }

    /// How many workers have a task.
    pub fn count_busy_workers(&self) -> usize {
        self.core.link.shared.counts().busy
    }

    /// How many workers are ready and have none.
    pub fn count_free_workers(&self) -> usize {
        self.core.link.shared.counts().free
    }

    /// How many tasks wait to be started.
    pub fn count_pending_tasks(&self) -> usize {
        // What was left for the driver is pending too.
        self.core.link.event_loop.settle();
        self.core.link.shared.counts().pending_tasks
    }

    /// Tasks that the pool itself cancelled, by its shutdown or because it broke, in the order of
    /// their submission, with what is needed to submit them elsewhere; after a [`kill`](Self::kill)
    /// those that were running, too. Those that a handle cancelled
    /// are not among them. Kept until the pool is dropped.
    pub fn cancelled_tasks(&self) -> Vec<CancelledTask> {
        self.core.link.shared.cancelled_tasks()
    }

    /// Whether a shutdown has begun.
    pub fn is_closed(&self) -> bool {
        self.core.link.shared.is_closed()
    }

    /// Whether a shutdown has ended: no task and no worker is left.
    pub fn is_terminated(&self) -> bool {
        self.core.link.shared.is_terminated()
    }

    /// Whether the pool is broken; stays so after its shutdown.
    pub fn is_broken(&self) -> bool {
        self.broken().is_some()
    }

    /// What broke the pool.
    pub fn broken(&self) -> Option<Arc<BrokenError>> {
        self.core.link.shared.broken()
    }
}

/// Its workers, and its end.
impl Pool {
    /// Starts workers ahead of need, so many at most and up to the maximum; `None`: as many as there
    /// are pending tasks without a worker. Blocks until their processes are made, not until they are
    /// ready, and says how many these are; the first time that includes initialising the module. On one
    /// of a pool's own threads, see [`shutdown`](Self::shutdown), it does not wait, and says 0.
    ///
    /// # Errors
    /// As [`check`](Self::check), before or after.
    pub fn spawn_workers(&self, count: impl Into<Option<usize>>) -> Result<usize, SubmitError> {
        self.check()?;
        let (started, answer) = crossbeam_channel::bounded(1);
        let request = RequestId(self.core.request_count.fetch_add(1, Ordering::Relaxed));
        let command = DriverRequest::SpawnWorkers { request, count: count.into(), started };
        self.core.link.tell(command)?;
        if is_own_thread() {
            return Ok(0);
        }
        // The driver answers, or ends and drops its side.
        let started = answer.recv().map_err(|_| SubmitError::Closed)?;
        self.check()?;
        Ok(started)
    }

    /// Starts workers up to the maximum, as [`spawn_workers`](Self::spawn_workers).
    ///
    /// # Errors
    /// As [`check`](Self::check), before or after.
    pub fn spawn_max_workers(&self) -> Result<usize, SubmitError> {
        self.spawn_workers(self.max_workers())
    }

    /// Changes how long a worker stays without work, also for those idle now; `None` for ever.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn set_idle_timeout(
        &self,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<(), SubmitError> {
        self.check()?;
        let timeout = timeout.into();
        self.core.link.shared.set_idle_timeout(timeout);
        self.core.link.tell(DriverRequest::SetIdleTimeout(timeout))
    }

    /// Blocks until every task has finished and every worker has closed, finalizers included. The
    /// pool stays open, and starts workers again when there is work.
    ///
    /// # Errors
    /// [`JoinTimeout`] where that takes longer than `timeout`; everything goes on then. On one of a
    /// pool's own threads, see [`shutdown`](Self::shutdown), nothing is waited for.
    pub fn join(&self, timeout: impl Into<Option<Duration>>) -> Result<(), JoinTimeout> {
        let (done, wait) = crossbeam_channel::bounded(1);
        let join = self.core.request_count.fetch_add(1, Ordering::Relaxed);
        if self.core.link.tell(DriverRequest::Join { join, done }).is_err() {
            return Ok(());
        }
        let is_own = is_own_thread();
        let timeout = if is_own { Some(Duration::ZERO) } else { timeout.into() };
        let Some(timeout) = timeout else {
            // The driver answers, or ends and drops its side.
            let _ = wait.recv();
            return Ok(());
        };
        match wait.recv_timeout(timeout) {
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => {
                let _ = self.core.link.tell(DriverRequest::JoinGivenUp(join));
                Err(JoinTimeout(timeout))
            }
            _ => Ok(()),
        }
    }

    /// Shuts the pool down: cancels pending tasks, waits for running ones within their wall times,
    /// runs finalizers, waits for callbacks. Says false, and waits all the same, where a shutdown
    /// had already begun.
    ///
    /// Ends in any case: after the wall time and the grace period, what still runs is killed, and a
    /// callback that blocks is left behind.
    ///
    /// A waker or a subscriber of `tracing` may run on one of a pool's own threads, which cannot wait
    /// for their own end: there this and every other way to end a pool, the drop of the last one
    /// included, only begins it, and a thread named after the pool sees to the rest.
    pub fn shutdown(&self) -> bool {
        self.core.ending.end(How::Shutdown)
    }

    /// As [`shutdown`](Self::shutdown), and kills what has not ended after `timeout`.
    pub fn shutdown_timeout(&self, timeout: Duration) -> bool {
        self.core.ending.end(How::Within(timeout))
    }

    /// Shuts the pool down after everything that was submitted has finished. Blocks for as long as
    /// that takes.
    pub fn drain(&self) -> bool {
        self.core.ending.end(How::Drain)
    }

    /// Ends the pool now: running tasks are cancelled with their workers, finalizers do not run,
    /// callbacks are not waited for.
    pub fn kill(&self) -> bool {
        self.core.ending.end(How::Kill)
    }
}

impl Core {
    pub(crate) fn new_chunk(&self) -> ChunkId {
        ChunkId(self.chunk_count.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.ending.end(How::Shutdown);
    }
}

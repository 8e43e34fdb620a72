//! The pool: the handle that callers hold, its queries, and its shutdown.
//!
//! ```text
//! Pool, Pool, … ──► Core ──► EventLoop: requests to the driver
//!                    ├─► Link ◄── TaskCell ◄── TaskHandle
//!                    │     └─► Shared, callbacks, the event loop as a `Backend`
//!                    └─► blueprint, counters, the pool's threads
//! ```
//!
//! Invariant: only `Pool`s hold the [`Core`], so the last of them ends it. Handles have a link to
//! it that does not keep it alive.
//!
//! Deliberately absent: submission, which is in `submit`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;
use std::{fmt, io};

use stockade_wire::{ChunkId, Limits, ModuleDescription, Setup};

use crate::api::ending::{Ending, How};
use crate::api::hooks::Hook;
use crate::backend::driver::{Driver, Parts};
use crate::backend::event_loop::EventLoop;
use crate::backend::own_thread::is_own_thread;
use crate::backend::poller::Poller;
use crate::backend::request::Request;
use crate::backend::supervisor::Supervisor;
use crate::call::cancelled::CancelledTask;
use crate::call::options::WhenFull;
use crate::call::target::ModuleEntry;
use crate::compile::prepare::Preparation;
use crate::outcome::error::{BrokenError, SubmitError};
use crate::outcome::lockdown_error::LockdownError;
use crate::process::loadable::Loadable;
use crate::process::lockdown::{self, PoolLockdown};
use crate::process::start;
use crate::state::callbacks::Callbacks;
use crate::state::link::{Link, PoolCore};
#[cfg(feature = "metrics")]
use crate::state::meters;
use crate::state::semaphore::Semaphore;
use crate::state::shared::{Shared, WorkerInfo};
use crate::state::spec::TaskSpecs;
use crate::state::watch::Tally;
use stockade_dispatcher::{Config, Dispatcher, RequestId};

/// The checked configuration of a pool that is not started.
#[derive(Clone)]
pub(crate) struct Blueprint {
    pub(crate) config: Config,
    pub(crate) max_pending_tasks: Option<usize>,
    pub(crate) when_full: WhenFull,
    pub(crate) shutdown_grace_period: Duration,
    /// Whether the feature `metrics` records this pool.
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
/// for a while. Every method may be called from any thread; only methods that say so wait for
/// running tasks. A clone is the same pool; dropping the last clone shuts the pool down.
#[derive(Clone)]
pub struct Pool {
    pub(crate) core: Arc<Core>,
}

/// Shared by the clones of a pool; dropping it ends the pool.
pub(crate) struct Core {
    pub(crate) blueprint: Blueprint,
    pub(crate) event_loop: Arc<EventLoop>,
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

impl PoolCore for Core {}

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

impl Pool {
    pub(crate) fn start(blueprint: Blueprint) -> io::Result<Self> {
        let room = blueprint.max_pending_tasks.map(|tasks| Arc::new(Semaphore::new(tasks)));
        let shared = Arc::new(Shared::new(room, blueprint.config.idle_timeout));
        let callbacks = Callbacks::new(blueprint.name.clone());
        let poller = Arc::new(Poller::new()?);
        let event_loop = Arc::new(EventLoop::new(Some(poller.clone()), shared.clone()));
        let link = Arc::new(Link::new(event_loop.clone(), callbacks, shared.clone()));
        let queue: Weak<EventLoop> = Arc::downgrade(&event_loop);
        let (supervisor, supervisor_thread) = Supervisor::start(
            format!("{}-supervisor", blueprint.name),
            blueprint.program.clone(),
            queue.clone(),
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
            event_loop: queue,
        };
        event_loop.begin(Driver::new(parts));
        let name = format!("{}-driver", blueprint.name);
        let served = event_loop.clone();
        let driver = std::thread::Builder::new().name(name).spawn(move || served.serve())?;
        let limits = Arc::new(blueprint.setup.limits.clone());
        let ending = Arc::new(Ending {
            event_loop: event_loop.clone(),
            link: link.clone(),
            pool: blueprint.name.clone(),
            wall_time: limits.wall_time,
            grace_period: blueprint.shutdown_grace_period,
            threads: Mutex::new(vec![driver, supervisor_thread]),
        });
        let core = Arc::new(Core {
            spec: TaskSpecs::new(link.clone(), limits, &blueprint.modules),
            blueprint,
            event_loop,
            link,
            ending,
            task_count: AtomicU64::new(0),
            chunk_count: AtomicU64::new(0),
            request_count: AtomicU64::new(0),
            lockdown: OnceLock::new(),
        });
        let weak: Weak<Core> = Arc::downgrade(&core);
        core.link.lead_to(weak);
        let (pool, workers_max) = (&core.blueprint.name, core.blueprint.config.workers_max);
        tracing::debug!(target: "stockade::pool", pool, workers_max, "a pool begins");
        Ok(Self { core })
    }

    /// The pool that `link` leads to, if somebody still holds it.
    pub(crate) fn of(link: &Link) -> Option<Self> {
        let core = link.core()?.downcast().ok()?;
        Some(Self { core })
    }
}

/// Configuration.
impl Pool {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.core.blueprint.name
    }

    /// The maximum number of workers.
    pub fn max_workers(&self) -> usize {
        self.core.blueprint.config.workers_max
    }

    /// How long an idle worker stays before it closes, as last set; `None`: it never closes.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.core.link.shared.idle_timeout()
    }

    /// The number of tasks after which a worker closes; `None`: never.
    pub fn max_tasks_per_worker(&self) -> Option<u64> {
        self.core.blueprint.config.tasks_per_worker_max
    }

    /// The maximum number of pending tasks; `None`: no maximum.
    pub fn max_pending_tasks(&self) -> Option<usize> {
        self.core.blueprint.max_pending_tasks
    }

    /// The limits of each task.
    pub fn limits(&self) -> &Limits {
        &self.core.blueprint.setup.limits
    }

    /// The state of each layer of the lockdown in this pool's workers and compilers. The first call
    /// starts one process of each role to ask it, and blocks for a few milliseconds; the answer is
    /// cached.
    ///
    /// # Errors
    /// [`LockdownError`] if such a process could not be asked.
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

    /// The initializer and its arguments.
    pub fn initializer(&self) -> Option<&Hook> {
        self.core.blueprint.initializer.as_ref()
    }

    /// The finalizer, which runs when a worker closes, and its arguments.
    pub fn finalizer(&self) -> Option<&Hook> {
        self.core.blueprint.finalizer.as_ref()
    }

    /// The program of its workers.
    pub fn worker_program(&self) -> &Path {
        &self.core.blueprint.program
    }

    /// Its modules by name, each with its description.
    pub fn modules(&self) -> impl Iterator<Item = (&str, &ModuleDescription)> {
        let modules = self.core.blueprint.modules.iter();
        modules.map(|module| (module.name.as_str(), &module.description))
    }
}

/// State. Nothing here blocks.
impl Pool {
    /// Checks whether the pool accepts tasks.
    ///
    /// # Errors
    /// [`SubmitError::Closed`] from the start of its shutdown, else [`SubmitError::Broken`] with the
    /// cause.
    pub fn check(&self) -> Result<(), SubmitError> {
        self.core.check()
    }

    /// The live workers, as the driver last saw them, with their present memory.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        let workers = self.core.event_loop.ask(Driver::worker_infos);
        let mut workers = workers.unwrap_or_default();
        for worker in &mut workers {
            worker.memory_bytes = start::memory_of(worker.pid);
        }
        workers
    }

    /// The number of live workers.
    pub fn count_workers(&self) -> usize {
        self.core.link.shared.counts().workers
    }

    /// The number of workers that have a task.
    pub fn count_busy_workers(&self) -> usize {
        self.core.link.shared.counts().busy
    }

    /// The number of idle workers.
    pub fn count_free_workers(&self) -> usize {
        self.core.link.shared.counts().free
    }

    /// The number of pending tasks.
    pub fn count_pending_tasks(&self) -> usize {
        // What was left for the driver is pending too.
        self.core.event_loop.settle();
        self.core.link.shared.counts().pending_tasks
    }

    /// Updates the gauges among [`METRICS`](crate::METRICS). Call it before each scrape, or every few
    /// seconds; counters and histograms do not need it. Blocks while the system reads each worker's memory.
    #[cfg(feature = "metrics")]
    pub fn sample_metrics(&self) {
        meters::sample(self.name(), &self.workers(), self.count_pending_tasks());
    }

    /// The tasks that the pool cancelled, by its shutdown or because it broke, in the order of
    /// submission, with all that is needed to submit them elsewhere. After a [`kill`](Self::kill)
    /// these include running tasks. Tasks that a handle cancelled are not included. Kept until the
    /// pool is dropped.
    pub fn cancelled_tasks(&self) -> Vec<CancelledTask> {
        self.core.link.shared.cancelled_tasks()
    }

    /// Whether a shutdown has begun.
    pub fn is_closed(&self) -> bool {
        self.core.link.shared.is_closed()
    }

    /// Whether a shutdown has completed: no task and no worker is left.
    pub fn is_terminated(&self) -> bool {
        self.core.link.shared.is_terminated()
    }

    /// Whether the pool is broken; also true after its shutdown.
    pub fn is_broken(&self) -> bool {
        self.broken().is_some()
    }

    /// What broke the pool.
    pub fn broken(&self) -> Option<Arc<BrokenError>> {
        self.core.link.shared.broken()
    }
}

/// Workers and shutdown.
impl Pool {
    /// Starts at most `count` workers ahead of need, up to the pool's maximum; `None`: one for each
    /// pending task without a worker. Blocks until their processes exist, but not until they are
    /// ready, and returns their number. The first call also initialises the module. On one of a
    /// pool's own threads, see [`shutdown`](Self::shutdown), it does not block, and returns 0.
    ///
    /// # Errors
    /// As [`check`](Self::check), before or after.
    pub fn spawn_workers(&self, count: impl Into<Option<usize>>) -> Result<usize, SubmitError> {
        self.check()?;
        let (started, answer) = crossbeam_channel::bounded(1);
        let request = RequestId(self.core.request_count.fetch_add(1, Ordering::Relaxed));
        let command = Request::SpawnWorkers { request, count: count.into(), started };
        self.core.event_loop.tell(command)?;
        if is_own_thread() {
            return Ok(0);
        }
        // The driver answers, or ends and drops its side.
        let started = answer.recv().map_err(|_| SubmitError::Closed)?;
        self.check()?;
        Ok(started)
    }

    /// As [`spawn_workers`](Self::spawn_workers), up to the pool's maximum.
    ///
    /// # Errors
    /// As [`check`](Self::check), before or after.
    pub fn spawn_max_workers(&self) -> Result<usize, SubmitError> {
        self.spawn_workers(self.max_workers())
    }

    /// Changes how long an idle worker stays, also for workers that are idle now; `None`: it never
    /// closes.
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
        self.core.event_loop.tell(Request::SetIdleTimeout(timeout))
    }

    /// Blocks until every task has finished and every worker has closed, finalizers included. The
    /// pool stays open, and starts workers again when there is work.
    ///
    /// # Errors
    /// [`JoinTimeout`] if that takes longer than `timeout`; nothing is cancelled. On one of a
    /// pool's own threads, see [`shutdown`](Self::shutdown), it does not block.
    pub fn join(&self, timeout: impl Into<Option<Duration>>) -> Result<(), JoinTimeout> {
        let (done, wait) = crossbeam_channel::bounded(1);
        let join = self.core.request_count.fetch_add(1, Ordering::Relaxed);
        if self.core.event_loop.tell(Request::Join { join, done }).is_err() {
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
                let _ = self.core.event_loop.tell(Request::JoinGivenUp(join));
                Err(JoinTimeout(timeout))
            }
            _ => Ok(()),
        }
    }

    /// Shuts the pool down: cancels pending tasks, waits for running ones within their wall times,
    /// runs finalizers, and waits for callbacks. Returns false if a shutdown had already begun, and
    /// waits for it too.
    ///
    /// It always returns: after the wall time and the grace period, running tasks are killed, and a
    /// callback that still blocks is abandoned.
    ///
    /// A waker or a subscriber of `tracing` may run on one of a pool's own threads, which cannot
    /// wait for their own end. There, all methods that end a pool, and the drop of the last `Pool`,
    /// only begin the shutdown; a thread named after the pool completes it.
    pub fn shutdown(&self) -> bool {
        self.core.ending.end(How::Shutdown)
    }

    /// As [`shutdown`](Self::shutdown), but kills tasks and workers that have not ended after
    /// `timeout`.
    pub fn shutdown_timeout(&self, timeout: Duration) -> bool {
        self.core.ending.end(How::Within(timeout))
    }

    /// Shuts the pool down after all submitted tasks have ended. Blocks until then.
    pub fn drain(&self) -> bool {
        self.core.ending.end(How::Drain)
    }

    /// Ends the pool now: kills workers, which cancels running tasks; runs no finalizers, and does
    /// not wait for callbacks.
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

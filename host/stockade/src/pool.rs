//! The pool: what callers hold. Checks and encodes in the caller's thread, and leaves the rest to
//! the driver.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, io};

use crossbeam_channel::Sender;
use stockade_wire::{
    Codec, HostMessage, Invocation, Limits, ModuleDescription, Run, Setup, Stdin, TaskId,
};

use crate::arguments::{self, Arguments};
use crate::command::Command;
use crate::dispatcher::{ChunkId, Config, Dispatcher, ShutdownMode};
use crate::driver::{Command as DriverCommand, Driver, Parts};
use crate::entry::TaskEntry;
use crate::map::{Map, Singles};
use crate::prepare::Preparation;
use crate::shared::{Shared, WorkerInfo};
use crate::target::{self, COMMAND_ENTRY, Callable, CallableKind, ModuleEntry, Target};
use crate::task::{TaskCell, TaskHandle, TaskResult};
use crate::worker::Loadable;
use crate::{BrokenError, CommandOutput, PoolBuilder, RunError, SubmitError};

/// What the builder leaves to be started.
pub(crate) struct Blueprint {
    pub(crate) config: Config,
    pub(crate) shutdown_grace_period: Duration,
    pub(crate) program: PathBuf,
    pub(crate) setup: Setup,
    pub(crate) name: String,
    pub(crate) modules: Vec<ModuleEntry>,
    pub(crate) loadables: Vec<Loadable>,
    pub(crate) preparation: Option<Preparation>,
}

/// A pool of worker processes that run the functions of its modules.
///
/// Workers start when there is work for them, up to the maximum, and close when they have had none
/// for a while. Every method may be called from any thread; none waits behind a running task but
/// those that say so. Dropping the pool shuts it down.
pub struct Pool {
    name: String,
    max_workers: usize,
    limits: Limits,
    shutdown_grace_period: Duration,
    modules: Vec<ModuleEntry>,
    shared: Arc<Shared>,
    commands: Sender<DriverCommand>,
    driver: Mutex<Option<JoinHandle<()>>>,
    task_count: AtomicU64,
    chunk_count: AtomicU64,
    join_count: AtomicU64,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A pool's tasks and workers did not finish in time; they go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pool did not become empty within {0:?}")]
pub struct JoinTimeout(pub Duration);

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
        let (commands_sender, commands) = crossbeam_channel::unbounded();
        let shared = Arc::new(Shared::default());
        let pool = Self {
            name: blueprint.name.clone(),
            max_workers: blueprint.config.workers_max,
            limits: blueprint.setup.limits.clone(),
            shutdown_grace_period: blueprint.shutdown_grace_period,
            modules: blueprint.modules,
            shared: shared.clone(),
            commands: commands_sender.clone(),
            driver: Mutex::new(None),
            task_count: AtomicU64::new(0),
            chunk_count: AtomicU64::new(0),
            join_count: AtomicU64::new(0),
        };
        let parts = Parts {
            dispatcher: Dispatcher::new(blueprint.config),
            program: blueprint.program,
            setup: blueprint.setup,
            pool_name: blueprint.name,
            modules: blueprint.loadables,
            preparation: blueprint.preparation,
            shared: shared.clone(),
            commands,
            commands_sender,
        };
        let thread =
            std::thread::Builder::new().name(format!("{}-driver", pool.name)).spawn(move || {
                // Even a driver that panics lets nobody wait for ever.
                let _end = TerminateOnDrop(shared);
                Driver::new(parts).run();
            })?;
        *pool.driver.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(pool)
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The most workers it may have at a time.
    pub fn max_workers(&self) -> usize {
        self.max_workers
    }

    /// What one task may use.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Its modules by name, each with what it holds.
    pub fn modules(&self) -> impl Iterator<Item = (&str, &ModuleDescription)> {
        self.modules.iter().map(|module| (module.name.as_str(), &module.description))
    }

    /// Whether it takes tasks.
    ///
    /// # Errors
    /// [`SubmitError::Closed`] from the start of its shutdown, else [`SubmitError::Broken`] with the
    /// cause.
    pub fn check(&self) -> Result<(), SubmitError> {
        if self.shared.is_closed() {
            return Err(SubmitError::Closed);
        }
        self.shared.broken().map_or(Ok(()), |cause| Err(SubmitError::Broken(cause)))
    }

    /// Submits a task. Encodes the arguments now, so later changes do not reach the task; never
    /// blocks.
    ///
    /// # Errors
    /// [`SubmitError`]: nothing was queued.
    pub fn submit<T: TaskResult>(
        &self,
        target: impl Into<Target>,
        arguments: impl Arguments,
    ) -> Result<TaskHandle<T>, SubmitError> {
        self.submit_chunk(&target.into(), arguments, None)
    }

    /// Submits a task and blocks for its result.
    ///
    /// # Errors
    /// [`RunError`], of the submission or of the task.
    pub fn run<T: TaskResult>(
        &self,
        target: impl Into<Target>,
        arguments: impl Arguments,
    ) -> Result<T, RunError> {
        Ok(self.submit(target, arguments)?.result()?)
    }

    /// Submits a run of the pool's command, the module's `_start`. Never blocks.
    ///
    /// # Errors
    /// [`SubmitError`]: nothing was queued.
    pub fn submit_command(
        &self,
        command: Command,
    ) -> Result<TaskHandle<CommandOutput>, SubmitError> {
        self.submit_command_of(COMMAND_ENTRY, command)
    }

    /// As [`submit_command`](Self::submit_command), for a pool of several modules: the target is
    /// `(module, "_start")`.
    ///
    /// # Errors
    /// [`SubmitError`]: nothing was queued.
    pub fn submit_command_of(
        &self,
        target: impl Into<Target>,
        command: Command,
    ) -> Result<TaskHandle<CommandOutput>, SubmitError> {
        self.check()?;
        let target = target.into();
        let (module, callable) = target::resolve(&self.modules, &target)?;
        if callable.kind != CallableKind::Command {
            return Err(SubmitError::Signature {
                function: callable.name.clone(),
                problem: "it is a function, not a command".into(),
                signature: callable.signature(),
            });
        }
        let (call, descriptors) = command.into_parts();
        let text_bytes = call.args.iter().map(String::len).sum::<usize>()
            + call.env.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if text_bytes > COMMAND_TEXT_BYTES_MAX {
            return Err(SubmitError::Encode {
                function: callable.name.clone(),
                reason: format!(
                    "arguments and environment have {text_bytes} bytes, where \
                     {COMMAND_TEXT_BYTES_MAX} are allowed"
                ),
            });
        }
        if let Stdin::Bytes(bytes) = &call.stdin {
            arguments::check_bytes(&callable.name, "stdin has", bytes.len())?;
        }
        self.enqueue((module, callable), &target, Invocation::Command(call), descriptors, None)
    }

    /// Applies a function of one parameter to every item of `items`, in order.
    ///
    /// Lazy: takes items only as results are taken, and a few ahead to keep every worker busy.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = stockade::Pool::builder().module("tasks.wasm").build()?;
    /// for count in pool.map::<u64, _, _>("word_count", ["to be", "or not to be"]) {
    ///     println!("{}", count?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn map<T, A, I>(
        &self,
        target: impl Into<Target>,
        items: I,
    ) -> Map<'_, T, Singles<I::IntoIter>>
    where
        T: TaskResult,
        A: serde::Serialize,
        I: IntoIterator<Item = A>,
    {
        Map::new(self, target.into(), Singles(items.into_iter()))
    }

    /// As [`map`](Self::map), for functions of several parameters: items are whole [`Arguments`].
    pub fn starmap<T, A, I>(&self, target: impl Into<Target>, items: I) -> Map<'_, T, I::IntoIter>
    where
        T: TaskResult,
        A: Arguments,
        I: IntoIterator<Item = A>,
    {
        Map::new(self, target.into(), items.into_iter())
    }

    /// Submits several tasks of one function that travel to a worker together, as a chunk of a
    /// [`map`](Self::map) does: each still gets an instance of its own and ends on its own. Never
    /// blocks.
    ///
    /// Gives the handles in the order of `items`, each with the error of its own submission.
    pub fn submit_together<T: TaskResult, A: Arguments>(
        &self,
        target: impl Into<Target>,
        items: impl IntoIterator<Item = A>,
    ) -> Vec<Result<TaskHandle<T>, SubmitError>> {
        let (target, chunk) = (target.into(), Some(self.new_chunk()));
        items.into_iter().map(|arguments| self.submit_chunk(&target, arguments, chunk)).collect()
    }

    /// Starts workers ahead of need, at most up to the maximum.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn spawn_workers(&self, workers: usize) -> Result<(), SubmitError> {
        self.check()?;
        self.tell(DriverCommand::SpawnWorkers(workers))
    }

    /// Changes how long a worker stays without work, also for those idle now.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn set_idle_timeout(&self, timeout: Option<Duration>) -> Result<(), SubmitError> {
        self.check()?;
        self.tell(DriverCommand::SetIdleTimeout(timeout))
    }

    /// The workers that are alive, as the driver last saw them.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        self.shared.workers()
    }

    /// How many workers are alive, whatever they do.
    pub fn count_workers(&self) -> usize {
        self.shared.counts().workers
    }

    /// How many workers have a task.
    pub fn count_busy_workers(&self) -> usize {
        self.shared.counts().busy
    }

    /// How many workers are ready and have none.
    pub fn count_free_workers(&self) -> usize {
        self.shared.counts().free
    }

    /// How many tasks wait to be started.
    pub fn count_pending_tasks(&self) -> usize {
        self.shared.counts().pending_tasks
    }

    /// Whether a shutdown has begun.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// Whether a shutdown has ended: no task and no worker is left.
    pub fn is_terminated(&self) -> bool {
        self.shared.is_terminated()
    }

    /// Whether the pool is broken; stays so after its shutdown.
    pub fn is_broken(&self) -> bool {
        self.shared.broken().is_some()
    }

    /// What broke the pool.
    pub fn broken(&self) -> Option<Arc<BrokenError>> {
        self.shared.broken()
    }

    /// Blocks until every task has finished and every worker has closed, finalizers included. The
    /// pool stays open, and starts workers again when there is work.
    ///
    /// # Errors
    /// [`JoinTimeout`] where that takes longer than `timeout`; everything goes on then.
    pub fn join(&self, timeout: Option<Duration>) -> Result<(), JoinTimeout> {
        let (done, wait) = crossbeam_channel::bounded(1);
        let join = self.join_count.fetch_add(1, Ordering::Relaxed);
        if self.tell(DriverCommand::Join { join, done }).is_err() {
            return Ok(());
        }
        let Some(timeout) = timeout else {
            // The driver answers, or ends and drops its side.
            let _ = wait.recv();
            return Ok(());
        };
        match wait.recv_timeout(timeout) {
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => {
                let _ = self.tell(DriverCommand::JoinGivenUp(join));
                Err(JoinTimeout(timeout))
            }
            _ => Ok(()),
        }
    }

    /// Shuts the pool down: cancels pending tasks, waits for running ones within their wall times,
    /// runs finalizers. Says false, and waits all the same, where a shutdown had already begun.
    ///
    /// Ends in any case: after the wall time and the grace period, what still runs is killed.
    pub fn shutdown(&self) -> bool {
        self.end(ShutdownMode::Cancel, Some(self.patience()))
    }

    /// As [`shutdown`](Self::shutdown), and kills what has not ended after `timeout`.
    pub fn shutdown_timeout(&self, timeout: Duration) -> bool {
        self.end(ShutdownMode::Cancel, Some(timeout))
    }

    /// Shuts the pool down after everything that was submitted has finished. Blocks for as long as
    /// that takes.
    pub fn drain(&self) -> bool {
        self.end(ShutdownMode::Drain, None)
    }

    /// Ends the pool now: running tasks are cancelled with their workers, finalizers do not run.
    pub fn kill(&self) -> bool {
        self.end(ShutdownMode::Kill, None)
    }

    /// The longest that an orderly shutdown has any reason to take.
    fn patience(&self) -> Duration {
        let running = self.limits.wall_time.unwrap_or(self.shutdown_grace_period);
        running.saturating_add(self.shutdown_grace_period)
    }

    fn end(&self, mode: ShutdownMode, patience: Option<Duration>) -> bool {
        let first = self.shared.close();
        // Fails where the driver has ended, and then there is nothing to end.
        let _ = self.commands.send(DriverCommand::Shutdown(mode));
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        if !self.shared.wait_terminated(deadline) {
            let _ = self.commands.send(DriverCommand::Shutdown(ShutdownMode::Kill));
            self.shared.wait_terminated(None);
        }
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(driver) = driver {
            // It has said its last word; a panic in it has been reported on stderr.
            let _ = driver.join();
        }
        first
    }

    pub(crate) fn new_chunk(&self) -> ChunkId {
        ChunkId(self.chunk_count.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn submit_chunk<T: TaskResult>(
        &self,
        target: &Target,
        arguments: impl Arguments,
        chunk: Option<ChunkId>,
    ) -> Result<TaskHandle<T>, SubmitError> {
        self.check()?;
        let (module, callable) = target::resolve(&self.modules, target)?;
        let invocation = arguments::encode(arguments, callable)?;
        self.enqueue((module, callable), target, invocation, Vec::new(), chunk)
    }

    fn enqueue<T: TaskResult>(
        &self,
        (module, callable): (&ModuleEntry, &Callable),
        target: &Target,
        invocation: Invocation,
        descriptors: Vec<OwnedFd>,
        chunk: Option<ChunkId>,
    ) -> Result<TaskHandle<T>, SubmitError> {
        let codec = match &invocation {
            Invocation::Task(call) => call.codec,
            Invocation::Scalar { .. } | Invocation::Command(_) => Codec::Raw,
        };
        let task = TaskId(self.task_count.fetch_add(1, Ordering::Relaxed) + 1);
        let cell = TaskCell::new(task, target.to_string(), codec, callable.result_shape());
        let cell = Arc::new(cell);
        let limits = self.limits.clone();
        // The driver picks the slot when it sends the task.
        let run = Run { task, module: module.id, invocation, limits, slot: 0, share: None };
        let entry = TaskEntry::new(cell.clone(), HostMessage::Run(run), descriptors, chunk);
        self.tell(DriverCommand::Submit(Box::new(entry)))?;
        Ok(TaskHandle::new(cell, self.commands.clone()))
    }

    fn tell(&self, command: DriverCommand) -> Result<(), SubmitError> {
        // Unbounded, so it never blocks; fails where the driver has ended.
        self.commands.send(command).map_err(|_| SubmitError::Closed)
    }
}

/// The most bytes of a command's arguments and environment together.
const COMMAND_TEXT_BYTES_MAX: usize = 1 << 20;

impl Drop for Pool {
    fn drop(&mut self) {
        self.shutdown();
    }
}

struct TerminateOnDrop(Arc<Shared>);

impl Drop for TerminateOnDrop {
    fn drop(&mut self) {
        self.0.terminate();
    }
}

//! Building a pool: settings, [checked](check); modules, [read](super::given) and compiled each in a
//! process of its own.

mod check;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stockade_wire::{
    BATCH_TASKS_MAX, CompileLimits, CompileStep, Confinement, Coredumps, EngineSettings, Features,
    FunctionKind, Grants, Instances, Limits, Load, Lockdown, ModuleId, SLOTS_MAX, Setup,
    UnknownImports, WorkerId,
};

use crate::api::given::{Contents, Given, read};
use crate::api::hooks::{ChosenHook, GivenHook, Hook};
use crate::api::pool::{Blueprint, Pool};
use crate::call::arguments::Arguments;
use crate::call::options::WhenFull;
use crate::call::target::{Callables, ModuleEntry, Target};
use crate::compile::cache::{Cache, CachedCompiler};
use crate::compile::compiler::Compiler;
use crate::compile::prepare::Preparation;
use crate::outcome::cache_error::CacheError;
use crate::outcome::error::BuildError;
use crate::outcome::machine::{self, MachineError};
use crate::process::conversation::Interrupt;
use crate::process::loadable::{Loadable, setup_for};
use crate::process::lockdown;
use crate::process::program::WorkerProgram;
use stockade_dispatcher::Config;

/// How long a worker may take to start; it needs milliseconds.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long workers may be killed from outside at their start, one after another: long enough for a
/// machine that is short of memory to recover.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Tasks and bytes that one worker may hold at a time. Far less than its ring and its socket hold:
/// if these are full, the worker has stopped reading.
const WINDOW_TASKS_MAX: usize = 2 * BATCH_TASKS_MAX as usize;
const WINDOW_BYTES_MAX: usize = 96 << 10;

/// The longest of the memory files that a worker shares with its host from its start: its rings, and more.
const SHARED_FILE_BYTES: u64 = 1 << 20;

/// Builds a [`Pool`]. See [`Pool::builder`].
#[derive(Debug)]
pub struct PoolBuilder {
    modules: Vec<Given>,
    name: String,
    max_workers: Option<usize>,
    idle_timeout: Option<Duration>,
    max_tasks_per_worker: Option<u64>,
    limits: Limits,
    features: Features,
    compile_limits: CompileLimits,
    grants: Grants,
    instances: Instances,
    initializer: Option<GivenHook>,
    finalizer: Option<GivenHook>,
    worker_program: Option<WorkerProgram>,
    cache: Option<Cache>,
    shutdown_grace_period: Duration,
    max_pending_tasks: Option<usize>,
    when_full: WhenFull,
    quarantine_after: Option<u32>,
    start_patience: Option<Duration>,
    lockdown: Lockdown,
    metered: bool,
    coredumps: Option<Coredumps>,
    unknown_imports: UnknownImports,
}

/// Building a pool.
impl Pool {
    /// Returns a builder.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }

    /// Returns a builder of a pool of one worker.
    pub fn single() -> PoolBuilder {
        Self::builder().max_workers(1)
    }

    /// Returns a builder of a pool of two workers.
    pub fn dual() -> PoolBuilder {
        Self::builder().max_workers(2)
    }

    /// Returns a builder of a pool of three workers.
    pub fn triple() -> PoolBuilder {
        Self::builder().max_workers(3)
    }

    /// Returns a builder of a pool of four workers.
    pub fn quad() -> PoolBuilder {
        Self::builder().max_workers(4)
    }
}

impl Default for PoolBuilder {
    fn default() -> Self {
        Self {
            modules: Vec::new(),
            name: "stockade".into(),
            max_workers: None,
            idle_timeout: Some(Duration::from_secs(60)),
            max_tasks_per_worker: None,
            limits: Limits::default(),
            features: Features::default(),
            compile_limits: CompileLimits::default(),
            grants: Grants::none(),
            instances: Instances::PerTask,
            initializer: None,
            finalizer: None,
            worker_program: None,
            cache: None,
            shutdown_grace_period: Duration::from_secs(30),
            max_pending_tasks: None,
            when_full: WhenFull::Block,
            quarantine_after: Some(10),
            start_patience: Some(START_PATIENCE),
            lockdown: Lockdown::default(),
            metered: false,
            coredumps: None,
            unknown_imports: UnknownImports::Refuse,
        }
    }
}

impl PoolBuilder {
    /// Adds the module in the file `path`, named after the file without its extension. A file that
    /// ends in `.wat` may hold the text format.
    #[must_use]
    pub fn module(self, path: impl AsRef<Path>) -> Self {
        let name = path.as_ref().file_stem().unwrap_or_default().to_string_lossy().into_owned();
        self.module_as(name, path)
    }

    /// Adds the module in the file `path` under `name`.
    #[must_use]
    pub fn module_as(mut self, name: impl Into<String>, path: impl AsRef<Path>) -> Self {
        let contents = Contents::File(path.as_ref().to_path_buf());
        self.modules.push(Given { name: name.into(), contents });
        self
    }

    /// Adds the module `wasm`, in the binary format, under `name`.
    #[must_use]
    pub fn module_bytes(self, name: impl Into<String>, wasm: impl Into<Vec<u8>>) -> Self {
        self.module_source(name.into(), wasm.into(), false)
    }

    /// As [`module_bytes`](Self::module_bytes); if `text` is true, `wasm` may be in the text
    /// format.
    pub(crate) fn module_source(mut self, name: String, bytes: Vec<u8>, text: bool) -> Self {
        self.modules.push(Given { name, contents: Contents::Bytes { bytes, text } });
        self
    }

    /// Names the pool; its workers are `{name}-worker-{id}`. Default: `stockade`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The maximum number of workers, at least 1. Default: the number of processors that this
    /// process may use.
    #[must_use]
    pub fn max_workers(mut self, workers: usize) -> Self {
        self.max_workers = Some(workers);
        self
    }

    /// How long an idle worker stays before it closes; `None`: it never closes. Default: 60 s.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// Closes each worker after this many tasks, at least 1. Default: never.
    #[must_use]
    pub fn max_tasks_per_worker(mut self, tasks: u64) -> Self {
        self.max_tasks_per_worker = Some(tasks);
        self
    }

    /// The limits of each task.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The limits of compiling one module. Default: [`CompileLimits::default`].
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use stockade::{CompileLimits, Pool};
    ///
    /// let limits = CompileLimits::default().cpu_time(Duration::from_secs(5));
    /// let pool = Pool::builder().module("tasks.wasm").compile_limits(limits).build()?;
    /// # Ok::<(), stockade::BuildError>(())
    /// ```
    #[must_use]
    pub fn compile_limits(mut self, limits: CompileLimits) -> Self {
        self.compile_limits = limits;
        self
    }

    /// What to do about imported functions that are not provided. Default: the module is refused.
    ///
    /// ```no_run
    /// use stockade::{Pool, UnknownImports};
    ///
    /// // Only a task that calls one ends.
    /// let pool = Pool::builder().module("tool.wasm").unknown_imports(UnknownImports::Trap).build()?;
    /// # Ok::<(), stockade::BuildError>(())
    /// ```
    #[must_use]
    pub fn unknown_imports(mut self, unknown: UnknownImports) -> Self {
        self.unknown_imports = unknown;
        self
    }

    /// What guests may access. Default: nothing.
    #[must_use]
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = grants;
        self
    }

    /// How long an instance lives. Default: [`Instances::PerTask`].
    #[must_use]
    pub fn instances(mut self, instances: Instances) -> Self {
        self.instances = instances;
        self
    }

    /// Initialises the module before its first task. With [`Instances::PerTask`] it runs once, and
    /// every task starts from the state that it left; with [`Instances::PerWorker`] it runs at the
    /// start of every worker.
    ///
    /// An initializer that the module's manifest declares and that takes no arguments runs without
    /// being named here.
    #[must_use]
    pub fn initializer(
        mut self,
        target: impl Into<Target>,
        arguments: impl Arguments + Clone + Send + 'static,
    ) -> Self {
        self.initializer = Some(GivenHook::new(target.into(), arguments));
        self
    }

    /// Runs a function when a worker closes in an orderly way. One that the manifest declares and
    /// that takes no arguments runs without being named here.
    #[must_use]
    pub fn finalizer(
        mut self,
        target: impl Into<Target>,
        arguments: impl Arguments + Clone + Send + 'static,
    ) -> Self {
        self.finalizer = Some(GivenHook::new(target.into(), arguments));
        self
    }

    /// The program of the workers. Default: the path in the environment variable `STOCKADE_WORKER`,
    /// else `stockade-worker` or the command `stockade`, in this program's folder or the one above,
    /// else on PATH.
    #[must_use]
    pub fn worker_program(mut self, program: WorkerProgram) -> Self {
        self.worker_program = Some(program);
        self
    }

    /// Keeps compiled modules in `cache`, so that the next pool, of this program or another, need not
    /// compile them again. Default: every pool compiles its modules.
    #[must_use]
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// How long a shutdown waits for running tasks that have no wall time, and for finalizers.
    /// Default: 30 s.
    #[must_use]
    pub fn shutdown_grace_period(mut self, period: Duration) -> Self {
        self.shutdown_grace_period = period;
        self
    }

    /// The maximum number of pending tasks, at least 1: those submitted and not started.
    /// [`when_full`](Self::when_full) says what a submission does when the pool is full. Default:
    /// no maximum.
    #[must_use]
    pub fn max_pending_tasks(mut self, tasks: impl Into<Option<usize>>) -> Self {
        self.max_pending_tasks = tasks.into();
        self
    }

    /// What a submission does when the pool is full, unless its own options say otherwise. Default:
    /// [`WhenFull::Block`].
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// The features of WebAssembly 3.0, and atomic instructions, that modules may use. A module
    /// that uses a feature that is off is refused, and the error names the feature. WebAssembly 2.0
    /// is always on, threads are always off. Default: all but [`Feature::Gc`](crate::Feature::Gc)
    /// and [`Feature::Atomics`](crate::Feature::Atomics).
    ///
    /// Each feature that is off removes a part of the engine from the attack surface; see the
    /// threat model.
    ///
    /// ```no_run
    /// use stockade::{Feature, Features, Pool};
    ///
    /// let features = Features::default().without(Feature::Exceptions);
    /// let pool = Pool::builder().module("tasks.wasm").features(features).build()?;
    /// # Ok::<(), stockade::BuildError>(())
    /// ```
    #[must_use]
    pub fn features(mut self, features: Features) -> Self {
        self.features = features;
        self
    }

    /// Quarantines a module after its tasks killed this many workers in a row, at least 1, without
    /// a finished task in between. Its tasks are then refused. `None`: never. Workers killed at a
    /// deadline do not count. Default: 10.
    #[must_use]
    pub fn quarantine_after(mut self, deaths: impl Into<Option<u32>>) -> Self {
        self.quarantine_after = deaths.into();
        self
    }

    /// How long the pool keeps trying while every worker is ended from outside before it is ready:
    /// by a signal that the pool did not send, or because the machine has no memory or processes
    /// left. It retries with pauses that grow to a second, emits a `tracing` event at the level
    /// `WARN` for each, and is broken after that time
    /// ([`BrokenError::WorkersCannotStart`](crate::BrokenError)). `None`: it never gives up. After
    /// five workers that fail by themselves the pool is broken. Default: 60 s.
    #[must_use]
    pub fn start_patience(mut self, patience: impl Into<Option<Duration>>) -> Self {
        self.start_patience = patience.into();
        self
    }

    /// Which layers of the lockdown are required, and which are left off. Default: every layer that
    /// the machine supports, none required; see [`Pool::lockdown`].
    #[must_use]
    pub fn lockdown(mut self, lockdown: Lockdown) -> Self {
        self.lockdown = lockdown;
        self
    }

    /// Keeps core dumps of tasks that trap, up to [`count_max`](Coredumps::count_max):
    /// [`TaskReport::coredump`]. Reaching a limit on memory, output or fuel, or on time if
    /// `interruptible`, is a trap too. Errors that the guest returns, exits, and deaths of workers
    /// leave none. `None` keeps none, at no cost. Default: `None`.
    ///
    /// A dump contains the task's data. It stays in this process's memory, up to
    /// [`bytes_max`](Coredumps::bytes_max), as long as the task's handle or its report lives. The
    /// time to make it counts as the task's; a dump that would overrun the deadline is truncated.
    /// Initializers and finalizers leave none.
    ///
    /// ```no_run
    /// use stockade::{Coredumps, Pool};
    ///
    /// let pool = Pool::builder().module("tasks.wasm").coredumps(Coredumps::default()).build()?;
    /// let task = pool.submit::<u64>("parse", ("1 +",))?;
    /// if task.result().is_err() && let Some(dump) = task.report().coredump {
    ///     dump.save("parse.coredump.wasm")?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [`TaskReport::coredump`]: crate::TaskReport::coredump
    #[must_use]
    pub fn coredumps(mut self, coredumps: impl Into<Option<Coredumps>>) -> Self {
        self.coredumps = coredumps.into();
        self
    }

    /// Records metrics of the pool through the [`metrics`](https://docs.rs/metrics) facade, with
    /// the names and units of [`METRICS`](crate::METRICS). Gauges need [`Pool::sample_metrics`].
    /// Default: no metrics, at no cost.
    ///
    /// For a Prometheus endpoint install the recorder of `metrics-exporter-prometheus`.
    /// `host/stockade/watching` in the repository has example programs for Prometheus and for
    /// OpenTelemetry:
    ///
    /// ```text
    /// metrics_exporter_prometheus::PrometheusBuilder::new().install()?;
    /// stockade::describe_metrics();
    /// let pool = stockade::Pool::builder().module("tasks.wasm").metrics().build()?;
    /// ```
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(mut self) -> Self {
        self.metered = true;
        self
    }

    /// Reads and compiles the modules and starts the pool's thread, but no worker. Blocks until the
    /// modules are compiled.
    ///
    /// # Errors
    /// [`BuildError`]; no process is left running.
    pub fn build(self) -> Result<Pool, BuildError> {
        self.check()?;
        let program = WorkerProgram::find(self.worker_program.as_ref())?;
        machine::check_file_bytes("share memory with workers", SHARED_FILE_BYTES)?;
        let setup = self.setup();
        lockdown::check(&program, &setup)?;
        let cache = self.cache.as_ref().map(|cache| cache.open(&self.grants));
        let compiler = CachedCompiler::new(
            Compiler {
                program: program.clone(),
                engine: setup.engine.clone(),
                limits: self.compile_limits.clone(),
                lockdown: self.lockdown.clone(),
                exposed: self.coredumps.is_some(),
            },
            cache.transpose().map_err(unusable)?,
        );
        let mut modules = Vec::new();
        let mut loadables = Vec::new();
        let mut sources = Vec::new();
        for (number, given) in self.modules.iter().enumerate() {
            let bytes_max = self.compile_limits.module_bytes;
            let source = read(given, bytes_max, self.cache.is_some())?;
            let (description, artefact) = compiler
                .compile(&source, CompileStep::Compile, None, &Interrupt::default())
                .map_err(|error| error.of_module(&given.name))?;
            let id = ModuleId(number as u32);
            let callables = Callables::of(&description);
            let load = Load {
                module: id,
                name: given.name.clone(),
                functions: callables.exports(),
                initializer: None,
                finalizer: None,
                initialized: false,
            };
            let name = given.name.clone();
            // For its backtraces' lines and for recordings; else it costs no memory here.
            let is_recorded = self.limits.deterministic.is_some();
            if is_recorded {
                source.sealed().map_err(|error| error.of_module(&given.name))?;
            }
            let is_kept = description.has_debug_info || is_recorded;
            let kept = is_kept.then(|| source.clone());
            let memories = description.memories;
            modules.push(ModuleEntry { id, name, callables, description, source: kept });
            loadables.push(Loadable { load, artefact: Arc::new(artefact), memories });
            sources.push(source);
        }
        let initializer =
            ChosenHook::choose(self.initializer.as_ref(), FunctionKind::Initializer, &modules)?;
        let finalizer =
            ChosenHook::choose(self.finalizer.as_ref(), FunctionKind::Finalizer, &modules)?;
        let describe = |hook: &ChosenHook| Hook::of(hook, &modules);
        let (initializer_hook, finalizer_hook) =
            (initializer.as_ref().map(describe), finalizer.as_ref().map(describe));
        if let Some(hook) = finalizer {
            loadables[hook.module.0 as usize].load.finalizer = Some(hook.call);
        }
        let mut preparation = None;
        if let Some(ChosenHook { module, call, .. }) = initializer {
            let index = module.0 as usize;
            match self.instances {
                Instances::PerWorker => loadables[index].load.initializer = Some(call),
                Instances::PerTask => {
                    let source = sources.swap_remove(index);
                    source.sealed().map_err(|error| error.of_module(&source.name))?;
                    preparation = Some(Preparation {
                        compiler,
                        source,
                        module,
                        initializer: call,
                        setup: setup_for(setup.clone(), &loadables[index..=index]),
                    });
                }
            }
        }
        let blueprint = Blueprint {
            config: self.config(preparation.is_some()),
            max_pending_tasks: self.max_pending_tasks,
            when_full: self.when_full,
            shutdown_grace_period: self.shutdown_grace_period,
            metered: self.metered,
            program,
            setup,
            name: self.name,
            modules,
            loadables,
            preparation,
            initializer: initializer_hook,
            finalizer: finalizer_hook,
        };
        Pool::start(blueprint).map_err(|error| {
            let task = "start the pool's threads, and what they wait on";
            BuildError::Machine(MachineError::of(task, &error))
        })
    }

    /// The setup of workers, before they have an id and a name.
    fn setup(&self) -> Setup {
        let lockdown = self.lockdown.clone();
        Setup {
            worker: WorkerId(0),
            name: format!("{}-initializer", self.name),
            engine: EngineSettings {
                unknown_imports: self.unknown_imports,
                features: self.features,
                ..self.limits.engine_settings()
            },
            limits: self.limits.clone(),
            grants: self.grants.clone(),
            instances: self.instances,
            confinement: Confinement { lockdown, ..Confinement::default() },
            modules: 0,
            memories: 0,
            rings: true,
            coredumps: self.coredumps,
        }
    }

    pub(crate) fn config(&self, needs_preparation: bool) -> Config {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Config {
            workers_max: self.max_workers.unwrap_or(processors),
            tasks_per_worker_max: self.max_tasks_per_worker,
            idle_timeout: self.idle_timeout,
            start_timeout: match (self.instances, self.limits.wall_time) {
                // An initializer runs before a worker is ready.
                (Instances::PerWorker, Some(wall_time)) => START_TIMEOUT.saturating_add(wall_time),
                (Instances::PerWorker, None) => {
                    START_TIMEOUT.saturating_add(self.shutdown_grace_period)
                }
                (Instances::PerTask, _) => START_TIMEOUT,
            },
            close_timeout: self.shutdown_grace_period,
            recall_timeout: Duration::from_secs(1),
            // A host that takes results and submits is away for up to two: it shares a processor with a worker.
            window_time: Duration::from_millis(3),
            window_tasks_max: WINDOW_TASKS_MAX,
            // The other half is for batches that callers cut by their cancels before they are sent.
            window_batches_max: SLOTS_MAX / 2,
            window_bytes_max: WINDOW_BYTES_MAX,
            patience: Duration::from_millis(1),
            needs_preparation,
            start_failures_max: 5,
            start_patience: self.start_patience,
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(1),
            requeues_max: 3,
            losses_in_a_row_max: self.quarantine_after,
        }
    }
}

/// Why the cache cannot be used: its own fault, or the machine's.
fn unusable(error: CacheError) -> BuildError {
    let exhausted = match &error {
        CacheError::Unusable { path, source } => {
            MachineError::if_exhausted(format!("use the cache's {}", path.display()), source)
        }
        _ => None,
    };
    exhausted.map_or(BuildError::Cache(error), BuildError::Machine)
}

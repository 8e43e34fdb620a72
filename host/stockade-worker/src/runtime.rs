//! The runtime: the modules of a worker and their instances, one invocation after another.
//!
//! | instances | an invocation runs in |
//! |---|---|
//! | per task | a fresh one, dropped afterwards |
//! | per worker | the module's living one; a fresh one after a trap |
//! | either, a command | a fresh one |
//!
//! A fresh instance is made after the task is announced on the status page, because its start
//! function, its `_initialize` and, per worker, its initializer are guest code too and fall under
//! the task's deadline.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use stockade_abi::MEMORY_EXPORT;
use stockade_wire::{
    Codec, CommandCall, Failure, Finished, Grants, HookCall, Instances, Invocation, Limits, Load,
    Metering, Metrics, ModuleId, Outcome, Run, Setup, StatusPage, Stdin, StdioSink,
};
use wasmtime::{Engine, InstancePre, Linker, ModuleExport};

use crate::alarm::Alarm;
use crate::artefact::{self, ArtefactError};
use crate::call::{Call, NO_TASK};
use crate::capture::Capture;
use crate::guest::{Guest, GuestState, Link, Outbox, Usage};
use crate::wasi::{Clock, Input, Output, Plan};
use crate::{failure, hostcalls};

/// Why a runtime could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeError {
    /// The engine refused a host call.
    #[error("cannot link the host calls: {0}")]
    Link(#[from] wasmtime::Error),
    /// The thread that watches deadlines could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why a module could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// Its code cannot be used.
    #[error(transparent)]
    Artefact(#[from] ArtefactError),
    /// It imports what this worker does not provide.
    #[error("cannot link the module: {0}")]
    Link(wasmtime::Error),
    /// Its initializer failed.
    #[error("the initializer failed")]
    Initializer(Failure),
}

/// Modules and what their guests are made from.
#[derive(Debug)]
pub(crate) struct Runtime {
    factory: Factory,
    modules: BTreeMap<ModuleId, LoadedModule>,
    instances: Instances,
}

struct LoadedModule {
    pre: InstancePre<GuestState>,
    initializer: Option<HookCall>,
    finalizer: Option<HookCall>,
    /// The memory that host calls refer to.
    memory: Option<ModuleExport>,
    /// Whether it has an `_initialize` that every instance must run first.
    initialize: bool,
    living: Option<Guest>,
}

impl std::fmt::Debug for LoadedModule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedModule")
            .field("living", &self.living.is_some())
            .finish_non_exhaustive()
    }
}

impl LoadedModule {
    /// The instance that a task runs in, if one lives or an initializer makes it; otherwise making
    /// it is a part of the task.
    fn initialized(&mut self, factory: &Factory) -> Result<Option<Guest>, Failure> {
        match (self.living.take(), &self.initializer) {
            (Some(guest), _) => Ok(Some(guest)),
            (None, Some(_)) => factory.initialized(self).map(Some),
            (None, None) => Ok(None),
        }
    }
}

impl Runtime {
    /// A runtime for `setup` without modules.
    ///
    /// # Errors
    /// [`RuntimeError`]
    pub(crate) fn new(
        engine: Engine,
        setup: Setup,
        outbox: Outbox,
        page: StatusPage,
    ) -> Result<Self, RuntimeError> {
        let metering = setup.engine.metering;
        let factory = Factory {
            linker: hostcalls::linker(&engine)?,
            alarm: if metering.epochs() { Some(Alarm::start(&engine)?) } else { None },
            engine,
            metering,
            limits: setup.limits,
            grants: Arc::new(setup.grants),
            clock: Clock::start(),
            link: Link { outbox, page: Arc::new(page) },
        };
        Ok(Self { factory, modules: BTreeMap::new(), instances: setup.instances })
    }

    /// Loads a module; one that lives as long as the worker and has an initializer starts living.
    ///
    /// # Errors
    /// [`LoadError`]
    pub(crate) fn load(&mut self, load: Load, artefact: File) -> Result<(), LoadError> {
        let module = artefact::load(&self.factory.engine, artefact)?;
        let pre = self.factory.linker.instantiate_pre(&module).map_err(LoadError::Link)?;
        let mut module = LoadedModule {
            pre,
            initializer: load.initializer,
            finalizer: load.finalizer,
            memory: module.get_export_index(MEMORY_EXPORT),
            initialize: !load.initialized && module.get_export("_initialize").is_some(),
            living: None,
        };
        if self.instances == Instances::PerWorker && module.initializer.is_some() {
            let guest = self.factory.initialized(&module).map_err(LoadError::Initializer)?;
            module.living = Some(guest);
        }
        self.modules.insert(load.module, module);
        Ok(())
    }

    /// Whether `module` was loaded.
    pub(crate) fn has(&self, module: ModuleId) -> bool {
        self.modules.contains_key(&module)
    }

    /// Runs a task of a loaded module to its end. `stdio` holds the descriptors that came with it.
    ///
    /// # Errors
    /// The failure of an initializer that had to run again first; the task stands announced on the
    /// status page then, and none of its own code has run.
    pub(crate) fn run(&mut self, run: Run, stdio: Vec<OwnedFd>) -> Result<Finished, Failure> {
        let Run { task, module, mut invocation, limits } = run;
        let watch = Stopwatch::start();
        self.factory.link.page.start(task);
        let Some(module) = self.modules.get_mut(&module) else {
            return Err(not_loaded(module));
        };
        let command = matches!(invocation, Invocation::Command(_));
        let guest = if command { None } else { module.initialized(&self.factory)? };
        let (codec, input) = take_input(&mut invocation);
        let call = Call::new(task, codec, input, &limits, watch.started);
        let (mut guest, called) =
            self.factory.call(module, guest, call, &limits, &invocation, stdio);
        let ended = called.is_err();
        let outcome = called.unwrap_or_else(|error| Outcome::Failed(guest.failure(&error)));
        let usage = guest.end();
        if self.instances == Instances::PerWorker && !command && !ended {
            module.living = Some(guest);
        } else {
            // Before the clock is read: emptying its memory is a part of the task.
            drop(guest);
        }
        let metrics = Metrics {
            wall_time: watch.wall_time(),
            cpu_time: watch.cpu_time(),
            fuel: usage.fuel,
            memory_peak_bytes: usage.memory_peak_bytes,
        };
        let Usage { stdout, stderr, log, log_dropped, .. } = usage;
        Ok(Finished { task, outcome, metrics, stdout, stderr, log, log_dropped })
    }

    /// Runs the initializer `hook` in a fresh instance of instrumented code and writes the state it
    /// leaves to `file`; answers how many bytes.
    ///
    /// # Errors
    /// The initializer's failure, or [`Failure::Guest`] where the state cannot be written.
    pub(crate) fn initialize(
        &mut self,
        module: ModuleId,
        hook: &HookCall,
        state_bytes_max: u64,
        file: &File,
    ) -> Result<u64, Failure> {
        let Some(module) = self.modules.get(&module) else { return Err(not_loaded(module)) };
        let mut guest = self.factory.called(module, Some(hook))?;
        guest
            .write_state(file, state_bytes_max)
            .map_err(|error| Failure::Guest(failure::bounded(&error.to_string())))
    }

    /// Runs the finalizers, each once; a module's failure does not keep the next from its own.
    ///
    /// # Errors
    /// The first failure.
    pub(crate) fn finalize(&mut self) -> Result<(), Failure> {
        let mut first = Ok(());
        for module in self.modules.values_mut() {
            let Some(hook) = module.finalizer.take() else { continue };
            let guest = match module.living.take() {
                Some(guest) => Ok(guest),
                None => self.factory.initialized(module),
            };
            let finalized = guest.and_then(|mut guest| self.factory.call_hook(&mut guest, &hook));
            first = first.and(finalized);
        }
        first
    }
}

/// What every guest of a worker is made from.
struct Factory {
    engine: Engine,
    linker: Linker<GuestState>,
    alarm: Option<Alarm>,
    metering: Metering,
    /// For initializers and finalizers.
    limits: Limits,
    grants: Arc<Grants>,
    clock: Clock,
    link: Link,
}

impl std::fmt::Debug for Factory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Factory").field("metering", &self.metering).finish_non_exhaustive()
    }
}

impl Factory {
    fn guest(&self, plan: Plan, call: Call, limits: &Limits) -> Guest {
        let state = GuestState::new(plan, Some(self.link.clone()), call);
        Guest::new(&self.engine, self.metering, state, limits)
    }

    /// Makes `call` in `guest`, or in a fresh instance where there is none.
    fn call(
        &self,
        module: &LoadedModule,
        guest: Option<Guest>,
        call: Call,
        limits: &Limits,
        invocation: &Invocation,
        stdio: Vec<OwnedFd>,
    ) -> (Guest, wasmtime::Result<Outcome>) {
        let deadline = call.interrupt_at();
        let (guest, called) = match guest {
            Some(mut guest) => {
                guest.begin(call, limits);
                self.watch(deadline);
                let called = guest.invoke(invocation);
                (guest, called)
            }
            None => {
                let initialize = module.initialize && !matches!(invocation, Invocation::Command(_));
                let mut guest = self.guest(self.plan(invocation, stdio), call, limits);
                self.watch(deadline);
                let called = guest.prepare(&module.pre, module.memory, initialize);
                let called = called.and_then(|()| guest.invoke(invocation));
                (guest, called)
            }
        };
        self.rest();
        (guest, called)
    }

    /// A fresh instance of `module`, initialised as the module wants it.
    fn initialized(&self, module: &LoadedModule) -> Result<Guest, Failure> {
        self.called(module, module.initializer.as_ref())
    }

    /// A fresh instance of `module` in which `hook` has run.
    fn called(&self, module: &LoadedModule, hook: Option<&HookCall>) -> Result<Guest, Failure> {
        let call = self.hook_call(hook);
        let deadline = call.interrupt_at();
        let plan = Plan::function(Arc::clone(&self.grants), self.clock);
        let mut guest = self.guest(plan, call, &self.limits);
        self.watch(deadline);
        let prepared = guest.prepare(&module.pre, module.memory, module.initialize);
        let called = match (prepared, hook) {
            (Err(error), _) => Err(guest.failure(&error)),
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(hook)) => guest.invoke_hook(hook),
        };
        self.rest();
        called.map(|()| guest)
    }

    /// Calls `hook` in an instance that is there.
    fn call_hook(&self, guest: &mut Guest, hook: &HookCall) -> Result<(), Failure> {
        let call = self.hook_call(Some(hook));
        let deadline = call.interrupt_at();
        guest.begin(call, &self.limits);
        self.watch(deadline);
        let called = guest.invoke_hook(hook);
        self.rest();
        called
    }

    fn hook_call(&self, hook: Option<&HookCall>) -> Call {
        let (codec, input) = match hook {
            Some(HookCall::Task(call)) => (call.codec, call.input.clone()),
            Some(HookCall::Plain { .. }) | None => (Codec::Raw, Vec::new()),
        };
        Call::new(NO_TASK, codec, input, &self.limits, Instant::now())
    }

    /// Has the alarm ring at `deadline`. Only once the guest's own epoch deadline is set: an alarm
    /// that rang before would be lost on it.
    fn watch(&self, deadline: Option<Instant>) {
        if let Some(alarm) = &self.alarm {
            alarm.set(deadline);
        }
    }

    fn rest(&self) {
        if let Some(alarm) = &self.alarm {
            alarm.set(None);
        }
    }

    fn plan(&self, invocation: &Invocation, stdio: Vec<OwnedFd>) -> Plan {
        let mut plan = Plan::function(Arc::clone(&self.grants), self.clock);
        if let Invocation::Command(command) = invocation {
            let CommandCall { args, env, stdin, stdout, stderr } = command;
            let mut descriptors = stdio.into_iter();
            plan.args.clone_from(args);
            plan.env.clone_from(env);
            plan.stdin = match stdin {
                Stdin::Bytes(bytes) => Input::Bytes(bytes.clone()),
                Stdin::Descriptor => {
                    descriptors.next().map_or(Input::Bytes(Vec::new()), Input::Descriptor)
                }
            };
            plan.stdout = output(*stdout, &mut descriptors);
            plan.stderr = output(*stderr, &mut descriptors);
        }
        plan
    }
}

/// The session asks before; this is for a session that forgets.
fn not_loaded(module: ModuleId) -> Failure {
    Failure::Guest(format!("module {module} was not loaded"))
}

fn output(sink: StdioSink, descriptors: &mut impl Iterator<Item = OwnedFd>) -> Output {
    let descriptor = match sink {
        StdioSink::Captured => None,
        StdioSink::Descriptor => descriptors.next(),
    };
    descriptor.map_or_else(|| Output::Captured(Capture::default()), Output::Descriptor)
}

/// Takes the input out of an invocation, of which only the names are needed from then on.
fn take_input(invocation: &mut Invocation) -> (Codec, Vec<u8>) {
    match invocation {
        Invocation::Task(call) => (call.codec, std::mem::take(&mut call.input)),
        Invocation::Scalar { .. } | Invocation::Command(_) => (Codec::Raw, Vec::new()),
    }
}

/// Wall and processor time since its start.
struct Stopwatch {
    started: Instant,
    cpu_started: Duration,
}

impl Stopwatch {
    fn start() -> Self {
        Self { started: Instant::now(), cpu_started: thread_cpu_time() }
    }

    fn wall_time(&self) -> Duration {
        self.started.elapsed()
    }

    fn cpu_time(&self) -> Duration {
        thread_cpu_time().saturating_sub(self.cpu_started)
    }
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

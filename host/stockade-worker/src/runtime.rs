//! The runtime: the modules of a worker and how long their instances live.
//!
//! | a task runs in | which ends |
//! |---|---|
//! | a fresh instance | with the task |
//! | of a chunk that shares one: the chunk's | before the next task that is not of this chunk |
//! | per worker: the module's living one | with the worker |
//! | a command: a fresh instance, whatever the rest | with the command |
//!
//! A trap, and whatever else ends a call from outside, ends the instance too. The next task gets a
//! fresh one.
//!
//! A fresh instance is made after the task is announced on the status page, because its start
//! function, its `_initialize` and, per worker, its initializer are guest code too and fall under
//! the task's deadline. An instance that ended is emptied after its task was answered.
//!
//! ```text
//! run ─► answer sent ─► rest ─► run …
//! ```
//!
//! Invariant: an instance that one chunk's tasks share is seen by no other task.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use wasmtime::{Instance, Store};

use crate::artefact::{self, ArtefactError};
use crate::batch::{Batch, BatchTask};
use crate::call::Call;
use crate::coredump::Dumps;
use crate::engine::WorkerEngine;
use crate::factory::{Factory, FactoryError};
use crate::failure;
use crate::guest::{Guest, GuestState, Host, Link, Usage};
use crate::linked::Linked;
use crate::lockdown::Space;
use crate::payload::{CallInput, FileInput};
use crate::stopwatch::Stopwatch;
use stockade_wire::{
    Callee, ChunkId, Codec, Failure, Finished, HookCall, Instances, Invocation, Limits, Load,
    Metrics, ModuleId, Outcome, Setup, StatusPage, TaskId,
};

/// Why a module could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// Its code cannot be used.
    #[error(transparent)]
    Artefact(#[from] ArtefactError),
    /// It imports what this worker does not provide.
    #[error("cannot link the module: {0}")]
    Link(wasmtime::Error),
}

/// Why a task has no outcome.
#[derive(Debug)]
pub(crate) enum Unfinished {
    /// An initializer that had to run again first failed; none of the task's own code has run.
    Initializer(Failure),
    /// The system gives this process no memory. The task is not to blame, and another process may
    /// fare better.
    OutOfMemory,
}

impl From<Failure> for Unfinished {
    fn from(failure: Failure) -> Self {
        Self::Initializer(failure)
    }
}

/// Modules and their instances.
#[derive(Debug)]
pub(crate) struct Runtime {
    factory: Factory,
    modules: BTreeMap<ModuleId, LoadedModule>,
    instances: Instances,
    shared: Option<Shared>,
    /// What the last task left to be emptied.
    spent: Option<Guest>,
    dumps: Option<Dumps>,
    stopwatch: Stopwatch,
}

struct LoadedModule {
    name: String,
    linked: Linked,
    finalizer: Option<HookCall>,
    /// With [`Instances::PerWorker`] only.
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
    /// it is a part of the task. What `shared` holds is of the task's chunk, if it is of one.
    fn instance(
        &mut self,
        lifetime: Lifetime,
        shared: &mut Option<Shared>,
        factory: &Factory,
    ) -> Result<Option<Guest>, Failure> {
        let living = match lifetime {
            Lifetime::Command => return Ok(None),
            Lifetime::Task => None,
            Lifetime::Chunk(_) => shared.take().map(|shared| shared.guest),
            Lifetime::Worker => self.living.take(),
        };
        match (living, &self.linked.initializer) {
            (Some(guest), _) => Ok(Some(guest)),
            (None, Some(_)) => factory.initialized(&self.linked).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// The instance of a chunk between two of its tasks. It is kept while the worker waits, because
/// only the host knows whether more of the chunk is to come; what it takes is what one task may
/// take, and the next task of anything else, or `Close`, ends it.
#[derive(Debug)]
struct Shared {
    module: ModuleId,
    chunk: ChunkId,
    guest: Guest,
}

/// What the instance of a task lives as long as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lifetime {
    /// A command, which no initializer precedes.
    Command,
    Task,
    Chunk(ChunkId),
    Worker,
}

impl Runtime {
    /// A runtime for `setup` without modules.
    ///
    /// # Errors
    /// [`FactoryError`]
    pub(crate) fn new(
        engine: WorkerEngine,
        setup: Setup,
        host: Host,
        page: StatusPage,
    ) -> Result<Self, FactoryError> {
        let (instances, dumps) = (setup.instances, setup.coredumps.map(Dumps::new));
        let link = Link { host, page: Arc::new(page) };
        let factory = Factory::new(engine, setup, link)?;
        let (modules, stopwatch) = (BTreeMap::new(), Stopwatch::new());
        let (shared, spent) = (None, None);
        Ok(Self { factory, modules, instances, shared, spent, dumps, stopwatch })
    }

    /// Makes this the runtime of another process than the one that it was made in.
    pub(crate) fn link_to(&mut self, host: Host, page: StatusPage) {
        self.factory.link_to(Link { host, page: Arc::new(page) });
        self.stopwatch = Stopwatch::new();
    }

    /// Starts what watches deadlines, if there are checks for it. Once, after any clone.
    ///
    /// # Errors
    /// [`FactoryError::Thread`]
    pub(crate) fn watch_deadlines(&mut self) -> Result<(), FactoryError> {
        self.factory.watch_deadlines()
    }

    /// Where guests have their memory, as far as modules are mapped.
    pub(crate) fn space(&self) -> Space {
        self.factory.engine.memories.space()
    }

    /// Maps a module. Nothing of it runs.
    ///
    /// # Errors
    /// [`LoadError`]
    pub(crate) fn load(&mut self, load: Load, artefact: File) -> Result<(), LoadError> {
        let Load { module: id, name, functions, initializer, finalizer, initialized } = load;
        let (module, memories) = artefact::load(&self.factory.engine, artefact)?;
        let linked = self.factory.linked(&module, memories, initialized, initializer, functions);
        let linked = linked.map_err(LoadError::Link)?;
        self.modules.insert(id, LoadedModule { name, linked, finalizer, living: None });
        Ok(())
    }

    /// Starts a loaded module: one that lives as long as the worker and has an initializer begins to
    /// live.
    ///
    /// # Errors
    /// The initializer's failure.
    pub(crate) fn start(&mut self, module: ModuleId) -> Result<(), Failure> {
        let Some(loaded) = self.modules.get_mut(&module) else { return Err(not_loaded(module)) };
        if self.instances == Instances::PerWorker && loaded.linked.initializer.is_some() {
            loaded.living = Some(self.factory.initialized(&loaded.linked)?);
        }
        Ok(())
    }

    /// Whether `module` was loaded.
    pub(crate) fn has(&self, module: ModuleId) -> bool {
        self.modules.contains_key(&module)
    }

    /// Whether what tasks call in `module` was announced as that was loaded.
    pub(crate) fn knows(&self, module: ModuleId, callee: &Callee) -> bool {
        self.modules.get(&module).is_some_and(|loaded| loaded.linked.knows(callee))
    }

    /// Whether the checks that `limits` call for are compiled into this worker's modules.
    pub(crate) fn enforces(&self, limits: &Limits) -> bool {
        let (needed, there) = (limits.engine_settings().metering, self.factory.metering);
        let same_nans =
            limits.deterministic.is_some() == self.factory.limits.deterministic.is_some();
        same_nans && (there.epochs() || !needed.epochs()) && (there.fuel() || !needed.fuel())
    }

    /// Runs a task of a loaded module to its end, unless it was revoked. `stdio` holds the descriptors
    /// that came with it, and `input` is where its input lies if not in the message.
    ///
    /// # Errors
    /// [`Unfinished`]; the task stands announced on the status page then, unless it was its instance
    /// that could not be initialised.
    pub(crate) fn run(
        &mut self,
        batch: &Batch,
        task: BatchTask,
        stdio: Vec<OwnedFd>,
        input: Option<FileInput>,
    ) -> Result<Finished, Unfinished> {
        let Batch { module: id, limits, .. } = batch;
        let (id, BatchTask { place, mut invocation, .. }) = (*id, task);
        let (lifetime, task) = (self.lifetime(&invocation, batch.share), place.task());
        // Before the start: to give back the memory of others is no part of this task.
        self.rest();
        self.end_shared_unless(id, lifetime);
        let started = self.stopwatch.start();
        // Before the start too: a task for which there is no initialised instance has not run.
        self.revive(id, lifetime)?;
        if !self.factory.page.start(place) {
            return Ok(recalled(task));
        }
        let Some(module) = self.modules.get_mut(&id) else { return Err(not_loaded(id).into()) };
        let guest = module.instance(lifetime, &mut self.shared, &self.factory)?;
        let (codec, given) = take_input(&mut invocation);
        let given = input.clone().map_or(CallInput::Bytes(given), CallInput::File);
        let limits = limits.as_deref().unwrap_or(&self.factory.limits);
        let call = Call::new(task, codec, given, limits, started);
        let (mut guest, called) =
            self.factory.call(&module.linked, guest, call, limits, &invocation, stdio);
        if called.as_ref().is_err_and(failure::is_out_of_memory) {
            return Err(Unfinished::OutOfMemory);
        }
        if let (Err(error), Some(dumps)) = (&called, &mut self.dumps)
            && let Some(bytes_max) = dumps.take(error)
        {
            // A host that is gone is found out when the task is answered.
            let _ = guest.dump(error, &module.name, bytes_max);
        }
        let ended = called.is_err();
        let outcome = called.unwrap_or_else(|error| guest.failed(&error));
        let usage = guest.end();
        let outcome = match input {
            Some(input) => input.take_result(outcome),
            None => outcome,
        };
        match lifetime {
            Lifetime::Worker if !ended => module.living = Some(guest),
            Lifetime::Chunk(chunk) if !ended => {
                self.shared = Some(Shared { module: id, chunk, guest });
            }
            _ => self.spent = Some(guest),
        }
        let (wall_time, cpu_time) = self.stopwatch.stop();
        let Usage { fuel, memory_peak_bytes, .. } = usage;
        let metrics = Metrics { wall_time, cpu_time, fuel, memory_peak_bytes };
        Ok(Finished { task, outcome, metrics, written: usage.written })
    }

    /// Empties the memory of the last task's instance, if that has ended. For when the task's answer
    /// is on its way: it would wait for a third of what a small task costs, and for milliseconds
    /// where the task wrote to much memory.
    pub(crate) fn rest(&mut self) {
        self.spent = None;
    }

    /// Makes the instance that lives as long as the worker anew, where a trap has ended it and an
    /// initializer must run in its successor.
    ///
    /// # Errors
    /// The initializer's failure.
    fn revive(&mut self, id: ModuleId, lifetime: Lifetime) -> Result<(), Failure> {
        if lifetime == Lifetime::Worker
            && let Some(module) = self.modules.get_mut(&id)
            && module.living.is_none()
            && module.linked.initializer.is_some()
        {
            module.living = Some(self.factory.initialized(&module.linked)?);
        }
        Ok(())
    }

    fn lifetime(&self, invocation: &Invocation, share: Option<ChunkId>) -> Lifetime {
        match (invocation, self.instances, share) {
            (Invocation::Command { .. }, _, _) => Lifetime::Command,
            (_, Instances::PerWorker, _) => Lifetime::Worker,
            (_, Instances::PerTask, Some(chunk)) => Lifetime::Chunk(chunk),
            (_, Instances::PerTask, None) => Lifetime::Task,
        }
    }

    fn end_shared_unless(&mut self, module: ModuleId, lifetime: Lifetime) {
        self.shared
            .take_if(|shared| (module, lifetime) != (shared.module, Lifetime::Chunk(shared.chunk)));
    }

    /// Makes an instance of `module` as for a task, past its start function, and hands it, or why there is none, to `look`.
    pub(crate) fn with_fresh<T>(
        &mut self,
        module: ModuleId,
        look: impl FnOnce(Result<(&mut Store<GuestState>, Instance), String>) -> T,
    ) -> T {
        self.rest();
        let Some(loaded) = self.modules.get(&module) else { return look(Err("no module".into())) };
        match self.factory.instance(&loaded.linked) {
            Ok(mut guest) => look(guest.inside().ok_or_else(|| "no instance".into())),
            Err(error) => look(Err(error.to_string())),
        }
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
        let mut guest = self.factory.called(&module.linked, Some(hook))?;
        guest
            .write_state(file, state_bytes_max)
            .map_err(|error| Failure::Guest(stockade_module::bounded(&error.to_string())))
    }

    /// Runs the finalizers, each once; a module's failure does not keep the next from its own.
    ///
    /// # Errors
    /// The first failure.
    pub(crate) fn finalize(&mut self) -> Result<(), Failure> {
        self.rest();
        // No more of its chunk is to come.
        self.shared = None;
        let mut first = Ok(());
        for module in self.modules.values_mut() {
            let Some(hook) = module.finalizer.take() else { continue };
            let guest = match module.living.take() {
                Some(guest) => Ok(guest),
                None => self.factory.initialized(&module.linked),
            };
            let finalized = guest
                .and_then(|mut guest| self.factory.call_hook(&module.linked, &mut guest, &hook));
            first = first.and(finalized);
        }
        first
    }
}

/// The session asks before; this is for a session that forgets.
fn not_loaded(module: ModuleId) -> Failure {
    Failure::Guest(format!("module {module} was not loaded"))
}

/// The answer for a task that was revoked, and for those behind it in its batch.
fn recalled(task: TaskId) -> Finished {
    Finished::new(task, Outcome::Recalled)
}

/// Takes the input out of an invocation, of which only the names are needed from then on.
fn take_input(invocation: &mut Invocation) -> (Codec, Vec<u8>) {
    match invocation {
        Invocation::Task(call) => (call.codec, std::mem::take(&mut call.input)),
        Invocation::Column { input, .. } => (Codec::Raw, std::mem::take(input)),
        Invocation::Scalar { .. } | Invocation::Command { .. } => (Codec::Raw, Vec::new()),
    }
}

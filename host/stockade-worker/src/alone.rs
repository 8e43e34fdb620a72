//! A worker's runtime in the calling process: without a host, messages and lockdown.
//!
//! ```text
//! benchmark: what a task takes in a worker    ─► Alone::run
//! smith: is a reset instance like a fresh one ─► Alone::run …, Alone::difference
//! ```
//!
//! For the benchmark and for tests. No part of a pool uses it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use stockade_wire::descriptor::sealed_file;
use stockade_wire::{
    CompileLimits, CompileRequest, CompileStep, Confinement, EngineSettings, Features, Finished,
    Grants, Instances, Invocation, Limits, Load, ModuleDescription, ModuleId, Run, Setup,
    StatusPage, TaskId, WorkerId, WorkerPort,
};
use wasmtime::{AnyRef, Engine, Extern, Instance, Linker, Module, Rooted, Store, Trap, Val};

use crate::batch::Batch;
use crate::compiler::{self, Threads};
use crate::engine::{self, Compiling};
use crate::guest::Host;
use crate::meter;
use crate::runtime::Runtime;

const MODULE: ModuleId = ModuleId(0);

/// How long the engine by itself may take for an instance, where it can be interrupted.
const PATIENCE: Duration = Duration::from_secs(10);

/// A runtime with one module.
#[derive(Debug)]
pub struct Alone {
    runtime: Runtime,
    /// The host's side of what the runtime has.
    page: StatusPage,
    tokio: tokio::runtime::Runtime,
    plain: Plain,
    limits: Limits,
    description: ModuleDescription,
    last_task: u64,
}

/// The module in the plain engine, without our memory and host calls.
#[derive(Debug)]
struct Plain {
    engine: Engine,
    module: Module,
}

/// What cannot be done.
type Result<T> = std::result::Result<T, String>;

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Alone {
    /// Compiles the binary module `wasm` for `limits` and `features`, and maps it, as a compiler and a worker would.
    ///
    /// # Errors
    /// Why that is refused.
    pub fn new(wasm: &[u8], limits: &Limits, features: Features) -> Result<Self> {
        let settings = EngineSettings { features, ..limits.engine_settings() };
        let request = CompileRequest {
            step: CompileStep::Compile,
            engine: settings.clone(),
            text: false,
            limits: CompileLimits::default(),
            exposed: false,
        };
        let compiled =
            compiler::compile(&request, wasm, None, &Threads::none()).map_err(|it| it.message)?;
        let artefact = sealed_file("artefact", &compiled.artefact).map_err(words)?;
        let engine = engine::for_compiler(&settings, Compiling::default()).map_err(words)?;
        let plain = Plain { module: Module::from_binary(&engine, wasm).map_err(words)?, engine };
        // There is no reader, so sending must not block: a guest that emits ends, as if its host
        // were gone.
        let (_, own) = UnixStream::pair().map_err(words)?;
        let page = StatusPage::create().map_err(words)?;
        let theirs = page.descriptor().as_fd().try_clone_to_owned().map_err(words)?;
        let setup = Setup {
            worker: WorkerId(1),
            name: "alone".into(),
            engine: settings.clone(),
            limits: limits.clone(),
            grants: Grants::none(),
            instances: Instances::PerTask,
            confinement: Confinement::default(),
            modules: 1,
            memories: compiled.description.memories,
            rings: false,
            coredumps: None,
        };
        let engine = engine::for_worker(&setup).map_err(words)?;
        let link = Host::new(WorkerPort::new(own).map_err(words)?);
        let their_page = StatusPage::open(File::from(theirs)).map_err(words)?;
        let mut runtime = Runtime::new(engine, setup, link, their_page).map_err(words)?;
        runtime.watch_deadlines().map_err(words)?;
        let description = compiled.description;
        let functions = description.exports.iter().map(|export| export.name.clone());
        let load = Load {
            module: MODULE,
            name: "alone".into(),
            functions: functions.collect(),
            initializer: None,
            finalizer: None,
            initialized: false,
        };
        runtime.load(load, artefact).map_err(words)?;
        let tokio = tokio::runtime::Builder::new_current_thread().build().map_err(words)?;
        let limits = limits.clone();
        let last_task = 0;
        Ok(Self { runtime, page, tokio, plain, limits, description, last_task })
    }

    /// What is in the module.
    pub fn description(&self) -> &ModuleDescription {
        &self.description
    }

    /// Runs a task in a fresh instance, and makes its memory as it was.
    ///
    /// # Errors
    /// If the system gives no memory.
    pub fn run(&mut self, invocation: Invocation, stdio: Vec<OwnedFd>) -> Result<Finished> {
        let _entered = self.tokio.enter();
        self.last_task += 1;
        let (tasks, slot) = (TaskId(self.last_task).into(), 0);
        self.page.offer(slot, tasks);
        let mut batch = Batch::new(Run {
            tasks,
            module: MODULE,
            invocation,
            lengths: Vec::new(),
            limits: None,
            slot,
            share: None,
            placement: None,
        })?;
        let task = batch.next_task().ok_or("a batch without a task")?;
        let finished = self.runtime.run(&batch, task, stdio, None);
        self.runtime.rest();
        finished.map_err(|why| format!("{why:?}"))
    }

    /// The differences, in anything that the module exports, between the instance that a task would get
    /// now and one that the engine makes by itself; none where there is nothing. By itself the engine
    /// has no host calls, so a module whose start function makes some is compared with nothing.
    ///
    /// # Errors
    /// If only the engine by itself makes an instance, and where the start function reaches the deadline
    /// of a task.
    pub fn difference(&mut self) -> Result<Option<String>> {
        self.difference_after(None)
    }

    /// As [`difference`](Self::difference), where the own instance has run its function `change`.
    pub(crate) fn difference_after(&mut self, change: Option<&str>) -> Result<Option<String>> {
        let _entered = self.tokio.enter();
        let mut plain = Store::new(&self.plain.engine, meter::Meter::default());
        plain.data_mut().begin(&self.limits);
        plain.limiter(|meter| meter);
        let mut linker = Linker::new(&self.plain.engine);
        linker.define_unknown_imports_as_traps(&self.plain.module).map_err(words)?;
        if self.limits.engine_settings().metering.epochs() {
            plain.set_epoch_deadline(1);
        }
        if self.limits.engine_settings().metering.fuel() {
            plain.set_fuel(u64::MAX / 2).map_err(words)?;
        }
        // After our own instance, which has a task's deadline, so that it reports a start function
        // that never returns.
        let mut other = || {
            let engine = &self.plain.engine;
            let (ended, end) = mpsc::channel::<()>();
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    if end.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                        engine.increment_epoch();
                    }
                });
                let made = linker.instantiate(&mut plain, &self.plain.module);
                drop(ended);
                made.map(|instance| Contents::of(&mut plain, instance))
            })
        };
        self.runtime.with_fresh(MODULE, |own| match own {
            Ok((store, instance)) => {
                let Ok(other) = other() else { return Ok(None) };
                if let Some(change) = change.and_then(|name| instance.get_func(&mut *store, name)) {
                    change.call(&mut *store, &[], &mut []).map_err(words)?;
                }
                Ok(Contents::of(store, instance).unlike(&other))
            }
            Err(own) if own.contains(&Trap::Interrupt.to_string()) => Err(own),
            Err(own) => other().map_or(Ok(None), |_| Err(format!("no fresh instance: {own}"))),
        })
    }
}

/// All that an instance exports besides functions.
#[derive(Debug, Default)]
struct Contents {
    memories: BTreeMap<String, Vec<u8>>,
    values: BTreeMap<String, String>,
}

impl Contents {
    fn of<T: 'static>(store: &mut Store<T>, instance: Instance) -> Self {
        let mut contents = Self::default();
        let exports = instance.exports(&mut *store);
        let exports: Vec<_> =
            exports.map(|export| (export.name().to_owned(), export.into_extern())).collect();
        let mut functions = BTreeMap::new();
        for (name, export) in &exports {
            if let Extern::Func(function) = export {
                functions.insert(function.to_raw(&mut *store).addr(), name.clone());
            }
        }
        let mut shower = Shower { store, functions, values_left: VALUES_MAX };
        for (name, export) in exports {
            match export {
                Extern::Memory(memory) => {
                    contents.memories.insert(name, memory.data(&*shower.store).to_vec());
                }
                Extern::Global(global) => {
                    let value = global.get(&mut *shower.store);
                    contents.values.insert(name, shower.shown(value, 0));
                }
                Extern::Table(table) => {
                    for index in 0..table.size(&*shower.store) {
                        let entry = table.get(&mut *shower.store, index);
                        let shown = match entry {
                            Some(entry) => shower.shown(entry.into(), 0),
                            None => "nothing".into(),
                        };
                        contents.values.insert(format!("{name}[{index}]"), shown);
                    }
                }
                _ => {}
            }
        }
        contents
    }

    /// How this is unlike `other`.
    fn unlike(&self, other: &Self) -> Option<String> {
        for (name, memory) in &self.memories {
            let Some(other) = other.memories.get(name) else {
                return Some(format!("memory {name} is only here"));
            };
            if memory.len() != other.len() {
                return Some(format!("memory {name}: {} bytes, not {}", memory.len(), other.len()));
            }
            if let Some(at) = memory.iter().zip(other).position(|(own, other)| own != other) {
                return Some(format!("memory {name} at {at}: {} not {}", memory[at], other[at]));
            }
        }
        let mut values = self.values.iter().zip(&other.values);
        if self.values.len() != other.values.len() || self.memories.len() != other.memories.len() {
            return Some("another number of exports".into());
        }
        values
            .find(|(own, other)| own != other)
            .map(|(own, other)| format!("{own:?} not {other:?}"))
    }
}

/// How deep objects are looked into.
const DEPTH_MAX: usize = 4;

/// How many values of objects are looked at in one instance.
const VALUES_MAX: usize = 10_000;

/// Shows values so that those of two instances can be compared: numbers by their bits, functions by the
/// names that they are exported under, objects by what is in them.
struct Shower<'a, T: 'static> {
    store: &'a mut Store<T>,
    functions: BTreeMap<usize, String>,
    values_left: usize,
}

impl<T: 'static> Shower<'_, T> {
    fn shown(&mut self, value: Val, depth: usize) -> String {
        self.values_left = self.values_left.saturating_sub(1);
        if depth > DEPTH_MAX || self.values_left == 0 {
            return "…".into();
        }
        match value {
            Val::FuncRef(Some(function)) => {
                let place = function.to_raw(&mut *self.store).addr();
                match self.functions.get(&place) {
                    Some(name) => format!("function {name}"),
                    None => format!("function of type {}", function.ty(&*self.store)),
                }
            }
            Val::AnyRef(Some(object)) => self.object(object, depth),
            Val::ExnRef(Some(exception)) => {
                let fields = exception.fields(&mut *self.store).map(Iterator::collect);
                self.all("exception", fields.unwrap_or_default(), depth)
            }
            Val::ExternRef(Some(_)) => "extern".into(),
            Val::FuncRef(None)
            | Val::ExternRef(None)
            | Val::AnyRef(None)
            | Val::ExnRef(None)
            | Val::ContRef(None) => "null".into(),
            other => format!("{other:?}"),
        }
    }

    fn object(&mut self, object: Rooted<AnyRef>, depth: usize) -> String {
        if let Ok(Some(number)) = object.as_i31(&*self.store) {
            return format!("i31 {number:?}");
        }
        if let Ok(Some(structure)) = object.as_struct(&*self.store) {
            let fields = structure.fields(&mut *self.store).map(Iterator::collect);
            return self.all("struct", fields.unwrap_or_default(), depth);
        }
        if let Ok(Some(array)) = object.as_array(&*self.store) {
            let length = array.len(&*self.store).unwrap_or_default();
            let elements =
                (0..length.min(100)).map_while(|at| array.get(&mut *self.store, at).ok());
            let elements = elements.collect();
            return self.all(&format!("array of {length}"), elements, depth);
        }
        "an object".into()
    }

    fn all(&mut self, kind: &str, values: Vec<Val>, depth: usize) -> String {
        let shown: Vec<_> = values.into_iter().map(|value| self.shown(value, depth + 1)).collect();
        format!("{kind} ({})", shown.join(", "))
    }
}

//! A guest: one instance with all that belongs to it, from its creation to its last call.
//!
//! ```text
//! Guest::new ─► begin(Call) ─► prepare ─► invoke ─► end ─► Usage
//!                  ▲ instantiates, _initialize │
//!                  └──────── per worker ───────┘
//! ```
//!
//! Invariant: after an error a guest is dropped; no instance is called after a trap. A mapping over
//! its memory for a call is removed with the call.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use stockade_abi::Status;
use stockade_wire::descriptor::SendError;
use stockade_wire::frame::FrameError;
use stockade_wire::{
    Bell, Callee, Failure, Grants, HookCall, HostMessage, Invocation, Limits, Metering, Outcome,
    Scalar, StatusPage, WorkerMessage, WorkerPort, Written,
};
use wasmtime::{Engine, Extern, Instance, Memory, Store, UpdateDeadline};
use wasmtime_wasi::p1::WasiP1Ctx;

use crate::call::Call;
use crate::column;
use crate::coredump;
use crate::descriptors::Descriptors;
use crate::failure;
use crate::function::Function;
use crate::linked::{INITIALIZE, Linked};
use crate::memory::{Memories, ModuleMemories};
use crate::meter::Meter;
use crate::overlay::Overlay;
use crate::payload::CallInput;
use crate::state::{self, StateError};
use crate::wasi::{Clock, Plan, VirtualTime, Wasi};

/// The result of a call into a guest: an outcome that it chose, or the error that ended it.
type Called<T> = Result<T, wasmtime::Error>;

/// The port to the host, shared by the session and the guest that emits items. Only one thread uses
/// it.
#[derive(Clone, Debug)]
pub(crate) struct Host(Arc<Mutex<WorkerPort>>);

impl Host {
    /// Talks through `port`.
    pub(crate) fn new(port: WorkerPort) -> Self {
        Self(Arc::new(Mutex::new(port)))
    }

    /// Sends `message`, waiting for as long as the host does not read, and rings for it.
    ///
    /// # Errors
    /// [`SendError`], usually because the host is gone.
    pub(crate) fn send(&self, message: &WorkerMessage, bell: Bell) -> Result<(), SendError> {
        self.port().send(message, bell)
    }

    /// Blocks for the next message; `None` once the host has closed its end.
    ///
    /// # Errors
    /// [`FrameError`]
    pub(crate) fn receive(&self) -> Result<Option<HostMessage>, FrameError> {
        self.port().receive()
    }

    /// Takes the next descriptor that came with a message.
    pub(crate) fn take_descriptor(&self) -> Option<OwnedFd> {
        self.port().take_descriptor()
    }

    fn port(&self) -> MutexGuard<'_, WorkerPort> {
        // No code that holds the lock can panic halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guest's connection to its caller while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) host: Host,
    pub(crate) page: Arc<StatusPage>,
}

/// Common data of all guests of a worker.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) grants: Grants,
    /// The worker's start, which its guests' time begins with.
    pub(crate) since: Instant,
    /// The size of the system's pages.
    pub(crate) page_bytes: usize,
    /// `None` if host calls are only defined, and not called.
    pub(crate) link: Option<Link>,
}

/// The state of host calls. Small, because each task makes one; rarely needed parts are boxed.
pub(crate) struct GuestState {
    pub(crate) call: Call,
    pub(crate) meter: Meter,
    pub(crate) surroundings: Arc<Surroundings>,
    /// The memory that pointers refer to, once the instance is made.
    pub(crate) memory: Option<Memory>,
    /// Where all of its memories lie, once the instance is being made.
    pub(crate) memories: Option<Arc<ModuleMemories>>,
    /// How much of it was there from the start, once the instance is made.
    pub(crate) initial_bytes: Option<u64>,
    /// The call's input, where it is mapped over the memory.
    pub(crate) overlay: Option<Overlay>,
    /// For the context, until it is built; nothing for functions.
    plan: Option<Box<Plan>>,
    wasi: Option<Box<Wasi>>,
    /// The time of a deterministic guest; for any other, that of its worker counts.
    virtual_time: Option<VirtualTime>,
}

impl std::fmt::Debug for GuestState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestState").field("task", &self.call.task).finish_non_exhaustive()
    }
}

impl GuestState {
    /// The state of a guest that is about to make `call`.
    pub(crate) fn new(
        surroundings: Arc<Surroundings>,
        plan: Option<Box<Plan>>,
        call: Call,
    ) -> Self {
        let (meter, memory, memories, initial_bytes) = (Meter::default(), None, None, None);
        let (overlay, wasi) = (None, None);
        let virtual_time = call.seed.map(|_| VirtualTime::default());
        Self {
            call,
            meter,
            surroundings,
            memory,
            memories,
            initial_bytes,
            overlay,
            plan,
            wasi,
            virtual_time,
        }
    }

    /// The WASI context.
    pub(crate) fn wasi(&mut self) -> &mut WasiP1Ctx {
        &mut self.whole_wasi().context
    }

    /// What is noted of the guest's descriptors.
    pub(crate) fn descriptors(&mut self) -> &Descriptors {
        self.whole_wasi().noted().1
    }

    /// Both at once.
    pub(crate) fn wasi_and_descriptors(&mut self) -> (&mut WasiP1Ctx, &mut Descriptors) {
        self.whole_wasi().noted()
    }

    /// The context with what the host knows next to it, built now if this is the guest's first WASI call.
    pub(crate) fn whole_wasi(&mut self) -> &mut Wasi {
        let clock = self.clock();
        let Self { call, surroundings, plan, wasi, .. } = self;
        wasi.get_or_insert_with(|| {
            let plan = plan.take().map_or_else(Plan::default, |plan| *plan);
            let grants = &surroundings.grants;
            Box::new(Wasi::build(plan, grants, clock, call.seed, call.stdio_limit))
        })
    }

    /// The clock that the guest reads.
    pub(crate) fn clock(&self) -> Clock {
        self.virtual_time.clone().map_or(Clock::Worker(self.surroundings.since), Clock::Virtual)
    }
}

/// What an invocation used and left behind.
#[derive(Debug)]
pub(crate) struct Usage {
    pub(crate) fuel: Option<u64>,
    pub(crate) memory_peak_bytes: u64,
    pub(crate) written: Option<Box<Written>>,
}

/// An instance, once [`prepare`](Self::prepare)d, and its store.
#[derive(Debug)]
pub(crate) struct Guest {
    store: Store<GuestState>,
    instance: Option<Instance>,
    metering: Metering,
}

impl Guest {
    /// A store for a new instance, with its first call started under `limits`.
    ///
    /// # Panics
    /// If `metering` is not that of the engine.
    pub(crate) fn new(
        engine: &Engine,
        metering: Metering,
        state: GuestState,
        limits: &Limits,
    ) -> Self {
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.meter);
        if metering.epochs() {
            store.epoch_deadline_callback(|store| {
                let call = &store.data().call;
                // The alarm may have rung for the call before this one.
                let over = call.interrupt_at().is_some_and(|deadline| deadline <= Instant::now());
                Ok(if over { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) })
            });
        }
        let mut guest = Self { store, instance: None, metering };
        guest.account(limits);
        guest
    }

    /// Begins another call, under `limits`, in the instance as the last one left it.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub(crate) fn begin(&mut self, call: Call, limits: &Limits) {
        self.store.data_mut().call = call;
        self.account(limits);
    }

    fn account(&mut self, limits: &Limits) {
        let state = self.store.data_mut();
        state.meter.begin(limits);
        if let Some(wasi) = &state.wasi {
            wasi.begin(limits.stdio_bytes);
        }
        let fuel = state.call.fuel_limit;
        if self.metering.epochs() {
            self.store.set_epoch_deadline(1);
        }
        if self.metering.fuel() {
            self.store.set_fuel(fuel).expect("an engine with this metering counts fuel");
        }
    }

    /// Makes the instance, whose memories come from `memories` and which runs its start function, and
    /// initialises it if it is a reactor that must be.
    ///
    /// # Errors
    /// What ended the guest.
    pub(crate) fn prepare(
        &mut self,
        linked: &Linked,
        memories: &Memories,
        initialize: bool,
    ) -> Called<()> {
        linked.memories.watch(&mut self.store);
        self.store.data_mut().memories = Some(Arc::clone(&linked.memories));
        let announced = memories.announce(&linked.memories);
        let instance = linked.pre.instantiate(&mut self.store)?;
        drop(announced);
        let memory = linked.memory.as_ref();
        let memory = memory.and_then(|export| instance.get_module_export(&mut self.store, export));
        let memory = memory.and_then(Extern::into_memory);
        let state = self.store.data_mut();
        (state.memory, state.initial_bytes) = (memory, Some(linked.initial_bytes));
        self.instance = Some(instance);
        if initialize { self.call_plain(linked, INITIALIZE) } else { Ok(()) }
    }

    /// Calls what a task asks for.
    ///
    /// # Errors
    /// What ended the guest.
    pub(crate) fn invoke(&mut self, linked: &Linked, invocation: &Invocation) -> Called<Outcome> {
        match invocation {
            Invocation::Task(call) => self.call_task(linked, &call.export),
            Invocation::Scalar { export, args } => self.call_scalar(linked, export, args),
            Invocation::Command { entry, .. } => self.call_command(linked, entry),
            Invocation::Column { export, .. } => self.call_column(linked, export),
        }
    }

    /// Calls an initializer or a finalizer.
    ///
    /// # Errors
    /// Its failure, whether it trapped or returned one.
    pub(crate) fn invoke_hook(&mut self, linked: &Linked, hook: &HookCall) -> Result<(), Failure> {
        let called = match hook {
            HookCall::Task(call) => self.call_task(linked, &call.export),
            HookCall::Plain { export } => {
                self.call_plain(linked, export).map(|()| Outcome::Returned(Vec::new()))
            }
        };
        match called {
            Ok(Outcome::Failed(failure)) => Err(failure),
            Ok(_) => Ok(()),
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// Turns `error`, from this guest, into a failure.
    pub(crate) fn failure(&self, error: &wasmtime::Error) -> Failure {
        failure::failure_of(error, self.store.data())
    }

    /// How a task has ended that `error` ended.
    pub(crate) fn failed(&self, error: &wasmtime::Error) -> Outcome {
        let failure = self.failure(error);
        match self.store.data().call.item {
            Some(index) => Outcome::ItemFailed { index, failure },
            None => Outcome::Failed(failure),
        }
    }

    /// Sends its core dump after `error` ended it, in at most `bytes_max` bytes; `module` is the
    /// name of its module.
    ///
    /// # Errors
    /// [`SendError`], usually because the host is gone.
    pub(crate) fn dump(
        &mut self,
        error: &wasmtime::Error,
        module: &str,
        bytes_max: u64,
    ) -> Result<(), SendError> {
        coredump::send(&mut self.store, self.instance, error, module, bytes_max)
    }

    /// Ends the call and takes what it left.
    pub(crate) fn end(&mut self) -> Usage {
        let fuel = if self.metering.fuel() { self.store.get_fuel().ok() } else { None };
        let state = self.store.data_mut();
        let (stdout, stderr) = state.wasi.as_ref().map(|wasi| wasi.take()).unwrap_or_default();
        // A call's input and output are not kept until the next call.
        state.overlay = None;
        state.call.input = CallInput::NONE;
        state.call.output = Vec::new();
        Usage {
            fuel: fuel.map(|left| state.call.fuel_used(left)),
            memory_peak_bytes: state.meter.memory_peak_bytes(),
            written: Written {
                stdout,
                stderr,
                log: std::mem::take(&mut state.call.log),
                log_dropped: state.call.log_dropped,
            }
            .if_any(),
        }
    }

    /// Writes the state that an initializer left to `file`; returns the number of bytes.
    ///
    /// # Errors
    /// If it is more than `bytes_max`, or the file fails.
    pub(crate) fn write_state(&mut self, file: &File, bytes_max: u64) -> Result<u64, StateError> {
        let instance = self.instance.ok_or(StateError::NotMade)?;
        state::write(&mut self.store, &instance, file, bytes_max)
    }

    /// The store and the instance, once that is made.
    pub(crate) fn inside(&mut self) -> Option<(&mut Store<GuestState>, Instance)> {
        Some((&mut self.store, self.instance?))
    }

    fn instance(&self) -> Called<Instance> {
        self.instance.ok_or_else(|| wasmtime::Error::msg("the instance could not be made"))
    }

    fn call_task(&mut self, linked: &Linked, export: &Callee) -> Called<Outcome> {
        let instance = self.instance()?;
        let function = linked.function(export, Function::is_task, "a task of type () -> i32")?;
        let status = function.call_task(&mut self.store, instance)?;
        let call = &mut self.store.data_mut().call;
        Ok(match Status::from_number(status) {
            Status::Success => call.take_result(),
            Status::BadArguments => {
                Outcome::Failed(Failure::BadArguments(Box::new(failure::guest_error(&call.error))))
            }
            Status::Error => {
                let mut error = failure::guest_error(&call.error);
                if error.message.is_empty() {
                    error.message = format!("status {status}, and no error was written");
                }
                Outcome::Failed(Failure::Error(Box::new(error)))
            }
        })
    }

    fn call_plain(&mut self, linked: &Linked, export: &str) -> Called<()> {
        let wanted = "a function of type () -> ()";
        let function = linked.function_named(export, Function::is_plain, wanted)?;
        let instance = self.instance()?;
        function.call(&mut self.store, instance, &[]).map(|_| ())
    }

    fn call_command(&mut self, linked: &Linked, entry: &Callee) -> Called<Outcome> {
        let wanted = "a program's entry, of type () -> () or () -> i32";
        let function = linked.function(entry, Function::is_entry, wanted)?;
        let instance = self.instance()?;
        let results = function.call(&mut self.store, instance, &[])?;
        Ok(Outcome::Exited(match results[..] {
            [Scalar::I32(code)] => code,
            _ => 0,
        }))
    }

    fn call_scalar(
        &mut self,
        linked: &Linked,
        export: &Callee,
        args: &[Scalar],
    ) -> Called<Outcome> {
        let wanted = "a function of these parameters and of scalar results";
        let function = linked.function(export, |function| function.takes(args), wanted)?;
        let instance = self.instance()?;
        function.call(&mut self.store, instance, args).map(Outcome::Scalars)
    }

    fn call_column(&mut self, linked: &Linked, export: &Callee) -> Called<Outcome> {
        let wanted = "a function of one parameter and one result that are numbers";
        let function = linked.function(export, |function| function.column().is_some(), wanted)?;
        let instance = self.instance()?;
        let counts_fuel = self.metering.fuel();
        column::call(&mut self.store, instance, function, counts_fuel).map(Outcome::Returned)
    }
}

impl Drop for Guest {
    /// However its last call ended, and before the engine looks at its memory.
    fn drop(&mut self) {
        self.store.data_mut().overlay = None;
    }
}

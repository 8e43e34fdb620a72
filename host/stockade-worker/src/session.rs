//! The session: a worker's message loop.
//!
//! ```text
//! Setup ─► engine, enter, threads, close ─► Ready
//! Load … ─► mapped, all of them ─► seal ─► initializers ─► Loaded …
//!   ┌───────────────────────────────────────────┐
//!   │ Run ─► Runtime ─► Finished …, maybe Recalled │  one task after another
//!   └─────────────────────┬─────────────────────┘
//! Close ─► finalizers ─► Closed
//! ```
//!
//! What is not read yet waits in the ring: a task is revoked on the status page, not by a message, so
//! nothing that comes later can concern the one that is next. Each result is in the ring before the
//! next task starts, and only the bell waits. Tasks therefore finish in
//! the order in which they were sent, and `Close` comes after all of them.
//!
//! Invariant: the host is trusted, but checked. An unexpected message ends the session.
//!
//! Deliberately absent: everything about processes. Tests run the same loop over a socket pair.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use stockade_module::bounded;
use stockade_wire::descriptor::SendError;
use stockade_wire::frame::FrameError;
use stockade_wire::{
    Bell, HookCall, HostMessage, Invocation, Load, LockdownReport, MappingError, ModuleId, Outcome,
    Rings, Run, Setup, StatusPage, Stdin, StdioSink, WorkerMessage, WorkerPort,
};

use crate::batch::Batch;
use crate::engine;
use crate::factory::FactoryError;
use crate::guest::Host;
use crate::lockdown::{LockdownError, Space};
use crate::payload::KeptFiles;
use crate::runtime::{Runtime, Unfinished};
use crate::wasi::{self, GrantError};

/// The error that ended a session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// No message could be read from the socket.
    #[error(transparent)]
    Receive(#[from] FrameError),
    /// No message could be written to the socket.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The socket cannot be used.
    #[error("cannot use the socket: {0}")]
    Socket(#[from] io::Error),
    /// The host sent an unexpected message.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// The host runs a task of a module that was not loaded.
    #[error("protocol error: module {0} was not loaded")]
    UnknownModule(ModuleId),
    /// The system gives this process no memory.
    #[error("the system gives no memory")]
    OutOfMemory,
    /// The worker could not be set up, as the host was told.
    #[error("cannot set the worker up: {0}")]
    Setup(#[from] SetupError),
}

/// Why a worker could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// Without the memory that it shares with its host.
    #[error(transparent)]
    Memory(#[from] MappingError),
    /// Without a directory that was granted.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// Without an engine.
    #[error("cannot make the engine: {0}")]
    Engine(#[from] wasmtime::Error),
    /// Without a layer of the lockdown.
    #[error(transparent)]
    Lockdown(#[from] LockdownError),
    /// Without its runtime.
    #[error(transparent)]
    Runtime(#[from] FactoryError),
}

/// The steps of the lockdown during a session, each once and in this order.
pub(crate) trait Confine {
    /// When the engine exists, and no other thread does.
    fn enter(&mut self, setup: &Setup);

    /// When every thread exists, before the first module; in a clone, which has its modules, the last
    /// step. `space` is where guests have their memory.
    ///
    /// # Errors
    /// [`LockdownError`], and nothing may run here then.
    fn close(&mut self, space: &Space) -> Result<LockdownReport, LockdownError>;

    /// When the last module is mapped, before any code of one runs.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    fn seal(&mut self, space: &Space) -> Result<(), LockdownError>;
}

/// The state of a clone of a template: every module of its setup is mapped.
#[derive(Debug)]
pub(crate) struct Stock {
    pub(crate) threadless: tokio::runtime::Runtime,
    pub(crate) runtime: Runtime,
    pub(crate) mapped: Vec<Mapped>,
}

/// A module, or the reason why it could not be mapped.
pub(crate) type Mapped = (ModuleId, Option<String>);

/// Serves the host at the other end of `socket` until it closes, with what is in `stock` or with
/// what the host sends.
///
/// # Errors
/// [`SessionError`]; the socket is closed either way.
pub(crate) fn serve(
    socket: UnixStream,
    mut confine: impl Confine,
    stock: Option<Stock>,
) -> Result<(), SessionError> {
    let mut port = WorkerPort::new(socket)?;
    let setup = match port.receive()? {
        None => return Ok(()),
        Some(HostMessage::Setup(setup)) => setup,
        Some(_) => return Err(SessionError::Protocol("a message before the setup")),
    };
    let shared = share(&setup, &mut port);
    let host = Host::new(port);
    let modules = setup.modules;
    let (threadless, stocked, mapped) = match stock {
        Some(Stock { threadless, runtime, mapped }) => (threadless, Some(runtime), Some(mapped)),
        None => (threadless()?, None, None),
    };
    let _entered = threadless.enter();
    let set_up = shared.and_then(|page| set_up(setup, page, host.clone(), &mut confine, stocked));
    let (runtime, report) = match set_up {
        Ok(set_up) => set_up,
        Err(error) => {
            host.send(&WorkerMessage::SetupFailed(bounded(&error.to_string())), Bell::Now)?;
            return Err(error.into());
        }
    };
    host.send(&WorkerMessage::Ready(report), Bell::Now)?;
    let mut session = Session { host, runtime, files: KeptFiles::default() };
    let Some(mapped) = (match mapped {
        Some(mapped) => Some(mapped),
        None => session.map_all(modules)?,
    }) else {
        return Ok(());
    };
    confine.seal(&session.runtime.space()).map_err(SetupError::from)?;
    if session.start_all(mapped)?.is_continue() {
        session.run()?;
    }
    Ok(())
}

/// Without one, wasmtime-wasi would start a runtime of several threads at its first call. This one has no
/// thread and no descriptor.
pub(crate) fn threadless() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().build()
}

/// Maps the shared memory, and then uses the rings, if there are any.
fn share(setup: &Setup, port: &mut WorkerPort) -> Result<StatusPage, SetupError> {
    let mut next = || port.take_descriptor().map(File::from).ok_or(MappingError::Unsealed);
    let page = StatusPage::open(next()?)?;
    if setup.rings {
        let rings = Rings::open(next()?)?;
        port.use_rings(&rings);
    }
    Ok(page)
}

fn set_up(
    setup: Setup,
    page: StatusPage,
    host: Host,
    confine: &mut impl Confine,
    stocked: Option<Runtime>,
) -> Result<(Runtime, LockdownReport), SetupError> {
    wasi::check(&setup.grants)?;
    let mut runtime = match stocked {
        Some(mut runtime) => {
            confine.enter(&setup);
            runtime.link_to(host, page);
            runtime
        }
        None => {
            let engine = engine::for_worker(&setup)?;
            confine.enter(&setup);
            Runtime::new(engine, setup, host, page)?
        }
    };
    runtime.watch_deadlines()?;
    let report = confine.close(&runtime.space())?;
    Ok((runtime, report))
}

/// Maps one module.
pub(crate) fn map(runtime: &mut Runtime, load: Load, artefact: File) -> Mapped {
    let module = load.module;
    (module, runtime.load(load, artefact).err().map(|error| error.to_string()))
}

fn descriptor(host: &Host) -> Result<OwnedFd, SessionError> {
    beside(host.take_descriptor())
}

/// What came with a message that calls for it.
pub(crate) fn beside(descriptor: Option<OwnedFd>) -> Result<OwnedFd, SessionError> {
    descriptor.ok_or(SessionError::Protocol("a message without its descriptor"))
}

#[derive(Debug)]
struct Session {
    host: Host,
    runtime: Runtime,
    files: KeptFiles,
}

impl Session {
    fn run(mut self) -> Result<(), SessionError> {
        while let Some(message) = self.host.receive()? {
            if self.handle(message)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn handle(&mut self, message: HostMessage) -> Result<ControlFlow<()>, SessionError> {
        match message {
            HostMessage::Setup(_) => Err(SessionError::Protocol("a second setup")),
            HostMessage::Load(_) => Err(SessionError::Protocol("more modules than announced")),
            HostMessage::Run(run) => self.run_batch(run),
            HostMessage::Initialize { module, call, state_bytes_max } => {
                self.initialize(module, &call, state_bytes_max)
            }
            HostMessage::Close => self.close(),
        }
    }

    /// Maps the modules that the setup announced; `None` where the host closes before the last.
    fn map_all(&mut self, modules: u32) -> Result<Option<Vec<Mapped>>, SessionError> {
        let mut mapped = Vec::new();
        while mapped.len() < modules as usize {
            let load = match self.host.receive()? {
                None => return Ok(None),
                Some(HostMessage::Load(load)) => load,
                Some(HostMessage::Close) => {
                    let _: ControlFlow<()> = self.close()?;
                    return Ok(None);
                }
                Some(_) => return Err(SessionError::Protocol("a message before the modules")),
            };
            let artefact = File::from(descriptor(&self.host)?);
            if self.runtime.has(load.module) {
                return Err(SessionError::Protocol("a module is loaded twice"));
            }
            mapped.push(map(&mut self.runtime, load, artefact));
        }
        Ok(Some(mapped))
    }

    /// Starts the modules that live as long as the worker. No code of any runs before all are mapped.
    fn start_all(&mut self, mapped: Vec<Mapped>) -> Result<ControlFlow<()>, SessionError> {
        for (module, failed) in mapped {
            let answer = match failed {
                Some(why) => WorkerMessage::LoadFailed(module, bounded(&why)),
                None => match self.runtime.start(module) {
                    Ok(()) => WorkerMessage::Loaded(module),
                    Err(failure) => {
                        self.host.send(&WorkerMessage::InitializerFailed(failure), Bell::Now)?;
                        return Ok(ControlFlow::Break(()));
                    }
                },
            };
            self.host.send(&answer, Bell::Now)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Runs the tasks of a batch, one after the other, until one was revoked.
    fn run_batch(&mut self, run: Run) -> Result<ControlFlow<()>, SessionError> {
        let placement = run.placement;
        let descriptors = descriptors_of(&run.invocation);
        let mut batch = Batch::new(run).map_err(SessionError::Protocol)?;
        self.check(&batch)?;
        let mut stdio = Vec::new();
        for _ in 0..descriptors {
            stdio.push(descriptor(&self.host)?);
        }
        let mut input = match placement {
            None => None,
            Some(placement) => {
                let found = self.files.find(placement, || self.host.take_descriptor());
                Some(found.map_err(SessionError::Protocol)?)
            }
        };
        while let Some(task) = batch.next_task() {
            let is_last = task.is_last;
            let run = self.runtime.run(&batch, task, std::mem::take(&mut stdio), input.take());
            let finished = match run {
                Ok(finished) => finished,
                Err(Unfinished::Initializer(failure)) => {
                    self.host.send(&WorkerMessage::InitializerFailed(failure), Bell::Now)?;
                    self.runtime.rest();
                    return Ok(ControlFlow::Break(()));
                }
                Err(Unfinished::OutOfMemory) => return Err(SessionError::OutOfMemory),
            };
            let is_last = is_last || finished.outcome == Outcome::Recalled;
            let bell = if is_last { Bell::Soon } else { Bell::Busy };
            self.host.send(&WorkerMessage::Finished(finished), bell)?;
            self.runtime.rest();
            if is_last {
                break;
            }
        }
        self.files.trim();
        Ok(ControlFlow::Continue(()))
    }

    /// Whether this worker can run a batch.
    fn check(&self, batch: &Batch) -> Result<(), SessionError> {
        if !self.runtime.has(batch.module) {
            return Err(SessionError::UnknownModule(batch.module));
        }
        if !batch.callee().is_some_and(|callee| self.runtime.knows(batch.module, callee)) {
            return Err(SessionError::Protocol("a function that was not announced"));
        }
        if batch.limits.as_ref().is_some_and(|limits| !self.runtime.enforces(limits)) {
            return Err(SessionError::Protocol("limits for which no checks are compiled in"));
        }
        Ok(())
    }

    fn initialize(
        &mut self,
        module: ModuleId,
        call: &HookCall,
        state_bytes_max: u64,
    ) -> Result<ControlFlow<()>, SessionError> {
        let file = File::from(descriptor(&self.host)?);
        if !self.runtime.has(module) {
            return Err(SessionError::UnknownModule(module));
        }
        let (answer, flow) = match self.runtime.initialize(module, call, state_bytes_max, &file) {
            Ok(state_bytes) => {
                (WorkerMessage::Initialized { state_bytes }, ControlFlow::Continue(()))
            }
            Err(failure) => (WorkerMessage::InitializerFailed(failure), ControlFlow::Break(())),
        };
        self.host.send(&answer, Bell::Now)?;
        Ok(flow)
    }

    fn close(&mut self) -> Result<ControlFlow<()>, SessionError> {
        let last = match self.runtime.finalize() {
            Ok(()) => WorkerMessage::Closed,
            Err(failure) => WorkerMessage::FinalizerFailed(failure),
        };
        self.host.send(&last, Bell::Now)?;
        Ok(ControlFlow::Break(()))
    }
}

/// How many descriptors come with an invocation.
fn descriptors_of(invocation: &Invocation) -> usize {
    let Invocation::Command { call: command, .. } = invocation else { return 0 };
    usize::from(command.stdin == Stdin::Descriptor)
        + usize::from(command.stdout == StdioSink::Descriptor)
        + usize::from(command.stderr == StdioSink::Descriptor)
}

//! Preparation: runs an initializer once and makes its effect part of the module.
//!
//! Three processes, so that no guest code runs where code is compiled: a compiler instruments the
//! module, a worker runs the initializer in it and writes down the instance's state, and a compiler
//! compiles the module with that state. The state passes through here sealed and unread.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, mem};

use stockade_wire::descriptor::{self, SendError, Sender};
use stockade_wire::frame::{Body, FrameError, FrameReader};
use stockade_wire::{
    CompileStep, EngineSettings, HookCall, HostMessage, Instances, Load, ModuleId,
    OUT_OF_MEMORY_EXIT_CODE, Role, Setup, StatusPage, TaskId, WorkerMessage, codec,
};

use crate::allowance::Allowance;
use crate::cache::CachedCompiler;
use crate::compile::{
    DEATH_PATIENCE, DeadlineStream, Interrupt, NotCompiled, Source, excess_of, is_hang_up,
    timed_out,
};
use crate::footprint::{MemoryAllowance, Weighed};
use crate::process::{self, Process};
use crate::{BrokenError, MachineError, MachineFault, MemoryExcess, TaskError, WorkerExit, oom};

/// What is to be prepared: one module and its initializer.
#[derive(Clone, Debug)]
pub(crate) struct Preparation {
    pub(crate) compiler: CachedCompiler,
    pub(crate) source: Source,
    pub(crate) module: ModuleId,
    pub(crate) initializer: HookCall,
    /// For the worker in between; its number is not used.
    pub(crate) setup: Setup,
}

/// What a worker may take beyond the initializer's own time: start, load, and writing the state.
const OVERHEAD: Duration = Duration::from_secs(20);

/// For wall times that no clock can add up.
const PATIENCE_MAX: Duration = Duration::from_secs(365 * 86_400);

/// For an initializer without a wall time of its own.
const WALL_TIME_DEFAULT: Duration = Duration::from_secs(600);

impl Preparation {
    /// Makes the initialised artefact. Blocks until it is there, its parts' limits are reached, or
    /// `interrupt` ends it.
    pub(crate) fn run(&self, interrupt: &Interrupt) -> Result<Arc<File>, BrokenError> {
        let compile = |compiler: &CachedCompiler, step, state: Option<&File>| {
            let made = compiler.compile(&self.source, step, state, interrupt);
            made.map(|(_, artefact)| artefact).map_err(|error| match error {
                NotCompiled::Refused(reason) => BrokenError::Preparation(reason),
                NotCompiled::Machine(error) => BrokenError::Machine(error),
            })
        };
        let setup = self.initializer_setup();
        let checked = self.compiler.for_engine(setup.engine.clone());
        let instrumented = compile(&checked, CompileStep::Instrument, None)?;
        let state = self.initialize(&setup, &instrumented, interrupt)?;
        Ok(Arc::new(compile(&self.compiler, CompileStep::Snapshot, Some(&state))?))
    }

    /// The setup of the worker in between. Its code is compiled for it alone, so it can have the
    /// checks that let it end at its deadline by itself; the tasks' code stays without.
    fn initializer_setup(&self) -> Setup {
        let limits = self.setup.limits.clone().interruptible(true);
        let EngineSettings { features, unknown_imports, .. } = self.setup.engine;
        let engine = EngineSettings { features, unknown_imports, ..limits.engine_settings() };
        Setup { instances: Instances::PerTask, limits, engine, ..self.setup.clone() }
    }

    /// How long the initializer may run.
    fn wall_time(&self) -> Duration {
        self.setup.limits.wall_time.unwrap_or(WALL_TIME_DEFAULT)
    }

    fn initialize(
        &self,
        setup: &Setup,
        artefact: &File,
        interrupt: &Interrupt,
    ) -> Result<File, BrokenError> {
        let state = descriptor::memory_file("stockade-state").map_err(failed)?;
        let lockdown = &setup.confinement.lockdown;
        let oom_kills = oom::kills();
        let Process { mut child, socket, confinement } =
            process::start(self.compiler.program(), Role::Worker, &setup.name, lockdown)
                .map_err(failed)?;
        let setup = &Setup { confinement, rings: false, ..setup.clone() };
        let wall_time = self.wall_time();
        let patience = wall_time.saturating_add(OVERHEAD).min(PATIENCE_MAX);
        let mut progress = Progress::default();
        let outcome = (|| {
            interrupt.watch(&socket).map_err(failed)?;
            let mut sender = Sender::new(socket.try_clone().map_err(failed)?);
            self.ask(&mut sender, setup, artefact, &state)?;
            let allowance = MemoryAllowance::of(setup.data_bytes_max());
            let weighed = Weighed { pid: child.id(), allowance };
            let stream = DeadlineStream::new(&socket, Instant::now() + patience, weighed);
            self.await_state(FrameReader::new(stream, setup.limits.frame_bytes()), &mut progress)
        })();
        let processor_time = process::processor_time_of(child.id());
        // One that has hung up is dying, unless it is hostile or was interrupted.
        let has_ended = matches!(outcome, Err(Stop::Ended(None)))
            && !interrupt.is_interrupted()
            && child.ends_within(DEATH_PATIENCE);
        // Whether it has answered or not: nothing more is wanted of it. One that was dying already keeps
        // the cause of its death.
        child.kill();
        let exit = child.wait();
        let memory_excess = match outcome {
            Ok(()) => {
                descriptor::seal(&state).map_err(failed)?;
                return Ok(state);
            }
            Err(Stop::Broken(error)) => return Err(error),
            Err(Stop::Late) if progress.is_loaded => {
                let error = TaskError::Deadline { limit: wall_time, backtrace: Vec::new() };
                return Err(BrokenError::Initializer(error));
            }
            Err(Stop::Late) => {
                let fault = MachineFault::Busy { waited: patience, processor_time };
                return Err(machine(fault));
            }
            Err(Stop::Ended(memory_excess)) => memory_excess,
        };
        let exit = WorkerExit {
            worker: setup.name.clone(),
            pid: child.id(),
            signal: exit.signal().filter(|_| has_ended),
            code: exit.code(),
            out_of_memory: exit.code() == Some(OUT_OF_MEMORY_EXIT_CODE)
                || exit.signal() == Some(libc::SIGKILL) && oom::rose(oom_kills, oom::kills()),
            memory_excess,
        };
        // The module was mapped, and code of it ran: no machine is to blame.
        match progress.is_loaded {
            true => Err(BrokenError::Initializer(TaskError::WorkerLost(exit))),
            false => Err(machine(MachineFault::of_exit(&exit))),
        }
    }

    fn ask(
        &self,
        sender: &mut Sender,
        setup: &Setup,
        artefact: &File,
        state: &File,
    ) -> Result<(), Stop> {
        let page = StatusPage::create().map_err(failed)?;
        let load = Load {
            module: self.module,
            name: self.source.name.clone(),
            functions: Vec::new(),
            initializer: None,
            finalizer: None,
            initialized: false,
        };
        let initialize = HostMessage::Initialize {
            module: self.module,
            call: self.initializer.clone(),
            // A module's globals and the index of its pages come on top of its memory.
            state_bytes_max: setup.limits.memory_bytes + (16 << 20),
        };
        let setup = HostMessage::Setup(setup.clone());
        sender.try_send(&setup, &[page.descriptor()]).map_err(unsent)?;
        sender.try_send(&HostMessage::Load(load), &[artefact.as_fd()]).map_err(unsent)?;
        sender.try_send(&initialize, &[state.as_fd()]).map_err(unsent)
    }

    fn await_state(
        &self,
        mut frames: FrameReader<DeadlineStream<'_>>,
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        let mut allowance = Allowance::new(&self.setup.limits);
        loop {
            let message = match frames.read() {
                Ok(Some(Body::Inline(body))) => codec::decode(body).map_err(failed)?,
                Ok(Some(Body::OutOfLine(_))) => return Err(failed("a frame out of line").into()),
                Ok(None) => return Err(Stop::Ended(None)),
                Err(FrameError::Io(error)) if timed_out(&error) => return Err(Stop::Late),
                Err(FrameError::Io(error)) if excess_of(&error).is_some() => {
                    return Err(Stop::Ended(excess_of(&error)));
                }
                // Its end of the socket is gone with unread messages in it.
                Err(FrameError::Io(error)) if is_hang_up(&error) => {
                    return Err(Stop::Ended(None));
                }
                Err(error) => return Err(failed(error).into()),
            };
            match message {
                WorkerMessage::Ready(_) if !mem::replace(&mut progress.is_ready, true) => {}
                WorkerMessage::Loaded(_) if !mem::replace(&mut progress.is_loaded, true) => {}
                // An initializer belongs to no task: its items go nowhere.
                WorkerMessage::Emitted(TaskId(0), item) if allowance.hook_item(item.len()) => {}
                WorkerMessage::Initialized { .. } => return Ok(()),
                WorkerMessage::InitializerFailed(failure) => {
                    let error = TaskError::from_failure(failure, Some(self.wall_time()));
                    return Err(BrokenError::Initializer(error).into());
                }
                WorkerMessage::LoadFailed(_, why) | WorkerMessage::SetupFailed(why) => {
                    return Err(failed(why).into());
                }
                // Not shown: it may be as long as a frame.
                _ => return Err(failed("its worker said what has no place there").into()),
            }
        }
    }
}

/// What a worker has said of itself so far.
#[derive(Debug, Default)]
struct Progress {
    is_ready: bool,
    /// Whether the initializer may have begun.
    is_loaded: bool,
}

/// Why there is no state.
enum Stop {
    /// For a reason that is known.
    Broken(BrokenError),
    /// The worker has ended, or is to be ended because of its memory.
    Ended(Option<MemoryExcess>),
    /// Its time is up.
    Late,
}

impl From<BrokenError> for Stop {
    fn from(error: BrokenError) -> Self {
        Self::Broken(error)
    }
}

/// Why a message was not sent: the worker is gone, or whatever else.
fn unsent(error: SendError) -> Stop {
    match error {
        SendError::Io(error) if is_hang_up(&error) => Stop::Ended(None),
        error => failed(error).into(),
    }
}

fn machine(fault: MachineFault) -> BrokenError {
    BrokenError::Machine(MachineError { task: INITIALISE.into(), fault })
}

/// What is done with a module here, as an error says it.
const INITIALISE: &str = "initialise the module";

/// An error that says nothing about the module.
fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> BrokenError {
    BrokenError::Machine(MachineError::of(INITIALISE, &io::Error::other(error)))
}

/// A preparation under way.
#[derive(Debug)]
pub(crate) struct PreparationThread {
    interrupt: Arc<Interrupt>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl PreparationThread {
    /// Runs `preparation` on a thread of its own and hands the result to `done`.
    pub(crate) fn start(
        preparation: Preparation,
        done: impl FnOnce(Result<Arc<File>, BrokenError>) + Send + 'static,
    ) -> io::Result<Self> {
        let interrupt = Arc::new(Interrupt::default());
        let watched = interrupt.clone();
        // The processes it starts end with it at the latest.
        let thread = std::thread::Builder::new()
            .name("stockade-prepare".into())
            .spawn(move || done(preparation.run(&watched)))?;
        Ok(Self { interrupt, thread: Some(thread) })
    }
}

impl Drop for PreparationThread {
    /// Ends the preparation if it is still under way, and waits for its end.
    fn drop(&mut self) {
        self.interrupt.interrupt();
        // The thread itself may be what ends the pool.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

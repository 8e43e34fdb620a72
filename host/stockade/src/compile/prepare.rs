//! Preparation: runs an initializer once, and makes the initialised module.
//!
//! Three processes, so that no guest code runs where code is compiled: a compiler instruments the
//! module, a worker runs the initializer in it and writes down the instance's state, and a compiler
//! compiles the module with that state. The state passes through here sealed and unread.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;
use std::{io, mem};

use stockade_wire::{
    CompileStep, EngineSettings, HookCall, HostMessage, Instances, Load, ModuleId,
    OUT_OF_MEMORY_EXIT_CODE, Role, Setup, StatusPage, TaskId, WorkerMessage, descriptor,
};

use crate::base::deadline;
use crate::compile::cache::CachedCompiler;
use crate::compile::compiler::{NotCompiled, Source};
use crate::outcome::error::{BrokenError, TaskError};
use crate::outcome::exit::WorkerExit;
use crate::outcome::machine::{MachineError, MachineFault};
use crate::process::allowance::Allowance;
use crate::process::conversation::{Conversation, End, Interrupt, NoAnswer};
use crate::process::footprint::MemoryAllowance;

/// One module and its initializer.
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
        let setup = &Setup { rings: false, ..setup.clone() };
        let mut worker = Conversation::start(
            self.compiler.program(),
            Role::Worker,
            &setup.name,
            lockdown,
            MemoryAllowance::of(setup.data_bytes_max()),
            setup.limits.frame_bytes(),
        )
        .and_then(|worker| worker.until(interrupt))
        .map_err(failed)?;
        let wall_time = self.wall_time();
        let waited = wall_time.saturating_add(OVERHEAD);
        let mut progress = Progress::default();
        let outcome = self
            .ask(&mut worker, setup, artefact, &state)
            .and_then(|()| self.await_state(&mut worker, waited, &mut progress));
        let pid = worker.pid();
        // Whether it has answered or not, nothing more is wanted of it.
        drop(worker);
        let (signal, code, out_of_memory, memory_excess) = match outcome {
            Ok(()) => {
                descriptor::seal(&state).map_err(failed)?;
                return Ok(state);
            }
            Err(Stop::Broken(error)) => return Err(error),
            Err(Stop::NoAnswer(NoAnswer::Late { .. })) if progress.is_loaded => {
                let error = TaskError::Deadline { limit: wall_time, backtrace: Vec::new() };
                return Err(BrokenError::Initializer(error));
            }
            Err(Stop::NoAnswer(NoAnswer::Late { processor_time })) => {
                return Err(machine(MachineFault::Busy { waited, processor_time }));
            }
            Err(Stop::NoAnswer(NoAnswer::Ended(End { exit, by_itself, out_of_memory }))) => {
                let signal = exit.signal().filter(|_| by_itself);
                let out_of_memory = exit.code() == Some(OUT_OF_MEMORY_EXIT_CODE)
                    || exit.signal() == Some(libc::SIGKILL) && out_of_memory;
                (signal, exit.code(), out_of_memory, None)
            }
            Err(Stop::NoAnswer(NoAnswer::TooMuchMemory(excess))) => {
                (None, None, false, Some(excess))
            }
            Err(Stop::NoAnswer(error)) => return Err(failed(error)),
        };
        let worker = setup.name.clone();
        let exit = WorkerExit { worker, pid, signal, code, out_of_memory, memory_excess };
        // The module was mapped and ran: the machine is not at fault.
        match progress.is_loaded {
            true => Err(BrokenError::Initializer(TaskError::WorkerLost(exit))),
            false => Err(machine(MachineFault::of_exit(&exit))),
        }
    }

    fn ask(
        &self,
        worker: &mut Conversation,
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
        let confinement = worker.confinement().clone();
        let setup = HostMessage::Setup(Setup { confinement, ..setup.clone() });
        worker.send(&setup, &[page.descriptor()])?;
        worker.send(&HostMessage::Load(load), &[artefact.as_fd()])?;
        Ok(worker.send(&initialize, &[state.as_fd()])?)
    }

    fn await_state(
        &self,
        worker: &mut Conversation,
        timeout: Duration,
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        let deadline = deadline::after(timeout);
        let mut allowance = Allowance::new(&self.setup.limits);
        loop {
            match worker.receive(deadline)? {
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
                _ => return Err(failed("its worker sent an unexpected message").into()),
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
    /// For a reason that the worker told.
    Broken(BrokenError),
    /// The worker has told nothing.
    NoAnswer(NoAnswer),
}

impl From<BrokenError> for Stop {
    fn from(error: BrokenError) -> Self {
        Self::Broken(error)
    }
}

impl From<NoAnswer> for Stop {
    fn from(error: NoAnswer) -> Self {
        Self::NoAnswer(error)
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
    interrupt: Interrupt,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl PreparationThread {
    /// Runs `preparation` on a thread of its own and hands the result to `done`.
    pub(crate) fn start(
        preparation: Preparation,
        done: impl FnOnce(Result<Arc<File>, BrokenError>) + Send + 'static,
    ) -> io::Result<Self> {
        let interrupt = Interrupt::default();
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

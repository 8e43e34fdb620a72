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

use stockade_wire::descriptor::{self, Sender};
use stockade_wire::frame::{Body, FrameReader};
use stockade_wire::{
    CompileStep, EngineSettings, HookCall, HostMessage, Instances, Load, ModuleId, Role, Setup,
    StatusPage, TaskId, WorkerMessage, codec,
};

use crate::allowance::Allowance;
use crate::cache::CachedCompiler;
use crate::compile::{DeadlineStream, Interrupt, Source, timed_out};
use crate::footprint::{MemoryAllowance, Weighed};
use crate::process::{self, Process};
use crate::{BrokenError, RefusedReason, TaskError};

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
            made.map(|(_, artefact)| artefact).map_err(BrokenError::Preparation)
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
        let features = self.setup.engine.features;
        let engine = EngineSettings { features, ..limits.engine_settings() };
        Setup { instances: Instances::PerTask, limits, engine, ..self.setup.clone() }
    }

    fn initialize(
        &self,
        setup: &Setup,
        artefact: &File,
        interrupt: &Interrupt,
    ) -> Result<File, BrokenError> {
        let state = descriptor::memory_file("stockade-state").map_err(failed)?;
        let lockdown = &setup.confinement.lockdown;
        let Process { mut child, socket, confinement } =
            process::start(self.compiler.program(), Role::Worker, &setup.name, lockdown)
                .map_err(failed)?;
        let setup = &Setup { confinement, rings: false, ..setup.clone() };
        let outcome = (|| {
            interrupt.watch(&socket).map_err(failed)?;
            let mut sender = Sender::new(socket.try_clone().map_err(failed)?);
            self.ask(&mut sender, setup, artefact, &state)?;
            let wall_time = setup.limits.wall_time.unwrap_or(WALL_TIME_DEFAULT);
            let patience = wall_time.saturating_add(OVERHEAD).min(PATIENCE_MAX);
            let allowance = MemoryAllowance::of(setup.data_bytes_max());
            let weighed = Weighed { pid: child.id(), allowance };
            let stream = DeadlineStream::new(&socket, Instant::now() + patience, weighed);
            self.await_state(FrameReader::new(stream, setup.limits.frame_bytes()), wall_time)
        })();
        // Whether it has answered or not: nothing more is wanted of it.
        child.kill();
        child.wait();
        outcome?;
        descriptor::seal(&state).map_err(failed)?;
        Ok(state)
    }

    fn ask(
        &self,
        sender: &mut Sender,
        setup: &Setup,
        artefact: &File,
        state: &File,
    ) -> Result<(), BrokenError> {
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
        sender
            .try_send(&HostMessage::Setup(setup.clone()), &[page.descriptor()])
            .map_err(failed)?;
        sender.try_send(&HostMessage::Load(load), &[artefact.as_fd()]).map_err(failed)?;
        sender.try_send(&initialize, &[state.as_fd()]).map_err(failed)
    }

    fn await_state(
        &self,
        mut frames: FrameReader<DeadlineStream<'_>>,
        wall_time: Duration,
    ) -> Result<(), BrokenError> {
        let mut allowance = Allowance::new(&self.setup.limits);
        let (mut is_ready, mut is_loaded) = (false, false);
        loop {
            let message = match frames.read() {
                Ok(Some(Body::Inline(body))) => codec::decode(body).map_err(failed)?,
                Ok(Some(Body::OutOfLine(_))) => return Err(failed("a frame out of line")),
                Ok(None) => return Err(failed("its worker died")),
                Err(stockade_wire::frame::FrameError::Io(error)) if timed_out(&error) => {
                    let error = TaskError::Deadline { limit: wall_time, backtrace: Vec::new() };
                    return Err(BrokenError::Initializer(error));
                }
                Err(error) => return Err(failed(error)),
            };
            match message {
                WorkerMessage::Ready(_) if !mem::replace(&mut is_ready, true) => {}
                WorkerMessage::Loaded(_) if !mem::replace(&mut is_loaded, true) => {}
                // An initializer belongs to no task: its items go nowhere.
                WorkerMessage::Emitted(TaskId(0), item) if allowance.hook_item(item.len()) => {}
                WorkerMessage::Initialized { .. } => return Ok(()),
                WorkerMessage::InitializerFailed(failure) => {
                    let error = TaskError::from_failure(failure, Some(wall_time));
                    return Err(BrokenError::Initializer(error));
                }
                WorkerMessage::LoadFailed(_, why) | WorkerMessage::SetupFailed(why) => {
                    return Err(failed(why));
                }
                // Not shown: it may be as long as a frame.
                _ => return Err(failed("its worker said what has no place there")),
            }
        }
    }
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> BrokenError {
    let error = error.into();
    BrokenError::Preparation(RefusedReason::Compiler(format!("initialising it failed: {error}")))
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

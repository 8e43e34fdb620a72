//! Compilers: one process for one step of one module, held to limits of its own.
//!
//! A compiler reads the module from a sealed memory file and writes the artefact to another, which
//! is sealed here once the process is gone. This module never looks inside either.

mod blame;
mod source;
mod waiting;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use stockade_wire::descriptor::{self, SendError, Sender};
use stockade_wire::frame::{Body, FrameError, FrameReader};
use stockade_wire::{
    CodePlace, CompileLimits, CompileReply, CompileRequest, CompileStep, CompilerSetup,
    EngineSettings, Lockdown, ModuleDescription, Role, SourcePlace, codec,
};

use crate::footprint::{MemoryAllowance, Weighed};
use crate::process::{self, Exit, Process};
use crate::{BuildError, MachineError, MachineFault, RefusedReason, oom};

use blame::{End, artefact_beyond, beyond, died, out_of_turn, refused, took_too_long};
use source::no_memory_file;
pub(crate) use source::{Filling, ModuleHash, PIECE_BYTES, Source};
pub(crate) use waiting::{
    DEATH_PATIENCE, DeadlineStream, Interrupt, Patience, excess_of, is_hang_up, timed_out,
};

/// The most bytes of a compiler's reply: a description of a module with very many exports.
pub(crate) const REPLY_BYTES_MAX: usize = 64 << 20;

/// Why a module was not compiled, by whose fault that is.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NotCompiled {
    /// The module's alone: of the same limits it would be refused by any machine.
    #[error(transparent)]
    Refused(RefusedReason),
    /// The machine's, or that of this program.
    #[error(transparent)]
    Machine(MachineError),
}

impl NotCompiled {
    /// The error of a pool that cannot be built without the module `name`.
    pub(crate) fn of_module(self, name: &str) -> BuildError {
        match self {
            Self::Refused(reason) => BuildError::Refused { name: name.to_owned(), reason },
            Self::Machine(error) => BuildError::Machine(error),
        }
    }
}

impl From<RefusedReason> for NotCompiled {
    fn from(reason: RefusedReason) -> Self {
        Self::Refused(reason)
    }
}

impl From<MachineFault> for NotCompiled {
    fn from(fault: MachineFault) -> Self {
        Self::Machine(MachineError { task: COMPILE.into(), fault })
    }
}

/// What is done with a module here, as an error says it.
const COMPILE: &str = "compile a module";
const MAKE_FILE: &str = "make a memory file for a module";
const READ: &str = "read a module";

/// Starts compilers.
#[derive(Clone, Debug)]
pub(crate) struct Compiler {
    pub(crate) program: PathBuf,
    pub(crate) engine: EngineSettings,
    pub(crate) limits: CompileLimits,
    pub(crate) lockdown: Lockdown,
    /// Whether its modules are to leave core dumps.
    pub(crate) exposed: bool,
}

impl Compiler {
    /// Takes `source` one `step` on its way, in a process of its own. Blocks for at most
    /// the wall time of its limits. The artefact comes back sealed, and empty for
    /// [`CompileStep::Describe`].
    pub(crate) fn compile(
        &self,
        source: &Source,
        step: CompileStep,
        state: Option<&File>,
        interrupt: &Interrupt,
    ) -> Result<(ModuleDescription, File), NotCompiled> {
        let span = tracing::debug_span!(
            target: "stockade::compile",
            "compile",
            module = %source.name,
            step = ?step
        );
        let _entered = span.entered();
        let artefact = descriptor::memory_file("stockade-artefact").map_err(no_memory_file)?;
        let request = self.request(source, step);
        let mut descriptors = vec![source.sealed()?.as_fd(), artefact.as_fd()];
        descriptors.extend(state.map(AsFd::as_fd));

        let (reply, end) = self.exchange(source, &request, &descriptors, interrupt)?;
        let CompileReply::Compiled(description) = self.answer(source, reply, end)? else {
            return Err(out_of_turn());
        };
        self.check_artefact(&artefact)?;
        descriptor::seal(&artefact).map_err(no_memory_file)?;
        Ok((description, artefact))
    }

    /// # Errors
    /// That `artefact` has more bytes than the limits allow.
    pub(crate) fn check_artefact(&self, artefact: &File) -> Result<(), NotCompiled> {
        match artefact.metadata().map_err(no_memory_file)?.len() <= self.limits.artefact_bytes {
            true => Ok(()),
            false => Err(artefact_beyond(&self.limits)),
        }
    }

    /// Says where in the source of `source` the `places` in its code are, in a process of its own.
    /// Blocks for at most the wall time of its limits. A list for each place, in their order.
    pub(crate) fn locate(
        &self,
        source: &Source,
        places: Vec<CodePlace>,
    ) -> Result<Vec<Vec<SourcePlace>>, NotCompiled> {
        let count = places.len();
        let nothing = descriptor::memory_file("stockade-artefact").map_err(no_memory_file)?;
        let request = self.request(source, CompileStep::Locate(places));
        let descriptors = [source.sealed()?.as_fd(), nothing.as_fd()];
        let (reply, end) = self.exchange(source, &request, &descriptors, &Interrupt::default())?;
        match self.answer(source, reply, end)? {
            CompileReply::Located(found) if found.len() == count => Ok(found),
            _ => Err(out_of_turn()),
        }
    }

    /// What a compiler has answered, if that is of use.
    fn answer(&self, source: &Source, reply: Reply, end: End) -> Result<CompileReply, NotCompiled> {
        let End { exit, .. } = end;
        match reply {
            Ok(Some(CompileReply::Refused(refusal))) => Err(refused(refusal)),
            Ok(Some(CompileReply::Failed(why))) => Err(MachineFault::Process(why).into()),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(died(&end, source.bytes, &self.limits)),
            Err(FrameError::Io(error)) if timed_out(&error) => {
                Err(took_too_long(&end, self.limits.wall_time_of(source.bytes)))
            }
            Err(FrameError::Io(error)) if excess_of(&error).is_some() => {
                Err(beyond("memory_bytes", error.to_string()))
            }
            // It ended by itself, and not because it was no longer wanted.
            Err(_) if end.has_ended && exit != Exit::Unknown => {
                Err(died(&end, source.bytes, &self.limits))
            }
            Err(error) => {
                Err(MachineFault::Process(format!("its compiler's reply is unusable: {error}"))
                    .into())
            }
        }
    }

    /// Asks one process and waits for its end, whatever it answers.
    fn exchange(
        &self,
        source: &Source,
        request: &CompileRequest,
        descriptors: &[BorrowedFd<'_>],
        interrupt: &Interrupt,
    ) -> Result<(Reply, End), NotCompiled> {
        let name = "stockade-compiler";
        let oom_kills = oom::kills();
        let started = process::start(&self.program, Role::Compiler, name, &self.lockdown);
        let mut process = started
            .map_err(|error| NotCompiled::Machine(MachineError::of("start a compiler", &error)))?;
        let patience = request.limits.wall_time_of(source.bytes);
        let threads = self.threads(source, &request.step);
        let stack_bytes = CompileLimits::stack_bytes_of(threads);
        let setup = CompilerSetup { confinement: process.confinement.clone(), threads };
        let reply = converse(&process, &setup, request, patience, descriptors, interrupt);
        let processor_time = process::processor_time_of(process.child.id());
        // One that has hung up is dying, unless it is hostile or was interrupted.
        let hung_up = match &reply {
            Ok(None) => true,
            Err(FrameError::Io(error)) => is_hang_up(error),
            _ => false,
        };
        let has_ended =
            hung_up && !interrupt.is_interrupted() && process.child.ends_within(DEATH_PATIENCE);
        // It has answered, failed, or run out of time: nothing more is wanted of it. One that was
        // dying already keeps the cause of its death.
        process.child.kill();
        let exit = process.child.wait();
        let out_of_memory = oom::rose(oom_kills, oom::kills());
        Ok((reply, End { exit, has_ended, out_of_memory, processor_time, stack_bytes }))
    }

    /// How many threads its compiler has for a `step` of `source`.
    fn threads(&self, source: &Source, step: &CompileStep) -> u32 {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        match step.generates_code() {
            true => self.limits.threads_of(source.bytes, processors),
            false => 1,
        }
    }

    /// What a compiler is asked, which is all that it makes an artefact from beside the module and
    /// a state. So it says nothing of threads, and the key of a cache's entry, which is made of this,
    /// does not depend on how many there were.
    pub(crate) fn request(&self, source: &Source, step: CompileStep) -> CompileRequest {
        CompileRequest {
            step,
            engine: self.engine.clone(),
            text: source.text,
            limits: self.limits.clone().threads(None),
            exposed: self.exposed,
        }
    }
}

type Reply = Result<Option<CompileReply>, FrameError>;

/// Sends the request once the compiler has said that it is confined.
fn converse(
    process: &Process,
    setup: &CompilerSetup,
    request: &CompileRequest,
    patience: Duration,
    descriptors: &[BorrowedFd<'_>],
    interrupt: &Interrupt,
) -> Reply {
    let socket = &process.socket;
    interrupt.watch(socket)?;
    let mut sender = Sender::new(socket.try_clone()?);
    let deadline = Instant::now() + patience;
    let stack_bytes = CompileLimits::stack_bytes_of(setup.threads);
    let allowance = MemoryAllowance::of(request.limits.memory_bytes.saturating_add(stack_bytes));
    let weighed = Weighed { pid: process.child.id(), allowance };
    let stream = DeadlineStream::new(socket, deadline, weighed);
    let mut frames = FrameReader::new(stream, REPLY_BYTES_MAX);
    sender.try_send(setup, &[]).map_err(unsent)?;
    match read_reply(&mut frames)? {
        Some(CompileReply::Ready(_)) => {}
        other => return Ok(other),
    }
    sender.try_send(request, descriptors).map_err(unsent)?;
    read_reply(&mut frames)
}

/// The socket's error, where that is what a message was not sent for.
fn unsent(error: SendError) -> io::Error {
    match error {
        SendError::Io(error) => error,
        other => io::Error::other(other),
    }
}

fn read_reply(frames: &mut FrameReader<DeadlineStream<'_>>) -> Reply {
    match frames.read()? {
        None => Ok(None),
        Some(Body::Inline(body)) => Ok(Some(codec::decode(body)?)),
        Some(Body::OutOfLine(_)) => Err(FrameError::Misplaced),
    }
}

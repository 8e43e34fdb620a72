//! Compilers: one process for one step of one module, with limits of its own.
//!
//! A compiler reads the module from a sealed memory file and writes the artefact to another, which
//! is sealed here once the process is gone. This module never looks inside either.

mod blame;
mod source;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use stockade_wire::{
    CodePlace, CompileLimits, CompileReply, CompileRequest, CompileStep, CompilerSetup,
    EngineSettings, Lockdown, ModuleDescription, Role, SourcePlace, descriptor,
};

use crate::base::deadline;
use crate::outcome::error::{BuildError, RefusedReason};
use crate::outcome::machine::{MachineError, MachineFault};
use crate::process::conversation::{Conversation, Interrupt, NoAnswer};
use crate::process::footprint::MemoryAllowance;

use blame::{artefact_beyond, beyond, died, out_of_turn, refused, took_too_long};
use source::no_memory_file;
pub(crate) use source::{Filling, ModuleHash, PIECE_BYTES, Source};

/// The most bytes of a compiler's reply: a description of a module with very many exports.
pub(crate) const REPLY_BYTES_MAX: usize = 64 << 20;

/// Why a module was not compiled, and whose fault it is.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NotCompiled {
    /// The module's fault: any machine would refuse it with the same limits.
    #[error(transparent)]
    Refused(RefusedReason),
    /// The machine's fault, or this program's.
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

        let reply = self.ask(source, &request, &descriptors, interrupt)?;
        let CompileReply::Compiled(description) = reply else {
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
        match self.ask(source, &request, &descriptors, &Interrupt::default())? {
            CompileReply::Located(found) if found.len() == count => Ok(found),
            _ => Err(out_of_turn()),
        }
    }

    /// Runs one process, which then exits, and checks its answer.
    fn ask(
        &self,
        source: &Source,
        request: &CompileRequest,
        descriptors: &[BorrowedFd<'_>],
        interrupt: &Interrupt,
    ) -> Result<CompileReply, NotCompiled> {
        let threads = self.threads(source, &request.step);
        let stack_bytes = CompileLimits::stack_bytes_of(threads);
        let allowance =
            MemoryAllowance::of(request.limits.memory_bytes.saturating_add(stack_bytes));
        let (name, role) = ("stockade-compiler", Role::Compiler);
        let started = Conversation::start(
            &self.program,
            role,
            name,
            &self.lockdown,
            allowance,
            REPLY_BYTES_MAX,
        );
        let mut compiler = started
            .and_then(|compiler| compiler.until(interrupt))
            .map_err(|error| NotCompiled::Machine(MachineError::of("start a compiler", &error)))?;
        let waited = request.limits.wall_time_of(source.bytes);
        match converse(&mut compiler, threads, request, descriptors, waited) {
            Ok(CompileReply::Refused(refusal)) => Err(refused(refusal)),
            Ok(CompileReply::Failed(why)) => Err(MachineFault::Process(why).into()),
            Ok(reply) => Ok(reply),
            Err(NoAnswer::Ended(end)) => Err(died(&end, stack_bytes, source.bytes, &self.limits)),
            Err(NoAnswer::Late { processor_time }) => Err(took_too_long(processor_time, waited)),
            Err(NoAnswer::TooMuchMemory(excess)) => Err(beyond("memory_bytes", excess.to_string())),
            Err(NoAnswer::Fault(error)) => {
                Err(NotCompiled::Machine(MachineError::of(COMPILE, &error)))
            }
            Err(error @ (NoAnswer::Unusable(_) | NoAnswer::Interrupted)) => {
                let why = format!("its compiler's reply is unusable: {error}");
                Err(MachineFault::Process(why).into())
            }
        }
    }

    /// How many threads its compiler has for a `step` of `source`.
    fn threads(&self, source: &Source, step: &CompileStep) -> u32 {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        match step.generates_code() {
            true => self.limits.threads_of(source.bytes, processors),
            false => 1,
        }
    }

    /// What a compiler is asked, which is all that it makes an artefact from besides the module and
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

/// Sends the request once the compiler has said that it is confined.
fn converse(
    compiler: &mut Conversation,
    threads: u32,
    request: &CompileRequest,
    descriptors: &[BorrowedFd<'_>],
    timeout: Duration,
) -> Result<CompileReply, NoAnswer> {
    let deadline = deadline::after(timeout);
    let setup = CompilerSetup { confinement: compiler.confinement().clone(), threads };
    compiler.send(&setup, &[])?;
    match compiler.receive(deadline)? {
        CompileReply::Ready(_) => {}
        other => return Ok(other),
    }
    compiler.send(request, descriptors)?;
    compiler.receive(deadline)
}

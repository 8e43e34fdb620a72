//! Compilers: one process for one step of one module, held to limits of its own.
//!
//! A compiler reads the module from a sealed memory file and writes the artefact to another, which
//! is sealed here once the process is gone. This module never looks inside either.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use stockade_wire::descriptor::{self, Sender};
use stockade_wire::frame::{Body, FrameError, FrameReader};
use stockade_wire::{
    CompileReply, CompileRequest, CompileStep, EngineSettings, ModuleDescription, Refusal,
    RefusalKind, Role, codec,
};

use crate::RefusedReason;
use crate::process;

/// The most bytes a module may have.
pub(crate) const MODULE_BYTES_MAX: u64 = 32 << 20;

/// The most bytes an artefact may have.
const ARTEFACT_BYTES_MAX: u64 = 128 << 20;

/// The most time a compiler may take; it limits its own processor time to half of that.
const COMPILE_WALL_TIME: Duration = Duration::from_secs(60);

/// The most bytes of a compiler's reply: a description of a module with very many exports.
pub(crate) const REPLY_BYTES_MAX: usize = 64 << 20;

/// A module before it is compiled.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Its name in messages.
    pub(crate) name: String,
    /// Its bytes, sealed.
    pub(crate) wasm: std::sync::Arc<File>,
    /// Whether it may be text.
    pub(crate) text: bool,
}

impl Source {
    pub(crate) fn from_bytes(
        name: String,
        bytes: &[u8],
        text: bool,
    ) -> Result<Self, RefusedReason> {
        if bytes.len() as u64 > MODULE_BYTES_MAX {
            return Err(RefusedReason::Limit(format!(
                "it has {} bytes, where {MODULE_BYTES_MAX} are allowed",
                bytes.len()
            )));
        }
        let wasm = descriptor::sealed_file("stockade-module", bytes).map_err(system)?;
        Ok(Self { name, wasm: wasm.into(), text })
    }
}

/// Ends whatever child a preparation waits for.
#[derive(Debug, Default)]
pub(crate) struct Interrupt(Mutex<InterruptState>);

#[derive(Debug, Default)]
struct InterruptState {
    interrupted: bool,
    socket: Option<UnixStream>,
}

impl Interrupt {
    /// From now on, ends the wait for `socket` when interrupted.
    pub(crate) fn watch(&self, socket: &UnixStream) -> io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        state.socket = Some(socket.try_clone()?);
        Ok(())
    }

    /// Ends the wait of now and every later one.
    pub(crate) fn interrupt(&self) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.interrupted = true;
        if let Some(socket) = state.socket.take() {
            // A socket whose other end is gone is shut down already.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Starts compilers.
#[derive(Clone, Debug)]
pub(crate) struct Compiler {
    pub(crate) program: PathBuf,
    pub(crate) engine: EngineSettings,
}

impl Compiler {
    /// Takes `source` one `step` on its way, in a process of its own. Blocks for at most
    /// [`COMPILE_WALL_TIME`]. The artefact comes back sealed, and empty for
    /// [`CompileStep::Describe`].
    pub(crate) fn compile(
        &self,
        source: &Source,
        step: CompileStep,
        state: Option<&File>,
        interrupt: &Interrupt,
    ) -> Result<(ModuleDescription, File), RefusedReason> {
        let artefact = descriptor::memory_file("stockade-artefact").map_err(system)?;
        let request = self.request(source, step);
        let mut descriptors = vec![source.wasm.as_fd(), artefact.as_fd()];
        descriptors.extend(state.map(AsFd::as_fd));

        let (reply, exit) = exchange(&self.program, &request, &descriptors, interrupt)?;
        let description = match reply {
            Ok(Some(CompileReply::Compiled(description))) => description,
            Ok(Some(CompileReply::Refused(refusal))) => return Err(refused(refusal)),
            Ok(None) => return Err(died(exit)),
            Err(FrameError::Io(error)) if timed_out(&error) => {
                return Err(RefusedReason::Limit(format!(
                    "compiling it takes longer than {COMPILE_WALL_TIME:?}"
                )));
            }
            // It ended by itself, and not because it was no longer wanted.
            Err(_) if exit.signal() != Some(libc::SIGKILL) => {
                return Err(died(exit));
            }
            Err(error) => {
                return Err(RefusedReason::Compiler(format!(
                    "its compiler's reply is unusable: {error}"
                )));
            }
        };
        if artefact.metadata().map_err(system)?.len() > ARTEFACT_BYTES_MAX {
            return Err(RefusedReason::Limit(format!(
                "its compiled form exceeds {ARTEFACT_BYTES_MAX} bytes"
            )));
        }
        descriptor::seal(&artefact).map_err(system)?;
        Ok((description, artefact))
    }

    /// What a compiler is asked, which is all that it makes an artefact from beside the module and
    /// a state.
    pub(crate) fn request(&self, source: &Source, step: CompileStep) -> CompileRequest {
        CompileRequest {
            step,
            engine: self.engine.clone(),
            text: source.text,
            artefact_bytes_max: ARTEFACT_BYTES_MAX,
        }
    }
}

type Reply = Result<Option<CompileReply>, FrameError>;

/// Asks one compiler and waits for its end, whatever it answers.
fn exchange(
    program: &Path,
    request: &CompileRequest,
    descriptors: &[std::os::fd::BorrowedFd<'_>],
    interrupt: &Interrupt,
) -> Result<(Reply, ExitStatus), RefusedReason> {
    let (mut child, socket) =
        process::start(program, Role::Compiler, "stockade-compiler").map_err(system)?;
    let asked = (|| {
        interrupt.watch(&socket)?;
        let mut sender = Sender::new(socket.try_clone()?);
        sender.try_send(request, descriptors).map_err(io::Error::other)
    })();
    let reply = match asked {
        Ok(()) => read_reply(&socket),
        Err(error) => Err(FrameError::Io(error)),
    };
    // It has answered, failed, or run out of time: nothing more is wanted of it. One that was dying
    // already keeps the cause of its death.
    let _ = child.kill();
    let exit = child.wait().map_err(system)?;
    Ok((reply, exit))
}

fn read_reply(socket: &UnixStream) -> Reply {
    let deadline = Instant::now() + COMPILE_WALL_TIME;
    let stream = DeadlineStream { socket, deadline };
    let mut frames = FrameReader::new(stream, REPLY_BYTES_MAX);
    match frames.read()? {
        None => Ok(None),
        Some(Body::Inline(body)) => Ok(Some(codec::decode(body)?)),
        Some(Body::OutOfLine(_)) => Err(FrameError::Misplaced),
    }
}

/// A socket whose reads all end at one deadline.
#[derive(Debug)]
pub(crate) struct DeadlineStream<'a> {
    pub(crate) socket: &'a UnixStream,
    pub(crate) deadline: Instant,
}

impl io::Read for DeadlineStream<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.set_read_timeout(Some(left))?;
        self.socket.read(out)
    }
}

/// Whether a read ended because its time was up: a socket's time-out reads as `WouldBlock`.
pub(crate) fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

fn system(error: io::Error) -> RefusedReason {
    RefusedReason::Compiler(format!("its compiler cannot be run: {error}"))
}

fn died(exit: ExitStatus) -> RefusedReason {
    match (exit.signal(), exit.code()) {
        (Some(libc::SIGXCPU), _) => RefusedReason::Limit(
            "compiling it takes more processor time than a compiler has".into(),
        ),
        (Some(libc::SIGXFSZ), _) => {
            RefusedReason::Limit(format!("its compiled form exceeds {ARTEFACT_BYTES_MAX} bytes"))
        }
        (Some(libc::SIGABRT), _) => RefusedReason::Limit(
            "its compiler gave up, most likely for want of memory beyond its limit".into(),
        ),
        (Some(signal), _) => {
            RefusedReason::Compiler(format!("its compiler was killed by signal {signal}"))
        }
        (None, code) => RefusedReason::Compiler(format!(
            "its compiler exited with code {} and no answer",
            code.unwrap_or_default()
        )),
    }
}

fn refused(refusal: Refusal) -> RefusedReason {
    let message = refusal.message;
    match refusal.kind {
        RefusalKind::NotWasm => RefusedReason::NotWasm(message),
        RefusalKind::Malformed => RefusedReason::Malformed(message),
        RefusalKind::Feature | RefusalKind::Component => RefusedReason::Feature(message),
        RefusalKind::Import => RefusedReason::Import(message),
        RefusalKind::Limit => RefusedReason::Limit(message),
        RefusalKind::Snapshot => RefusedReason::Snapshot(message),
        _ => RefusedReason::Compiler(message),
    }
}

//! Compilers: one process for one step of one module, held to limits of its own.
//!
//! A compiler reads the module from a sealed memory file and writes the artefact to another, which
//! is sealed here once the process is gone. This module never looks inside either.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use stockade_wire::descriptor::{self, Sender};
use stockade_wire::frame::{Body, FrameError, FrameReader};
use stockade_wire::{
    CodePlace, CompileLimits, CompileReply, CompileRequest, CompileStep, EngineSettings, Lockdown,
    ModuleDescription, Refusal, RefusalKind, Role, SourcePlace, codec,
};

use crate::footprint::{LOOK_EVERY, MemoryAllowance, Weighed};
use crate::process::{self, Exit, Process};
use crate::{MemoryExcess, RefusedReason};

/// The most bytes of a compiler's reply: a description of a module with very many exports.
pub(crate) const REPLY_BYTES_MAX: usize = 64 << 20;

/// A module before it is compiled.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Its name in messages.
    pub(crate) name: String,
    /// How many bytes it has.
    pub(crate) bytes: u64,
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
        bytes_max: u64,
    ) -> Result<Self, RefusedReason> {
        if bytes.len() as u64 > bytes_max {
            return Err(beyond("module_bytes", format!("it has more than {bytes_max} bytes")));
        }
        let wasm = descriptor::sealed_file("stockade-module", bytes).map_err(system)?;
        Ok(Self { name, bytes: bytes.len() as u64, wasm: wasm.into(), text })
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
    ) -> Result<(ModuleDescription, File), RefusedReason> {
        let span = tracing::debug_span!(
            target: "stockade::compile",
            "compile",
            module = %source.name,
            step = ?step
        );
        let _entered = span.entered();
        let artefact = descriptor::memory_file("stockade-artefact").map_err(system)?;
        let request = self.request(source, step);
        let mut descriptors = vec![source.wasm.as_fd(), artefact.as_fd()];
        descriptors.extend(state.map(AsFd::as_fd));

        let (reply, ended) = self.exchange(source, &request, &descriptors, interrupt)?;
        let CompileReply::Compiled(description) = self.answer(source, reply, ended)? else {
            return Err(RefusedReason::Compiler("its compiler answers out of turn".into()));
        };
        if artefact.metadata().map_err(system)?.len() > self.limits.artefact_bytes {
            return Err(artefact_beyond(&self.limits));
        }
        descriptor::seal(&artefact).map_err(system)?;
        Ok((description, artefact))
    }

    /// Says where in the source of `source` the `places` in its code are, in a process of its own.
    /// Blocks for at most the wall time of its limits. A list for each place, in their order.
    pub(crate) fn locate(
        &self,
        source: &Source,
        places: Vec<CodePlace>,
    ) -> Result<Vec<Vec<SourcePlace>>, RefusedReason> {
        let count = places.len();
        let nothing = descriptor::memory_file("stockade-artefact").map_err(system)?;
        let request = self.request(source, CompileStep::Locate(places));
        let descriptors = [source.wasm.as_fd(), nothing.as_fd()];
        let (reply, ended) =
            self.exchange(source, &request, &descriptors, &Interrupt::default())?;
        match self.answer(source, reply, ended)? {
            CompileReply::Located(found) if found.len() == count => Ok(found),
            _ => Err(RefusedReason::Compiler("its compiler answers out of turn".into())),
        }
    }

    /// What a compiler has answered, if that is of use.
    fn answer(
        &self,
        source: &Source,
        reply: Reply,
        Ended { exit, cpu_time }: Ended,
    ) -> Result<CompileReply, RefusedReason> {
        match reply {
            Ok(Some(CompileReply::Refused(refusal))) => Err(refused(refusal)),
            Ok(Some(CompileReply::ConfinementFailed(why))) => {
                Err(RefusedReason::Compiler(format!("its compiler is not confined: {why}")))
            }
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(died(exit, source.bytes, &self.limits)),
            Err(FrameError::Io(error)) if timed_out(&error) => {
                // The module is blamed for its processor time alone.
                let time = self.limits.wall_time_of(source.bytes);
                let used = match cpu_time {
                    Some(used) => {
                        format!(", in which it got {:.1} s of a processor", used.as_secs_f64())
                    }
                    None => String::new(),
                };
                Err(RefusedReason::Compiler(format!(
                    "its compiler was not done after {time:?}{used}: the machine is too busy (the \
                     limit `CompileLimits::wall_time`)"
                )))
            }
            Err(FrameError::Io(error)) if excess_of(&error).is_some() => {
                Err(beyond("memory_bytes", error.to_string()))
            }
            // It ended by itself, and not because it was no longer wanted.
            Err(_) if exit != Exit::Unknown && exit.signal() != Some(libc::SIGKILL) => {
                Err(died(exit, source.bytes, &self.limits))
            }
            Err(error) => {
                Err(RefusedReason::Compiler(format!("its compiler's reply is unusable: {error}")))
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
    ) -> Result<(Reply, Ended), RefusedReason> {
        let name = "stockade-compiler";
        let mut process =
            process::start(&self.program, Role::Compiler, name, &self.lockdown).map_err(system)?;
        let patience = request.limits.wall_time_of(source.bytes);
        let reply = converse(&process, request, patience, descriptors, interrupt);
        let cpu_time = process::cpu_time_of(process.child.id());
        // It has answered, failed, or run out of time: nothing more is wanted of it. One that was
        // dying already keeps the cause of its death.
        process.child.kill();
        let exit = process.child.wait();
        Ok((reply, Ended { exit, cpu_time }))
    }

    /// What a compiler is asked, which is all that it makes an artefact from beside the module and
    /// a state.
    pub(crate) fn request(&self, source: &Source, step: CompileStep) -> CompileRequest {
        CompileRequest {
            step,
            engine: self.engine.clone(),
            text: source.text,
            limits: self.limits.clone(),
            exposed: self.exposed,
        }
    }
}

type Reply = Result<Option<CompileReply>, FrameError>;

/// How a compiler ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    exit: Exit,
    /// What it had used of the processors, if it was still there to be asked for.
    cpu_time: Option<Duration>,
}

/// Sends the request once the compiler has said that it is confined.
fn converse(
    process: &Process,
    request: &CompileRequest,
    patience: Duration,
    descriptors: &[BorrowedFd<'_>],
    interrupt: &Interrupt,
) -> Reply {
    let socket = &process.socket;
    interrupt.watch(socket)?;
    let mut sender = Sender::new(socket.try_clone()?);
    let deadline = Instant::now() + patience;
    let allowance = MemoryAllowance::of(request.limits.memory_bytes);
    let weighed = Weighed { pid: process.child.id(), allowance };
    let stream = DeadlineStream::new(socket, deadline, weighed);
    let mut frames = FrameReader::new(stream, REPLY_BYTES_MAX);
    sender.try_send(&process.confinement, &[]).map_err(io::Error::other)?;
    match read_reply(&mut frames)? {
        Some(CompileReply::Ready(_)) => {}
        other => return Ok(other),
    }
    sender.try_send(request, descriptors).map_err(io::Error::other)?;
    read_reply(&mut frames)
}

fn read_reply(frames: &mut FrameReader<DeadlineStream<'_>>) -> Reply {
    match frames.read()? {
        None => Ok(None),
        Some(Body::Inline(body)) => Ok(Some(codec::decode(body)?)),
        Some(Body::OutOfLine(_)) => Err(FrameError::Misplaced),
    }
}

/// A socket that is read until a deadline, and for as long as the process at its other end does not
/// take too much memory.
pub(crate) struct DeadlineStream<'a> {
    socket: &'a UnixStream,
    patience: Patience,
}

impl<'a> DeadlineStream<'a> {
    pub(crate) fn new(socket: &'a UnixStream, deadline: Instant, weighed: Weighed) -> Self {
        Self { socket, patience: Patience::new(deadline, weighed) }
    }
}

impl io::Read for DeadlineStream<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            self.socket.set_read_timeout(Some(self.patience.left()?))?;
            match self.socket.read(out) {
                Err(error) if timed_out(&error) => {}
                read => return read,
            }
        }
    }
}

/// How long a process is waited for: to a deadline, with looks at its memory.
pub(crate) struct Patience {
    deadline: Instant,
    weighed: Weighed,
    /// When it is looked at next.
    look: Instant,
}

impl Patience {
    pub(crate) fn new(deadline: Instant, weighed: Weighed) -> Self {
        Self { deadline, weighed, look: Instant::now() + LOOK_EVERY }
    }

    /// How long to wait before this is asked again.
    ///
    /// # Errors
    /// That the deadline has passed, or what is wrong with the process's memory.
    pub(crate) fn left(&mut self) -> io::Result<Duration> {
        let now = Instant::now();
        if now >= self.deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if now >= self.look {
            if let Some(excess) = self.weighed.excess() {
                return Err(io::Error::other(excess));
            }
            self.look = now + LOOK_EVERY;
        }
        Ok(self.deadline.min(self.look) - now)
    }
}

/// Whether a read ended because its time was up: a socket's time-out reads as `WouldBlock`.
pub(crate) fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

/// Why a read ended, where that was the memory of the process that was read from.
pub(crate) fn excess_of(error: &io::Error) -> Option<MemoryExcess> {
    error.get_ref()?.downcast_ref().copied()
}

fn system(error: io::Error) -> RefusedReason {
    RefusedReason::Compiler(format!("its compiler cannot be run: {error}"))
}

fn died(exit: Exit, module_bytes: u64, limits: &CompileLimits) -> RefusedReason {
    match (exit.signal(), exit.code()) {
        (Some(libc::SIGXCPU), _) => {
            let seconds = limits.cpu_seconds(module_bytes);
            beyond("cpu_time", format!("compiling it takes more than {seconds} s of a processor"))
        }
        (Some(libc::SIGXFSZ), _) => artefact_beyond(limits),
        (Some(libc::SIGABRT), _) => {
            let bytes = limits.memory_bytes;
            let why =
                format!("its compiler gave up, most likely for want of more than {bytes} bytes");
            beyond("memory_bytes", why)
        }
        (Some(libc::SIGSYS), _) => RefusedReason::Compiler(
            "its compiler made a forbidden system call and was killed for it".into(),
        ),
        (Some(signal), _) => {
            RefusedReason::Compiler(format!("its compiler was killed by signal {signal}"))
        }
        (None, Some(code)) => {
            RefusedReason::Compiler(format!("its compiler exited with code {code} and no answer"))
        }
        (None, None) => RefusedReason::Compiler(format!("its compiler has no answer: it {exit}")),
    }
}

fn artefact_beyond(limits: &CompileLimits) -> RefusedReason {
    let bytes = limits.artefact_bytes;
    beyond("artefact_bytes", format!("its compiled form has more than {bytes} bytes"))
}

/// A refusal by one of the [`CompileLimits`], which is named.
fn beyond(limit: &str, what: String) -> RefusedReason {
    RefusedReason::Limit(format!("{what} (the limit `CompileLimits::{limit}`)"))
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

//! Compilers: one process for one step of one module, held to limits of its own.
//!
//! A compiler reads the module from a sealed memory file and writes the artefact to another, which
//! is sealed here once the process is gone. This module never looks inside either.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use stockade_wire::descriptor::{self, SendError, Sender};
use stockade_wire::frame::{Body, FrameError, FrameReader};
use stockade_wire::{
    CodePlace, CompileLimits, CompileReply, CompileRequest, CompileStep, CompilerSetup,
    EngineSettings, Lockdown, ModuleDescription, Refusal, RefusalKind, Role, SourcePlace, codec,
};

use crate::footprint::{LOOK_EVERY, MemoryAllowance, Weighed};
use crate::machine;
use crate::process::{self, Exit, Process};
use crate::{BuildError, MachineError, MachineFault, MemoryExcess, RefusedReason, oom};

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

/// The BLAKE3 hash of a module's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ModuleHash(pub(crate) [u8; 32]);

/// A module before it is compiled.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Its name in messages.
    pub(crate) name: String,
    /// How many bytes it has.
    pub(crate) bytes: u64,
    /// Their hash.
    pub(crate) hash: ModuleHash,
    /// Whether it may be text.
    pub(crate) text: bool,
    wasm: Arc<Wasm>,
}

/// Where a module's bytes are.
#[derive(Debug)]
struct Wasm {
    /// In a file that others may change, until they are needed. None where they were sealed at once.
    found: Option<File>,
    sealed: OnceLock<File>,
}

impl Source {
    /// The module that is `bytes`.
    ///
    /// # Errors
    /// Where there are more than `bytes_max`, or the system has no memory file of so many.
    pub(crate) fn from_bytes(
        name: String,
        bytes: &[u8],
        text: bool,
        bytes_max: u64,
    ) -> Result<Self, NotCompiled> {
        let mut filling = Filling::sealed(bytes_max)?;
        filling.add(bytes)?;
        filling.finish(name, text)
    }

    /// Its bytes, in a sealed memory file. Blocks while they are read, the first time, where only their
    /// hash was taken before.
    ///
    /// # Errors
    /// Where the system has no memory file of so many, or they have changed since.
    pub(crate) fn sealed(&self) -> Result<&File, NotCompiled> {
        if let (None, Some(found)) = (self.wasm.sealed.get(), &self.wasm.found) {
            let again = self.read_again(found)?;
            // Another thread may have done the same.
            let _ = self.wasm.sealed.set(again);
        }
        self.wasm.sealed.get().ok_or_else(|| changed("it was not read"))
    }

    fn read_again(&self, found: &File) -> Result<File, NotCompiled> {
        let mut filling = Filling::sealed(u64::MAX)?;
        let mut buffer = vec![0; PIECE_BYTES];
        while filling.bytes() <= self.bytes {
            let read = match found.read_at(&mut buffer, filling.bytes()) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(NotCompiled::Machine(MachineError::of(READ, &error))),
            };
            filling.add(&buffer[..read])?;
        }
        let again = filling.finish(self.name.clone(), self.text)?;
        let sealed = Arc::into_inner(again.wasm).and_then(|wasm| wasm.sealed.into_inner());
        sealed.filter(|_| again.hash == self.hash).ok_or_else(|| changed("its file has changed"))
    }
}

fn changed(why: &str) -> NotCompiled {
    NotCompiled::Machine(MachineError::of(READ, &io::Error::other(why)))
}

/// How much of a file is read at a time: it stays in a processor's cache until it is written.
pub(crate) const PIECE_BYTES: usize = 128 << 10;

/// A module that is being read: each piece is hashed as it comes, and written to a memory file where the
/// bytes are needed, so the hash is that of the file, whatever becomes of where the pieces came from.
#[derive(Debug)]
pub(crate) struct Filling {
    wasm: Option<File>,
    hasher: blake3::Hasher,
    bytes_max: u64,
}

impl Filling {
    /// Keeps the bytes.
    ///
    /// # Errors
    /// Where the system has no memory file.
    pub(crate) fn sealed(bytes_max: u64) -> Result<Self, NotCompiled> {
        let wasm = descriptor::memory_file("stockade-module").map_err(no_memory_file)?;
        Ok(Self { wasm: Some(wasm), ..Self::hashed(bytes_max) })
    }

    /// Keeps nothing but their hash.
    pub(crate) fn hashed(bytes_max: u64) -> Self {
        Self { wasm: None, hasher: blake3::Hasher::new(), bytes_max }
    }

    fn bytes(&self) -> u64 {
        self.hasher.count()
    }

    /// # Errors
    /// As [`Source::from_bytes`].
    pub(crate) fn add(&mut self, piece: &[u8]) -> Result<(), NotCompiled> {
        let bytes = self.bytes().saturating_add(piece.len() as u64);
        if bytes > self.bytes_max {
            let bytes_max = self.bytes_max;
            return Err(beyond("module_bytes", format!("it has more than {bytes_max} bytes")));
        }
        if let Some(wasm) = &mut self.wasm {
            machine::check_file_bytes(MAKE_FILE, bytes).map_err(NotCompiled::Machine)?;
            wasm.write_all(piece).map_err(no_memory_file)?;
        }
        self.hasher.update(piece);
        Ok(())
    }

    /// The module whose bytes were kept.
    ///
    /// # Errors
    /// Where the system does not seal its file.
    pub(crate) fn finish(self, name: String, text: bool) -> Result<Source, NotCompiled> {
        self.wasm.as_ref().map_or(Ok(()), descriptor::seal).map_err(no_memory_file)?;
        Ok(self.source(name, text, None))
    }

    /// The module whose bytes are those of `found`, an ordinary file.
    pub(crate) fn finish_in(self, found: File, name: String, text: bool) -> Source {
        self.source(name, text, Some(found))
    }

    fn source(self, name: String, text: bool, found: Option<File>) -> Source {
        let (bytes, hash) = (self.bytes(), ModuleHash(*self.hasher.finalize().as_bytes()));
        let sealed = self.wasm.map_or_else(OnceLock::new, OnceLock::from);
        Source { name, bytes, hash, text, wasm: Arc::new(Wasm { found, sealed }) }
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

    /// Whether that has happened.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).interrupted
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
    /// is the same whoever compiled it on how many.
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

/// What is known of a compiler once it is gone.
#[derive(Clone, Copy, Debug)]
struct End {
    exit: Exit,
    /// Whether it ended before its host ended it.
    has_ended: bool,
    /// Whether the kernel ended processes for want of memory while it lived.
    out_of_memory: bool,
    /// How long its threads had a processor, together.
    processor_time: Option<Duration>,
    /// What the stacks of its threads may have taken.
    stack_bytes: u64,
}

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

/// Whether the other end of a socket is gone, perhaps with messages that it had not read.
pub(crate) fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Why a read ended, where that was the memory of the process that was read from.
pub(crate) fn excess_of(error: &io::Error) -> Option<MemoryExcess> {
    error.get_ref()?.downcast_ref().copied()
}

fn no_memory_file(error: io::Error) -> NotCompiled {
    NotCompiled::Machine(MachineError::of(MAKE_FILE, &error))
}

fn out_of_turn() -> NotCompiled {
    MachineFault::Process("its compiler answers out of turn".into()).into()
}

/// How long a process that has hung up may take to end; it is a matter of microseconds.
pub(crate) const DEATH_PATIENCE: Duration = Duration::from_secs(1);

/// The wall time ran out: by the module's fault only where its compiler had a processor for most of
/// it. One that waits for a processor, or was stopped, has had little.
fn took_too_long(end: &End, waited: Duration) -> NotCompiled {
    match end.processor_time {
        Some(time) if time < waited / 2 => {
            MachineFault::Busy { waited, processor_time: Some(time) }.into()
        }
        _ => beyond("wall_time", format!("compiling it takes longer than {waited:?}")),
    }
}

/// What a compiler's memory has beside what its module's limit is for: the program, and its engine.
const OWN_BYTES: u64 = 512 << 20;

/// Why a compiler ended without an answer. A limit that its host was started under, and so itself, is
/// none of the module's.
fn died(end: &End, module_bytes: u64, limits: &CompileLimits) -> NotCompiled {
    match (end.exit.signal(), end.exit.code()) {
        (Some(libc::SIGXCPU), _) => {
            let seconds = limits.cpu_seconds(module_bytes);
            MachineFault::processor_time_below(seconds).map(NotCompiled::from).unwrap_or_else(
                || {
                    let what = format!("compiling it takes more than {seconds} s of a processor");
                    beyond("cpu_time", what)
                },
            )
        }
        (Some(libc::SIGXFSZ), _) => MachineFault::file_below(limits.artefact_bytes)
            .map_or_else(|| artefact_beyond(limits), NotCompiled::from),
        (Some(libc::SIGABRT), _) => {
            let bytes = limits.memory_bytes;
            let beside = OWN_BYTES.saturating_add(end.stack_bytes);
            let fault = MachineFault::memory_below(bytes.saturating_add(beside));
            fault.map(NotCompiled::from).unwrap_or_else(|| {
                let why = format!(
                    "its compiler gave up, most likely for want of more than {bytes} bytes"
                );
                beyond("memory_bytes", why)
            })
        }
        (Some(libc::SIGKILL), _) if !end.has_ended => {
            MachineFault::Process("its compiler hung up without an answer".into()).into()
        }
        (Some(signal @ (libc::SIGKILL | libc::SIGTERM | libc::SIGINT | libc::SIGHUP)), _) => {
            let out_of_memory = signal == libc::SIGKILL && end.out_of_memory;
            MachineFault::Killed { signal, out_of_memory }.into()
        }
        (Some(libc::SIGSYS), _) => MachineFault::Process(
            "its compiler made a forbidden system call and was killed for it".into(),
        )
        .into(),
        (Some(signal), _) => {
            let name = crate::exit::signal_name(signal);
            MachineFault::Process(format!("its compiler was killed by {name}")).into()
        }
        (None, Some(code)) => {
            let why = format!("its compiler exited with code {code} and no answer");
            MachineFault::Process(why).into()
        }
        (None, None) => {
            MachineFault::Process(format!("its compiler has no answer: it {}", end.exit)).into()
        }
    }
}

fn artefact_beyond(limits: &CompileLimits) -> NotCompiled {
    let bytes = limits.artefact_bytes;
    beyond("artefact_bytes", format!("its compiled form has more than {bytes} bytes"))
}

/// A refusal by one of the [`CompileLimits`], which is named.
fn beyond(limit: &str, what: String) -> NotCompiled {
    RefusedReason::Limit(format!("{what} (the limit `CompileLimits::{limit}`)")).into()
}

fn refused(refusal: Refusal) -> NotCompiled {
    let message = refusal.message;
    let reason = match refusal.kind {
        RefusalKind::NotWasm => RefusedReason::NotWasm(message),
        RefusalKind::Malformed => RefusedReason::Malformed(message),
        RefusalKind::Feature | RefusalKind::Component => RefusedReason::Feature(message),
        RefusalKind::FeaturesOff(features) => RefusedReason::FeaturesOff { features, message },
        RefusalKind::Import => RefusedReason::Import(message),
        RefusalKind::Limit => RefusedReason::Limit(message),
        RefusalKind::Snapshot => RefusedReason::Snapshot(message),
        _ => return MachineFault::Process(message).into(),
    };
    reason.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn end(signal: i32, out_of_memory: bool) -> End {
        let exit = Exit::Status(ExitStatus::from_raw(signal));
        End { exit, has_ended: true, out_of_memory, processor_time: None, stack_bytes: 0 }
    }

    fn blamed(signal: i32) -> NotCompiled {
        died(&end(signal, false), 1000, &CompileLimits::default())
    }

    #[test]
    fn a_module_is_blamed_for_its_limits_and_for_no_signal_from_outside() {
        for signal in [libc::SIGXCPU, libc::SIGXFSZ, libc::SIGABRT] {
            let blamed = blamed(signal);
            // Where the tests themselves run under such a limit, that is what is to blame.
            let limited = matches!(
                &blamed,
                NotCompiled::Machine(MachineError { fault: MachineFault::Limit { .. }, .. })
            );
            let refused = matches!(&blamed, NotCompiled::Refused(RefusedReason::Limit(_)));
            assert!(refused || limited, "{signal}: {blamed:?}");
        }
        for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            let NotCompiled::Machine(error) = blamed(signal) else { panic!("{signal}") };
            assert_eq!(error.fault, MachineFault::Killed { signal, out_of_memory: false });
        }
        for signal in [libc::SIGSEGV, libc::SIGSYS, libc::SIGBUS, libc::SIGILL] {
            let NotCompiled::Machine(error) = blamed(signal) else { panic!("{signal}") };
            assert!(matches!(error.fault, MachineFault::Process(_)), "{error:?}");
        }
    }

    fn held(source: &Source) -> Vec<u8> {
        stockade_wire::SealedBytes::of(source.sealed().unwrap()).unwrap().to_vec()
    }

    /// A module in a file of its own, of which only the hash is there.
    fn found(bytes: &[u8]) -> (File, Source) {
        let file = descriptor::memory_file("test").unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let mut filling = Filling::hashed(u64::MAX);
        bytes.chunks(70_001).for_each(|piece| filling.add(piece).unwrap());
        let source = filling.finish_in(file.try_clone().unwrap(), "test".into(), false);
        (file, source)
    }

    #[test]
    fn a_source_has_the_hash_of_what_is_in_its_file() {
        let bytes: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
        let whole = Source::from_bytes("test".into(), &bytes, false, 300_000).unwrap();
        let mut filling = Filling::sealed(300_000).unwrap();
        // From memory that changes after each piece.
        for piece in bytes.chunks(70_001) {
            let mut lent = piece.to_vec();
            filling.add(&lent).unwrap();
            lent.fill(0);
        }
        let pieces = filling.finish("test".into(), false).unwrap();
        for source in [whole, pieces, found(&bytes).1] {
            assert!(held(&source) == bytes && source.bytes == 300_000);
            assert_eq!(source.hash, ModuleHash(*blake3::hash(&bytes).as_bytes()));
        }
        let empty = Source::from_bytes("test".into(), &[], false, 0).unwrap();
        assert_eq!(empty.hash, ModuleHash(*blake3::hash(&[]).as_bytes()));
        assert_eq!(held(&empty), held(&found(&[]).1));
    }

    #[test]
    fn a_file_that_changed_since_it_was_hashed_is_never_used() {
        let bytes = vec![7; 300_000];
        let changes: [fn(&File); 4] = [
            |file| file.write_all_at(&[8], 299_999).unwrap(),
            |file| file.set_len(299_999).unwrap(),
            |file| file.set_len(300_001).unwrap(),
            |file| file.set_len(0).unwrap(),
        ];
        for change in changes {
            let (file, source) = found(&bytes);
            change(&file);
            let NotCompiled::Machine(error) = source.sealed().unwrap_err() else { panic!() };
            assert!(error.to_string().contains("has changed"), "{error}");
        }
        // What is sealed once stays, for clones too.
        let (file, source) = found(&bytes);
        let clone = source.clone();
        assert!(held(&source) == bytes);
        file.set_len(0).unwrap();
        assert!(held(&clone) == bytes);
    }

    #[test]
    fn a_module_may_be_as_large_as_allowed_and_no_larger_in_pieces_too() {
        for mut filling in [Filling::hashed(10), Filling::sealed(10).unwrap()] {
            filling.add(&[0; 4]).unwrap();
            let refused = filling.add(&[0; 7]);
            assert!(matches!(refused, Err(NotCompiled::Refused(RefusedReason::Limit(_)))));
            filling.add(&[0; 6]).unwrap();
            assert!(filling.add(&[0]).is_err());
            assert_eq!(filling.finish("test".into(), false).unwrap().bytes, 10);
        }
    }

    #[test]
    fn a_kill_while_memory_ran_out_says_so() {
        let limits = CompileLimits::default();
        let NotCompiled::Machine(error) = died(&end(libc::SIGKILL, true), 1000, &limits) else {
            panic!("it is the machine's fault")
        };
        assert!(error.to_string().contains("want of memory"), "{error}");
    }

    #[test]
    fn a_module_is_blamed_for_time_only_where_its_compiler_had_a_processor() {
        let after = |seconds: Option<u64>| {
            let processor_time = seconds.map(Duration::from_secs);
            let end = End { processor_time, ..end(libc::SIGKILL, false) };
            took_too_long(&end, Duration::from_secs(60))
        };
        for seconds in [0, 7, 29] {
            let NotCompiled::Machine(error) = after(Some(seconds)) else { panic!("{seconds}") };
            let fault = format!("{error}");
            assert!(fault.contains("too busy") && fault.contains("60s"), "{fault}");
        }
        for seconds in [Some(30), Some(60), None] {
            let blamed = after(seconds);
            assert!(matches!(blamed, NotCompiled::Refused(RefusedReason::Limit(_))), "{blamed:?}");
        }
    }
}

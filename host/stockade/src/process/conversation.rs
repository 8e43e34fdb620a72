//! A conversation: requests and answers with a compiler, a worker that prepares a module or reports
//! its lockdown, or a template.
//!
//! ```text
//! start ─► Process ─► Conversation ── send ──► process
//!                        │ ◄─ receive ── an answer, and perhaps a descriptor
//!                        └─ no answer: deadline, memory, end … ─► killed, reaped ─► NoAnswer
//! ```
//!
//! The process is hostile: it may have read a module. Each answer has a deadline and a maximum
//! length, and the process's memory is sampled meanwhile. The first failed wait kills the process
//! and returns the reason; the caller decides whose fault it is.
//!
//! Invariant: all that a process sent before its end is received before its end is reported. So
//! sending to a process that has ended is not an error: its messages, and then its end, are
//! received instead.

use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use stockade_wire::descriptor::{SendError, Sender};
use stockade_wire::frame::{Body, FrameError, FrameReader};
use stockade_wire::{Confinement, Lockdown, Role, codec};

use crate::outcome::exit::MemoryExcess;
use crate::process::child::{self, Child};
use crate::process::footprint::{LOOK_EVERY, MemoryAllowance, Weighed};
use crate::process::oom;
use crate::process::pidfd::Exit;
use crate::process::start::{Process, processor_time_of, start};

/// How long a process may take to end after it closed its socket; it takes microseconds.
const DEATH_PATIENCE: Duration = Duration::from_secs(1);

/// Room for the descriptor of an answer. Where more come, the answer is unusable, and the kernel
/// closes those that find no room.
const DESCRIPTORS_MAX: usize = 1;

/// Why a process has not answered. It has been killed and reaped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// It sent an invalid answer.
    #[error(transparent)]
    Unusable(FrameError),
    /// It sent nothing, or not all of an answer, until the deadline.
    #[error("it did not answer in time")]
    Late {
        /// The processor time of all its threads, if known.
        processor_time: Option<Duration>,
    },
    /// It had too much memory.
    #[error(transparent)]
    TooMuchMemory(MemoryExcess),
    /// It closed its socket before the end of its answer, usually by its end.
    #[error("it {}", .0.exit)]
    Ended(End),
    /// It was interrupted.
    #[error("it is no longer wanted")]
    Interrupted,
    /// A system call of the host failed.
    #[error(transparent)]
    Fault(#[from] io::Error),
}

/// How a process ended that closed its socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// What the kernel says.
    pub(crate) exit: Exit,
    /// Whether it ended before its host ended it.
    pub(crate) by_itself: bool,
    /// Whether the kernel ended processes for lack of memory while it lived.
    pub(crate) out_of_memory: bool,
}

/// Ends every conversation, of now and later, that may be interrupted by it. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<Mutex<InterruptState>>);

#[derive(Debug, Default)]
struct InterruptState {
    interrupted: bool,
    socket: Option<UnixStream>,
}

impl Interrupt {
    /// Ends the conversation of now and every later one.
    pub(crate) fn interrupt(&self) {
        let mut state = self.state();
        state.interrupted = true;
        if let Some(socket) = state.socket.take() {
            hang_up(&socket);
        }
    }

    fn is_interrupted(&self) -> bool {
        self.state().interrupted
    }

    /// From now on ends the wait for `socket`, and that of no other.
    fn watch(&self, socket: &UnixStream) -> io::Result<()> {
        let mut state = self.state();
        match state.interrupted {
            true => hang_up(socket),
            false => state.socket = Some(socket.try_clone()?),
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, InterruptState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hang_up(socket: &UnixStream) {
    // A socket whose other end is gone is shut down already.
    let _ = socket.shutdown(std::net::Shutdown::Both);
}

/// A process, and the way to it and back. Dropping it kills the process and waits for its end.
#[derive(Debug)]
pub(crate) struct Conversation {
    child: Child,
    confinement: Confinement,
    sender: Sender,
    frames: FrameReader<Answers>,
    interrupt: Interrupt,
    /// The kernel's out-of-memory kills before the process was started.
    oom_kills: Option<u64>,
}

impl Conversation {
    /// Starts a process as [`start`] does, which may have so much memory and give answers
    /// of so many bytes.
    ///
    /// # Errors
    /// As [`start`], or where the system has no descriptor left.
    pub(crate) fn start(
        program: &Path,
        role: Role,
        name: &str,
        lockdown: &Lockdown,
        allowance: MemoryAllowance,
        answer_bytes_max: usize,
    ) -> io::Result<Self> {
        let oom_kills = oom::kills();
        let process = start(program, role, name, lockdown)?;
        let mut conversation = Self::with(process, allowance, answer_bytes_max)?;
        conversation.oom_kills = oom_kills;
        Ok(conversation)
    }

    /// Begins with `process`.
    pub(super) fn with(
        process: Process,
        allowance: MemoryAllowance,
        answer_bytes_max: usize,
    ) -> io::Result<Self> {
        let Process { mut child, socket, confinement } = process;
        let sender = match socket.try_clone() {
            Ok(socket) => Sender::new(socket),
            Err(error) => {
                child.kill();
                child.wait();
                return Err(error);
            }
        };
        let weighed = Weighed { pid: child.id(), allowance };
        let frames = FrameReader::new(Answers::new(socket, weighed), answer_bytes_max);
        let interrupt = Interrupt::default();
        Ok(Self { child, confinement, sender, frames, interrupt, oom_kills: None })
    }

    /// The same, until `interrupt` ends it.
    ///
    /// # Errors
    /// If the system has no descriptor left.
    pub(crate) fn until(mut self, interrupt: &Interrupt) -> io::Result<Self> {
        interrupt.watch(&self.frames.get_ref().socket)?;
        self.interrupt = interrupt.clone();
        Ok(self)
    }

    /// The same, with room for a descriptor with each answer. Without it the kernel closes what comes.
    pub(crate) fn with_descriptors(mut self) -> Self {
        self.frames.get_mut().takes_descriptor = true;
        self
    }

    /// The process's id, in the host's namespace.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the process is to be told first.
    pub(crate) fn confinement(&self) -> &Confinement {
        &self.confinement
    }

    /// The excess of the process's present memory.
    pub(crate) fn memory_excess(&self) -> Option<MemoryExcess> {
        self.frames.get_ref().weighed.excess()
    }

    #[cfg(test)]
    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Kills the process, if it is there.
    pub(crate) fn kill(&self) {
        self.child.kill();
    }

    /// Whether the process has sent something, or has ended.
    pub(crate) fn has_spoken(&self) -> bool {
        self.frames.has_part() || child::is_readable(&self.frames.get_ref().socket)
    }

    /// Sends `message` with `descriptors`. Never blocks. A process that has hung up gets nothing, which
    /// [`receive`](Self::receive) tells.
    ///
    /// # Errors
    /// [`NoAnswer::Fault`], also where the process does not read what was sent before.
    pub(crate) fn send<M: codec::Encode>(
        &mut self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), NoAnswer> {
        match self.sender.try_send(message, descriptors) {
            Ok(()) => Ok(()),
            Err(SendError::Io(error)) if is_hang_up(&error) => Ok(()),
            Err(error) => Err(self.failed(NoAnswer::Fault(io::Error::other(error)))),
        }
    }

    /// Waits for the next answer until `deadline`, which never comes if `None`.
    ///
    /// # Errors
    /// [`NoAnswer`]
    pub(crate) fn receive<M: codec::Decode<()>>(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<M, NoAnswer> {
        self.frames.get_mut().deadline = deadline;
        let no_answer = match self.frames.read() {
            Ok(Some(Body::Inline(body))) => match codec::decode(body) {
                Ok(answer) => return Ok(answer),
                Err(error) => NoAnswer::Unusable(error.into()),
            },
            Ok(Some(Body::OutOfLine(_))) => NoAnswer::Unusable(FrameError::Misplaced),
            // A partial answer is no answer.
            Ok(None) | Err(FrameError::Torn) => self.hung_up(),
            Err(FrameError::Io(error)) if is_hang_up(&error) => self.hung_up(),
            Err(FrameError::Io(error)) if error.kind() == io::ErrorKind::TimedOut => {
                // While it is there to be asked for.
                NoAnswer::Late { processor_time: processor_time_of(self.pid()) }
            }
            Err(FrameError::Io(error)) if error.kind() != io::ErrorKind::InvalidData => {
                match excess_of(&error) {
                    Some(excess) => NoAnswer::TooMuchMemory(excess),
                    None => NoAnswer::Fault(error),
                }
            }
            Err(error) => NoAnswer::Unusable(error),
        };
        Err(self.failed(no_answer))
    }

    /// Takes the descriptor that came with the last answer.
    pub(crate) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.frames.get_mut().descriptor.take()
    }

    /// The end of the process, which has hung up: it is dying, unless it is hostile or was interrupted.
    fn hung_up(&mut self) -> NoAnswer {
        if self.interrupt.is_interrupted() {
            return NoAnswer::Interrupted;
        }
        let by_itself = self.child.ends_within(DEATH_PATIENCE);
        self.child.kill();
        let exit = self.child.wait();
        let out_of_memory = oom::rose(self.oom_kills, oom::kills());
        NoAnswer::Ended(End { exit, by_itself, out_of_memory })
    }

    /// Nothing more is wanted of the process.
    fn failed(&mut self, why: NoAnswer) -> NoAnswer {
        self.end();
        why
    }

    /// Kills the process and waits for its end.
    pub(super) fn end(&mut self) {
        self.child.kill();
        self.child.wait();
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a process sends: read until a deadline, and while it does not have too much memory.
///
/// Invariant: of what it sends no descriptor stays open in this host but the one that is kept here.
#[derive(Debug)]
struct Answers {
    socket: UnixStream,
    weighed: Weighed,
    deadline: Option<Instant>,
    /// When its memory is looked at next.
    look: Instant,
    takes_descriptor: bool,
    descriptor: Option<OwnedFd>,
}

impl Answers {
    fn new(socket: UnixStream, weighed: Weighed) -> Self {
        let look = Instant::now() + LOOK_EVERY;
        Self { socket, weighed, deadline: None, look, takes_descriptor: false, descriptor: None }
    }

    /// How long to wait before this is asked again.
    fn left(&mut self) -> io::Result<Duration> {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if now >= self.look {
            if let Some(excess) = self.weighed.excess() {
                return Err(io::Error::other(excess));
            }
            self.look = now + LOOK_EVERY;
        }
        Ok(self.deadline.map_or(self.look, |deadline| deadline.min(self.look)) - now)
    }

    fn receive(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let space = if self.takes_descriptor { &mut space[..] } else { &mut [] };
        let mut ancillary = RecvAncillaryBuffer::new(space);
        let (out, flags) = (&mut [IoSliceMut::new(out)], RecvFlags::CMSG_CLOEXEC);
        let received = rustix::net::recvmsg(&self.socket, out, &mut ancillary, flags)?;
        for message in ancillary.drain() {
            let RecvAncillaryMessage::ScmRights(descriptors) = message else { continue };
            for descriptor in descriptors {
                if self.descriptor.replace(descriptor).is_some() {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors"));
                }
            }
        }
        Ok(received.bytes)
    }
}

impl Read for Answers {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.left()?;
            self.socket.set_read_timeout(Some(left))?;
            match self.receive(out) {
                // As a socket's time-out reads.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return received,
            }
        }
    }
}

/// Whether the other end of a socket is gone, perhaps with messages that it had not read.
fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Why a read ended, where that was the memory of the process that was read from.
fn excess_of(error: &io::Error) -> Option<MemoryExcess> {
    error.get_ref()?.downcast_ref().copied()
}

#[cfg(test)]
mod tests;

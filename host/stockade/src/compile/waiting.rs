//! How a process that is asked one thing is waited for: to a deadline, with looks at its memory, and until
//! it is no longer wanted.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::MemoryExcess;
use crate::footprint::{LOOK_EVERY, Weighed};

/// How long a process that has hung up may take to end; it is a matter of microseconds.
pub(crate) const DEATH_PATIENCE: Duration = Duration::from_secs(1);

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

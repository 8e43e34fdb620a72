//! A command's stdin, stdout and stderr, if they are not captured.
//!
//! All sharers of a descriptor share its flags, so it may unexpectedly be non-blocking. Here a read
//! waits for data and a write for room, with any flags; an interrupted call is retried, and the
//! guest gets all other errors as their numbers.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::failure::HostTrap;

/// The most bytes of one read or write: what a pipe holds.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// How often in a row a guest may write to a stdout without a reader. A guest that checks errors
/// ends earlier; one that does not is ended as by SIGPIPE.
const UNREAD_WRITES_MAX: u32 = 1000;

/// A shell's exit code for a process that SIGPIPE ended.
const ENDED_BY_SIGPIPE: i32 = 141;

/// Where stdin comes from. Clones share their place in it.
#[derive(Clone, Debug)]
pub(crate) enum Stdin {
    /// These bytes, then its end.
    Bytes(Arc<Mutex<Bytes>>),
    /// Data from a descriptor.
    Descriptor(Arc<OwnedFd>),
    /// Nothing: each read fails with this error number of the system's.
    Error(i32),
}

impl Default for Stdin {
    fn default() -> Self {
        Self::bytes(Vec::new())
    }
}

impl Stdin {
    /// These bytes.
    pub(crate) fn bytes(bytes: Vec<u8>) -> Self {
        Self::Bytes(Arc::new(Mutex::new(bytes.into())))
    }

    /// What can be waited for; none where a read never waits.
    pub(crate) fn descriptor(&self) -> Option<&Arc<OwnedFd>> {
        match self {
            Self::Descriptor(descriptor) => Some(descriptor),
            Self::Bytes(_) | Self::Error(_) => None,
        }
    }

    fn take(&self, bytes_max: usize) -> io::Result<Bytes> {
        match self {
            Self::Bytes(bytes) => {
                // No code that holds the lock can panic halfway through a change.
                let mut bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
                let length = bytes.len().min(bytes_max);
                Ok(bytes.split_to(length))
            }
            Self::Descriptor(descriptor) => {
                let mut buffer = BytesMut::zeroed(bytes_max.min(PIECE_BYTES_MAX));
                let length = read(descriptor, &mut buffer)?;
                buffer.truncate(length);
                Ok(buffer.freeze())
            }
            // A recording that somebody made up may say anything, and Linux has no others.
            Self::Error(number) => {
                let number = if (1..4096).contains(number) { *number } else { libc::EIO };
                Err(io::Error::from_raw_os_error(number))
            }
        }
    }
}

/// Reads what is there, or waits for it. None is the end.
///
/// # Errors
/// What the system says, but for an interruption.
pub(crate) fn read(from: impl AsFd, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    loop {
        match rustix::io::read(&from, &mut *buffer) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(&from, PollFlags::IN)?,
            other => return other,
        }
    }
}

/// Writes some of `bytes`, at least one where there are any, once there is room.
///
/// # Errors
/// As [`read`].
pub(crate) fn write(to: impl AsFd, bytes: &[u8]) -> rustix::io::Result<usize> {
    loop {
        match rustix::io::write(&to, bytes) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(&to, PollFlags::OUT)?,
            other => return other,
        }
    }
}

fn wait(descriptor: impl AsFd, what: PollFlags) -> rustix::io::Result<()> {
    match rustix::event::poll(&mut [PollFd::new(&descriptor, what)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Stdin {
    async fn ready(&mut self) {}
}

#[async_trait]
impl InputStream for Stdin {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match self.take(size) {
            // To read nothing is no end, but the caller takes it for nothing as well.
            Ok(bytes) if bytes.is_empty() => Err(StreamError::Closed),
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(StreamError::LastOperationFailed(error.into())),
        }
    }
}

impl AsyncRead for Stdin {
    fn poll_read(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(self.take(buffer.remaining()).map(|bytes| buffer.put_slice(&bytes)))
    }
}

/// A stdout or stderr that goes to a descriptor.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    descriptor: Arc<OwnedFd>,
    /// How often in a row nobody was there to read, where that is to end the guest.
    unread: Option<Arc<AtomicU32>>,
}

impl Output {
    /// A stdout.
    pub(crate) fn stdout(descriptor: OwnedFd) -> Self {
        Self { descriptor: Arc::new(descriptor), unread: Some(Arc::default()) }
    }

    /// A stderr, whose reader ends nobody by going away.
    pub(crate) fn stderr(descriptor: OwnedFd) -> Self {
        Self { descriptor: Arc::new(descriptor), unread: None }
    }

    /// What can be waited for.
    pub(crate) fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.descriptor
    }

    fn put(&self, mut bytes: &[u8]) -> rustix::io::Result<()> {
        while !bytes.is_empty() {
            let written = write(&self.descriptor, bytes)?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Counts a write that came to `written`.
    fn count(&self, written: &rustix::io::Result<()>) -> Result<(), HostTrap> {
        let Some(unread) = &self.unread else { return Ok(()) };
        let count = match written {
            Err(Errno::PIPE) => unread.load(Ordering::Relaxed) + 1,
            _ => 0,
        };
        unread.store(count, Ordering::Relaxed);
        if count < UNREAD_WRITES_MAX { Ok(()) } else { Err(HostTrap::Exit(ENDED_BY_SIGPIPE)) }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let written = self.put(&bytes);
        self.count(&written).map_err(|trap| StreamError::Trap(trap.into()))?;
        written.map_err(|error| StreamError::LastOperationFailed(io::Error::from(error).into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PIECE_BYTES_MAX)
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(write(&self.descriptor, bytes).map_err(io::Error::from))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

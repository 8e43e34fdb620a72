//! Captured streams: a guest's stdout or stderr, kept up to a limit.
//!
//! Writing always succeeds; bytes beyond the limit are counted and dropped.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use stockade_wire::Captured;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// How much one write may bring; the guest's bytes are copied in pieces of this size.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// A stream whose clones all write to the same place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Capture(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    limit: usize,
    dropped: u64,
}

impl Capture {
    /// One with room for `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        let capture = Self::default();
        capture.begin(limit);
        capture
    }

    /// Starts anew with room for `limit` bytes.
    pub(crate) fn begin(&self, limit: u64) {
        *self.kept() =
            Kept { limit: usize::try_from(limit).unwrap_or(usize::MAX), ..Kept::default() };
    }

    /// Takes what was written since the beginning.
    pub(crate) fn take(&self) -> Captured {
        let mut kept = self.kept();
        Captured {
            bytes: std::mem::take(&mut kept.bytes),
            dropped: std::mem::take(&mut kept.dropped),
        }
    }

    fn append(&self, bytes: &[u8]) {
        let mut kept = self.kept();
        let room = kept.limit.saturating_sub(kept.bytes.len());
        let (fits, rest) = bytes.split_at(bytes.len().min(room));
        kept.bytes.extend_from_slice(fits);
        kept.dropped += rest.len() as u64;
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IsTerminal for Capture {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Capture {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Capture {
    async fn ready(&mut self) {}
}

impl OutputStream for Capture {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for Capture {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.append(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_up_to_the_limit_are_kept_and_the_rest_is_counted() {
        let capture = Capture::new(4);
        capture.append(b"ab");
        capture.append(b"cd");
        assert_eq!(capture.take(), Captured { bytes: b"abcd".to_vec(), dropped: 0 });
        capture.begin(4);
        capture.append(b"abcde");
        capture.append(b"f");
        assert_eq!(capture.take(), Captured { bytes: b"abcd".to_vec(), dropped: 2 });
    }
}

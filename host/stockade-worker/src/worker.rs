//! The worker role: this process's socket and its way into the session.

use std::io;
use std::mem::ManuallyDrop;

use stockade_wire::OUT_OF_MEMORY_EXIT_CODE;

use crate::session::{self, SessionError};
use crate::{sandbox, socket};

/// Why a worker ended other than by its host's wish.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    /// No pool started this process.
    #[error("no socket from a pool: {0}")]
    Socket(#[source] io::Error),
    /// The session failed.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl WorkerError {
    /// What the process says of it as it exits, for want of anything else that is heard.
    pub(crate) fn exit_code(&self) -> i32 {
        match self {
            Self::Session(SessionError::OutOfMemory) => OUT_OF_MEMORY_EXIT_CODE,
            Self::Session(_) | Self::Socket(_) => 1,
        }
    }
}

/// Serves the host until it closes.
///
/// # Errors
/// [`WorkerError`]
pub(crate) fn run() -> Result<(), WorkerError> {
    let socket = socket::take_inherited().map_err(WorkerError::Socket)?;
    // Open for as long as the process lives. Its host hears the end and then makes sure that the
    // process is gone, so by then the process must have said with its exit code how it ended.
    let _kept = ManuallyDrop::new(socket.try_clone().map_err(WorkerError::Socket)?);
    Ok(session::serve(socket, sandbox::confine)?)
}

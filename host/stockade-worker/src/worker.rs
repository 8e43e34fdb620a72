//! The worker role: this process's socket and its way into the session.

use std::io;

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

/// Serves the host until it closes.
///
/// # Errors
/// [`WorkerError`]
pub(crate) fn run() -> Result<(), WorkerError> {
    let socket = socket::take_inherited().map_err(WorkerError::Socket)?;
    Ok(session::serve(socket, sandbox::confine)?)
}

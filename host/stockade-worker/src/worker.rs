//! The worker role: this process's socket and its way into the session.

use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::net::UnixStream;

use stockade_wire::OUT_OF_MEMORY_EXIT_CODE;

use stockade_wire::{Layer, LockdownReport, Setup};

use crate::lockdown::{
    self, Ceilings, CloneFilter, FILE_BYTES_MAX, Files, Inherited, Last, Lock, LockdownError,
    Mapped, Paths, Profile, Space,
};
use crate::session::{self, Confine, SessionError, Stock};
use crate::socket;

/// Descriptors a worker may have open. Queued commands hold up to three each.
const DESCRIPTORS_MAX: u64 = 1024;

/// The error that ended a worker.
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
    /// The exit code, the only report that the host can still get.
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
    let inherited = Inherited::look();
    let socket = socket::take_inherited().map_err(WorkerError::Socket)?;
    // Open for as long as the process lives. Its host hears the end and then makes sure that the
    // process is gone, so by then the process must have said with its exit code how it ended.
    let _kept = ManuallyDrop::new(socket.try_clone().map_err(WorkerError::Socket)?);
    let confined = Confined { inherited: Some(inherited), locked: None, clone: None };
    Ok(session::serve(socket, confined, None)?)
}

/// Serves the host until it closes, in a clone of a template that came with what is `inherited` and
/// has `filter` and `stock`.
///
/// # Errors
/// [`WorkerError`]
pub(crate) fn run_cloned(
    socket: UnixStream,
    inherited: Inherited,
    filter: CloneFilter,
    stock: Stock,
) -> Result<(), WorkerError> {
    // As above.
    let _kept = ManuallyDrop::new(socket.try_clone().map_err(WorkerError::Socket)?);
    let confined = Confined { inherited: Some(inherited), locked: None, clone: Some(filter) };
    Ok(session::serve(socket, confined, Some(stock))?)
}

/// The confinement of a real process.
struct Confined {
    inherited: Option<Inherited>,
    locked: Option<Locked>,
    /// The filter of a clone.
    clone: Option<CloneFilter>,
}

/// A process whose lockdown has begun.
struct Locked {
    lock: Lock,
    ceilings: Ceilings,
    files: Files,
    /// In a clone its template has set the limit that this is for, and its one filter is the last.
    mapped: Option<Mapped>,
}

impl Confine for Confined {
    fn enter(&mut self, setup: &Setup) {
        lockdown::name_process(&setup.name);
        let Some(inherited) = self.inherited.take() else { return };
        let mut lock = Lock::begin(setup.confinement.clone(), inherited);
        let (ceilings, files) = (ceilings(setup), files(setup));
        let mapped = if self.clone.is_some() { Ok(None) } else { Mapped::open().map(Some) };
        lock.enter(&ceilings, &Paths::granted(&setup.grants));
        let mapped = mapped.unwrap_or_else(|why| {
            lock.weaken(Layer::ResourceLimits, format!("no limit on address space: {why}"));
            None
        });
        // To a guest a file that would become too long is an error number.
        lockdown::tolerate_long_files();
        self.locked = Some(Locked { lock, ceilings, files, mapped });
    }

    fn close(&mut self, space: &Space) -> Result<LockdownReport, LockdownError> {
        let Some(Locked { lock, ceilings, files, .. }) = &mut self.locked else {
            return Ok(LockdownReport(Vec::new()));
        };
        let last = match &self.clone {
            Some(filter) => Last::OfClone(filter, *files, space),
            None => Last::Of(Profile::Worker(*files)),
        };
        lock.close(ceilings, last)
    }

    fn seal(&mut self, space: &Space) -> Result<(), LockdownError> {
        match self.locked.take() {
            // The one filter of a clone has done it.
            Some(Locked { mut lock, ceilings, files, mapped }) if self.clone.is_none() => {
                lock.seal(files, space, mapped.as_ref(), &ceilings)
            }
            _ => Ok(()),
        }
    }
}

/// What a worker for `setup` may take.
pub(crate) fn ceilings(setup: &Setup) -> Ceilings {
    Ceilings {
        data_bytes: setup.data_bytes_max(),
        descriptors: DESCRIPTORS_MAX,
        file_bytes: (files(setup) == Files::Write).then_some(FILE_BYTES_MAX),
    }
}

/// What guests of a worker for `setup` may do with files.
pub(crate) fn files(setup: &Setup) -> Files {
    let granted = setup.grants.directories();
    match granted.iter().any(|grant| grant.writable) {
        true => Files::Write,
        false if granted.is_empty() => Files::None,
        false => Files::Read,
    }
}

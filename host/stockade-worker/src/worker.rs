//! The worker role: this process's socket and its way into the session.

use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::net::UnixStream;

use stockade_wire::OUT_OF_MEMORY_EXIT_CODE;

use stockade_wire::{Limits, LockdownReport, Setup};

use crate::engine;
use crate::lockdown::{
    self, Ceilings, FILE_BYTES_MAX, Files, Inherited, Lock, LockdownError, Paths, Profile,
};
use crate::session::{self, Confine, SessionError, Stock};
use crate::socket;

/// Descriptors a worker may have open. Queued commands hold up to three each.
const DESCRIPTORS_MAX: u64 = 1024;

/// Memory beside instances and what moves through: modules, the engine, the allocator.
const DATA_BYTES_BASE: u64 = 512 << 20;

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
    let inherited = Inherited::look();
    let socket = socket::take_inherited().map_err(WorkerError::Socket)?;
    // Open for as long as the process lives. Its host hears the end and then makes sure that the
    // process is gone, so by then the process must have said with its exit code how it ended.
    let _kept = ManuallyDrop::new(socket.try_clone().map_err(WorkerError::Socket)?);
    let confined = Confined { inherited: Some(inherited), lock: None, is_clone: false };
    Ok(session::serve(socket, confined, None)?)
}

/// Serves the host until it closes, in a clone of a template that came with what is `inherited` and
/// has `stock`.
///
/// # Errors
/// [`WorkerError`]
pub(crate) fn run_cloned(
    socket: UnixStream,
    inherited: Inherited,
    stock: Stock,
) -> Result<(), WorkerError> {
    // As above.
    let _kept = ManuallyDrop::new(socket.try_clone().map_err(WorkerError::Socket)?);
    let confined = Confined { inherited: Some(inherited), lock: None, is_clone: true };
    Ok(session::serve(socket, confined, Some(stock))?)
}

/// The confinement of a real process.
struct Confined {
    inherited: Option<Inherited>,
    lock: Option<(Lock, Ceilings, Files)>,
    /// Whether it inherited what a template gave up.
    is_clone: bool,
}

impl Confine for Confined {
    fn enter(&mut self, setup: &Setup) {
        lockdown::name_process(&setup.name);
        let Some(inherited) = self.inherited.take() else { return };
        let mut lock = Lock::begin(setup.confinement.clone(), inherited);
        let (ceilings, files) = (ceilings(setup), files(setup));
        lock.enter(&ceilings, &Paths::granted(&setup.grants));
        // To a guest a file that would become too long is an error number.
        lockdown::tolerate_long_files();
        self.lock = Some((lock, ceilings, files));
    }

    fn close(&mut self) -> Result<LockdownReport, LockdownError> {
        match &mut self.lock {
            Some((lock, ceilings, files)) if self.is_clone => {
                lock.close(ceilings, Profile::Clone(*files))
            }
            Some((lock, ceilings, files)) => lock.close(ceilings, Profile::Worker(*files)),
            None => Ok(LockdownReport(Vec::new())),
        }
    }

    fn seal(&mut self) -> Result<(), LockdownError> {
        match &mut self.lock {
            // Its one filter has done it.
            Some(_) if self.is_clone => Ok(()),
            Some((lock, _, files)) => lock.seal(*files),
            None => Ok(()),
        }
    }
}

/// What a worker for `setup` may take: memory for every instance that can be alive or is kept warm,
/// one for each module and one that ends, and what moves through it.
pub(crate) fn ceilings(setup: &Setup) -> Ceilings {
    let Limits { memory_bytes, output_bytes, .. } = setup.limits;
    let instances = u64::from(setup.modules).saturating_add(1);
    Ceilings {
        data_bytes: memory_bytes
            .saturating_mul(instances)
            .saturating_add(output_bytes.saturating_mul(4))
            .saturating_add(engine::table_bytes(&setup.engine, instances))
            .saturating_add(DATA_BYTES_BASE),
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

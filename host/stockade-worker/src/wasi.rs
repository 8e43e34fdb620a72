//! WASI: a guest's window on the outside, empty but for what was granted.
//!
//! The context is built at a guest's first WASI call, because most tasks make none. Everything in
//! it works on the calling thread: nothing here starts a thread or waits on a runtime's timers.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use stockade_wire::Grants;
use wasmtime_wasi::cli::{InputFile, OutputFile};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{FsPerms, HostMonotonicClock, WasiCtxBuilder};

use crate::capture::Capture;

/// The most bytes of randomness for one call; wasmtime makes them all before it looks where to put
/// them.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// A directory that was granted and cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the granted directory {}: {source}", path.display())]
pub(crate) struct GrantError {
    path: PathBuf,
    source: io::Error,
}

/// Makes sure that every granted directory is there, since no guest could be told later.
///
/// # Errors
/// [`GrantError`] for the first that is not.
pub(crate) fn check(grants: &Grants) -> Result<(), GrantError> {
    for grant in grants.directories() {
        let path = grant.host();
        if let Err(source) = std::fs::read_dir(&path) {
            return Err(GrantError { path, source });
        }
    }
    Ok(())
}

/// What a context is built from.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) grants: Arc<Grants>,
    pub(crate) args: Vec<String>,
    /// Variables beside the granted ones.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) stdin: Input,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    pub(crate) clock: Clock,
}

/// Where stdin comes from.
#[derive(Debug)]
pub(crate) enum Input {
    Bytes(Vec<u8>),
    Descriptor(OwnedFd),
}

/// Where stdout or stderr goes.
#[derive(Debug)]
pub(crate) enum Output {
    Captured(Capture),
    Descriptor(OwnedFd),
}

impl Plan {
    /// A plan for a function: no arguments, no stdin, both streams captured.
    pub(crate) fn function(grants: Arc<Grants>, clock: Clock) -> Self {
        Self {
            grants,
            args: Vec::new(),
            env: Vec::new(),
            stdin: Input::Bytes(Vec::new()),
            stdout: Output::Captured(Capture::default()),
            stderr: Output::Captured(Capture::default()),
            clock,
        }
    }

    /// Builds the context, which takes the plan's stdin and descriptors.
    pub(crate) fn build(&mut self) -> WasiP1Ctx {
        let mut builder = WasiCtxBuilder::new();
        builder
            .allow_blocking_current_thread(true)
            .max_random_size(RANDOM_BYTES_MAX)
            .monotonic_clock(self.clock)
            .allow_tcp(false)
            .allow_udp(false)
            .args(&self.args)
            .envs(self.grants.variables())
            .envs(&self.env);
        match std::mem::replace(&mut self.stdin, Input::Bytes(Vec::new())) {
            Input::Bytes(bytes) => builder.stdin(MemoryInputPipe::new(bytes)),
            Input::Descriptor(descriptor) => builder.stdin(InputFile::new(File::from(descriptor))),
        };
        match self.stdout.take() {
            Output::Captured(capture) => builder.stdout(capture),
            Output::Descriptor(descriptor) => {
                builder.stdout(OutputFile::new(File::from(descriptor)))
            }
        };
        match self.stderr.take() {
            Output::Captured(capture) => builder.stderr(capture),
            Output::Descriptor(descriptor) => {
                builder.stderr(OutputFile::new(File::from(descriptor)))
            }
        };
        for grant in self.grants.directories() {
            let access = if grant.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
            // It was there when the worker started. If it has gone since, the guest finds nothing
            // under its name, as with any directory that goes.
            let _ = builder.preopened_dir(grant.host(), &grant.guest, access);
        }
        builder.build_p1()
    }
}

impl Output {
    /// The stream behind, leaving a capture to read from in its place.
    fn take(&mut self) -> Self {
        match self {
            Self::Captured(capture) => Self::Captured(capture.clone()),
            Self::Descriptor(_) => std::mem::replace(self, Self::Captured(Capture::default())),
        }
    }
}

/// Monotonic time since the worker's start: the same for every guest and for
/// [`poll`](crate::poll), so that an absolute time in one means the same in the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// A clock that stands at zero.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

//! WASI: a guest's window on the outside, empty but for what was granted.
//!
//! The context is built at a guest's first WASI call, because most tasks make none. Everything in
//! it works on the calling thread: nothing here starts a thread or waits on a runtime's timers.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use stockade_wire::{Captured, Determinism, Grants};
use wasmtime_wasi::cli::{InputFile, OutputFile};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use crate::capture::Capture;
use crate::chance::Seeded;
use crate::clock::Clock;

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

/// What a context is built from beside what is granted. By default nothing: that of a function.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) args: Vec<String>,
    /// Variables beside the granted ones.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) stdin: Input,
    /// Where stdout goes; captured where that is nowhere.
    pub(crate) stdout: Option<OwnedFd>,
    /// As `stdout`.
    pub(crate) stderr: Option<OwnedFd>,
}

/// Where stdin comes from.
#[derive(Debug)]
pub(crate) enum Input {
    Bytes(Vec<u8>),
    Descriptor(OwnedFd),
}

impl Default for Input {
    fn default() -> Self {
        Self::Bytes(Vec::new())
    }
}

/// A guest's context and what it wrote.
pub(crate) struct Wasi {
    pub(crate) context: WasiP1Ctx,
    stdout: Capture,
    stderr: Capture,
}

impl Wasi {
    /// Builds a context in which each captured stream has room for `stdio_bytes`.
    pub(crate) fn build(
        plan: Plan,
        grants: &Grants,
        clock: Clock,
        determinism: Option<Determinism>,
        stdio_bytes: u64,
    ) -> Self {
        let (stdout, stderr) = (Capture::new(stdio_bytes), Capture::new(stdio_bytes));
        let mut builder = WasiCtxBuilder::new();
        builder
            .allow_blocking_current_thread(true)
            .max_random_size(RANDOM_BYTES_MAX)
            .monotonic_clock(clock.clone())
            .wall_clock(clock)
            .allow_tcp(false)
            .allow_udp(false)
            .args(&plan.args)
            .envs(grants.variables())
            .envs(&plan.env);
        if let Some(Determinism { seed, .. }) = determinism {
            builder
                .secure_random(Seeded::new(seed))
                .insecure_random(Seeded::new(seed))
                .insecure_random_seed(seed.into());
        }
        match plan.stdin {
            Input::Bytes(bytes) => builder.stdin(MemoryInputPipe::new(bytes)),
            Input::Descriptor(descriptor) => builder.stdin(InputFile::new(File::from(descriptor))),
        };
        match plan.stdout {
            None => builder.stdout(stdout.clone()),
            Some(descriptor) => builder.stdout(OutputFile::new(File::from(descriptor))),
        };
        match plan.stderr {
            None => builder.stderr(stderr.clone()),
            Some(descriptor) => builder.stderr(OutputFile::new(File::from(descriptor))),
        };
        for grant in grants.directories() {
            let access = if grant.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
            // It was there when the worker started. If it has gone since, the guest finds nothing
            // under its name, as with any directory that goes.
            let _ = builder.preopened_dir(grant.host(), &grant.guest, access);
        }
        Self { context: builder.build_p1(), stdout, stderr }
    }

    /// Starts both streams anew with room for `stdio_bytes`.
    pub(crate) fn begin(&self, stdio_bytes: u64) {
        self.stdout.begin(stdio_bytes);
        self.stderr.begin(stdio_bytes);
    }

    /// Takes what was written since to stdout and to stderr.
    pub(crate) fn take(&self) -> (Captured, Captured) {
        (self.stdout.take(), self.stderr.take())
    }
}

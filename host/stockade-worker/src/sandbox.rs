//! What the process gives up before the first guest runs.
//!
//! **Today this is not a sandbox.** A guest is held by wasmtime alone, and what stands here keeps
//! an accident small. The steps that are still missing have their place in the order below; until
//! seccomp is among them nothing may call a worker sandboxed.
//!
//! | step | when | state |
//! |---|---|---|
//! | rlimits: no core file, few descriptors, no locked memory | after the engine | done |
//! | not dumpable: no tracing by this user's processes | after the engine | done |
//! | rlimits on data and file size | after the engine | missing |
//! | Landlock, before any thread exists | before the engine's alarm starts | missing |
//! | no new processes or threads | after the last thread | missing |
//! | memory-deny-write-execute | after the engine | missing |
//! | seccomp with TSYNC: allow-list, kill on violation | last | missing |
//! | report of each layer as full, partial or none | in `Ready` | missing |
//!
//! The engine comes first because it opens `/proc/self/pagemap`, which belongs to root once the
//! process is not dumpable: for any other user fast resets would silently be gone.
//!
//! Deliberately absent: what the host does between fork and exec.

use std::ffi::CString;
use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit};
use stockade_wire::Setup;

/// Descriptors a worker may have open. Queued commands hold up to three each.
const DESCRIPTORS_MAX: u64 = 1024;

/// The kernel keeps this many bytes of a thread's name.
const NAME_BYTES_MAX: usize = 15;

/// A step that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {source}")]
pub(crate) struct SandboxError {
    step: &'static str,
    source: io::Error,
}

/// Confines this process. Runs after the engine exists and before any guest does.
///
/// # Errors
/// [`SandboxError`] for the first step that fails.
pub(crate) fn confine(setup: &Setup) -> Result<(), SandboxError> {
    name_process(&setup.name)?;
    no_core_file()?;
    lower_limit(Resource::Nofile, DESCRIPTORS_MAX, "limit open files")?;
    lower_limit(Resource::Memlock, 0, "forbid locked memory")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(failed("become undumpable"))
}

/// Forbids core files: a guest's memory would be in them.
///
/// # Errors
/// [`SandboxError`]
pub(crate) fn no_core_file() -> Result<(), SandboxError> {
    lower_limit(Resource::Core, 0, "forbid core files")
}

/// Lowers a limit for good; one that is lower already stays.
///
/// # Errors
/// [`SandboxError`]
pub(crate) fn lower_limit(
    resource: Resource,
    limit: u64,
    step: &'static str,
) -> Result<(), SandboxError> {
    lower_limits(resource, limit, limit, step)
}

/// As [`lower_limit`], with a `soft` limit that signals before the `hard` one kills.
///
/// # Errors
/// [`SandboxError`]
pub(crate) fn lower_limits(
    resource: Resource,
    soft: u64,
    hard: u64,
    step: &'static str,
) -> Result<(), SandboxError> {
    let before = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limits = Rlimit { current: Some(soft.min(before)), maximum: Some(hard.min(before)) };
    rustix::process::setrlimit(resource, limits).map_err(failed(step))
}

/// Shows the worker's name in process lists.
fn name_process(name: &str) -> Result<(), SandboxError> {
    let mut bytes: Vec<u8> = name.bytes().filter(|byte| *byte != 0).collect();
    bytes.truncate(NAME_BYTES_MAX);
    let name = CString::new(bytes).unwrap_or_default();
    rustix::thread::set_name(&name).map_err(failed("name the process"))
}

fn failed(step: &'static str) -> impl FnOnce(rustix::io::Errno) -> SandboxError {
    move |errno| SandboxError { step, source: errno.into() }
}

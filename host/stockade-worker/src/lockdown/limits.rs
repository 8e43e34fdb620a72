//! Limits of the kernel on what the process may take of the machine.

use rustix::process::{Resource, Rlimit};
use stockade_wire::Level;

use super::Found;
use super::own::in_words;

/// The most bytes that a guest may make a file long, where it may write files at all.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 30;

/// The most bytes of the main thread's stack, which the kernel does not count as private memory: what
/// it gives by default. The stacks of other threads have a length of their own.
pub(super) const STACK_BYTES_MAX: u64 = 8 << 20;

/// What a process may have of each resource.
#[derive(Clone, Debug)]
pub(crate) struct Ceilings {
    /// Bytes of private writable memory. Address space is limited next to it, once it is reserved: see
    /// [`Mapped`](super::Mapped).
    pub(crate) data_bytes: u64,
    /// Descriptors open at a time.
    pub(crate) descriptors: u64,
    /// Bytes of a file that it writes; `None` leaves it to the host's own limit.
    pub(crate) file_bytes: Option<u64>,
}

impl Ceilings {
    fn limits(&self) -> Vec<(Resource, u64, &'static str)> {
        let mut limits = vec![
            // A guest's memory would be in it.
            (Resource::Core, 0, "core files"),
            (Resource::Nofile, self.descriptors, "descriptors"),
            (Resource::Data, self.data_bytes, "memory"),
            (Resource::Stack, STACK_BYTES_MAX, "the main stack"),
            (Resource::Memlock, 0, "locked memory"),
            (Resource::Msgqueue, 0, "message queues"),
            (Resource::Rtprio, 0, "real-time priority"),
            (Resource::Nice, 0, "priority"),
        ];
        limits.extend(self.file_bytes.map(|bytes| (Resource::Fsize, bytes, "the length of files")));
        limits
    }

    /// Lowers every limit for good; one that is lower already stays.
    pub(super) fn lower(&self) -> Result<(), String> {
        let lower = |(resource, limit, name): (Resource, u64, &str)| {
            lower(resource, limit, limit).map_err(|why| format!("{name}: {why}"))
        };
        let failed: Vec<_> =
            self.limits().into_iter().filter_map(|limit| lower(limit).err()).collect();
        if failed.is_empty() { Ok(()) } else { Err(failed.join(", ")) }
    }

    pub(super) fn found(&self) -> Found {
        let above = |(resource, limit, _): &(Resource, u64, &str)| {
            rustix::process::getrlimit(*resource).maximum.is_none_or(|found| found > *limit)
        };
        let limits = self.limits();
        let above: Vec<_> =
            limits.iter().filter(|limit| above(limit)).map(|(.., name)| *name).collect();
        if above.is_empty() {
            (Level::Full, "on memory, descriptors, files, processes and core files".into())
        } else if above.len() < limits.len() {
            (Level::Partial, format!("no limit on {}", above.join(", ")))
        } else {
            (Level::None, "no limits".into())
        }
    }

    /// Allows so many processes and threads to the users of this namespace.
    pub(super) fn limit_processes(&self, processes: u64) -> Result<(), String> {
        lower(Resource::Nproc, processes, processes).map_err(|why| format!("processes: {why}"))
    }

    /// Forbids processes and threads beyond those there are.
    pub(super) fn forbid_processes(&self) -> Result<(), String> {
        lower(Resource::Nproc, 0, 0).map_err(|why| format!("no limit on processes: {why}"))
    }
}

/// Lowers a limit for good; one that is lower already stays. At the `soft` limit the kernel signals,
/// where it has a signal for it, at the `hard` one it refuses or kills.
///
/// # Errors
/// The kernel's words.
pub(crate) fn lower(resource: Resource, soft: u64, hard: u64) -> Result<(), String> {
    let before = rustix::process::getrlimit(resource);
    let maximum = before.maximum.unwrap_or(u64::MAX);
    let limits = Rlimit { current: Some(soft.min(maximum)), maximum: Some(hard.min(maximum)) };
    // As most are in a clone: its template has lowered them.
    if before == limits {
        return Ok(());
    }
    rustix::process::setrlimit(resource, limits).map_err(in_words)
}

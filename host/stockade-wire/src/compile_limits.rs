//! What compiling one module may use.
//!
//! A module of a few kilobytes can cost its compiler any amount of time, memory and code. Each step
//! of a module's way to its artefact has a process of its own and all of these to itself.

use std::time::Duration;

use crate::codec::{Decode, Encode};

/// What one compiler may use. A module that takes more is refused with an error that names the
/// limit.
///
/// ```
/// use std::time::Duration;
/// use stockade_wire::CompileLimits;
///
/// let limits = CompileLimits::default().cpu_time(Duration::from_secs(5)).module_bytes(1 << 20);
/// assert_eq!(limits.module_bytes, 1 << 20);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub struct CompileLimits {
    /// Processor time, in whole seconds: the system counts no finer, so part of a second counts as
    /// a whole one. Default: 30 s.
    pub cpu_time: Duration,
    /// Time from the compiler's start to its answer. Default: 60 s.
    pub wall_time: Duration,
    /// Memory of its own in bytes: what `RLIMIT_DATA` counts. Default: 2 GiB.
    pub memory_bytes: u64,
    /// Bytes of the module. Default: 32 MiB.
    pub module_bytes: u64,
    /// Bytes of what it is compiled to. Default: 128 MiB.
    pub artefact_bytes: u64,
}

/// The most that either time of [`CompileLimits`] may be.
pub const COMPILE_TIME_MAX: Duration = Duration::from_secs(86_400);

/// The least that [`CompileLimits::memory_bytes`] may be: a compiler that has read nothing yet takes
/// a part of it.
pub const COMPILE_MEMORY_BYTES_MIN: u64 = 16 << 20;

/// The most that each of [`CompileLimits`]'s numbers of bytes may be.
pub const COMPILE_BYTES_MAX: u64 = 1 << 40;

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            cpu_time: Duration::from_secs(30),
            wall_time: Duration::from_secs(60),
            memory_bytes: 2 << 30,
            module_bytes: 32 << 20,
            artefact_bytes: 128 << 20,
        }
    }
}

impl CompileLimits {
    /// Sets [`cpu_time`](Self::cpu_time).
    #[must_use]
    pub fn cpu_time(mut self, time: Duration) -> Self {
        self.cpu_time = time;
        self
    }

    /// Sets [`wall_time`](Self::wall_time).
    #[must_use]
    pub fn wall_time(mut self, time: Duration) -> Self {
        self.wall_time = time;
        self
    }

    /// Sets [`memory_bytes`](Self::memory_bytes).
    #[must_use]
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Sets [`module_bytes`](Self::module_bytes).
    #[must_use]
    pub fn module_bytes(mut self, bytes: u64) -> Self {
        self.module_bytes = bytes;
        self
    }

    /// Sets [`artefact_bytes`](Self::artefact_bytes).
    #[must_use]
    pub fn artefact_bytes(mut self, bytes: u64) -> Self {
        self.artefact_bytes = bytes;
        self
    }

    /// [`cpu_time`](Self::cpu_time) as the system counts it, which begins at one second.
    pub fn cpu_seconds(&self) -> u64 {
        let part = u64::from(self.cpu_time.subsec_nanos() > 0);
        self.cpu_time.as_secs().saturating_add(part).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_counted_in_whole_seconds_and_never_in_none() {
        let seconds = |time| CompileLimits::default().cpu_time(time).cpu_seconds();
        assert_eq!(seconds(Duration::from_nanos(1)), 1);
        assert_eq!(seconds(Duration::from_secs(1)), 1);
        assert_eq!(seconds(Duration::from_millis(1001)), 2);
        assert_eq!(seconds(Duration::ZERO), 1);
        assert_eq!(seconds(Duration::MAX), u64::MAX);
    }
}

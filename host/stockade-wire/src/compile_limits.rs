//! The limits of compiling one module.
//!
//! A module of a few kilobytes can cost its compiler any amount of time, memory and code. Each step
//! of the compilation has a process of its own, with these limits to itself.

use std::time::Duration;

use crate::codec::{Decode, Encode};

/// The limits of one compiler. A module that needs more is refused with an error that names the
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
    /// Processor time of all of its threads together, rounded up to whole seconds, the system's
    /// unit. `None` allows 30 s, plus 5 s for each MiB of the module. Default: `None`.
    pub cpu_time: Option<Duration>,
    /// Time from the compiler's start to its answer. It does not measure the module: on a busy
    /// machine a compiler may reach it. `None` allows ten times the processor time. Default:
    /// `None`.
    pub wall_time: Option<Duration>,
    /// Private memory in bytes, as `RLIMIT_DATA` counts it, without the stacks of its
    /// [`threads`](Self::threads), at most 8 MiB each. Default: 4 GiB.
    pub memory_bytes: u64,
    /// Bytes of the module. Default: 256 MiB.
    pub module_bytes: u64,
    /// Bytes of the compiled code. Default: 1 GiB.
    pub artefact_bytes: u64,
    /// How many threads compile it, 1 to 64. Their number changes the time, but not the result.
    /// `None` uses one for each processor that this program may use (by its affinity and its
    /// control group's quota), but at most 16, and fewer for a small module. If the system refuses
    /// a thread, one compiles alone. Each has a function in memory at a time, so many threads need
    /// more [`memory_bytes`](Self::memory_bytes) than one. Default: `None`.
    pub threads: Option<u32>,
}

/// Default processor time of any module.
const CPU_TIME: Duration = Duration::from_secs(30);

/// Additional default processor time for each MiB of a module: one of 17 MB, compiled from C++,
/// needed 37 s.
const CPU_TIME_PER_MIB: Duration = Duration::from_secs(5);

/// The default wall time as a multiple of the processor time.
const WALL_FACTOR: u32 = 10;

/// The most that either time of [`CompileLimits`] may be.
pub const COMPILE_TIME_MAX: Duration = Duration::from_secs(86_400);

/// The least that [`CompileLimits::memory_bytes`] may be: a compiler uses a part of it before it
/// reads anything.
pub const COMPILE_MEMORY_BYTES_MIN: u64 = 16 << 20;

/// The most that [`CompileLimits::threads`] may be.
pub const COMPILE_THREADS_MAX: u32 = 64;

/// The stack of each of several threads that compile: as large as the main thread's, since the
/// module determines how deep the compiler recurses. It is reserved, and allocated as it is used.
pub const COMPILE_STACK_BYTES: u64 = 8 << 20;

/// By default there is one thread for this many bytes of a module. Twice that takes a fifth of a
/// second to compile, of which a second thread costs some milliseconds.
const BYTES_PER_THREAD: u64 = 64 << 10;

/// The default maximum of threads: they share one arena of the allocator, so more threads cost more
/// processor time.
const THREADS_UNSET_MAX: u64 = 16;

/// The most that each of [`CompileLimits`]'s numbers of bytes may be.
pub const COMPILE_BYTES_MAX: u64 = 1 << 40;

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            cpu_time: None,
            wall_time: None,
            memory_bytes: 4 << 30,
            module_bytes: 256 << 20,
            artefact_bytes: 1 << 30,
            threads: None,
        }
    }
}

impl CompileLimits {
    /// Sets [`cpu_time`](Self::cpu_time); takes a `Duration` or `None`.
    #[must_use]
    pub fn cpu_time(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.cpu_time = time.into();
        self
    }

    /// Sets [`wall_time`](Self::wall_time); takes a `Duration` or `None`.
    #[must_use]
    pub fn wall_time(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.wall_time = time.into();
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

    /// Sets [`threads`](Self::threads); takes a number or `None`.
    #[must_use]
    pub fn threads(mut self, threads: impl Into<Option<u32>>) -> Self {
        self.threads = threads.into();
        self
    }

    /// The [`threads`](Self::threads) for a module of `module_bytes`. `processors` is called only
    /// if more than one is useful.
    pub fn threads_of(&self, module_bytes: u64, processors: impl FnOnce() -> usize) -> u32 {
        let threads = self.threads.unwrap_or_else(|| {
            let pay = (module_bytes / BYTES_PER_THREAD).min(THREADS_UNSET_MAX);
            let there_are = if pay > 1 { processors() as u64 } else { 1 };
            pay.min(there_are) as u32
        });
        threads.clamp(1, COMPILE_THREADS_MAX)
    }

    /// Bytes of the stacks of `threads` besides the main thread's: none for one thread, which is
    /// the main thread.
    pub fn stack_bytes_of(threads: u32) -> u64 {
        if threads > 1 { COMPILE_STACK_BYTES.saturating_mul(threads.into()) } else { 0 }
    }

    /// The [`cpu_time`](Self::cpu_time) of a module of `module_bytes`, in the system's unit, at
    /// least one second.
    pub fn cpu_seconds(&self, module_bytes: u64) -> u64 {
        let time = self.cpu_time.unwrap_or_else(|| {
            // At most a compiler's maximum, so that no sum overflows.
            let mib = module_bytes.min(COMPILE_BYTES_MAX).div_ceil(1 << 20) as u32;
            CPU_TIME.saturating_add(CPU_TIME_PER_MIB.saturating_mul(mib)).min(COMPILE_TIME_MAX)
        });
        let part = u64::from(time.subsec_nanos() > 0);
        time.as_secs().saturating_add(part).max(1)
    }

    /// The [`wall_time`](Self::wall_time) of a module of `module_bytes`.
    pub fn wall_time_of(&self, module_bytes: u64) -> Duration {
        self.wall_time.unwrap_or_else(|| {
            Duration::from_secs(self.cpu_seconds(module_bytes))
                .saturating_mul(WALL_FACTOR)
                .min(COMPILE_TIME_MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_counted_in_whole_seconds_and_never_in_none() {
        let seconds = |time: Duration| CompileLimits::default().cpu_time(time).cpu_seconds(1 << 30);
        assert_eq!(seconds(Duration::from_nanos(1)), 1);
        assert_eq!(seconds(Duration::from_secs(1)), 1);
        assert_eq!(seconds(Duration::from_millis(1001)), 2);
        assert_eq!(seconds(Duration::ZERO), 1);
        assert_eq!(seconds(Duration::MAX), u64::MAX);
    }

    #[test]
    fn a_larger_module_has_more_time_unless_that_is_set() {
        let limits = CompileLimits::default();
        let seconds = |bytes| limits.cpu_seconds(bytes);
        assert_eq!(
            (seconds(0), seconds(1), seconds(1 << 20), seconds(100 << 20)),
            (30, 35, 35, 530)
        );
        assert_eq!(seconds(u64::MAX), 86_400);
        assert_eq!(limits.wall_time_of(1 << 20), Duration::from_secs(350));
        assert_eq!(limits.wall_time_of(u64::MAX), COMPILE_TIME_MAX);
        let set = limits.clone().cpu_time(Duration::from_secs(2));
        assert_eq!(set.wall_time_of(1 << 30), Duration::from_secs(20));
        let set = set.wall_time(Duration::from_secs(1));
        assert_eq!(set.wall_time_of(1 << 30), Duration::from_secs(1));
    }

    #[test]
    fn a_small_module_has_one_thread_and_a_large_one_as_many_as_there_are_processors() {
        let limits = CompileLimits::default();
        let threads = |bytes, processors| limits.threads_of(bytes, || processors);
        for processors in [0, 1, 2, 8, 64, 1000, usize::MAX] {
            assert_eq!(threads(0, processors), 1);
            assert_eq!(threads(2 * BYTES_PER_THREAD - 1, processors), 1);
            let most = processors.clamp(1, 16) as u32;
            assert_eq!(threads(2 * BYTES_PER_THREAD, processors), most.min(2));
            assert_eq!(threads(u64::MAX, processors), most);
        }
        assert_eq!(limits.threads_of(1 << 10, || panic!("nobody asks")), 1);
        for (set, expected) in [(0, 1), (1, 1), (3, 3), (64, 64), (65, 64), (u32::MAX, 64)] {
            let set = CompileLimits::default().threads(set);
            assert_eq!(set.threads_of(1, || panic!("nobody asks")), expected);
        }
    }

    #[test]
    fn only_threads_beside_the_main_one_have_stacks_of_their_own() {
        let stacks = [0, 1, 2, COMPILE_THREADS_MAX].map(CompileLimits::stack_bytes_of);
        assert_eq!(stacks, [0, 0, 16 << 20, 512 << 20]);
    }
}

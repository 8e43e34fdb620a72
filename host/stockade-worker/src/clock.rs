//! The clock: what time it is for a guest.
//!
//! ```text
//! Real:  monotonic time since the worker's start, the machine's time of day
//! Steps: both go on by a step for each look at them, and by as much as a guest sleeps, at once
//! ```
//!
//! Invariant: a guest and [`poll`](crate::poll) have one clock, so that an absolute time in one means
//! the same in the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// What a look at a clock of steps costs: a guest that waits for a moment by looking gets there.
const STEP: Duration = Duration::from_micros(1);

/// Which time it is.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    Real(Instant),
    Steps(Arc<Steps>),
}

/// A clock that goes on only as it is used.
#[derive(Debug)]
pub(crate) struct Steps {
    /// Where it began, since 1970.
    begun: Duration,
    /// In nanoseconds.
    passed: AtomicU64,
}

impl Steps {
    pub(crate) fn new(begun: Duration) -> Self {
        Self { begun, passed: AtomicU64::new(0) }
    }

    fn pass(&self, time: Duration) -> Duration {
        // One thread uses it.
        let passed = self.passed.load(Ordering::Relaxed).saturating_add(nanos(time));
        self.passed.store(passed, Ordering::Relaxed);
        Duration::from_nanos(passed)
    }
}

impl Clock {
    /// The machine's, with a monotonic time that stands at zero.
    pub(crate) fn start() -> Self {
        Self::Real(Instant::now())
    }

    fn monotonic(&self) -> Duration {
        match self {
            Self::Real(start) => start.elapsed(),
            Self::Steps(steps) => steps.pass(STEP),
        }
    }

    fn since_1970(&self) -> Duration {
        match self {
            Self::Real(_) => {
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
            }
            Self::Steps(steps) => steps.begun.saturating_add(steps.pass(STEP)),
        }
    }

    /// Monotonic time in nanoseconds.
    pub(crate) fn monotonic_nanos(&self) -> u64 {
        nanos(self.monotonic())
    }

    /// The time of day in nanoseconds since 1970.
    pub(crate) fn since_1970_nanos(&self) -> u64 {
        nanos(self.since_1970())
    }

    /// Lets the time pass that a guest sleeps, if no time passes by itself. Says whether that was so.
    pub(crate) fn skip(&self, time: Duration) -> bool {
        match self {
            Self::Real(_) => false,
            Self::Steps(steps) => {
                steps.pass(time);
                true
            }
        }
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        self.monotonic_nanos()
    }
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        self.since_1970()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_of_steps_goes_on_by_looks_and_sleeps_alone() {
        let clock = Clock::Steps(Arc::new(Steps::new(Duration::from_secs(100))));
        assert_eq!(clock.monotonic_nanos(), 1_000);
        assert_eq!(clock.since_1970_nanos(), 100_000_002_000);
        assert!(clock.skip(Duration::from_secs(3600)));
        assert_eq!(clock.monotonic(), Duration::from_secs(3600) + 3 * STEP);
        assert!(clock.skip(Duration::MAX));
        assert_eq!(clock.monotonic_nanos(), u64::MAX);
        assert!(!Clock::start().skip(Duration::from_secs(3600)));
    }
}

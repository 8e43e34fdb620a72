//! The restart budget: when the next worker may start after others have failed.
//!
//! A worker that dies before it has finished anything starts a pause, the next such death a pause
//! twice as long. Deaths during a pause belong to the failure that started it: workers start
//! together and so fail together.
//!
//! Invariant: a finished task clears the pause, so that a pool that makes progress never waits.
//!
//! Deliberately absent: the pool's verdict. This counts; the dispatcher decides.

use core::time::Duration;

use super::{Config, Moment};

/// Failures in a row and what they cost.
#[derive(Debug)]
pub(super) struct Budget {
    backoff_min: Duration,
    backoff_max: Duration,
    failures: u32,
    starts_failed: u32,
    /// Since when starts were ended from outside, and no worker became ready.
    ended_since: Option<Moment>,
    paused_until: Moment,
}

impl Budget {
    /// A budget without a failure.
    pub(super) fn new(config: &Config) -> Self {
        Self {
            backoff_min: config.backoff_min,
            backoff_max: config.backoff_max,
            failures: 0,
            starts_failed: 0,
            ended_since: None,
            paused_until: Moment::ZERO,
        }
    }

    /// When the next worker may start.
    pub(super) fn paused_until(&self) -> Moment {
        self.paused_until
    }

    /// Starts that failed since a worker was last ready.
    pub(super) fn starts_failed(&self) -> u32 {
        self.starts_failed
    }

    /// A worker died before it was ready.
    pub(super) fn start_failed(&mut self, now: Moment) {
        self.starts_failed = self.starts_failed.saturating_add(1);
        self.failed(now);
    }

    /// A worker was ended from outside before it was ready. Says for how long that has gone on.
    pub(super) fn start_ended(&mut self, now: Moment) -> Duration {
        self.failed(now);
        now.saturating_sub(*self.ended_since.get_or_insert(now))
    }

    /// A worker died before it had finished anything.
    pub(super) fn failed(&mut self, now: Moment) {
        if now < self.paused_until {
            return;
        }
        let doubled = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let pause = self.backoff_min.saturating_mul(doubled).min(self.backoff_max);
        self.paused_until = now.saturating_add(pause);
        self.failures = self.failures.saturating_add(1);
    }

    /// A worker became ready.
    pub(super) fn started(&mut self) {
        self.starts_failed = 0;
        self.ended_since = None;
    }

    /// A task was finished.
    pub(super) fn finished(&mut self) {
        self.failures = 0;
        self.paused_until = Moment::ZERO;
    }
}

//! Deadlines: how a timeout becomes the moment at which a wait ends.
//!
//! Invariant: a deadline of `None` never comes. It is that of a wait without a timeout, and of a timeout
//! so long that the clock cannot represent its end.

use std::time::{Duration, Instant};

/// The deadline of a wait that begins now and takes at most `timeout`.
pub(crate) fn after(timeout: impl Into<Option<Duration>>) -> Option<Instant> {
    from(Instant::now(), timeout)
}

/// The deadline of a wait that began at `start`.
pub(crate) fn from(start: Instant, timeout: impl Into<Option<Duration>>) -> Option<Instant> {
    start.checked_add(timeout.into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_its_timeout_from_now() {
        let minute = Duration::from_secs(60);
        let before = Instant::now();
        let deadline = after(minute).unwrap();
        assert!(deadline >= before + minute && deadline <= Instant::now() + minute);
        assert!(after(Duration::ZERO).unwrap() <= Instant::now());
    }

    #[test]
    fn no_timeout_and_one_too_long_for_the_clock_never_come() {
        assert_eq!(after(None), None);
        assert_eq!(after(Duration::MAX), None);
    }
}

//! Spinning: a short look for the other side's next word, where to sleep would cost more.
//!
//! To sleep and to be woken takes two system calls and a few microseconds, which is more than a short
//! task takes. So who has been answered quickly looks for the next answer for about twice as long
//! before it sleeps, which is the bound of the competitive argument: never more than twice the cost of
//! having known. (Karlin, Li, Manasse, Owicki: Empirical studies of competitive spinning, 1991.)
//!
//! A side that sleeps cannot see that its waits would be short: where it takes long to be woken, they are
//! all long. So while waits are not long by far, one in [`PROBE_EVERY`] is looked through all the same, and
//! if that was in time, the next are too.
//!
//! Invariant: who waits in vain has spun once, for at most the time that was allowed, and does not
//! again before short waits have shown that it pays, but for those few. So nobody who is idle uses a
//! processor.

use std::hint::spin_loop;
use std::time::{Duration, Instant};

/// The weight of the past against one more wait.
const PAST: u64 = 3;

/// Looks between two looks at the clock.
const LOOKS: usize = 16;

/// Of so many waits that are slept through, one is looked through, to see whether it pays by now: one look
/// costs about as much as two changes of threads.
const PROBE_EVERY: u32 = 16;

/// How one side's waits have been.
#[derive(Debug)]
pub struct Spin {
    /// Waits that take longer on the average are slept through.
    max_nanos: u64,
    average_nanos: u64,
    /// Waits that were slept through since the last that was not.
    slept: u32,
}

impl Spin {
    /// For one whose waits may be looked through if they take up to `max`; begins by sleeping. Never
    /// looks where there is no second processor for the other side.
    pub fn new(max: Duration) -> Self {
        let has_others = rustix::thread::sched_getaffinity(None).is_ok_and(|set| set.count() > 1);
        let max_nanos = if has_others { nanos(max) } else { 0 };
        Self { max_nanos, average_nanos: u64::MAX, slept: 0 }
    }

    /// Whether looking is likely to pay, or it is time to see whether it does.
    pub fn pays(&self) -> bool {
        self.max_nanos > 0 && (self.average_nanos <= self.max_nanos || self.probes())
    }

    /// Whether the next wait is a probe: not where waits are long by far.
    fn probes(&self) -> bool {
        self.slept >= PROBE_EVERY - 1 && self.average_nanos / 9 <= self.max_nanos / 2
    }

    /// Looks until `has_come` says so, if that pays, for as long as it does. Returns whether it came.
    pub fn look(&self, mut has_come: impl FnMut() -> bool) -> bool {
        if !self.pays() {
            return false;
        }
        let time = Duration::from_nanos((self.average_nanos * 2).min(self.max_nanos));
        let begun = Instant::now();
        loop {
            for _ in 0..LOOKS {
                if has_come() {
                    return true;
                }
                spin_loop();
            }
            if begun.elapsed() >= time {
                return false;
            }
        }
    }

    /// What was waited for came after so long, looked for or slept through.
    pub fn note(&mut self, waited: Duration) {
        // One long wait ends the looking, and a few short ones begin it again, or one that was a probe.
        let waited = nanos(waited).min(self.max_nanos.saturating_mul(PAST + 2));
        let has_paid = self.probes() && waited <= self.max_nanos;
        self.slept = if self.pays() { 0 } else { self.slept.saturating_add(1) };
        self.average_nanos = match self.average_nanos {
            u64::MAX => waited,
            _ if has_paid => waited,
            average => (average * PAST + waited) / (PAST + 1),
        };
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_micros(20);

    fn after(micros: &[u64]) -> Spin {
        let mut spin = Spin { max_nanos: nanos(MAX), average_nanos: u64::MAX, slept: 0 };
        micros.iter().for_each(|micros| spin.note(Duration::from_micros(*micros)));
        spin
    }

    #[test]
    fn it_pays_after_short_waits_and_not_before() {
        assert!(!after(&[]).pays());
        assert!(after(&[20]).pays());
        assert!(!after(&[21]).pays());
        assert!(after(&[5, 5, 60]).pays(), "one of them was slower");
    }

    #[test]
    fn a_long_wait_ends_it_and_a_few_short_ones_begin_it_again() {
        assert!(!after(&[5, 5, 5, 1_000_000]).pays());
        assert!(!after(&[5, 5, 5, u64::MAX / 1_000]).pays());
        assert!(!after(&[1_000_000, 5, 5, 5]).pays());
        assert!(after(&[1_000_000, 5, 5, 5, 5, 5, 5, 5]).pays());
    }

    #[test]
    fn one_wait_in_some_is_looked_through_and_begins_the_looking_if_it_was_short() {
        let mut spin = after(&[70]);
        for _ in 2..PROBE_EVERY {
            assert!(!spin.pays());
            spin.note(Duration::from_micros(70));
        }
        assert!(spin.pays(), "a probe");
        spin.note(Duration::from_micros(70));
        assert!(!spin.pays(), "it was in vain, and the next is far");
        for _ in 1..PROBE_EVERY {
            spin.note(Duration::from_micros(70));
        }
        assert!(spin.pays());
        spin.note(Duration::from_micros(12));
        assert!(spin.pays(), "it was not, and the average follows it");
        spin.note(Duration::from_micros(12));
        assert!(spin.pays());
    }

    #[test]
    fn long_waits_are_never_looked_through() {
        let mut spin = after(&[1_000_000]);
        for _ in 0..10 * PROBE_EVERY {
            spin.note(Duration::from_secs(1));
            assert!(!spin.pays());
        }
    }

    #[test]
    fn who_does_not_look_is_not_asked() {
        assert!(!after(&[]).look(|| unreachable!("it was asked")));
        let mut spin = Spin::new(Duration::ZERO);
        spin.note(Duration::from_nanos(1));
        assert!(!spin.look(|| unreachable!("it was asked")));
    }

    #[test]
    fn a_look_ends_with_what_it_is_for_or_in_time() {
        let mut looks = 0;
        // As many as there are before the first look at the clock, which a busy machine may hold back.
        assert!(after(&[5]).look(|| {
            looks += 1;
            looks == LOOKS
        }));
        assert_eq!(looks, LOOKS);
        assert!(!after(&[5]).look(|| false));
    }
}

//! Times: how long calls took, counted by HdrHistogram rather than kept.
//!
//! Any number of calls takes the same memory, half a MiB. A time is known to a thousandth; the least and
//! the most are exact.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Decimal digits to which a time is known.
const DIGITS: u8 = 3;

/// How long each of any number of calls took.
#[derive(Debug)]
pub(crate) struct Times {
    /// In nanoseconds.
    counts: Histogram<u64>,
    least: Duration,
    most: Duration,
}

impl Default for Times {
    fn default() -> Self {
        // Every time is within it, so nothing is ever allocated again and nothing is refused.
        let counts = Histogram::new_with_max(u64::MAX, DIGITS).expect("up to five digits");
        Self { counts, least: Duration::MAX, most: Duration::ZERO }
    }
}

impl Times {
    /// Counts a call. What took longer than five centuries counts as those.
    pub(crate) fn add(&mut self, time: Duration) {
        self.counts.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.least = self.least.min(time);
        self.most = self.most.max(time);
    }

    /// How many calls there were.
    pub(crate) fn count(&self) -> u64 {
        self.counts.len()
    }

    /// The shortest time, and zero without any.
    pub(crate) fn least(&self) -> Duration {
        self.least.min(self.most)
    }

    /// The longest time, and zero without any.
    pub(crate) fn most(&self) -> Duration {
        self.most
    }

    /// The least time that so large a `share` of all does not exceed: the nearest rank.
    pub(crate) fn within(&self, share: f64) -> Duration {
        self.bounded(self.counts.value_at_quantile(share))
    }

    /// The mean, and zero without any.
    pub(crate) fn mean(&self) -> Duration {
        self.bounded(self.counts.mean() as u64)
    }

    /// The times that there were, in order, each with how often.
    pub(crate) fn each(&self) -> impl Iterator<Item = (Duration, u64)> {
        let recorded = self.counts.iter_recorded();
        recorded.map(|step| (self.bounded(step.value_iterated_to()), step.count_at_value()))
    }

    /// A step of the histogram begins before its first time, and ends after its last.
    fn bounded(&self, nanos: u64) -> Duration {
        Duration::from_nanos(nanos).clamp(self.least(), self.most)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Times of so many nanoseconds each.
    pub(crate) fn of(nanos: impl IntoIterator<Item = u64>) -> Times {
        let mut times = Times::default();
        nanos.into_iter().for_each(|nanos| times.add(Duration::from_nanos(nanos)));
        times
    }

    #[test]
    fn a_share_of_times_is_within_a_time_that_is_hardly_longer() {
        for unit in [1, 1_000_000, 1_000_000_000_000] {
            let times = of((1..=1000).rev().map(|number| number * unit));
            for share in [0.001, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0] {
                let exact = share * 1000.0 * unit as f64;
                let told = times.within(share).as_nanos() as f64;
                assert!((exact..=exact * 1.001).contains(&told), "{unit}, {share}: {told}");
            }
            assert_eq!(times.within(0.0), times.least());
            assert_eq!(times.most(), Duration::from_nanos(1000 * unit));
            let mean = times.mean().as_nanos() as f64 / (500.5 * unit as f64);
            assert!((0.998..1.001).contains(&mean), "{unit}: {mean}");
        }
    }

    #[test]
    fn every_call_is_counted_whatever_its_time() {
        let mut times = of([0, 1, 5_000_000_000]);
        times.add(Duration::MAX);
        times.add(Duration::MAX);
        assert_eq!(times.each().map(|(_, count)| count).collect::<Vec<_>>(), [1, 1, 1, 2]);
        assert_eq!(
            (times.count(), times.least(), times.most()),
            (5, Duration::ZERO, Duration::MAX)
        );
    }

    #[test]
    fn without_any_call_all_is_zero() {
        let times = Times::default();
        for time in [times.least(), times.most(), times.mean(), times.within(0.5)] {
            assert_eq!(time, Duration::ZERO);
        }
        assert_eq!((times.count(), times.each().count()), (0, 0));
    }
}

//! Histograms: how long calls took, how often.

use std::time::Duration;

use serde_json::{Value, json};

use crate::report;

/// Bars, and characters of the longest.
const BARS: usize = 14;
const WIDTH: usize = 50;

/// Times, sorted. There is at least one.
pub(super) struct Histogram(Vec<Duration>);

impl Histogram {
    /// Of these times.
    pub(super) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        if times.is_empty() {
            times.push(Duration::ZERO);
        }
        Self(times)
    }

    /// How many times there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The least time that so large a part of all does not exceed: the nearest rank.
    fn quantile(&self, part: f64) -> Duration {
        let rank = (part * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }

    fn mean(&self) -> Duration {
        let nanos: u128 = self.0.iter().map(Duration::as_nanos).sum();
        Duration::from_nanos(u64::try_from(nanos / self.0.len() as u128).unwrap_or(u64::MAX))
    }

    /// What tells most, by its name.
    pub(super) fn percentiles(&self) -> [(&'static str, Duration); 7] {
        [
            ("least", self.quantile(0.0)),
            ("50 %", self.quantile(0.5)),
            ("90 %", self.quantile(0.9)),
            ("99 %", self.quantile(0.99)),
            ("99.9 %", self.quantile(0.999)),
            ("most", self.quantile(1.0)),
            ("mean", self.mean()),
        ]
    }

    /// From, to, and how many: each range so much wider than the one before that few slow calls do
    /// not press all others into one. The last has everything beyond 99.9 %.
    fn ranges(&self) -> Vec<(Duration, Duration, usize)> {
        let (least, most) = (self.quantile(0.0), self.quantile(1.0));
        let low = (least.as_nanos() as f64).max(1.0);
        let high = (self.quantile(0.999).as_nanos() as f64).max(low * 1.05);
        let step = (high / low).powf(1.0 / BARS as f64);
        let mut ranges: Vec<(Duration, Duration, usize)> = Vec::new();
        let mut begin = 0;
        for bar in 1..=BARS {
            let edge = Duration::from_nanos((low * step.powi(bar as i32)).ceil() as u64);
            let is_last = bar == BARS;
            let to = if is_last { most.max(edge) } else { edge };
            let end = self.0.partition_point(|time| if is_last { *time <= to } else { *time < to });
            let from = ranges.last().map_or(least, |(_, to, _)| *to);
            ranges.push((from, to, end - begin));
            begin = end;
        }
        ranges
    }

    /// One line for each range of times.
    pub(super) fn bars(&self) -> Vec<String> {
        let ranges = self.ranges();
        let longest = ranges.iter().map(|(.., count)| *count).max().unwrap_or(1).max(1);
        let bar = |(from, _, count): &(Duration, Duration, usize)| {
            // Eighths of a character, at least one where there is anything.
            let eighths = (count * WIDTH * 8).div_ceil(longest);
            let mut bar = "█".repeat(eighths / 8);
            bar.extend(["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"].get(eighths % 8).copied());
            format!("{:>9}  {bar} {count}", report::duration(*from))
        };
        ranges.iter().map(bar).collect()
    }

    /// Everything for machines, in nanoseconds.
    pub(super) fn to_json(&self) -> Value {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let ranges = self.ranges();
        let bars = ranges.iter().map(|(from, to, count)| {
            json!({ "from_ns": nanos(*from), "to_ns": nanos(*to), "calls": count })
        });
        json!({
            "calls": self.count(),
            "min_ns": nanos(self.quantile(0.0)),
            "p50_ns": nanos(self.quantile(0.5)),
            "p90_ns": nanos(self.quantile(0.9)),
            "p99_ns": nanos(self.quantile(0.99)),
            "p999_ns": nanos(self.quantile(0.999)),
            "max_ns": nanos(self.quantile(1.0)),
            "mean_ns": nanos(self.mean()),
            "histogram": bars.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(nanos: impl IntoIterator<Item = u64>) -> Histogram {
        Histogram::of(nanos.into_iter().map(Duration::from_nanos).collect())
    }

    #[test]
    fn a_percentile_is_a_time_that_so_many_did_not_exceed() {
        let histogram = of((1..=1000).rev());
        let nanos = histogram.percentiles().map(|(_, time)| time.as_nanos());
        assert_eq!(nanos, [1, 500, 900, 990, 999, 1000, 500]);
    }

    #[test]
    fn every_call_is_in_one_bar_however_far_apart_they_are() {
        for histogram in [of((1..=1000).chain([5_000_000])), of([7]), of([0, 0]), of(vec![100; 50])]
        {
            let ranges = histogram.ranges();
            let counted: usize = ranges.iter().map(|(.., count)| *count).sum();
            assert_eq!(counted, histogram.count());
            assert!(ranges.windows(2).all(|pair| pair[0].1 == pair[1].0));
            assert_eq!(histogram.bars().len(), BARS);
        }
    }

    #[test]
    fn the_longest_bar_has_the_width_and_a_single_call_is_seen() {
        let bars = of(std::iter::repeat_n(100, 10_000).chain([1000])).bars();
        assert!(bars[0].contains(&"█".repeat(WIDTH)), "{bars:?}");
        assert!(bars[BARS - 1].ends_with("▏ 1"), "{bars:?}");
    }
}

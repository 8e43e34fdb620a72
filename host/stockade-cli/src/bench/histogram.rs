//! Histograms: how long calls took, as bars and as figures.

use std::time::Duration;

use serde_json::{Value, json};

use crate::report;
use crate::times::Times;

/// Bars, and characters of the longest.
const BARS: usize = 14;
const WIDTH: u64 = 50;

/// How long some calls took.
pub(super) struct Histogram<'a>(pub(super) &'a Times);

impl Histogram<'_> {
    /// What tells most, by its name.
    pub(super) fn percentiles(&self) -> [(&'static str, Duration); 7] {
        let times = self.0;
        [
            ("least", times.least()),
            ("50 %", times.within(0.5)),
            ("90 %", times.within(0.9)),
            ("99 %", times.within(0.99)),
            ("99.9 %", times.within(0.999)),
            ("most", times.most()),
            ("mean", times.mean()),
        ]
    }

    /// From, to, and how many: each range so much wider than the one before that few slow calls do
    /// not press all others into one. The last has everything beyond 99.9 %.
    fn ranges(&self) -> Vec<(Duration, Duration, u64)> {
        let (least, most) = (self.0.least(), self.0.most());
        let low = (least.as_nanos() as f64).max(1.0);
        let high = (self.0.within(0.999).as_nanos() as f64).max(low * 1.05);
        let step = (high / low).powf(1.0 / BARS as f64);
        let edge = |bar: usize| Duration::from_nanos((low * step.powi(bar as i32)).ceil() as u64);
        let mut ranges: Vec<(Duration, Duration, u64)> = Vec::new();
        for bar in 1..=BARS {
            let to = if bar == BARS { most.max(edge(bar)) } else { edge(bar) };
            let from = ranges.last().map_or(least, |(_, to, _)| *to);
            ranges.push((from, to, 0));
        }
        for (time, count) in self.0.each() {
            let bar = ranges.partition_point(|(_, to, _)| *to <= time).min(BARS - 1);
            ranges[bar].2 += count;
        }
        ranges
    }

    /// One line for each range of times.
    pub(super) fn bars(&self) -> Vec<String> {
        let ranges = self.ranges();
        let longest = ranges.iter().map(|(.., count)| *count).max().unwrap_or(1).max(1);
        let bar = |(from, _, count): &(Duration, Duration, u64)| {
            // Eighths of a character, at least one where there is anything.
            let eighths = (count * WIDTH * 8).div_ceil(longest);
            let mut bar = "█".repeat((eighths / 8) as usize);
            bar.push_str(["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][(eighths % 8) as usize]);
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
            "calls": self.0.count(),
            "min_ns": nanos(self.0.least()),
            "p50_ns": nanos(self.0.within(0.5)),
            "p90_ns": nanos(self.0.within(0.9)),
            "p99_ns": nanos(self.0.within(0.99)),
            "p999_ns": nanos(self.0.within(0.999)),
            "max_ns": nanos(self.0.most()),
            "mean_ns": nanos(self.0.mean()),
            "histogram": bars.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::times::tests::of;

    #[test]
    fn a_percentile_is_a_time_that_so_many_did_not_exceed() {
        let times = of((1..=1000).rev());
        let nanos = Histogram(&times).percentiles().map(|(_, time)| time.as_nanos());
        assert_eq!(nanos, [1, 500, 900, 990, 999, 1000, 500]);
    }

    #[test]
    fn every_call_is_in_one_bar_however_far_apart_they_are() {
        for times in [of((1..=1000).chain([5_000_000])), of([7]), of([0, 0]), of(vec![100; 50])] {
            let ranges = Histogram(&times).ranges();
            let counted: u64 = ranges.iter().map(|(.., count)| *count).sum();
            assert_eq!(counted, times.count());
            assert!(ranges.windows(2).all(|pair| pair[0].1 == pair[1].0));
            assert_eq!(Histogram(&times).bars().len(), BARS);
        }
    }

    #[test]
    fn the_longest_bar_has_the_width_and_a_single_call_is_seen() {
        let bars = Histogram(&of(std::iter::repeat_n(100, 10_000).chain([1000]))).bars();
        assert!(bars[0].contains(&"█".repeat(WIDTH as usize)), "{bars:?}");
        assert!(bars[BARS - 1].ends_with("▏ 1"), "{bars:?}");
    }
}

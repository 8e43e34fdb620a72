//! The tally: how many items there were, and how they ended.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::HumanCount;
use serde_json::{Value, json};

use super::state::Reached;
use crate::report;

/// Items by how they ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// What an earlier run of this map had done: successes and failures.
    earlier: (u64, u64),
    /// The input's weight of what is done, the earlier run's apart.
    weight: u64,
    earlier_weight: u64,
    /// Whether items are files rather than lines.
    of_files: bool,
    succeeded: u64,
    failed: BTreeMap<&'static str, u64>,
    blank: u64,
    dropped: u64,
}

impl Tally {
    /// Of a map that goes on from there.
    pub(crate) fn new(of_files: bool, reached: Option<&Reached>) -> Self {
        let earlier = reached.map_or((0, 0), |reached| (reached.succeeded, reached.failed));
        let earlier_weight = reached.map_or(0, |reached| reached.weight);
        Self { earlier, earlier_weight, of_files, ..Self::default() }
    }

    /// An item that an earlier run had done is done again.
    pub(crate) fn again(&mut self, failed: bool, weight: u64) {
        let count = if failed { &mut self.earlier.1 } else { &mut self.earlier.0 };
        *count = count.saturating_sub(1);
        self.earlier_weight = self.earlier_weight.saturating_sub(weight);
    }

    /// Successes and failures of earlier runs, where this one has nothing to add.
    pub(crate) fn only_earlier(&self) -> Option<(u64, u64)> {
        let is_idle = self.done() == 0 && self.dropped == 0;
        (is_idle && self.earlier != (0, 0)).then_some(self.earlier)
    }

    /// So much of the input is done.
    pub(crate) fn passed(&mut self, weight: u64) {
        self.weight += weight;
    }

    /// How much of the input is done: by this run, and by it and those before.
    pub(crate) fn weight(&self) -> (u64, u64) {
        (self.weight, self.earlier_weight + self.weight)
    }

    /// An item has its result, or failed in this way.
    pub(crate) fn ended(&mut self, failed: Option<&'static str>) {
        match failed {
            None => self.succeeded += 1,
            Some(kind) => *self.failed.entry(kind).or_default() += 1,
        }
    }

    /// An item that had ended counts as not run after all.
    pub(crate) fn taken_back(&mut self, failed: Option<&'static str>) {
        match failed {
            None => self.succeeded -= 1,
            Some(kind) => {
                if let Some(count) = self.failed.get_mut(kind) {
                    *count -= 1;
                }
            }
        }
        self.dropped += 1;
    }

    /// A line had nothing in it.
    pub(crate) fn blank(&mut self) {
        self.blank += 1;
    }

    /// An item was taken and never run.
    pub(crate) fn dropped(&mut self) {
        self.dropped += 1;
    }

    /// Items that have their result or their error.
    pub(crate) fn done(&self) -> u64 {
        self.succeeded + self.failures()
    }

    /// Items that have an error.
    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// As [`failures`](Self::failures), with those of earlier runs.
    pub(crate) fn all_failures(&self) -> u64 {
        self.earlier.1 + self.failures()
    }

    fn unit(&self) -> &'static str {
        match (self.of_files, self.done()) {
            (false, 1) => "line",
            (false, _) => "lines",
            (true, 1) => "file",
            (true, _) => "files",
        }
    }

    fn kinds(&self) -> String {
        let kinds = self.failed.iter().filter(|(_, count)| **count > 0);
        kinds.map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
    }

    /// Everything in one sentence.
    pub(crate) fn summary(&self, elapsed: Duration) -> String {
        let mut text = format!("{} {}: {} ok", self.done(), self.unit(), self.succeeded);
        if self.failures() > 0 {
            text.push_str(&format!(", {} failed ({})", self.failures(), self.kinds()));
        }
        for (count, what) in [
            (self.blank, "blank"),
            (self.dropped, "not run"),
            (self.earlier.0 + self.earlier.1, "done before"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text.push_str(&format!("; {}", report::duration(elapsed)));
        text
    }
}

impl Tally {
    /// Everything in a table: what, how many, and of which kinds.
    pub(crate) fn table(&self, elapsed: Duration) -> Vec<[String; 3]> {
        let row = |what: &str, count: u64, more: String| {
            [what.to_string(), HumanCount(count).to_string(), more]
        };
        let (ok, failed) = self.earlier;
        let mut rows = vec![
            row("ok", self.succeeded, String::new()),
            row("failed", self.failures(), self.kinds()),
        ];
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let rate = format!("{} {} a second", self.rate(seconds), self.unit());
        let others = [
            row("blank", self.blank, String::new()),
            row("not run", self.dropped, "and all that comes after them".into()),
            row("before", ok + failed, format!("done by an earlier run, {failed} failed")),
        ];
        rows.extend(others.into_iter().filter(|row| row[1] != "0"));
        rows.push(["time".into(), report::duration(elapsed), rate]);
        rows
    }

    /// Items a second, as people read it.
    pub(crate) fn rate(&self, seconds: f64) -> String {
        let rate = self.done() as f64 / seconds;
        if rate < 10.0 { format!("{rate:.1}") } else { HumanCount(rate as u64).to_string() }
    }

    /// Everything for machines.
    pub(crate) fn to_json(&self, elapsed: Duration) -> Value {
        json!({
            "ok": self.succeeded,
            "failed": self.failures(),
            "errors": self.failed.iter().filter(|(_, count)| **count > 0).collect::<BTreeMap<_, _>>(),
            "blank": self.blank,
            "not_run": self.dropped,
            "earlier": { "ok": self.earlier.0, "failed": self.earlier.1 },
            "seconds": elapsed.as_secs_f64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_what_there_was() {
        let mut tally = Tally::default();
        tally.ended(None);
        assert_eq!(tally.summary(Duration::from_secs(2)), "1 line: 1 ok; 2.00 s");
        tally.ended(Some("trap"));
        tally.ended(Some("worker-lost"));
        tally.ended(Some("trap"));
        tally.blank();
        tally.dropped();
        let expected =
            "4 lines: 1 ok, 3 failed (2 trap, 1 worker-lost), 1 blank, 1 not run; 2.00 s";
        assert_eq!(tally.summary(Duration::from_secs(2)), expected);
    }
    #[test]
    fn what_is_taken_back_was_not_run_and_what_was_before_counts_apart() {
        let reached = Reached { succeeded: 5, failed: 2, weight: 70, ..Reached::default() };
        let mut tally = Tally::new(true, Some(&reached));
        tally.ended(None);
        tally.ended(Some("trap"));
        tally.taken_back(None);
        tally.taken_back(Some("trap"));
        tally.passed(30);
        let summary = tally.summary(Duration::from_secs(1));
        assert_eq!(summary, "0 files: 0 ok, 2 not run, 7 done before; 1.00 s");
        assert_eq!((tally.failures(), tally.all_failures(), tally.weight()), (0, 2, (30, 100)));
        let json = tally.to_json(Duration::from_secs(1));
        assert_eq!((&json["errors"], &json["earlier"]["ok"]), (&json!({}), &json!(5)));
    }
}

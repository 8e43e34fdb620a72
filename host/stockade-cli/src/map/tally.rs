//! The tally: how many lines there were, and how they ended.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::report;

/// Lines by how they ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    succeeded: u64,
    failed: BTreeMap<&'static str, u64>,
    blank: u64,
    dropped: u64,
}

impl Tally {
    /// A line has its result.
    pub(crate) fn succeeded(&mut self) {
        self.succeeded += 1;
    }

    /// A line failed in this way.
    pub(crate) fn failed(&mut self, kind: &'static str) {
        *self.failed.entry(kind).or_default() += 1;
    }

    /// A line had nothing in it.
    pub(crate) fn blank(&mut self) {
        self.blank += 1;
    }

    /// A line was taken and never run.
    pub(crate) fn dropped(&mut self) {
        self.dropped += 1;
    }

    /// Lines that have their result or their error.
    pub(crate) fn done(&self) -> u64 {
        self.succeeded + self.failures()
    }

    /// Lines that have an error.
    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Everything in one sentence.
    pub(crate) fn summary(&self, elapsed: Duration) -> String {
        let lines = if self.done() == 1 { "line" } else { "lines" };
        let mut text = format!("{} {lines}: {} ok", self.done(), self.succeeded);
        if self.failures() > 0 {
            let kinds: Vec<_> =
                self.failed.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            text.push_str(&format!(", {} failed ({})", self.failures(), kinds.join(", ")));
        }
        for (count, what) in [(self.blank, "blank"), (self.dropped, "not run")] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text.push_str(&format!("; {}", report::duration(elapsed)));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_what_there_was() {
        let mut tally = Tally::default();
        tally.succeeded();
        assert_eq!(tally.summary(Duration::from_secs(2)), "1 line: 1 ok; 2.00 s");
        tally.failed("trap");
        tally.failed("worker-lost");
        tally.failed("trap");
        tally.blank();
        tally.dropped();
        let expected =
            "4 lines: 1 ok, 3 failed (2 trap, 1 worker-lost), 1 blank, 1 not run; 2.00 s";
        assert_eq!(tally.summary(Duration::from_secs(2)), expected);
    }
}

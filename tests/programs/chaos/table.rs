//! What people see: progress while it runs, figures at the end.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use stockade_tests::{Census, PATIENCE};

use crate::ledger::Ledger;

/// How often progress is told where no terminal shows a bar.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Tells how far the storm is, and sees where it does not get on.
#[derive(Debug)]
pub(crate) struct Watch {
    bar: ProgressBar,
    started: Instant,
    told: Instant,
    /// When a task was last settled, and how many were.
    moved: (Instant, u64),
}

impl Watch {
    pub(crate) fn new(tasks: u64) -> Self {
        let bar = ProgressBar::new(tasks);
        let template = "{wide_bar} {pos} of {len} tasks, {per_sec}, {eta} left, {msg}";
        // The template is a constant and valid; without it there would be a plain bar.
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        let now = Instant::now();
        Self { bar, started: now, told: now, moved: (now, 0) }
    }

    pub(crate) fn show(&mut self, settled: u64, disturbances: u64, ledger: &Ledger) {
        self.bar.set_position(settled);
        self.bar.set_message(format!("{disturbances} disturbances from outside"));
        let now = Instant::now();
        if self.bar.is_hidden() && now - self.told >= LINE_INTERVAL {
            self.told = now;
            let seconds = (now - self.started).as_secs_f64();
            let rate = settled as f64 / seconds;
            // Nobody may be reading.
            let _ = writeln!(
                io::stderr(),
                "{seconds:.0} s: {settled} tasks, {rate:.0} a second, {disturbances} disturbances \
                 from outside"
            );
        }
        if settled > self.moved.1 {
            self.moved = (now, settled);
        } else if now - self.moved.0 > 2 * PATIENCE {
            ledger.violation(format!("no task has ended for {:?}", 2 * PATIENCE));
            ledger.give_up();
        }
    }

    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// Lists the violations.
pub(crate) fn list(out: &mut impl Write, violations: &[String]) -> io::Result<()> {
    writeln!(out, "\n{} violations:", violations.len())?;
    violations.iter().try_for_each(|violation| writeln!(out, "- {violation}"))
}

/// Figures of one run.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) tasks: u64,
    pub(crate) time: Duration,
    pub(crate) workers: u64,
    pub(crate) ends: Vec<(&'static str, u64)>,
    /// What harm to workers looked like to their tasks.
    pub(crate) words: Vec<(String, u64)>,
    /// Attempts after the first, and tasks that had more of them than their retries allow.
    pub(crate) repeated: (u64, u64),
    /// Deadlines that passed on workers that nothing had happened to.
    pub(crate) late: usize,
    pub(crate) outside: Vec<(&'static str, u64)>,
    pub(crate) inside: Vec<(&'static str, u64)>,
    pub(crate) resident_warm_bytes: u64,
    pub(crate) resident_peak_bytes: u64,
    pub(crate) resident_final_bytes: u64,
    pub(crate) before: Census,
    pub(crate) after: Census,
}

/// Writes the figures as a table.
pub(crate) fn print(out: &mut impl Write, figures: &Figures) -> io::Result<()> {
    let seconds = figures.time.as_secs_f64();
    let mut row = |name: &str, value: String| writeln!(out, "{name:<52} {value:>12}");
    row("tasks", figures.tasks.to_string())?;
    row("seconds", format!("{seconds:.1}"))?;
    row("tasks a second", format!("{:.0}", figures.tasks as f64 / seconds))?;
    row("workers used", figures.workers.to_string())?;
    for (name, count) in &figures.ends {
        row(&format!("end: {name}"), count.to_string())?;
    }
    for (words, count) in &figures.words {
        row(words, count.to_string())?;
    }
    row("attempts after the first", figures.repeated.0.to_string())?;
    row("tasks with more than their retries", figures.repeated.1.to_string())?;
    row("deadlines without a disturbance", figures.late.to_string())?;
    for (name, count) in &figures.outside {
        row(&format!("from outside: {name}"), count.to_string())?;
    }
    for (name, count) in &figures.inside {
        row(&format!("from inside: {name}"), count.to_string())?;
    }
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    row("memory of the host, in the first fifth", mib(figures.resident_warm_bytes))?;
    row("memory of the host, at most", mib(figures.resident_peak_bytes))?;
    row("memory of the host, at the end", mib(figures.resident_final_bytes))?;
    let (before, after) = (figures.before, figures.after);
    row("descriptors before", before.descriptors.to_string())?;
    row("descriptors after", after.descriptors.to_string())?;
    row("threads before", before.threads.to_string())?;
    row("threads after", after.threads.to_string())?;
    row("processes left", after.children.to_string())
}

//! `stockade map --top`: how a run goes, as it goes: rates, latencies, the queue, each worker.
//!
//! ```text
//! 12345 done, 2 failed, 812/s, 00:00:15
//! 16 waiting to be started
//! time      half within    95 of 100    99 of 100      longest
//! waiting        1.2 ms       3.1 ms       4.4 ms      10.2 ms
//! running        2.3 ms       2.9 ms       8.8 ms      45.1 ms
//! worker      state      tasks         rate       memory
//! 1            busy       6120        405/s     12.3 MiB
//! ```
//!
//! Drawn in place, below what was written before: the terminal's mode is never changed, so there is
//! nothing to restore, however the program ends.
//!
//! Deliberately absent: anything about a worker that the pool would not tell any caller.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use stockade::{Pool, TaskReport, WorkerState};

use crate::error::Error;
use crate::exit::Exit;
use crate::report;
use crate::times::Times;

/// How often it is drawn; rates are those of this time.
const GLANCE: Duration = Duration::from_millis(500);

/// The most workers that have a line of their own: with all other lines no more than the 24 of a small
/// terminal.
const WORKERS_MAX: usize = 16;

/// The live view.
#[derive(Debug)]
pub(crate) struct Top {
    bar: ProgressBar,
    started: Instant,
    drawn: Instant,
    waiting: Times,
    running: Times,
    before: Counts,
}

/// What was counted when it was last drawn.
#[derive(Debug, Default)]
struct Counts {
    done: u64,
    of_workers: BTreeMap<u64, u64>,
}

/// A worker's line.
#[derive(Debug)]
struct Row {
    worker: u64,
    state: &'static str,
    tasks: u64,
    per_second: f64,
    memory_bytes: Option<u64>,
}

impl Top {
    /// On stderr.
    ///
    /// # Errors
    /// If that is no terminal.
    pub(crate) fn new() -> Result<Self, Error> {
        if !io::stderr().is_terminal() {
            return Err(Error::new(Exit::Usage, "`--top` needs a terminal, and stderr is not one")
                .help("without it a summary comes at the end; `--trace FILE` records every task"));
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        let now = Instant::now();
        let (waiting, running) = Default::default();
        Ok(Self { bar, started: now, drawn: now, waiting, running, before: Counts::default() })
    }

    /// The bar that it is drawn on, for others that write to the same terminal.
    pub(crate) fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    /// Counts a task that has ended.
    pub(crate) fn task(&mut self, report: &TaskReport) {
        if report.worker.is_some() {
            self.waiting.add(report.queue_wait);
            self.running.add(report.wall_time);
        }
    }

    /// Draws it anew, but no more often than an eye can follow.
    pub(crate) fn glance(&mut self, pool: &Pool, done: u64, failed: u64) {
        let now = Instant::now();
        let since = now.saturating_duration_since(self.drawn);
        if since < GLANCE {
            return;
        }
        self.drawn = now;
        let per_second = |more: u64| more as f64 / since.as_secs_f64();
        let mut rows = Vec::new();
        let mut of_workers = BTreeMap::new();
        for worker in pool.workers() {
            let before = self.before.of_workers.get(&worker.id.0).copied().unwrap_or(0);
            of_workers.insert(worker.id.0, worker.tasks_done);
            rows.push(Row {
                worker: worker.id.0,
                state: name_of(worker.state),
                tasks: worker.tasks_done,
                per_second: per_second(worker.tasks_done.saturating_sub(before)),
                memory_bytes: worker.memory_bytes,
            });
        }
        let rate = per_second(done.saturating_sub(self.before.done));
        self.before = Counts { done, of_workers };
        let elapsed = report::duration(self.started.elapsed());
        let mut lines = vec![
            format!(
                "{} done, {} failed, {}/s, {elapsed}",
                HumanCount(done),
                HumanCount(failed),
                HumanCount(rate as u64)
            ),
            format!("{} waiting to be started", HumanCount(pool.count_pending_tasks() as u64)),
        ];
        lines.extend(latency_lines(&self.waiting, &self.running));
        lines.extend(worker_lines(&rows));
        self.bar.set_message(lines.join("\n"));
        self.bar.tick();
    }

    /// Takes it away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn latency_lines(waiting: &Times, running: &Times) -> Vec<String> {
    if running.count() == 0 {
        return Vec::new();
    }
    let header = ["half within", "95 of 100", "99 of 100", "longest"];
    let line = |name: &str, values: [String; 4]| {
        values.iter().fold(format!("{name:<8}"), |line, value| format!("{line} {value:>12}"))
    };
    let of =
        |times: &Times| [0.5, 0.95, 0.99, 1.0].map(|share| report::duration(times.within(share)));
    vec![
        line("time", header.map(String::from)),
        line("waiting", of(waiting)),
        line("running", of(running)),
    ]
}

fn worker_lines(rows: &[Row]) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let line = |[worker, state, tasks, rate, memory]: [&str; 5]| {
        format!("{worker:<8} {state:>8} {tasks:>10} {rate:>12} {memory:>12}")
    };
    let mut lines = vec![line(["worker", "state", "tasks", "rate", "memory"])];
    lines.extend(rows.iter().take(WORKERS_MAX).map(|row| {
        let memory = row.memory_bytes.map(report::size).unwrap_or_default();
        let (worker, tasks) = (row.worker.to_string(), HumanCount(row.tasks).to_string());
        let rate = format!("{}/s", HumanCount(row.per_second as u64));
        line([&worker, row.state, &tasks, &rate, &memory])
    }));
    if let Some(more @ 1..) = rows.len().checked_sub(WORKERS_MAX) {
        lines.push(format!("and {more} more"));
    }
    lines
}

fn name_of(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Starting => "starting",
        WorkerState::Idle => "idle",
        WorkerState::Busy => "busy",
        WorkerState::Closing => "closing",
        WorkerState::Dying => "dying",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_has_a_line_up_to_what_a_terminal_shows() {
        let row = |worker| Row {
            worker,
            state: "busy",
            tasks: 6120,
            per_second: 405.4,
            memory_bytes: Some(12 << 20),
        };
        let rows: Vec<_> = (1..=30).map(row).collect();
        let lines = worker_lines(&rows);
        assert_eq!(lines[0], "worker      state      tasks         rate       memory");
        assert_eq!(lines[1], "1            busy      6,120        405/s     12.0 MiB");
        assert_eq!((lines.len(), lines[17].as_str()), (18, "and 14 more"));
        assert!(worker_lines(&[]).is_empty());
    }

    #[test]
    fn latencies_stand_in_columns_once_there_are_any() {
        let (mut waiting, mut running) = (Times::default(), Times::default());
        assert!(latency_lines(&waiting, &running).is_empty());
        waiting.add(Duration::from_micros(10));
        running.add(Duration::from_millis(2));
        let lines = latency_lines(&waiting, &running);
        assert_eq!(lines[0], "time      half within    95 of 100    99 of 100      longest");
        assert_eq!(lines[2], "running        2.0 ms       2.0 ms       2.0 ms       2.0 ms");
    }
}

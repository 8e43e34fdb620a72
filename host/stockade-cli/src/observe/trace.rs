//! A run as a trace in the format that Chrome made and Perfetto reads: a row for each worker, a slice
//! for each task.
//!
//! ```text
//! worker 1  │ word_count ────────── │ word_count ────── │     from its start until its answer was heard
//!           │ run ────────────      │ run ───────       │     in the worker
//! queued    ── task 3 ──────────────┤                         from its submission to its start
//! ```
//!
//! Written as tasks end, so a million of them need no memory. Events are those of the Trace Event
//! Format, in its array form: <https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, IntoInnerError, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use stockade::{Status, TaskReport};

use crate::aside::Aside;
use crate::error::Error;
use crate::exit::Exit;

/// The row of tasks that no worker ran.
const NO_WORKER: u64 = 0;

/// The trace of one run, in one file.
#[derive(Debug)]
pub(crate) struct Trace<W: Write = BufWriter<Aside>> {
    path: PathBuf,
    to: W,
    /// Until when each worker's row is filled, in nanoseconds of the pool's life.
    rows: BTreeMap<u64, u64>,
    /// The first error of a write, after which nothing more is written.
    failed: Option<io::Error>,
}

impl Trace {
    /// Begins the file `path`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let file = Aside::create(path).map_err(|error| unwritable(path, &error))?;
        Ok(Self::begin(path.into(), BufWriter::with_capacity(64 << 10, file)))
    }
}

impl Trace {
    /// Ends the file, which is there from now on.
    ///
    /// # Errors
    /// If any of it could not be written; then there is no file.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let path = self.path.clone();
        let file = self.end()?.into_inner().map_err(IntoInnerError::into_error);
        file.and_then(Aside::finish).map_err(|error| unwritable(&path, &error))
    }
}

impl<W: Write> Trace<W> {
    fn begin(path: PathBuf, mut to: W) -> Self {
        let name =
            json!({"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "stockade"}});
        let failed = write!(to, "[\n{name}").err();
        Self { path, to, rows: BTreeMap::new(), failed }
    }

    /// Adds a task that has ended and is counted as `number`: the line of a map's input, or the place
    /// among its files.
    pub(crate) fn task(&mut self, number: u64, report: &TaskReport) {
        if self.failed.is_none() {
            self.failed = self.write(number, report).err();
        }
    }

    fn write(&mut self, number: u64, report: &TaskReport) -> io::Result<()> {
        let submitted = nanos(report.submitted);
        let ended = submitted.saturating_add(nanos(report.lifetime));
        let row = report.worker.map_or(NO_WORKER, |worker| worker.0);
        if !self.rows.contains_key(&row) {
            let name = if row == NO_WORKER { "never ran".into() } else { format!("worker {row}") };
            let args = json!({ "name": name });
            self.event(
                &json!({"ph": "M", "name": "thread_name", "pid": 1, "tid": row, "args": args}),
            )?;
        }
        let filled = self.rows.entry(row).or_default();
        // When a task becomes the next of its worker is known to the length of a message: slices of
        // one row must not overlap.
        let started =
            submitted.saturating_add(nanos(report.queue_wait)).clamp(*filled, ended.max(*filled));
        *filled = (*filled).max(ended);
        let whole = ended.saturating_sub(started);
        let run = nanos(report.wall_time).min(whole);
        let id = report.task.0;
        for (ph, at) in [("b", submitted), ("e", started)] {
            let (cat, name) = ("queued", format!("task {id}"));
            self.event(&json!({"ph": ph, "cat": cat, "name": name, "id": id, "pid": 1, "tid": 0, "ts": micros(at)}))?;
        }
        let mut args = json!({
            "task": id,
            "item": number,
            "ended": ended_as(report.status),
            "attempt": report.attempt,
            "queued_us": micros(nanos(report.queue_wait)),
            "sent_us": micros(whole - run),
            "run_us": micros(run),
            "cpu_us": micros(nanos(report.cpu_time)),
            "memory_bytes": report.memory_peak_bytes,
        });
        if let (Some(fuel), Value::Object(args)) = (report.fuel, &mut args) {
            args.insert("fuel".into(), fuel.into());
        }
        let slice = |name: &str, cat: &str, dur: u64| json!({"ph": "X", "cat": cat, "name": name, "pid": 1, "tid": row, "ts": micros(started), "dur": micros(dur)});
        let mut task = slice(&report.target, "task", whole);
        task["args"] = args;
        self.event(&task)?;
        if row == NO_WORKER { Ok(()) } else { self.event(&slice("run", "run", run)) }
    }

    fn event(&mut self, event: &Value) -> io::Result<()> {
        write!(self.to, ",\n{event}")
    }

    /// Writes the last of it, and gives back where it was written to.
    fn end(mut self) -> Result<W, Error> {
        let ended = match self.failed.take() {
            None => writeln!(self.to, "\n]").and_then(|()| self.to.flush()),
            Some(error) => Err(error),
        };
        ended.map_err(|error| unwritable(&self.path, &error)).map(|()| self.to)
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    let message = format!("cannot write the trace {}", path.display());
    Error::new(Exit::Output, message)
        .cause(error)
        .help_with_directory(path)
        .help("`--trace` takes a file to be written")
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The format's unit, with the digits that a nanosecond has.
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

fn ended_as(status: Status) -> &'static str {
    match status {
        Status::Completed => "completed",
        Status::Failed => "failed",
        Status::Cancelled => "cancelled",
        _ => "not ended",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes and no more.
    #[derive(Debug)]
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 < bytes.len() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0 -= bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_trace_that_cannot_be_written_is_told_at_the_end() {
        let trace = Trace::begin("trace.json".into(), Full(10));
        let error = trace.end().unwrap_err();
        assert_eq!(error.exit(), Exit::Output);
        assert!(format!("{error:?}").contains("cannot write the trace trace.json"));
    }

    #[test]
    fn a_run_without_tasks_is_a_whole_trace() {
        let mut bytes = Vec::new();
        Trace::begin("t".into(), &mut bytes).end().unwrap();
        let events: Vec<Value> = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(events[0]["name"], "process_name");
    }
}

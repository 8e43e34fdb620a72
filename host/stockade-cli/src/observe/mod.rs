//! What `run` and `map` can tell of their tasks beside the results: recordings of those that fail, a
//! trace of all, and a live view.
//!
//! ```text
//! ObserveArgs ─► Observer ─┬ seed ─► Limits::deterministic
//!                          └ ended(task) ─┬ Recorder ─► DIR/FUNCTION-NUMBER-RUN.stockade
//!                                         ├ Trace ────► FILE
//!                                         └ Top ──────► the terminal
//! ```
//!
//! Invariant: where nothing is asked for, nothing is kept and nothing is copied.

mod recorder;
mod top;
mod trace;

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use stockade::{Fault, Output, Pool, RecordError, Recording, TaskError, TaskHandle, TaskResult};

use crate::error::Error;

use recorder::Recorder;
use top::Top;
use trace::Trace;

/// What to tell of the tasks.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ObserveArgs {
    /// Save each task that fails, up to 100, into a file in the directory DIR: `stockade replay FILE`
    /// runs it again. Tasks then run as with --deterministic: clocks stand still but for being read,
    /// and every task sees the same random numbers
    #[arg(long, value_name = "DIR", help_heading = "Seeing inside")]
    pub(crate) record: Option<PathBuf>,

    /// Write a trace of the run to FILE, which ui.perfetto.dev or chrome://tracing opens: a row for
    /// each worker, a slice for each task
    #[arg(long, value_name = "FILE", help_heading = "Seeing inside")]
    pub(crate) trace: Option<PathBuf>,
}

/// Tells what it was asked to tell.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    recorder: Option<Recorder>,
    trace: Option<Trace>,
    top: Option<Top>,
}

impl Observer {
    /// Makes ready for what `args` ask, before anything is run.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub(crate) fn new(args: &ObserveArgs) -> Result<Self, Error> {
        let recorder = args.record.as_deref().map(Recorder::new).transpose()?;
        let trace = args.trace.as_deref().map(Trace::create).transpose()?;
        Ok(Self { recorder, trace, top: None })
    }

    /// Shows how it goes in the terminal.
    ///
    /// # Errors
    /// Where there is none.
    pub(crate) fn with_top(mut self) -> Result<Self, Error> {
        self.top = Some(Top::new()?);
        Ok(self)
    }

    /// What the live view is drawn on, where there is one.
    pub(crate) fn top_bar(&self) -> Option<ProgressBar> {
        self.top.as_ref().map(Top::bar)
    }

    /// Brings the live view up to date.
    pub(crate) fn glance(&mut self, pool: &Pool, done: u64, failed: u64) {
        if let Some(top) = &mut self.top {
            top.glance(pool, done, failed);
        }
    }

    /// The seed of tasks that are recorded, where nobody names another; none where none are.
    pub(crate) fn seed(&self) -> Option<u64> {
        self.recorder.as_ref().map(Recorder::run)
    }

    /// Whether the arguments of a task should be kept until its end.
    pub(crate) fn keeps_arguments(&self) -> bool {
        self.recorder.as_ref().is_some_and(Recorder::has_room)
    }

    /// A task has ended that is counted as `number`; `recording` makes its recording, if one is wanted.
    /// Says where it was recorded.
    pub(crate) fn ended<T: TaskResult>(
        &mut self,
        number: u64,
        handle: &TaskHandle<T>,
        recording: impl FnOnce() -> Option<Result<Recording, RecordError>>,
    ) -> Option<PathBuf> {
        if self.trace.is_some() || self.top.is_some() {
            let report = handle.report();
            if let Some(trace) = &mut self.trace {
                trace.task(number, &report);
            }
            if let Some(top) = &mut self.top {
                top.task(&report);
            }
        }
        let recorder = self.recorder.as_mut()?;
        let ended = handle.output();
        if !has_failed(&ended) {
            return None;
        }
        let recording = recording()?;
        recorder.save(number, recording.map(|recording| recording.ended(&ended)))
    }

    /// Ends what was begun. Every task has ended.
    ///
    /// # Errors
    /// Where something could not be written.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        if let Some(top) = self.top.take() {
            top.finish();
        }
        self.trace.take().map_or(Ok(()), Trace::finish)
    }

    /// What is to be told at the end, for people.
    pub(crate) fn summary(&self) -> Option<String> {
        self.recorder.as_ref()?.summary()
    }
}

/// The error of a task with what became of its recording.
pub(crate) fn with_recording(error: Error, recorded: Option<&Path>, observer: &Observer) -> Error {
    match (recorded, observer.summary()) {
        (Some(path), _) => error
            .help(format!("it is recorded: `stockade replay {}` runs it again", path.display())),
        (None, Some(problem)) => error.because(problem),
        (None, None) => error,
    }
}

/// Whether a task failed by itself, and so may fail again: a program with its exit code too.
fn has_failed(ended: &Result<Output, TaskError>) -> bool {
    match ended {
        Ok(Output::Exited(code)) => *code != 0,
        Ok(_) | Err(TaskError::Cancelled(_)) => false,
        Err(error) => error.fault() != Fault::Pool,
    }
}

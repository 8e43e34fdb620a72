//! What `run` and `map` can report in addition to results: recordings of tasks that fail, core dumps of
//! tasks that trap, a trace of all tasks, and a live view.
//!
//! ```text
//! ObserveArgs ─► Observer ─┬ seed ─► Limits::deterministic
//!                          ├ what dumps are wanted ─► PoolBuilder::coredumps
//!                          └ ended(task) ─┬ Recorder ─► DIR/FUNCTION-NUMBER-RUN.stockade
//!                                         ├ Dumper ───► DIR/FUNCTION-NUMBER-RUN.coredump.wasm
//!                                         ├ Trace ────► FILE
//!                                         └ Top ──────► the terminal
//! ```
//!
//! Invariant: where nothing is asked for, nothing is kept and nothing is copied.

mod dumper;
mod kept;
mod recorder;
mod top;
mod trace;

use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;
use stockade::{
    Coredumps, Fault, Output, Pool, RecordError, Recording, TaskError, TaskHandle, TaskResult,
};

use crate::error::Error;

pub(crate) use dumper::Dumper;
use recorder::Recorder;
use top::Top;
use trace::Trace;

/// Options to observe tasks.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ObserveArgs {
    /// Save each task that fails, up to 100, into a file in the directory DIR: `stockade replay FILE`
    /// runs it again. Tasks then run as with --deterministic: clocks advance only when they are
    /// read, and every task sees the same random numbers
    #[arg(long, value_name = "DIR", help_heading = "Seeing inside")]
    pub(crate) record: Option<PathBuf>,

    /// Keep a core dump of each task that traps, up to 100, as a file in the directory DIR for
    /// WebAssembly debuggers: with its functions, globals and memory, and so the task's data
    #[arg(long, value_name = "DIR", help_heading = "Seeing inside")]
    pub(crate) coredump: Option<PathBuf>,

    /// Write a trace of the run to FILE, which ui.perfetto.dev or chrome://tracing opens: a row for
    /// each worker, a slice for each task
    #[arg(long, value_name = "FILE", help_heading = "Seeing inside")]
    pub(crate) trace: Option<PathBuf>,
}

/// Observes the tasks of a run as the options ask.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    recorder: Option<Recorder>,
    dumper: Option<Dumper>,
    trace: Option<Trace>,
    top: Option<Top>,
}

impl Observer {
    /// Prepares what `args` ask for, before anything is run.
    ///
    /// # Errors
    /// If one of the files or directories cannot be written.
    pub(crate) fn new(args: &ObserveArgs) -> Result<Self, Error> {
        let recorder = args.record.as_deref().map(Recorder::new).transpose()?;
        let dumper = args.coredump.as_deref().map(Dumper::new).transpose()?;
        let trace = args.trace.as_deref().map(Trace::create).transpose()?;
        Ok(Self { recorder, dumper, trace, top: None })
    }

    /// Shows progress in the terminal.
    ///
    /// # Errors
    /// If stderr is not a terminal.
    pub(crate) fn with_top(mut self) -> Result<Self, Error> {
        self.top = Some(Top::new()?);
        Ok(self)
    }

    /// The live view's progress bars, if there is one.
    pub(crate) fn top_bar(&self) -> Option<ProgressBar> {
        self.top.as_ref().map(Top::bar)
    }

    /// Updates the live view.
    pub(crate) fn glance(&mut self, pool: &Pool, done: u64, failed: u64) {
        if let Some(top) = &mut self.top {
            top.glance(pool, done, failed);
        }
    }

    /// The default seed of tasks that are recorded; `None` if none are.
    pub(crate) fn seed(&self) -> Option<u64> {
        self.recorder.as_ref().map(Recorder::run)
    }

    /// The core dumps wanted for tasks with this memory limit, if any.
    pub(crate) fn coredumps(&self, memory_bytes: u64) -> Option<Coredumps> {
        self.dumper.as_ref().map(|_| Dumper::wanted(memory_bytes))
    }

    /// Whether the arguments of a task should be kept until its end.
    pub(crate) fn keeps_arguments(&self) -> bool {
        self.recorder.as_ref().is_some_and(Recorder::has_room)
    }

    /// Whether it looks at every task that ends.
    pub(crate) fn needs_reports(&self) -> bool {
        let Self { recorder, dumper, trace, top } = self;
        recorder.is_some() || dumper.is_some() || trace.is_some() || top.is_some()
    }

    /// A task has ended that is counted as `number`; `recording` makes its recording, if one is wanted.
    /// Returns the files that are kept of it.
    pub(crate) fn ended<T: TaskResult>(
        &mut self,
        number: u64,
        handle: &TaskHandle<T>,
        recording: impl FnOnce() -> Option<Result<Recording, RecordError>>,
    ) -> Saved {
        let mut saved = Saved::default();
        if self.trace.is_some() || self.top.is_some() || self.dumper.is_some() {
            let report = handle.report();
            saved.coredump = self.dumper.as_mut().and_then(|dumper| dumper.save(number, &report));
            if let Some(trace) = &mut self.trace {
                trace.task(number, &report);
            }
            if let Some(top) = &mut self.top {
                top.task(&report);
            }
        }
        if let Some(recorder) = &mut self.recorder
            && let ended = handle.output()
            && has_failed(&ended)
            && let Some(recording) = recording()
        {
            let recording = recording.map(|recording| recording.ended(&ended));
            saved.recording = recorder.save(number, recording);
        }
        saved
    }

    /// Finishes after every task has ended.
    ///
    /// # Errors
    /// If a file could not be written.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        if let Some(top) = self.top.take() {
            top.finish();
        }
        self.trace.take().map_or(Ok(()), Trace::finish)
    }

    /// The messages at the end, for people, each with its name in JSON.
    pub(crate) fn summary(&self) -> Vec<(&'static str, String)> {
        let recorded = self.recorder.as_ref().and_then(Recorder::summary);
        let dumped = self.dumper.as_ref().and_then(Dumper::summary);
        [("recorded", recorded), ("coredumps", dumped)]
            .into_iter()
            .filter_map(|(name, told)| Some((name, told?)))
            .collect()
    }

    /// The error of the only task, with the files that are kept of it, or why there are none.
    pub(crate) fn describe(&self, error: Error, saved: &Saved) -> Error {
        let recorded = self.recorder.as_ref().and_then(Recorder::summary);
        let error = match (&saved.recording, recorded) {
            (Some(path), _) => error.help(format!(
                "it is recorded: `stockade replay {}` runs it again",
                path.display()
            )),
            (None, Some(problem)) => error.because(problem),
            (None, None) => error,
        };
        match &self.dumper {
            Some(dumper) => dumper.describe(error, saved.coredump.as_deref()),
            None => error,
        }
    }
}

/// The files that are kept of a task.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    recording: Option<PathBuf>,
    coredump: Option<PathBuf>,
}

/// Whether a task failed by its own fault, and so may fail again: an exit code of a program counts
/// too.
fn has_failed(ended: &Result<Output, TaskError>) -> bool {
    match ended {
        Ok(Output::Exited(code)) => *code != 0,
        Ok(_) | Err(TaskError::Cancelled(_)) => false,
        Err(error) => error.fault() != Fault::Pool,
    }
}

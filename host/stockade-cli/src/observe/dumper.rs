//! Core dumps of tasks that trapped, as files for debuggers.

use std::path::{Path, PathBuf};

use stockade::{COREDUMP_BYTES_MAX, COREDUMP_BYTES_MIN, Coredumps, TaskReport};

use super::kept::{KEPT_MAX, Kept};
use crate::error::Error;
use crate::report;

/// An upper bound of what a dump holds in addition to the memory: globals, functions, headers.
const AROUND_BYTES: u64 = 16 << 20;

/// Saves core dumps into a directory.
#[derive(Debug)]
pub(crate) struct Dumper {
    kept: Kept,
    /// Bytes of memory that are in none of those that were saved.
    left_out: u64,
}

impl Dumper {
    /// Into `directory`, which is created if missing.
    ///
    /// # Errors
    /// If it cannot be.
    pub(crate) fn new(directory: &Path) -> Result<Self, Error> {
        Kept::new(directory, "--coredump").map(|kept| Self { kept, left_out: 0 })
    }

    /// What a pool is to keep for it, whose tasks may have so much memory.
    pub(crate) fn wanted(memory_bytes: u64) -> Coredumps {
        let bytes = memory_bytes.saturating_add(AROUND_BYTES);
        Coredumps::default()
            .count_max(KEPT_MAX as u32)
            .bytes_max(bytes.clamp(COREDUMP_BYTES_MIN, COREDUMP_BYTES_MAX))
    }

    /// Saves what the task that is counted as `number` left, if it left one. Gives its file.
    pub(crate) fn save(&mut self, number: u64, report: &TaskReport) -> Option<PathBuf> {
        let dump = report.coredump.as_ref()?;
        let saved = self.kept.save((&report.target, number), "coredump.wasm", |path| {
            dump.save(path).map_err(|error| error.to_string())
        });
        if saved.is_some() {
            self.left_out += dump.left_out();
        }
        saved
    }

    /// What became of it all, for people; nothing where no task trapped.
    pub(crate) fn summary(&self) -> Option<String> {
        let Kept { directory, saved, problem, .. } = &self.kept;
        let mut parts = Vec::new();
        if *saved > 0 {
            let plural = if *saved == 1 { "" } else { "s" };
            parts.push(format!("{saved} core dump{plural} in {}", directory.display()));
        }
        parts.extend(self.cut());
        if let Some(problem) = problem {
            parts.push(format!("a core dump was not saved: {problem}"));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// The error of the only task, whose dump was `saved` there, or else with why it was not.
    pub(crate) fn describe(&self, error: Error, saved: Option<&Path>) -> Error {
        match (saved, self.summary()) {
            (Some(path), _) => {
                let cut = self.cut().map_or_else(String::new, |cut| format!(", {cut}"));
                error.help(format!("its core dump is {}{cut}", path.display()))
            }
            (None, Some(problem)) => error.because(problem),
            (None, None) => error,
        }
    }

    /// That something is not in what was saved, if so.
    fn cut(&self) -> Option<String> {
        let left_out = Some(self.left_out).filter(|bytes| *bytes > 0)?;
        Some(format!("{} at the end of memory left out", report::size(left_out)))
    }
}

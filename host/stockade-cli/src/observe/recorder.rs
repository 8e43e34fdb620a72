//! Failing tasks as files, for `stockade replay`.

use std::path::{Path, PathBuf};

use stockade::{RecordError, Recording};

use super::kept::Kept;
use crate::error::Error;

/// Saves recordings into a directory.
#[derive(Debug)]
pub(crate) struct Recorder(Kept);

impl Recorder {
    /// Into `directory`, which is created if missing.
    ///
    /// # Errors
    /// If it cannot be.
    pub(crate) fn new(directory: &Path) -> Result<Self, Error> {
        Kept::new(directory, "--record").map(Self)
    }

    /// A number by chance that tells this run from others.
    pub(crate) fn run(&self) -> u64 {
        self.0.run
    }

    /// Whether one more would be saved.
    pub(crate) fn has_room(&self) -> bool {
        self.0.has_room()
    }

    /// Saves the recording of the task that is counted as `number`. Gives its file.
    pub(crate) fn save(
        &mut self,
        number: u64,
        recording: Result<Recording, RecordError>,
    ) -> Option<PathBuf> {
        let function = recording.as_ref().map_or("", Recording::function).to_owned();
        self.0.save((&function, number), "stockade", |path| {
            let recording = recording.map_err(|error| error.to_string())?;
            recording.save(path).map_err(|error| error.to_string())
        })
    }

    /// What became of it all, for people; nothing where no task failed.
    pub(crate) fn summary(&self) -> Option<String> {
        let Kept { directory, saved, left_out, problem, .. } = &self.0;
        let mut parts = Vec::new();
        if *saved > 0 {
            let plural = if *saved == 1 { "" } else { "s" };
            parts.push(format!(
                "{saved} failing task{plural} recorded in {}: `stockade replay FILE` runs one again",
                directory.display()
            ));
        }
        if *left_out > 0 {
            parts.push(format!("{left_out} more not recorded"));
        }
        if let Some(problem) = problem {
            parts.push(format!("a failing task was not recorded: {problem}"));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

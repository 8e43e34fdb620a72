//! Failing tasks as files, for `stockade replay`.

use std::fs::DirBuilder;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use stockade::{RecordError, Recording};

use crate::error::Error;
use crate::exit::Exit;

/// The most tasks of one run that are recorded: each file holds the module, and a hundred tell enough.
pub(super) const RECORDINGS_MAX: usize = 100;

/// The most bytes of a function's name in a file's.
const NAME_BYTES_MAX: usize = 40;

/// Saves recordings into a directory.
#[derive(Debug)]
pub(crate) struct Recorder {
    directory: PathBuf,
    run: u64,
    saved: usize,
    /// Tasks that failed beyond those.
    left_out: usize,
    /// Why the last that could not be saved was not.
    problem: Option<String>,
}

impl Recorder {
    /// Into `directory`, which is made where there is none.
    ///
    /// # Errors
    /// Where it cannot be.
    pub(crate) fn new(directory: &Path) -> Result<Self, Error> {
        // What tasks are given may be secrets.
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
            let message = format!("cannot make the directory {}", directory.display());
            Error::new(Exit::Output, message).cause(&error).help("`--record` takes a directory")
        })?;
        let directory = directory.to_path_buf();
        // A hash of nothing under a random key.
        let run = RandomState::new().hash_one(0u8);
        Ok(Self { directory, run, saved: 0, left_out: 0, problem: None })
    }

    /// A number by chance that tells this run from others.
    pub(crate) fn run(&self) -> u64 {
        self.run
    }

    /// Whether one more would be saved.
    pub(crate) fn has_room(&self) -> bool {
        self.saved < RECORDINGS_MAX
    }

    /// Saves the recording of the task that is counted as `number`. Gives its file.
    pub(crate) fn save(
        &mut self,
        number: u64,
        recording: Result<Recording, RecordError>,
    ) -> Option<PathBuf> {
        if !self.has_room() {
            self.left_out += 1;
            return None;
        }
        let saved = recording.map_err(|error| error.to_string()).and_then(|recording| {
            // So that none replaces another run's files.
            let name =
                format!("{}-{number}-{:016x}.stockade", name(recording.function()), self.run);
            let path = self.directory.join(name);
            recording.save(&path).map_err(|error| error.to_string())?;
            Ok(path)
        });
        match saved {
            Ok(path) => {
                self.saved += 1;
                Some(path)
            }
            Err(problem) => {
                self.problem = Some(problem);
                None
            }
        }
    }

    /// What became of it all, for people; nothing where no task failed.
    pub(crate) fn summary(&self) -> Option<String> {
        let mut parts = Vec::new();
        if self.saved > 0 {
            let plural = if self.saved == 1 { "" } else { "s" };
            let directory = self.directory.display();
            parts.push(format!(
                "{} failing task{plural} recorded in {directory}: `stockade replay FILE` runs one again",
                self.saved
            ));
        }
        if self.left_out > 0 {
            parts.push(format!("{} more not recorded", self.left_out));
        }
        if let Some(problem) = &self.problem {
            parts.push(format!("a failing task was not recorded: {problem}"));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// A function's name, which is a module's word, as a part of a file's.
fn name(function: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let name: String = function.chars().take(NAME_BYTES_MAX).map(safe).collect();
    name.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_functions_name_cannot_lead_elsewhere() {
        assert_eq!(name("word_count"), "word_count");
        assert_eq!(name("../../etc/passwd"), "etc-passwd");
        assert_eq!(name("\u{1b}[2J\0"), "2J");
        assert_eq!(name(&"x".repeat(1000)).len(), NAME_BYTES_MAX);
    }
}

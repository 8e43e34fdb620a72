//! Files that a run leaves of tasks that failed: where, how many, and under which names.

use std::fs::DirBuilder;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::exit::Exit;

/// The most files of one kind that one run leaves: a hundred tell enough.
pub(super) const KEPT_MAX: usize = 100;

/// The most bytes of a function's name in a file's.
const NAME_BYTES_MAX: usize = 40;

/// Files in a directory.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) directory: PathBuf,
    /// A number by chance that tells this run from others.
    pub(super) run: u64,
    pub(super) saved: usize,
    /// Beyond those that there are to be.
    pub(super) left_out: usize,
    /// Why the last that could not be saved was not.
    pub(super) problem: Option<String>,
}

impl Kept {
    /// In `directory`, which is created if missing; `option` names it.
    ///
    /// # Errors
    /// If it cannot be.
    pub(super) fn new(directory: &Path, option: &str) -> Result<Self, Error> {
        // What tasks are given may be secrets.
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
            let message = format!("cannot make the directory {}", directory.display());
            let help = format!("`{option}` takes a directory");
            Error::new(Exit::Output, message).cause(&error).help(help)
        })?;
        let directory = directory.to_path_buf();
        // A hash of nothing under a random key.
        let run = RandomState::new().hash_one(0u8);
        Ok(Self { directory, run, saved: 0, left_out: 0, problem: None })
    }

    /// Whether one more would be saved.
    pub(super) fn has_room(&self) -> bool {
        self.saved < KEPT_MAX
    }

    /// Has the file saved for the task of `function` that is counted as `number`. Gives the file.
    pub(super) fn save(
        &mut self,
        (function, number): (&str, u64),
        ending: &str,
        save: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Option<PathBuf> {
        if !self.has_room() {
            self.left_out += 1;
            return None;
        }
        // So that none replaces another run's files.
        let name = format!("{}-{number}-{:016x}.{ending}", name(function), self.run);
        let path = self.directory.join(name);
        match save(&path) {
            Ok(()) => {
                self.saved += 1;
                Some(path)
            }
            Err(problem) => {
                self.problem = Some(problem);
                None
            }
        }
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

    #[test]
    fn so_many_are_saved_and_no_more() {
        let folder = std::env::temp_dir();
        let mut kept = Kept::new(&folder, "--record").unwrap_or_else(|error| panic!("{error:?}"));
        let mut save = |number| kept.save(("f", number), "x", |_| Ok(())).is_some();
        let saved = (0..KEPT_MAX as u64 + 5).filter(|number| save(*number)).count();
        assert_eq!((saved, kept.saved, kept.left_out), (KEPT_MAX, KEPT_MAX, 5));
        kept.saved = 0;
        assert_eq!(kept.save(("f", 1), "x", |_| Err("full".into())), None);
        assert_eq!((kept.saved, kept.problem.as_deref()), (0, Some("full")));
    }
}

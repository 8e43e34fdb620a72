//! Modules as callers give them, until they are sealed for a compiler.

use std::path::{Path, PathBuf};

use crate::compile::{NotCompiled, Source};
use crate::{BuildError, MachineError};

/// A module as the caller gave it.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) name: String,
    pub(super) contents: Contents,
}

/// Where its bytes are.
#[derive(Debug)]
pub(super) enum Contents {
    File(PathBuf),
    Bytes {
        bytes: Vec<u8>,
        /// Whether they may be in the text format.
        text: bool,
    },
}

/// The module's bytes, sealed; of a file not much more of them than `bytes_max`.
///
/// # Errors
/// [`BuildError::ReadModule`], [`BuildError::Refused`] where there are more, [`BuildError::Machine`].
pub(super) fn read(given: &Given, bytes_max: u64) -> Result<Source, BuildError> {
    let refused = |error: NotCompiled| error.of_module(&given.name);
    match &given.contents {
        Contents::Bytes { bytes, text } => {
            Source::from_bytes(given.name.clone(), bytes, *text, bytes_max).map_err(refused)
        }
        Contents::File(path) => {
            let text =
                path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("wat"));
            let bytes =
                read_bounded(path, bytes_max).map_err(
                    |source| match MachineError::if_exhausted(
                        format!("read {}", path.display()),
                        &source,
                    ) {
                        Some(error) => BuildError::Machine(error),
                        None => BuildError::ReadModule { path: path.clone(), source },
                    },
                )?;
            Source::from_bytes(given.name.clone(), &bytes, text, bytes_max).map_err(refused)
        }
    }
}

/// Reads a file, but not much more of it than a module may have: it may be a device without end.
fn read_bounded(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

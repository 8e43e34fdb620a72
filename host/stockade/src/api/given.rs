//! Modules as callers give them, until they are sealed for a compiler.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use crate::compile::compiler::{Filling, NotCompiled, PIECE_BYTES, Source};
use crate::outcome::error::BuildError;
use crate::outcome::machine::MachineError;

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

/// The module that was given; of a file not much more is read than `bytes_max`. Where `hash_first`, the
/// bytes of a file are not kept until they are needed: a cache may have their code.
///
/// # Errors
/// [`BuildError::ReadModule`], [`BuildError::Refused`] where there are more, [`BuildError::Machine`].
pub(super) fn read(given: &Given, bytes_max: u64, hash_first: bool) -> Result<Source, BuildError> {
    let refused = |error: NotCompiled| error.of_module(&given.name);
    match &given.contents {
        Contents::Bytes { bytes, text } => {
            Source::from_bytes(given.name.clone(), bytes, *text, bytes_max).map_err(refused)
        }
        Contents::File(path) => {
            let text =
                path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("wat"));
            let unread = |source| {
                let task = format!("read {}", path.display());
                match MachineError::if_exhausted(task, &source) {
                    Some(error) => BuildError::Machine(error),
                    None => BuildError::ReadModule { path: path.clone(), source },
                }
            };
            let mut file = File::open(path).map_err(unread)?;
            // Only an ordinary file can be read again.
            let is_found = hash_first && file.metadata().map_err(unread)?.is_file();
            let mut filling = match is_found {
                true => Filling::hashed(bytes_max),
                false => Filling::sealed(bytes_max).map_err(refused)?,
            };
            let mut buffer = vec![0; PIECE_BYTES];
            // To its end, or to one piece more than a module may have: it may be a device without end.
            loop {
                match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(read) => filling.add(&buffer[..read]).map_err(refused)?,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(unread(error)),
                }
            }
            let name = given.name.clone();
            match is_found {
                true => Ok(filling.finish_in(file, name, text)),
                false => filling.finish(name, text).map_err(refused),
            }
        }
    }
}

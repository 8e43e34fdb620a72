//! Checks the output that a state describes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Value, json};

use super::record::Output;
use super::state::Reached;
use crate::error::Error;
use crate::exit::Exit;

/// The state of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is unchanged. More data may follow.
    Whole,
    /// It does not exist.
    Gone,
}

/// Checks the output `path` that a state describes.
///
/// # Errors
/// One that was changed since, or that cannot be read.
pub(crate) fn output(path: &Path, reached: &Reached) -> Result<Found, Error> {
    let unreadable = |error: io::Error| {
        Error::new(Exit::Output, format!("cannot read the output {}", path.display())).cause(&error)
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let was_there = reached.output_bytes > 0 || reached.complete;
            return Ok(if was_there { Found::Gone } else { Found::Whole });
        }
        file => file.map_err(unreadable)?,
    };
    let mut hasher = blake3::Hasher::new();
    let bytes = reached.output_bytes;
    let found = io::copy(&mut (&file).take(bytes), &mut hasher).map_err(unreadable)?;
    let is_same = found == bytes
        && (bytes == 0 || hasher.finalize().to_hex().as_str() == reached.output_digest);
    // After a finished map's output there can be nothing of its own.
    let has_more = reached.complete && (&file).read(&mut [0]).map_err(unreadable)? > 0;
    match is_same && !has_more {
        true => Ok(Found::Whole),
        false => Err(changed(path)),
    }
}

/// The error of an output that was changed.
fn changed(path: &Path) -> Error {
    Error::new(
        Exit::Output,
        format!("the output {} was changed after it was written", path.display()),
    )
    .because("it is not what the state describes, so continuing could lose or repeat items")
    .help("restore it, or remove it to write it again")
    .help("`--anew` starts over and overwrites it")
}

/// The digest of an item's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    name: String,
    bytes: u64,
    digest: String,
    /// Whether it holds the item's error.
    pub(crate) failed: bool,
}

impl Mark {
    /// Of its file; a name that is not text cannot be stored.
    pub(crate) fn of(output: &Output, failed: bool) -> Option<Self> {
        let Output::File { name, bytes, .. } = output else { return None };
        let name = name.to_str()?.to_string();
        Some(Self { name, bytes: bytes.len() as u64, digest: digest(bytes), failed })
    }

    /// Looks for the file in `directory`.
    ///
    /// # Errors
    /// One that was changed since, or that cannot be read.
    pub(crate) fn find(&self, directory: &Path) -> Result<Found, Error> {
        let path = directory.join(&self.name);
        let unreadable = |error: io::Error| {
            let message = format!("cannot read the output {}", path.display());
            Error::new(Exit::Output, message).cause(&error)
        };
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Gone),
            file => file.map_err(unreadable)?,
        };
        let mut bytes = Vec::new();
        file.take(self.bytes + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        match bytes.len() as u64 == self.bytes && digest(&bytes) == self.digest {
            true => Ok(Found::Whole),
            false => Err(changed(&path)),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!([self.name, self.bytes, self.digest, self.failed])
    }

    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            name: value[0].as_str()?.into(),
            bytes: value[1].as_u64()?,
            digest: value[2].as_str()?.into(),
            failed: value[3].as_bool()?,
        })
    }
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..32].to_string()
}

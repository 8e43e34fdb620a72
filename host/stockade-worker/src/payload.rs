//! Payload files in a worker: the memory files of long inputs.
//!
//! The worker keeps its own files from task to task, under numbers; a lent one is dropped with its
//! task.
//!
//! Deliberately absent: which file an input lies in, which the host decides.

use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use stockade_wire::{
    Outcome, PAYLOAD_BYTES_MIN, PAYLOAD_FILES_MAX, PAYLOAD_KEPT_BYTES_MAX, PayloadFile, Placement,
    PlacementFile,
};

use crate::failure::HostTrap;

/// A call's input.
#[derive(Debug)]
pub(crate) enum CallInput {
    /// It came with the call.
    Bytes(Vec<u8>),
    /// It lies in a file.
    File(FileInput),
}

/// An input that lies in a file.
#[derive(Clone, Debug)]
pub(crate) struct FileInput {
    pub(crate) file: Arc<PayloadFile>,
    pub(crate) bytes: usize,
    /// Whether the caller gets the file back.
    pub(crate) is_lent: bool,
}

impl CallInput {
    /// Nothing.
    pub(crate) const NONE: Self = Self::Bytes(Vec::new());

    /// Its length.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(input) => input.bytes,
        }
    }

    /// Fills `into` from `offset`.
    ///
    /// # Errors
    /// [`HostTrap::InputRange`] where there is not as much, or that the system has no memory.
    pub(crate) fn read(&self, offset: u32, into: &mut [u8]) -> wasmtime::Result<()> {
        let (start, length) = (offset as usize, into.len());
        if start + length > self.len() {
            // A slice of the guest's memory is no longer than this.
            let length = length as u32;
            return Err(HostTrap::InputRange { offset, length, input: self.len() }.into());
        }
        match self {
            Self::Bytes(bytes) => into.copy_from_slice(&bytes[start..start + length]),
            Self::File(input) => input.file.file().read_exact_at(into, u64::from(offset))?,
        }
        Ok(())
    }
}

impl FileInput {
    /// Writes a long result over the input, if its file is not a caller's and is long enough.
    pub(crate) fn take_result(&self, outcome: Outcome) -> Outcome {
        let Outcome::Returned(bytes) = &outcome else { return outcome };
        let length = bytes.len() as u64;
        let is_in_place = !self.is_lent
            && bytes.len() >= PAYLOAD_BYTES_MIN
            && length <= self.file.bytes()
            && self.file.file().write_all_at(bytes, 0).is_ok();
        if is_in_place { Outcome::InFile(length) } else { outcome }
    }
}

/// The files that this worker keeps.
#[derive(Debug, Default)]
pub(crate) struct KeptFiles([Option<Arc<PayloadFile>>; PAYLOAD_FILES_MAX]);

impl KeptFiles {
    /// What is placed there. `next` gives the descriptor that came with its message.
    ///
    /// # Errors
    /// If the host's message is invalid.
    pub(crate) fn find(
        &mut self,
        placement: Placement,
        next: impl FnOnce() -> Option<OwnedFd>,
    ) -> Result<FileInput, &'static str> {
        let new = if placement.brings_descriptor() {
            let descriptor = next().ok_or("a payload without its descriptor")?;
            let file = PayloadFile::open(descriptor).map_err(|_| "a payload that can shrink")?;
            Some(Arc::new(file))
        } else {
            None
        };
        let (file, is_lent) = match placement.place {
            PlacementFile::Lent => (new, true),
            PlacementFile::Kept { file, .. } => {
                let place =
                    self.0.get_mut(usize::from(file)).ok_or("a payload's file beyond all")?;
                if new.is_some() {
                    *place = new;
                }
                (place.clone(), false)
            }
        };
        let file = file.ok_or("a payload in a file that is not there")?;
        let bytes =
            u32::try_from(placement.bytes).map_err(|_| "a payload that no guest can hold")?;
        if !file.holds(placement) {
            return Err("a payload that is longer than its file");
        }
        Ok(FileInput { file, bytes: bytes as usize, is_lent })
    }

    /// Drops those that are too long to be kept.
    pub(crate) fn trim(&mut self) {
        for file in &mut self.0 {
            file.take_if(|file| file.bytes() > PAYLOAD_KEPT_BYTES_MAX as u64);
        }
    }
}

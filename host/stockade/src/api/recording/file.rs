//! Recordings as files.
//!
//! ```text
//! magic 8 │ version 4 │ length of the body 8 │ BLAKE3 of the body 32 │ body
//! ```
//!
//! The hash detects damage, but does not authenticate the author. So the body is decoded like any
//! hostile message, within a limit, and its settings are checked like any caller's.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use stockade_wire::codec;

use super::{Recording, RecordingError};
use crate::base::private_file;

const MAGIC: &[u8; 8] = b"STOCKREC";

/// Of the body's form. Raised with every change of what is in it.
const VERSION: u32 = 2;

const HEADER_BYTES: usize = 8 + 4 + 8 + 32;

/// The most bytes of a body: no message may have more.
const BODY_BYTES_MAX: u64 = stockade_wire::frame::FRAME_BYTES_MAX as u64;

impl Recording {
    /// Atomically writes the recording to the file `path`: to a temporary file, then renames it.
    /// Only its owner may read it, since arguments may be secrets.
    ///
    /// # Errors
    /// [`RecordingError`]
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), RecordingError> {
        let path = path.as_ref();
        let bytes = self.to_bytes()?;
        private_file::write(path, |file| file.write_all(&bytes))
            .map_err(|source| RecordingError::File { path: path.into(), writing: true, source })
    }

    /// Reads the recording in the file `path`.
    ///
    /// # Errors
    /// [`RecordingError`]
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RecordingError> {
        let path = path.as_ref();
        let read = || {
            let mut bytes = Vec::new();
            // It may be a device without end.
            File::open(path)?
                .take(BODY_BYTES_MAX + HEADER_BYTES as u64 + 1)
                .read_to_end(&mut bytes)?;
            Ok::<_, io::Error>(bytes)
        };
        let bytes = read().map_err(|source| RecordingError::File {
            path: path.into(),
            writing: false,
            source,
        })?;
        Self::from_bytes(&bytes)
    }

    /// The recording as a file has it.
    ///
    /// # Errors
    /// [`RecordingError::TooLarge`]
    pub fn to_bytes(&self) -> Result<Vec<u8>, RecordingError> {
        let mut body = Vec::new();
        codec::encode(self, &mut body).map_err(|_| RecordingError::TooLarge)?;
        if body.len() as u64 > BODY_BYTES_MAX {
            return Err(RecordingError::TooLarge);
        }
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(blake3::hash(&body).as_bytes());
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    /// The recording that `bytes` hold as a file would.
    ///
    /// # Errors
    /// [`RecordingError`], never of a file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordingError> {
        let (magic, rest) =
            bytes.split_first_chunk::<8>().ok_or(RecordingError::Format("it is too short"))?;
        if magic != MAGIC {
            return Err(RecordingError::Format("it has another header"));
        }
        let cut_off = || RecordingError::Damaged("it is cut off");
        let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(RecordingError::Format("another version of Stockade made it"));
        }
        let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(cut_off)?;
        let (hash, body) = rest.split_first_chunk::<32>().ok_or_else(cut_off)?;
        let length = u64::from_le_bytes(*length);
        if length > BODY_BYTES_MAX {
            return Err(RecordingError::Damaged("its lengths exceed the limits of a recording"));
        }
        match (body.len() as u64).cmp(&length) {
            std::cmp::Ordering::Less => return Err(cut_off()),
            std::cmp::Ordering::Greater => {
                return Err(RecordingError::Damaged("it has trailing bytes"));
            }
            std::cmp::Ordering::Equal => {}
        }
        if blake3::hash(body).as_bytes() != hash {
            return Err(RecordingError::Damaged("its checksum does not match"));
        }
        codec::decode(body).map_err(|_| RecordingError::Damaged("its contents are not valid"))
    }
}

#[cfg(test)]
mod tests {
    use stockade_wire::{Codec, Grants, Limits, UnknownImports};

    use super::super::Given;
    use super::*;

    fn recording() -> Recording {
        Recording {
            module: "m".into(),
            wasm: b"\0asm".to_vec(),
            text: false,
            function: "f".into(),
            given: Given::Encoded(Codec::Json, b"[]".to_vec()),
            limits: Limits::default().fuel(7).deterministic(7),
            grants: Grants::none().env("A", "b").read_dir("/srv", "/data"),
            per_worker: false,
            unknown_imports: UnknownImports::Trap,
            initializer: Some(("load".into(), Given::Scalars(Vec::new()))),
            end: None,
        }
    }

    #[test]
    fn a_recording_comes_back_as_it_was_saved() {
        let bytes = recording().to_bytes().unwrap();
        assert_eq!(Recording::from_bytes(&bytes).unwrap(), recording());
    }

    #[test]
    fn a_damaged_file_is_refused_wherever_it_is_damaged() {
        let good = recording().to_bytes().unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Recording::from_bytes(&bad).is_err(), "byte {at}");
            assert!(Recording::from_bytes(&good[..at]).is_err(), "{at} bytes");
        }
        let longer = [&good[..], b"x"].concat();
        assert!(matches!(Recording::from_bytes(&longer), Err(RecordingError::Damaged(_))));
    }

    #[test]
    fn what_is_no_recording_is_told_from_one_of_another_version() {
        for (bytes, expected) in [(&b"\0asm\x01\0\0\0"[..], "header"), (b"STOCK", "short")] {
            let error = Recording::from_bytes(bytes).unwrap_err();
            assert!(
                matches!(error, RecordingError::Format(why) if why.contains(expected)),
                "{error}"
            );
        }
        let mut newer = recording().to_bytes().unwrap();
        newer[8] = 9;
        let error = Recording::from_bytes(&newer).unwrap_err();
        assert!(matches!(error, RecordingError::Format(why) if why.contains("version")), "{error}");
    }

    #[test]
    fn a_length_that_no_file_has_is_refused_before_anything_is_made_for_it() {
        let mut bytes = recording().to_bytes().unwrap();
        bytes[12..20].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(Recording::from_bytes(&bytes), Err(RecordingError::Damaged(_))));
    }

    #[test]
    fn a_recording_that_is_well_formed_and_means_nothing_is_refused() {
        let body = b"\xff".repeat(100);
        let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
        bytes.extend((body.len() as u64).to_le_bytes());
        bytes.extend(blake3::hash(&body).as_bytes());
        bytes.extend(&body);
        assert!(matches!(Recording::from_bytes(&bytes), Err(RecordingError::Damaged(_))));
    }
}

//! Entries: the format of a cache's file, and its verification.
//!
//! ```text
//! magic 8 │ version 4 │ key 32 │ description bytes 8 │ artefact bytes 8 │ code 32 │ description │ artefact
//! └──────────────────────────── header: HEADER_BYTES ─────────────────────────────┘
//! ```
//!
//! Numbers are little-endian. The MAC, BLAKE3 with a key that only the cache's owner knows,
//! authenticates everything before and after it. Both lengths are before it, so no byte can move
//! from one part into the other.
//!
//! Invariant: a description is decoded only after the MAC was verified. Earlier checks (magic,
//! version, key, lengths) only save work and give better messages.
//!
//! Deliberately absent: files, and how many bytes an artefact may have, which the caller decides.
//! Everything here is about sealed bytes.

use std::io;

use stockade_wire::ModuleDescription;
use stockade_wire::codec::{self, CodecError};

use crate::compile::compiler::REPLY_BYTES_MAX;
use crate::outcome::cache_error::Distrust;

/// The version of the format. An entry of another version is compiled again.
pub(super) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"stockade";

/// Bytes before an entry's description.
pub(crate) const HEADER_BYTES: usize = 92;

/// The most bytes a description may have: as many as a compiler may send.
const DESCRIPTION_BYTES_MAX: u64 = REPLY_BYTES_MAX as u64;

/// The most bytes an entry may have whose artefact has at most `artefact_bytes`.
pub(crate) fn entry_bytes_max(artefact_bytes: u64) -> u64 {
    artefact_bytes.saturating_add(HEADER_BYTES as u64 + DESCRIPTION_BYTES_MAX)
}

/// Where each part of the header ends.
const VERSION_AT: usize = MAGIC.len();
const KEY_AT: usize = VERSION_AT + 4;
const DESCRIPTION_AT: usize = KEY_AT + 32;
const ARTEFACT_AT: usize = DESCRIPTION_AT + 8;
const CODE_AT: usize = ARTEFACT_AT + 8;

const _: () = assert!(CODE_AT + blake3::OUT_LEN == HEADER_BYTES);

/// What an entry is of: everything that decides what a compiler makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryKey(pub(crate) [u8; 32]);

/// The key, which only the cache's owner knows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Why an entry is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryError {
    #[error("{0}")]
    Untrusted(Distrust),
    #[error("it has {0} bytes, a length that no entry has")]
    Size(u64),
    #[error("it has {found} bytes, but only {most} are allowed")]
    Large { found: u64, most: u64 },
    #[error("it is not a cache entry")]
    Magic,
    #[error("its format is version {0}, but only {VERSION} is known")]
    Version(u32),
    #[error("it is the entry of another key")]
    Key,
    #[error("its description is larger than allowed")]
    Limit,
    #[error("it has {found} bytes, but its header says {said}")]
    Length { said: u64, found: u64 },
    #[error("its authentication code is wrong")]
    Code,
    #[error("its description is unusable: {0}")]
    Description(#[from] CodecError),
    #[error("it cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

/// A header whose lengths are those of its file; it may still be forged.
#[derive(Debug)]
pub(crate) struct Header {
    bytes: [u8; HEADER_BYTES],
    pub(crate) description_bytes: usize,
    pub(crate) artefact_bytes: u64,
}

impl Header {
    /// Reads the header of a file of `entry_bytes` that should be the entry of `key`.
    ///
    /// # Errors
    /// [`EntryError`]
    pub(crate) fn parse(
        bytes: [u8; HEADER_BYTES],
        entry_bytes: u64,
        key: &EntryKey,
    ) -> Result<Self, EntryError> {
        if bytes[..VERSION_AT] != MAGIC {
            return Err(EntryError::Magic);
        }
        let version = u32::from_le_bytes(part(&bytes, VERSION_AT));
        if version != VERSION {
            return Err(EntryError::Version(version));
        }
        if part(&bytes, KEY_AT) != key.0 {
            return Err(EntryError::Key);
        }
        let description_bytes = u64::from_le_bytes(part(&bytes, DESCRIPTION_AT));
        let artefact_bytes = u64::from_le_bytes(part(&bytes, ARTEFACT_AT));
        if description_bytes > DESCRIPTION_BYTES_MAX {
            return Err(EntryError::Limit);
        }
        let said = (HEADER_BYTES as u64 + description_bytes).saturating_add(artefact_bytes);
        if said != entry_bytes {
            return Err(EntryError::Length { said, found: entry_bytes });
        }
        // Below its limit, which is far below what a `usize` holds.
        Ok(Self { bytes, description_bytes: description_bytes as usize, artefact_bytes })
    }

    /// Begins to check the code over the header, the description and the artefact.
    pub(crate) fn check(self, description: Vec<u8>, secret: &Secret) -> Check {
        let mut hasher = blake3::Hasher::new_keyed(&secret.0);
        hasher.update(&self.bytes[..CODE_AT]).update(&description);
        Check { header: self, description, hasher }
    }
}

/// An entry whose artefact is being read.
pub(crate) struct Check {
    header: Header,
    description: Vec<u8>,
    hasher: blake3::Hasher,
}

impl Check {
    /// Adds the artefact's next piece, which the caller passes on as it is here and no other.
    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
    }

    /// Compares the codes, then decodes the description.
    ///
    /// # Errors
    /// [`EntryError`]; nothing that was read may be used then.
    pub(crate) fn finish(self) -> Result<ModuleDescription, EntryError> {
        let said = (CODE_AT + self.header.description_bytes) as u64;
        let said = said.saturating_add(self.header.artefact_bytes);
        let found = self.hasher.count();
        if found != said {
            return Err(EntryError::Length { said, found });
        }
        // Hashes compare in constant time, so a wrong code says nothing of the right one.
        if self.hasher.finalize() != blake3::Hash::from_bytes(part(&self.header.bytes, CODE_AT)) {
            return Err(EntryError::Code);
        }
        Ok(codec::decode(&self.description)?)
    }
}

/// What stands before the artefact in the entry of `key`: the header and the description.
///
/// # Errors
/// [`EntryError::Limit`], or where the description has no binary form.
pub(crate) fn head(
    key: &EntryKey,
    description: &ModuleDescription,
    artefact: &[u8],
    secret: &Secret,
) -> Result<Vec<u8>, EntryError> {
    let mut encoded = Vec::new();
    codec::encode(description, &mut encoded)?;
    let description_bytes = encoded.len() as u64;
    if description_bytes > DESCRIPTION_BYTES_MAX {
        return Err(EntryError::Limit);
    }
    let mut head = Vec::with_capacity(HEADER_BYTES + encoded.len());
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend(key.0);
    head.extend(description_bytes.to_le_bytes());
    head.extend((artefact.len() as u64).to_le_bytes());
    let code = code(&head, &encoded, artefact, secret);
    head.extend(code.as_bytes());
    head.append(&mut encoded);
    Ok(head)
}

/// The code of an entry.
fn code(before: &[u8], description: &[u8], artefact: &[u8], secret: &Secret) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(&secret.0);
    hasher.update(before).update(description).update(artefact).finalize()
}

/// `N` bytes of a header.
fn part<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&header[at..at + N]);
    part
}

/// Verifies `bytes`, a whole entry, as the cache does part by part.
///
/// # Errors
/// [`EntryError`]
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn verify(
    bytes: &[u8],
    key: &EntryKey,
    secret: &Secret,
) -> Result<ModuleDescription, EntryError> {
    let size = bytes.len() as u64;
    let Some((header, rest)) = bytes.split_first_chunk() else {
        return Err(EntryError::Size(size));
    };
    let header = Header::parse(*header, size, key)?;
    let (description, artefact) = rest.split_at(header.description_bytes);
    let mut check = header.check(description.to_vec(), secret);
    check.add(artefact);
    check.finish()
}

#[cfg(test)]
mod tests;

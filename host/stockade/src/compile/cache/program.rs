//! The worker program's identity, since an artefact is valid only for exactly the program that made
//! it: its build id, or a hash of its file.
//!
//! ```text
//! file ─► ELF with a build id ─► ProgramId of that id, the file's length and its first bytes
//!      └► anything else ───────► ProgramId of all that it holds, remembered for as long as it stays
//! ```
//!
//! A build id is what a linker writes into a program: a hash of all that it has linked, so the same engine,
//! features and settings of the compiler give the same id, and no other do. To read it takes
//! microseconds, and to hash a program of tens of megabytes tens of milliseconds, at each start of one.
//! Length and first bytes, which are the headers, are for ids that somebody chose by hand, and for
//! programs that a tool changed after the linker.
//!
//! An attacker who could forge an id could put any code into the worker program itself, so this
//! adds no trust.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use object::Endianness;
use object::elf::{ELF_NOTE_GNU, FileHeader64, NT_GNU_BUILD_ID};
use object::read::elf::{FileHeader, ProgramHeader};
use rustix::fs::Mode;

use super::trust::FILE_FLAGS;

/// Which worker program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProgramId(pub(super) [u8; 32]);

/// A program's file as it was when it was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Of its last change of contents, and of anything; seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The most programs that are remembered: usually there is one.
const KNOWN_MAX: usize = 8;

/// A file that changed less than this ago may change again without a new time: clocks of file
/// systems tick slowly.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// The least bytes of a build id that can be a hash, and the most that any linker writes. The shortest of
/// today's are 8.
const BUILD_ID_BYTES: std::ops::RangeInclusive<usize> = 8..=64;

/// How much of a program's beginning is part of its identity besides its build id: its headers.
const HEAD_BYTES: usize = 4096;

/// What identities by build id are for, and of no other use of the same hash; those by contents have none.
const CONTEXT: &str = "stockade artefact cache 2026-12 build id";

static KNOWN: Mutex<Vec<(Stamp, ProgramId)>> = Mutex::new(Vec::new());

/// The identity of the file `program`. Blocks for as long as reading it takes, the first time, where it
/// has no build id.
///
/// # Errors
/// If it cannot be read.
pub(super) fn identify(program: &Path) -> io::Result<ProgramId> {
    let flags = FILE_FLAGS.difference(rustix::fs::OFlags::NOFOLLOW);
    let file = File::from(rustix::fs::open(program, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut head = Vec::with_capacity(HEAD_BYTES);
    (&file).take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    if let Some(id) = of_build_id(&head, metadata.len()) {
        return Ok(id);
    }
    let stamp = Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    };
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, id)) = known().iter().find(|(known, _)| *known == stamp) {
        return Ok(*id);
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&head).update_reader(&file)?;
    let id = ProgramId(*hasher.finalize().as_bytes());
    if is_settled(&stamp, SystemTime::now()) {
        let mut known = known();
        if known.len() == KNOWN_MAX {
            known.remove(0);
        }
        known.push((stamp, id));
    }
    Ok(id)
}

/// The identity of a program of `bytes` that begins with `head`, by its build id; `None` where none is
/// there.
fn of_build_id(head: &[u8], bytes: u64) -> Option<ProgramId> {
    let id = build_id(head).filter(|id| BUILD_ID_BYTES.contains(&id.len()))?;
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    for part in [id, &bytes.to_le_bytes(), head] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    Some(ProgramId(*hasher.finalize().as_bytes()))
}

/// The build id in the notes of the program that begins with `head`, where linkers put them.
fn build_id(head: &[u8]) -> Option<&[u8]> {
    let header = FileHeader64::<Endianness>::parse(head).ok()?;
    let endian = header.endian().ok()?;
    for segment in header.program_headers(endian, head).ok()? {
        let Ok(Some(mut notes)) = segment.notes(endian, head) else { continue };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == ELF_NOTE_GNU && note.n_type(endian) == NT_GNU_BUILD_ID {
                return Some(note.desc());
            }
        }
    }
    None
}

fn is_settled(stamp: &Stamp, now: SystemTime) -> bool {
    let changed = u64::try_from(stamp.changed.0).unwrap_or(0);
    let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(changed));
    let age = changed.and_then(|changed| now.duration_since(changed).ok());
    age.is_some_and(|age| age > SETTLED_AFTER)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::compile::cache::tests::Scratch;

    /// A program of 16 KiB, as a linker makes it with this note of GNU's in it.
    fn program(note_type: u32, note: &[u8]) -> Vec<u8> {
        const NOTE_AT: u64 = 64 + 56;
        let mut notes = Vec::new();
        for word in [4, note.len() as u32, note_type] {
            notes.extend(word.to_le_bytes());
        }
        notes.extend(b"GNU\0");
        notes.extend(note);
        notes.resize(notes.len().next_multiple_of(4), 0);
        let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        elf.extend([3, 0, 62, 0, 1, 0, 0, 0]);
        for number in [0, 64, 0] {
            elf.extend(u64::to_le_bytes(number));
        }
        elf.extend([0; 4]);
        for number in [64, 56, 1, 64, 0, 0] {
            elf.extend(u16::to_le_bytes(number));
        }
        // The header of a segment of notes.
        elf.extend([4, 0, 0, 0, 4, 0, 0, 0]);
        let bytes = notes.len() as u64;
        for number in [NOTE_AT, NOTE_AT, NOTE_AT, bytes, bytes, 4] {
            elf.extend(number.to_le_bytes());
        }
        assert_eq!(elf.len() as u64, NOTE_AT);
        elf.extend(notes);
        elf.resize(16 << 10, 0);
        elf
    }

    fn id_of(scratch: &Scratch, bytes: &[u8]) -> ProgramId {
        let path = scratch.path().join("program");
        fs::write(&path, bytes).unwrap();
        identify(&path).unwrap()
    }

    #[test]
    fn a_program_with_a_build_id_is_known_by_it_and_not_read() {
        let scratch = Scratch::new();
        let id = |bytes: &[u8]| id_of(&scratch, bytes);
        let linked = program(NT_GNU_BUILD_ID, &[7; 20]);
        let first = id(&linked);
        assert_eq!(id(&linked), first);
        let mut far = linked.clone();
        far[HEAD_BYTES] ^= 1;
        assert_eq!(id(&far), first, "nothing behind the headers is looked at");

        assert_ne!(id(&program(NT_GNU_BUILD_ID, &[8; 20])), first, "another build");
        let mut longer = linked.clone();
        longer.push(0);
        assert_ne!(id(&longer), first, "another length");
        let mut header = linked.clone();
        header[HEAD_BYTES - 1] ^= 1;
        assert_ne!(id(&header), first, "another header");
    }

    #[test]
    fn a_program_without_a_build_id_is_known_by_all_that_it_holds() {
        let scratch = Scratch::new();
        let id = |bytes: &[u8]| id_of(&scratch, bytes);
        let mut far_off = program(NT_GNU_BUILD_ID, &[7; 20]);
        // Its notes lie behind what is looked at.
        far_off[72..80].copy_from_slice(&(HEAD_BYTES as u64).to_le_bytes());
        let mut cut = program(NT_GNU_BUILD_ID, &[7; 20]);
        cut.truncate(130);
        for (what, bytes) in [
            ("another note", program(NT_GNU_BUILD_ID + 1, &[7; 20])),
            ("an id that is no hash", program(NT_GNU_BUILD_ID, &[7; 7])),
            ("an empty id", program(NT_GNU_BUILD_ID, &[])),
            ("an id that no linker writes", program(NT_GNU_BUILD_ID, &[7; 65])),
            ("notes elsewhere", far_off),
            ("a program that is cut off", cut),
            ("a script", b"#!/bin/sh\nexec worker".to_vec()),
            ("nothing", vec![]),
        ] {
            let mut changed = bytes.clone();
            match changed.last_mut() {
                Some(last) => *last ^= 1,
                None => changed.push(0),
            }
            assert_eq!(build_id_of(&bytes), None, "{what}");
            assert_ne!(id(&changed), id(&bytes), "{what}");
        }
        for bytes in [8, 20, 64] {
            let linked = program(NT_GNU_BUILD_ID, &vec![7; bytes]);
            assert!(build_id_of(&linked).is_some(), "{bytes}");
        }
    }

    fn build_id_of(bytes: &[u8]) -> Option<ProgramId> {
        of_build_id(&bytes[..bytes.len().min(HEAD_BYTES)], bytes.len() as u64)
    }

    #[test]
    fn no_flipped_bit_of_a_header_is_more_than_another_program() {
        let linked = program(NT_GNU_BUILD_ID, &[7; 20]);
        let first = build_id_of(&linked).unwrap();
        for bit in 0..160 * 8 {
            let mut changed = linked.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(build_id_of(&changed), Some(first), "{bit}");
        }
    }

    #[test]
    fn a_program_that_was_replaced_has_another_identity() {
        let scratch = Scratch::new();
        let path = scratch.path().join("program");
        fs::write(&path, "one").unwrap();
        let one = identify(&path).unwrap();
        assert_eq!(identify(&path).unwrap(), one);
        // Of the same length, and within one tick of any clock.
        fs::write(&path, "two").unwrap();
        assert_ne!(identify(&path).unwrap(), one);
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(identify(&link).unwrap(), identify(&path).unwrap(), "a program may be linked");
    }

    #[test]
    fn what_is_no_file_has_no_identity() {
        let scratch = Scratch::new();
        assert!(identify(scratch.path()).is_err());
        assert!(identify(&scratch.path().join("missing")).is_err());
        assert!(identify(Path::new("/dev/zero")).is_err(), "which never ends");
    }

    #[test]
    fn a_file_is_remembered_only_once_its_time_has_passed() {
        let stamp = Stamp { device: 1, inode: 1, bytes: 1, modified: (100, 0), changed: (100, 0) };
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(!is_settled(&stamp, at(99)));
        assert!(!is_settled(&stamp, at(102)));
        assert!(is_settled(&stamp, at(103)));
    }
}

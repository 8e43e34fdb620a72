//! The worker program's identity: what its file holds, since an artefact is valid only for the very
//! program that made it.
//!
//! Hashing tens of megabytes takes tens of milliseconds, so it is done once for as long as the file
//! stays as it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::Mode;

use super::trust::FILE_FLAGS;

/// The contents of a worker program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProgramHash(pub(super) [u8; 32]);

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

static KNOWN: Mutex<Vec<(Stamp, ProgramHash)>> = Mutex::new(Vec::new());

/// The hash of the file `program`. Blocks for as long as reading it takes, the first time.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn hash(program: &Path) -> io::Result<ProgramHash> {
    let flags = FILE_FLAGS.difference(rustix::fs::OFlags::NOFOLLOW);
    let file = File::from(rustix::fs::open(program, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let stamp = Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    };
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, hash)) = known().iter().find(|(known, _)| *known == stamp) {
        return Ok(*hash);
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&file)?;
    let hash = ProgramHash(*hasher.finalize().as_bytes());
    if is_settled(&stamp, SystemTime::now()) {
        let mut known = known();
        if known.len() == KNOWN_MAX {
            known.remove(0);
        }
        known.push((stamp, hash));
    }
    Ok(hash)
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
    use crate::cache::tests::Scratch;

    #[test]
    fn a_program_that_was_replaced_has_another_hash() {
        let scratch = Scratch::new();
        let path = scratch.path().join("program");
        fs::write(&path, "one").unwrap();
        let one = hash(&path).unwrap();
        assert_eq!(hash(&path).unwrap(), one);
        // Of the same length, and within one tick of any clock.
        fs::write(&path, "two").unwrap();
        assert_ne!(hash(&path).unwrap(), one);
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(hash(&link).unwrap(), hash(&path).unwrap(), "a program may be linked");
    }

    #[test]
    fn what_is_no_file_has_no_hash() {
        let scratch = Scratch::new();
        assert!(hash(scratch.path()).is_err());
        assert!(hash(&scratch.path().join("missing")).is_err());
        assert!(hash(Path::new("/dev/zero")).is_err(), "which never ends");
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

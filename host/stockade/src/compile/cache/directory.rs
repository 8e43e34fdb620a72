//! The cache's directory: entries are read into sealed memory, and written atomically.
//!
//! ```text
//! read    open ─► check owner, mode, kind ─► parse header ─► piece by piece: read, hash, copy ─► seal
//! write   partial-… ─► rename
//! ```
//!
//! Invariant: an entry is read once, into memory of this process. The bytes that are verified are
//! copied into sealed memory, and only these are used; so there is no race between check and use.
//! Every name is opened relative to the one directory that was checked.
//!
//! Any number of processes may use one directory: a rename is atomic, and an open file stays
//! readable. An interrupted write leaves a file that is never read, and that a later write removes.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;
use stockade_wire::{ModuleDescription, SealedBytes, descriptor};

use super::entry::{EntryError, EntryKey, HEADER_BYTES, Header, Secret, head};
use super::trust::{DIRECTORY_FLAGS, FILE_FLAGS, Facts, this_user};
use crate::compile::compiler::PIECE_BYTES;
use crate::outcome::cache_error::{CacheError, Distrust};
use crate::outcome::machine;

/// What an entry's name ends with, after its key.
const SUFFIX: &str = ".artefact";

/// What the name of a file begins with that is being written.
const PARTIAL: &str = "partial-";

/// How old an unfinished file must be before it is removed.
const PARTIAL_AGE_MAX: Duration = Duration::from_secs(3600);

/// An open directory of this user alone.
#[derive(Debug)]
pub(super) struct Directory {
    descriptor: OwnedFd,
    path: PathBuf,
}

/// An entry in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) key: EntryKey,
    pub(super) bytes: u64,
    pub(super) used: SystemTime,
}

impl Directory {
    /// Opens the directory `path`, made where there is none.
    ///
    /// # Errors
    /// [`CacheError`], where it cannot be made or opened, or is not ours alone.
    pub(super) fn open_or_make(path: &Path) -> Result<Self, CacheError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| CacheError::unusable(path, error))?;
        Self::open(path)
    }

    /// Opens the directory `path`.
    ///
    /// # Errors
    /// [`CacheError`], where it cannot be opened or is not ours alone.
    pub(super) fn open(path: &Path) -> Result<Self, CacheError> {
        // Without a slash at its end, which would follow a link after all.
        let path = path.components().as_path();
        let unusable = |error: io::Error| CacheError::unusable(path, error);
        let untrusted = |why| CacheError::Untrusted { path: path.to_path_buf(), why };
        let descriptor = match rustix::fs::open(path, DIRECTORY_FLAGS, Mode::empty()) {
            Ok(descriptor) => descriptor,
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let is_link = path.symlink_metadata().is_ok_and(|found| found.is_symlink());
                return Err(untrusted(if is_link { Distrust::Link } else { Distrust::Kind }));
            }
            Err(error) => return Err(unusable(error.into())),
        };
        let facts = Facts::of(&descriptor).map_err(unusable)?;
        facts.check_directory(this_user()).map_err(untrusted)?;
        Ok(Self { descriptor, path: path.to_path_buf() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The description and the artefact, sealed, in the entry of `key`; `None` where there is none.
    ///
    /// # Errors
    /// [`EntryError`], if it is not valid, or has more than `bytes_max`, which bounds the memory
    /// that a planted entry costs.
    pub(super) fn read(
        &self,
        key: &EntryKey,
        secret: &Secret,
        bytes_max: u64,
    ) -> Result<Option<(ModuleDescription, File)>, EntryError> {
        let Some((file, bytes)) = self.open_entry(key, bytes_max)? else { return Ok(None) };
        check_file_bytes("copy an entry of the cache", bytes)?;
        let mut artefact = descriptor::memory_file("stockade-artefact")?;
        let description = read_once(file, bytes, key, secret, |piece| artefact.write_all(piece))?;
        descriptor::seal(&artefact)?;
        Ok(Some((description, artefact)))
    }

    /// As [`read`](Self::read), and keeps nothing; whether there is one.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) fn verify(
        &self,
        key: &EntryKey,
        secret: &Secret,
        bytes_max: u64,
    ) -> Result<bool, EntryError> {
        let Some((file, bytes)) = self.open_entry(key, bytes_max)? else { return Ok(false) };
        read_once(file, bytes, key, secret, |_| Ok(())).map(|_| true)
    }

    /// The file of the entry of `key`, and its length, if it is one to read.
    fn open_entry(
        &self,
        key: &EntryKey,
        bytes_max: u64,
    ) -> Result<Option<(File, u64)>, EntryError> {
        let opened = rustix::fs::openat(&self.descriptor, name_of(key), FILE_FLAGS, Mode::empty());
        let file = match opened {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(EntryError::Untrusted(Distrust::Link)),
            Err(error) => return Err(EntryError::Io(error.into())),
        };
        let facts = Facts::of(&file)?;
        facts.check_entry(this_user()).map_err(EntryError::Untrusted)?;
        if facts.bytes > bytes_max {
            return Err(EntryError::Large { found: facts.bytes, most: bytes_max });
        }
        Ok(Some((file, facts.bytes)))
    }

    /// Writes the entry of `key`, in place of what is there; returns how many bytes it has, or
    /// writes nothing where that is more than `bytes_max`. Blocks until the system has taken it,
    /// which the disk need not have then: an entry that a power failure tears does not verify.
    ///
    /// # Errors
    /// If it cannot be written; nothing of it stays then.
    pub(super) fn write(
        &self,
        key: &EntryKey,
        description: &ModuleDescription,
        artefact: &File,
        secret: &Secret,
        bytes_max: u64,
    ) -> Result<Option<u64>, EntryError> {
        let artefact_bytes = artefact.metadata()?.len();
        if artefact_bytes > bytes_max {
            return Ok(None);
        }
        let artefact = SealedBytes::of(artefact)?;
        let head = head(key, description, &artefact, secret)?;
        let bytes = head.len() as u64 + artefact_bytes;
        if bytes > bytes_max {
            return Ok(None);
        }
        check_file_bytes("write an entry of the cache", bytes)?;
        let (partial, mut file) = self.make_partial()?;
        let written = (|| {
            file.write_all(&head)?;
            file.write_all(&artefact)?;
            self.rename(&partial, &name_of(key))
        })();
        if let Err(error) = written {
            // One that stays is taken for unfinished later.
            let _ = rustix::fs::unlinkat(&self.descriptor, &partial, AtFlags::empty());
            return Err(error.into());
        }
        Ok(Some(bytes))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let rename = || rustix::fs::renameat(&self.descriptor, from, &self.descriptor, to);
        if rename() == Err(Errno::ISDIR) {
            // Somebody's folder in an entry's place; one with something in it stays.
            rustix::fs::unlinkat(&self.descriptor, to, AtFlags::REMOVEDIR)?;
            rename()?;
        }
        Ok(())
    }

    /// Makes the entry of `key` the one used last.
    pub(super) fn touch(&self, key: &EntryKey) -> io::Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        let name = name_of(key);
        Ok(rustix::fs::utimensat(&self.descriptor, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn make_partial(&self) -> io::Result<(String, File)> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("{PARTIAL}{}-{number}", std::process::id());
            match rustix::fs::openat(&self.descriptor, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => return Ok((name, File::from(file))),
                // Of a process that had this number before, or has it in another container.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What is there under the names of entries, without reading any of it.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub(super) fn list(&self) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for name in self.names()? {
            // Gone since, or no entry.
            let (Some(key), Some((bytes, used))) = (key_of(&name), self.look_at(&name)) else {
                continue;
            };
            listed.push(Listed { key, bytes, used });
        }
        Ok(listed)
    }

    /// Removes what is there under the name of `key`; whether it was there.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(super) fn remove(&self, key: &EntryKey) -> io::Result<bool> {
        let name = name_of(key);
        match rustix::fs::unlinkat(&self.descriptor, &name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                rustix::fs::unlinkat(&self.descriptor, &name, AtFlags::REMOVEDIR)?;
                Ok(true)
            }
            Err(Errno::NOENT) => Ok(false),
            other => Ok(other.map(|()| true)?),
        }
    }

    /// Removes unfinished files that were started more than an hour before `now`.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub(super) fn remove_unfinished(&self, now: SystemTime) -> io::Result<()> {
        for name in self.names()?.iter().filter(|name| name.starts_with(PARTIAL)) {
            let age = self.look_at(name).and_then(|(_, begun)| now.duration_since(begun).ok());
            if age.is_some_and(|age| age > PARTIAL_AGE_MAX) {
                // Another process may do the same at this moment.
                let _ = rustix::fs::unlinkat(&self.descriptor, name, AtFlags::empty());
            }
        }
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.descriptor)? {
            // Names of ours are text.
            names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
        }
        Ok(names)
    }

    /// Size and time of last change, of a link its own.
    fn look_at(&self, name: &str) -> Option<(u64, SystemTime)> {
        let stat = rustix::fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        // A directory in an entry's place takes none of the entries' room.
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let bytes = if is_file { u64::try_from(stat.st_size).ok()? } else { 0 };
        let seconds = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
        // Its type differs between architectures.
        #[allow(clippy::useless_conversion)]
        let rest = Duration::from_nanos(u64::try_from(stat.st_mtime_nsec).unwrap_or(0));
        Some((bytes, SystemTime::UNIX_EPOCH.checked_add(seconds + rest)?))
    }
}

/// Whether this process may write so many bytes. Beyond the limit on file lengths a signal would
/// end it.
fn check_file_bytes(task: &str, bytes: u64) -> Result<(), EntryError> {
    machine::check_file_bytes(task, bytes).map_err(|error| EntryError::Io(io::Error::other(error)))
}

/// Verifies an open entry of `bytes` and passes its artefact on, piece by piece, which is of no use before
/// this returns. Reads every byte of it once, so that nothing can be checked in one state and used in
/// another.
fn read_once(
    mut file: File,
    bytes: u64,
    key: &EntryKey,
    secret: &Secret,
    mut pass_on: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<ModuleDescription, EntryError> {
    if bytes < HEADER_BYTES as u64 {
        return Err(EntryError::Size(bytes));
    }
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header)?;
    let header = Header::parse(header, bytes, key)?;
    let mut description = vec![0; header.description_bytes];
    file.read_exact(&mut description)?;
    let mut file = file.take(header.artefact_bytes);
    let mut check = header.check(description, secret);
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                check.add(&buffer[..read]);
                pass_on(&buffer[..read])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    check.finish()
}

/// The file name of an entry.
pub(super) fn name_of(key: &EntryKey) -> String {
    format!("{}{SUFFIX}", blake3::Hash::from_bytes(key.0).to_hex())
}

/// The key in an entry's file name; `None` where it is no entry's.
fn key_of(name: &str) -> Option<EntryKey> {
    let key = EntryKey(*blake3::Hash::from_hex(name.strip_suffix(SUFFIX)?).ok()?.as_bytes());
    // Upper-case digits would be another file of the same key.
    (name_of(&key) == name).then_some(key)
}

#[cfg(test)]
mod tests;

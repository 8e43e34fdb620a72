//! Atomic files: written under another name or none, and named once they are complete.
//!
//! Until then a file has no name if the file system supports that (`O_TMPFILE`), so that a kill
//! leaves nothing behind; otherwise it has a temporary name.
//!
//! A file is written in place if it is not a regular file (a pipe, a device), has other hard links, belongs
//! to another user, or lies in a directory where no file can be created.
//!
//! Invariant: an unfinished file leaves nothing behind.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat};
use rustix::io::Errno;

use crate::streams::{self, Waiting};

/// Writes the file `path`.
///
/// # Errors
/// What the system refuses.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = Aside::create(path)?;
    file.write_all(bytes)?;
    file.finish()
}

/// A file that is being written, and is removed if it is not finished.
#[derive(Debug)]
pub(crate) struct Aside {
    file: Waiting<File>,
    /// The path to remove if it is not finished.
    unfinished: Option<PathBuf>,
    /// The final path, if the file has a temporary name or none.
    renamed: Option<PathBuf>,
}

impl Aside {
    /// Starts to write the file `path`.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        if let Some(stream) = streams::named(path)? {
            return Ok(Self { file: Waiting(stream), unfinished: None, renamed: None });
        }
        let there = fs::metadata(path);
        let is_own = |data: &fs::Metadata| {
            data.is_file() && data.nlink() == 1 && data.uid() == rustix::process::geteuid().as_raw()
        };
        // The target of a link is written; the link is not replaced.
        let real = match &there {
            Ok(data) if is_own(data) => path.canonicalize()?,
            Err(_) if fs::symlink_metadata(path).is_err() => path.to_path_buf(),
            _ => return Self::in_place(path, there.is_err()),
        };
        let (file, unfinished) = match unnamed(&real) {
            Some(file) => (file, None),
            None => {
                let partial = partial(&real);
                match OpenOptions::new().write(true).create_new(true).open(&partial) {
                    Ok(file) => (file, Some(partial)),
                    // No file can be created there, or the temporary name is too long.
                    Err(_) => return Self::in_place(path, there.is_err()),
                }
            }
        };
        if let Ok(data) = &there {
            // Where it may not, the file is as any new one.
            let _ = file.set_permissions(data.permissions());
        }
        Ok(Self { file: Waiting(file), unfinished, renamed: Some(real) })
    }

    fn in_place(path: &Path, is_new: bool) -> io::Result<Self> {
        let file = Waiting(File::create(path)?);
        Ok(Self { file, unfinished: is_new.then(|| path.to_path_buf()), renamed: None })
    }

    /// Renames the file to its final path.
    ///
    /// # Errors
    /// What the system refuses; then nothing new is left.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if let Some(real) = self.renamed.clone() {
            if self.unfinished.is_none() && !self.name(&real)? {
                return Ok(());
            }
            let partial = self.unfinished.as_ref();
            partial.map_or(Ok(()), |partial| fs::rename(partial, real))?;
        }
        self.unfinished = None;
        Ok(())
    }

    /// Names an unnamed file: `real`, or if that exists a temporary name, from which it is then
    /// renamed.
    fn name(&mut self, real: &Path) -> io::Result<bool> {
        let file = format!("{OWN_DESCRIPTORS}/{}", self.file.0.as_raw_fd());
        let link = |name: &Path| linkat(CWD, &file, CWD, name, AtFlags::SYMLINK_FOLLOW);
        match link(real) {
            Err(Errno::EXIST) => {
                let partial = partial(real);
                // Of a process that had this one's number.
                let _ = fs::remove_file(&partial);
                link(&partial)?;
                self.unfinished = Some(partial);
                Ok(true)
            }
            named => Ok(named.map(|()| false)?),
        }
    }
}

/// The path in `/proc` from which an unnamed file can be linked.
const OWN_DESCRIPTORS: &str = "/proc/self/fd";

/// A file without a name, to be named `real` or next to it; `None` where there are no such files.
fn unnamed(real: &Path) -> Option<File> {
    let folder = real.parent().filter(|folder| !folder.as_os_str().is_empty());
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o666);
    let file = rustix::fs::open(folder.unwrap_or(Path::new(".")), flags, mode).ok()?;
    Path::new(OWN_DESCRIPTORS).exists().then(|| file.into())
}

/// What the file `real` is called while it is written, or replaces another. Names may have 255 bytes.
fn partial(real: &Path) -> PathBuf {
    const KEPT_BYTES: usize = 200;
    let name = real.file_name().unwrap_or_default().as_bytes();
    let mut partial = OsStr::from_bytes(&name[..name.len().min(KEPT_BYTES)]).to_os_string();
    partial.push(format!(".partial-{}", std::process::id()));
    real.with_file_name(partial)
}

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(path) = &self.unfinished {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_that_is_not_finished_leaves_what_was_there() {
        let folder = std::env::temp_dir().join(format!("stockade-aside-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let (new, old, link) = (folder.join("new"), folder.join("old"), folder.join("link"));
        fs::write(&old, "old").unwrap();
        symlink("old", &link).unwrap();
        for path in [&new, &old, &link] {
            let mut file = Aside::create(path).unwrap();
            file.write_all(b"half").unwrap();
            // A kill here leaves nothing, where files may be without a name.
            let is_seen = names() != ["link", "old"];
            assert_eq!(is_seen, unnamed(path).is_none(), "{:?}", names());
        }
        assert_eq!(names(), ["link", "old"]);
        assert_eq!(fs::read(&old).unwrap(), b"old");

        write(&link, b"through").unwrap();
        write(&new, b"made").unwrap();
        assert_eq!(names(), ["link", "new", "old"]);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            (fs::read(&old).unwrap(), fs::read(&new).unwrap()),
            (b"through".to_vec(), b"made".to_vec())
        );

        // A name may be as long as any.
        let long = folder.join("x".repeat(255));
        for text in ["one", "two"] {
            write(&long, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&long).unwrap(), text);
        }
        assert_eq!(names().len(), 4);

        // A file with two names keeps both.
        let other = folder.join("other");
        fs::hard_link(&old, &other).unwrap();
        write(&old, b"both").unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"both");
        fs::remove_dir_all(&folder).unwrap();
    }
}

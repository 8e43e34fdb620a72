//! Files that only their owner may read, each there as a whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Makes the file `path` of what `write` writes. Replaces a file that is there once all is written.
///
/// # Errors
/// Whatever the file system or `write` says; nothing new is left then.
pub(crate) fn write(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut partial = OsString::from(path);
    partial.push(".partial");
    let make = || {
        let mut options = OpenOptions::new();
        // What an earlier attempt left may be anybody's.
        let _ = fs::remove_file(&partial);
        let mut file = options.write(true).create_new(true).mode(0o600).open(&partial)?;
        write(&mut file)?;
        fs::rename(&partial, path)
    };
    make().inspect_err(|_| {
        let _ = fs::remove_file(&partial);
    })
}

//! The cache's key file: 32 random bytes that only the cache's owner can read.
//!
//! Without this file nobody can make a valid entry. It is created once, if missing, outside the
//! cache, so that a copy of the cache does not contain the key.
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::entry::Secret;
use super::trust::{FILE_FLAGS, Facts, this_user};
use crate::outcome::cache_error::{CacheError, Distrust};

const SECRET_BYTES: usize = 32;

/// The default path of the key: in the user's state directory, see the XDG Base Directory
/// Specification.
pub(super) fn default_file() -> Result<PathBuf, CacheError> {
    file_in(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME"))
}

fn file_in(state: Option<OsString>, home: Option<OsString>) -> Result<PathBuf, CacheError> {
    // A relative path there is invalid and to be ignored.
    let absolute =
        |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute(state).or_else(|| Some(absolute(home)?.join(".local/state")));
    state.map(|state| state.join("stockade/cache.key")).ok_or(CacheError::NoKeyFile)
}

/// The folder of a key file, made where there is none, as it really is.
pub(super) fn folder_of(path: &Path) -> Result<PathBuf, CacheError> {
    let unusable = |error| CacheError::unusable(path, error);
    let path = std::path::absolute(path).map_err(unusable)?;
    let Some(parent) = path.parent() else {
        return Err(unusable(io::ErrorKind::IsADirectory.into()));
    };
    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(unusable)?;
    parent.canonicalize().map_err(unusable)
}

/// Reads the key file `path`, or makes it.
///
/// # Errors
/// [`CacheError`], where it cannot be read or made, or where somebody else could have.
pub(super) fn read_or_make(path: &Path) -> Result<Secret, CacheError> {
    let unusable = |error: io::Error| CacheError::unusable(path, error);
    let folder_path = folder_of(path)?;
    let name = path.file_name().ok_or_else(|| unusable(io::ErrorKind::InvalidInput.into()))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(&folder_path, flags, Mode::empty());
    let folder = folder.map_err(|error| unusable(error.into()))?;
    let trusted = Facts::of(&folder).map_err(unusable)?.check_parent(this_user());
    trusted.map_err(|why| CacheError::Untrusted { path: folder_path, why })?;

    let untrusted = |why| CacheError::Untrusted { path: path.to_path_buf(), why };
    let open = || match rustix::fs::openat(&folder, name, FILE_FLAGS, Mode::empty()) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP) => Err(untrusted(Distrust::Link)),
        Err(error) => Err(unusable(error.into())),
    };
    let file = match open()? {
        Some(file) => file,
        None => {
            make(&folder, name.as_ref()).map_err(unusable)?;
            open()?.ok_or_else(|| unusable(io::ErrorKind::NotFound.into()))?
        }
    };
    let facts = Facts::of(&file).map_err(unusable)?;
    facts.check_file(this_user()).map_err(untrusted)?;
    let mut bytes = Vec::with_capacity(SECRET_BYTES + 1);
    file.take(SECRET_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unusable)?;
    let bytes = bytes.try_into().map_err(|_| untrusted(Distrust::Length(facts.bytes)))?;
    Ok(Secret(bytes))
}

/// Atomically creates a key file: writes a temporary file, then links it to its name. If another
/// process is first, its key stays.
fn make(folder: &OwnedFd, name: &Path) -> io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let aside = format!("{}.{}-{number}", name.display(), std::process::id());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, &aside, flags, Mode::RUSR | Mode::WUSR)?;
    let made = (|| {
        let mut file = File::from(file);
        file.write_all(&random()?)?;
        // A key that a power failure emptied would be in the way of every later pool.
        file.sync_all()?;
        match rustix::fs::linkat(folder, &aside, folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    })();
    rustix::fs::unlinkat(folder, &aside, AtFlags::empty())?;
    made
}

fn random() -> io::Result<[u8; SECRET_BYTES]> {
    let mut bytes = [0; SECRET_BYTES];
    // SAFETY: writes at most `SECRET_BYTES` bytes to where there are as many. Blocks until the
    // system has been random enough once since it started.
    let written = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    match usize::try_from(written) {
        // Requests of up to 256 bytes are answered whole, see getrandom(2).
        Ok(SECRET_BYTES) => Ok(bytes),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::compile::cache::tests::Scratch;

    fn why_of(path: &Path) -> Distrust {
        match read_or_make(path) {
            Err(CacheError::Untrusted { why, .. }) => why,
            other => panic!("expected distrust, got {other:?}"),
        }
    }

    #[test]
    fn a_key_is_in_the_users_state_unless_there_is_no_place_for_it() {
        let file = |state: &str, home: &str| {
            file_in(Some(state.into()), Some(home.into()))
                .ok()
                .map(|path| path.display().to_string())
        };
        assert_eq!(file("/s", "/h").as_deref(), Some("/s/stockade/cache.key"));
        assert_eq!(file("", "/h").as_deref(), Some("/h/.local/state/stockade/cache.key"));
        assert_eq!(file("s", "/h").as_deref(), Some("/h/.local/state/stockade/cache.key"));
        assert_eq!(file("", "h"), None);
        assert!(matches!(file_in(None, None), Err(CacheError::NoKeyFile)));
    }

    #[test]
    fn a_key_is_made_once_for_its_owner_alone() {
        let scratch = Scratch::new();
        let path = scratch.path().join("state/stockade/cache.key");
        let made = read_or_make(&path).unwrap();
        assert_eq!(read_or_make(&path).unwrap(), made);
        assert_ne!(made.0, [0; 32]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else stays");
    }

    #[test]
    fn two_keys_differ() {
        let scratch = Scratch::new();
        let key = |name: &str| read_or_make(&scratch.path().join(name)).unwrap();
        assert_ne!(key("a"), key("b"));
    }

    #[test]
    fn threads_that_make_a_key_at_once_agree_on_it() {
        let scratch = Scratch::new();
        let path = scratch.path().join("cache.key");
        let made: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| read_or_make(&path).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(made.iter().all(|secret| *secret == made[0]));
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let scratch = Scratch::new();
        let path = scratch.path().join("cache.key");
        read_or_make(&path).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(why_of(&path), Distrust::Mode { found: mode, forbidden: 0o077 });
        }
    }

    #[test]
    fn a_key_where_others_may_replace_it_is_refused() {
        let scratch = Scratch::new();
        let folder = scratch.path().join("open");
        fs::create_dir(&folder).unwrap();
        for mode in [0o770, 0o702, 0o1777] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            let why = why_of(&folder.join("cache.key"));
            assert_eq!(why, Distrust::Mode { found: mode, forbidden: 0o022 });
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing was made there");
        }
    }

    #[test]
    fn a_link_a_pipe_or_a_folder_is_no_key() {
        let scratch = Scratch::new();
        let key = scratch.path().join("cache.key");
        read_or_make(&key).unwrap();
        let link = scratch.path().join("link");
        symlink(&key, &link).unwrap();
        assert_eq!(why_of(&link), Distrust::Link);
        let pipe = scratch.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        assert_eq!(why_of(&pipe), Distrust::Kind);
        let folder = scratch.path().join("folder");
        fs::create_dir(&folder).unwrap();
        assert_eq!(why_of(&folder), Distrust::Kind);
    }

    #[test]
    fn a_key_has_exactly_its_length() {
        let scratch = Scratch::new();
        for (length, fits) in [(0, false), (31, false), (32, true), (33, false)] {
            let path = scratch.path().join(format!("{length}.key"));
            fs::write(&path, vec![1; length]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            match fits {
                true => assert_eq!(read_or_make(&path).unwrap(), Secret([1; 32])),
                false => assert_eq!(why_of(&path), Distrust::Length(length as u64)),
            }
        }
    }

    #[test]
    fn a_key_of_another_user_is_refused() {
        let scratch = Scratch::new();
        let path = scratch.path().join("cache.key");
        read_or_make(&path).unwrap();
        if let Some(other) = scratch.give_away(&path) {
            assert_eq!(why_of(&path), Distrust::Owner { found: other, needed: this_user() });
        }
    }
}

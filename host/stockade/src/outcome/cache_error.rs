//! Why a cache cannot be used, or is not trusted.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a cache cannot be used.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The directory or the key file cannot be made, opened or read.
    #[error("cannot use {}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another user may have written the directory or the key file, or may read the key.
    #[error("{} cannot be trusted: {why}", path.display())]
    Untrusted {
        /// Which.
        path: PathBuf,
        /// Why.
        why: Distrust,
    },
    /// No key file was named, and neither `XDG_STATE_HOME` nor `HOME` says where it could be.
    #[error(
        "there is no place for the cache's key: set XDG_STATE_HOME or HOME, or name a file with \
         `.key_file(path)`"
    )]
    NoKeyFile,
    /// The key is inside the cache, or in a directory that guests may read.
    #[error("the cache's key {} lies inside {}", key.display(), directory.display())]
    KeyInside {
        /// The key file.
        key: PathBuf,
        /// The cache's directory, or one that guests were granted.
        directory: PathBuf,
    },
}

impl CacheError {
    pub(crate) fn unusable(path: &Path, error: impl Into<io::Error>) -> Self {
        Self::Unusable { path: path.to_path_buf(), source: error.into() }
    }

    /// The next step, as a sentence without a final stop; `None` if the text says it.
    pub fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::Unusable { .. } => Some("check the permissions of its directory, and the disk"),
            Self::Untrusted { .. } => {
                Some("give the cache a directory of this user alone (mode 0700), the key mode 0600")
            }
            Self::KeyInside { .. } => Some("name a file elsewhere, with `Cache::key_file`"),
            Self::NoKeyFile => None,
        }
    }
}

crate::base::shown::debug_as_text!(CacheError, CacheError::next_step);

/// Why a file or a directory is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Distrust {
    /// It is a symbolic link.
    Link,
    /// It is not a directory, or not a regular file, where one is needed.
    Kind,
    /// It belongs to another user.
    Owner {
        /// Whose it is.
        found: u32,
        /// Whose it must be.
        needed: u32,
    },
    /// Others may read or write it.
    Mode {
        /// Its permission bits.
        found: u32,
        /// Those it must not have.
        forbidden: u32,
    },
    /// It has this many hard links; other users may access it by another name.
    Names(u64),
    /// It does not have the length of a key.
    Length(u64),
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link => f.write_str("it is a symbolic link"),
            Self::Kind => f.write_str("it is not a file or directory of the needed kind"),
            Self::Owner { found, needed } => {
                write!(f, "it belongs to user {found}, but user {needed} is needed")
            }
            Self::Mode { found, forbidden } => {
                let allowed = found & !forbidden;
                write!(f, "other users have access: its mode is {found:04o}, not {allowed:04o}")
            }
            Self::Names(names) => write!(f, "it has {names} names, but only one is allowed"),
            Self::Length(bytes) => write!(f, "it has {bytes} bytes, a length that no key has"),
        }
    }
}

//! What a guest may reach beyond its own memory: nothing, unless it stands here.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::codec::{Decode, Encode};

/// What a pool's guests may reach. Fixed when a worker starts.
///
/// ```
/// use stockade_wire::Grants;
///
/// let grants = Grants::none().read_dir("/srv/data", "/data").env("LANG", "C.UTF-8");
/// assert_eq!(grants.directories().len(), 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Grants {
    directories: Vec<DirectoryGrant>,
    env: Vec<(String, String)>,
}

/// A directory of the host that guests see under a name of its own.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DirectoryGrant {
    /// Bytes of the path, which need not be UTF-8.
    host: Vec<u8>,
    /// The path under which guests find it.
    pub guest: String,
    /// Whether guests may also create, change and remove what is inside.
    pub writable: bool,
}

impl DirectoryGrant {
    /// The directory on the host.
    pub fn host(&self) -> PathBuf {
        PathBuf::from(OsString::from_vec(self.host.clone()))
    }
}

impl Grants {
    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Lets guests read the directory `host`, which they find as `guest`.
    #[must_use]
    pub fn read_dir(self, host: impl AsRef<Path>, guest: impl Into<String>) -> Self {
        self.directory(host.as_ref(), guest.into(), false)
    }

    /// Lets guests read and write the directory `host`, which they find as `guest`.
    #[must_use]
    pub fn write_dir(self, host: impl AsRef<Path>, guest: impl Into<String>) -> Self {
        self.directory(host.as_ref(), guest.into(), true)
    }

    /// Lets guests see the environment variable `name` with this `value`.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Directories, in the order in which they were granted.
    pub fn directories(&self) -> &[DirectoryGrant] {
        &self.directories
    }

    /// Environment variables, in the order in which they were granted.
    pub fn variables(&self) -> &[(String, String)] {
        &self.env
    }

    fn directory(mut self, host: &Path, guest: String, writable: bool) -> Self {
        let host = host.as_os_str().as_bytes().to_vec();
        self.directories.push(DirectoryGrant { host, guest, writable });
        self
    }
}

//! The artefact cache: keeps compiled modules for later pools.
//!
//! ```text
//! PoolBuilder ─► CachedCompiler ─┬─► EntryKey of program, request, module, domain
//! Preparation ─►                 ├─► Directory::read: copied and verified, sealed ─► fits? ─► artefact
//!                                └─► Compiler (a process) ─► artefact ─► Directory::write
//! ```
//!
//! An artefact is native code: an attacker who plants one is past the sandbox. So an entry is used
//! only if its MAC is right, keyed with a [`Secret`](entry::Secret) that is kept elsewhere.
//!
//! Invariants: an artefact from the cache is one that a compiler of the same program made of the same
//! bytes, with the same settings of its code, and its module is one that this request's limits admit.
//! A damaged entry costs only a compilation and a warning. If the directory or the key file is not
//! safe, the pool cannot be built, because no entry would be safe.
//!
//! Deliberately absent: snapshots of initialised modules. An initializer runs once in every pool and
//! may do something else each time, so an entry of what it left would seldom serve again. Locks:
//! entries are renamed into place, and processes that compile the same at once write the same.

use std::path::PathBuf;
use std::time::SystemTime;

use stockade_wire::Grants;

use crate::outcome::cache_error::CacheError;

mod compiler;
mod directory;
mod entry;
mod key;
mod program;
mod secret;
mod store;
mod trust;

pub(crate) use compiler::CachedCompiler;
#[cfg(feature = "fuzzing")]
pub(crate) use entry::{EntryKey, Secret, verify};

use directory::Directory;
use store::Store;

/// The default maximum of bytes of all entries together.
const BYTES_MAX_DEFAULT: u64 = 1 << 30;

/// A directory of compiled modules; see [`PoolBuilder::cache`](crate::PoolBuilder::cache).
///
/// ```standalone_crate
/// use stockade::{Cache, Pool};
///
/// # let folder = std::env::temp_dir().join(format!("stockade-doc-{}", std::process::id()));
/// # std::env::set_current_dir("../../target/wasm32-wasip1/guest")?;
/// let cache = Cache::in_directory(folder.join("artefacts")).key_file(folder.join("cache.key"));
///
/// // The first pool compiles its module; those after it, in this program or another, do not.
/// for _ in 0..2 {
///     let pool = Pool::builder()
///         .module("wordcount.wasm")
///         .cache(cache.clone())
/// #       .worker_program(stockade::WorkerProgram::Path("../../debug/stockade-worker".into()))
///         .build()?;
///     assert_eq!(pool.run::<u64>("word_count", ("to be or not to be",))?, 6);
/// }
///
/// assert_eq!(cache.entries()?.len(), 1);
/// assert!(cache.verify()?.iter().all(|check| check.problem.is_none()));
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What is kept
/// The compiled form of each module with its description, for exactly this module, worker program,
/// processor, and settings that affect code. These settings are
/// [`interruptible`](crate::Limits::interruptible), whether there is [`fuel`](crate::Limits::fuel)
/// and a [`deterministic`](crate::Limits::deterministic) seed,
/// [`features`](crate::PoolBuilder::features) and whether there are
/// [`coredumps`](crate::PoolBuilder::coredumps); no other limit does. A module that exceeds a
/// pool's limits is refused, also if its code is in the cache; limits on compiling apply when it is
/// compiled. A pool whose modules have no initializer, or
/// [`Instances::PerWorker`](crate::Instances::PerWorker), starts no compiler process if all modules
/// are cached. With an initializer and [`Instances::PerTask`](crate::Instances::PerTask) one
/// process remains: the initializer runs once in every pool, and the initialised module is
/// compiled. The worker program is identified by its build id, or if it has none by a hash of its
/// whole file, which takes longer. If it is a script that starts another program, clear the cache
/// when that program changes.
///
/// # What is trusted
/// The directory must belong to this process's user, have mode 0700, and not be a symbolic link;
/// the key file likewise with mode 0600, in a folder that only its owner may write. Both are
/// created if missing. Otherwise [`build`](crate::PoolBuilder::build) fails.
///
/// An entry is used only if its MAC is right, which nobody can make without the key. An entry that
/// was changed, truncated, linked or moved from elsewhere, or that belongs to another user, is not
/// used: its module is compiled again, the entry is replaced, and a `tracing` event at the level
/// `WARN` reports it. An entry that cannot be written is reported too. The key must be outside all
/// granted directories, which is checked; it is as safe as this user's other files.
///
/// Any number of processes may use one cache at once.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
    key_file: Option<PathBuf>,
    domain: String,
    bytes_max: u64,
}

/// An entry of a [`Cache`], or another file in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheEntry {
    /// Its file's name in the cache's directory.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last written or used.
    pub last_used: SystemTime,
}

/// The result of [`Cache::verify`] for one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheCheck {
    /// The entry.
    pub entry: CacheEntry,
    /// Why it would not be used; `None` if it is valid.
    pub problem: Option<String>,
}

impl Cache {
    /// A cache in the directory `path`, which is created with mode 0700 if missing.
    pub fn in_directory(path: impl Into<PathBuf>) -> Self {
        Self {
            directory: path.into(),
            key_file: None,
            domain: "default".into(),
            bytes_max: BYTES_MAX_DEFAULT,
        }
    }

    /// Keeps the key in the file `path`, which is created if missing and must be outside the
    /// cache's directory. Default: `stockade/cache.key` in `$XDG_STATE_HOME`, else in
    /// `~/.local/state`.
    #[must_use]
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.key_file = Some(path.into());
        self
    }

    /// Names the domain of trust: pools of different domains share no entries, not even of the same
    /// module. Default: `default`.
    #[must_use]
    pub fn domain(mut self, name: impl Into<String>) -> Self {
        self.domain = name.into();
        self
    }

    /// The maximum of bytes of all entries together; beyond it the least recently used are removed.
    /// A larger entry is not kept. Default: 1 GiB, the default maximum of a module's
    /// [code](crate::CompileLimits::artefact_bytes).
    #[must_use]
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// The entries in the cache's directory, of every domain, least recently used first. Does not
    /// read them.
    ///
    /// # Errors
    /// [`CacheError`], as for [`build`](crate::PoolBuilder::build), and if there is no directory.
    pub fn entries(&self) -> Result<Vec<CacheEntry>, CacheError> {
        let directory = Directory::open(&self.directory)?;
        Ok(self.list(&directory)?.iter().map(CacheEntry::of).collect())
    }

    /// Removes every entry, of every domain, and returns their number. Running pools are not
    /// affected.
    ///
    /// # Errors
    /// [`CacheError`], as for [`entries`](Self::entries); some entries may be removed then.
    pub fn clear(&self) -> Result<usize, CacheError> {
        let directory = Directory::open(&self.directory)?;
        let unusable = |error| CacheError::unusable(&self.directory, error);
        let mut removed = 0;
        for listed in self.list(&directory)? {
            removed += usize::from(directory.remove(&listed.key).map_err(unusable)?);
        }
        Ok(removed)
    }

    /// Reads and verifies every entry, of every domain, and changes none. Blocks until all are
    /// read.
    ///
    /// # Errors
    /// [`CacheError`], as for [`entries`](Self::entries). A damaged entry is not an error.
    pub fn verify(&self) -> Result<Vec<CacheCheck>, CacheError> {
        Directory::open(&self.directory)?;
        let store = self.open(&Grants::none())?;
        let checks = self.list(store.directory())?.into_iter().filter_map(|listed| {
            // One that is gone was removed by another process meanwhile.
            let problem = store.verify(&listed.key)?.err().map(|error| error.to_string());
            Some(CacheCheck { entry: CacheEntry::of(&listed), problem })
        });
        Ok(checks.collect())
    }

    /// Opens the directory and the key, for a pool whose guests get `grants`.
    pub(crate) fn open(&self, grants: &Grants) -> Result<Store, CacheError> {
        let directory = Directory::open_or_make(&self.directory)?;
        let key = match &self.key_file {
            Some(path) => path.clone(),
            None => secret::default_file()?,
        };
        let folder = secret::folder_of(&key)?;
        let granted = grants.directories().iter().map(|grant| grant.host());
        for outside in std::iter::once(self.directory.clone()).chain(granted) {
            let real = outside.canonicalize();
            let real = real.map_err(|error| CacheError::unusable(&outside, error))?;
            if folder.starts_with(real) {
                return Err(CacheError::KeyInside { key, directory: outside });
            }
        }
        let secret = secret::read_or_make(&key)?;
        Ok(Store::new(directory, secret, self.domain.clone(), self.bytes_max))
    }

    fn list(&self, directory: &Directory) -> Result<Vec<directory::Listed>, CacheError> {
        let listed = directory.list();
        let mut listed = listed.map_err(|error| CacheError::unusable(&self.directory, error))?;
        listed.sort_by_key(|listed| listed.used);
        Ok(listed)
    }
}

impl CacheEntry {
    fn of(listed: &directory::Listed) -> Self {
        let name = directory::name_of(&listed.key);
        Self { name, bytes: listed.bytes, last_used: listed.used }
    }
}

#[cfg(test)]
mod tests;

//! The artefact cache: what was compiled once need not be compiled again by the next pool.
//!
//! ```text
//! PoolBuilder ─► CachedCompiler ─┬─► EntryKey of program, request, module, domain
//! Preparation ─►                 ├─► Directory::read: copied and verified, sealed ─► fits? ─► artefact
//!                                └─► Compiler (a process) ─► artefact ─► Directory::write
//! ```
//!
//! An artefact is native code: whoever plants one is past the sandbox. So an entry counts for nothing
//! unless its code is right, keyed with a [`Secret`](entry::Secret) that does not lie with it.
//!
//! Invariants: an artefact from the cache is one that a compiler of the same program made of the same
//! bytes, with the same settings of its code, and its module is one that this request's limits admit.
//! Whatever is wrong with an entry costs a compilation and a warning, and nothing else; whatever is wrong
//! with the directory or the key file keeps the pool from being built, because it would cost the safety
//! of every entry.
//!
//! Deliberately absent: snapshots of initialised modules. An initializer runs once in every pool and
//! may do something else each time, so an entry of what it left would seldom serve again. Locks:
//! entries are renamed into place, and processes that compile the same at once write the same.

use std::path::PathBuf;
use std::time::SystemTime;

use stockade_wire::Grants;

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
pub use trust::{CacheError, Distrust};

use directory::Directory;
use store::Store;

/// The most bytes of all entries together, unless the program says otherwise.
const BYTES_MAX_DEFAULT: u64 = 1 << 30;

/// Where artefacts are kept between pools; see [`PoolBuilder::cache`](crate::PoolBuilder::cache).
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
/// The compiled form of each module with its description, for the very module, settings that shape
/// code, worker program and processor. What shapes code are
/// [`interruptible`](crate::Limits::interruptible), whether there is
/// [`fuel`](crate::Limits::fuel) and a [`deterministic`](crate::Limits::deterministic) seed,
/// [`features`](crate::PoolBuilder::features) and whether there are
/// [`coredumps`](crate::PoolBuilder::coredumps); no other limit does. A module whose needs are beyond the
/// limits of a pool is refused by it, whether its code is in the cache or not; limits on compiling it
/// hold where it is compiled. A pool whose modules have no initializer, or
/// [`Instances::PerWorker`](crate::Instances::PerWorker), starts without one compiler process where
/// all of it is there. With an initializer and
/// [`Instances::PerTask`](crate::Instances::PerTask) one remains: the initializer still runs once in
/// every pool, and what it left is compiled. The worker program is known by the build id that its linker
/// gave it, and by what its whole file holds where it has none, which takes longer to find out. Where it
/// is a script that starts another program, empty the cache when the other changes.
///
/// # What is trusted
/// The directory must belong to this process's user, with mode 0700, and be no symbolic link; the
/// key file likewise with mode 0600, in a folder that only its owner writes. Both are made where
/// there are none. Anything else is an error of [`build`](crate::PoolBuilder::build).
///
/// An entry is believed only with a code that nobody can make without the key. One that was changed,
/// cut off, linked, moved from elsewhere, or that belongs to another is not used: its module is
/// compiled again, the entry is replaced, and a `tracing` event at the level `WARN` tells. Likewise
/// where an entry cannot be written. The key must stay out of what guests are granted, and it is
/// checked that it does; it is as safe as this user's other files.
///
/// Any number of processes may use one cache at once.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
    key_file: Option<PathBuf>,
    domain: String,
    bytes_max: u64,
}

/// An entry of a [`Cache`], or what lies in the place of one.
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

/// What [`Cache::verify`] found of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheCheck {
    /// The entry.
    pub entry: CacheEntry,
    /// Why it would not be used; `None` where it is as it was written.
    pub problem: Option<String>,
}

impl Cache {
    /// A cache in the directory `path`, which is made with mode 0700 where there is none.
    pub fn in_directory(path: impl Into<PathBuf>) -> Self {
        Self {
            directory: path.into(),
            key_file: None,
            domain: "default".into(),
            bytes_max: BYTES_MAX_DEFAULT,
        }
    }

    /// Keeps the key in the file `path`, which is made where there is none and must lie outside the
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

    /// The most bytes of all entries together; those that were not used for longest are removed
    /// beyond it. An entry larger than that is not kept. Default: 1 GiB, as many as a module's
    /// code [may have](crate::CompileLimits::artefact_bytes).
    #[must_use]
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// What is in the cache's directory, of every domain, the least lately used first. Nothing of it
    /// is read.
    ///
    /// # Errors
    /// [`CacheError`], as for [`build`](crate::PoolBuilder::build), and where there is no directory.
    pub fn entries(&self) -> Result<Vec<CacheEntry>, CacheError> {
        let directory = Directory::open(&self.directory)?;
        Ok(self.list(&directory)?.iter().map(CacheEntry::of).collect())
    }

    /// Removes every entry, of every domain; says how many. Pools that run are not disturbed.
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

    /// Reads and verifies every entry, of every domain, and changes none. Blocks for as long as
    /// reading them takes.
    ///
    /// # Errors
    /// [`CacheError`], as for [`entries`](Self::entries). An entry that is wrong is no error.
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

//! The store: an open cache, which handles damaged, missing and superfluous entries.

use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use stockade_wire::{CompileLimits, CompileRequest, ModuleDescription};

use super::directory::{Directory, Listed, name_of};
use super::entry::{EntryError, EntryKey, Secret, entry_bytes_max};
use super::program::{self, ProgramId};
use crate::compile::compiler::ModuleHash;

/// What programs filter by: it stays, wherever this file is.
const TARGET: &str = "stockade::cache";

/// An open cache. Nothing that goes wrong in it keeps a module from being compiled.
#[derive(Debug)]
pub(crate) struct Store {
    directory: Directory,
    secret: Secret,
    domain: String,
    bytes_max: u64,
}

impl Store {
    pub(super) fn new(
        directory: Directory,
        secret: Secret,
        domain: String,
        bytes_max: u64,
    ) -> Self {
        Self { directory, secret, domain, bytes_max }
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The identity of the worker program, and the key of what it makes of the module of the hash
    /// `module`; `None`, with a warning, where one of them is not available.
    pub(super) fn key(
        &self,
        program: &Path,
        request: &CompileRequest,
        module: &ModuleHash,
    ) -> Option<(ProgramId, EntryKey)> {
        let shown = program.display();
        let id = program::identify(program).inspect_err(|error| {
            tracing::warn!(target: TARGET, program = %shown, %error, "cannot identify the worker program: nothing is cached");
        });
        let id = id.ok()?;
        let key = super::key::key(&self.domain, &id, request, module);
        let key = key.inspect_err(
            |error| tracing::warn!(target: TARGET, %error, "cannot identify a module: it is not cached"),
        );
        Some((id, key.ok()?))
    }

    /// The description and the artefact, sealed, in the entry of `key`, if there is one to believe
    /// whose artefact has at most `artefact_bytes_max`.
    pub(super) fn lookup(
        &self,
        key: &EntryKey,
        artefact_bytes_max: u64,
    ) -> Option<(ModuleDescription, File)> {
        let entry = name_of(key);
        let directory = self.directory.path().display();
        match self.directory.read(key, &self.secret, entry_bytes_max(artefact_bytes_max)) {
            Ok(Some(found)) => {
                tracing::debug!(target: TARGET, %directory, entry, "a module is taken from the cache");
                // So that what is used stays longest. One that cannot be touched is as good.
                let _ = self.directory.touch(key);
                Some(found)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(target: TARGET, %directory, entry, %error, "ignored a cache entry: its module is compiled again");
                None
            }
        }
    }

    /// Why the entry of `key` would not be used; `None` where it is gone.
    pub(super) fn verify(&self, key: &EntryKey) -> Option<Result<(), EntryError>> {
        let compiled = entry_bytes_max(CompileLimits::default().artefact_bytes);
        let bytes_max = self.bytes_max.max(compiled);
        let verified = self.directory.verify(key, &self.secret, bytes_max);
        verified.map(|is_there| is_there.then_some(())).transpose()
    }

    /// Keeps what was made for `key` by what was `program`, if it still is: where its file was
    /// replaced meanwhile, nobody knows which of the two made it.
    pub(super) fn keep(
        &self,
        program: &Path,
        (id, key): (ProgramId, EntryKey),
        description: &ModuleDescription,
        artefact: &File,
    ) {
        if program::identify(program).is_ok_and(|now| now == id) {
            self.insert(&key, description, artefact);
        }
    }

    /// Keeps what was compiled for `key`, if there is room for it.
    pub(super) fn insert(&self, key: &EntryKey, description: &ModuleDescription, artefact: &File) {
        let entry = name_of(key);
        let directory = self.directory.path().display();
        let kept = (|| {
            let written =
                self.directory.write(key, description, artefact, &self.secret, self.bytes_max)?;
            let Some(bytes) = written else {
                tracing::debug!(target: TARGET, %directory, entry, "a module is too large for the cache");
                return Ok(());
            };
            tracing::debug!(target: TARGET, %directory, entry, bytes, "a module was put into the cache");
            self.make_room(key)
        })();
        if let Err(error) = kept {
            tracing::warn!(target: TARGET, %directory, entry, %error, "cannot keep a module in the cache");
        }
    }

    /// Removes the least recently used entries until the rest fits, and old unfinished files.
    fn make_room(&self, newest: &EntryKey) -> Result<(), EntryError> {
        self.directory.remove_unfinished(SystemTime::now())?;
        for key in beyond(self.directory.list()?, newest, self.bytes_max) {
            self.directory.remove(&key)?;
            let directory = self.directory.path().display();
            tracing::debug!(target: TARGET, %directory, entry = name_of(&key), "removed a cache entry for room");
        }
        Ok(())
    }
}

/// Entries that do not fit into `bytes_max` besides those used later. `newest` counts as used last.
fn beyond(mut listed: Vec<Listed>, newest: &EntryKey, bytes_max: u64) -> Vec<EntryKey> {
    listed.sort_by_key(|listed| (listed.key != *newest, std::cmp::Reverse(listed.used)));
    let mut total = 0_u64;
    let too_many = listed.into_iter().skip_while(|listed| {
        total = total.saturating_add(listed.bytes);
        total <= bytes_max
    });
    too_many.map(|listed| listed.key).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn listed(number: u8, bytes: u64, used: u64) -> Listed {
        let used = SystemTime::UNIX_EPOCH + Duration::from_secs(used);
        Listed { key: EntryKey([number; 32]), bytes, used }
    }

    fn removed(entries: &[Listed], newest: u8, bytes_max: u64) -> Vec<u8> {
        let keys = beyond(entries.to_vec(), &EntryKey([newest; 32]), bytes_max);
        keys.iter().map(|key| key.0[0]).collect()
    }

    #[test]
    fn entries_that_fit_exactly_stay() {
        let entries = [listed(1, 10, 1), listed(2, 20, 2), listed(3, 30, 3)];
        assert_eq!(removed(&entries, 3, 60), [0; 0]);
        assert_eq!(removed(&entries, 3, 59), [1]);
        assert_eq!(removed(&entries, 3, 50), [1]);
        assert_eq!(removed(&entries, 3, 49), [2, 1]);
        assert_eq!(removed(&[], 3, 0), [0; 0]);
    }

    #[test]
    fn what_was_just_written_goes_last_whatever_the_clock_says() {
        let entries = [listed(1, 10, 900), listed(2, 10, 100)];
        assert_eq!(removed(&entries, 2, 10), [1]);
        assert_eq!(removed(&entries, 2, 9), [2, 1]);
    }

    #[test]
    fn sizes_that_no_disk_has_do_not_wrap() {
        let entries = [listed(1, u64::MAX, 1), listed(2, u64::MAX, 2)];
        assert_eq!(removed(&entries, 2, u64::MAX - 1), [2, 1]);
        assert_eq!(removed(&entries, 2, u64::MAX), [0; 0]);
    }
}

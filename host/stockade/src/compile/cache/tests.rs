//! A folder for the cache's tests, and the cache as its owner handles it.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use stockade_wire::{ModuleDescription, descriptor};

use super::entry::EntryKey;
use super::*;

/// A folder with mode 0700, removed with what is in it when dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("stockade-cache-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes `path` another user's and says whose; `None` where this user may not.
    pub(super) fn give_away(&self, path: &Path) -> Option<u32> {
        let other = trust::this_user() + 1;
        std::os::unix::fs::lchown(path, Some(other), None).ok().map(|()| other)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn cache(scratch: &Scratch) -> Cache {
    let at = |name| scratch.path().join(name);
    Cache::in_directory(at("cache")).key_file(at("cache.key"))
}

fn store(scratch: &Scratch) -> Store {
    cache(scratch).open(&Grants::none()).unwrap()
}

/// Puts an entry of so many bytes of artefact into the store.
fn insert(store: &Store, number: u8, bytes: usize) -> EntryKey {
    let key = EntryKey([number; 32]);
    let artefact = descriptor::sealed_file("test", &vec![number; bytes]).unwrap();
    store.insert(&key, &ModuleDescription::default(), &artefact);
    key
}

#[track_caller]
fn key_is_inside(cache: &Cache, grants: &Grants) -> PathBuf {
    match cache.open(grants) {
        Err(CacheError::KeyInside { directory, .. }) => directory,
        other => panic!("expected a key inside, got {other:?}"),
    }
}

#[test]
fn a_key_inside_the_cache_is_refused_however_it_gets_there() {
    let scratch = Scratch::new();
    let directory = scratch.path().join("cache");
    let inside = cache(&scratch).key_file(directory.join("cache.key"));
    assert_eq!(key_is_inside(&inside, &Grants::none()), directory);
    let deeper = cache(&scratch).key_file(directory.join("a/b/cache.key"));
    key_is_inside(&deeper, &Grants::none());
    let link = scratch.path().join("link");
    symlink(&directory, &link).unwrap();
    key_is_inside(&cache(&scratch).key_file(link.join("cache.key")), &Grants::none());
    assert!(!directory.join("cache.key").exists());
    // Next to it, under a name that begins alike.
    cache(&scratch).key_file(scratch.path().join("cache2/key")).open(&Grants::none()).unwrap();
}

#[test]
fn a_key_that_guests_could_read_is_refused() {
    let scratch = Scratch::new();
    let granted = scratch.path().join("granted");
    fs::create_dir_all(granted.join("deep")).unwrap();
    fs::set_permissions(granted.join("deep"), fs::Permissions::from_mode(0o700)).unwrap();
    let inside = cache(&scratch).key_file(granted.join("deep/cache.key"));
    let grants = Grants::none().read_dir(&granted, "/data");
    assert_eq!(key_is_inside(&inside, &grants), granted);
    inside.open(&Grants::none()).unwrap();
    cache(&scratch).open(&grants).unwrap();
}

#[test]
fn entries_are_listed_verified_and_cleared_whatever_their_domain() {
    let scratch = Scratch::new();
    let cache = cache(&scratch);
    let store = store(&scratch);
    let first = insert(&store, 1, 100);
    insert(&store, 2, 200);
    let names: Vec<_> = cache.entries().unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), 2);
    let problems = || -> Vec<_> {
        let checks = cache.clone().domain("other").verify().unwrap();
        checks.into_iter().filter_map(|check| Some((check.entry.name, check.problem?))).collect()
    };
    assert_eq!(problems(), []);

    let path = scratch.path().join("cache").join(directory::name_of(&first));
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let [(name, problem)] = &problems()[..] else { panic!("one entry is wrong") };
    assert_eq!(*name, directory::name_of(&first));
    assert!(problem.contains("authentication code"), "{problem}");
    assert!(path.exists(), "verifying changes nothing");

    assert_eq!(cache.clear().unwrap(), 2);
    assert_eq!(cache.clear().unwrap(), 0);
    assert_eq!(cache.entries().unwrap(), []);
}

#[test]
fn the_least_lately_used_entries_make_room_for_a_new_one() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let keys = [insert(&store, 1, 1000), insert(&store, 2, 1000)];
    let one = cache(&scratch).entries().unwrap()[0].bytes;
    for (age, key) in [(20, &keys[0]), (10, &keys[1])] {
        let path = scratch.path().join("cache").join(directory::name_of(key));
        let then = SystemTime::now() - std::time::Duration::from_secs(age);
        fs::File::open(path).unwrap().set_modified(then).unwrap();
    }
    // Used after all: so the other goes.
    assert!(store.lookup(&keys[0], u64::MAX).is_some());
    let small = cache(&scratch).bytes_max(2 * one).open(&Grants::none()).unwrap();
    let newest = insert(&small, 3, 1000);
    let there = [keys[0], keys[1], newest].map(|key| small.lookup(&key, u64::MAX).is_some());
    assert_eq!(there, [true, false, true]);
}

#[test]
fn an_entry_larger_than_the_whole_cache_is_not_kept_and_costs_no_other() {
    let scratch = Scratch::new();
    let first = insert(&store(&scratch), 1, 1000);
    let bytes = cache(&scratch).entries().unwrap()[0].bytes;
    let small = |bytes| cache(&scratch).bytes_max(bytes).open(&Grants::none()).unwrap();
    let second = insert(&small(bytes - 1), 2, 1000);
    let there = || [first, second].map(|key| store(&scratch).lookup(&key, u64::MAX).is_some());
    assert_eq!(there(), [true, false]);
    insert(&small(bytes), 2, 1000);
    assert_eq!(there(), [false, true]);
}

#[test]
fn an_artefact_is_kept_as_long_as_the_cache_has_room_for_it() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let key = EntryKey([1; 32]);
    // Far more than any of these tests' others, and nothing but a hole on the side of memory.
    let artefact = descriptor::memory_file("test").unwrap();
    artefact.set_len(300 << 20).unwrap();
    descriptor::seal(&artefact).unwrap();
    store.insert(&key, &ModuleDescription::default(), &artefact);
    let (_, found) = store.lookup(&key, 300 << 20).unwrap();
    assert_eq!(found.metadata().unwrap().len(), 300 << 20);
    // One of a smaller limit does not even read it.
    assert!(store.lookup(&key, 200 << 20).is_none());
    // A cache that would not keep it uses what is there.
    let small = cache(&scratch).bytes_max(300 << 20).open(&Grants::none()).unwrap();
    assert!(small.lookup(&key, u64::MAX).is_some());
    let checks = cache(&scratch).bytes_max(1).verify().unwrap();
    assert_eq!(checks.iter().map(|check| check.problem.clone()).collect::<Vec<_>>(), [None]);
}

#[test]
fn what_a_program_made_that_was_replaced_meanwhile_is_not_kept() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let program = scratch.path().join("program");
    fs::write(&program, "one").unwrap();
    let id = program::identify(&program).unwrap();
    let artefact = descriptor::sealed_file("test", b"code").unwrap();
    let keep = |number| {
        let key = EntryKey([number; 32]);
        store.keep(&program, (id, key), &ModuleDescription::default(), &artefact);
        store.lookup(&key, u64::MAX).is_some()
    };
    assert!(keep(1));
    fs::write(&program, "two").unwrap();
    assert!(!keep(2));
    fs::remove_file(&program).unwrap();
    assert!(!keep(3));
}

#[test]
fn a_cache_that_is_only_looked_at_is_not_made() {
    let scratch = Scratch::new();
    let cache = cache(&scratch);
    let missing = |error| match error {
        CacheError::Unusable { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    };
    assert!(missing(cache.entries().unwrap_err()));
    assert!(missing(cache.clear().unwrap_err()));
    assert!(missing(cache.verify().unwrap_err()));
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

//! Entries on a real disk, and what somebody may put in the place of one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::compile::cache::tests::Scratch;

const KEY: EntryKey = EntryKey([7; 32]);
const OTHER: EntryKey = EntryKey([8; 32]);
const SECRET: Secret = Secret([9; 32]);

/// The most bytes that these tests read.
const ENTRY_BYTES_MAX: u64 = 1 << 20;

/// A cache of one entry.
struct Cache {
    scratch: Scratch,
    directory: Directory,
}

impl Cache {
    fn new() -> Self {
        let scratch = Scratch::new();
        let directory = Directory::open_or_make(&scratch.path().join("cache")).unwrap();
        let cache = Self { scratch, directory };
        cache.write(&KEY, "right");
        cache
    }

    /// An entry whose description and artefact both say `what`.
    fn write(&self, key: &EntryKey, what: &str) {
        let artefact = descriptor::sealed_file("test", what.as_bytes()).unwrap();
        self.directory.write(key, &description(what), &artefact, &SECRET, u64::MAX).unwrap();
    }

    fn entry(&self, key: &EntryKey) -> PathBuf {
        self.directory.path().join(name_of(key))
    }

    fn read(&self) -> Result<Option<String>, EntryError> {
        let read = self.directory.read(&KEY, &SECRET, ENTRY_BYTES_MAX)?;
        Ok(read.map(|(description, artefact)| {
            assert!(descriptor::is_sealed(&artefact));
            let artefact = SealedBytes::of(&artefact).unwrap().to_vec();
            let artefact = String::from_utf8(artefact).unwrap();
            assert_eq!(description.warnings, std::slice::from_ref(&artefact));
            artefact
        }))
    }

    #[track_caller]
    fn distrust(&self) -> Distrust {
        match self.read() {
            Err(EntryError::Untrusted(why)) => why,
            other => panic!("expected distrust, got {other:?}"),
        }
    }

    fn files(&self) -> usize {
        fs::read_dir(self.directory.path()).unwrap().count()
    }
}

fn description(what: &str) -> ModuleDescription {
    ModuleDescription { warnings: vec![what.into()], ..ModuleDescription::default() }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[track_caller]
fn refusal_of(path: &Path) -> Distrust {
    match Directory::open_or_make(path) {
        Err(CacheError::Untrusted { why, .. }) => why,
        other => panic!("expected distrust, got {other:?}"),
    }
}

#[test]
fn an_entry_comes_back_sealed_and_as_it_was_written() {
    let cache = Cache::new();
    assert_eq!(cache.read().unwrap().as_deref(), Some("right"));
    assert!(cache.directory.read(&OTHER, &SECRET, ENTRY_BYTES_MAX).unwrap().is_none());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(cache.directory.path()), 0o700);
    assert_eq!(mode(&cache.entry(&KEY)), 0o600);
}

#[test]
fn an_entry_that_is_written_again_is_replaced() {
    let cache = Cache::new();
    cache.write(&KEY, "newer");
    assert_eq!(cache.read().unwrap().as_deref(), Some("newer"));
    assert_eq!(cache.files(), 1);
}

#[test]
fn a_link_is_no_cache_however_it_is_written() {
    let cache = Cache::new();
    let link = cache.scratch.path().join("link");
    symlink(cache.directory.path(), &link).unwrap();
    for path in [link.clone(), link.join(""), link.join(".")] {
        assert_eq!(refusal_of(&path), Distrust::Link, "{path:?}");
    }
}

#[test]
fn a_directory_that_others_may_enter_is_no_cache() {
    let cache = Cache::new();
    for mode in [0o755, 0o770, 0o701, 0o720] {
        set_mode(cache.directory.path(), mode);
        let why = Distrust::Mode { found: mode, forbidden: 0o077 };
        assert_eq!(refusal_of(cache.directory.path()), why);
    }
    set_mode(cache.directory.path(), 0o700);
    Directory::open(cache.directory.path()).unwrap();
}

#[test]
fn a_directory_of_another_user_is_no_cache() {
    let cache = Cache::new();
    if let Some(other) = cache.scratch.give_away(cache.directory.path()) {
        let why = Distrust::Owner { found: other, needed: this_user() };
        assert_eq!(refusal_of(cache.directory.path()), why);
    }
}

#[test]
fn a_file_in_the_directorys_place_is_named_with_the_cause() {
    let cache = Cache::new();
    let path = cache.entry(&KEY);
    let Err(CacheError::Untrusted { why: Distrust::Kind, .. }) = Directory::open(&path) else {
        panic!("expected a file of the wrong kind")
    };
    let Err(CacheError::Unusable { path: named, .. }) = Directory::open_or_make(&path) else {
        panic!("expected an unusable directory")
    };
    assert_eq!(named, path);
}

#[test]
fn a_linked_entry_is_not_followed() {
    let cache = Cache::new();
    let elsewhere = cache.scratch.path().join("elsewhere");
    fs::rename(cache.entry(&KEY), &elsewhere).unwrap();
    symlink(&elsewhere, cache.entry(&KEY)).unwrap();
    assert_eq!(cache.distrust(), Distrust::Link);
    fs::remove_file(&elsewhere).unwrap();
    assert_eq!(cache.distrust(), Distrust::Link, "not even to nowhere");
}

#[test]
fn an_entry_with_a_second_name_is_refused() {
    let cache = Cache::new();
    let second = cache.scratch.path().join("second");
    fs::hard_link(cache.entry(&KEY), &second).unwrap();
    assert_eq!(cache.distrust(), Distrust::Names(2));
    fs::remove_file(second).unwrap();
    assert!(cache.read().unwrap().is_some());
}

#[test]
fn an_entry_that_others_may_open_is_refused() {
    let cache = Cache::new();
    for mode in [0o644, 0o620, 0o606] {
        set_mode(&cache.entry(&KEY), mode);
        assert_eq!(cache.distrust(), Distrust::Mode { found: mode, forbidden: 0o077 });
    }
}

#[test]
fn an_entry_of_another_user_is_refused() {
    let cache = Cache::new();
    if let Some(other) = cache.scratch.give_away(&cache.entry(&KEY)) {
        assert_eq!(cache.distrust(), Distrust::Owner { found: other, needed: this_user() });
    }
}

#[test]
fn what_is_no_plain_file_is_neither_waited_for_nor_read() {
    let cache = Cache::new();
    let entry = cache.entry(&KEY);
    let mode = Mode::RUSR | Mode::WUSR;

    fs::remove_file(&entry).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &entry, mode).unwrap();
    assert_eq!(cache.distrust(), Distrust::Kind);

    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    assert_eq!(cache.distrust(), Distrust::Kind);

    fs::remove_dir(&entry).unwrap();
    // A socket's address has fewer bytes than a path.
    let socket = cache.scratch.path().join("s");
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::rename(&socket, &entry).unwrap();
    assert!(matches!(cache.read(), Err(EntryError::Io(_))));

    fs::remove_file(&entry).unwrap();
    // `/dev/zero`, which never ends; only the administrator can make one.
    let (kind, zero) = (FileType::CharacterDevice, rustix::fs::makedev(1, 5));
    if rustix::fs::mknodat(rustix::fs::CWD, &entry, kind, mode, zero).is_ok() {
        let error = cache.read().unwrap_err();
        // Or no device can be opened on this file system.
        let refused = matches!(error, EntryError::Untrusted(Distrust::Kind) | EntryError::Io(_));
        assert!(refused, "{error:?}");
    }
}

#[test]
fn sizes_that_no_entry_has_are_refused_unread() {
    let cache = Cache::new();
    let file = File::options().write(true).open(cache.entry(&KEY)).unwrap();
    for bytes in [HEADER_BYTES as u64 - 1, 0] {
        file.set_len(bytes).unwrap();
        let error = cache.read().unwrap_err();
        assert!(matches!(error, EntryError::Size(found) if found == bytes), "{error:?}");
    }
    for bytes in [ENTRY_BYTES_MAX + 1, 1 << 40] {
        file.set_len(bytes).unwrap();
        let error = cache.read().unwrap_err();
        assert!(matches!(error, EntryError::Large { found, .. } if found == bytes), "{error:?}");
    }
    file.set_len(HEADER_BYTES as u64).unwrap();
    assert!(matches!(cache.read(), Err(EntryError::Magic)));
}

#[test]
fn an_entry_may_be_as_long_as_its_reader_allows_and_no_longer() {
    let cache = Cache::new();
    let bytes = fs::metadata(cache.entry(&KEY)).unwrap().len();
    let read = |most| cache.directory.read(&KEY, &SECRET, most);
    assert!(read(bytes).unwrap().is_some());
    let error = read(bytes - 1).unwrap_err();
    assert!(
        matches!(error, EntryError::Large { found, most } if (found, most) == (bytes, bytes - 1))
    );
}

#[test]
fn another_entry_under_this_name_is_refused() {
    let cache = Cache::new();
    cache.write(&OTHER, "wrong");
    fs::rename(cache.entry(&OTHER), cache.entry(&KEY)).unwrap();
    assert!(matches!(cache.read(), Err(EntryError::Key)));
}

#[test]
fn an_entry_that_changes_while_it_is_read_is_right_or_refused() {
    let cache = Cache::new();
    let right = fs::read(cache.entry(&KEY)).unwrap();
    cache.write(&OTHER, "wrong");
    let wrong = fs::read(cache.entry(&OTHER)).unwrap();
    // The planted artefact under the right header, of the same length.
    let at = right.len() - "right".len();
    let planted = [&right[..at], &wrong[at..]].concat();
    let done = AtomicBool::new(false);
    let (mut rights, mut refusals) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let entry = cache.entry(&KEY);
            let aside = cache.scratch.path().join("aside");
            let mut turn = 0;
            while !done.load(Ordering::Relaxed) {
                let bytes = [&right, &planted, &wrong][turn % 3];
                // In place, where a reader may be at this moment; then by another file.
                if turn % 2 == 0 {
                    fs::write(&entry, bytes).unwrap();
                } else {
                    fs::write(&aside, bytes).unwrap();
                    set_mode(&aside, 0o600);
                    fs::rename(&aside, &entry).unwrap();
                }
                turn += 1;
            }
        });
        while rights < 50 || refusals < 50 {
            match cache.read() {
                Ok(Some(what)) => {
                    assert_eq!(what, "right");
                    rights += 1;
                }
                Ok(None) => panic!("the entry is never missing"),
                Err(_) => refusals += 1,
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn processes_that_write_and_read_one_entry_at_once_never_see_half_of_it() {
    let cache = Cache::new();
    let another = Directory::open(cache.directory.path()).unwrap();
    std::thread::scope(|scope| {
        for directory in [&cache.directory, &another] {
            scope.spawn(|| {
                let artefact = descriptor::sealed_file("test", b"right").unwrap();
                for _ in 0..200 {
                    directory
                        .write(&KEY, &description("right"), &artefact, &SECRET, u64::MAX)
                        .unwrap();
                }
            });
        }
        for _ in 0..400 {
            assert_eq!(cache.read().unwrap().as_deref(), Some("right"));
        }
    });
    assert_eq!(cache.files(), 1);
}

#[test]
fn a_folder_in_an_entrys_place_is_replaced_if_it_is_empty() {
    let cache = Cache::new();
    let entry = cache.entry(&KEY);
    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    cache.write(&KEY, "right");
    assert_eq!(cache.read().unwrap().as_deref(), Some("right"));
}

#[test]
fn a_write_that_fails_leaves_nothing_unfinished() {
    let cache = Cache::new();
    let entry = cache.entry(&KEY);
    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    fs::write(entry.join("kept"), "").unwrap();
    let artefact = descriptor::sealed_file("test", b"right").unwrap();
    let written = cache.directory.write(&KEY, &description("right"), &artefact, &SECRET, u64::MAX);
    assert!(matches!(written, Err(EntryError::Io(_))), "{written:?}");
    assert!(entry.join("kept").exists());
    assert_eq!(cache.files(), 1);
}

#[test]
fn a_directory_that_was_removed_takes_no_entry_and_gives_none() {
    let cache = Cache::new();
    fs::remove_dir_all(cache.directory.path()).unwrap();
    let artefact = descriptor::sealed_file("test", b"right").unwrap();
    let written = cache.directory.write(&KEY, &description("right"), &artefact, &SECRET, u64::MAX);
    assert!(matches!(written, Err(EntryError::Io(_))), "{written:?}");
    assert_eq!(cache.read().unwrap(), None);
}

#[test]
fn unfinished_files_are_removed_once_nobody_can_be_writing_them() {
    let cache = Cache::new();
    let now = SystemTime::now();
    let file = |name: &str, age: Duration| {
        let path = cache.directory.path().join(name);
        fs::write(&path, "").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(now - age).unwrap();
        path
    };
    let moment = Duration::from_secs(1);
    let young = file("partial-1-1", PARTIAL_AGE_MAX);
    let old = file("partial-1-2", PARTIAL_AGE_MAX + moment);
    let foreign = file("notes", PARTIAL_AGE_MAX + moment);
    File::open(cache.entry(&KEY)).unwrap().set_modified(now - 2 * PARTIAL_AGE_MAX).unwrap();
    cache.directory.remove_unfinished(now).unwrap();
    let there = [young, old, foreign, cache.entry(&KEY)].map(|path| path.exists());
    assert_eq!(there, [true, false, true, true]);
}

#[test]
fn a_listing_has_entries_and_nothing_else() {
    let cache = Cache::new();
    let at = cache.directory.path();
    let upper = name_of(&EntryKey([0xab; 32])).to_uppercase().replace("ARTEFACT", "artefact");
    for name in ["notes", "partial-1-1", "00.artefact", ".artefact", &upper] {
        fs::write(at.join(name), "").unwrap();
    }
    symlink("/dev/zero", cache.entry(&OTHER)).unwrap();
    let mut listed = cache.directory.list().unwrap();
    listed.sort_by_key(|listed| listed.key.0);
    let found: Vec<_> = listed.iter().map(|listed| (listed.key, listed.bytes)).collect();
    let bytes = fs::metadata(cache.entry(&KEY)).unwrap().len();
    assert_eq!(found, [(KEY, bytes), (OTHER, 0)]);
}

#[test]
fn an_entry_that_is_touched_was_used_last() {
    let cache = Cache::new();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
    File::open(cache.entry(&KEY)).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(cache.directory.list().unwrap()[0].used, long_ago);
    cache.directory.touch(&KEY).unwrap();
    assert!(cache.directory.list().unwrap()[0].used > long_ago);
}

#[test]
fn whatever_has_an_entrys_name_can_be_removed_and_nothing_it_points_to() {
    let cache = Cache::new();
    let kept = cache.scratch.path().join("kept");
    fs::write(&kept, "").unwrap();
    symlink(&kept, cache.entry(&OTHER)).unwrap();
    assert!(cache.directory.remove(&KEY).unwrap());
    assert!(!cache.directory.remove(&KEY).unwrap());
    assert!(cache.directory.remove(&OTHER).unwrap());
    fs::create_dir(cache.entry(&OTHER)).unwrap();
    assert!(cache.directory.remove(&OTHER).unwrap());
    assert_eq!(cache.files(), 0);
    assert!(kept.exists());
}

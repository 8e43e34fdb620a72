//! 74: attacks by a process that can write the artefact cache, but does not know its key.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;

use stockade::BuildError;

use super::seen;
use crate::cache::{Fixture, answer_of, build};

/// Where the parts of an entry's header are; see `host/stockade/src/compile/cache/entry.rs`.
const KEY: std::ops::Range<usize> = 12..44;
const LENGTHS: std::ops::Range<usize> = 44..60;
const HEADER_BYTES: usize = 92;

/// What is done to the entry in a file.
type Attack = fn(&Fixture, &Path);

/// What anybody may try who can write the cache's files.
const ATTACKS: &[(&str, Attack)] = &[
    ("magic number changed", |_, entry| flip(entry, 0)),
    ("version changed", |_, entry| flip(entry, 8)),
    ("key changed", |_, entry| flip(entry, KEY.start)),
    ("a length changed", |_, entry| flip(entry, LENGTHS.start)),
    ("a huge length", |_, entry| edit(entry, |bytes| bytes[LENGTHS].fill(0xff))),
    ("code changed", |_, entry| flip(entry, LENGTHS.end)),
    ("code emptied", |_, entry| edit(entry, |bytes| bytes[LENGTHS.end..HEADER_BYTES].fill(0))),
    ("description changed", |_, entry| flip(entry, HEADER_BYTES)),
    ("artefact changed", |_, entry| {
        edit(entry, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        })
    }),
    ("last byte changed", |_, entry| {
        edit(entry, |bytes| *bytes.last_mut().expect("not empty") ^= 0x80)
    }),
    ("cut off", |_, entry| edit(entry, |bytes| bytes.truncate(bytes.len() - 1))),
    ("cut off in the header", |_, entry| edit(entry, |bytes| bytes.truncate(HEADER_BYTES - 1))),
    ("emptied", |_, entry| edit(entry, Vec::clear)),
    ("grown", |_, entry| edit(entry, |bytes| bytes.push(0))),
    ("symbolic link", |fixture, entry| {
        let elsewhere = fixture.aside("elsewhere");
        fs::rename(entry, &elsewhere).unwrap();
        symlink(elsewhere, entry).unwrap();
    }),
    ("hard link", |fixture, entry| fs::hard_link(entry, fixture.aside("second")).unwrap()),
    ("open to its group", |_, entry| set_mode(entry, 0o660)),
    ("open to all", |_, entry| set_mode(entry, 0o604)),
    ("pipe", |_, entry| {
        fs::remove_file(entry).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, entry, mode).unwrap();
    }),
    ("directory", |_, entry| {
        fs::remove_file(entry).unwrap();
        fs::create_dir(entry).unwrap();
    }),
];

fn edit(entry: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(entry).unwrap();
    change(&mut bytes);
    fs::write(entry, bytes).unwrap();
}

fn flip(entry: &Path, at: usize) {
    edit(entry, |bytes| bytes[at] ^= 1);
}

fn set_mode(entry: &Path, mode: u32) {
    fs::set_permissions(entry, fs::Permissions::from_mode(mode)).unwrap();
}

/// Asserts that the entry is not used where nothing else would do, is compiled again with one
/// warning where that can be, and serves again then.
#[track_caller]
fn is_ignored(fixture: &Fixture, what: &str) {
    match fixture.forbidden(|| fixture.answer(1).build()) {
        Err(BuildError::Machine(_)) => {}
        Ok(pool) => panic!("{what}: it was used, and answers {}", answer_of(&pool)),
        Err(other) => panic!("{what}: {other:?}"),
    }
    let (answer, warnings) = build(fixture.answer(1));
    assert_eq!(answer, 1, "{what}");
    let [warning] = &warnings[..] else { panic!("{what}: one warning, not {warnings:?}") };
    assert!(warning.starts_with("ignored a cache entry"), "{what}: {warning}");
    let again = fixture.forbidden(|| build(fixture.answer(1)));
    assert_eq!(again, (1, vec![]), "{what}: the entry was replaced");
}

/// Entries of the module that answers 1, which say with more and more effort that they hold what
/// answers 2.
fn planted(fixture: &Fixture) -> Vec<(&'static str, Vec<u8>)> {
    // Made by this very program, and valid for its own module: a fixture's cache with both.
    let right = fs::read(fixture.entry()).unwrap();
    let other = Fixture::new();
    other.answer(2).cache(other.cache().key_file(fixture.key_file())).build().unwrap();
    let wrong = fs::read(other.entry()).unwrap();
    // The attacker's own key, and the module's own entry under it.
    let forged = Fixture::new();
    forged.answer(1).build().unwrap();
    let foreign = fs::read(forged.entry()).unwrap();

    let mut keyed = wrong.clone();
    keyed[KEY].copy_from_slice(&right[KEY]);
    let mut headed = wrong.clone();
    headed[..HEADER_BYTES].copy_from_slice(&right[..HEADER_BYTES]);
    let mut measured = headed.clone();
    measured[LENGTHS].copy_from_slice(&wrong[LENGTHS]);
    let mut coded = keyed.clone();
    coded[LENGTHS.end..HEADER_BYTES].copy_from_slice(&foreign[LENGTHS.end..HEADER_BYTES]);
    vec![
        ("another module's entry", wrong),
        ("with this one's key", keyed),
        ("with this one's header", headed),
        ("with this one's header and its own lengths", measured),
        ("with a code made with another key", coded),
        ("this one's, made with another key", foreign),
    ]
}

#[test]
fn a74_no_entry_that_somebody_touched_is_used_and_no_planted_artefact_runs() {
    let fixture = Fixture::new();
    assert_eq!(build(fixture.answer(1)), (1, vec![]));
    for (what, attack) in ATTACKS {
        attack(&fixture, &fixture.entry());
        is_ignored(&fixture, what);
    }
    let plants = planted(&fixture);
    for (what, bytes) in &plants {
        fs::write(fixture.entry(), bytes).unwrap();
        is_ignored(&fixture, what);
    }
    // Only the administrator can give a file away.
    let other = rustix::process::geteuid().as_raw() + 1;
    if lchown(fixture.entry(), Some(other), None).is_ok() {
        is_ignored(&fixture, "another owner");
    }
    seen(
        74,
        &format!(
            "{} ways to change, cut off, link, open or replace an entry: each ignored with a warning, \
             compiled again, and the result right; {} ways to plant another artefact: none ran",
            ATTACKS.len(),
            plants.len()
        ),
    );
}

#[test]
fn an_entry_forged_with_the_key_itself_runs_so_the_key_is_all_that_matters() {
    // The other side of the attacks above: each part of this plant is what theirs are, and only the
    // code is right.
    let fixture = Fixture::new();
    fixture.answer(2).build().unwrap();
    let mut forged = fs::read(fixture.entry()).unwrap();
    fixture.cache().clear().unwrap();
    fixture.answer(1).build().unwrap();
    let right = fs::read(fixture.entry()).unwrap();
    forged[KEY].copy_from_slice(&right[KEY]);
    let secret: [u8; 32] = fs::read(fixture.key_file()).unwrap().try_into().unwrap();
    let mut hasher = blake3::Hasher::new_keyed(&secret);
    hasher.update(&forged[..LENGTHS.end]).update(&forged[HEADER_BYTES..]);
    forged[LENGTHS.end..HEADER_BYTES].copy_from_slice(hasher.finalize().as_bytes());
    fs::write(fixture.entry(), forged).unwrap();
    fixture.forbidden(|| assert_eq!(build(fixture.answer(1)), (2, vec![])));
}

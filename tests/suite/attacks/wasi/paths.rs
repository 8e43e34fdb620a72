//! Escapes from granted directories.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use stockade::Grants;

use super::super::seen;
use super::driven::{BUFFER, CREATE, DIRECTORY, EXCLUSIVE, GRANTED, READ, STORED, TRUNCATE, WRITE};
use super::{Driven, Outside};

const STORED_AT: i64 = STORED as i64;
const BUFFER_AT: i64 = BUFFER as i64;

/// Every call that takes a path, made for `path` below the first grant; returns how many.
#[track_caller]
fn try_every_call(guest: &Driven, outside: &Outside, path: &str) -> usize {
    let mut tried = 0;
    let mut refused = |what: &str, errno: i32| {
        assert_ne!(errno, 0, "{what} {path:?}");
        outside.assert_outside_unchanged(&format!("{what} {path:?}"));
        tried += 1;
    };
    for (flags, rights) in [
        (0, READ),
        (0, WRITE),
        (DIRECTORY, READ),
        (CREATE, READ | WRITE),
        (CREATE | EXCLUSIVE, WRITE),
        (TRUNCATE, WRITE),
        (CREATE | TRUNCATE, WRITE),
    ] {
        let opened = guest.open(GRANTED, path, flags, rights);
        refused("path_open", opened.err().unwrap_or(0));
    }
    let here = |which: usize, path: &str| guest.path(which, path);
    for follow in [0, 1] {
        let [at, length] = here(0, path);
        let args = [GRANTED, follow, at, length, BUFFER_AT];
        refused("path_filestat_get", guest.errno("path_filestat_get", &args));
        let args = [GRANTED, follow, at, length, 1, 1, 5];
        refused("path_filestat_set_times", guest.errno("path_filestat_set_times", &args));
    }
    let [at, length] = here(0, path);
    let args = [GRANTED, at, length, BUFFER_AT, 4096, STORED_AT];
    refused("path_readlink", guest.errno("path_readlink", &args));
    for function in ["path_create_directory", "path_remove_directory", "path_unlink_file"] {
        refused(function, guest.errno(function, &[GRANTED, at, length]));
    }
    let [other, other_length] = here(1, "loot");
    for (from, to) in [([at, length], [other, other_length]), (here(0, "file"), here(1, path))] {
        // The first path stands where it stood; only its contents differ.
        if from == [at, length] {
            here(0, path);
            here(1, "loot");
        }
        let args = [GRANTED, from[0], from[1], GRANTED, to[0], to[1]];
        refused("path_rename", guest.errno("path_rename", &args));
        let args = [GRANTED, 0, from[0], from[1], GRANTED, to[0], to[1]];
        refused("path_link", guest.errno("path_link", &args));
    }
    let (target, new) = (here(0, "file"), here(1, path));
    let args = [target[0], target[1], GRANTED, new[0], new[1]];
    refused("path_symlink", guest.errno("path_symlink", &args));
    tried
}

#[test]
fn a50_no_path_leads_out_of_a_grant() {
    let outside = Outside::new();
    let absolute = outside.folder.path().join("secret");
    let inside = outside.granted().join("new");
    let (up, beyond) = ("../".repeat(60) + "etc/passwd", "inner/../".repeat(60) + "../secret");
    let paths = [
        "..",
        "../",
        "../secret",
        "../new",
        "../other",
        "./../secret",
        ".//..//secret",
        "inner/../../secret",
        "inner/../inner/../../secret",
        "inner/../../granted/../secret",
        "../granted/../secret",
        &up,
        &beyond,
        "/",
        "//",
        "/etc/passwd",
        "/data/../secret",
        absolute.to_str().unwrap(),
        inside.to_str().unwrap(),
        "file\0/../../secret",
        "",
    ];
    let mut tried = 0;
    for grants in [
        Grants::none().read_dir(outside.granted(), "/data"),
        Grants::none().write_dir(outside.granted(), "/data"),
        // Under names that mean something to whoever takes names for paths.
        Grants::none().write_dir(outside.granted(), "/"),
        Grants::none().write_dir(outside.granted(), ".."),
    ] {
        let guest = Driven::new(grants);
        for path in paths {
            tried += try_every_call(&guest, &outside, path);
        }
        outside.assert_unchanged("every path");
        let file = guest.open(GRANTED, "file", 0, READ).unwrap();
        assert_eq!(guest.read(file).unwrap(), b"yours");
        guest.assert_first_worker();
    }
    let count = paths.len();
    seen(
        50,
        &format!(
            "an error number for each of {count} paths in every call that takes one, {tried} tries \
             with grants to read and to write; nothing at all was changed"
        ),
    );
}

/// What can be read at `path`, if it can be opened.
fn contents(guest: &Driven, at: i64, path: &str) -> Option<Vec<u8>> {
    let file = guest.open(at, path, 0, READ).ok()?;
    let contents = guest.read(file).unwrap_or_default();
    assert_eq!(guest.errno("fd_close", &[file]), 0);
    Some(contents)
}

#[test]
fn a51_no_link_leads_out_of_a_grant_whoever_made_it() {
    let mut outside = Outside::new();
    let granted = outside.granted();
    let inner = granted.join("inner");
    let absolute = outside.folder.path().join("secret");
    fs::create_dir_all(granted.join("deep/deeper")).unwrap();
    for (name, target) in [
        ("relative", Path::new("../../secret")),
        ("absolute", &absolute),
        ("new", Path::new("../../new")),
        ("grounds", Path::new("../..")),
        ("root", Path::new("/")),
        ("chain", Path::new("relative")),
        ("self", Path::new("self")),
        ("magic", Path::new("/proc/self/root/etc/passwd")),
        ("descriptor", Path::new("/proc/self/fd/0")),
        ("around", Path::new("../../granted/file")),
    ] {
        symlink(target, inner.join(name)).unwrap();
    }
    // Points to a file of the grant from where it is, and out of it from two folders higher.
    fs::write(granted.join("deep/secret"), "yours").unwrap();
    symlink("../secret", granted.join("deep/deeper/turncoat")).unwrap();
    outside.remember();

    let guest = Driven::new(Grants::none().write_dir(&granted, "/data"));
    let mut tried = 0;
    for path in [
        "inner/relative",
        "inner/relative/",
        "inner/absolute",
        "inner/absolute/",
        "inner/new",
        "inner/new/",
        "inner/grounds",
        "inner/grounds/",
        "inner/grounds/secret",
        "inner/grounds/other/secret",
        "inner/grounds/granted/../secret",
        "inner/root/etc/passwd",
        "inner/chain",
        "inner/self",
        "inner/self/",
        "inner/magic",
        "inner/descriptor",
        "inner/around",
    ] {
        for (flags, rights) in [
            (0, READ),
            (0, WRITE),
            (DIRECTORY, READ),
            (CREATE, READ | WRITE),
            (TRUNCATE, READ | WRITE),
            (CREATE | TRUNCATE, WRITE),
        ] {
            let opened = guest.open(GRANTED, path, flags, rights);
            assert!(opened.is_err(), "{path} {flags} {rights}");
            outside.assert_outside_unchanged(path);
            tried += 1;
        }
        // With the link followed: what is behind it can be neither asked about nor changed.
        let [at, length] = guest.path(0, path);
        for (function, args) in [
            ("path_filestat_get", vec![GRANTED, 1, at, length, BUFFER_AT]),
            ("path_filestat_set_times", vec![GRANTED, 1, at, length, 1, 1, 5]),
        ] {
            assert_ne!(guest.errno(function, &args), 0, "{function} {path}");
            tried += 1;
        }
        let [new, new_length] = guest.path(1, "loot");
        guest.errno("path_link", &[GRANTED, 1, at, length, GRANTED, new, new_length]);
        assert_ne!(contents(&guest, GRANTED, "loot").as_deref(), Some(&b"not yours"[..]), "{path}");
        let loot = guest.path(0, "loot");
        guest.errno("path_unlink_file", &[GRANTED, loot[0], loot[1]]);
        outside.assert_outside_unchanged(path);
        tried += 1;
    }
    outside.assert_outside_unchanged("links of the host's");

    // Links of the guest's own: some can be made, none leads out.
    let targets =
        ["../secret", "..", "/etc/passwd", "/", absolute.to_str().unwrap(), "inner/relative"];
    for target in targets {
        let (target_at, new) = (guest.path(0, target), guest.path(1, "mine"));
        let args = [target_at[0], target_at[1], GRANTED, new[0], new[1]];
        let made = guest.errno("path_symlink", &args) == 0;
        assert_eq!(fs::symlink_metadata(granted.join("mine")).is_ok(), made, "{target}");
        for path in ["mine", "mine/", "mine/secret", "mine/etc/passwd"] {
            for (flags, rights) in [(0, READ), (TRUNCATE, WRITE), (DIRECTORY, READ)] {
                let opened = guest.open(GRANTED, path, flags, rights);
                assert!(opened.is_err(), "{path}, where it is {target}");
                tried += 1;
            }
        }
        outside.assert_outside_unchanged(target);
        let _ = fs::remove_file(granted.join("mine"));
    }

    // Moved, a link means something else, and a directory too.
    assert_eq!(contents(&guest, GRANTED, "deep/deeper/turncoat").unwrap(), b"yours");
    let (from, to) = (guest.path(0, "deep/deeper/turncoat"), guest.path(1, "turncoat"));
    let args = [GRANTED, from[0], from[1], GRANTED, to[0], to[1]];
    assert_eq!(guest.errno("path_rename", &args), 0);
    assert_eq!(contents(&guest, GRANTED, "turncoat"), None);
    let held = guest.open(GRANTED, "deep/deeper", DIRECTORY, READ).unwrap();
    fs::rename(granted.join("deep/deeper"), outside.folder.path().join("moved")).unwrap();
    outside.remember();
    for path in ["../secret", "../../secret", "..", "../granted/file"] {
        assert!(guest.open(held, path, 0, READ).is_err(), "{path} from a folder that was moved");
        assert!(guest.open(held, path, CREATE | TRUNCATE, WRITE).is_err(), "{path}");
        tried += 2;
    }
    outside.assert_outside_unchanged("a folder that was moved");

    // A file is no folder, whatever follows its name.
    for path in ["file/", "file/.", "file/..", "file/../file", "file/../../secret"] {
        for (flags, rights) in [(0, READ), (CREATE, WRITE), (TRUNCATE, WRITE), (DIRECTORY, READ)] {
            assert!(guest.open(GRANTED, path, flags, rights).is_err(), "{path}");
            tried += 1;
        }
    }
    assert_eq!(contents(&guest, GRANTED, "file").unwrap(), b"yours");
    guest.assert_first_worker();
    seen(
        51,
        &format!(
            "{tried} tries by links of the host's and of the guest's own, chains, loops, \
             `/proc/self`, moved links and folders, and trailing slashes: what lies outside was \
             neither read nor changed"
        ),
    );
}

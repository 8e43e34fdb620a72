//! Attempts to change files in read-only grants.

use std::fs;
use std::os::unix::fs::symlink;

use stockade::Grants;

use super::super::seen;
use super::driven::{CREATE, DIRECTORY, EXCLUSIVE, GRANTED, READ, STORED, TRUNCATE, WRITE};
use super::{Driven, Outside};

const STORED_AT: i64 = STORED as i64;

#[test]
fn a53_a_read_only_grant_refuses_every_change_by_every_call() {
    let mut outside = Outside::new();
    symlink("file", outside.granted().join("link")).unwrap();
    fs::create_dir(outside.granted().join("empty")).unwrap();
    outside.remember();
    let guest = Driven::new(Grants::none().read_dir(outside.granted(), "/data"));
    let mut tried = 0;
    let mut refused = |what: &str, errno: i32| {
        assert_ne!(errno, 0, "{what}");
        outside.assert_unchanged(what);
        tried += 1;
    };
    const APPEND: i64 = 1;
    const ALL: i64 = 0x1fff_ffff;
    for path in ["file", "new", "inner/file", "link", "empty/new"] {
        for (flags, rights) in [
            (0, WRITE),
            (0, READ | WRITE),
            (CREATE | EXCLUSIVE, READ),
            (CREATE, WRITE),
            (CREATE | TRUNCATE, READ | WRITE),
            (TRUNCATE, READ),
            (TRUNCATE, WRITE),
            (TRUNCATE, READ | WRITE),
            (CREATE | EXCLUSIVE, ALL),
        ] {
            for mode in [0, APPEND] {
                let [at, length] = guest.path(0, path);
                let args = [GRANTED, 1, at, length, flags, rights, ALL, mode, STORED_AT];
                let what = format!("path_open {path} {flags} {rights} {mode}");
                refused(&what, guest.errno("path_open", &args));
            }
        }
    }
    // By a descriptor that was opened for reading, or taken for a folder; whatever was asked of it.
    for (path, flags) in [("file", 0), ("inner/file", 0), ("inner", DIRECTORY), ("", -1)] {
        let held = match flags {
            -1 => GRANTED,
            _ => guest.open(GRANTED, path, flags, READ).unwrap(),
        };
        guest.errno("fd_fdstat_set_rights", &[held, ALL, ALL]);
        guest.errno("fd_fdstat_set_flags", &[held, APPEND]);
        let [vectors, count] = guest.vector(5);
        for (function, args) in [
            ("fd_write", vec![held, vectors, count, STORED_AT]),
            ("fd_pwrite", vec![held, vectors, count, 0, STORED_AT]),
            ("fd_allocate", vec![held, 0, 1 << 20]),
            ("fd_filestat_set_size", vec![held, 0]),
            ("fd_filestat_set_size", vec![held, 1 << 20]),
            ("fd_filestat_set_times", vec![held, 1, 1, 5]),
            ("fd_filestat_set_times", vec![held, 0, 0, 10]),
        ] {
            refused(&format!("{function} {path}"), guest.errno(function, &args));
        }
    }
    for (from, to) in [
        ("file", "new"),
        ("file", "inner/file"),
        ("inner/file", "file"),
        ("link", "new"),
        ("empty", "inner/empty"),
        ("file", "file/"),
    ] {
        let (from_at, to_at) = (guest.path(0, from), guest.path(1, to));
        let args = [GRANTED, from_at[0], from_at[1], GRANTED, to_at[0], to_at[1]];
        refused(&format!("path_rename {from} {to}"), guest.errno("path_rename", &args));
        for follow in [0, 1] {
            let args = [GRANTED, follow, from_at[0], from_at[1], GRANTED, to_at[0], to_at[1]];
            refused(&format!("path_link {from} {to}"), guest.errno("path_link", &args));
        }
        let args = [from_at[0], from_at[1], GRANTED, to_at[0], to_at[1]];
        refused(&format!("path_symlink {from} {to}"), guest.errno("path_symlink", &args));
    }
    for path in ["file", "inner", "empty", "link", "new", "inner/file", "."] {
        let [at, length] = guest.path(0, path);
        for function in ["path_create_directory", "path_remove_directory", "path_unlink_file"] {
            refused(&format!("{function} {path}"), guest.errno(function, &[GRANTED, at, length]));
        }
        for follow in [0, 1] {
            for which in [5, 10] {
                let args = [GRANTED, follow, at, length, 1, 1, which];
                let what = format!("path_filestat_set_times {path}");
                refused(&what, guest.errno("path_filestat_set_times", &args));
            }
        }
    }
    let file = guest.open(GRANTED, "inner/file", 0, READ).unwrap();
    assert_eq!(guest.read(file).unwrap(), b"yours too");
    guest.assert_first_worker();
    seen(
        53,
        &format!(
            "{tried} tries by every call that changes anything: an error number each, and \
                  not even a time was changed"
        ),
    );
}

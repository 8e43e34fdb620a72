//! Core dumps as files: of which tasks, where, and what is said of them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::args;
use crate::debugging::files;
use crate::support::{module, stockade};

const GUEST: &str = r#"(module
    (memory 2)
    (func $divide (export "divide") (param i32) (param i32) (result i32)
        (i64.store (i32.const 70000) (i64.const 0x216e726574746170))
        (i32.div_u (local.get 0) (local.get 1))))"#;

/// Whether `file` is a core dump with the memory that the guest leaves, which only its owner may read.
#[track_caller]
fn assert_is_dump(file: &Path) {
    let bytes = std::fs::read(file).expect("the dump");
    assert!(bytes.starts_with(b"\0asm\x01\0\0\0"));
    for part in [&b"corestack"[..], b"pattern!"] {
        assert!(bytes.windows(part.len()).any(|window| window == part), "{part:?}");
    }
    let mode = file.metadata().expect("the dump").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

fn named(file: &Path, begins: &str) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(begins) && name.ends_with(".coredump.wasm")
}

#[test]
fn a_call_that_traps_leaves_a_core_dump_and_says_where() {
    let (folder, guest) = module(GUEST);
    let dumps = folder.path().join("dumps");
    let ended = stockade(args!["run", guest, "divide", "1", "0", "--coredump", dumps]).end();
    ended.fails(67, &["error: the guest trapped", "help: its core dump is "]);
    let [file] = files(&dumps).try_into().unwrap();
    assert!(named(&file, "divide-1-"), "{file:?}");
    assert!(ended.stderr.contains(file.to_str().unwrap()), "{}", ended.stderr);
    assert_is_dump(&file);
    assert_eq!(dumps.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    // What succeeds leaves none, and nobody leaves one unasked.
    let run = args!["run", guest, "divide", "6", "3", "--coredump", dumps];
    stockade(run).end().gives("2\n");
    stockade(args!["run", guest, "divide", "1", "0"]).end().fails(67, &["trapped"]);
    assert_eq!(files(&dumps).len(), 1);
}

#[test]
fn lines_of_a_map_that_trap_leave_core_dumps_with_their_numbers() {
    let (folder, guest) = module(GUEST);
    let dumps = folder.path().join("dumps");
    let run = args!["map", guest, "divide", "--args", "--json"];
    let ended = stockade(run)
        .env("STOCKADE_COREDUMP", dumps.to_str().unwrap())
        .input("[4, 2]\n[1, 0]\nno line\n[2, 0]\n")
        .end();
    assert_eq!(ended.code, Some(71), "{}", ended.stderr);
    let summary: Value = serde_json::from_str(&ended.stderr).unwrap();
    assert!(summary["coredumps"].as_str().unwrap().starts_with("2 core dumps in "), "{summary}");
    let left = files(&dumps);
    assert!(named(&left[0], "divide-2-") && named(&left[1], "divide-4-"), "{left:?}");
    left.iter().for_each(|file| assert_is_dump(file));
}

#[test]
fn a_replay_leaves_the_core_dump_that_the_recorded_run_was_not_asked_for() {
    let (folder, guest) = module(GUEST);
    let (failed, dumps) = (folder.path().join("failed"), folder.path().join("dumps"));
    stockade(args!["run", guest, "divide", "1", "0", "--record", failed]).end().fails(67, &[]);
    let [file] = files(&failed).try_into().unwrap();
    let ended = stockade(args!["replay", file, "--coredump", dumps]).end();
    assert_eq!(ended.code, Some(0), "it ends the same way: {}", ended.stderr);
    assert!(ended.stderr.contains("help: its core dump is "), "{}", ended.stderr);
    let left: Vec<PathBuf> = files(&dumps);
    assert_eq!(left.len(), 1);
    assert_is_dump(&left[0]);
}

#[test]
fn a_directory_that_cannot_be_made_is_refused_before_anything_runs() {
    let (folder, guest) = module(GUEST);
    let file = folder.file("taken", "");
    let run = args!["run", guest, "divide", "1", "0", "--coredump", file];
    stockade(run)
        .end()
        .fails(74, &["error: cannot make the directory", "`--coredump` takes a directory"]);
}

//! Command modules: programs, with everything passed through.

use std::io::Read;

use crate::args;
use crate::support::{data, example, module, stockade};

/// Copies stdin to stdout, then exits with 7.
const CAT: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64))
    (loop $again
      (i32.store (i32.const 4) (i32.const 4096))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (i32.store (i32.const 4) (i32.load (i32.const 8)))
      (if (i32.load (i32.const 8))
        (then
          (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
          (br $again))))
    (call $exit (i32.const 7))))"#;

/// Writes to stdout without end, whatever becomes of it.
const YES: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\02\00\00\00\00\00\00\00\00\00\00\00y\0a")
  (func (export "_start")
    (loop $again
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br $again))))"#;

#[test]
fn stdin_passes_through_to_stdout_and_the_exit_code_back() {
    let (_folder, guest) = module(CAT);
    let bytes: Vec<u8> = (0..1 << 20).map(|n: u32| (n * 7) as u8).collect();
    let ended = stockade(args!["run", guest]).input(&bytes).end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(7), ""));
    assert!(ended.bytes == bytes, "{} bytes came back", ended.bytes.len());
}

#[test]
fn output_comes_while_the_program_waits_for_more_input() {
    let (_folder, guest) = module(CAT);
    let mut running = stockade(args!["run", guest]).start();
    running.write("ping\n");
    assert_eq!(running.line(), "ping");
    running.write("pong\n");
    assert_eq!(running.line(), "pong");
    drop(running.stdin.take());
    assert_eq!(running.end().code, Some(7));
}

#[test]
fn arguments_files_and_variables_reach_the_program_as_granted() {
    let guest = example("linecount");
    let ended = stockade(args!["run", guest, "--", "--match", "b"]).input("a\nb\nab\n").end();
    ended.gives("2\n");

    let folder = format!("{}::/d", data("classify/data").display());
    let base = args!["run", guest, "--grant-dir", folder, "--grant-env", "LINECOUNT_TOTAL"];
    let files = args!["--", "/d/penguins.jsonl", "/d/penguins.jsonl"];
    let ended = stockade(base.into_iter().chain(files)).env("LINECOUNT_TOTAL", "1").end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout().ends_with("684 total\n"), "{}", ended.stdout());

    let ended = stockade(args!["run", guest, "--", "/d/penguins.jsonl"]).end();
    assert_eq!(ended.code, Some(2), "nothing is granted: {}", ended.stderr);
}

#[test]
fn a_granted_folder_is_written_only_where_that_was_granted_too() {
    let (folder, guest) = module(
        r#"(module
          (import "wasi_snapshot_preview1" "path_create_directory"
            (func $mkdir (param i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "made")
          (func (export "_start")
            (call $exit (i32.ne (i32.const 0) (call $mkdir (i32.const 3) (i32.const 0) (i32.const 4))))))"#,
    );
    let granted = |suffix: &str| {
        let grant = format!(".::/d{suffix}");
        stockade(args!["run", guest, "--grant-dir", grant]).folder(folder.path()).end().code
    };
    assert_eq!((granted(""), folder.path().join("made").exists()), (Some(1), false));
    assert_eq!((granted(":rw"), folder.path().join("made").exists()), (Some(0), true));
}

#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let (_folder, guest) = module(YES);
    let mut running = stockade(args!["run", guest, "--wall-time", "none"]).start();
    let mut first = [0; 2];
    running.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"y\n");
    drop(running.stdout.take());
    let ended = running.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(141), ""));
}

#[test]
fn a_program_that_does_not_end_meets_its_limits() {
    let (_folder, guest) = module(r#"(module (func (export "_start") (loop $l (br $l))))"#);
    let ended = stockade(args!["run", guest, "--wall-time", "300ms"]).end();
    ended.fails(68, &["wall time", "--wall-time 3s"]);
    let (_folder, guest) = module(r#"(module (func (export "_start") (unreachable)))"#);
    stockade(args!["run", guest]).end().fails(67, &["trapped"]);
}

#[test]
fn what_is_for_functions_is_refused_with_the_other_way() {
    let (_folder, guest) = module(CAT);
    stockade(args!["run", guest, "--bytes", "x"]).end().fails(2, &["`--bytes`", "< FILE"]);
    stockade(args!["run", guest, "--output", "x"]).end().fails(2, &["`--output`", "> FILE"]);
    stockade(args!["run", guest, "file"]).end().fails(64, &["no function `file`", "after --"]);
    stockade(args!["map", guest, "_start"]).end().gives("");
    stockade(args!["run", guest, "_start"]).end().fails(7, &[]);
}

/// Programs whose entry has no name, or another than `_start`, and that must be initialised first.
const REACTOR: &str = r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (global $ready (mut i32) (i32.const 0))
  (memory (export "memory") 1)
  (func (export "_initialize") (global.set $ready (i32.const 20)))
  (func (export "") (result i32) (i32.add (global.get $ready) (i32.const 1)))
  (func (export "run") (result i32) (i32.add (global.get $ready) (i32.const 2)))
  (func (export "__main_void") (result i32) (i32.add (global.get $ready) (i32.const 3)))
  (func (export "leave") (call $exit (i32.add (global.get $ready) (i32.const 4))))
  (func (export "nothing"))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"#;

#[test]
fn a_library_is_run_as_a_program_from_its_nameless_export_or_the_one_that_is_named() {
    let (folder, guest) = module(REACTOR);
    let code = |more: &[&str]| {
        let ended = stockade(args!["run", guest].into_iter().chain(more.iter().map(Into::into)));
        let ended = ended.folder(folder.path()).end();
        assert_eq!(ended.stderr, "", "{more:?}");
        ended.code
    };
    assert_eq!(code(&[]), Some(21));
    assert_eq!(code(&["--", "an argument"]), Some(21));
    assert_eq!(code(&["--entry", ""]), Some(21));
    assert_eq!(code(&["--entry", "run", "--", "x"]), Some(22));
    assert_eq!(code(&["--entry", "__main_void"]), Some(23));
    assert_eq!(code(&["--entry", "leave"]), Some(24));
    assert_eq!(code(&["--entry", "nothing"]), Some(0));
    // As before, what is no program is a function.
    stockade(args!["run", guest, "run"]).end().gives("22\n");
    stockade(args!["run", guest, "add", "1", "2"]).end().gives("3\n");
    // A setting is for runs that name no function.
    folder.file("stockade.toml", "entry = \"run\"\n");
    assert_eq!(code(&[]), Some(22));
    let called = stockade(args!["run", guest, "add", "1", "2"]).folder(folder.path());
    called.end().gives("3\n");
}

#[test]
fn an_entry_that_cannot_be_one_is_refused_with_those_that_can() {
    let (_folder, guest) = module(REACTOR);
    let entry = |name: &str| stockade(args!["run", guest, "--entry", name]).end();
    entry("add").fails(64, &["`add`", "not a program's entry"]);
    entry("runn").fails(64, &["no function `runn`", "`run`"]);
    entry("memory").fails(64, &["no function `memory`"]);
    entry("_initialize").fails(64, &["no function `_initialize`"]);
    let both = stockade(args!["run", guest, "add", "--entry", "run"]).end();
    both.fails(2, &["--entry", "FUNCTION"]);

    let (_folder, guest) = module(r#"(module (func (export "f") (param i32)))"#);
    stockade(args!["run", guest, "--entry", "f"]).end().fails(64, &["not a program's entry"]);
    let (_folder, guest) = module(r#"(module (func (export "f")))"#);
    stockade(args!["run", guest]).end().fails(2, &["which function?", "--entry NAME"]);
}

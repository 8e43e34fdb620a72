//! Calls of functions: arguments in, results out.

use crate::args;
use crate::support::{Folder, example, module, stockade};

/// Emits twice, tells its progress, and writes a result of its own.
const TALKATIVE: &str = r#"(module
  (import "stockade" "emit" (func $emit (param i32 i32)))
  (import "stockade" "log" (func $log (param i32 i32 i32)))
  (import "stockade" "output_write" (func $output (param i32 i32)))
  (import "stockade" "input_len" (func $len (result i32)))
  (import "stockade" "input_read" (func $read (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "{ \"b\": 1,\n \"a\": 2 }")
  (data (i32.const 32) "one \1b[2J")
  (func (export "talk") (result i32)
    (call $emit (i32.const 7) (i32.const 1))
    (call $emit (i32.const 16) (i32.const 1))
    (call $log (i32.const 2) (i32.const 32) (i32.const 8))
    (call $output (i32.const 0) (i32.const 19))
    (i32.const 0))
  (func (export "echo") (result i32)
    (call $read (i32.const 64) (i32.const 0) (call $len))
    (call $output (i32.const 64) (call $len))
    (i32.const 0)))"#;

/// Counts calls of its instance; `begin` starts at 40.
const COUNTER: &str = r#"(module
  (global $calls (mut i32) (i32.const 0))
  (func (export "begin") (global.set $calls (i32.const 40)))
  (func (export "next") (param i32) (result i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (global.get $calls)))"#;

#[test]
fn numbers_go_in_and_come_out() {
    let (_folder, guest) = module(
        r#"(module
          (func (export "none"))
          (func (export "half") (param f64) (result f64) (f64.div (local.get 0) (f64.const 2)))
          (func (export "root") (param f32) (result f32) (f32.sqrt (local.get 0)))
          (func (export "both") (param i64 i32) (result i32 i64) (local.get 1) (local.get 0)))"#,
    );
    stockade(args!["run", guest, "none"]).end().gives("null\n");
    stockade(args!["run", guest, "half", "-3"]).end().gives("-1.5\n");
    stockade(args!["run", guest, "root", "-1"]).end().gives("\"NaN\"\n");
    stockade(args!["run", guest, "root", "0.01"]).end().gives("0.1\n");
    stockade(args!["run", guest, "both", "-9007199254740993", "2"])
        .end()
        .gives("[2,-9007199254740993]\n");
}

#[test]
fn a_text_parameter_takes_words_files_and_json() {
    let (folder, guest) = (Folder::new(), example("wordcount"));
    let count =
        |arg: &str| stockade(args!["run", guest, "word_count", arg]).folder(folder.path()).end();
    folder.file("text.txt", "one two\nthree");
    count("to be or not").gives("4\n");
    count("\"to be\"").gives("2\n");
    count("42").gives("1\n");
    count("").gives("0\n");
    count("@text.txt").gives("3\n");
    let ended = stockade(args!["run", guest, "word_count", "--", "--to be"]).end();
    ended.gives("2\n");
    let by_name = args!["run", guest, "top_words", "--arg", "limit=1", "--arg", "text=b a b"];
    stockade(by_name).end().gives("[[\"b\",2]]\n");
}

#[test]
fn emitted_items_come_first_and_the_guests_own_words_go_to_stderr() {
    let (_folder, guest) = module(TALKATIVE);
    let ended = stockade(args!["run", guest, "talk"]).end();
    ended.gives("1\n2\n{\"b\":1,\"a\":2}\n");
    assert_eq!(ended.stderr, "log warn | one \\u{1b}[2J\n");
}

#[test]
fn bytes_pass_as_they_are_both_ways() {
    let (folder, guest) = module(TALKATIVE);
    let every_byte: Vec<u8> = (0..=255).collect();
    let file = folder.file("bytes", &every_byte);
    let ended = stockade(args!["run", guest, "echo", "--bytes", file]).end();
    assert_eq!((ended.code, &ended.bytes), (Some(0), &every_byte));

    let ended = stockade(args!["run", guest, "echo", "--bytes", "-"]).input(&every_byte).end();
    assert_eq!((ended.code, &ended.bytes), (Some(0), &every_byte));

    let copy = folder.path().join("copy");
    let ended = stockade(args!["run", guest, "echo", "--bytes", file, "-o", copy]).end();
    ended.gives("");
    assert_eq!(std::fs::read(copy).unwrap(), every_byte);

    let nowhere = folder.path().join("none/copy");
    let ended = stockade(args!["run", guest, "echo", "--bytes", file, "-o", nowhere]).end();
    ended.fails(74, &["cannot write", "none/copy"]);
}

#[test]
fn a_result_that_is_no_json_is_said_to_be_none() {
    let (_folder, guest) = module(
        r#"(module
          (import "stockade" "output_write" (func $output (param i32 i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "\89PNG")
          (func (export "f") (result i32) (call $output (i32.const 0) (i32.const 4)) (i32.const 0)))"#,
    );
    let ended = stockade(args!["run", guest, "f"]).end();
    ended.fails(67, &["cannot be decoded", "--bytes FILE"]);
}

#[test]
fn a_report_says_what_the_task_used() {
    let ended = stockade(args!["run", example("wordcount"), "word_count", "x", "--report"]).end();
    ended.gives("1\n");
    for row in
        ["target       word_count", "ended        completed", "wall time ", "cpu time ", "memory "]
    {
        assert!(ended.stderr.contains(row), "{row:?} is not in:\n{}", ended.stderr);
    }
    let failed =
        stockade(args!["run", example("wordcount"), "words_in_line", "", "--report"]).end();
    failed.fails(67, &["ended        failed"]);
}

#[test]
fn an_initializer_prepares_what_every_task_starts_from() {
    let (_folder, guest) = module(COUNTER);
    let next = |options: &[&str]| {
        let all = args!["map", guest, "next", "--plain", "--workers", "1"];
        stockade(all.into_iter().chain(options.iter().map(Into::into))).input("1\n2\n3\n").end()
    };
    next(&[]).gives("1\n1\n1\n");
    next(&["--init", "begin"]).gives("41\n41\n41\n");
    next(&["--instances", "per-worker"]).gives("1\n2\n3\n");
    next(&["--instances", "per-worker", "--init", "begin"]).gives("41\n42\n43\n");
}

#[test]
fn an_initializer_that_fails_is_told_with_its_reason() {
    let (_folder, guest) =
        module(r#"(module (func (export "begin") (unreachable)) (func (export "f") (param i32)))"#);
    for instances in ["per-task", "per-worker"] {
        let options = args!["f", "1", "--init", "begin", "--instances", instances];
        let ended = stockade(args!["run", guest].into_iter().chain(options.clone())).end();
        ended.fails(67, &["error: the initializer failed", "cause: the guest trapped"]);

        let options = args!["f", "--init", "begin", "--instances", instances];
        let all = args!["map", guest].into_iter().chain(options);
        let ended = stockade(all).input("1\n2\n").end();
        ended.fails(67, &["error: the initializer failed"]);
        assert_eq!(ended.stdout(), "");
    }
}

#[test]
fn a_finalizer_that_fails_is_told_after_the_result() {
    let (_folder, guest) = module(
        r#"(module
          (@custom "stockade.tasks"
            "{\"abi\":1,\"kind\":\"finalizer\",\"name\":\"unload\",\"export\":\"u\"}\0a")
          (func (export "u") (result i32) (unreachable))
          (func (export "f") (param i32) (result i32) (local.get 0)))"#,
    );
    for call in [&["run", "f", "7"][..], &["map", "f", "--plain"]] {
        let all = args![call[0], guest].into_iter().chain(call[1..].iter().map(Into::into));
        let ended = stockade(all).input("7\n").end();
        ended.fails(67, &["error: the finalizer failed", "cause: the guest trapped"]);
        assert_eq!(ended.stdout(), "7\n");
    }
}

#[test]
fn help_is_documentation() {
    for command in ["run", "map", "inspect"] {
        let ended = stockade([command, "--help"]).end();
        assert_eq!(ended.code, Some(0));
        assert!(ended.stdout().contains("Exit codes:"), "{}", ended.stdout());
    }
    stockade(["nonsense"]).end().fails(2, &["unrecognized subcommand"]);
}

/// Random bytes, and the time.
const VARYING: &str = r#"(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "f") (result i64 i64)
    (drop (call $random (i32.const 0) (i32.const 8)))
    (drop (call $time (i32.const 0) (i64.const 1) (i32.const 8)))
    (i64.load (i32.const 0)) (i64.load (i32.const 8))))"#;

#[test]
fn a_deterministic_run_gives_the_same_result_and_report_every_time() {
    let (_folder, guest) = module(VARYING);
    let run = |more: &[&str]| {
        let base = args!["run", guest, "f", "--report"];
        stockade(base.into_iter().chain(more.iter().map(Into::into))).end()
    };
    let one = run(&["--deterministic"]);
    assert_eq!(one.code, Some(0), "{}", one.stderr);
    assert!(one.stderr.contains("fuel") && !one.stderr.contains("time"), "{}", one.stderr);
    let other = run(&["--deterministic"]);
    assert_eq!((one.stdout(), &one.stderr), (other.stdout(), &other.stderr));
    assert_ne!(run(&["--deterministic", "--seed", "1"]).stdout(), one.stdout());
    assert_ne!(run(&[]).stdout(), one.stdout());
    run(&["--deterministic", "--instances", "per-worker"]).fails(2, &["--instances per-task"]);
}

#[test]
fn a_run_is_one_json_object_for_whoever_asks_for_that() {
    let guest = example("wordcount");
    let run = |line: &str| {
        let ended = stockade(args!["run", guest, "words_in_line", line, "--json"]).end();
        let value: serde_json::Value = serde_json::from_str(&ended.stdout()).unwrap();
        assert_eq!(ended.stderr, "");
        (ended.code, value)
    };
    let (code, value) = run("to be");
    assert_eq!((code, &value["result"]), (Some(0), &2.into()));
    assert!(value["report"]["memory_peak_bytes"].as_u64() > Some(0));
    assert!(value["report"]["wall_seconds"].is_number());
    let (code, value) = run("");
    assert_eq!((code, &value["error"]["kind"]), (Some(67), &"error".into()));
}

#[test]
fn a_worker_needs_address_space_for_its_modules_memories_and_says_how_much() {
    let run = || stockade(args!["run", example("wordcount"), "word_count", "to be or not to be"]);
    // A place for the module's memory, and one for what exceptions take.
    for kib in [30_000_000, 9_500_000] {
        assert_eq!(run().address_space(kib).end().stdout(), "6\n", "{kib}");
    }
    let ended = run().address_space(8_000_000).end();
    ended.fails(70, &["8690597888 bytes of address space", "RLIMIT_AS", "8192000000 bytes"]);
}

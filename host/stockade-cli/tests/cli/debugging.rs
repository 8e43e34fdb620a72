//! What tells how a run went and why a guest failed: lines of source, recordings, traces.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::args;
use crate::support::{Folder, data, example, module, stockade};

/// A C program's module with its debug information.
fn located() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/located.wasm")
}

#[test]
fn a_trap_shows_functions_with_their_files_and_lines() {
    let ended = stockade(args!["run", located(), "percent", "1", "0"]).end();
    let backtrace = "in: the guest, innermost function first\n    \
                     ratio at /guest/located.c:11:18\n    \
                     share at /guest/located.c:15:12\n    \
                     percent at /guest/located.c:19:12\n";
    ended.fails(67, &["error: the guest trapped: division by zero", backtrace]);
}

#[test]
fn a_trap_without_debug_information_shows_functions() {
    let (_folder, guest) =
        module(r#"(module (func $inner unreachable) (func $outer (export "f") (call $inner)))"#);
    let ended = stockade(args!["run", guest, "f"]).end();
    ended.fails(67, &["in: the guest, innermost function first\n    inner\n    outer\n"]);
}

/// Files in `folder`, by their names.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
}

#[test]
fn a_failing_call_is_recorded_and_replayed_to_the_same_end() {
    let folder = Folder::new();
    let failed = folder.path().join("failed");
    let ended = stockade(args!["run", located(), "percent", "1", "0", "--record", failed]).end();
    ended.fails(67, &["help: it is recorded: `stockade replay "]);
    let [file] = files(&failed).try_into().unwrap();
    let ended = stockade(args!["replay", file]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for part in [
        "replaying `percent` of module `located`",
        "ratio at /guest/located.c:11:18",
        "it ended as it was recorded",
    ] {
        assert!(ended.stderr.contains(part), "no {part:?} in {}", ended.stderr);
    }
    // What succeeds leaves nothing.
    stockade(args!["run", located(), "percent", "4", "2", "--record", failed]).end().gives("6\n");
    assert_eq!(files(&failed).len(), 1);
}

/// Neither the command nor its worker is the process that it was.
#[test]
fn a_replay_by_another_process_sees_the_chance_that_was_recorded() {
    let (folder, guest) = module(
        r#"(module
          (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
          (import "stockade" "error_write" (func $error (param i32 i32)))
          (memory (export "memory") 1)
          (func (export "f") (result i32) (local $at i32)
            (drop (call $random (i32.const 0) (i32.const 16)))
            ;; As letters, for an error of which every one counts.
            (loop $next
              (i32.store8 (local.get $at)
                (i32.add (i32.const 97) (i32.and (i32.load8_u (local.get $at)) (i32.const 15))))
              (local.set $at (i32.add (local.get $at) (i32.const 1)))
              (br_if $next (i32.lt_u (local.get $at) (i32.const 16))))
            (call $error (i32.const 0) (i32.const 16))
            (i32.const 1)))"#,
    );
    let failed = folder.path().join("failed");
    let ended = stockade(args!["run", guest, "f", "--record", failed]).end();
    let said =
        |stderr: &str| stderr.lines().find(|line| line.starts_with("error: ")).map(String::from);
    let recorded = said(&ended.stderr).unwrap();
    let [file] = files(&failed).try_into().unwrap();
    for _ in 0..2 {
        let ended = stockade(args!["replay", file]).end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(said(&ended.stderr).as_ref(), Some(&recorded));
    }
}

#[test]
fn failing_lines_of_a_map_are_recorded_each_with_its_number() {
    let folder = Folder::new();
    let failed = folder.path().join("failed");
    let run = args!["map", located(), "percent", "--args", "--record", failed];
    let ended = stockade(run).input("[4, 2]\n[1, 0]\n[4, 1]\n[2, 0]\n").end();
    assert_eq!(ended.code, Some(71));
    assert!(ended.stderr.contains("2 failing tasks recorded in"), "{}", ended.stderr);
    let names: Vec<_> = files(&failed)
        .iter()
        .map(|file| file.file_name().unwrap().to_str().unwrap()[..10].to_owned())
        .collect();
    assert_eq!(names, ["percent-2-", "percent-4-"]);
}

#[test]
fn a_program_is_recorded_with_the_stdin_that_it_read() {
    let (folder, guest) = module(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_read"
            (func $read (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "\10\00\00\00\01\00\00\00")
          (func (export "_start")
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (call $exit (i32.load8_u (i32.const 16)))))"#,
    );
    let failed = folder.path().join("failed");
    let ended = stockade(args!["run", guest, "--record", failed]).input("A").end();
    assert_eq!(ended.code, Some(65), "the byte that it read");
    let [file] = files(&failed).try_into().unwrap();
    let ended = stockade(args!["replay", file]).end();
    assert_eq!((ended.code, ended.stdout().as_str()), (Some(0), "65\n"), "{}", ended.stderr);
}

#[test]
fn what_is_no_recording_is_refused_in_words() {
    let folder = Folder::new();
    let file = folder.file("a.stockade", "nothing like it");
    stockade(args!["replay", file])
        .end()
        .fails(65, &["error: cannot replay ", "cause: it is not a recording"]);
    let missing = folder.path().join("missing");
    stockade(args!["replay", missing]).end().fails(66, &["error: cannot read the recording"]);
    let run = args!["run", located(), "percent", "1", "0", "--record", file];
    stockade(run)
        .end()
        .fails(74, &["error: cannot make the directory", "`--record` takes a directory"]);
}

#[test]
fn a_trace_has_a_row_for_each_worker_and_a_slice_for_each_task() {
    let folder = Folder::new();
    let file = folder.path().join("trace.json");
    let run = args!["map", located(), "percent", "--args", "--workers", "2", "--trace", file];
    let lines: String = (0..50).map(|number| format!("[{number}, {}]\n", number % 10)).collect();
    let ended = stockade(run).input(lines).end();
    assert_eq!(ended.code, Some(71), "{}", ended.stderr);

    let events: Vec<Value> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let of = |key: &str, value: &str| -> Vec<&Value> {
        events.iter().filter(|event| event[key] == value).collect()
    };
    let rows: Vec<_> = of("name", "thread_name").iter().map(|row| row["tid"].as_u64()).collect();
    assert!(!rows.is_empty() && rows.len() <= 2, "{rows:?}");
    let tasks = of("cat", "task");
    assert_eq!((tasks.len(), of("cat", "run").len(), of("cat", "queued").len()), (50, 50, 100));
    let failed = tasks.iter().filter(|task| task["args"]["ended"] == "failed").count();
    assert_eq!(failed, 5);
    let mut filled = std::collections::BTreeMap::new();
    for task in tasks {
        assert_eq!(task["name"], "percent");
        let nanos = |field: &str| (task[field].as_f64().unwrap() * 1000.0).round() as u64;
        let (from, length) = (nanos("ts"), nanos("dur"));
        let row = filled.entry(task["tid"].as_u64()).or_insert(0);
        assert!(from >= *row, "slices of a row overlap: {task}");
        *row = from + length;
    }

    let nowhere = folder.path().join("missing/trace.json");
    let run = args!["run", located(), "percent", "1", "1", "--trace", nowhere];
    stockade(run).end().fails(74, &["error: cannot write the trace"]);
}

#[test]
fn a_live_view_without_a_terminal_is_refused_before_anything_runs() {
    let run = args!["map", located(), "percent", "--args", "--top"];
    let ended = stockade(run).input("[4, 2]\n").end();
    ended.fails(2, &["error: `--top` needs a terminal, and stderr is not one"]);
}

#[test]
fn what_is_recorded_is_told_also_where_all_else_is_json() {
    let folder = Folder::new();
    let failed = folder.path().join("failed");
    let run = args!["run", located(), "percent", "1", "0", "--json", "--record", failed];
    let ended = stockade(run).end();
    assert_eq!(ended.code, Some(67), "{}", ended.stderr);
    let value: Value = serde_json::from_str(&ended.stdout()).unwrap();
    assert_eq!(value["error"]["kind"], "trap");
    assert!(ended.stderr.contains("1 failing task recorded in"), "{}", ended.stderr);

    let run = args!["map", located(), "percent", "--args", "--json", "--record", failed];
    let ended = stockade(run).input("[4, 2]\n[1, 0]\n").end();
    assert_eq!(ended.code, Some(71), "{}", ended.stderr);
    let value: Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!((&value["ok"], &value["failed"]), (&1.into(), &1.into()));
    assert!(value["recorded"].as_str().unwrap().starts_with("1 failing task"), "{value}");
    assert_eq!(files(&failed).len(), 2);
}

#[test]
fn a_run_that_is_recorded_has_a_chance_of_its_own_unless_a_seed_is_named() {
    let (folder, guest) = module(
        r#"(module
          (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func (export "f") (result i64)
            (drop (call $random (i32.const 0) (i32.const 8)))
            (i64.load (i32.const 0))))"#,
    );
    let failed = folder.path().join("failed");
    let run = |more: &[&str]| {
        let base = args!["run", guest, "f"];
        let ended = stockade(base.into_iter().chain(more.iter().map(Into::into))).end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout()
    };
    let record = ["--record", failed.to_str().unwrap()];
    assert_ne!(run(&record), run(&record));
    let seeded = ["--seed", "7"];
    assert_eq!(
        run(&[&record[..], &seeded].concat()),
        run(&[&["--deterministic"][..], &seeded].concat())
    );
}

#[test]
fn files_that_fail_are_recorded_with_their_bytes_and_traced() {
    let folder = Folder::new();
    let guest = example("thumbnail");
    let [good, bad] = [data("thumbnail/data/cat.png"), folder.file("broken.png", "no picture")];
    let (failed, trace) = (folder.path().join("failed"), folder.path().join("trace.json"));
    let run =
        args!["map", guest, "preview", "--files", good, bad, "--record", failed, "--trace", trace];
    let ended = stockade(run).end();
    assert_eq!(ended.code, Some(71), "{} {}", ended.stdout(), ended.stderr);
    let [file] = files(&failed).try_into().unwrap();
    assert!(file.file_name().unwrap().to_str().unwrap().starts_with("preview-2-"), "{file:?}");
    let ended = stockade(args!["replay", file]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let events: Vec<Value> = serde_json::from_slice(&std::fs::read(&trace).unwrap()).unwrap();
    let items: Vec<_> = events.iter().filter_map(|event| event["args"]["item"].as_u64()).collect();
    assert_eq!(items.len(), 2, "{items:?}");

    let run = args!["map", guest, "preview", "--files", bad, "--trace", bad];
    stockade(run).end().fails(2, &["is read, and would be overwritten"]);
}

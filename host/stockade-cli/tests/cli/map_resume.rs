//! Maps that go on after Ctrl-C and after being killed, and those that may not.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::args;
use crate::support::{Folder, module, stockade};

/// Gives back its number; negative ones wait for a file `go` in the granted folder and then trap, and
/// 13 traps.
const STUCK_BELOW_0: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_filestat_get"
    (func $stat (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "go")
  (func $wait
    (loop $again
      (if (call $stat (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 2) (i32.const 64))
        (then (br $again))))
    unreachable)
  (func (export "f") (param i32) (result i32)
    (if (i32.lt_s (local.get 0) (i32.const 0)) (then (call $wait)))
    (if (i32.eq (local.get 0) (i32.const 13)) (then unreachable))
    (local.get 0)))"#;

/// A folder to grant, without the file.
fn gate(folder: &Folder) -> std::path::PathBuf {
    let gate = folder.path().join("gate");
    fs::create_dir_all(&gate).expect("a folder");
    gate
}

const LINES: usize = 400;
const STUCK: usize = 200;

/// Numbers, a blank line, and one that takes forever.
fn input(folder: &Folder) -> std::path::PathBuf {
    let line = |n| match n {
        7 => "\n".to_string(),
        STUCK => "-1\n".to_string(),
        n => format!("{n}\n"),
    };
    folder.file("input", (1..=LINES).map(line).collect::<String>())
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_string).collect()
}

/// Asserts that every line has its record once, in the input's order where that was asked for.
#[track_caller]
fn assert_whole(output: &Path, in_order: bool) {
    let numbers: Vec<usize> = lines(output)
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a record"))
        .map(|record| record["line"].as_u64().expect("a line") as usize)
        .collect();
    let expected: Vec<usize> = (1..=LINES).filter(|&n| n != 7).collect();
    assert_eq!(
        numbers.iter().copied().collect::<BTreeSet<_>>(),
        expected.iter().copied().collect()
    );
    assert_eq!(numbers.len(), expected.len(), "a line was repeated");
    assert!(!in_order || numbers == expected, "{numbers:?}");
}

#[test]
fn a_map_that_is_killed_or_interrupted_goes_on_without_repeating_or_losing_a_line() {
    for (signal, order) in [
        (Signal::KILL, None),
        (Signal::KILL, Some("--unordered")),
        (Signal::INT, None),
        (Signal::INT, Some("--unordered")),
    ] {
        let (folder, guest) = module(STUCK_BELOW_0);
        let (output, state) = (folder.path().join("output"), folder.path().join("state"));
        // Ctrl-C waits for the line that is stuck.
        let wall_time = if signal == Signal::KILL { "none" } else { "2s" };
        let map = || {
            let input = input(&folder);
            let base = args!["map", guest, "f", input, "-o", output, "--resume", state];
            let more =
                args!["--workers", "2", "--wall-time", wall_time, "--grant-dir", gate(&folder)];
            stockade(base.into_iter().chain(more).chain(order.map(Into::into)))
        };
        let running = map().start();
        // Behind the line that is stuck nothing is written in order, and everything without.
        let reached = if order.is_none() { STUCK - 2 } else { STUCK };
        while lines(&output).len() < reached {
            std::thread::yield_now();
        }
        // A kill leaves what was kept before it; Ctrl-C keeps everything itself.
        while signal == Signal::KILL && lines(&state).len() < 2 {
            std::thread::yield_now();
        }
        running.signal(signal);
        let ended = running.end();
        if signal == Signal::INT {
            ended.fails(130, &["the same command continues from there"]);
        } else {
            // As if much had been written since, and the kill had come in the middle of a line.
            let mut torn = fs::read(&output).unwrap();
            torn.extend(b"{\"line\":1,\"result\":1}\n".repeat(10_000));
            torn.extend(b"{\"line\":1,\"res");
            fs::write(&output, torn).unwrap();
        }
        // Ctrl-C waited for the end of the line that was stuck, so that nothing fails any more.
        let named = if signal == Signal::KILL { &["1 trap", "done before"][..] } else { &[] };
        fs::write(gate(&folder).join("go"), "").unwrap();
        map().end().fails(71, named);
        assert_whole(&output, order.is_none());

        map().end().fails(71, &["everything was already done: 397 ok, 2 failed"]);
        assert_whole(&output, order.is_none());
    }
}

#[test]
fn what_is_done_behind_a_line_that_was_not_run_waits_for_it() {
    let (folder, guest) = module(STUCK_BELOW_0);
    // The first takes until its deadline, the second waits for it, the third is wrong at once.
    let input = folder.file("input", "-1\n2\nx\n");
    let (output, state) = (folder.path().join("output"), folder.path().join("state"));
    let map = || {
        let base = args!["map", guest, "f", input, "-o", output, "--resume", state];
        stockade(base.into_iter().chain(args!["--workers", "1", "--wall-time", "2s"]))
    };
    let running = map().start();
    running.busy_worker(10);
    running.signal(Signal::INT);
    running.end().fails(130, &["1 line: 0 ok, 1 failed (1 deadline), 2 not run"]);
    assert_eq!(lines(&output).len(), 1);
    map().end().fails(71, &["2 lines: 1 ok, 1 failed (1 bad-line), 1 done before"]);
    let begins = |line: &String| line.split(',').next().unwrap().to_string();
    let begins: Vec<_> = lines(&output).iter().map(begins).collect();
    assert_eq!(begins, ["{\"line\":1", "{\"line\":2", "{\"line\":3"]);
}

#[test]
fn a_map_into_a_directory_goes_on_with_the_files_that_are_missing() {
    let (folder, guest) = module(STUCK_BELOW_0);
    let inputs: Vec<_> =
        ["1", "2", "-1", "4"].iter().map(|n| folder.file(&format!("in{n}"), n)).collect();
    let (output, state) = (folder.path().join("output"), folder.path().join("state"));
    let map = || {
        let base = args!["map", guest, "f", "--output-dir", output, "--resume", state];
        let more = args!["--workers", "1", "--wall-time", "none", "--grant-dir", gate(&folder)];
        let more = more.into_iter().chain(args!["--files"]);
        let inputs = inputs.iter().map(Into::into);
        stockade(base.into_iter().chain(more).chain(inputs))
    };
    let running = map().start();
    while !output.join("in2.json").exists() {
        std::thread::yield_now();
    }
    running.signal(Signal::KILL);
    running.end();
    fs::write(gate(&folder).join("go"), "").unwrap();
    map().end().fails(71, &["1 trap"]);
    for (name, text) in [("in1.json", "1\n"), ("in2.json", "2\n"), ("in4.json", "4\n")] {
        assert_eq!(fs::read_to_string(output.join(name)).unwrap(), text);
    }
    assert!(output.join("in-1.error.json").exists());
    map().end().fails(71, &["everything was already done: 3 ok, 1 failed"]);

    // What is gone is made again, and what somebody changed stays as it is.
    fs::remove_file(output.join("in2.json")).unwrap();
    fs::remove_file(output.join("in-1.error.json")).unwrap();
    map().end().fails(71, &["2 files: 1 ok, 1 failed (1 trap), 2 done before"]);
    assert_eq!(fs::read_to_string(output.join("in2.json")).unwrap(), "2\n");
    assert!(output.join("in-1.error.json").exists());
    fs::write(output.join("in4.json"), "mine").unwrap();
    map().end().fails(74, &["in4.json was changed after it was written", "remove it"]);
    assert_eq!(fs::read_to_string(output.join("in4.json")).unwrap(), "mine");
    fs::remove_file(output.join("in4.json")).unwrap();
    map().end().fails(71, &[]);
    assert_eq!(fs::read_to_string(output.join("in4.json")).unwrap(), "4\n");
    fs::write(&inputs[0], "11").unwrap();
    map().end().fails(2, &["the input has changed"]);
}

#[test]
fn an_error_that_stopped_a_map_is_tried_again_when_it_goes_on() {
    let (folder, guest) = module(STUCK_BELOW_0);
    let input = folder.file("input", "11\n12\n13\n14\n");
    let (output, state) = (folder.path().join("output"), folder.path().join("state"));
    let map = |more: &[&str]| {
        let base = args!["map", guest, "f", input, "-o", output, "--resume", state, "--plain"];
        let base = base.into_iter().chain(args!["--on-error", "stop"]);
        stockade(base.chain(more.iter().map(Into::into))).end()
    };
    for _ in 0..2 {
        map(&[]).fails(67, &["line 3 failed", "unreachable", "continues from there"]);
        assert_eq!(lines(&output), ["11", "12"]);
    }
    // One output never holds the results of two modules.
    let mended = STUCK_BELOW_0.replace("(then unreachable))", "(then (return (i32.const 31))))");
    fs::write(&guest, mended).unwrap();
    map(&[]).fails(2, &["the module has changed", "--anew"]);
    assert_eq!(lines(&output), ["11", "12"]);
    map(&["--anew"]).gives("");
    assert_eq!(lines(&output), ["11", "12", "31", "14"]);
}

const INITIALIZED: &str = r#"(module (global $g (mut i32) (i32.const 0))
  (func (export "init1") (global.set $g (i32.const 1)))
  (func (export "init2") (global.set $g (i32.const 2)))
  (func (export "get") (param i64) (result i32) (global.get $g)))"#;

#[test]
fn a_map_that_would_give_other_results_does_not_go_on() {
    let (folder, guest) = module(INITIALIZED);
    let input = folder.file("input", "1\n2\n");
    let (output, state) = (folder.path().join("output"), folder.path().join("state"));
    let map = |more: &[&str]| {
        let base = args!["map", guest, "get", input, "-o", output, "--resume", state, "--plain"];
        stockade(base.into_iter().chain(more.iter().map(Into::into))).end()
    };
    map(&["--init", "init1"]).gives("");
    map(&["--init", "init2"]).fails(2, &["`--init` was init1, and is init2", "--anew"]);
    map(&[]).fails(2, &["`--init` was init1, and is not given"]);
    for (option, value) in
        [("--memory", "1MiB"), ("--on-error", "skip"), ("--fuel", "1000"), ("--grant-env", "A=1")]
    {
        map(&["--init", "init1", option, value]).fails(2, &[option]);
    }
    assert_eq!(lines(&output), ["1", "1"]);
    // What shapes nothing may be another.
    map(&["--init", "init1", "--workers", "3", "--wall-time", "60s"]).gives("");
    map(&["--init", "init2", "--anew"]).gives("");
    assert_eq!(lines(&output), ["2", "2"]);
}

#[test]
fn an_output_that_is_gone_is_made_again_and_one_that_was_changed_is_refused() {
    let (folder, guest) = module(INITIALIZED);
    let input = folder.file("input", "1\n2\n");
    let (output, state) = (folder.path().join("output"), folder.path().join("state"));
    let map = |more: &[&str]| {
        let base = args!["map", guest, "get", input, "-o", output, "--resume", state, "--plain"];
        stockade(base.into_iter().chain(more.iter().map(Into::into))).end()
    };
    map(&[]).gives("");
    fs::remove_file(&output).unwrap();
    let again = map(&[]);
    again.gives("");
    assert!(again.stderr.contains("is gone: it is written again"), "{}", again.stderr);
    assert_eq!(lines(&output), ["0", "0"]);
    for changed in ["", "0\n", "0\n1\n", "0\n0\n0\n"] {
        fs::write(&output, changed).unwrap();
        map(&[]).fails(74, &["was changed after it was written", "remove it to write it again"]);
        assert_eq!(fs::read_to_string(&output).unwrap(), changed);
    }
    map(&["--anew"]).gives("");
    assert_eq!(lines(&output), ["0", "0"]);
    let nothing_left = map(&[]);
    nothing_left.gives("");
    assert!(nothing_left.stderr.contains("everything was already done"));
    stockade(args!["map", guest, "get", input, "--anew"]).end().fails(2, &["--resume"]);
}

#[test]
fn what_cannot_be_gone_on_with_is_refused_with_what_to_do() {
    let (folder, guest) = module(STUCK_BELOW_0);
    let input = folder.file("input", "1\n2\n");
    let (output, state) = (folder.path().join("output"), folder.path().join("state"));
    let resume = args!["map", guest, "f", "--resume", state];
    let map = |more: &[&Path]| {
        let more = more.iter().map(|word| word.as_os_str().into());
        stockade(resume.iter().cloned().chain(more)).end()
    };
    let to = Path::new("-o");
    map(&[&input]).fails(2, &["how much of stdout was kept", "--output FILE"]);
    map(&[to, &output]).fails(2, &["cannot read stdin a second time", "FILE"]);
    map(&[&input, to, Path::new("/dev/null")]).fails(2, &["/dev/null", "an ordinary file"]);
    assert!(!state.exists());

    map(&[&input, to, &output]).gives("");
    fs::write(&output, "something else\n").unwrap();
    let kept = fs::read_to_string(&state).unwrap();
    fs::write(&state, kept.replace("\"complete\":true", "\"complete\":false")).unwrap();
    map(&[&input, to, &output]).fails(74, &["was changed after it was written", "--anew"]);
    assert_eq!(fs::read_to_string(&output).unwrap(), "something else\n");

    fs::write(&input, "1\n2\n3\n").unwrap();
    map(&[&input, to, &output]).fails(2, &["it had 4 bytes, and has 6 bytes"]);
    fs::write(&state, "notes\n").unwrap();
    map(&[&input, to, &output]).fails(2, &["is not the state of a map"]);
    fs::remove_file(&state).unwrap();
    map(&[&input, to, &output]).fails(74, &["there is no state", "remove the output"]);
}

#[test]
fn a_directory_that_is_missing_is_named_with_what_to_do() {
    let (folder, guest) = module(STUCK_BELOW_0);
    let input = folder.file("input", "1\n2\n");
    let (missing, output) = (folder.path().join("a/b"), folder.path().join("output"));
    let file = missing.join("file");
    let map = |more: &[std::ffi::OsString]| {
        let base = args!["map", guest, "f", input];
        stockade(base.into_iter().chain(more.iter().cloned())).end()
    };
    let make = format!("mkdir -p {}", missing.display());
    for to in [args!["--output-dir", missing], args!["-o", output], args!["-o", file]] {
        let resume = args!["--resume", file];
        map(&[&to[..], &resume[..]].concat()).fails(66, &["cannot keep the state", &make]);
    }
    map(&args!["-o", file]).fails(74, &["cannot write", &make]);
    map(&args!["--trace", file]).fails(74, &["cannot write the trace", &make]);
    stockade(args!["run", guest, "f", "1", "-o", file]).end().fails(74, &["cannot write", &make]);
    assert!(!missing.exists() && !output.exists());

    fs::create_dir_all(&missing).unwrap();
    map(&args!["--output-dir", missing, "--resume", file]).gives("");
    // What is in the way of a directory is no directory that is missing.
    let state = input.join("state");
    map(&args!["-o", output, "--resume", state]).fails(74, &["cannot keep the state"]);
}

#[test]
fn a_state_that_cannot_be_gone_on_from_says_why_and_what_to_do() {
    let (folder, guest) = module(STUCK_BELOW_0);
    let input = folder.file("input", "1\n");
    let (output, state) = (folder.path().join("output"), folder.path().join("state"));
    let map = |more: &[&str]| {
        let all = args!["map", guest, "f", input, "--output", output, "--resume", state];
        stockade(all.into_iter().chain(more.iter().map(Into::into))).end()
    };
    map(&[]).gives("");
    let good = fs::read_to_string(&state).unwrap();

    fs::write(&state, good.replace("\"version\":2", "\"version\":9999")).unwrap();
    map(&[]).fails(2, &["belongs to another version of stockade", "`--anew` starts over"]);
    map(&["--anew"]).gives("");

    fs::write(&state, format!("{good}{{}}\n")).unwrap();
    map(&[]).fails(2, &["is damaged", "`--anew` starts over"]);
    map(&["--anew"]).gives("");

    // What is something else is not lost, and no option is named that would not help.
    fs::write(&state, "diary\n").unwrap();
    let refused = map(&["--anew"]);
    refused.fails(2, &["is not the state of a map", "name another file"]);
    assert!(!refused.stderr.contains("starts over"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&state).unwrap(), "diary\n");
}

#[test]
fn a_result_that_was_changed_is_all_that_is_told() {
    let (folder, guest) = module(STUCK_BELOW_0);
    let input = folder.file("input", "1\n2\n");
    let (output, state) = (folder.path().join("output"), folder.path().join("state"));
    let map = || {
        stockade(args!["map", guest, "f", input, "--output-dir", output, "--resume", state]).end()
    };
    map().gives("");
    fs::write(output.join("2.json"), "7\n").unwrap();
    let refused = map();
    refused.fails(74, &["2.json was changed after it was written", "`--anew` starts over"]);
    for told in ["everything was already done", "continues from there"] {
        assert!(!refused.stderr.contains(told), "{}", refused.stderr);
    }
}

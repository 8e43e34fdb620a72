//! The command's own streams: closed, full, failing, not blocking, and read by nobody.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};

use crate::args;
use crate::support::{Ended, Folder, example, module, stockade};

/// Programs and functions around `body`.
fn guest(body: &str) -> (Folder, std::path::PathBuf) {
    module(&format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_read"
            (func $fd_read (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_write"
            (func $fd_write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (data (i32.const 32) "note\ndone\n")
          ;; Writes `n` bytes at `p` to `fd`; answers the errno.
          (func $write (param $fd i32) (param $p i32) (param $n i32) (result i32)
            (i32.store (i32.const 0) (local.get $p))
            (i32.store (i32.const 4) (local.get $n))
            (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
          {body})"#
    ))
}

/// Writes `note` to stderr, then copies stdin to stdout; exits with the errno that ended it.
const COPY: &str = r#"
  (func (export "_start") (local $errno i32)
    (drop (call $write (i32.const 2) (i32.const 32) (i32.const 5)))
    (loop $again
      (i32.store (i32.const 0) (i32.const 64))
      (i32.store (i32.const 4) (i32.const 4096))
      (local.set $errno (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (local.get $errno) (then (call $exit (local.get $errno))))
      (if (i32.load (i32.const 8)) (then
        (local.set $errno (call $write (i32.const 1) (i32.const 64) (i32.load (i32.const 8))))
        (if (local.get $errno) (then (call $exit (local.get $errno))))
        (br $again)))))"#;

/// Exits with 7 and touches no stream.
const SILENT: &str = r#"(func (export "_start") (call $exit (i32.const 7)))"#;

/// Gives back its number; negative ones never end.
const NUMBERS: &str = r#"
  (func (export "f") (param i32) (result i32)
    (if (i32.lt_s (local.get 0) (i32.const 0)) (then (loop $again (br $again))))
    (local.get 0))"#;

/// The command behind a script of the shell, as `"$0" "$@"`.
fn shell(script: &str, args: &[std::ffi::OsString]) -> Output {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_stockade")]).args(args);
    command.stdin(Stdio::null()).output().expect("a shell")
}

fn seen(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn do_not_block(descriptor: impl AsFd) {
    let flags = fcntl_getfl(&descriptor).expect("its flags");
    fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK).expect("other flags");
}

/// The command with these streams.
fn start(
    args: &[std::ffi::OsString],
    stdin: impl Into<Stdio>,
    stdout: impl Into<Stdio>,
    stderr: impl Into<Stdio>,
) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
    command.args(args).stdin(stdin).stdout(stdout).stderr(stderr).spawn().expect("it starts")
}

fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().expect("its end");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ended { code: output.status.code(), bytes: output.stdout, stderr }
}

#[test]
fn a_stdin_that_does_not_block_is_waited_for() {
    let (_folder, copy) = guest(COPY);
    let (stdin, mut feed) = std::io::pipe().unwrap();
    do_not_block(&stdin);
    let mut child = start(&args!["run", copy], stdin, Stdio::piped(), Stdio::piped());
    // The program runs, so stdin was looked at, and was empty.
    let mut note = [0; 5];
    child.stderr.as_mut().unwrap().read_exact(&mut note).unwrap();
    feed.write_all(b"1\n2\n").unwrap();
    drop(feed);
    ended(child).gives("1\n2\n");

    let (_folder, length) = module(
        r#"(module
          (import "stockade" "input_len" (func $len (result i32)))
          (import "stockade" "output_write" (func $output (param i32 i32)))
          (memory (export "memory") 1)
          (func (export "f") (result i32)
            (call $output (i32.const 0) (call $len)) (i32.const 0)))"#,
    );
    let (stdin, mut feed) = std::io::pipe().unwrap();
    do_not_block(&stdin);
    let bytes = args!["run", length, "f", "--bytes", "-"];
    let child = start(&bytes, stdin, Stdio::piped(), Stdio::piped());
    feed.write_all(b"12").unwrap();
    drop(feed);
    ended(child).gives("\0\0");

    let (_folder, numbers) = guest(NUMBERS);
    let (stdin, mut feed) = std::io::pipe().unwrap();
    do_not_block(&stdin);
    let map = args!["map", numbers, "f", "--plain"];
    let mut child = start(&map, stdin, Stdio::piped(), Stdio::piped());
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for n in 1..=3 {
        writeln!(feed, "{n}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{n}\n"));
    }
    drop(feed);
    assert_eq!(ended(child).code, Some(0));
}

#[test]
fn a_stdin_that_cannot_be_read_is_told() {
    const BADF: i32 = 8;
    const ISDIR: i32 = 31;
    let (folder, copy) = guest(COPY);
    let file = folder.file("file", "x");
    let (_folder, numbers) = guest(NUMBERS);
    let (_folder, silent) = guest(SILENT);
    let write_only = format!("\"$0\" \"$@\" 0>>{}", file.display());
    for (script, errno, reason) in [
        ("\"$0\" \"$@\" < /", ISDIR, "Is a directory"),
        ("\"$0\" \"$@\" <&-", BADF, "Bad file descriptor"),
        (write_only.as_str(), BADF, "Bad file descriptor"),
    ] {
        assert_eq!(seen(&shell(script, &args!["run", copy])), (Some(errno), String::new()));
        // Who reads nothing misses nothing.
        assert_eq!(shell(script, &args!["run", silent]).status.code(), Some(7), "{script}");
        for args in [args!["map", numbers, "f", "-"], args!["run", numbers, "f", "--bytes"]] {
            let args =
                if args[0] == "run" { [&args[..], &args!["-"]].concat() } else { args.into() };
            let output = shell(script, &args);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(66), "{script}: {stderr}");
            assert!(stderr.contains("cannot read stdin") && stderr.contains(reason), "{stderr}");
        }
    }
}

#[test]
fn a_file_that_is_a_closed_stream_is_missing_and_not_an_empty_one() {
    let (folder, numbers) = guest(NUMBERS);
    let lines = folder.file("lines", "1\n");
    for path in ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"] {
        for args in [
            args!["run", path, "f", "1"].to_vec(),
            args!["map", path, "f", lines].to_vec(),
            args!["bench", path, "f", "1"].to_vec(),
            args!["inspect", path].to_vec(),
            args!["inspect", path, "--json"].to_vec(),
            args!["replay", path].to_vec(),
            args!["run", numbers, "f", "1", "--config", path].to_vec(),
            args!["map", numbers, "f", path].to_vec(),
        ] {
            let output = shell("\"$0\" \"$@\" <&-", &args);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(66), "{args:?}: {stderr}");
            assert!(stderr.contains(path) && stderr.contains("Bad file descriptor"), "{stderr}");
        }
    }
    // One that is open and empty is no module.
    for script in ["\"$0\" \"$@\" < /dev/null", "true | \"$0\" \"$@\""] {
        let output = shell(script, &args!["run", "/dev/stdin", "f", "1"]);
        assert_eq!(output.status.code(), Some(65), "{script}");
    }
}

#[test]
fn a_stdin_that_fails_in_the_middle_is_no_end_of_it() {
    const IO: i32 = 29;
    // Closed with something unread, a socket is an error to its other end.
    let failing = || {
        let (mut feed, mut stdin) = UnixStream::pair().unwrap();
        feed.write_all(b"1\n").unwrap();
        stdin.write_all(b"!").unwrap();
        drop(feed);
        OwnedFd::from(stdin)
    };
    let (_folder, copy) = guest(COPY);
    let ended = ended(start(&args!["run", copy], failing(), Stdio::piped(), Stdio::piped()));
    assert_eq!((ended.code, ended.stdout().as_str()), (Some(IO), "1\n"));
    assert!(ended.stderr.contains("stdin cannot be read to its end"), "{}", ended.stderr);

    let (_folder, numbers) = guest(NUMBERS);
    let map = args!["map", numbers, "f", "--plain"];
    let ended = self::ended(start(&map, failing(), Stdio::piped(), Stdio::piped()));
    ended.fails(66, &["cannot read the input", "reset"]);
    assert_eq!(ended.stdout(), "1\n");
}

#[test]
fn a_stdout_that_cannot_be_written_loses_nothing_silently() {
    let (folder, numbers) = guest(NUMBERS);
    let (_folder, copy) = guest(COPY);
    let (_folder, silent) = guest(SILENT);
    let file = folder.file("file", "");
    let read_only = format!("\"$0\" \"$@\" 1<{}", file.display());
    let input = folder.file("input", "1\n");
    let out = folder.path().join("out");
    for script in ["\"$0\" \"$@\" >&-", "\"$0\" \"$@\" > /dev/full", read_only.as_str()] {
        let code = |args: &[std::ffi::OsString]| {
            let output = shell(script, args);
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        for args in [
            &args!["run", numbers, "f", "4"][..],
            &args!["run", numbers, "f", "4", "--json"],
            &args!["map", numbers, "f", input],
            &args!["inspect", numbers],
            &args!["inspect", numbers, "--json"],
            &args!["completions", "bash"],
            &args!["--version"],
            &args!["help"],
            &args!["run", "--help"],
        ] {
            let (code, stderr) = code(args);
            assert_eq!(code, Some(74), "{script} {args:?}: {stderr}");
            assert!(stderr.contains("cannot write to stdout"), "{stderr}");
        }
        // What is written elsewhere, or not at all, is nobody's loss.
        assert_eq!(code(&args!["run", numbers, "f", "4", "-o", out]).0, Some(0), "{script}");
        assert_eq!(std::fs::read(&out).unwrap(), b"4\n");
        assert_eq!(code(&args!["map", numbers, "f", input, "-o", out]).0, Some(0), "{script}");
        assert_eq!(code(&args!["run", silent]).0, Some(7), "{script}");

        let piped = format!("echo x | {script}");
        let output = shell(&piped, &args!["run", copy]);
        assert_eq!(output.status.code(), Some(74), "{piped}");
    }
}

#[test]
fn a_stdout_that_does_not_block_gets_everything() {
    const COUNT: usize = 60_000;
    let (_folder, yes) = guest(&format!(
        r#"(func (export "_start") (local $left i32)
            (local.set $left (i32.const {COUNT}))
            (loop $more
              (if (call $write (i32.const 1) (i32.const 32) (i32.const 5))
                (then (call $exit (i32.const 3))))
              (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))"#
    ));
    let (folder, numbers) = guest(NUMBERS);
    let input = folder.file("input", "1234\n".repeat(COUNT));
    for args in
        [&args!["run", yes][..], &args!["map", numbers, "f", input, "--plain", "--chunk", "100"]]
    {
        let (mut reader, stdout) = std::io::pipe().unwrap();
        do_not_block(&stdout);
        let mut child = start(args, Stdio::null(), stdout, Stdio::piped());
        // More than a pipe holds waits before anything is read, or comes meanwhile.
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!((bytes.len(), child.wait().unwrap().code()), (5 * COUNT, Some(0)));
    }
}

#[test]
fn a_stderr_that_nobody_reads_or_that_is_full_ends_nothing() {
    let (_folder, talk) = guest(
        r#"(func (export "_start") (local $left i32)
            (local.set $left (i32.const 100000))
            (loop $more
              (if (call $write (i32.const 2) (i32.const 32) (i32.const 5))
                (then (call $exit (i32.const 3))))
              (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (drop (call $write (i32.const 1) (i32.const 37) (i32.const 5)))
            (call $exit (i32.const 7)))"#,
    );
    let (reader, stderr) = std::io::pipe().unwrap();
    drop(reader);
    let child = start(&args!["run", talk], Stdio::null(), Stdio::piped(), stderr);
    let ended = ended(child);
    assert_eq!((ended.code, ended.stdout().as_str()), (Some(7), "done\n"));
    for script in ["\"$0\" \"$@\" 2>/dev/full", "\"$0\" \"$@\" 2>&-"] {
        assert_eq!(seen(&shell(script, &args!["run", talk])), (Some(7), "done\n".into()));
        // Errors of items go there too, and their number is told all the same.
        let (folder, numbers) = guest(NUMBERS);
        let input = folder.file("input", "1\nx\n3\n");
        let output = shell(script, &args!["map", numbers, "f", input, "--plain"]);
        assert_eq!(seen(&output), (Some(71), "1\nnull\n3\n".into()));
    }
}

#[test]
fn a_program_is_told_that_nobody_reads_its_stdout() {
    // Writes without end until that fails, and then ends as `last` says.
    let flood = |last: &str| {
        guest(&format!(
            r#"(func (export "_start")
                (loop $more
                  (br_if $more (i32.eqz (call $write (i32.const 1) (i32.const 32) (i32.const 5)))))
                {last})"#
        ))
    };
    // Its own code counts; but nobody takes lost output for a success, or for a trap.
    for (last, code) in [
        ("(call $exit (i32.const 7))", 7),
        ("(call $exit (i32.const 0))", 141),
        ("unreachable", 141),
    ] {
        let (_folder, guest) = flood(last);
        let mut running = stockade(args!["run", guest, "--wall-time", "none"]).start();
        assert_eq!(running.line(), "note");
        drop(running.stdout.take());
        let ended = running.end();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(code), ""), "{last}");
    }
}

#[test]
fn a_reader_that_goes_away_is_noticed_though_nothing_is_written() {
    let (_folder, numbers) = guest(NUMBERS);
    // The input stays open, and no item is under way.
    let mut running = stockade(args!["map", numbers, "f", "--plain"]).start();
    running.write("1\n");
    assert_eq!(running.line(), "1");
    drop(running.stdout.take());
    let stdin = running.stdin.take();
    let ended = running.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(141), ""));
    drop(stdin);

    // A task that would never end.
    for args in [
        args!["map", numbers, "f", "--wall-time", "none"].to_vec(),
        args!["run", numbers, "f", "--wall-time", "none", "--", "-1"].to_vec(),
    ] {
        let mut running = stockade(args).start();
        running.write("-1\n");
        running.busy_worker(10);
        drop(running.stdout.take());
        let stdin = running.stdin.take();
        let ended = running.end();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(141), ""));
        drop(stdin);
    }
}

#[test]
fn a_socket_that_is_half_closed_is_still_read() {
    let (_folder, numbers) = guest(NUMBERS);
    let (mut reader, stdout) = UnixStream::pair().unwrap();
    // It has nothing to say, and reads on.
    reader.shutdown(Shutdown::Write).unwrap();
    let map = args!["map", numbers, "f", "--plain"];
    let mut child = start(&map, Stdio::piped(), OwnedFd::from(stdout), Stdio::piped());
    child.stdin.take().unwrap().write_all(b"1\n2\n").unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!((ended(child).code, text.as_str()), (Some(0), "1\n2\n"));
}

#[test]
fn signals_end_a_map_as_ctrl_c_does_and_say_what_is_waited_for() {
    let (_folder, numbers) = guest(NUMBERS);
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let options = args!["--workers", "1", "--wall-time", "2s"];
        let all = args!["map", numbers, "f", "--plain"].into_iter().chain(options);
        let mut running = stockade(all).start();
        running.write("1\n-1\n3\n");
        assert_eq!(running.line(), "1");
        running.busy_worker(10);
        running.signal(signal);
        let ended = running.end();
        ended.fails(code, &["interrupted: waiting for 1 running task", "1 deadline", "1 not run"]);
        assert_eq!(ended.stdout(), "null\n");
    }
}

#[test]
fn a_map_survives_its_terminal_where_that_was_asked_for() {
    let (_folder, numbers) = guest(NUMBERS);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_stockade")]);
    command.args(args!["map", numbers, "f", "--plain"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = |text: &str| {
        stdin.write_all(text.as_bytes()).unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        line
    };
    assert_eq!(line("1\n"), "1\n");
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    assert_eq!(line("2\n"), "2\n");
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Everything in a folder, by name and contents.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .expect("a file")
        .map(|entry| entry.expect("a file"))
        .filter(|entry| entry.path().is_file())
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).expect("a file"))
        })
        .collect();
    all.sort();
    all
}

#[test]
fn what_is_read_is_not_written_over() {
    let (folder, guest) = guest(NUMBERS);
    let input = folder.file("in.jsonl", "1\n2\n");
    folder.file("stockade.toml", "[map]\nplain = true\n");
    folder.file("number", "4");
    folder.file("1.json", "7\n");
    std::fs::hard_link(&input, folder.path().join("link")).unwrap();
    std::os::unix::fs::symlink("in.jsonl", folder.path().join("symlink")).unwrap();
    let before = contents(folder.path());
    let here = |script: &str, args: &[std::ffi::OsString]| {
        let script = format!("cd '{}' && {script}", folder.path().display());
        let output = shell(&script, args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(contents(folder.path()), before, "{script} {args:?}");
        (output.status.code(), stderr)
    };
    let plain = "\"$0\" \"$@\"";
    let map = |more: &[&str]| {
        let all = ["map", "guest.wat", "f"].into_iter().chain(more.iter().copied());
        all.map(std::ffi::OsString::from).collect::<Vec<_>>()
    };
    let run = |more: &[&str]| {
        let all = ["run", "guest.wat", "f"].into_iter().chain(more.iter().copied());
        all.map(std::ffi::OsString::from).collect::<Vec<_>>()
    };
    let _ = guest;
    for (script, args) in [
        ("\"$0\" \"$@\" < in.jsonl", map(&["-", "-o", "in.jsonl"])),
        ("\"$0\" \"$@\" < in.jsonl", map(&["-o", "link"])),
        ("\"$0\" \"$@\" < in.jsonl >> in.jsonl", map(&[])),
        ("\"$0\" \"$@\" >> link", map(&["in.jsonl"])),
        (plain, map(&["in.jsonl", "-o", "link"])),
        (plain, map(&["symlink", "-o", "in.jsonl"])),
        (plain, map(&["in.jsonl", "-o", "guest.wat"])),
        (plain, map(&["in.jsonl", "-o", "stockade.toml"])),
        (plain, map(&["in.jsonl", "--trace", "link"])),
        (plain, map(&["in.jsonl", "-o", "out", "--resume", "link"])),
        (plain, map(&["in.jsonl", "-o", "out", "--trace", "out"])),
        (plain, map(&["in.jsonl", "-o", "out", "--trace", "./out"])),
        (plain, map(&["in.jsonl", "-o", "number", "--grant-dir", "."])),
        (plain, map(&["1.json", "--output-dir", "."])),
        (plain, map(&["--files", "number", "1.json", "--extension", "json", "--output-dir", "."])),
        (plain, run(&["@number", "-o", "number"])),
        (plain, run(&["@number", "--trace", "number"])),
        (plain, run(&["4", "-o", "guest.wat"])),
        (plain, run(&["--bytes", "number", "-o", "number"])),
        ("\"$0\" \"$@\" >> number", run(&["@number"])),
        // A program reads stdin, wherever it is.
        ("\"$0\" run guest.wat _start --trace in.jsonl < in.jsonl", vec![]),
        ("\"$0\" run guest.wat --entry f --trace link < in.jsonl", vec![]),
        (plain, map(&["1.json", "--output-dir", ".", "--trace", "1.json"])),
    ] {
        let (code, stderr) = here(script, &args);
        assert_eq!(code, Some(2), "{script} {args:?}: {stderr}");
    }
}

#[test]
fn a_result_replaces_no_trace_and_no_state() {
    let (folder, guest) = guest(NUMBERS);
    let input = folder.file("in.jsonl", "1\n");
    let output = folder.path().join("out");
    std::fs::create_dir(&output).unwrap();
    let map = |option: &str, name: &str| {
        let path = output.join(name);
        stockade(args!["map", guest, "f", input, "--output-dir", output, option, path]).end()
    };
    map("--trace", "1.json")
        .fails(2, &["`--trace` names ", "1.json, which a result is written to"]);
    std::fs::remove_file(output.join("1.json")).unwrap();
    map("--resume", "1.json").fails(2, &["`--resume` names ", "which a result is written to"]);
    // Nor what its guest may read, unless the map goes on.
    let granted = |more: &[&str]| {
        let all = args!["map", guest, "f", input, "--output-dir", output, "--grant-dir", output];
        stockade(all.into_iter().chain(more.iter().map(Into::into))).end()
    };
    std::fs::write(output.join("1.json"), "7\n").unwrap();
    granted(&[])
        .fails(2, &["1.json may be read, and would be overwritten", "granted to the guest"]);
    assert_eq!(std::fs::read_to_string(output.join("1.json")).unwrap(), "7\n");
    std::fs::remove_file(output.join("1.json")).unwrap();
    let state = folder.path().join("state").display().to_string();
    assert_eq!(granted(&["--resume", &state]).code, Some(0));
    let kept = std::fs::read_to_string(&state).unwrap();
    let begun = kept.lines().next().unwrap();
    std::fs::write(&state, format!("{begun}\n")).unwrap();
    assert_eq!(granted(&["--resume", &state]).code, Some(0));
    std::fs::remove_file(output.join("1.json")).unwrap();
    // Besides them there is room.
    assert_eq!(map("--trace", "trace").code, Some(0));
    assert_eq!(map("--resume", "state").code, Some(0));
    assert_eq!(std::fs::read_to_string(output.join("1.json")).unwrap(), "1\n");
}

#[test]
fn a_path_that_stands_for_a_stream_is_that_stream() {
    let (folder, guest) = guest(NUMBERS);
    let log = folder.path().join("log");
    let input = folder.file("in.jsonl", "2\n");
    let script = format!(
        "{{ echo a; \"$0\" run \"$1\" f 1 -o /dev/stdout; \"$0\" map \"$1\" f \"$2\" --plain -o /dev/fd/1; \
         echo b; }} > '{}'",
        log.display()
    );
    assert_eq!(shell(&script, &args![guest, input]).status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "a\n1\n2\nb\n");

    // One that was closed is not `/dev/null`, which is in its place.
    for (script, code) in [
        ("\"$0\" run \"$1\" f 1 -o /dev/stdout >&-", 74),
        ("\"$0\" run \"$1\" f 1 -o /dev/stderr 2>&-", 74),
        ("\"$0\" map \"$1\" f \"$2\" -o /proc/self/fd/1 >&-", 74),
        ("\"$0\" map \"$1\" f /dev/stdin <&-", 66),
        ("\"$0\" run \"$1\" f @/dev/stdin <&-", 66),
        ("\"$0\" run \"$1\" f --bytes /dev/fd/0 <&-", 66),
    ] {
        let output = shell(script, &args![guest, input]);
        assert_eq!(output.status.code(), Some(code), "{script}: {output:?}");
    }

    // A socket cannot be opened by its name.
    let (mut feed, stdin) = UnixStream::pair().unwrap();
    feed.write_all(b"3\n").unwrap();
    drop(feed);
    let map = args!["map", guest, "f", "/dev/stdin", "--plain"];
    ended(start(&map, OwnedFd::from(stdin), Stdio::piped(), Stdio::piped())).gives("3\n");
}

#[test]
fn stdin_is_read_once() {
    let (_folder, numbers) = guest(NUMBERS);
    let named = ["stdin can be read once"];
    for words in
        [&["f", "@-", "@-"][..], &["f", "@-", "--arg", "x=@-"], &["f", "@-", "--init-arg", "@-"]]
    {
        let run = args!["run", numbers].into_iter().chain(words.iter().map(Into::into));
        stockade(run).input("1").end().fails(2, &named);
    }
    for words in [&["--files", "-", "-"][..], &["--init-arg", "@-"], &["-", "--init-arg", "@-"]] {
        let map = args!["map", numbers, "f"].into_iter().chain(words.iter().map(Into::into));
        stockade(map).input("1").end().fails(2, &named);
    }
    // A program's arguments are texts.
    let (_folder, silent) = guest(SILENT);
    assert_eq!(stockade(args!["run", silent, "--", "@-", "@-"]).end().code, Some(7));
}

#[test]
fn a_disk_that_is_full_leaves_no_file_by_half() {
    // Results of 3 MiB, where a file may have 2.
    let (folder, guest) = module(
        r#"(module
          (import "stockade" "output_write" (func $output (param i32 i32)))
          (memory (export "memory") 48)
          (func (export "f") (result i32)
            (call $output (i32.const 0) (i32.const 3145728))
            (i32.const 0)))"#,
    );
    let input = folder.file("input", "1\n");
    let before = contents(folder.path());
    let limited = |blocks: u32, args: &[std::ffi::OsString]| {
        let folder = folder.path().display();
        let script =
            format!("cd '{folder}' && trap '' XFSZ && ulimit -f {blocks} && exec \"$0\" \"$@\"");
        let output = shell(&script, args);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let result = args!["run", guest, "f", "--bytes", input, "-o", "out"];
    let each = args!["map", guest, "f", "--files", input, "--output-dir", "."];
    for args in [&result[..], &each] {
        let (code, stderr) = limited(4096, args);
        assert_eq!(code, Some(74), "{stderr}");
        assert!(stderr.contains("cannot write"), "{stderr}");
        assert_eq!(contents(folder.path()), before, "{args:?}");
    }
    for args in [&args!["new", "made"][..], &args!["man", "."]] {
        let (code, stderr) = limited(1, args);
        assert_eq!(code, Some(74), "{stderr}");
        assert!(!folder.path().join("made").exists());
        assert_eq!(contents(folder.path()), before, "{args:?}");
    }
}

#[test]
fn an_output_that_is_full_keeps_whole_lines() {
    // Results of 1,000 bytes, a text of JSON.
    let (folder, long) = module(
        r#"(module
          (import "stockade" "output_write" (func $output (param i32 i32)))
          (memory (export "memory") 1)
          (func (export "f") (result i32)
            (memory.fill (i32.const 0) (i32.const 120) (i32.const 1000))
            (i32.store8 (i32.const 0) (i32.const 34))
            (i32.store8 (i32.const 999) (i32.const 34))
            (call $output (i32.const 0) (i32.const 1000))
            (i32.const 0)))"#,
    );
    let input = folder.file("input", "1\n".repeat(8000));
    let before = contents(folder.path());
    let limited = |blocks: u32, args: &[std::ffi::OsString]| {
        let folder = folder.path().display();
        let script =
            format!("cd '{folder}' && trap '' XFSZ && ulimit -f {blocks} && exec \"$0\" \"$@\"");
        let output = shell(&script, args);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let chunk = args!["--plain", "--chunk", "100"];
    let map = [&args!["map", long, "f", input, "-o", "out"][..], &chunk].concat();
    let (code, stderr) = limited(4096, &map);
    assert_eq!(code, Some(74), "{stderr}");
    let out = std::fs::read_to_string(folder.path().join("out")).unwrap();
    assert!(out.len() > 1 << 20 && out.len() % 1001 == 0, "{}", out.len());
    std::fs::remove_file(folder.path().join("out")).unwrap();

    let traced = [&args!["map", long, "f", input, "--trace", "trace"][..], &chunk].concat();
    let (code, stderr) = limited(4096, &traced);
    assert_eq!(code, Some(74), "{stderr}");
    assert!(stderr.contains("cannot write the trace"), "{stderr}");
    assert_eq!(contents(folder.path()), before);
}

#[test]
fn an_output_that_is_a_pipe_is_written_to_its_reader() {
    let (folder, numbers) = guest(NUMBERS);
    let path = folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    for args in [
        &args!["map", numbers, "f", "--plain", "-o", path][..],
        &args!["run", numbers, "f", "1", "-o", path],
    ] {
        let pipe = path.clone();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            File::open(pipe).unwrap().read_to_string(&mut text).unwrap();
            text
        });
        stockade(args).input("1\n").end().gives("");
        assert_eq!(reader.join().unwrap(), "1\n");
    }
}

#[test]
fn a_pipe_in_a_granted_folder_is_read_and_a_name_that_is_no_text_hides_no_other() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    let path = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    folder.file("file", "x");
    std::fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"bad\xff")), "x").unwrap();
    let grant = format!("{}::/d", folder.path().display());
    let writer = std::thread::spawn(move || std::fs::write(path, "a\nb\n").unwrap());
    let count = args!["run", example("linecount"), "--grant-dir", grant, "--", "/d/pipe"];
    stockade(count).end().gives("2 /d/pipe\n");
    writer.join().unwrap();

    let (_folder, list) = module(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_readdir"
            (func $list (param i32 i32 i32 i64 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (func (export "_start")
            (i32.store (i32.const 0) (i32.const 1000))
            (if (call $list (i32.const 3) (i32.const 1000) (i32.const 4096) (i64.const 0)
                (i32.const 4)) (then (call $exit (i32.const 3))))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
    );
    let ended = stockade(args!["run", list, "--grant-dir", grant]).end();
    let text = ended.stdout();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(text.contains("file") && text.contains("pipe") && !text.contains("bad"), "{text:?}");
}

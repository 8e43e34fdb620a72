//! Commands and WASI: what was granted, and nothing else.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use stockade_wire::{Captured, Failure, Grants, Limits, Outcome, Stdin, StdioSink};

use super::support::{READ_AND_WRITE, command, from_entry, from_start, worker, written};

/// A command around `body`, with the WASI calls that the tests use.
fn program(body: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "args_sizes_get"
                (func $args_sizes_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "environ_get"
                (func $environ_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "environ_sizes_get"
                (func $environ_sizes_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read"
                (func $fd_read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write"
                (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_open" (func $path_open
                (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff"
                (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "random_get"
                (func $random_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "clock_time_get"
                (func $clock (param i32 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 60000) "file.txt../out/etc/passwd")
            {READ_AND_WRITE}
            {body})"#
    )
}

const ECHO: &str = r#"
    (func (export "_start") (local $n i32)
        (drop (call $args_sizes_get (i32.const 0) (i32.const 4)))
        (drop (call $args_get (i32.const 100) (i32.const 200)))
        (drop (call $write (i32.const 1) (i32.const 200) (i32.load (i32.const 4))))
        (drop (call $environ_sizes_get (i32.const 0) (i32.const 4)))
        (drop (call $environ_get (i32.const 100) (i32.const 200)))
        (drop (call $write (i32.const 2) (i32.const 200) (i32.load (i32.const 4))))
        (loop $more
            (local.set $n (call $read (i32.const 0)))
            (if (i32.gt_s (local.get $n) (i32.const 0)) (then
                (drop (call $write (i32.const 1) (i32.const 1000) (local.get $n)))
                (br $more))))
        (call $proc_exit (i32.const 42)))"#;

#[test]
fn a_command_gets_its_arguments_environment_and_stdin_and_ends_with_its_code() {
    let grants = Grants::none().env("LANG", "C");
    let mut worker = worker().grants(grants).start_with(&program(ECHO));
    let mut call = command(&["echo", "a b"], b"piped in");
    call.env.push(("X".into(), "1".into()));
    let finished = worker.run(from_start(call));
    assert_eq!(finished.outcome, Outcome::Exited(42));
    assert_eq!(written(&finished).stdout.bytes, b"echo\0a b\0piped in");
    assert_eq!(written(&finished).stderr.bytes, b"LANG=C\0X=1\0");
}

#[test]
fn without_grants_arguments_environment_and_stdin_are_empty() {
    let mut worker = worker().start_with(&program(ECHO));
    let finished = worker.run(from_start(command(&[], b"")));
    assert_eq!(finished.outcome, Outcome::Exited(42));
    assert_eq!(
        (written(&finished).stdout, written(&finished).stderr),
        (Captured::default(), Captured::default())
    );
}

#[test]
fn a_command_that_returns_or_traps_says_so() {
    let mut returning = worker().start_with(&program(r#"(func (export "_start"))"#));
    let ended = returning.run(from_start(command(&[], b"")));
    assert_eq!(ended.outcome, Outcome::Exited(0));
    let mut trapping = worker().start_with(&program(r#"(func (export "_start") unreachable)"#));
    let ended = trapping.run(from_start(command(&[], b"")));
    assert!(matches!(ended.outcome, Outcome::Failed(Failure::Trap { .. })));
    let mut neither = worker().start_with(&program(""));
    let ended = neither.run(from_start(command(&[], b"")));
    assert!(matches!(ended.outcome, Outcome::Failed(Failure::Guest(_))));
}

#[test]
fn a_program_begins_in_any_entry_after_its_initialize_and_what_that_returns_is_its_code() {
    let mut worker = worker().start_with(&program(
        r#"(global $ready (mut i32) (i32.const 0))
           (func (export "_initialize")
            (global.set $ready (i32.add (global.get $ready) (i32.const 5))))
           (func (export "") (result i32) (global.get $ready))
           (func (export "run") (result i32) (i32.add (global.get $ready) (i32.const 2)))
           (func (export "quiet"))
           (func (export "leave") (call $proc_exit (global.get $ready)))
           (func (export "_start") (call $proc_exit (global.get $ready)))
           (func (export "takes") (param i32))
           (func (export "wide") (result i64) (i64.const 1))"#,
    ));
    for (entry, code) in
        [("", 5), ("run", 7), ("quiet", 0), ("leave", 5), ("_start", 5), ("_initialize", 0)]
    {
        let ended = worker.run(from_entry(entry, command(&[], b"")));
        assert_eq!(ended.outcome, Outcome::Exited(code), "{entry:?}");
    }
    for entry in ["takes", "wide", "memory", "missing"] {
        let ended = worker.run(from_entry(entry, command(&[], b"")));
        assert!(matches!(ended.outcome, Outcome::Failed(Failure::Guest(_))), "{entry}");
    }
}

#[test]
fn a_program_that_exits_before_its_entry_has_ended_with_that_code() {
    for before in [
        r#"(func (export "_initialize") (call $proc_exit (i32.const 9)))"#,
        "(func $before (call $proc_exit (i32.const 9))) (start $before)",
    ] {
        for entry in ["", "_start"] {
            let entered = format!(r#"{before} (func (export "{entry}") unreachable)"#);
            let mut worker = worker().start_with(&program(&entered));
            let ended = worker.run(from_entry(entry, command(&[], b"")));
            assert_eq!(ended.outcome, Outcome::Exited(9), "{before}");
        }
    }
}

#[test]
fn stdio_streams_straight_through_descriptors() {
    let mut worker = worker().start_with(&program(ECHO));
    let (stdin, mut feed) = std::io::pipe().unwrap();
    let (mut out, stdout) = std::io::pipe().unwrap();
    let mut call = command(&["x"], b"");
    (call.stdin, call.stdout) = (Stdin::Descriptor, StdioSink::Descriptor);
    worker.submit(from_start(call), &[stdin.as_fd(), stdout.as_fd()]);
    drop(stdout);

    let mut seen = [0; 2];
    out.read_exact(&mut seen).unwrap(); // the arguments, before anything was fed
    assert_eq!(&seen, b"x\0");
    feed.write_all(b"one").unwrap();
    let mut seen = [0; 3];
    out.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"one");
    drop(feed);
    let finished = worker.finished();
    assert_eq!(finished.outcome, Outcome::Exited(42));
    assert_eq!(written(&finished).stdout, Captured::default());
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).unwrap(); // the worker has closed its end
    assert_eq!(rest, b"");
}

#[test]
fn a_closed_reader_is_an_error_to_the_guest() {
    let mut worker = worker().start_with(&program(
        r#"(func (export "_start")
            (call $proc_exit (call $write (i32.const 1) (i32.const 0) (i32.const 1))))"#,
    ));
    let (reader, stdout) = std::io::pipe().unwrap();
    drop(reader);
    let mut call = command(&[], b"");
    call.stdout = StdioSink::Descriptor;
    worker.submit(from_start(call), &[stdout.as_fd()]);
    const EPIPE: i32 = 64;
    assert_eq!(worker.finished().outcome, Outcome::Exited(EPIPE));
}

/// Opens the path at `start..start + length` under the first granted directory, for reading or for
/// creating, and exits with the errno.
fn opener(start: u32, length: u32, create: bool) -> String {
    let (flags, rights) = if create { (1, 0x40) } else { (0, 2) };
    program(&format!(
        r#"(func (export "_start")
            (call $proc_exit (call $path_open (i32.const 3) (i32.const 0)
                (i32.const {start}) (i32.const {length}) (i32.const {flags})
                (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 0))))"#
    ))
}

fn exit_code(grants: Grants, source: &str) -> i32 {
    let mut worker = worker().grants(grants).start_with(source);
    match worker.run(from_start(command(&[], b""))).outcome {
        Outcome::Exited(code) => code,
        other => panic!("expected an exit code, got {other:?}"),
    }
}

#[test]
fn a_granted_directory_is_all_of_the_file_system() {
    const FILE: (u32, u32) = (60_000, 8);
    const OUTSIDE: (u32, u32) = (60_008, 6);
    const ABSOLUTE: (u32, u32) = (60_014, 11);
    const BADF: i32 = 8;
    let directory = Directory::new("wasi-grants");
    std::fs::write(directory.path.join("file.txt"), "x").unwrap();
    let read_only = Grants::none().read_dir(&directory.path, "/d");
    let writable = Grants::none().write_dir(&directory.path, "/d");

    assert_eq!(exit_code(Grants::none(), &opener(FILE.0, FILE.1, false)), BADF);
    assert_eq!(exit_code(read_only.clone(), &opener(FILE.0, FILE.1, false)), 0);
    for grants in [&read_only, &writable] {
        assert_ne!(exit_code(grants.clone(), &opener(OUTSIDE.0, OUTSIDE.1, false)), 0);
        assert_ne!(exit_code(grants.clone(), &opener(OUTSIDE.0, OUTSIDE.1, true)), 0);
        assert_ne!(exit_code(grants.clone(), &opener(ABSOLUTE.0, ABSOLUTE.1, false)), 0);
    }
    std::fs::remove_file(directory.path.join("file.txt")).unwrap();
    assert_ne!(exit_code(read_only, &opener(FILE.0, FILE.1, true)), 0);
    assert!(!directory.path.join("file.txt").exists());
    assert_eq!(exit_code(writable, &opener(FILE.0, FILE.1, true)), 0);
    assert!(directory.path.join("file.txt").exists());
}

/// A directory of a test's own, removed at its end.
struct Directory {
    path: std::path::PathBuf,
}

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stockade-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self { path }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

#[test]
fn too_much_randomness_ends_the_guest_and_a_little_does_not() {
    let source = |bytes: u32| {
        program(&format!(
            r#"(func (export "_start")
                (call $proc_exit (call $random_get (i32.const 0) (i32.const {bytes}))))"#
        ))
    };
    assert_eq!(exit_code(Grants::none(), &source(100)), 0);
    let mut worker = worker().start_with(&source(64 << 20));
    let ended = worker.run(from_start(command(&[], b""))).outcome;
    assert!(matches!(ended, Outcome::Failed(Failure::Guest(_))), "{ended:?}");
}

/// Polls `count` subscriptions that were written at 0 and exits with the errno, or 100 and the
/// number of events where that is 0.
fn poller(subscriptions: &str, count: u32) -> String {
    program(&format!(
        r#"(func (export "_start") (local $errno i32)
            {subscriptions}
            (local.set $errno
                (call $poll (i32.const 0) (i32.const 1000) (i32.const {count}) (i32.const 2000)))
            (call $proc_exit (select (local.get $errno)
                (i32.add (i32.const 100) (i32.load (i32.const 2000)))
                (local.get $errno))))"#
    ))
}

#[test]
fn polling_waits_for_the_first_and_reports_only_what_is_due() {
    let clock = |at: u32, nanoseconds: u64| {
        format!(
            "(i32.store (i32.const {}) (i32.const 1)) (i64.store (i32.const {}) (i64.const {nanoseconds}))",
            at + 16,
            at + 24
        )
    };
    let stdin = |at: u32| format!("(i32.store8 (i32.const {}) (i32.const 1))", at + 8);
    let hour = 3_600_000_000_000;
    let code =
        |subscriptions: String, count| exit_code(Grants::none(), &poller(&subscriptions, count));
    assert_eq!(code(clock(0, 1), 1), 101);
    assert_eq!(code(clock(0, 1) + &clock(48, hour), 2), 101);
    assert_eq!(code(clock(0, 1) + &clock(48, 1), 2), 102);
    assert_eq!(code(clock(0, hour) + &stdin(48), 2), 101);
    assert_eq!(code(clock(0, 0), 0), 28);
    assert_eq!(code(clock(0, 0), 100_000_000), 28);
    assert_eq!(code(clock(0, 0), 4000), 21);
    assert_eq!(code("(i32.store8 (i32.const 8) (i32.const 9))".into(), 1), 28);
}

#[test]
fn an_absolute_time_is_measured_by_the_clock_that_the_guest_reads() {
    let limits = Limits::default().wall_time(Duration::from_secs(30));
    for clock in [0, 1] {
        let mut worker = worker().limits(limits.clone()).start_with(&poller(
            &format!(
                "(drop (call $clock (i32.const {clock}) (i64.const 1) (i32.const 3000)))
                 (i32.store (i32.const 16) (i32.const {clock}))
                 (i64.store (i32.const 24) (i64.add (i64.const 1000) (i64.load (i32.const 3000))))
                 (i32.store16 (i32.const 40) (i32.const 1))"
            ),
            1,
        ));
        let ended = worker.run(from_start(command(&[], b"")));
        assert_eq!(ended.outcome, Outcome::Exited(101));
    }
}

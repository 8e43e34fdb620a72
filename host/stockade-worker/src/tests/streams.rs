//! Streams and pipes as they come: that do not block, that fail, that nobody reads; and waiting for them.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, mknodat};
use stockade_wire::{CommandCall, Grants, Limits, Outcome, Stdin, StdioSink};

use super::support::{READ_AND_WRITE, Worker, command, from_start, worker, written};

/// A program around `body`, with the calls that the tests use.
fn program(body: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_read"
                (func $fd_read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write"
                (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_renumber"
                (func $renumber (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_seek"
                (func $seek (param i32 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_tell" (func $tell (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_filestat_get"
                (func $stat (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_readdir"
                (func $readdir (param i32 i32 i32 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_open" (func $path_open
                (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff"
                (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 8)
            (data (i32.const 60000) "pipefile")
            {READ_AND_WRITE}
            ;; Opens a path of four bytes in the first granted directory; answers the descriptor.
            (func $open (param $path i32) (param $rights i64) (result i32)
                (if (call $path_open (i32.const 3) (i32.const 0) (local.get $path) (i32.const 4)
                    (i32.const 0) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 50012))
                    (then (call $exit (i32.const 99))))
                (i32.load (i32.const 50012)))
            {body})"#
    )
}

/// Copies `$from` to stdout until its end; exits with minus what `$read` says then.
const COPY: &str = r#"
    (func $copy (param $from i32) (local $n i32)
        (loop $more
            (local.set $n (call $read (local.get $from)))
            (if (i32.gt_s (local.get $n) (i32.const 0)) (then
                (drop (call $write (i32.const 1) (i32.const 1000) (local.get $n)))
                (br $more))))
        (call $exit (i32.sub (i32.const 0) (local.get $n))))"#;

fn copier() -> Worker {
    worker().start_with(&program(&format!(
        r#"{COPY} (func (export "_start")
            (drop (call $write (i32.const 2) (i32.const 60000) (i32.const 1)))
            (call $copy (i32.const 0)))"#
    )))
}

fn do_not_block(descriptor: impl AsFd) {
    let flags = fcntl_getfl(&descriptor).unwrap();
    fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK).unwrap();
}

/// Runs a command with this stdin; answers its code and what it wrote.
fn run_with(worker: &mut Worker, stdin: Stdin, descriptors: &[BorrowedFd<'_>]) -> (i32, Vec<u8>) {
    let call = CommandCall { stdin, ..command(&[], b"") };
    worker.submit(from_start(call), descriptors);
    let finished = worker.finished();
    let Outcome::Exited(code) = finished.outcome else { panic!("{:?}", finished.outcome) };
    (code, written(&finished).stdout.bytes)
}

#[test]
fn a_stdin_that_does_not_block_is_waited_for() {
    let mut worker = copier();
    let (stdin, mut feed) = std::io::pipe().unwrap();
    let (mut begun, stderr) = std::io::pipe().unwrap();
    do_not_block(&stdin);
    let call = CommandCall {
        stdin: Stdin::Descriptor,
        stderr: StdioSink::Descriptor,
        ..command(&[], b"")
    };
    worker.submit(from_start(call), &[stdin.as_fd(), stderr.as_fd()]);
    begun.read_exact(&mut [0]).unwrap();
    feed.write_all(b"late").unwrap();
    drop(feed);
    let finished = worker.finished();
    assert_eq!(written(&finished).stdout.bytes, b"late");
    assert_eq!(finished.outcome, Outcome::Exited(0));
}

#[test]
fn a_stdout_that_does_not_block_gets_everything() {
    const BYTES: usize = 300_000;
    let mut worker = worker().start_with(&program(&format!(
        r#"(func (export "_start")
            (call $exit (call $write (i32.const 1) (i32.const 0) (i32.const {BYTES}))))"#
    )));
    let (mut out, stdout) = std::io::pipe().unwrap();
    do_not_block(&stdout);
    let call = CommandCall { stdout: StdioSink::Descriptor, ..command(&[], b"") };
    worker.submit(from_start(call), &[stdout.as_fd()]);
    drop(stdout);
    let mut bytes = vec![0; BYTES];
    out.read_exact(&mut bytes).unwrap();
    assert_eq!(worker.finished().outcome, Outcome::Exited(0));
}

#[test]
fn an_error_of_stdin_is_its_number_to_the_guest() {
    const CONNRESET: i32 = 104;
    for (system, wasi) in [(21, 31), (9, 8), (5, 29), (CONNRESET, 29), (i32::MIN, 29)] {
        let code = run_with(&mut copier(), Stdin::Error(system), &[]).0;
        assert_eq!(code, wasi, "{system}");
    }
}

#[test]
fn a_socket_that_is_closed_with_something_unread_is_an_error_behind_what_came() {
    for fails in [true, false] {
        let (mut feed, mut stdin) = UnixStream::pair().unwrap();
        stdin.write_all(b"!").unwrap();
        feed.write_all(b"came").unwrap();
        let _kept = match fails {
            true => {
                drop(feed);
                None
            }
            false => feed.shutdown(std::net::Shutdown::Write).map(|()| feed).ok(),
        };
        let seen = run_with(&mut copier(), Stdin::Descriptor, &[stdin.as_fd()]);
        assert_eq!(seen, (if fails { 29 } else { 0 }, b"came".to_vec()));
    }
}

#[test]
fn who_writes_on_to_a_stdout_that_nobody_reads_is_ended_as_by_a_signal() {
    let source = |stream: u32, times: u32| {
        program(&format!(
            r#"(func (export "_start") (local $left i32)
                (local.set $left (i32.const {times}))
                (loop $more
                    (drop (call $write (i32.const {stream}) (i32.const 0) (i32.const 1)))
                    (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
                (call $exit (i32.const 7)))"#
        ))
    };
    for (stream, times, code) in [(1, 999, 7), (1, 1000, 141), (2, 10_000, 7)] {
        let mut worker = worker().start_with(&source(stream, times));
        let (reader, sink) = std::io::pipe().unwrap();
        drop(reader);
        let mut call = command(&[], b"");
        match stream {
            1 => call.stdout = StdioSink::Descriptor,
            _ => call.stderr = StdioSink::Descriptor,
        }
        worker.submit(from_start(call), &[sink.as_fd()]);
        assert_eq!(worker.finished().outcome, Outcome::Exited(code), "{stream} {times}");
    }
}

/// Polls the subscriptions that `set` writes, by kind and number: 0 is a clock with milliseconds, 1
/// reading and 2 writing a descriptor. Writes the events to stdout.
fn poller(before: &str, subscriptions: &[(u8, u32)]) -> String {
    let mut set = String::new();
    for (index, (kind, number)) in subscriptions.iter().enumerate() {
        let at = index * 48;
        set += &format!("(i64.store (i32.const {at}) (i64.const {index}))");
        set += &format!("(i32.store8 (i32.const {}) (i32.const {kind}))", at + 8);
        if *kind == 0 {
            let time = u64::from(*number) * 1_000_000;
            set += &format!("(i32.store (i32.const {}) (i32.const 1))", at + 16);
            set += &format!("(i64.store (i32.const {}) (i64.const {time}))", at + 24);
        } else {
            set += &format!("(i32.store (i32.const {}) (i32.const {number}))", at + 16);
        }
    }
    let count = subscriptions.len();
    program(&format!(
        r#"(func (export "_start") (local $errno i32)
            {before} {set}
            (local.set $errno
                (call $poll (i32.const 0) (i32.const 10000) (i32.const {count}) (i32.const 20000)))
            (drop (call $write (i32.const 1) (i32.const 10000)
                (i32.mul (i32.const 32) (i32.load (i32.const 20000)))))
            (call $exit (local.get $errno)))"#
    ))
}

/// An event: which subscription, its error, and whether the other end has gone.
type Event = (u8, u16, bool);

fn events(bytes: &[u8]) -> Vec<Event> {
    let event = |event: &[u8]| (event[0], u16::from_le_bytes([event[8], event[9]]), event[24] == 1);
    bytes.chunks_exact(32).map(event).collect()
}

fn polled(
    before: &str,
    stdin: Option<&OwnedFd>,
    grants: Grants,
    subscriptions: &[(u8, u32)],
) -> Vec<Event> {
    let mut worker = worker().grants(grants).start_with(&poller(before, subscriptions));
    let (given, descriptors) = match stdin {
        Some(descriptor) => (Stdin::Descriptor, vec![descriptor.as_fd()]),
        None => (Stdin::Bytes(Vec::new()), Vec::new()),
    };
    let (code, bytes) = run_with(&mut worker, given, &descriptors);
    assert_eq!(code, 0);
    events(&bytes)
}

#[test]
fn an_idle_stdin_is_not_ready_and_a_clock_comes_after_its_time() {
    const MINUTE: u32 = 60_000;
    let polled = |stdin: &OwnedFd, subscriptions: &[(u8, u32)]| {
        polled("", Some(stdin), Grants::none(), subscriptions)
    };
    let pipe = || {
        let (reader, writer): (PipeReader, PipeWriter) = std::io::pipe().unwrap();
        (OwnedFd::from(reader), writer)
    };
    let (idle, _feed) = pipe();
    assert_eq!(polled(&idle, &[(1, 0), (0, 1)]), [(1, 0, false)]);
    // Asked again and again, as by who polls without waiting.
    assert_eq!(polled(&idle, &[(1, 0), (0, 0)]), [(1, 0, false)]);
    // Stdout is captured, and takes everything at once.
    assert_eq!(polled(&idle, &[(1, 0), (2, 1), (0, MINUTE)]), [(1, 0, false)]);

    let (full, mut feed) = pipe();
    feed.write_all(b"x").unwrap();
    assert_eq!(polled(&full, &[(0, MINUTE), (1, 0)]), [(1, 0, false)]);
    assert_eq!(polled(&full, &[(1, 0), (0, 0)]), [(0, 0, false), (1, 0, false)]);
    // However often it is asked for, and more often than a process may have descriptors.
    let mut many = [(1, 0); 40].to_vec();
    assert_eq!(polled(&full, &many).len(), 40);
    many.push((0, 1));
    assert_eq!(polled(&idle, &many), [(40, 0, false)]);
    // Alone, it is waited for.
    let (late, mut feed) = pipe();
    let writer = std::thread::spawn(move || feed.write_all(b"x"));
    assert_eq!(polled(&late, &[(1, 0)]), [(0, 0, false)]);
    writer.join().unwrap().unwrap();

    let (ended, feed) = pipe();
    drop(feed);
    assert_eq!(polled(&ended, &[(0, MINUTE), (1, 0)]), [(1, 0, true)]);
}

#[test]
fn to_a_deterministic_guest_every_stream_is_ready() {
    let limits = Limits::default().deterministic(Some(1));
    let source = poller("", &[(0, 60_000), (1, 0)]);
    let mut worker = worker().limits(limits).start_with(&source);
    let (idle, _feed) = std::io::pipe().unwrap();
    let (code, bytes) = run_with(&mut worker, Stdin::Descriptor, &[idle.as_fd()]);
    assert_eq!((code, events(&bytes)), (0, vec![(1, 0, false)]));
}

#[test]
fn what_is_not_open_or_not_for_that_is_an_error_of_its_own_subscription() {
    const BADF: u16 = 8;
    const MINUTE: u32 = 60_000;
    let (idle, _feed) = std::io::pipe().unwrap();
    let idle = OwnedFd::from(idle);
    let polled = |before: &str, subscriptions: &[(u8, u32)]| {
        polled(before, Some(&idle), Grants::none(), subscriptions)
    };
    let subscriptions = [(1, 9), (0, MINUTE), (2, 0), (1, 1), (1, 0), (2, 1)];
    let expected = [(0, BADF, false), (2, BADF, false), (3, BADF, false), (5, 0, false)];
    assert_eq!(polled("", &subscriptions), expected);
    let closed = "(drop (call $close (i32.const 0)))";
    assert_eq!(polled(closed, &[(1, 0), (0, MINUTE)]), [(0, BADF, false)]);
    // Under another number it is the same stream.
    let moved = "(drop (call $renumber (i32.const 0) (i32.const 2)))";
    assert_eq!(polled(moved, &[(1, 2), (0, 1)]), [(1, 0, false)]);
    assert_eq!(polled(moved, &[(1, 0), (0, MINUTE)]), [(0, BADF, false)]);
}

/// A directory of a test's own, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stockade-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn pipe(&self) -> PathBuf {
        let path = self.0.join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_pipe_in_a_granted_directory_has_no_place_and_gives_what_is_written_to_it() {
    const SPIPE: i32 = 70;
    let directory = Directory::new("pipe-read");
    let path = directory.pipe();
    let source = program(&format!(
        r#"{COPY} (func (export "_start") (local $fd i32)
            (local.set $fd (call $open (i32.const 60000) (i64.const 2)))
            (if (i32.ne (call $seek (local.get $fd) (i64.const 0) (i32.const 1) (i32.const 50016))
                (i32.const {SPIPE})) (then (call $exit (i32.const 98))))
            (if (i32.ne (call $tell (local.get $fd) (i32.const 50016)) (i32.const {SPIPE}))
                (then (call $exit (i32.const 97))))
            ;; Under another number it is the same pipe.
            (drop (call $renumber (local.get $fd) (i32.const 2)))
            (call $copy (i32.const 2)))"#
    ));
    let mut worker =
        worker().grants(Grants::none().read_dir(&directory.0, "/d")).start_with(&source);
    let writer = std::thread::spawn(move || {
        // Both wait until the other opens it.
        OpenOptions::new().write(true).open(path).unwrap().write_all(b"through the pipe").unwrap();
    });
    let seen = run_with(&mut worker, Stdin::Bytes(Vec::new()), &[]);
    assert_eq!(seen, (0, b"through the pipe".to_vec()));
    writer.join().unwrap();
}

#[test]
fn a_pipe_in_a_granted_directory_takes_what_is_written() {
    let directory = Directory::new("pipe-write");
    let path = directory.pipe();
    let source = program(
        r#"(func (export "_start") (local $fd i32)
            (local.set $fd (call $open (i32.const 60000) (i64.const 0x40)))
            (call $exit (call $write (local.get $fd) (i32.const 60000) (i32.const 8))))"#,
    );
    let mut worker =
        worker().grants(Grants::none().write_dir(&directory.0, "/d")).start_with(&source);
    let reader = std::thread::spawn(move || std::fs::read(path).unwrap());
    assert_eq!(run_with(&mut worker, Stdin::Bytes(Vec::new()), &[]), (0, Vec::new()));
    assert_eq!(reader.join().unwrap(), b"pipefile");
}

#[test]
fn descriptors_are_known_whatever_call_comes_first() {
    let directory = Directory::new("first-call");
    // Answered by wasmtime-wasi, in which the context is built; then by ours.
    let source = program(
        r#"(func (export "_start")
            (drop (call $stat (i32.const 3) (i32.const 4000)))
            (call $exit
                (call $readdir (i32.const 3) (i32.const 10000) (i32.const 4096) (i64.const 0)
                    (i32.const 4096))))"#,
    );
    let mut worker =
        worker().grants(Grants::none().read_dir(&directory.0, "/d")).start_with(&source);
    assert_eq!(run_with(&mut worker, Stdin::Bytes(Vec::new()), &[]), (0, Vec::new()));
}

#[test]
fn a_name_that_is_no_text_hides_no_other() {
    let directory = Directory::new("listing");
    std::fs::write(directory.0.join("file"), "x").unwrap();
    std::fs::write(directory.0.join(OsStr::from_bytes(b"bad\xff")), "x").unwrap();
    std::os::unix::net::UnixListener::bind(directory.0.join("socket")).unwrap();
    std::fs::create_dir(directory.0.join("inner")).unwrap();
    // The listing, and what is known of the file.
    let source = program(
        r#"(func (export "_start")
            (drop (call $stat (call $open (i32.const 60004) (i64.const 2)) (i32.const 4000)))
            (drop (call $write (i32.const 1) (i32.const 4008) (i32.const 8)))
            (if (call $readdir (i32.const 3) (i32.const 10000) (i32.const 4096) (i64.const 0)
                (i32.const 4096)) (then (call $exit (i32.const 98))))
            (call $exit
                (call $write (i32.const 1) (i32.const 10000) (i32.load (i32.const 4096)))))"#,
    );
    let mut worker =
        worker().grants(Grants::none().read_dir(&directory.0, "/d")).start_with(&source);
    let (code, bytes) = run_with(&mut worker, Stdin::Bytes(Vec::new()), &[]);
    assert_eq!(code, 0);
    let (inode, mut listing) = bytes.split_at(8);
    let mut entries = Vec::new();
    while !listing.is_empty() {
        let length = u32::from_le_bytes(*listing[16..].first_chunk().unwrap()) as usize;
        let name = String::from_utf8(listing[24..24 + length].to_vec()).unwrap();
        if name == "file" {
            assert_eq!(&listing[8..16], inode);
        }
        entries.push((name, listing[20]));
        listing = &listing[24 + length..];
    }
    entries.sort();
    let expected = [(".", 3), ("..", 3), ("file", 4), ("inner", 3), ("socket", 0)];
    assert_eq!(entries, expected.map(|(name, kind)| (name.to_string(), kind)));
}

//! Hostile use of streams.

use std::io::Write;

use stockade::{Bytes, Command, Grants, Json, Limits, Status, TaskError};
use stockade_tests::{int, tasks, wat};
use stockade_wire::Visibility;

use super::super::seen;
use super::driven::{BUFFER, GRANTED, READ, STORED, VECTORS, WRITE, module};
use super::{Driven, Outside, assert_first_worker};

#[test]
fn a42_streams_are_kept_to_their_limit_each_and_the_rest_is_counted() {
    const BYTES: i32 = 70_000;
    let pool = tasks().limits(Limits::default().stdio_bytes(BYTES as u64)).build().unwrap();
    for extra in [0, 1, 100_000_000] {
        let out = pool.submit::<Vec<u8>>("print", int(BYTES + extra)).unwrap();
        let err = pool.submit::<Vec<u8>>("print_error", int(BYTES + extra)).unwrap();
        let (out, err) = (out.report(), err.report());
        assert_eq!((out.status, err.status), (Status::Completed, Status::Completed));
        for captured in [&out.stdout, &err.stderr] {
            assert_eq!(captured.bytes.len(), BYTES as usize);
            assert_eq!(captured.dropped, extra as u64);
        }
        assert!(out.stderr.bytes.is_empty() && err.stdout.bytes.is_empty());
    }
    assert_first_worker(&pool);
    seen(
        42,
        "of 100 MB to stdout or stderr the limit is kept and the rest counted, to the byte; the \
         guest goes on",
    );
}

/// A command that prints, prints to stderr, logs, and fails with the same words.
const FORGER: &str = r#"(module
    (import "stockade" "log" (func $log (param i32 i32 i32)))
    (import "stockade" "error_write" (func $error_write (param i32 i32)))
    (import "wasi_snapshot_preview1" "fd_write"
        (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\40\00\00\00\3c\00\00\00")
    (data (i32.const 64) "fine\r\n\1b[2J\1b]0;owned\07error: all is lost\00\e2\80\ae\c2\9b7m\ff")
    (data (i32.const 111) "\e2\80\a8\e2\80\8b\e2\80\8d\f3\a0\81\81")
    (func $say
        (call $log (i32.const 1) (i32.const 64) (i32.const 60))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
        (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 16)))
        (call $error_write (i32.const 64) (i32.const 60)))
    (func (export "fail") (result i32) (call $say) (i32.const 1))
    (func (export "refuse") (result i32) (call $say) (i32.const 2)))"#;

const FORGED: &[u8] =
    b"fine\r\n\x1b[2J\x1b]0;owned\x07error: all is lost\0\xe2\x80\xae\xc2\x9b7m\xff\
    \xe2\x80\xa8\xe2\x80\x8b\xe2\x80\x8d\xf3\xa0\x81\x81";

#[test]
fn a43_forged_lines_are_kept_as_they_are_and_shown_escaped() {
    let pool = wat(FORGER).build().unwrap();
    for name in ["fail", "refuse"] {
        let handle = pool.submit::<Vec<u8>>(name, Bytes(Vec::new())).unwrap();
        let error = handle.result().unwrap_err();
        let (TaskError::Guest(said) | TaskError::BadArguments(said)) = &error else {
            panic!("{error:?}")
        };
        let report = handle.report();
        // Who looks at the bytes gets them all, apart from anybody else's.
        assert_eq!(report.stdout.bytes, FORGED);
        assert_eq!(report.stderr.bytes, FORGED);
        assert_eq!(report.log.len(), 1);
        assert_eq!(report.log[0].message, String::from_utf8_lossy(FORGED));
        assert_eq!(said.message, String::from_utf8_lossy(FORGED));
        // Who shows the error shows one line of characters that do nothing.
        let shown = error.to_string();
        assert!(shown.chars().all(|c| Visibility::of(c) == Visibility::Visible), "{shown:?}");
        assert!(shown.ends_with("\\u{2028}\\u{200b}\\u{200d}\\u{e0041}"), "{shown:?}");
        assert!(shown.contains("fine\\r\\n\\u{1b}[2J"), "{shown:?}");
    }
    assert_first_worker(&pool);
    seen(
        43,
        "ANSI, CR, LF, NUL, C1, a mark that turns text around, an end of a line, characters without \
         width and a tag are kept in the report byte by byte, and escaped in the error's text and in \
         whatever the command shows",
    );
}

#[test]
fn a47_io_vectors_out_of_bounds_move_no_byte() {
    const MEMORY: u32 = 64 << 16;
    let outside = Outside::new();
    let guest = Driven::new(Grants::none().write_dir(outside.granted(), "/data"));
    let file = guest.open(GRANTED, "file", 0, READ | WRITE).unwrap();
    let stored = i64::from(STORED);
    let (mut errnos, mut traps, mut tried) = (0, 0, 0);
    let mut refused = |guest: &Driven, function: &str, args: &[i64]| {
        tried += 1;
        match guest.call(function, args) {
            Ok(errno) => {
                assert_ne!(errno, 0, "{function}{args:?}");
                errnos += 1;
            }
            Err(TaskError::Abi(_)) => {
                traps += 1;
            }
            Err(other) => panic!("{function}{args:?}: {other:?}"),
        }
    };
    // A guest that trapped begins anew, so the file is opened again for each.
    for (function, descriptor) in
        [("fd_write", 1), ("fd_write", 2), ("fd_read", 0), ("fd_write", 99), ("fd_read", 99)]
    {
        for (vectors, count) in [(MEMORY, 1), (MEMORY - 4, 1), (u32::MAX, 1), (VECTORS, u32::MAX)] {
            refused(&guest, function, &[descriptor, vectors.into(), count.into(), stored]);
        }
    }
    for (pointer, length) in
        [(MEMORY, 1), (MEMORY - 3, 4), (u32::MAX, 1), (1, u32::MAX), (MEMORY - 1, MEMORY)]
    {
        for function in ["fd_write", "fd_read", "fd_pwrite", "fd_pread"] {
            let file = guest.open(GRANTED, "file", 0, READ | WRITE).unwrap_or(file);
            guest.put(VECTORS, &[pointer.to_le_bytes(), length.to_le_bytes()].concat());
            let at = function.starts_with("fd_p").then_some(0);
            let args: Vec<i64> =
                [file, VECTORS.into(), 1].into_iter().chain(at).chain([stored]).collect();
            refused(&guest, function, &args);
        }
        for descriptor in [1, 2] {
            guest.put(VECTORS, &[pointer.to_le_bytes(), length.to_le_bytes()].concat());
            refused(&guest, "fd_write", &[descriptor, VECTORS.into(), 1, stored]);
        }
    }
    outside.assert_outside_unchanged("vectors out of bounds");
    assert_eq!(std::fs::read(outside.granted().join("file")).unwrap(), b"yours");
    // The place of the answer is a pointer too.
    for (function, descriptor) in [("fd_write", 1), ("fd_read", 0)] {
        let [vectors, count] = guest.vector(4);
        refused(&guest, function, &[descriptor, vectors, count, i64::from(MEMORY) - 3]);
    }
    assert_eq!(guest.write(1, b"fine").unwrap(), 4);
    guest.assert_first_worker();
    seen(47, &format!("{tried} calls: {errnos} error numbers, {traps} `Abi`; no byte was moved"));
}

#[test]
fn a49_a_million_tiny_io_vectors_are_one_short_write() {
    const MILLION: i64 = 1_000_000;
    let outside = Outside::new();
    let guest = Driven::with(
        Grants::none().write_dir(outside.granted(), "/data"),
        // From 4 MiB on: a million vectors of so many bytes each, all at the buffer.
        r#"(func (export "vectors") (param $length i32) (local $at i32)
            (drop (memory.grow (i32.const 4096)))
            (local.set $at (i32.const 0x400000))
            (loop $more
                (i32.store (local.get $at) (i32.const 65536))
                (i32.store offset=4 (local.get $at) (local.get $length))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br_if $more (i32.lt_u (local.get $at) (i32.const 0x10000000)))))"#,
    );
    let stored = i64::from(STORED);
    let make = |length: i64| {
        let args = Json::new().arg(length.into());
        guest.0.run::<()>("vectors", args).unwrap();
    };
    make(1);
    let file = guest.open(GRANTED, "file", 0, READ | WRITE).unwrap();
    for count in [MILLION, 16 * MILLION] {
        for descriptor in [1, file] {
            assert_eq!(guest.errno("fd_write", &[descriptor, 4 << 20, count, stored]), 0);
            assert_eq!(guest.get_number(STORED), 1, "bytes that went to {descriptor}");
        }
    }
    assert_eq!(guest.errno("fd_pread", &[file, 4 << 20, MILLION, 0, stored]), 0);
    assert_eq!(guest.get_number(STORED), 1);
    make(0);
    for descriptor in [1, file] {
        assert_eq!(guest.errno("fd_write", &[descriptor, 4 << 20, MILLION, stored]), 0);
        assert_eq!(guest.get_number(STORED), 0);
    }
    // More than all the copying that one call may do.
    assert_ne!(guest.errno("fd_write", &[1, 4 << 20, 17 * MILLION, stored]), 0);
    assert_ne!(guest.errno("fd_write", &[1, 4 << 20, i64::from(u32::MAX), stored]), 0);
    guest.assert_first_worker();
    seen(
        49,
        "a million and 16 million vectors of one byte move one byte, as many empty ones none; 17 \
         million are an error number",
    );
}

/// Reads stdin to its end and prints it.
const READER: &str = r#"
    (memory (export "memory") 2)
    (func $copy (result i32)
        (i32.store (i32.const 0) (i32.const 1024))
        (i32.store (i32.const 4) (i32.const 4096))
        (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
        (i32.load (i32.const 8)))
    (func (export "_start") (loop $more (br_if $more (call $copy))))
    (func (export "read") (result i32) (call $copy))"#;

#[test]
fn a60_stdin_is_at_its_end_unless_it_was_given() {
    let pool = wat(&module(READER)).build().unwrap();
    // A function has none, whatever the host's own is.
    assert_eq!(pool.run::<i32>("read", ()).unwrap(), 0);
    let run = |command: Command| {
        let output = pool.submit_command(command).unwrap().result().unwrap();
        assert_eq!(output.exit_code, 0);
        output.stdout.bytes
    };
    assert_eq!(run(Command::new("p")), b"");
    assert_eq!(run(Command::new("p").stdin("given")), b"given");
    assert_eq!(run(Command::new("p")), b"", "another's stdin");
    let (stdin, mut feed) = std::io::pipe().unwrap();
    feed.write_all(b"piped").unwrap();
    drop(feed);
    assert_eq!(run(Command::new("p").stdin_from(stdin)), b"piped");
    assert_eq!(run(Command::new("p")), b"", "another's pipe");
    assert_first_worker(&pool);
    // Nor is it anything else: not to be written, sought or listed.
    let guest = Driven::new(Grants::none());
    assert_eq!(guest.read(0).unwrap(), b"");
    assert!(guest.write(0, b"x").is_err());
    assert_ne!(guest.errno("fd_seek", &[0, 0, 0, STORED.into()]), 0);
    assert_ne!(guest.errno("fd_readdir", &[0, BUFFER.into(), 100, 0, STORED.into()]), 0);
    assert_eq!(guest.open(0, "file", 0, READ).unwrap_err(), 8);
    guest.assert_first_worker();
    seen(
        60,
        "end of file for functions and for commands; what one command is given no other reads",
    );
}

#[test]
fn the_largest_buffers_that_a_call_takes_cost_no_worker() {
    const MIB: i64 = 1 << 20;
    let outside = Outside::new();
    let large = std::fs::File::create(outside.granted().join("large")).unwrap();
    large.set_len(512 << 20).unwrap();
    let grants = Grants::none().write_dir(outside.granted(), "/data");
    let room = r#"(func (export "room") (drop (memory.grow (i32.const 8000))))"#;
    let guest = Driven::with(grants, room);
    guest.0.run::<()>("room", Json::new()).unwrap();
    let file = guest.open(GRANTED, "large", 0, READ | WRITE).unwrap();
    // All the copying that one call may do is 128 MiB, its vectors among it.
    for (length, works) in [(128 * MIB - 8, true), (128 * MIB, false), (480 * MIB, false)] {
        guest.put(VECTORS, &[BUFFER.to_le_bytes(), (length as u32).to_le_bytes()].concat());
        let args = [file, VECTORS.into(), 1, 0, STORED.into()];
        assert_eq!(guest.errno("fd_pread", &args) == 0, works, "{length}");
        // A path of as many bytes, all of them zero.
        let path = [GRANTED, BUFFER.into(), length];
        assert_ne!(guest.errno("path_create_directory", &path), 0, "{length}");
    }
    guest.assert_first_worker();
}

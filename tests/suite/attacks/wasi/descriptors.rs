//! Limits on descriptors, listings and files.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use stockade::{Bytes, Command, Grants, Instances, Json, Limits, TaskError, TaskOptions};
use stockade_tests::{Folder, guest as guest_file, wat};

use super::super::seen;
use super::driven::{BUFFER, CREATE, DIRECTORY, GRANTED, READ, STORED, TRUNCATE, WRITE, module};
use super::{Driven, Outside, assert_first_worker, failed};

const STORED_AT: i64 = STORED as i64;
const BUFFER_AT: i64 = BUFFER as i64;
const BADF: i32 = 8;

/// Opens the path that was put, again and again, until that fails; says how often it worked. And
/// closes as many descriptors from the first one.
const HOARDER: &str = r#"
    (global $errno (mut i32) (i32.const 0))
    (func (export "hoard") (param $length i32) (param $flags i32) (result i32) (local $held i32)
        (block $done (loop $more
            (global.set $errno
                (call $path_open (i32.const 3) (i32.const 1) (i32.const 1024) (local.get $length)
                    (local.get $flags) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 20480)))
            (br_if $done (global.get $errno))
            (local.set $held (i32.add (local.get $held) (i32.const 1)))
            (br_if $more (i32.lt_u (local.get $held) (i32.const 1000000)))))
        (local.get $held))
    (func (export "errno") (param i32) (result i32) (global.get $errno))
    (func (export "release") (param $first i32) (param $count i32) (result i32)
        (local $closed i32)
        (loop $more
            (if (i32.eqz (call $fd_close (local.get $first)))
                (then (local.set $closed (i32.add (local.get $closed) (i32.const 1)))))
            (local.set $first (i32.add (local.get $first) (i32.const 1)))
            (local.set $count (i32.sub (local.get $count) (i32.const 1)))
            (br_if $more (local.get $count)))
        (local.get $closed))"#;

#[test]
fn a54_descriptors_end_with_an_error_number_and_come_back_when_closed() {
    let outside = Outside::new();
    let grants = || Grants::none().write_dir(outside.granted(), "/data");
    let guest = Driven::with(grants(), HOARDER);
    for (path, flags) in [("file", 0), ("inner", DIRECTORY)] {
        let mut counts = Vec::new();
        for _ in 0..3 {
            let [_, length] = guest.path(0, path);
            let held: i32 = guest.0.run("hoard", (length, flags)).unwrap();
            assert!((100..10_000).contains(&held), "{held}");
            assert_ne!(guest.errno("errno", &[0]), 0);
            assert!(guest.open(GRANTED, "file", 0, READ).is_err());
            assert_eq!(guest.0.run::<i32>("release", (4, held)).unwrap(), held);
            counts.push(held);
        }
        assert!(counts.iter().all(|count| *count == counts[0]), "{path}: {counts:?}");
        let one = guest.open(GRANTED, path, flags, READ).unwrap();
        assert_eq!(guest.errno("fd_close", &[one]), 0);
    }
    guest.assert_first_worker();

    // A task that leaves everything open leaves nothing to the next.
    let hoarder = module(&format!(
        r#"(memory (export "memory") 64) (data (i32.const 1024) "file") {HOARDER}"#
    ));
    let pool = wat(&hoarder).grants(grants()).build().unwrap();
    let counts: Vec<i32> = (0..5).map(|_| pool.run("hoard", (4, 0)).unwrap()).collect();
    assert!(counts[0] >= 100 && counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    assert_first_worker(&pool);

    // An instance that lives on with everything it could get, and with gaps among it, leaves enough
    // for what comes in descriptors: another module, its arguments, its streams.
    let pool = wat(&hoarder)
        .module(guest_file("linecount"))
        .instances(Instances::PerWorker)
        .grants(grants())
        .build()
        .unwrap();
    for round in 0..3 {
        let held: i32 = pool.run(("test", "hoard"), (4, 0)).unwrap();
        // At first all there is, then what was released before.
        assert!(if round == 0 { held >= 100 } else { held == 2 }, "round {round}: {held}");
        assert_eq!(pool.run::<i32>(("test", "hoard"), (4, 0)).unwrap(), 0);
        assert_eq!(pool.run::<i32>(("test", "release"), (4, 2)).unwrap(), 2);
        let (stdin, mut feed) = std::io::pipe().unwrap();
        let (mut out, stdout) = std::io::pipe().unwrap();
        let (_err, stderr) = std::io::pipe().unwrap();
        feed.write_all(b"x\ny\n").unwrap();
        drop(feed);
        let command = Command::new("linecount")
            .args(["--match", "x"])
            .env("LARGE", "x".repeat(1 << 18))
            .stdin_from(stdin)
            .stdout_to(stdout)
            .stderr_to(stderr);
        let options = TaskOptions::default();
        let other = pool.submit_command_with(("linecount", "_start"), command, options).unwrap();
        assert_eq!(other.result().unwrap().exit_code, 0, "round {round}");
        let mut said = String::new();
        out.read_to_string(&mut said).unwrap();
        assert_eq!(said, "1\n", "round {round}");
    }
    assert_first_worker(&pool);
    seen(
        54,
        "an error number when the worker has no more; closed ones can be had again, five hoarders in \
         a row get the same number, and messages that bring descriptors still arrive",
    );
}

#[test]
fn a55_descriptors_that_are_closed_or_renumbered_are_its_own_loss() {
    let outside = Outside::new();
    let grants = || Grants::none().write_dir(outside.granted(), "/data").read_dir("/etc", "/other");
    const OTHER: i64 = 4;
    let guest = Driven::new(grants());
    let file = guest.open(GRANTED, "file", 0, READ | WRITE).unwrap();
    // To and from numbers that are not open: nothing happens.
    for (from, to) in [
        (file, 1000),
        (1000, file),
        (1000, 1001),
        (file, i64::from(u32::MAX)),
        (i64::from(u32::MAX), GRANTED),
        (1000, GRANTED),
    ] {
        assert_eq!(guest.errno("fd_renumber", &[from, to]), BADF, "{from} {to}");
        assert_eq!(guest.errno("fd_close", &[1000]), BADF);
    }
    assert_eq!(guest.errno("fd_renumber", &[file, file]), 0);
    // Over the grant itself: there is a file where the folder was.
    assert_eq!(guest.errno("fd_renumber", &[file, GRANTED]), 0);
    assert_eq!(guest.read(GRANTED).unwrap(), b"yours");
    for path in ["file", "../secret", "inner/file"] {
        assert!(guest.open(GRANTED, path, 0, READ).is_err(), "{path}");
    }
    // A read-only grant in the place of the writable one stays read-only.
    assert_eq!(guest.errno("fd_renumber", &[OTHER, GRANTED]), 0);
    for (path, flags) in [("new", CREATE), ("hostname", TRUNCATE), ("passwd", 0)] {
        assert!(guest.open(GRANTED, path, flags, WRITE).is_err(), "{path}");
    }
    assert!(!fs::exists("/etc/new").unwrap());
    // Closed, it is gone; and so are the streams.
    for descriptor in [GRANTED, 0, 1, 2] {
        assert_eq!(guest.errno("fd_close", &[descriptor]), 0, "{descriptor}");
        assert_eq!(guest.errno("fd_close", &[descriptor]), BADF, "{descriptor}");
    }
    assert_eq!(guest.open(GRANTED, "file", 0, READ).unwrap_err(), BADF);
    assert_eq!(guest.write(1, b"lost").unwrap_err(), BADF);
    assert_eq!(guest.read(0).unwrap_err(), BADF);
    for descriptor in 0..16 {
        assert_ne!(guest.errno("fd_prestat_get", &[descriptor, BUFFER_AT]), 0, "{descriptor}");
    }
    guest.assert_first_worker();
    outside.assert_outside_unchanged("renumbering");

    // Stdout in the place of a file, and a file in the place of stdout, say what they say there.
    let guest = Driven::new(grants());
    let file = guest.open(GRANTED, "file", TRUNCATE, READ | WRITE).unwrap();
    assert_eq!(guest.errno("fd_renumber", &[file, 1]), 0);
    assert_eq!(guest.write(1, b"printed").unwrap(), 7);
    assert_eq!(fs::read(outside.granted().join("file")).unwrap(), b"printed");
    guest.assert_first_worker();

    // The next guest has everything again.
    let breaker = module(
        r#"(memory (export "memory") 1)
           (func (export "break") (result i32)
            (i32.add (call $fd_close (i32.const 3)) (call $fd_renumber (i32.const 4) (i32.const 1))))"#,
    );
    let pool = wat(&breaker).grants(grants()).build().unwrap();
    for _ in 0..5 {
        assert_eq!(pool.run::<i32>("break", ()).unwrap(), 0);
    }
    assert_first_worker(&pool);
    seen(
        55,
        "numbers that are not open are errno 8; a grant that is closed or replaced is gone for that \
         instance alone, and a read-only one stays so under any number",
    );
}

#[test]
fn a56_a_directory_of_very_many_entries_is_listed_or_ends_at_the_deadline() {
    const ENTRIES: usize = 100_000;
    let folder = Folder::in_memory();
    for number in 0..ENTRIES {
        fs::File::create(folder.path().join(format!("{number:06}"))).unwrap();
    }
    let grants = || Grants::none().read_dir(folder.path(), "/data");
    let guest =
        Driven::with(grants(), r#"(func (export "room") (drop (memory.grow (i32.const 100))))"#);
    guest.0.run::<()>("room", Json::new()).unwrap();
    // All of it at once, in room enough: 24 bytes and the name for each, `.` and `..` among them.
    let room = 8 << 20;
    assert_eq!(guest.errno("fd_readdir", &[GRANTED, 1 << 20, room, 0, STORED_AT]), 0);
    let listed = guest.get_number(STORED) as usize;
    assert_eq!(listed, ENTRIES * 30 + 25 + 26);
    // In pieces, and from cookies that nobody gave.
    for cookie in [1, ENTRIES as i64 + 2, i64::MAX] {
        assert_eq!(guest.errno("fd_readdir", &[GRANTED, BUFFER_AT, 64, cookie, STORED_AT]), 0);
        assert!(guest.get_number(STORED) <= 64, "{cookie}");
    }
    for (buffer, length) in [(i64::from(u32::MAX), 64), ((164 << 16) - 63, 64)] {
        let refused = guest.call("fd_readdir", &[GRANTED, buffer, length, 0, STORED_AT]);
        assert!(matches!(refused, Ok(1..) | Err(TaskError::Abi(_))), "{refused:?}");
    }
    guest.assert_first_worker();
    // Again and again, which costs the host a look at each entry each time.
    let lister = module(
        r#"(memory (export "memory") 1)
           (func (export "list_for_ever")
            (loop $more
                (drop (call $fd_readdir (i32.const 3) (i32.const 0) (i32.const 1) (i64.const 0)
                    (i32.const 1024)))
                (br $more)))
           (func (export "fine") (result i32) (i32.const 7))"#,
    );
    for interruptible in [false, true] {
        let limits =
            Limits::default().wall_time(Duration::from_millis(200)).interruptible(interruptible);
        let pool = wat(&lister).grants(grants()).limits(limits).build().unwrap();
        let error = failed(pool.run::<()>("list_for_ever", ()));
        assert!(matches!(error, TaskError::Deadline { .. }), "{error:?}");
        assert_eq!(pool.run::<i32>("fine", ()).unwrap(), 7);
        assert!(pool.check().is_ok());
    }
    seen(
        56,
        "100,000 entries are listed in one call where there is room for them; listing without end is \
         `Deadline`",
    );
}

/// The most bytes that one file of a grant may have.
const FILE_BYTES_MAX: i64 = 1 << 30;

#[test]
fn a57_a_file_ends_at_its_limit_and_no_disk_is_filled_by_it() {
    const TERABYTE: i64 = 1 << 40;
    let outside = Outside::new();
    let guest = Driven::new(Grants::none().write_dir(outside.granted(), "/data"));
    let path = outside.granted().join("new");
    let size = || fs::metadata(&path).unwrap().len() as i64;
    let file = guest.open(GRANTED, "new", CREATE, READ | WRITE).unwrap();
    let write_at = |at: i64, length: u32| {
        let [vectors, count] = guest.vector(length);
        guest.errno("fd_pwrite", &[file, vectors, count, at, STORED_AT])
    };
    let set_size = |bytes: i64| guest.errno("fd_filestat_set_size", &[file, bytes]);
    // Long at once, by every way there is.
    for bytes in [FILE_BYTES_MAX + 1, TERABYTE, i64::MAX, -1] {
        assert_ne!(set_size(bytes), 0, "{bytes}");
        assert_eq!(size(), 0, "{bytes}");
    }
    for (from, bytes) in [(0, 1), (0, TERABYTE), (TERABYTE, 1), (-1, -1)] {
        assert_ne!(guest.errno("fd_allocate", &[file, from, bytes]), 0, "{from} {bytes}");
        assert_eq!(size(), 0);
    }
    for at in [FILE_BYTES_MAX, FILE_BYTES_MAX + 1, TERABYTE, i64::MAX, -1, -5] {
        assert_ne!(write_at(at, 5), 0, "{at}");
        assert_eq!(size(), 0, "{at}");
    }
    for (position, from) in [(TERABYTE, 0), (i64::MAX - 5, 0)] {
        assert_eq!(guest.errno("fd_seek", &[file, position, from, STORED_AT]), 0);
        assert!(guest.write(file, b"x").is_err(), "{position}");
        assert_eq!(size(), 0);
    }
    // To the limit, and not a byte further: a write across it is cut there.
    assert_eq!(set_size(FILE_BYTES_MAX), 0);
    assert_eq!(write_at(FILE_BYTES_MAX - 2, 5), 0);
    assert_eq!(guest.get_number(STORED), 2);
    assert_ne!(write_at(FILE_BYTES_MAX, 1), 0);
    assert_eq!(size(), FILE_BYTES_MAX);
    const APPEND: i64 = 1;
    let [at, length] = guest.path(0, "new");
    let args = [GRANTED, 0, at, length, 0, READ | WRITE, 0, APPEND, STORED_AT];
    assert_eq!(guest.errno("path_open", &args), 0);
    let appending = i64::from(guest.get_number(STORED));
    assert!(guest.write(appending, b"x").is_err());
    assert_eq!(size(), FILE_BYTES_MAX);
    let blocks = fs::metadata(&path).unwrap().blocks();
    assert!(blocks * 512 < 1 << 20, "{blocks} blocks");
    // The signal that comes with that is nobody's end, and short files are well.
    assert_eq!(set_size(3), 0);
    assert_eq!(write_at(0, 3), 0);
    assert_eq!(size(), 3);
    guest.assert_first_worker();
    outside.assert_outside_unchanged("long files");
    assert_eq!(guest.0.run::<Vec<u8>>("get", Bytes(vec![0; 8])).unwrap(), b"");
    seen(
        57,
        "an error number beyond 1 GiB a file, by size, by offset, by position and by appending; a \
         write across the limit is cut there; `fd_allocate` is not supported",
    );
}

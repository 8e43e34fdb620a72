//! 80–83: data left in guest memory, written by a guest or by the kernel, while pages are migrated.

use stockade::{Features, Grants, Limits, Pool};
use stockade_tests::races::{Mover, Race};
use stockade_tests::{Folder, TASKS, wat};
use stockade_wire::{Call, Codec, Invocation, Outcome};
use stockade_worker::Alone;

use super::seen;

/// Pairs of tasks of each race; `just races` runs as many as there is time for.
const PAIRS: u64 = 512;

#[test]
fn a80_no_task_finds_what_another_left_while_the_kernel_moves_pages() {
    // Who may not compact memory has the kernel move pages when it likes.
    let _mover = Mover::start();
    for race in [Race::memory(), Race::state(), Race::across()] {
        let found = race.run(|pairs| pairs >= PAIRS);
        assert!(found.findings.is_empty(), "{found:?}");
    }
    seen(
        80,
        &format!(
            "{PAIRS} pairs of tasks each, of which one leaves and one looks, for memory and what is grown, for globals and a table, and for those of another module, beside compaction where the user may have it: nothing"
        ),
    );
}

#[test]
fn a81_an_instance_that_was_reset_is_like_a_fresh_one() {
    const ROUNDS: usize = 12;
    let wasm = wat::parse_str(TASKS).unwrap();
    let mut alone = Alone::new(&wasm, &Limits::default(), Features::default()).unwrap();
    assert_eq!(alone.difference(), Ok(None), "before anything ran");
    let mut calls = 0;
    for round in 0..ROUNDS {
        for export in ["echo", "count", "count_then_trap", "start_counting_at", "fail"] {
            let input = vec![round as u8 + 1; 4 + round * 4000];
            let call = Call { export: export.into(), codec: Codec::Raw, input };
            let finished = alone.run(Invocation::Task(call), Vec::new()).unwrap();
            assert_ne!(finished.outcome, Outcome::Recalled);
            calls += 1;
            assert_eq!(alone.difference(), Ok(None), "after {export}");
        }
    }
    seen(
        81,
        &format!(
            "after each of {calls} calls: memory, globals and tables as in an instance that the engine makes by itself; `just smith` compares generated modules"
        ),
    );
}

/// Reads the file `file` to pages that nothing else touches, and says what it finds there before and
/// after: how many words that are not zero.
const READER: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open" (func $path_open
        (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_pread"
        (func $fd_pread (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_readdir"
        (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_readlink"
        (func $path_readlink (param i32 i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
    (memory (export "memory") 12)
    (data (i32.const 16) "file") (data (i32.const 24) "link")
    (data (i32.const 32) "\00\00\01\00\00\00\02\00")
    (func $words (param $from i32) (result i32) (local $found i32) (local $end i32)
        (local.set $end (i32.add (local.get $from) (i32.const 131072)))
        (loop $again
            (if (i32.load (local.get $from))
                (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
            (br_if $again (i32.lt_u
                (local.tee $from (i32.add (local.get $from) (i32.const 4))) (local.get $end))))
        (local.get $found))
    (func $must (param i32) (if (local.get 0) (then unreachable)))
    (func $open (result i32)
        (call $must (call $path_open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 4)
            (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8)))
        (i32.load (i32.const 8)))
    (func (export "look") (result i32)
        (i32.add (call $words (i32.const 65536)) (i32.add (call $words (i32.const 196608))
            (i32.add (call $words (i32.const 327680)) (call $words (i32.const 458752))))))
    (func (export "fd_read") (result i32)
        (call $must (call $fd_read (call $open) (i32.const 32) (i32.const 1) (i32.const 4)))
        (call $words (i32.const 65536)))
    (func (export "fd_pread") (result i32)
        (i32.store (i32.const 32) (i32.const 196608))
        (call $must (call $fd_pread (call $open) (i32.const 32) (i32.const 1) (i64.const 0)
            (i32.const 4)))
        (call $words (i32.const 196608)))
    (func (export "fd_readdir") (result i32)
        (call $must (call $fd_readdir (i32.const 3) (i32.const 327680) (i32.const 60000) (i64.const 0)
            (i32.const 4)))
        (call $words (i32.const 327680)))
    (func (export "path_readlink") (result i32)
        (call $must (call $path_readlink (i32.const 3) (i32.const 24) (i32.const 4)
            (i32.const 327680) (i32.const 60000) (i32.const 4)))
        (call $words (i32.const 327680)))
    (func (export "random_get") (result i32)
        (call $must (call $random_get (i32.const 458752) (i32.const 100000)))
        (call $words (i32.const 458752))))"#;

#[test]
fn a82_what_the_kernel_writes_into_guest_memory_arrives_and_is_put_back() {
    const BYTES: usize = 60_000;
    let folder = Folder::new();
    folder.file("file", "x".repeat(BYTES));
    std::os::unix::fs::symlink("some/where", folder.path().join("link")).unwrap();
    let grants = Grants::none().read_dir(folder.path(), "/");
    let pool: Pool = wat(READER).grants(grants).build().unwrap();
    for _ in 0..3 {
        for function in ["fd_read", "fd_pread", "fd_readdir", "path_readlink", "random_get"] {
            let words: i32 = pool.run(function, ()).unwrap();
            match function {
                "fd_read" | "fd_pread" => assert_eq!(words, BYTES as i32 / 4, "{function}"),
                _ => assert!(words > 0, "{function}"),
            }
            assert_eq!(pool.run::<i32>("look", ()).unwrap(), 0, "after {function}");
        }
    }
    assert_eq!(pool.workers()[0].id.0, 1, "the worker was replaced");
    seen(
        82,
        "`fd_read`, `fd_pread`, `fd_readdir`, `path_readlink`, `random_get` into pages that nothing had written: all bytes arrive, and the next task finds zeros; same worker",
    );
}

#[test]
fn a83_more_pages_than_can_be_kept_writable_are_put_back() {
    const PAGES: u32 = 1024;
    let end = PAGES << 16;
    let source = format!(
        r#"(module (memory (export "memory") {PAGES}) (data (i32.const 0) "data")
        (func (export "write") (local $at i32)
            (loop $again
                (i32.store (local.get $at) (i32.const -1))
                (br_if $again (i32.lt_u
                    (local.tee $at (i32.add (local.get $at) (i32.const 4096))) (i32.const {end})))))
        (func (export "look") (result i32) (local $at i32) (local $found i32)
            (loop $again
                (if (i32.load (local.get $at))
                    (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
                (br_if $again (i32.lt_u
                    (local.tee $at (i32.add (local.get $at) (i32.const 4))) (i32.const {end}))))
            (local.get $found)))"#
    );
    let limits = Limits::default().memory_bytes(u64::from(end));
    let pool = wat(&source).limits(limits).build().unwrap();
    for _ in 0..3 {
        pool.run::<()>("write", ()).unwrap();
        assert_eq!(pool.run::<i32>("look", ()).unwrap(), 1, "the module's own word and no other");
    }
    assert_eq!(pool.workers()[0].id.0, 1, "the worker was replaced");
    seen(
        83,
        "each of 16,384 pages of 4 KiB, where 8,192 can be kept: the next task finds the module's data and zeros; same worker",
    );
}

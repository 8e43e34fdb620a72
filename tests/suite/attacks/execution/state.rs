//! Exits, half-finished hooks, and state that tasks leave.

use std::time::Duration;

use stockade::{Command, CommandOutput, Instances, Limits, Output, Scalar, TaskError};
use stockade_tests::{numbers, wat};

use crate::attacks::scene::Scene;
use crate::attacks::seen;

#[test]
fn a17_exit_ends_the_task_with_its_code_and_the_worker_lives() {
    let hostile = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "exit") (param i32) (call $exit (local.get 0)))
        (func $deep (param i32 i32)
            (if (local.get 1)
                (then (call $deep (local.get 0) (i32.sub (local.get 1) (i32.const 1))))
                (else (call $exit (local.get 0)))))
        (func (export "exit_from_deep") (param i32) (call $deep (local.get 0) (i32.const 1000))))"#;
    const CODES: [i32; 6] = [0, 42, 126, i32::MAX, i32::MIN, -1];
    let scene = Scene::of(hostile);
    for code in CODES {
        for function in ["exit", "exit_from_deep"] {
            let error = scene.survived::<()>(function, (code,)).unwrap_err();
            let exited = matches!(error, TaskError::Exited(told) if told == code);
            assert!(exited, "{function} {code}: {error:?}");
        }
    }
    // From where no call is under way yet.
    let at_start = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func $s (call $exit (i32.const 7)))
        (start $s)
        (func (export "f")))"#;
    let error = Scene::of(at_start).survived::<()>("f", ()).unwrap_err();
    assert!(matches!(error, TaskError::Exited(7)), "{error:?}");
    // A command's code is its result.
    for code in CODES {
        let program = format!(
            r#"(module
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 1)
                (func (export "_start") (call $exit (i32.const {code}))))"#
        );
        let pool = wat(&program).build().unwrap();
        for _ in 0..2 {
            let handle = pool.submit_command(Command::new("exit")).unwrap();
            let output: CommandOutput = handle.result().unwrap();
            assert_eq!(output.exit_code, code);
            assert_eq!(handle.report().worker.map(|id| id.0), Some(1));
        }
    }
    let codes: Vec<_> = CODES.iter().map(i32::to_string).collect();
    seen(17, &format!("ended with {}; same worker", codes.join(", ")));
}

#[test]
fn a18_payloads_of_nans_are_preserved() {
    let pool = numbers().build().unwrap();
    // Quiet, signalling, and negative, with their smallest and largest payloads.
    const BITS_32: [u32; 6] =
        [0x7fc0_0000, 0x7fa0_1234, 0x7f80_0001, 0x7fff_ffff, 0xffff_ffff, 0xff80_0001];
    const BITS_64: [u64; 6] = [
        0x7ff8_0000_0000_0000,
        0x7ff4_0000_dead_beef,
        0x7ff0_0000_0000_0001,
        0x7fff_ffff_ffff_ffff,
        u64::MAX,
        0xfff0_0000_0000_0001,
    ];
    for bits in BITS_32 {
        let handle = pool.submit::<f32>("same_f32", (f32::from_bits(bits),)).unwrap();
        assert_eq!(handle.output().unwrap(), Output::Scalars(vec![Scalar::F32(bits)]));
    }
    for bits in BITS_64 {
        let handle = pool.submit::<f64>("same_f64", (f64::from_bits(bits),)).unwrap();
        assert_eq!(handle.output().unwrap(), Output::Scalars(vec![Scalar::F64(bits)]));
    }
    // One that the guest makes, bit by bit, and one that it moves through its memory.
    let hostile = r#"(module
        (memory 1)
        (func (export "from_bits") (param i64) (result f64) (f64.reinterpret_i64 (local.get 0)))
        (func (export "through_memory") (param i64) (result f64)
            (i64.store (i32.const 0) (local.get 0))
            (f64.store (i32.const 8) (f64.load (i32.const 0)))
            (f64.load (i32.const 8))))"#;
    let scene = Scene::of(hostile);
    for bits in BITS_64 {
        for function in ["from_bits", "through_memory"] {
            let made = scene.survived::<f64>(function, (bits,)).unwrap();
            assert_eq!(made.to_bits(), bits, "{function}");
        }
    }
    let kinds = BITS_32.len() + BITS_64.len();
    seen(18, &format!("{kinds} quiet and signalling payloads came back bit for bit"));
}

/// Leaves data, pages, table entries and globals of its own everywhere, and ends in a way of the
/// caller's choice; `inspect` counts what it finds that no fresh instance has.
const LITTER: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (import "stockade" "output_write" (func $output_write (param i32 i32)))
    (memory (export "memory") 2)
    (data (i32.const 65536) "data of the module's own")
    (data $passive "to be dropped")
    (table $table 4 funcref)
    (global $secret (mut i64) (i64.const 0))
    (global $vector (mut v128) (v128.const i64x2 0 0))
    (elem declare func $litter)
    (func $again (call $again))
    (func $litter (param $pages i32) (param $end i32)
        (drop (memory.grow (i32.sub (local.get $pages) (i32.const 2))))
        (memory.fill (i32.const 0) (i32.const 0x5e)
            (i32.shl (local.get $pages) (i32.const 16)))
        (global.set $secret (i64.const 0x5e5e5e5e5e5e5e5e))
        (global.set $vector (v128.const i64x2 -1 -1))
        (data.drop $passive)
        (drop (table.grow $table (ref.func $litter) (i32.const 1000)))
        (table.fill $table (i32.const 0) (ref.func $litter) (i32.const 1004))
        (if (i32.eq (local.get $end) (i32.const 0)) (then unreachable))
        (if (i32.eq (local.get $end) (i32.const 1)) (then (call $again)))
        (if (i32.eq (local.get $end) (i32.const 2)) (then (drop (i32.load (i32.const -1)))))
        (if (i32.eq (local.get $end) (i32.const 3)) (then (call $exit (i32.const 3))))
        (if (i32.eq (local.get $end) (i32.const 4))
            (then (call $output_write (i32.const -8) (i32.const 16))))
        (if (i32.eq (local.get $end) (i32.const 5)) (then (loop $l (br $l)))))
    (export "litter" (func $litter))
    (func (export "inspect") (param $pages i32) (result i32)
        (local $found i32) (local $at i32) (local $end i32)
        (local.set $found (i32.add
            (i32.add (i64.ne (global.get $secret) (i64.const 0))
                (v128.any_true (global.get $vector)))
            (i32.add (i32.ne (memory.size) (i32.const 2))
                (i32.ne (table.size $table) (i32.const 4)))))
        ;; Traps where the passive segment is gone.
        (memory.init $passive (i32.const 0) (i32.const 0) (i32.const 13))
        (memory.fill (i32.const 0) (i32.const 0) (i32.const 13))
        ;; What it had of memory, and what the one before had beyond.
        (drop (memory.grow (i32.sub (local.get $pages) (i32.const 2))))
        (drop (table.grow $table (ref.null func) (i32.const 1000)))
        (loop $entries
            (local.set $found (i32.add (local.get $found)
                (i32.eqz (ref.is_null (table.get $table (local.get $at))))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $entries (i32.lt_u (local.get $at) (i32.const 1004))))
        (local.set $end (i32.shl (local.get $pages) (i32.const 16)))
        (local.set $at (i32.const 0))
        (loop $bytes
            (local.set $found (i32.add (local.get $found)
                (i64.ne (i64.load (local.get $at)) (i64.const 0))))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if $bytes (i32.lt_u (local.get $at) (local.get $end))))
        (local.get $found)))"#;

#[test]
fn a21_after_a_trap_a_fresh_instance_finds_nothing_of_the_one_before() {
    // 24 bytes of data, which every instance has.
    const OWN_WORDS: u32 = 3;
    let mut searched = 0;
    for interruptible in [false, true] {
        let limits = Limits::default().interruptible(interruptible);
        let scene = Scene::with(LITTER, limits);
        // A little memory, which is put back page by page, and much, which is unmapped.
        for pages in [2_u32, 30, 1024] {
            let ends = if interruptible { 6 } else { 5 };
            for end in 0..ends {
                let time = (end == 5).then_some(Duration::from_millis(500));
                let ended = scene.survived_within::<()>(time, "litter", (pages, end));
                let error = ended.unwrap_err();
                let ended = match end {
                    3 => matches!(error, TaskError::Exited(3)),
                    5 => matches!(error, TaskError::Deadline { .. }),
                    _ => matches!(error, TaskError::Trap { .. }),
                };
                assert!(ended, "{pages} {end}: {error:?}");
                let found = scene.survived::<u32>("inspect", (pages,)).unwrap();
                assert_eq!(found, OWN_WORDS, "{pages} pages, end {end}");
                searched = searched.max(u64::from(pages) * 64 / 1024);
            }
        }
    }
    // Where instances live on, a trap ends theirs as well.
    let pool = wat(LITTER).instances(Instances::PerWorker).build().unwrap();
    for pages in [2_u32, 30, 1024] {
        assert!(pool.run::<()>("litter", (pages, 0)).is_err());
        assert_eq!(pool.run::<u32>("inspect", (pages,)).unwrap(), OWN_WORDS, "{pages}");
        assert!(pool.run::<()>("litter", (pages, 2)).is_err());
    }
    assert_eq!(pool.workers()[0].id.0, 1);
    seen(
        21,
        &format!(
            "after 3 traps, an exit, a host call out of bounds and a deadline: memory ({searched} \
             MiB), table and globals as in a fresh instance; same worker"
        ),
    );
}

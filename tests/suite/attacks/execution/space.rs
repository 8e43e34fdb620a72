//! Memory, tables and data without measure.

use stockade::{BuildError, CompileLimits, Limits, Pool, PoolBuilder, RefusedReason};
use stockade_tests::{Gate, bombs, is_alive, own_children, until_running, wat};

use crate::attacks::scene::Scene;
use crate::attacks::seen;

const PAGE: u64 = 64 << 10;

#[test]
fn a08_growing_memory_without_end_gets_an_error_number() {
    // Grows page by page until told not to, then asks 10,000 times more, for one page and for all
    // that there can be. The pages it got.
    let hostile = r#"(module
        (memory 1)
        (func (export "grow_for_ever") (result i32)
            (local $asked i32)
            (loop $grow (br_if $grow (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
            (loop $again
                (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
                (if (i32.ne (memory.grow (i32.const 65535)) (i32.const -1)) (then unreachable))
                (if (i32.ne (memory.grow (i32.const -1)) (i32.const -1)) (then unreachable))
                (local.set $asked (i32.add (local.get $asked) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $asked) (i32.const 10000))))
            (memory.size)))"#;
    for memory_bytes in [8 * PAGE, 16 << 20, 256 << 20, 4 << 30] {
        let scene = Scene::with(hostile, Limits::default().memory_bytes(memory_bytes));
        let pages = scene.survived::<u32>("grow_for_ever", ()).unwrap();
        assert_eq!(u64::from(pages) * PAGE, memory_bytes);
        // The next one begins where every task does.
        assert_eq!(scene.survived::<u32>("grow_for_ever", ()).unwrap(), pages);
    }
    seen(8, "-1 from the limit on, 30,000 times; same worker");
}

#[test]
fn a09_every_worker_may_touch_every_page_it_has() {
    const WORKERS: usize = 4;
    const MEMORY: u64 = 64 << 20;
    // Grows to the limit, writes each page, and waits at the gate with all of it; then sees that
    // what it wrote is still there.
    let hostile = r#"(module
        (import "stockade" "progress" (func $progress (param i64 i64)))
        (import "wasi_snapshot_preview1" "path_filestat_get"
            (func $stat (param i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "open")
        (func (export "touch_all") (param $mark i32) (result i32)
            (local $at i32) (local $found i32) (local $end i32)
            (drop (memory.grow (i32.const 1023)))
            (local.set $end (i32.shl (memory.size) (i32.const 16)))
            (local.set $at (i32.const 4096))
            (loop $write
                (if (i32.load (local.get $at)) (then unreachable))
                (i32.store (local.get $at) (local.get $mark))
                (local.set $at (i32.add (local.get $at) (i32.const 4096)))
                (br_if $write (i32.lt_u (local.get $at) (local.get $end))))
            (call $progress (i64.const 1) (i64.const 2))
            (loop $wait (br_if $wait (call $stat
                (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 64))))
            (local.set $at (i32.const 4096))
            (loop $read
                (if (i32.ne (i32.load (local.get $at)) (local.get $mark)) (then unreachable))
                (local.set $found (i32.add (local.get $found) (i32.const 1)))
                (local.set $at (i32.add (local.get $at) (i32.const 4096)))
                (br_if $read (i32.lt_u (local.get $at) (local.get $end))))
            (local.get $found)))"#;
    let gate = Gate::new();
    let limits = Limits::default().memory_bytes(MEMORY);
    let builder = wat(hostile).grants(gate.grants()).max_workers(WORKERS).limits(limits);
    let pool = builder.build().unwrap();
    let tasks: Vec<_> = (1..=WORKERS as i32)
        .map(|mark| pool.submit::<u32>("touch_all", (mark,)).unwrap())
        .collect();
    tasks.iter().for_each(until_running);
    let workers = pool.workers();
    assert_eq!(workers.len(), WORKERS);
    assert!(workers.iter().all(|worker| is_alive(worker.pid)));
    gate.open();
    for task in &tasks {
        assert_eq!(u64::from(task.result().unwrap()), MEMORY / 4096 - 1);
        let report = task.report();
        assert_eq!((report.memory_peak_bytes, report.attempt), (MEMORY, 1));
    }
    // The same workers do it again, and each finds its memory empty: it would trap otherwise.
    let again: Vec<_> = (0..2 * WORKERS as i32)
        .map(|mark| pool.submit::<u32>("touch_all", (100 + mark,)).unwrap())
        .collect();
    for task in again {
        task.result().unwrap();
    }
    let ids = |workers: Vec<stockade::WorkerInfo>| -> Vec<_> {
        workers.into_iter().map(|worker| worker.id).collect()
    };
    assert_eq!(ids(pool.workers()), ids(workers));
    let mebibytes = MEMORY >> 20;
    seen(
        9,
        &format!(
            "{WORKERS} workers, {mebibytes} MiB each at once: no task and no worker lost, and empty \
             memory for the next"
        ),
    );
}

#[test]
fn a10_growing_a_table_by_100_million_gets_an_error_number() {
    let hostile = r#"(module
        (table $one 1 funcref)
        (table $two 1 funcref)
        (func (export "grow") (param i32) (result i32)
            (table.grow $one (ref.null func) (local.get 0)))
        ;; The elements of both together.
        (func (export "grow_for_ever") (result i32)
            (loop $grow
                (br_if $grow (i32.ne
                    (table.grow $one (ref.null func) (i32.const 1)) (i32.const -1)))
                (br_if $grow (i32.ne
                    (table.grow $two (ref.null func) (i32.const 1)) (i32.const -1))))
            (i32.add (table.size $one) (table.size $two))))"#;
    let limits = Limits::default();
    let elements = limits.table_elements;
    let scene = Scene::with(hostile, limits);
    for by in [100_000_000, u32::MAX, i32::MAX as u32, elements as u32] {
        assert_eq!(scene.survived::<i32>("grow", (by,)).unwrap(), -1, "{by}");
    }
    assert_eq!(u64::from(scene.survived::<u32>("grow_for_ever", ()).unwrap()), elements);
    seen(10, &format!("-1, and {elements} elements at most in all tables; same worker"));
}

/// What refuses the module; no process of this thread's is left.
#[track_caller]
fn refusal_of(builder: PoolBuilder) -> RefusedReason {
    let error = builder.build().expect_err("a build that fails");
    assert!(own_children().is_empty(), "a process is left");
    let BuildError::Refused { reason, .. } = error else { panic!("{error:?}") };
    reason
}

#[test]
fn a11_smallest_memory_above_the_limit_is_refused() {
    let limits = Limits::default();
    let pages = limits.memory_bytes / PAGE;
    let hostile = |pages: u64| wat(&format!(r#"(module (memory {pages}) (func (export "f")))"#));
    for pages in [pages + 1, 65_536] {
        let reason = refusal_of(hostile(pages));
        assert!(matches!(reason, RefusedReason::Limit(_)), "{pages}: {reason:?}");
    }
    let beyond_any = refusal_of(hostile(65_537));
    assert!(matches!(beyond_any, RefusedReason::Malformed(_)), "{beyond_any:?}");
    // As much as allowed, as four workers in a row have it.
    let pool = hostile(pages).max_tasks_per_worker(1).build().unwrap();
    (0..4).for_each(|_| pool.run::<()>("f", ()).unwrap());
    seen(11, "refused by limit; the limit itself is taken");
}

#[test]
fn a12_smallest_table_of_ten_million_is_refused() {
    let hostile = |tables: &str| wat(&format!(r#"(module {tables} (func (export "f")))"#));
    for tables in [
        "(table 10000000 funcref)",
        "(table 100001 funcref)",
        "(table 50000 funcref) (table 50001 funcref)",
    ] {
        let reason = refusal_of(hostile(tables));
        assert!(matches!(reason, RefusedReason::Limit(_)), "{tables}: {reason:?}");
    }
    let beyond_any = refusal_of(hostile("(table 4294967295 funcref)"));
    let refused = matches!(beyond_any, RefusedReason::Limit(_) | RefusedReason::Malformed(_));
    assert!(refused, "{beyond_any:?}");
    let pool = hostile("(table 100000 funcref)").build().unwrap();
    pool.run::<()>("f", ()).unwrap();
    seen(
        12,
        "refused by limit, also where two tables reach it together; the limit itself is taken",
    );
}

#[test]
fn a15_a_hundred_thousand_data_segments_are_compiled_within_the_limits() {
    const SEGMENTS: usize = 100_000;
    let scene = Scene::of_bytes(bombs::data_segments(SEGMENTS), Limits::default());
    for number in [7, 8] {
        assert_eq!(scene.survived::<i32>("f", (number,)).unwrap(), number);
    }
    let reason =
        refusal_of(Pool::single().module_bytes("more", bombs::data_segments(SEGMENTS + 1)));
    assert!(matches!(reason, RefusedReason::Limit(_)), "{reason:?}");
    seen(15, "compiled and run; one segment more is refused");
}

#[test]
fn a16_data_that_is_almost_all_zero_makes_no_image_of_its_size() {
    // One byte in the first page and one in the last.
    const ARTEFACT_MAX: u64 = 1 << 20;
    for pages in [1024, 65_536] {
        let bytes = bombs::sparse_data(pages);
        let limits = Limits::default().memory_bytes(4 << 30);
        let builder = Pool::single().module_bytes("sparse", bytes.clone()).limits(limits.clone());
        let small = CompileLimits::default().artefact_bytes(ARTEFACT_MAX);
        assert!(builder.compile_limits(small).build().is_ok(), "{pages}");
        let scene = Scene::of_bytes(bytes, limits);
        let last = (pages as u64 * PAGE - 1) as u32;
        for (at, byte) in [(0, b'a'), (1, 0), (last / 2, 0), (last, b'b')] {
            assert_eq!(scene.survived::<u8>("f", (at,)).unwrap(), byte, "{pages}: {at}");
        }
    }
    seen(16, "64 MiB and 4 GiB of memory from 70 bytes: an artefact below 1 MiB");
}

//! Hostile pointers, and host calls at unusual times.

use stockade::{Bytes, Instances, Limits, Pool, TaskError, TrapKind};
use stockade_tests::{processes_named, wat};

use super::super::seen;
use super::{assert_first_worker, failed, guest};

/// Host calls with a pointer and a length, as functions of both, in one page of memory.
const CALLS: [&str; 6] = ["input_read", "input_map", "output_write", "error_write", "emit", "log"];

fn calls() -> Pool {
    let pool = wat(&guest(
        1,
        r#"(func (export "input_read") (param i32 i32)
            (call $input_read (local.get 0) (i32.const 0) (local.get 1)))
           (func (export "input_map") (param i32 i32)
            (drop (call $input_map (local.get 0) (local.get 1))))
           (func (export "output_write") (param i32 i32)
            (call $output_write (local.get 0) (local.get 1)))
           (func (export "error_write") (param i32 i32)
            (call $error_write (local.get 0) (local.get 1)))
           (func (export "emit") (param i32 i32) (call $emit (local.get 0) (local.get 1)))
           (func (export "log") (param i32 i32)
            (call $log (i32.const 1) (local.get 0) (local.get 1)))
           (func (export "read_back") (result i32)
            (call $input_read (i32.const 1) (i32.const 0) (i32.const 4))
            (call $output_write (i32.const 1) (i32.const 4))
            (i32.const 0))
           (func (export "read_beyond") (result i32)
            (call $input_read (i32.const 0) (i32.const 1) (i32.const 4)) (i32.const 0))
           (func (export "read_far_beyond") (result i32)
            (call $input_read (i32.const 0) (i32.const -1) (i32.const 1)) (i32.const 0))"#,
    ));
    pool.build().unwrap()
}

#[track_caller]
fn assert_out_of_bounds(pool: &Pool, call: &str, pointer: u32, length: u32) {
    let error = failed(pool.run::<()>(call, (pointer, length)));
    let trapped = matches!(error, TaskError::Trap { kind: TrapKind::MemoryOutOfBounds, .. });
    assert!(trapped, "{call}({pointer:#x}, {length:#x}): {error:?}");
}

#[test]
fn a32_pointers_are_checked_to_the_byte() {
    const END: u32 = 65_536;
    let pool = calls();
    for call in CALLS {
        for (pointer, length) in [
            (0, END + 1),
            (1, END),
            (END, 1),
            (END + 1, 0),
            (END - 3, 4),
            (u32::MAX, 0),
            (u32::MAX, 1),
            (u32::MAX - 3, 8),
            (u32::MAX, u32::MAX),
            (1 << 31, 1 << 31),
        ] {
            assert_out_of_bounds(&pool, call, pointer, length);
        }
        // At the boundary: the end itself, and all of it where there is as much to move.
        pool.run::<()>(call, (END, 0)).unwrap();
        if call != "input_read" {
            for (pointer, length) in [(0, END), (END - 1, 1), (1, 3), (END - 7, 7)] {
                pool.run::<()>(call, (pointer, length)).unwrap();
            }
        }
    }
    let four = || Bytes(vec![1, 2, 3, 4]);
    assert_eq!(pool.run::<Vec<u8>>("read_back", four()).unwrap(), [1, 2, 3, 4]);
    for name in ["read_beyond", "read_far_beyond"] {
        let error = failed(pool.run::<Vec<u8>>(name, four()));
        assert!(matches!(error, TaskError::Abi(_)), "{name}: {error:?}");
    }
    assert_first_worker(&pool);
    seen(
        32,
        "ten pointers and lengths outside memory are `MemoryOutOfBounds` in each of six host \
         calls, input beyond its end is `Abi`; the last byte, and any alignment, can be used",
    );
}

/// The most address space and the most memory that a process ever had, in KiB.
fn peaks(pid: u32) -> [u64; 2] {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    ["VmPeak:", "VmHWM:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    })
}

#[test]
fn a33_a_length_of_four_gigabytes_makes_nobody_allocate() {
    let pool = calls();
    for call in CALLS {
        pool.run::<()>(call, (0, 0)).unwrap();
        assert_out_of_bounds(&pool, call, 0, 1 << 17);
    }
    let pid = pool.workers()[0].pid;
    let before = peaks(pid);
    for call in CALLS {
        for pointer in [0, 1, 65_535, 65_536] {
            assert_out_of_bounds(&pool, call, pointer, u32::MAX);
        }
    }
    let after = peaks(pid);
    // What an ordinary trap may need of both; 4 GiB would be seen in the first, touched or not.
    for (before, after) in before.iter().zip(after) {
        assert!(after - before < 8 << 10, "{before} KiB grew to {after} KiB");
    }
    assert_first_worker(&pool);
    seen(
        33,
        "`MemoryOutOfBounds` in each of six host calls; neither the worker's memory nor its \
         address space grew by 8 MiB",
    );
}

#[test]
fn a34_memory_that_grows_between_two_host_calls_is_found_anew() {
    // Every call points into memory that was not there at the call before.
    let module = r#"(module
        (import "stockade" "input_read" (func $input_read (param i32 i32 i32)))
        (import "stockade" "output_write" (func $output_write (param i32 i32)))
        (import "stockade" "emit" (func $emit (param i32 i32)))
        (import "wasi_snapshot_preview1" "fd_write"
            (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "grow") (result i32) (local $at i32)
            (loop $more
                (call $input_read (local.get $at) (i32.const 0) (i32.const 4))
                (i32.store8 (local.get $at) (i32.add (i32.const 65) (memory.size)))
                (call $output_write (local.get $at) (i32.const 4))
                (call $emit (local.get $at) (i32.const 4))
                (i32.store offset=8 (local.get $at) (local.get $at))
                (i32.store offset=12 (local.get $at) (i32.const 4))
                (drop (call $fd_write (i32.const 1) (i32.add (local.get $at) (i32.const 8))
                    (i32.const 1) (i32.add (local.get $at) (i32.const 16))))
                (local.set $at (i32.shl (memory.size) (i32.const 16)))
                (br_if $more (i32.ne (memory.grow (i32.const 3)) (i32.const -1))))
            (i32.const 0)))"#;
    for instances in [Instances::PerTask, Instances::PerWorker] {
        let limits = Limits::default().memory_bytes(20 << 16);
        let pool = wat(module).instances(instances).limits(limits).build().unwrap();
        let handle = pool.submit::<Vec<u8>>("grow", Bytes(b"....".to_vec())).unwrap();
        let expected: Vec<u8> =
            (1..20).step_by(3).flat_map(|pages| [b'A' + pages, b'.', b'.', b'.']).collect();
        assert_eq!(handle.result().unwrap(), expected, "{instances:?}");
        let items: Vec<u8> = handle.emitted::<Vec<u8>>().flat_map(|item| item.unwrap()).collect();
        assert_eq!(items, expected, "{instances:?}");
        assert_eq!(handle.report().stdout.bytes, expected, "{instances:?}");
        assert_first_worker(&pool);
    }
    seen(34, "input, result, items and stdout are those of the memory as it is after each growth");
}

/// More messages than one turn hears, from a worker while its caller already waits: a bell of the turn was
/// lost there, and both slept until the worker's time to start was over.
#[test]
fn initializers_that_emit_more_than_a_turn_hears_hold_nobody_up() {
    let flood = guest(
        1,
        r#"(func (export "begin") (local $n i32)
            (loop $more
                (call $emit (i32.const 0) (i32.const 100))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $n) (i32.const 1000)))))
           (func (export "task") (result i32) (i32.const 0))"#,
    );
    let pool = wat(&flood)
        .instances(Instances::PerWorker)
        .max_tasks_per_worker(1)
        .initializer("begin", ())
        .build()
        .unwrap();
    for number in 1..=150 {
        let handle = pool.submit::<Vec<u8>>("task", Bytes(Vec::new())).unwrap();
        assert_eq!(handle.result().unwrap(), b"");
        let worker = handle.report().worker.unwrap();
        assert_eq!(worker.0, number, "a worker was given up");
    }
}

#[test]
fn a40_host_calls_out_of_turn_belong_to_the_task_or_to_nobody() {
    // From the start function: the calls of the task that is about to run.
    let early = guest(
        1,
        r#"(data (i32.const 0) "early")
           (func $start
            (call $output_write (i32.const 0) (i32.const 5))
            (call $emit (i32.const 0) (i32.const 5))
            (call $log (i32.const 3) (i32.const 0) (i32.const 5))
            (call $progress (call $task_id) (i64.const 7))
            (call $error_write (i32.const 0) (i32.const 5)))
           (start $start)
           (func (export "task") (result i32) (i32.const 0))
           (func (export "fail") (result i32) (i32.const 1))"#,
    );
    let pool = wat(&early).build().unwrap();
    for number in 1..=2 {
        let handle = pool.submit::<Vec<u8>>("task", Bytes(Vec::new())).unwrap();
        assert_eq!(handle.result().unwrap(), b"early");
        let items: Vec<Vec<u8>> = handle.emitted().map(|item| item.unwrap()).collect();
        assert_eq!((items, handle.progress()), (vec![b"early".to_vec()], Some((number, 7))));
        assert_eq!(handle.report().log.len(), 1);
    }
    let TaskError::Guest(error) = failed(pool.run::<()>("fail", Bytes(Vec::new()))) else {
        panic!()
    };
    assert_eq!(error.message, "early");
    assert_first_worker(&pool);

    // Before any task and after the last: an initializer and a finalizer have no caller.
    let hooks = guest(
        1,
        r#"(func $flood (local $n i32)
            (loop $more
                (call $emit (i32.const 0) (i32.const 100))
                (call $output_write (i32.const 0) (i32.const 100))
                (call $error_write (i32.const 0) (i32.const 100))
                (call $log (i32.const 3) (i32.const 0) (i32.const 100))
                (call $progress (i64.const 1) (i64.const 2))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $n) (i32.const 1000)))))
           (func (export "begin") (call $flood))
           (func (export "end") (call $flood))
           (func (export "task") (result i32) (i32.const 0))"#,
    );
    for instances in [Instances::PerTask, Instances::PerWorker] {
        let pool = wat(&hooks)
            .instances(instances)
            .initializer("begin", ())
            .finalizer("end", ())
            .build()
            .unwrap();
        let handle = pool.submit::<Vec<u8>>("task", Bytes(Vec::new())).unwrap();
        assert_eq!(handle.result().unwrap(), b"", "{instances:?}");
        assert_eq!((handle.emitted::<Vec<u8>>().count(), handle.progress()), (0, None));
        assert_eq!((handle.report().log.len(), handle.report().log_dropped), (0, 0));
        assert_first_worker(&pool);
        assert!(pool.shutdown() && !pool.is_broken(), "{instances:?}: {:?}", pool.broken());
        assert!(processes_named(pool.name()).is_empty());
    }

    // With no guest at all between the worker and its own host call.
    let bare = r#"(module
        (import "stockade" "output_write" (func $write (param i32 i32)))
        (import "stockade" "input_len" (func $len (result i32)))
        (import "stockade" "emit" (func $emit (param i32 i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (export "write" (func $write)) (export "emit" (func $emit)) (export "length" (func $len))
        (export "poll" (func $poll)) (export "random" (func $random)) (export "exit" (func $exit)))"#;
    let pool = wat(bare).build().unwrap();
    assert_eq!(pool.run::<Vec<u8>>("length", Bytes(Vec::new())).unwrap(), b"");
    for name in ["write", "emit"] {
        pool.run::<()>(name, (0, 4)).unwrap();
        assert_out_of_bounds(&pool, name, 65_535, 2);
    }
    assert_eq!(pool.run::<i32>("poll", (0, 0, 1, 0)).unwrap(), 0);
    assert_eq!(pool.run::<i32>("poll", (0, 0, 1, 65_535)).unwrap(), 21);
    let error = failed(pool.run::<i32>("random", (0, 4)));
    assert!(matches!(error, TaskError::Abi(_)), "{error:?}");
    let error = failed(pool.run::<()>("exit", (7,)));
    assert!(matches!(error, TaskError::Exited(7)), "{error:?}");
    assert_first_worker(&pool);
    seen(
        40,
        "calls of a start function count as its task's; of an initializer's and a finalizer's \
         nothing reaches any task; a host call exported as a function answers as one that was \
         called, or is `Abi`",
    );
}

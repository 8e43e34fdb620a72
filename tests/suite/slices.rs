//! Slices: a function over numbers, applied to many of them at once.

use std::time::Duration;

use stockade::{
    Bytes, CancelReason, GivenArguments, Instances, Limits, Pool, PoolBuilder, Scalar, SliceError,
    SubmitError, TaskError, TaskOptions, TrapKind, WhenFull,
};
use stockade_tests::{Gate, TASKS, eventually, kill, numbers, tasks, wat};

/// Functions of one number each; `square` waits at the gate before it squares -1.
fn squaring(gate: &Gate) -> PoolBuilder {
    let functions = r#"
      (func (export "square_number") (param i64) (result i64)
        (if (i64.eq (local.get 0) (i64.const -1)) (then (call $wait_at_gate)))
        (i64.mul (local.get 0) (local.get 0))))"#;
    let rest = TASKS.trim_end().strip_suffix(')').unwrap();
    wat(&format!("{rest}{functions}")).grants(gate.grants())
}

/// Counts the calls of its instance.
fn counting() -> PoolBuilder {
    wat(r#"(module (global $calls (mut i32) (i32.const 0))
        (func (export "count") (param i32) (result i32)
          (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
          (global.get $calls)))"#)
}

/// Counts down from a number; never ends where that is negative.
fn spinning() -> PoolBuilder {
    wat(r#"(module (func (export "spin") (param i32) (result i32)
        (loop $again
          (br_if $again (i32.lt_s (local.get 0) (i32.const 0)))
          (br_if $again (i32.gt_s
            (local.tee 0 (i32.sub (local.get 0) (i32.const 1))) (i32.const 0))))
        (i32.const 7)))"#)
}

fn two_workers() -> Pool {
    numbers().max_workers(2).build().unwrap()
}

#[test]
fn results_are_those_of_the_items_in_their_order() {
    for workers in [1, 3] {
        let pool = numbers().max_workers(workers).build().unwrap();
        let same = pool.function::<i64>("same_i64").unwrap();
        for length in [0, 1, 2, 1000, 300_000] {
            let items: Vec<i64> = (0..length).map(|i| i * 0x1234_5678_9abc).collect();
            assert!(same.map_slice(&items).unwrap() == items, "{length}");
        }
    }
}

#[test]
fn nothing_is_sent_for_an_empty_slice() {
    let pool = two_workers();
    let same = pool.function::<u32>("same_i32").unwrap();
    assert!(same.map_slice::<u32>(&[]).unwrap().is_empty());
    assert_eq!(pool.count_workers(), 0);
}

#[test]
fn integers_with_and_without_a_sign_and_floats_are_taken_and_given() {
    let pool = two_workers();
    let edges = [i64::MIN, -1, 0, 1, i64::MAX];
    let same = pool.function::<i64>("same_i64").unwrap();
    assert_eq!(same.map_slice(&edges).unwrap(), edges);
    assert_eq!(same.map_slice(&edges.map(i64::cast_unsigned)).unwrap(), edges);
    let same = pool.function::<u64>("same_i64").unwrap();
    assert_eq!(same.map_slice(&edges).unwrap(), edges.map(i64::cast_unsigned));
    let edges = [i32::MIN, -1, 0, 1, i32::MAX];
    let same = pool.function::<i32>("same_i32").unwrap();
    assert_eq!(same.map_slice(&edges).unwrap(), edges);
    let same = pool.function::<u32>("same_i32").unwrap();
    assert_eq!(same.map_slice(&edges).unwrap(), edges.map(i32::cast_unsigned));
    let truncate = pool.function::<i32>("truncate").unwrap();
    assert_eq!(truncate.map_slice(&[1.5_f64, -2.9, 1e9]).unwrap(), [1, -2, 1_000_000_000]);
}

#[test]
fn floats_keep_their_bits() {
    let pool = two_workers();
    let bits = [0x7fa0_0001_u32, 0xffc1_2345, 0x8000_0000, 0x7f80_0000];
    let same = pool.function::<f32>("same_f32").unwrap();
    let results = same.map_slice(&bits.map(f32::from_bits)).unwrap();
    assert!(results.into_iter().map(f32::to_bits).eq(bits));
    let bits = [0x7ff4_dead_beef_0001_u64, 0xfff8_0000_0000_0007, 1 << 63];
    let same = pool.function::<f64>("same_f64").unwrap();
    let results = same.map_slice(&bits.map(f64::from_bits)).unwrap();
    assert!(results.into_iter().map(f64::to_bits).eq(bits));
}

#[test]
fn a_function_of_another_type_is_refused() {
    fn refused<T>(result: Result<Vec<T>, SliceError>) -> String {
        match result {
            Err(SliceError::Submit(SubmitError::Signature { problem, .. })) => problem,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("it was called"),
        }
    }
    let pool = two_workers();
    let same = |name| pool.function::<i32>(name).unwrap();
    assert!(refused(same("same_i32").map_slice(&[1_i64])).contains("i64"));
    assert!(refused(same("same_i64").map_slice(&[1_i64])).contains("i32"));
    assert!(refused(same("same_f32").map_slice(&[1_i32])).contains("f32"));
    for name in ["add", "nothing", "next", "grow_or_trap"] {
        assert!(refused(same(name).map_slice(&[1_i32])).contains("one number"), "{name}");
    }
    // Whether there are items or not.
    refused(same("add").map_slice::<i32>(&[]));
    let tasks = tasks().build().unwrap();
    let echo = tasks.function::<i32>("echo").unwrap();
    assert!(refused(echo.map_slice(&[1_i32])).contains("use `map`"));
}

#[test]
fn the_first_item_that_fails_is_named() {
    let pool = two_workers();
    let load = pool.function::<i32>("load").unwrap();
    for (length, wrong) in [(1, vec![0]), (3, vec![2]), (100_000, vec![50_001, 90_000])] {
        let mut items = vec![0; length];
        wrong.iter().for_each(|at| items[*at] = -1);
        match load.map_slice(&items).unwrap_err() {
            SliceError::Item { index, error: TaskError::Trap { kind, .. } } => {
                assert_eq!((index, kind), (wrong[0], TrapKind::MemoryOutOfBounds));
            }
            other => panic!("{other:?}"),
        }
        assert!(load.map_slice(&vec![0; 5000]).unwrap() == [0; 5000], "it goes on");
    }
}

#[test]
fn what_items_leave_is_seen_by_later_ones_of_their_piece_alone() {
    let limits = Limits::default().deterministic(1);
    let pool = counting().max_workers(2).limits(limits).build().unwrap();
    let count = pool.function::<i32>("count").unwrap();
    // Pieces of 4,096, which do not depend on time.
    let expected: Vec<i32> = (0..10_000).map(|i| i % 4096 + 1).collect();
    for _ in 0..2 {
        assert!(count.map_slice(&vec![0; 10_000]).unwrap() == expected);
    }
    assert_eq!(count.run((0,)).unwrap(), 1);
    // Otherwise pieces are as large as they happen to be, and each begins with 1.
    let pool = counting().max_workers(2).build().unwrap();
    let counts = pool.function::<i32>("count").unwrap().map_slice(&vec![0; 10_000]).unwrap();
    assert_eq!(counts[0], 1);
    assert!(counts.windows(2).all(|pair| pair[1] == 1 || pair[1] == pair[0] + 1));
}

#[test]
fn an_instance_of_the_workers_own_serves_every_piece() {
    let pool = counting().instances(Instances::PerWorker).build().unwrap();
    let count = pool.function::<i32>("count").unwrap();
    let expected: Vec<i32> = (1..=10_000).collect();
    assert!(count.map_slice(&vec![0; 10_000]).unwrap() == expected);
    assert_eq!(count.run((0,)).unwrap(), 10_001);
}

#[test]
fn pieces_keep_to_the_limit_on_output() {
    for (bytes, is_enough) in [(800, true), (8, true), (7, false)] {
        let pool = numbers().limits(Limits::default().output_bytes(bytes)).build().unwrap();
        let same = pool.function::<i64>("same_i64").unwrap();
        let items: Vec<i64> = (0..1000).collect();
        match same.map_slice(&items) {
            Ok(results) => assert!(is_enough && results == items, "{bytes}"),
            Err(SliceError::Piece { items, error: TaskError::Output { limit } }) => {
                assert_eq!((is_enough, items, limit), (false, 0..1, bytes));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn each_item_has_the_fuel_for_itself() {
    let pool = spinning().limits(Limits::default().fuel(10_000)).build().unwrap();
    let spin = pool.function::<i32>("spin").unwrap();
    let mut items = vec![500; 2000];
    assert!(spin.map_slice(&items).unwrap() == [7; 2000]);
    items[1234] = 100_000;
    let error = spin.map_slice(&items).unwrap_err();
    let is_fuel =
        matches!(error, SliceError::Item { index: 1234, error: TaskError::Fuel { limit: 10_000 } });
    assert!(is_fuel, "{error:?}");
}

#[test]
fn an_item_without_an_end_meets_the_deadline() {
    let limits = Limits::default().wall_time(Duration::from_millis(300));
    let mut items = vec![1; 1000];
    items[500] = -1;
    let pool = spinning().limits(limits.clone().interruptible(true)).build().unwrap();
    let error = pool.function::<i32>("spin").unwrap().map_slice(&items).unwrap_err();
    let is_late =
        matches!(error, SliceError::Item { index: 500, error: TaskError::Deadline { .. } });
    assert!(is_late, "{error:?}");
    // Where its worker has to be killed nobody knows which item it was.
    let pool = spinning().limits(limits).build().unwrap();
    match pool.function::<i32>("spin").unwrap().map_slice(&items).unwrap_err() {
        SliceError::Piece { items, error: TaskError::Deadline { .. } } => {
            assert!(items.contains(&500), "{items:?}");
        }
        other => panic!("{other:?}"),
    }
}

/// Squares 100,000 numbers, and kills the worker at one of them.
fn squares_with_a_death(retries: u32) -> Result<(), SliceError> {
    let gate = Gate::new();
    let pool = squaring(&gate).build().unwrap();
    let options = TaskOptions::default().retries(retries);
    let square = pool.function::<i64>("square_number").unwrap().options(options).unwrap();
    let mut items: Vec<i64> = (0..100_000).collect();
    items[60_000] = -1;
    let results = std::thread::scope(|scope| {
        scope.spawn(|| {
            gate.until_somebody_waits();
            kill(pool.workers()[0].pid);
            gate.open();
        });
        square.map_slice(&items)
    });
    let squares: Vec<i64> = items.iter().map(|item| item * item).collect();
    assert!(results? == squares);
    Ok(())
}

#[test]
fn a_piece_that_lost_its_worker_is_tried_again_if_that_is_allowed() {
    squares_with_a_death(1).unwrap();
    match squares_with_a_death(0).unwrap_err() {
        SliceError::Piece { items, error: TaskError::WorkerLost(_) } => {
            assert!(items.contains(&60_000), "{items:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pool_that_is_killed_ends_a_slice_and_keeps_what_had_not_started() {
    let gate = Gate::new();
    let pool = squaring(&gate).build().unwrap();
    let square = pool.function::<i64>("square_number").unwrap();
    let mut items: Vec<i64> = (0..100_000).collect();
    items[1] = -1;
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            gate.until_somebody_waits();
            // Another piece waits behind it.
            eventually("a second piece", || pool.count_pending_tasks() == 1);
            pool.kill();
        });
        square.map_slice(&items).unwrap_err()
    });
    let SliceError::Piece { items: lost, error } = &error else { panic!("{error:?}") };
    assert!(lost.contains(&1), "{lost:?}");
    assert!(matches!(error, TaskError::Cancelled(CancelReason::Shutdown)), "{error:?}");
    let kept = pool.cancelled_tasks();
    let next = |given: &GivenArguments| match given {
        GivenArguments::Column(items) => items[0] == Scalar::I64(lost.end as i64),
        _ => false,
    };
    assert!(kept.iter().any(|task| next(&task.arguments)), "{kept:?}");
    let closed = square.map_slice(&items).unwrap_err();
    assert!(matches!(closed, SliceError::Submit(SubmitError::Closed)), "{closed:?}");
}

#[test]
fn a_slice_waits_for_room_unless_it_is_told_not_to() {
    let items: Vec<i64> = (0..50_000).collect();
    let pool = numbers().max_workers(2).max_pending_tasks(1).build().unwrap();
    let same = pool.function::<i64>("same_i64").unwrap();
    assert!(same.map_slice(&items).unwrap() == items);
    let gate = Gate::new();
    let pool = squaring(&gate).max_pending_tasks(1).build().unwrap();
    let _running = gate.occupy(&pool);
    let waiting = pool.submit::<Bytes>("echo", Bytes(vec![1])).unwrap();
    let options = TaskOptions::default().when_full(WhenFull::Fail);
    let square = pool.function::<i64>("square_number").unwrap().options(options).unwrap();
    let error = square.map_slice(&items).unwrap_err();
    assert!(matches!(error, SliceError::Submit(SubmitError::Full { .. })), "{error:?}");
    gate.open();
    waiting.result().unwrap();
    assert_eq!(square.map_slice(&[2_i64]).unwrap(), [4_i64]);
}

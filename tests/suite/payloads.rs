//! Large payloads: buffers that are lent to tasks, and long inputs and results of any task.

use std::sync::atomic::Ordering;
use std::time::Duration;

use stockade::{
    Bytes, FreezeError, Instances, Limits, Pool, RunError, SharedBuffer, TaskError, TaskOptions,
};
use stockade_tests::{Gate, eventually, guest_pool, int, kill, until_running, wat};

/// Long enough to be mapped, and no multiple of any page.
const BYTES: usize = 300_001;

/// A buffer whose bytes tell their place.
fn buffer(bytes: usize) -> SharedBuffer {
    let mut buffer = SharedBuffer::new(bytes).unwrap();
    buffer.copy_from_slice(0, &pattern(bytes));
    buffer
}

fn pattern(bytes: usize) -> Vec<u8> {
    repeated(bytes, |place| place)
}

fn inverted(bytes: usize) -> Vec<u8> {
    repeated(bytes, |place| !place)
}

/// So long that no two pages are alike.
fn repeated(bytes: usize, byte: impl Fn(u8) -> u8) -> Vec<u8> {
    let period: Vec<u8> = (0..251).map(byte).collect();
    let mut all = period.repeat(bytes / period.len() + 1);
    all.truncate(bytes);
    all
}

/// A module whose tasks map what they were lent, and change its first byte before they end badly.
fn hard_ends() -> Pool {
    let module = r#"(module
            (import "stockade" "input_len" (func $input_len (result i32)))
            (import "stockade" "input_map" (func $input_map (param i32 i32) (result i32)))
            (import "stockade" "progress" (func $progress (param i64 i64)))
            (memory (export "memory") 1)
            (func $map (local $room i32)
                (local.set $room (i32.and (i32.const -65536)
                    (i32.add (i32.const 65535) (call $input_len))))
                (drop (memory.grow (i32.shr_u (local.get $room) (i32.const 16))))
                (if (i32.eqz (call $input_map (i32.const 65536) (local.get $room)))
                    (then unreachable))
                (i32.store8 (i32.const 65536) (i32.const 77)))
            (func (export "trap") (result i32) (call $map) unreachable)
            (func (export "spin") (result i32)
                (call $map) (call $progress (i64.const 1) (i64.const 1))
                (loop $ever (br $ever)) (i32.const 0))
            (func (export "silent") (result i32) (call $map) (i32.const 0)))"#;
    wat(module).build().unwrap()
}

#[test]
fn a_lent_buffer_is_changed_where_it_is_and_comes_back() {
    let pool = guest_pool("probe").build().unwrap();
    for bytes in [0, 1, 4096, 31_000, 65_536, 262_143, 262_144, BYTES, 3 << 20] {
        let changed: SharedBuffer = pool.run("invert", buffer(bytes)).unwrap();
        assert_eq!(changed.len(), bytes);
        assert!(changed.to_vec() == inverted(bytes), "{bytes}");
    }
    assert_eq!(pool.workers()[0].id.0, 1);
}

#[test]
fn one_buffer_serves_many_tasks_and_workers() {
    let pool = guest_pool("probe").max_workers(2).max_tasks_per_worker(3).build().unwrap();
    let mut buffer = buffer(BYTES);
    for _ in 0..20 {
        buffer = pool.run("invert", buffer).unwrap();
    }
    assert!(buffer.to_vec() == pattern(BYTES));
    let last = pool.submit::<SharedBuffer>("invert", buffer).unwrap();
    assert!(last.report().worker.unwrap().0 > 6, "no worker does more than three");
    let mut buffer = last.result().unwrap();
    let first = buffer.bytes()[0].load(Ordering::Relaxed);
    assert_eq!(first, !pattern(1)[0]);
}

#[test]
fn buffers_go_through_a_map_and_keep_their_order() {
    let pool = guest_pool("probe").max_workers(2).build().unwrap();
    let items = (0..40).map(|number| buffer(BYTES + number));
    let results = pool.starmap::<SharedBuffer, _, _>("invert", items).chunk_size(3);
    for (number, result) in results.shared_instance().enumerate() {
        assert!(result.unwrap().to_vec() == inverted(BYTES + number), "{number}");
    }
}

#[test]
fn an_instance_that_lives_on_takes_one_buffer_after_another() {
    let pool = guest_pool("probe").instances(Instances::PerWorker).build().unwrap();
    for bytes in [BYTES, 2 * BYTES, BYTES, 5 * BYTES, 100] {
        let changed: SharedBuffer = pool.run("invert", buffer(bytes)).unwrap();
        assert!(changed.to_vec() == inverted(bytes), "{bytes}");
        let expected: u64 = pattern(bytes).iter().map(|byte| u64::from(*byte)).sum();
        let sum: u64 = pool.run("sum_bytes", Bytes(pattern(bytes))).unwrap();
        assert_eq!(sum, expected);
    }
}

#[test]
fn a_task_that_knows_of_no_buffers_reads_its_input_and_gives_its_result_as_ever() {
    let pool = guest_pool("probe").build().unwrap();
    let same: SharedBuffer = pool.run("same_bytes", buffer(BYTES)).unwrap();
    assert!(same.to_vec() == pattern(BYTES));
    let copied: Bytes = pool.run("same_bytes", buffer(BYTES)).unwrap();
    assert!(copied.0 == pattern(BYTES));
    let changed: Bytes = pool.run("invert", buffer(BYTES)).unwrap();
    assert!(changed.0 == inverted(BYTES), "a result in place can be had as a copy");
}

#[test]
fn a_buffer_comes_back_beside_any_other_result() {
    let pool = guest_pool("probe").build().unwrap();
    let handle = pool.submit::<u64>("sum_bytes", buffer(BYTES)).unwrap();
    let sum = handle.result().unwrap();
    assert_eq!(sum, pattern(BYTES).iter().map(|byte| u64::from(*byte)).sum::<u64>());
    assert!(handle.take_buffer().unwrap().to_vec() == pattern(BYTES));
    assert!(handle.take_buffer().is_none(), "it is taken once");
    let other = pool.submit::<u64>("sum_bytes", Bytes(pattern(5))).unwrap();
    other.wait(None);
    assert!(other.take_buffer().is_none(), "it was lent none");
}

#[test]
fn a_result_in_a_buffer_is_taken_once() {
    let pool = guest_pool("probe").build().unwrap();
    let handle = pool.submit::<SharedBuffer>("invert", buffer(BYTES)).unwrap();
    let other = handle.clone();
    assert!(handle.result().is_ok());
    assert!(matches!(other.result(), Err(TaskError::Decode(_))));
    assert!(other.take_buffer().is_none());
}

#[test]
fn a_result_of_another_length_leaves_the_buffer_to_be_taken() {
    let pool = guest_pool("probe").build().unwrap();
    let handle = pool.submit::<SharedBuffer>("sum_bytes", buffer(BYTES)).unwrap();
    assert!(matches!(handle.result(), Err(TaskError::Decode(_))));
    assert!(handle.take_buffer().unwrap().to_vec() == pattern(BYTES));
}

#[test]
fn a_buffer_comes_back_from_a_task_that_failed() {
    let pool = guest_pool("probe").build().unwrap();
    let refused = pool.submit::<SharedBuffer>("invert_once", buffer(BYTES)).unwrap();
    refused.result().unwrap();
    let mut set = buffer(BYTES);
    set.copy_from_slice(0, &[0x80]);
    let refused = pool.submit::<SharedBuffer>("invert_once", set).unwrap();
    assert!(matches!(refused.result(), Err(TaskError::Guest(_))));
    assert_eq!(refused.take_buffer().unwrap().to_vec()[1..], pattern(BYTES)[1..]);

    let pool = hard_ends();
    let trapped = pool.submit::<SharedBuffer>("trap", buffer(BYTES)).unwrap();
    assert!(matches!(trapped.result(), Err(TaskError::Trap { .. })));
    let left = trapped.take_buffer().unwrap().freeze().unwrap();
    assert_eq!((left[0], &left[1..]), (77, &pattern(BYTES)[1..]));

    let quick = pool.limits().clone().wall_time(Duration::from_millis(50));
    let options = TaskOptions::default().limits(quick);
    let late = pool.submit_with::<SharedBuffer>("spin", buffer(BYTES), options).unwrap();
    assert!(matches!(late.result(), Err(TaskError::Deadline { .. })));
    assert_eq!(late.take_buffer().unwrap().to_vec()[1..], pattern(BYTES)[1..]);
}

#[test]
fn a_buffer_comes_back_from_a_task_that_was_cancelled_before_it_started() {
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    let _running = gate.occupy(&pool);
    let waiting = pool.submit::<SharedBuffer>("echo", buffer(BYTES)).unwrap();
    assert!(waiting.take_buffer().is_none(), "it has not ended");
    assert!(waiting.cancel());
    assert!(waiting.take_buffer().unwrap().freeze().unwrap()[..] == pattern(BYTES)[..]);
    gate.open();
}

#[test]
fn a_task_that_gives_nothing_gives_nothing() {
    let pool = hard_ends();
    let silent = pool.submit::<SharedBuffer>("silent", buffer(BYTES)).unwrap();
    assert!(matches!(silent.result(), Err(TaskError::Decode(_))), "it named no result");
    assert_eq!(silent.take_buffer().unwrap().to_vec()[0], 77);
}

#[test]
fn a_buffer_that_a_worker_has_as_memory_is_not_frozen() {
    let pool = hard_ends();
    let spinning = pool.submit::<SharedBuffer>("spin", buffer(BYTES)).unwrap();
    eventually("it to be mapped", || spinning.progress().is_some());
    spinning.cancel_running();
    let mut buffer = loop {
        if let Some(buffer) = spinning.take_buffer() {
            break buffer;
        }
        spinning.wait(Duration::from_millis(10));
    };
    // Killed by now, or about to be: until then it is refused, and the buffer given back.
    let frozen = loop {
        match buffer.freeze() {
            Ok(frozen) => break frozen,
            Err(FreezeError::InUse(back)) => buffer = back,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(frozen[1..], pattern(BYTES)[1..]);
}

#[test]
fn a_buffer_beyond_the_guests_memory_fails_its_task_alone() {
    let limits = Limits::default().memory_bytes(4 << 20);
    let pool = guest_pool("probe").limits(limits).build().unwrap();
    let handle = pool.submit::<SharedBuffer>("invert", buffer(5 << 20)).unwrap();
    let error = handle.result().unwrap_err();
    assert!(!matches!(error, TaskError::WorkerLost(_)), "{error:?}");
    assert!(handle.take_buffer().unwrap().to_vec() == pattern(5 << 20));
    assert!(pool.run::<SharedBuffer>("invert", buffer(BYTES)).is_ok());
    assert_eq!(pool.workers()[0].id.0, 1);
}

#[test]
fn a_buffer_in_place_is_no_output_that_a_limit_counts() {
    let limits = Limits::default().output_bytes(1000);
    let pool = guest_pool("probe").limits(limits).build().unwrap();
    assert!(pool.run::<SharedBuffer>("invert", buffer(BYTES)).is_ok());
    let copied = pool.run::<Bytes>("same_bytes", buffer(BYTES));
    assert!(matches!(copied, Err(RunError::Task(TaskError::Output { .. }))), "{copied:?}");
}

#[test]
fn a_buffer_that_is_too_long_is_refused() {
    assert!(SharedBuffer::new((1 << 30) + 1).is_err());
    assert!(SharedBuffer::new(usize::MAX).is_err());
    assert_eq!(SharedBuffer::new(1 << 30).unwrap().len(), 1 << 30);
}

#[test]
fn long_inputs_and_results_pass_unchanged_whatever_their_length() {
    let limits = Limits::default().output_bytes(64 << 20);
    let pool = guest_pool("probe").limits(limits).build().unwrap();
    let lengths = [31_743, 31_744, 31_745, 65_535, 65_536, 65_537, 262_144, BYTES, 3 << 20];
    // One that is too long to be kept, and then again others.
    for bytes in lengths.into_iter().chain([40 << 20]).chain(lengths) {
        let sent = || Bytes(pattern(bytes));
        assert!(pool.run::<Bytes>("same_bytes", sent()).unwrap() == sent(), "{bytes}");
        assert!(pool.run::<Bytes>("invert", sent()).unwrap().0 == inverted(bytes), "{bytes}");
        let tuple: Bytes = pool.run("same_bytes", (sent(),)).unwrap();
        assert!(tuple == sent(), "{bytes} in bincode");
    }
    let handle = pool.submit::<Bytes>("invert", Bytes(pattern(BYTES))).unwrap();
    for _ in 0..2 {
        assert!(handle.result().unwrap().0 == inverted(BYTES), "it can be had again");
    }
    assert_eq!(pool.workers()[0].id.0, 1);
}

#[test]
fn many_long_inputs_may_be_on_their_way_at_once() {
    let pool = guest_pool("probe").max_workers(2).build().unwrap();
    let bytes = |number: usize| 40_000 + number * 9_000;
    let submit = |number| pool.submit::<Bytes>("invert", Bytes(pattern(bytes(number)))).unwrap();
    let handles: Vec<_> = (0..60).map(submit).collect();
    for (number, handle) in handles.iter().enumerate() {
        assert!(handle.result().unwrap().0 == inverted(bytes(number)), "{number}");
    }
}

#[test]
fn a_long_input_is_there_again_for_the_second_attempt() {
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    let mut input = int(0);
    input.0.resize(BYTES, 9);
    let options = TaskOptions::default().retries(1);
    let handle = pool.submit_with::<Vec<u8>>("wait", input, options).unwrap();
    until_running(&handle);
    gate.until_somebody_waits();
    kill(pool.workers()[0].pid);
    gate.open();
    assert_eq!(handle.result().unwrap(), 1_i32.to_le_bytes());
    assert_eq!(handle.report().attempt, 2);
}

//! Limits: each from both sides, what reaching one costs, and that it costs nobody else anything.

use std::time::Duration;

use stockade::{Bytes, Fault, Limits, Output, RunError, Status, TaskError};
use stockade_wire::EMIT_OVERHEAD_BYTES;

use stockade_tests::{Gate, int, numbers, tasks, until_running, wat};

const SHORT: Duration = Duration::from_millis(200);

fn limits() -> Limits {
    Limits::default()
}

#[track_caller]
fn failed<T: std::fmt::Debug>(result: Result<T, RunError>) -> TaskError {
    match result {
        Err(RunError::Task(error)) => error,
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[test]
fn a_task_at_its_deadline_is_killed_with_its_worker_and_another_takes_its_place() {
    let pool = tasks().limits(limits().wall_time(SHORT)).build().unwrap();
    for name in ["spin", "sleep", "progress_for_ever"] {
        let handle = pool.submit::<()>(name, int(0)).unwrap();
        let error = handle.result().unwrap_err();
        assert!(matches!(error, TaskError::Deadline { limit: SHORT, .. }), "{name}: {error:?}");
        assert_eq!((error.fault(), handle.status()), (Fault::Limit, Status::Failed));
        assert_eq!(pool.run::<Vec<u8>>("echo", Bytes(vec![7])).unwrap(), [7], "{name}");
    }
    assert!(pool.check().is_ok());
}

#[test]
fn a_deadline_costs_the_tasks_behind_it_nothing() {
    let pool = tasks().limits(limits().wall_time(SHORT)).build().unwrap();
    let slow = pool.submit::<()>("spin", int(0)).unwrap();
    let behind: Vec<_> =
        (0..200).map(|i| pool.submit::<Vec<u8>>("echo", int(i)).unwrap()).collect();
    assert!(matches!(slow.result(), Err(TaskError::Deadline { .. })));
    for (number, handle) in behind.iter().enumerate() {
        assert_eq!(handle.result().unwrap(), (number as i32).to_le_bytes());
    }
}

#[test]
fn an_interruptible_task_ends_at_its_deadline_with_a_backtrace_and_its_worker_lives() {
    let limits = limits().wall_time(SHORT).interruptible(true);
    let pool = numbers().limits(limits).build().unwrap();
    for _ in 0..2 {
        let error = failed(pool.run::<()>("spin", ()));
        let TaskError::Deadline { limit: SHORT, backtrace } = &error else { panic!("{error:?}") };
        assert_eq!(backtrace.len(), 1, "{backtrace:?}");
        assert_eq!(error.backtrace(), backtrace);
    }
    assert_eq!(pool.run::<i32>("add", (1, 2)).unwrap(), 3);
    assert_eq!(pool.workers()[0].id.0, 1, "the worker was replaced");
}

#[test]
fn an_interruptible_task_in_a_host_call_ends_at_its_deadline_too() {
    let limits = limits().wall_time(SHORT).interruptible(true);
    let pool = tasks().limits(limits).build().unwrap();
    for name in ["sleep", "emit_for_ever", "progress_for_ever"] {
        let error = failed(pool.run::<()>(name, int(0)));
        // What it emits has a limit of its own, which may come first.
        let ended = matches!(error, TaskError::Deadline { .. } | TaskError::Output { .. });
        assert!(ended, "{name}: {error:?}");
    }
    assert_eq!(pool.run::<Vec<u8>>("echo", Bytes(vec![7])).unwrap(), [7]);
}

#[test]
fn without_a_deadline_a_task_takes_the_time_it_takes() {
    let gate = Gate::new();
    let pool = tasks().limits(limits().wall_time(None)).grants(gate.grants()).build().unwrap();
    let handle = pool.submit::<Vec<u8>>("wait", int(0)).unwrap();
    until_running(&handle);
    gate.open();
    handle.result().unwrap();
}

#[test]
fn memory_grows_to_its_limit_and_not_beyond() {
    let pool = numbers().limits(limits().memory_bytes(10 << 16)).build().unwrap();
    assert_eq!(pool.run::<i32>("grow", (9,)).unwrap(), 1);
    assert_eq!(pool.run::<i32>("grow", (10,)).unwrap(), -1);
    assert_eq!(pool.run::<i32>("grow", (65_535,)).unwrap(), -1);
    let within = pool.submit::<()>("grow_or_trap", (9,)).unwrap();
    within.result().unwrap();
    assert_eq!(within.report().memory_peak_bytes, 10 << 16);
    let error = failed(pool.run::<()>("grow_or_trap", (10,)));
    let memory = TaskError::Memory { limit: 10 << 16, wanted: 11 << 16 };
    assert_eq!(format!("{error:?}"), format!("{memory:?}"));
    assert_eq!(pool.workers()[0].id.0, 1);
}

#[test]
fn a_guest_that_allocates_without_end_is_stopped_by_its_memory_limit() {
    let limits = limits().memory_bytes(16 << 20);
    let pool = stockade_tests::guest_pool("probe").limits(limits).build().unwrap();
    assert_eq!(pool.run::<usize>("allocate", (8usize << 20,)).unwrap(), 2048);
    for (name, error) in [
        ("a vector", failed(pool.run::<usize>("allocate", (64usize << 20,)))),
        ("for ever", failed(pool.run::<usize>("allocate_for_ever", ()))),
    ] {
        assert!(matches!(error, TaskError::Memory { .. }), "{name}: {error:?}");
        assert_eq!(error.fault(), Fault::Limit);
    }
    assert_eq!(pool.workers()[0].id.0, 1);
}

#[test]
fn the_largest_limits_allowed_can_be_reached() {
    let limits = limits().memory_bytes(4 << 30).table_elements(10_000_000);
    let pool = numbers().limits(limits.clone()).build().unwrap();
    assert_eq!(pool.run::<i32>("grow", (65_535,)).unwrap(), 1);
    assert_eq!(pool.run::<i32>("grow", (65_536,)).unwrap(), -1);
    let large = r#"(module
        (table 10000000 funcref)
        (func (export "last") (result i32)
            (ref.is_null (table.get (i32.const 9999999)))))"#;
    let pool = wat(large).limits(limits).build().unwrap();
    assert_eq!(pool.run::<i32>("last", ()).unwrap(), 1);
}

#[test]
fn a_wall_time_in_which_nothing_can_be_done_breaks_nothing() {
    let limits = limits().wall_time(Duration::from_nanos(1));
    let pool = numbers().limits(limits).build().unwrap();
    for _ in 0..5 {
        let error = failed(pool.run::<()>("spin", ()));
        assert!(matches!(error, TaskError::Deadline { .. }), "{error:?}");
    }
    assert!(pool.check().is_ok());
    assert!(pool.shutdown());
}

#[test]
fn tables_grow_to_their_limit_and_not_beyond() {
    let growing = r#"(module
        (table $table 2 funcref)
        (func (export "grow_table") (param i32) (result i32)
            (table.grow $table (ref.null func) (local.get 0))))"#;
    let pool = wat(growing).limits(limits().table_elements(100)).build().unwrap();
    assert_eq!(pool.run::<i32>("grow_table", (98,)).unwrap(), 2);
    assert_eq!(pool.run::<i32>("grow_table", (99,)).unwrap(), -1);
    assert_eq!(pool.run::<i32>("grow_table", (100_000_000,)).unwrap(), -1);
}

#[test]
fn fuel_is_counted_and_its_end_is_the_tasks() {
    let unlimited = numbers().limits(limits().fuel(u64::MAX)).build().unwrap();
    let handle = unlimited.submit::<()>("count_down", (1000_i64,)).unwrap();
    let fuel = handle.report().fuel.unwrap();
    assert!(fuel > 1000, "{fuel}");
    // The same task needs the same again. What is left is looked at once a turn of a loop, and a
    // turn of this one takes less than a hundred units.
    let enough = numbers().limits(limits().fuel(fuel)).build().unwrap();
    enough.run::<()>("count_down", (1000_i64,)).unwrap();
    let limit = fuel - 100;
    let scarce = numbers().limits(limits().fuel(limit)).build().unwrap();
    let error = failed(scarce.run::<()>("count_down", (1000_i64,)));
    assert!(matches!(error, TaskError::Fuel { limit: told } if told == limit), "{error:?}");
    assert_eq!(error.fault(), Fault::Limit);
    assert!(matches!(failed(scarce.run::<()>("spin", ())), TaskError::Fuel { .. }));
    scarce.run::<()>("count_down", (10_i64,)).unwrap();
    assert_eq!(scarce.workers()[0].id.0, 1);
    let unmetered = numbers().build().unwrap().submit::<()>("nothing", ()).unwrap().report();
    assert_eq!(unmetered.fuel, None);
}

#[test]
fn the_largest_result_allowed_arrives() {
    let limits = limits().output_bytes(128 << 20).stdio_bytes(16 << 20);
    let pool = tasks().limits(limits).build().unwrap();
    let handle = pool.submit::<Vec<u8>>("write_at_once", int(128 << 20)).unwrap();
    let Output::Encoded { bytes, .. } = handle.output().unwrap() else { panic!("no bytes") };
    assert_eq!(bytes.len(), 128 << 20);
}

#[test]
fn emitted_items_share_the_limit_of_the_result() {
    const LIMIT: u64 = 10 * (1 + EMIT_OVERHEAD_BYTES);
    let pool = tasks().limits(limits().output_bytes(LIMIT)).build().unwrap();
    let handle = pool.submit::<Vec<u8>>("emit_bytes", int(10)).unwrap();
    handle.result().unwrap();
    assert_eq!(handle.emitted::<Vec<u8>>().count(), 10);
    let handle = pool.submit::<Vec<u8>>("emit_bytes", int(11)).unwrap();
    assert!(matches!(handle.result(), Err(TaskError::Output { limit: LIMIT })));
    assert_eq!(handle.emitted::<Vec<u8>>().count(), 10);
}

#[test]
fn a_log_is_kept_to_its_limit_whatever_is_in_it() {
    let pool = tasks().limits(limits().stdio_bytes(1000)).build().unwrap();
    let report = pool.submit::<Vec<u8>>("log_lines", int(100_000)).unwrap().report();
    assert_eq!(report.status, Status::Completed);
    let bytes: usize = report.log.iter().map(|line| line.message.len()).sum();
    assert!(!report.log.is_empty() && bytes <= 1000, "{bytes}");
    assert_eq!(report.log.len() as u64 + report.log_dropped, 100_000);
    let nothing = tasks().limits(limits().stdio_bytes(0)).build().unwrap();
    let report = nothing.submit::<Vec<u8>>("log_lines", int(1)).unwrap().report();
    assert_eq!((report.log.len(), report.log_dropped), (0, 1));
}

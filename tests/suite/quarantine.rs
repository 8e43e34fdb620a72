//! Quarantine: a module whose tasks kill worker after worker is no longer run, and no other suffers.

use std::sync::Arc;
use std::time::Duration;

use stockade::{
    BuildError, Limits, Pool, PoolBuilder, Quarantine, RunError, SubmitError, TaskError,
    TaskOptions,
};
use stockade_tests::{Gate, eventually, int, is_gone, kill, numbers, until_running, wat_file};

const OTHER: &str = r#"(module
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"#;

/// A pool over the tasks and another module.
pub(crate) fn two_modules(gate: &Gate) -> PoolBuilder {
    gate.tasks().module_as("other", wat_file(OTHER)).quarantine_after(3)
}

/// Starts a task of the first module and kills its worker, so often.
pub(crate) fn kill_workers(pool: &Pool, times: u32) {
    for _ in 0..times {
        let handle = pool.submit::<()>(("test", "spin"), int(0)).unwrap();
        until_running(&handle);
        let pid = pool.workers()[0].pid;
        kill(pid);
        assert!(matches!(handle.result(), Err(TaskError::WorkerLost(_))), "{handle:?}");
        assert!(is_gone(pid));
    }
}

pub(crate) fn refusal(pool: &Pool) -> Option<Arc<Quarantine>> {
    match pool.submit::<Vec<u8>>(("test", "echo"), int(1)) {
        Err(SubmitError::Quarantined(quarantine)) => Some(quarantine),
        Err(other) => panic!("{other:?}"),
        Ok(_) => None,
    }
}

#[test]
fn fewer_deaths_than_allowed_quarantine_nothing() {
    let gate = Gate::new();
    let pool = two_modules(&gate).build().unwrap();
    kill_workers(&pool, 2);
    assert!(refusal(&pool).is_none());
    pool.run::<Vec<u8>>(("test", "echo"), int(1)).unwrap();
}

#[test]
fn a_task_that_finishes_in_between_begins_the_count_anew() {
    let gate = Gate::new();
    let pool = two_modules(&gate).build().unwrap();
    for _ in 0..3 {
        kill_workers(&pool, 2);
        pool.run::<Vec<u8>>(("test", "echo"), int(1)).unwrap();
    }
    // Those of another module do not.
    kill_workers(&pool, 2);
    pool.run::<i32>(("other", "add"), (1, 2)).unwrap();
    kill_workers(&pool, 1);
    assert!(refusal(&pool).is_some());
}

#[test]
fn deadlines_and_cancels_are_held_against_nobody() {
    let gate = Gate::new();
    let limits = Limits::default().wall_time(Duration::from_millis(100));
    let pool = two_modules(&gate).limits(limits).quarantine_after(1).build().unwrap();
    for _ in 0..3 {
        let expired = pool.run::<()>(("test", "spin"), int(0));
        assert!(matches!(expired, Err(RunError::Task(TaskError::Deadline { .. }))));
    }
    let pool = two_modules(&gate).quarantine_after(1).build().unwrap();
    for _ in 0..3 {
        let stopped = pool.submit::<()>(("test", "spin"), int(0)).unwrap();
        until_running(&stopped);
        stopped.cancel_running();
        assert!(matches!(stopped.result(), Err(TaskError::Cancelled(_))));
    }
    assert!(refusal(&pool).is_none());
}

#[test]
fn a_task_that_is_tried_again_cannot_outlive_its_modules_quarantine() {
    let gate = Gate::new();
    let pool = two_modules(&gate).build().unwrap();
    let options = TaskOptions::default().retries(100);
    let handle = pool.submit_with::<()>(("test", "try"), int(0), options).unwrap();
    for starts in 1..=3 {
        eventually("the task to start", || gate.traces().len() == starts);
        kill(pool.workers()[0].pid);
    }
    assert!(matches!(handle.result(), Err(TaskError::WorkerLost(_))), "{handle:?}");
    assert_eq!(handle.report().attempt, 3);
    assert!(refusal(&pool).is_some());
}

#[test]
fn who_allows_any_number_of_deaths_gets_no_quarantine() {
    let gate = Gate::new();
    let pool = two_modules(&gate).quarantine_after(None).build().unwrap();
    kill_workers(&pool, 5);
    pool.run::<Vec<u8>>(("test", "echo"), int(1)).unwrap();
    let error = numbers().quarantine_after(0).build().unwrap_err();
    assert!(matches!(error, BuildError::Setting { setting: "quarantine_after", .. }), "{error:?}");
}

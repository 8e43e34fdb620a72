//! What asyncpal's test_future.py asserts of its futures, of our handles: the same numbers, and where
//! our contract differs, ours.
//!
//! A task of theirs that sleeps is one of ours that waits at a gate, so nothing here depends on time.

mod callbacks;
mod filter;
mod gathering;
mod properties;
mod resolving;
mod waiting;

use stockade::{Pool, TaskError, TaskHandle};
use stockade_tests::{Gate, int, numbers, tasks};

/// A pool of one worker that is busy until the gate opens.
fn occupied() -> (Gate, Pool, TaskHandle<Vec<u8>>) {
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    let running = gate.occupy(&pool);
    (gate, pool, running)
}

/// Submits a sum of two numbers.
fn add(pool: &Pool, first: i32, second: i32) -> TaskHandle<i32> {
    pool.submit("add", (first, second)).unwrap()
}

/// Submits a task that gives its number back.
fn echo(pool: &Pool, number: i32) -> TaskHandle<Vec<u8>> {
    pool.submit("echo", int(number)).unwrap()
}

/// What `echo` gives.
fn bytes(number: i32) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

/// A pool over numbers whose initializer traps.
fn broken_by_initializer() -> Pool {
    numbers().initializer("unreachable", ()).build().unwrap()
}

/// A pool over tasks whose finalizer traps.
fn broken_by_finalizer() -> Pool {
    tasks().finalizer("trap", int(0)).build().unwrap()
}

#[track_caller]
fn assert_broken<T: std::fmt::Debug>(result: Result<T, TaskError>) {
    assert!(matches!(result, Err(TaskError::Broken(_))), "{result:?}");
}

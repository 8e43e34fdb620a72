//! `wait` and `cancel` of one handle.

use std::time::Duration;

use stockade::{CancelReason, TaskError};
use stockade_tests::{PATIENCE, eventually, numbers};

use super::{add, broken_by_finalizer, broken_by_initializer, bytes, echo, occupied};

#[test]
fn f08_wait_without_a_timeout() {
    let pool = numbers().build().unwrap();
    let handle = add(&pool, 1, 2);
    assert!(handle.wait(None));
    assert!(handle.is_done());
}

#[test]
fn f09_wait_for_a_task_of_a_pool_that_has_ended() {
    let pool = numbers().build().unwrap();
    let handle = add(&pool, 1, 2);
    assert!(pool.drain());
    assert!(handle.wait(None) && handle.wait(Duration::ZERO));
}

#[test]
fn f10_wait_in_a_pool_that_its_initializer_breaks() {
    let pool = broken_by_initializer();
    let handle = add(&pool, 1, 2);
    assert!(handle.wait(None), "cancelled is done");
    assert!(handle.is_cancelled());
}

#[test]
fn f11_wait_in_a_pool_that_its_finalizer_breaks() {
    let pool = broken_by_finalizer();
    let handle = echo(&pool, 3);
    assert!(handle.wait(None));
    pool.join(None).unwrap();
    assert!(pool.is_broken() && handle.wait(None) && handle.is_completed());
}

#[test]
fn f12_wait_with_a_timeout_that_is_kept() {
    let pool = numbers().build().unwrap();
    assert!(add(&pool, 1, 2).wait(PATIENCE));
}

#[test]
fn f13_wait_with_a_timeout_that_passes() {
    let (gate, pool, running) = occupied();
    let pending = echo(&pool, 2);
    for timeout in [Duration::ZERO, Duration::from_millis(1)] {
        assert!(!running.wait(timeout) && !pending.wait(timeout));
    }
    gate.open();
    assert!(running.wait(None) && pending.wait(None));
}

#[test]
fn f14_wait_for_a_task_that_fails() {
    let pool = numbers().build().unwrap();
    let handle = pool.submit::<i32>("divide", (1, 0)).unwrap();
    assert!(handle.wait(None));
    assert!(handle.is_failed());
}

#[test]
fn f15_cancel_before_a_shutdown() {
    let (gate, pool, running) = occupied();
    let pending = echo(&pool, 2);
    assert!(!running.cancel());
    assert!(pending.cancel());
    assert!(pending.is_cancelled(), "at once");
    let ender = pool.clone();
    let ending = std::thread::spawn(move || ender.shutdown());
    eventually("a pool that ends", || pool.is_closed());
    gate.open();
    assert!(ending.join().unwrap());
    assert!(!running.is_cancelled() && running.is_completed());
    assert_eq!(running.result().unwrap(), bytes(1));
    assert!(matches!(pending.result(), Err(TaskError::Cancelled(CancelReason::Asked))));
}

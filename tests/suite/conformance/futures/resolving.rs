//! `result` and `result_timeout`, which are upstream's `collect`.

use std::time::Duration;

use stockade::{BrokenError, TaskError};
use stockade_tests::{PATIENCE, numbers};

use super::{
    add, assert_broken, broken_by_finalizer, broken_by_initializer, bytes, echo, occupied,
};

#[test]
fn f01_collect_inside_the_pools_life() {
    let pool = numbers().build().unwrap();
    assert_eq!(add(&pool, 1, 2).result().unwrap(), 3);
}

#[test]
fn f02_collect_after_the_shutdown() {
    let pool = numbers().build().unwrap();
    let handle = add(&pool, 1, 2);
    // Upstream hopes that it has started by then.
    assert!(pool.drain());
    assert_eq!(handle.result().unwrap(), 3);
}

#[test]
fn f03_collect_from_a_pool_whose_initializer_fails() {
    let pool = broken_by_initializer();
    let handle = add(&pool, 1, 2);
    let Err(TaskError::Broken(cause)) = handle.result() else { panic!("{handle:?}") };
    assert!(matches!(&*cause, BrokenError::Initializer(TaskError::Trap { .. })), "{cause:?}");
    assert!(handle.is_cancelled());
}

#[test]
fn f04_collect_from_a_pool_whose_finalizer_fails() {
    let pool = broken_by_finalizer();
    let handle = echo(&pool, 3);
    assert!(pool.drain());
    assert!(pool.is_broken());
    assert_eq!(handle.result().unwrap(), bytes(3));
}

#[test]
fn f05_collect_with_a_timeout_that_is_kept() {
    let pool = numbers().build().unwrap();
    assert_eq!(add(&pool, 1, 2).result_timeout(PATIENCE).unwrap().unwrap(), 3);
}

#[test]
fn f06_collect_with_a_timeout_that_passes() {
    let (gate, _pool, running) = occupied();
    assert!(running.result_timeout(Duration::ZERO).is_none());
    assert!(running.result_timeout(Duration::from_millis(1)).is_none());
    assert!(running.is_running(), "it goes on");
    gate.open();
    assert_eq!(running.result().unwrap(), bytes(1));
}

#[test]
fn f07_collect_from_a_pool_that_its_initializer_has_broken() {
    let pool = broken_by_initializer();
    assert_broken(add(&pool, 1, 2).result());
    // Upstream takes the task and cancels it; here it is not taken.
    assert!(pool.submit::<i32>("add", (1, 2)).is_err());
    let racing = broken_by_initializer();
    let handles: Vec<_> = (0..10).map(|number| add(&racing, number, 1)).collect();
    handles.iter().for_each(|handle| assert_broken(handle.result_timeout(PATIENCE).unwrap()));
}

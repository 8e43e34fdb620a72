//! `Pool::check` in every state of a pool.

use stockade::{SubmitError, TaskError};

use super::{
    assert_broken_by_finalizer, assert_broken_by_initializer, functions, with_failing_finalizer,
    with_failing_initializer,
};

#[test]
fn check_before_shutdown() {
    let pool = functions().build().unwrap();
    pool.check().unwrap();
    pool.run::<i32>("add", (1, 2)).unwrap();
    pool.check().unwrap();
}

#[test]
fn check_after_shutdown() {
    let pool = functions().build().unwrap();
    pool.shutdown();
    assert!(matches!(pool.check(), Err(SubmitError::Closed)));
}

#[test]
fn check_before_shutdown_with_pool_broken_by_initializer() {
    let pool = with_failing_initializer();
    let handle = pool.submit::<i32>("add", (1, 2)).unwrap();
    assert!(matches!(handle.result(), Err(TaskError::Broken(_))));
    assert!(handle.is_cancelled());
    assert_broken_by_initializer(&pool.check().unwrap_err());
}

#[test]
fn check_after_shutdown_with_pool_broken_by_initializer() {
    let pool = with_failing_initializer();
    let handle = pool.submit::<i32>("add", (1, 2)).unwrap();
    assert!(matches!(handle.result(), Err(TaskError::Broken(_))));
    assert!(pool.shutdown());
    assert!(matches!(pool.check(), Err(SubmitError::Closed)));
}

#[test]
fn check_before_shutdown_with_pool_broken_by_finalizer() {
    let pool = with_failing_finalizer();
    pool.spawn_workers(1).unwrap();
    pool.check().unwrap();
    pool.join(None).unwrap();
    assert_broken_by_finalizer(&pool.check().unwrap_err());
}

#[test]
fn check_after_shutdown_with_pool_broken_by_finalizer() {
    let pool = with_failing_finalizer();
    pool.spawn_workers(1).unwrap();
    pool.join(None).unwrap();
    assert!(pool.shutdown());
    assert!(matches!(pool.check(), Err(SubmitError::Closed)));
    assert_broken_by_finalizer(&SubmitError::Broken(pool.broken().expect("a cause that stays")));
}

//! Pools that a hook broke, before and after their shutdown.

use std::time::Duration;

use stockade::{BuildError, SubmitError};
use stockade_tests::{eventually, guest_pool};

use super::{
    assert_broken_by_finalizer, assert_broken_by_initializer, functions, with_failing_finalizer,
    with_failing_initializer,
};

#[test]
fn before_shutdown_with_pool_broken_by_initializer() {
    let pool = with_failing_initializer();
    assert!(!pool.is_broken(), "nothing has run yet");
    assert_broken_by_initializer(&pool.spawn_workers(1).unwrap_err());
    pool.join(None).unwrap();
    assert_broken_by_initializer(&pool.check().unwrap_err());
    assert!(pool.is_broken());
}

#[test]
fn after_shutdown_with_pool_broken_by_initializer() {
    let pool = with_failing_initializer();
    assert_broken_by_initializer(&pool.spawn_workers(1).unwrap_err());
    assert!(pool.shutdown());
    assert!(matches!(pool.check(), Err(SubmitError::Closed)));
    assert!(pool.is_broken());
}

#[test]
fn before_shutdown_with_pool_broken_by_finalizer() {
    let builder = functions().finalizer("divide_by_zero", ()).idle_timeout(Duration::ZERO);
    let pool = builder.build().unwrap();
    // Nobody asks the worker to close but its idleness, which may come before this is answered.
    match pool.spawn_workers(1) {
        Ok(spawned) => assert_eq!(spawned, 1),
        Err(error) => assert_broken_by_finalizer(&error),
    }
    eventually("the finalizer to fail", || pool.is_broken());
    assert_broken_by_finalizer(&pool.check().unwrap_err());
}

#[test]
fn after_shutdown_with_pool_broken_by_finalizer() {
    let pool = with_failing_finalizer();
    assert_eq!(pool.spawn_workers(1).unwrap(), 1);
    pool.join(None).unwrap();
    assert_broken_by_finalizer(&pool.check().unwrap_err());
    assert!(pool.shutdown());
    assert!(matches!(pool.check(), Err(SubmitError::Closed)));
    assert!(pool.is_broken());
}

#[test]
fn with_pool_broken_by_initializer_missing_args_error() {
    // Known before there is a pool, because the function's signature is.
    let error = guest_pool("probe").initializer("remember", ()).build().unwrap_err();
    let BuildError::Hook { role, source } = error else { panic!("{error:?}") };
    assert_eq!(role, "initializer");
    assert!(matches!(source, SubmitError::Signature { .. }), "{source:?}");
}

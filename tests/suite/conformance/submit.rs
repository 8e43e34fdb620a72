//! Submitting a task, to a pool in every state.

use stockade::{SubmitError, TaskError};

use super::{assert_broken_by_initializer, functions, with_failing_initializer};

#[test]
fn submit_to_pool() {
    let pool = functions().build().unwrap();
    assert_eq!(pool.submit::<i32>("add", (1, 2)).unwrap().result().unwrap(), 3);
}

#[test]
fn submit_to_broken_pool() {
    let pool = with_failing_initializer();
    let accepted = pool.submit::<i32>("add", (1, 2)).unwrap();
    let error = accepted.result().unwrap_err();
    let TaskError::Broken(cause) = error else { panic!("{error:?}") };
    assert_broken_by_initializer(&SubmitError::Broken(cause));
    assert!(accepted.is_cancelled());
    assert_broken_by_initializer(&pool.submit::<i32>("add", (1, 2)).unwrap_err());
}

#[test]
fn submit_to_closed_pool() {
    let pool = functions().build().unwrap();
    pool.shutdown();
    let refused = pool.submit::<i32>("add", (1, 2));
    assert!(matches!(refused, Err(SubmitError::Closed)), "{refused:?}");
}

#[test]
fn submit_to_broken_and_closed_pool() {
    let pool = with_failing_initializer();
    pool.submit::<i32>("add", (1, 2)).unwrap().result().unwrap_err();
    assert!(pool.is_broken());
    pool.shutdown();
    let refused = pool.submit::<i32>("add", (1, 2));
    assert!(matches!(refused, Err(SubmitError::Closed)), "{refused:?}");
}

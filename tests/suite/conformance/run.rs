//! Running a task and waiting for it, on a pool in every state.

use stockade::{RunError, SubmitError, TaskError};

use super::{assert_broken_by_initializer, functions, with_failing_initializer};

#[test]
fn submit_to_pool() {
    let pool = functions().build().unwrap();
    assert_eq!(pool.run::<i32>("add", (1, 2)).unwrap(), 3);
}

#[test]
fn submit_to_broken_pool() {
    let pool = with_failing_initializer();
    // The first is accepted, as nobody knows yet; every later one is refused.
    let first = pool.run::<i32>("add", (1, 2)).unwrap_err();
    let RunError::Task(TaskError::Broken(cause)) = first else { panic!("{first:?}") };
    assert_broken_by_initializer(&SubmitError::Broken(cause));
    let second = pool.run::<i32>("add", (1, 2)).unwrap_err();
    let RunError::Submit(refusal) = second else { panic!("{second:?}") };
    assert_broken_by_initializer(&refusal);
}

#[test]
fn submit_to_closed_pool() {
    let pool = functions().build().unwrap();
    pool.shutdown();
    let refused = pool.run::<i32>("add", (1, 2));
    assert!(matches!(refused, Err(RunError::Submit(SubmitError::Closed))), "{refused:?}");
}

#[test]
fn submit_to_broken_and_closed_pool() {
    let pool = with_failing_initializer();
    pool.run::<i32>("add", (1, 2)).unwrap_err();
    assert!(pool.is_broken());
    pool.shutdown();
    let refused = pool.run::<i32>("add", (1, 2));
    assert!(matches!(refused, Err(RunError::Submit(SubmitError::Closed))), "{refused:?}");
}

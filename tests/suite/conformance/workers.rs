//! A pool's test of itself: healthy, closed and broken.

use std::error::Error;

use stockade::{SubmitError, TestPath};

use super::{assert_broken_by_initializer, functions, with_failing_initializer};

/// Why the test could not even begin.
#[track_caller]
fn refusal(error: stockade::TestError) -> SubmitError {
    assert_eq!(error.path, TestPath::Check);
    let source = error.source().expect("a reason");
    source.downcast_ref::<SubmitError>().expect("what check() says").clone()
}

#[test]
fn worker() {
    let pool = functions().build().unwrap();
    pool.test().unwrap();
    // The pool itself was not touched.
    assert_eq!(pool.count_workers(), 0);
    assert_eq!(pool.submit::<i32>("add", (1, 2)).unwrap().task_id().0, 1);
}

#[test]
fn worker_after_shutdown() {
    let pool = functions().build().unwrap();
    pool.shutdown();
    assert!(matches!(refusal(pool.test().unwrap_err()), SubmitError::Closed));
}

#[test]
fn worker_with_broken_pool() {
    let pool = with_failing_initializer();
    assert_broken_by_initializer(&pool.spawn_workers(1).unwrap_err());
    pool.join(None).unwrap();
    assert_broken_by_initializer(&refusal(pool.test().unwrap_err()));
    assert_broken_by_initializer(&pool.check().unwrap_err());
}

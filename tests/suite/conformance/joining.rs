//! Waiting until a pool is empty.

use std::time::Duration;

use stockade_tests::PATIENCE;

use super::{Gates, SHORT, functions};

#[test]
fn join() {
    // Nobody waits for the idle worker's own end.
    let pool = functions().idle_timeout(None).build().unwrap();
    pool.spawn_workers(1).unwrap();
    pool.join(PATIENCE).unwrap();
    assert_eq!(pool.count_workers(), 0);
}

#[test]
fn join_with_unexpired_timeout() {
    let pool = functions().build().unwrap();
    let first = pool.submit::<i32>("add", (1, 2)).unwrap();
    let second = pool.submit::<i32>("add", (3, 4)).unwrap();
    pool.join(PATIENCE).unwrap();
    // Both have ended: nothing is left to wait for.
    assert_eq!(first.result_timeout(Duration::ZERO).unwrap().unwrap(), 3);
    assert_eq!(second.result_timeout(Duration::ZERO).unwrap().unwrap(), 7);
    assert_eq!((pool.count_workers(), pool.count_pending_tasks()), (0, 0));
    assert_eq!(pool.run::<i32>("add", (5, 6)).unwrap(), 11, "the pool is as before");
}

#[test]
fn join_with_expired_timeout() {
    let gates = Gates::new();
    let pool = gates.pool(1).build().unwrap();
    let first = pool.submit::<i32>("add_at_gate", (1, 2)).unwrap();
    let second = pool.submit::<i32>("add_at_gate", (3, 4)).unwrap();
    for timeout in [Duration::ZERO, SHORT] {
        assert_eq!(pool.join(timeout).unwrap_err().0, timeout);
    }
    assert!(first.result_timeout(Duration::ZERO).is_none());
    assert!(second.result_timeout(Duration::ZERO).is_none());
    // Both go on as if nobody had waited.
    gates.open_all();
    assert_eq!((first.result().unwrap(), second.result().unwrap()), (3, 7));
}

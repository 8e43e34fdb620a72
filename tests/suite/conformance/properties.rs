//! Whether a pool is closed, terminated, broken.

use stockade::TaskError;
use stockade_tests::eventually;

use super::{Gates, with_failing_initializer};

#[test]
fn closed_property() {
    let gates = Gates::new();
    let pool = gates.pool(1).build().unwrap();
    let running = pool.submit::<i32>("square_at_gate", (1,)).unwrap();
    gates.until_somebody_waits_at(1);
    assert!(!pool.is_closed());
    std::thread::scope(|scope| {
        let _at_end = gates.open_at_end();
        let ending = scope.spawn(|| pool.shutdown());
        // From the beginning of its end, while a task still runs.
        eventually("the pool to be closed", || pool.is_closed());
        assert!(running.is_running());
        gates.open(1);
        assert!(ending.join().unwrap());
    });
    assert!(pool.is_closed());
    assert_eq!(running.result().unwrap(), 1);
}

#[test]
fn terminated_property() {
    let gates = Gates::new();
    let pool = gates.pool(1).build().unwrap();
    pool.submit::<i32>("square_at_gate", (1,)).unwrap();
    gates.until_somebody_waits_at(1);
    assert!(!pool.is_terminated());
    std::thread::scope(|scope| {
        let _at_end = gates.open_at_end();
        let ending = scope.spawn(|| pool.shutdown());
        eventually("the pool to be closed", || pool.is_closed());
        // Not before the task and the worker have ended.
        assert!(!pool.is_terminated());
        gates.open(1);
        assert!(ending.join().unwrap());
    });
    assert!(pool.is_terminated() && pool.workers().is_empty());
}

#[test]
fn broken_property() {
    let pool = with_failing_initializer();
    assert!(!pool.is_broken() && pool.broken().is_none());
    let handle = pool.submit::<i32>("add", (1, 2)).unwrap();
    assert!(matches!(handle.result(), Err(TaskError::Broken(_))));
    assert!(pool.is_broken());
    pool.shutdown();
    assert!(pool.is_broken() && pool.broken().is_some());
}

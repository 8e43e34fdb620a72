//! Counters: workers, busy workers, pending and cancelled tasks.

use std::time::Duration;

use stockade::{GivenArguments, Scalar, Status};
use stockade_tests::eventually;

use super::{Gates, functions};

#[test]
fn spawn_workers() {
    let pool = functions().build().unwrap();
    assert_eq!(pool.count_workers(), 0);
    assert_eq!(pool.spawn_workers(3).unwrap(), 3);
    assert_eq!((pool.count_workers(), pool.workers().len()), (3, 3));
    // Without a number: as many as tasks wait for, which is none; and never beyond the maximum.
    assert_eq!(pool.spawn_workers(None).unwrap(), 0);
    assert_eq!(pool.spawn_workers(3).unwrap(), 1);
    assert_eq!(pool.count_workers(), 4);
}

#[test]
fn spawn_max_workers() {
    let pool = functions().build().unwrap();
    assert_eq!(pool.count_workers(), 0);
    assert_eq!(pool.spawn_max_workers().unwrap(), 4);
    assert_eq!(pool.count_workers(), 4);
    pool.shutdown();
    assert_eq!(pool.count_workers(), 0);
}

#[test]
fn count_workers() {
    let pool = functions().build().unwrap();
    assert_eq!(pool.count_workers(), 0);
    pool.spawn_workers(1).unwrap();
    assert_eq!(pool.count_workers(), 1);
    pool.join(None).unwrap();
    assert_eq!(pool.count_workers(), 0);
    pool.check().unwrap();
}

#[test]
fn count_busy_workers() {
    let gates = Gates::new();
    let pool = gates.pool(4).build().unwrap();
    assert_eq!(pool.count_busy_workers(), 0);
    let handle = pool.submit::<i32>("add_at_gate", (1, 2)).unwrap();
    gates.until_somebody_waits_at(1);
    eventually("a busy worker", || pool.count_busy_workers() == 1);
    assert_eq!(pool.count_workers(), 1);
    // A join waits for the task.
    pool.join(Duration::ZERO).unwrap_err();
    assert_eq!((pool.count_busy_workers(), handle.status()), (1, Status::Running));
    gates.open(1);
    pool.join(None).unwrap();
    assert_eq!(handle.result_timeout(Duration::ZERO).unwrap().unwrap(), 3);
    assert_eq!((pool.count_busy_workers(), pool.count_workers()), (0, 0));
}

#[test]
fn count_pending_tasks() {
    let gates = Gates::new();
    let pool = gates.pool(1).build().unwrap();
    assert_eq!(pool.count_pending_tasks(), 0);
    let running = pool.submit::<i32>("square_at_gate", (0,)).unwrap();
    gates.until_somebody_waits_at(0);
    // What runs is not pending.
    eventually("no pending task", || pool.count_pending_tasks() == 0);
    let pending: Vec<_> = (1..4).map(|i| pool.submit::<i32>("square", (i,)).unwrap()).collect();
    eventually("three pending tasks", || pool.count_pending_tasks() == 3);
    assert!(pending.iter().all(|handle| handle.is_pending()) && running.is_running());
    gates.open(0);
    assert!(stockade::wait(&pending, None));
    eventually("no pending task", || pool.count_pending_tasks() == 0);
}

#[test]
fn cancelled_tasks() {
    let gates = Gates::new();
    let pool = gates.pool(1).build().unwrap();
    assert!(pool.cancelled_tasks().is_empty());
    let running = pool.submit::<i32>("square_at_gate", (0,)).unwrap();
    gates.until_somebody_waits_at(0);
    let pending: Vec<_> = (1..4).map(|i| pool.submit::<i32>("square", (i,)).unwrap()).collect();
    assert!(pending[1].cancel(), "its owner's own cancel is no business of the list");
    std::thread::scope(|scope| {
        let _at_end = gates.open_at_end();
        let ending = scope.spawn(|| pool.shutdown());
        assert!(stockade::wait(&pending, None));
        gates.open(0);
        assert!(ending.join().unwrap());
    });
    assert_eq!(running.result().unwrap(), 0);
    let cancelled = pool.cancelled_tasks();
    let ids: Vec<_> = cancelled.iter().map(|task| task.id.0).collect();
    assert_eq!(ids, [2, 4], "in the order of their submission");
    for (task, number) in cancelled.iter().zip([1_u32, 3]) {
        assert_eq!(task.target, "square");
        assert_eq!(task.arguments, GivenArguments::Scalars(vec![Scalar::I32(number as i32)]));
    }
}

#[test]
fn max_tasks_per_worker() {
    let pool = functions().max_tasks_per_worker(3).idle_timeout(None).build().unwrap();
    for number in 0..3 {
        assert_eq!(pool.run::<i32>("square", (number,)).unwrap(), number * number);
    }
    // One after the other, so one worker did them all; nothing is to be done, so none replaces it.
    eventually("no worker", || pool.count_workers() == 0);
    let fourth = pool.submit::<i32>("square", (4,)).unwrap();
    assert_eq!(fourth.report().worker.unwrap().0, 2);
}

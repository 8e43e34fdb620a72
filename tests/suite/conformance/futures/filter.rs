//! `TaskFilter`, upstream's `FutureFilter`.

use std::time::Duration;

use stockade::{Status, TaskFilter, TaskHandle, WaitTimeout};
use stockade_tests::{Gate, PATIENCE, numbers, two_ints};

use super::{add, echo, occupied};

const SHORT: Duration = Duration::from_millis(10);

fn id(handle: &TaskHandle<Vec<u8>>) -> u64 {
    handle.task_id().0
}

#[test]
fn f47_put_takes_tasks_at_any_time() {
    let (gate, pool, running) = occupied();
    let mut filter = TaskFilter::new();
    assert!(filter.is_empty());
    filter.put(running);
    filter.put(echo(&pool, 2));
    assert_eq!(filter.len(), 2);
    gate.open();
    assert_eq!(id(&filter.get().unwrap()), 1);
    filter.put(echo(&pool, 3));
    assert_eq!([id(&filter.get().unwrap()), id(&filter.get().unwrap())], [2, 3]);
    assert!(filter.is_empty());
    // One that has ended long ago comes out as well.
    let ended = echo(&pool, 4);
    ended.wait(None);
    filter.put(ended);
    assert_eq!(filter.get().unwrap().status(), Status::Completed);
}

#[test]
fn f48_populate_gives_the_order_of_completion() {
    let gate = Gate::new();
    let pool = gate.tasks().max_workers(2).build().unwrap();
    let slow = gate.occupy(&pool);
    let quick = (0..3).map(|number| pool.submit("square", two_ints(number, -1)).unwrap());
    let mut filter = TaskFilter::default();
    filter.populate([slow].into_iter().chain(quick));
    let order: Vec<_> = (0..3).map(|_| id(&filter.get().unwrap())).collect();
    assert_eq!(order, [2, 3, 4]);
    assert_eq!(filter.len(), 1);
    gate.open();
    assert_eq!(id(&filter.get().unwrap()), 1);
}

#[test]
fn f49_get_blocks_for_the_next_and_is_none_when_empty() {
    let (gate, _pool, running) = occupied();
    let mut filter = TaskFilter::new();
    assert!(filter.get().is_none());
    filter.put(running);
    let getting = std::thread::spawn(move || {
        let next = filter.get();
        (next, filter.get())
    });
    assert!(!getting.is_finished());
    gate.open();
    let (next, nothing) = getting.join().unwrap();
    assert!(next.unwrap().is_completed() && nothing.is_none());
}

#[test]
fn f50_try_get_never_blocks() {
    let (gate, _pool, running) = occupied();
    let mut filter = TaskFilter::new();
    assert!(filter.try_get().is_none(), "empty");
    filter.put(running.clone());
    assert!(filter.try_get().is_none(), "nothing is done");
    assert_eq!(filter.len(), 1);
    gate.open();
    running.wait(None);
    // Who waits for a task may be awake a moment before its followers are told.
    stockade_tests::eventually("the task", || filter.try_get().is_some());
    assert!(filter.try_get().is_none() && filter.is_empty());
}

#[test]
fn f51_get_without_a_timeout() {
    let pool = numbers().build().unwrap();
    let mut filter = TaskFilter::new();
    filter.put(add(&pool, 1, 2));
    assert_eq!(filter.get().unwrap().result().unwrap(), 3);
}

#[test]
fn f52_get_with_a_timeout_that_passes() {
    let (gate, _pool, running) = occupied();
    let mut filter = TaskFilter::new();
    filter.put(running);
    for timeout in [Duration::ZERO, SHORT] {
        assert_eq!(filter.get_timeout(timeout).unwrap_err(), WaitTimeout(timeout));
    }
    assert_eq!(filter.len(), 1, "it is still in it");
    gate.open();
    assert!(filter.get().is_some());
}

#[test]
fn f53_get_with_a_timeout_that_is_kept() {
    let pool = numbers().build().unwrap();
    let mut filter = TaskFilter::new();
    assert!(filter.get_timeout(Duration::ZERO).unwrap().is_none(), "empty at once");
    filter.put(add(&pool, 1, 2));
    assert_eq!(filter.get_timeout(PATIENCE).unwrap().unwrap().result().unwrap(), 3);
}

#[test]
fn f54_get_all_without_a_timeout() {
    let pool = numbers().build().unwrap();
    let mut filter = TaskFilter::new();
    filter.populate((0..4).map(|number| add(&pool, number, 1)));
    let all = filter.get_all(None);
    assert!(filter.is_empty(), "they are the iterator's now");
    let results: Vec<_> = all.map(|handle| handle.unwrap().result().unwrap()).collect();
    assert_eq!(results, [1, 2, 3, 4]);
}

#[test]
fn f55_get_all_with_a_timeout_that_passes() {
    let (gate, pool, running) = occupied();
    let cancelled = echo(&pool, 2);
    cancelled.cancel();
    let mut filter = TaskFilter::new();
    filter.populate([running, cancelled]);
    let given: Vec<_> = filter.get_all(SHORT).collect();
    assert_eq!(given.len(), 2);
    assert!(given[0].as_ref().unwrap().is_cancelled());
    assert_eq!(*given[1].as_ref().unwrap_err(), WaitTimeout(SHORT));
    gate.open();
}

#[test]
fn f56_get_all_with_a_timeout_that_is_kept() {
    let pool = numbers().build().unwrap();
    let mut filter = TaskFilter::new();
    filter.populate((0..4).map(|number| add(&pool, number, 1)));
    assert!(filter.get_all(PATIENCE).all(|handle| handle.unwrap().is_completed()));
}

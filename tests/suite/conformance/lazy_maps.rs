//! Lazy maps over functions of one parameter.

use std::cell::Cell;

use stockade::RunError;
use stockade_tests::{PATIENCE, eventually};

use super::{Gates, SHORT, functions, squares};

#[test]
fn with_defaults() {
    let gates = Gates::new();
    let pool = gates.pool(4).build().unwrap();
    let results: Vec<i32> = std::thread::scope(|scope| {
        let _at_end = gates.open_at_end();
        let map = scope.spawn(|| pool.map("square_at_gate", 0..10).collect::<Result<_, _>>());
        // Where asyncpal's default has one task under way, this one keeps every worker busy.
        (0..4).for_each(|number| gates.until_somebody_waits_at(number));
        assert_eq!(pool.count_workers(), 4);
        gates.open_all();
        map.join().unwrap().unwrap()
    });
    assert_eq!(results, squares(10));
    assert_eq!(pool.count_workers(), 4);
}

#[test]
fn with_custom_chunk_size() {
    let gates = Gates::new();
    let pool = gates.held_pool(4);
    let results: Vec<i32> = std::thread::scope(|scope| {
        let _at_end = gates.open_at_end();
        let map = pool.map("square", 0..10).chunk_size(5);
        let map = scope.spawn(|| map.collect::<Result<_, _>>());
        eventually("both chunks", || pool.count_pending_tasks() == 10);
        gates.begin();
        map.join().unwrap().unwrap()
    });
    assert_eq!(results, squares(10));
    // Two chunks are work for two workers, however many tasks are in them.
    assert!((2..=4).contains(&pool.count_workers()), "one a chunk, and more where one was slow");
}

#[test]
fn with_buffer_size() {
    let gates = Gates::new();
    let pool = gates.pool(7).build().unwrap();
    let results: Vec<i32> = std::thread::scope(|scope| {
        let _at_end = gates.open_at_end();
        let map = pool.map("square_at_gate", 0..10).chunk_size(1).buffer_size(3);
        let map = scope.spawn(|| map.collect::<Result<_, _>>());
        (0..3).for_each(|number| gates.until_somebody_waits_at(number));
        // No fourth was submitted, though workers would be free for it.
        eventually("no pending task", || pool.count_pending_tasks() == 0);
        assert_eq!(pool.count_workers(), 3);
        gates.open_all();
        map.join().unwrap().unwrap()
    });
    assert_eq!(results, squares(10));
    assert_eq!(pool.count_workers(), 3);
}

#[test]
fn with_unordered_result() {
    let gates = Gates::new();
    let pool = gates.pool(4).build().unwrap();
    let mut map = pool.map::<i32, _, _>("square_at_gate", 0..3).buffer_size(3).unordered();
    for number in [2, 1, 0] {
        gates.open(number);
        assert_eq!(map.next().unwrap().unwrap(), number * number);
    }
    assert!(map.next().is_none());
    assert_eq!(pool.count_workers(), 3);
}

#[test]
fn with_unexpired_timeout() {
    let pool = functions().build().unwrap();
    let map = pool.map::<i32, _, _>("square", 0..10).timeout(PATIENCE);
    assert_eq!(map.collect::<Result<Vec<_>, _>>().unwrap(), squares(10));
}

#[test]
fn with_expired_timeout() {
    let gates = Gates::new();
    let pool = gates.pool(1).build().unwrap();
    let drawn = Cell::new(0);
    let items = (0..5).inspect(|_| drawn.set(drawn.get() + 1));
    let mut map = pool.map::<i32, _, _>("square_at_gate", items).buffer_size(2).timeout(SHORT);
    let error = map.next().unwrap().unwrap_err();
    assert!(matches!(error, RunError::MapTimeout(told) if told == SHORT), "{error:?}");
    // It is the map's end: nothing more is drawn, and what waited is taken back.
    assert!(map.next().is_none());
    assert_eq!(drawn.get(), 2);
    eventually("no pending task", || pool.count_pending_tasks() == 0);
    gates.open_all();
    assert_eq!(pool.run::<i32>("square", (3,)).unwrap(), 9);
}

//! Eager maps over functions of one parameter: everything is submitted by the call.

use std::time::Duration;

use stockade::RunError;
use stockade_tests::{PATIENCE, eventually};

use super::{Gates, SHORT, functions, squares};

#[test]
fn with_defaults() {
    let gates = Gates::new();
    let pool = gates.held_pool(4);
    let map = pool.map_all::<i32, _, _>("square", 0..10);
    eventually("all to be submitted", || pool.count_pending_tasks() == 10);
    gates.begin();
    assert_eq!(map.collect::<Result<Vec<_>, _>>().unwrap(), squares(10));
    assert_eq!(pool.count_workers(), 4);
}

#[test]
fn with_custom_chunk_size() {
    let gates = Gates::new();
    let pool = gates.held_pool(4);
    let map = pool.map::<i32, _, _>("square", 0..10).chunk_size(5).submit_all();
    eventually("both chunks", || pool.count_pending_tasks() == 10);
    gates.begin();
    assert_eq!(map.collect::<Result<Vec<_>, _>>().unwrap(), squares(10));
    // Two chunks are work for two workers, however many tasks are in them; and for more where one
    // of the tasks was slow.
    assert!((2..=4).contains(&pool.count_workers()));
}

#[test]
fn with_unordered_result() {
    let gates = Gates::new();
    let pool = gates.pool(4).build().unwrap();
    let mut map = pool.map_all::<i32, _, _>("square_at_gate", 0..3).unordered();
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
    let map = pool.map_all::<i32, _, _>("square", 0..10).timeout(PATIENCE);
    assert_eq!(map.collect::<Result<Vec<_>, _>>().unwrap(), squares(10));
    // A time that is over takes back no result that is there.
    let map = pool.map_all::<i32, _, _>("square", 0..10).timeout(Duration::ZERO);
    pool.join(None).unwrap();
    assert_eq!(map.collect::<Result<Vec<_>, _>>().unwrap(), squares(10));
}

#[test]
fn with_expired_timeout() {
    let gates = Gates::new();
    let pool = gates.pool(1).build().unwrap();
    let mut map = pool.map_all::<i32, _, _>("square_at_gate", 0..5).timeout(SHORT);
    let error = map.next().unwrap().unwrap_err();
    assert!(matches!(error, RunError::MapTimeout(told) if told == SHORT), "{error:?}");
    // It is the map's end, and what waited is taken back.
    assert!(map.next().is_none());
    eventually("no pending task", || pool.count_pending_tasks() == 0);
    gates.open_all();
    assert_eq!(pool.run::<i32>("square", (3,)).unwrap(), 9);
}

//! Defects about maps that never end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stockade_tests::{eventually, numbers};

#[test]
fn d11_unordered_lazy_maps_are_bounded() {
    const CHUNK_SIZE: usize = 5;
    const BUFFER_SIZE: usize = 4;
    let pool = numbers().max_workers(2).build().unwrap();
    let drawn = Arc::new(AtomicUsize::new(0));
    let counter = drawn.clone();
    let source = (0..).inspect(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let map = pool.starmap::<i32, _, _>("add", source.map(|i| (i, 0)));
    let mut map = map.chunk_size(CHUNK_SIZE).buffer_size(BUFFER_SIZE).unordered();
    assert_eq!(drawn.load(Ordering::Relaxed), 0);
    for taken in 1..=50 {
        map.next().unwrap().unwrap();
        // The consumer takes nothing until everything under way has come to its end.
        eventually("no task", || pool.count_pending_tasks() + pool.count_busy_workers() == 0);
        let ahead = drawn.load(Ordering::Relaxed) - taken;
        assert!(ahead < CHUNK_SIZE * BUFFER_SIZE, "{ahead} ahead of {taken}");
    }
    drop(map);
    let most = 50 + CHUNK_SIZE * BUFFER_SIZE;
    assert!(drawn.load(Ordering::Relaxed) < most, "it was drawn from after its end");
}

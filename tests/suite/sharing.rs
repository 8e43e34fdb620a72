//! Instances that the items of a chunk share, where a map asks for it.

use stockade::{Map, RunError, TaskError};
use stockade_tests::{Gate, eventually, int, tasks, two_ints};

fn counts<I>(map: Map<Vec<u8>, I>) -> Vec<Option<i32>>
where
    Map<Vec<u8>, I>: Iterator<Item = Result<Vec<u8>, RunError>>,
{
    let count = |result: Result<Vec<u8>, _>| match result {
        Ok(bytes) => Some(i32::from_le_bytes(bytes.try_into().unwrap())),
        Err(RunError::Task(TaskError::Trap { .. })) => None,
        Err(other) => panic!("{other:?}"),
    };
    map.map(count).collect()
}

#[test]
fn items_of_a_chunk_share_an_instance_and_chunks_do_not() {
    let pool = tasks().build().unwrap();
    let map = || pool.starmap::<Vec<u8>, _, _>("count", (0..10).map(int)).chunk_size(4);
    let shared = [1, 2, 3, 4, 1, 2, 3, 4, 1, 2].map(Some);
    assert_eq!(counts(map().shared_instance()), shared);
    assert_eq!(counts(map()), [Some(1); 10], "unless asked, every instance is pristine");
    assert_eq!(counts(map().shared_instance().chunk_size(1)), [Some(1); 10]);
    let single = pool.run::<Vec<u8>>("count", int(0)).unwrap();
    assert_eq!(single, 1_i32.to_le_bytes(), "what shared left nothing behind");
}

#[test]
fn a_shared_instance_starts_from_what_the_initializer_left() {
    let pool = tasks().initializer("start_counting_at", int(100)).build().unwrap();
    let map = pool.starmap::<Vec<u8>, _, _>("count", (0..4).map(int)).chunk_size(2);
    assert_eq!(counts(map.shared_instance()), [101, 102, 101, 102].map(Some));
}

#[test]
fn a_trap_in_the_middle_is_followed_by_a_fresh_instance() {
    let pool = tasks().build().unwrap();
    let items = (0..7).map(|i| two_ints(i, 2));
    let map = pool.starmap::<Vec<u8>, _, _>("count_unless_same", items).chunk_size(7);
    let expected = [Some(1), Some(2), None, Some(1), Some(2), Some(3), Some(4)];
    assert_eq!(counts(map.shared_instance()), expected);
    assert_eq!(pool.workers()[0].id.0, 1, "the worker goes on");
}

#[test]
fn workers_side_by_side_never_share_across_chunks() {
    const CHUNK: usize = 8;
    let pool = tasks().max_workers(2).build().unwrap();
    let map = pool.starmap::<Vec<u8>, _, _>("count", (0..400).map(int)).chunk_size(CHUNK);
    for (index, count) in counts(map.shared_instance()).into_iter().enumerate() {
        // At least one instance a chunk. A chunk that was parted on its way has more, and its parts
        // may come in another order.
        let count = count.unwrap() as usize;
        assert!((1..=CHUNK).contains(&count), "{count} at {index}");
    }
}

#[test]
fn a_cancelled_item_counts_for_nobody() {
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    let _running = gate.occupy(&pool);
    let map = pool.starmap::<Vec<u8>, _, _>("count", (0..6).map(int)).chunk_size(6);
    let all = map.shared_instance().submit_all();
    eventually("all to wait", || pool.count_pending_tasks() == 6);
    drop(all);
    gate.open();
    let map = pool.starmap::<Vec<u8>, _, _>("count", (0..2).map(int)).chunk_size(2);
    assert_eq!(counts(map.shared_instance()), [1, 2].map(Some));
    assert_eq!(pool.workers()[0].tasks_done, 3);
}

//! Pools of one to four workers.

use stockade::{Pool, PoolBuilder};
use stockade_tests::processes_named;

use super::functions;

/// Starts all workers of a pool that is built as `sized`, and counts them in every way.
#[track_caller]
fn assert_size(sized: fn() -> PoolBuilder, size: usize) {
    let built_alone = sized();
    let name = stockade_tests::name_for_a_pool();
    let module = stockade_tests::wat_file(super::GATED);
    let pool = built_alone.name(name).module_as("test", module).build().unwrap();
    assert_eq!((pool.max_workers(), pool.count_workers()), (size, 0));
    assert_eq!(pool.spawn_max_workers().unwrap(), size);
    assert_eq!((pool.count_workers(), processes_named(pool.name()).len()), (size, size));
    assert_eq!(pool.spawn_workers(1).unwrap(), 0, "it is full");
    pool.shutdown();
    assert_eq!((pool.count_workers(), processes_named(pool.name()).len()), (0, 0));
}

#[test]
fn single_pool() {
    assert_size(Pool::single, 1);
}

#[test]
fn dual_pool() {
    assert_size(Pool::dual, 2);
}

#[test]
fn triple_pool() {
    assert_size(Pool::triple, 3);
}

#[test]
fn quad_pool() {
    assert_size(Pool::quad, 4);
}

#[test]
fn cpu_count() {
    let module = stockade_tests::wat_file(super::GATED);
    let pool = Pool::builder().module_as("test", module).build().unwrap();
    let processors = std::thread::available_parallelism().unwrap().get();
    assert_eq!(pool.max_workers(), processors);
    // What is asked for is what is had, whatever the machine has.
    assert_eq!(
        functions().max_workers(processors + 1).build().unwrap().max_workers(),
        processors + 1
    );
}

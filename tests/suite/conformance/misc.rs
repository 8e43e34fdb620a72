//! What asyncpal keeps in a module of helpers, where it shows here: chunks, time that runs out,
//! what an error leads to, and names.

use std::error::Error;
use std::ops::RangeInclusive;
use std::time::Duration;

use stockade::{
    BrokenError, BuildError, CallbackId, CancelledTask, CollectError, JoinTimeout, MapAll, Pool,
    RunError, SubmitError, TaskError, TaskFilter, TaskHandle, TestError, TrapKind, WaitTimeout,
};
use stockade_tests::PATIENCE;

use super::{Gates, SHORT, functions, pairs, squares, sums, with_failing_initializer};

/// How often the instance of each item's call had been called, where a chunk's calls share one: so
/// a 1 begins each chunk.
fn places_in_chunks(items: usize, chunk_size: usize) -> Vec<i32> {
    let pool = functions().max_workers(1).build().unwrap();
    let map = pool.starmap("next", vec![(); items]).chunk_size(chunk_size).shared_instance();
    map.collect::<Result<_, _>>().unwrap()
}

#[test]
fn chunks_of_empty_iterable() {
    assert!(places_in_chunks(0, 1).is_empty());
    assert!(places_in_chunks(0, 3).is_empty());
}

#[test]
fn chunk_size_equals_1() {
    assert_eq!(places_in_chunks(4, 1), [1, 1, 1, 1]);
}

#[test]
fn chunk_size_equals_2() {
    assert_eq!(places_in_chunks(4, 2), [1, 2, 1, 2]);
}

#[test]
fn chunk_size_equals_3() {
    assert_eq!(places_in_chunks(6, 3), [1, 2, 3, 1, 2, 3]);
}

#[test]
fn too_big_chunk_size() {
    assert_eq!(places_in_chunks(3, 5), [1, 2, 3]);
}

#[test]
fn odd_iterable_but_even_chunk_size() {
    assert_eq!(places_in_chunks(3, 2), [1, 2, 1]);
}

/// As many workers as a map gives work to at once: its chunks, or tasks where they travel alone.
fn workers_for(submit: impl FnOnce(&Pool) -> MapAll<i32>, expected: Vec<i32>) -> usize {
    let gates = Gates::new();
    let pool = gates.held_pool(16);
    let map = submit(&pool);
    stockade_tests::eventually("all to be submitted", || {
        pool.count_pending_tasks() == expected.len()
    });
    gates.begin();
    assert_eq!(map.collect::<Result<Vec<_>, _>>().unwrap(), expected);
    // Those still being started when the last result came count, and are listed a moment later.
    pool.count_workers()
}

/// One for each chunk, and more where tasks waited behind a slow one.
const FOR_FIVE_CHUNKS: RangeInclusive<usize> = 5..=10;

#[test]
fn split_map_task_without_chunk_size() {
    assert_eq!(workers_for(|pool| pool.map_all("square", 0..10), squares(10)), 10);
}

#[test]
fn split_map_task_with_chunk_size() {
    let chunks = |pool: &Pool| pool.map("square", 0..10).chunk_size(2).submit_all();
    assert!(FOR_FIVE_CHUNKS.contains(&workers_for(chunks, squares(10))));
}

#[test]
fn split_starmap_task_without_chunk_size() {
    assert_eq!(workers_for(|pool| pool.starmap_all("add", pairs(10)), sums(10)), 10);
}

#[test]
fn split_starmap_task_with_chunk_size() {
    let chunks = |pool: &Pool| pool.starmap("add", pairs(10)).chunk_size(2).submit_all();
    assert!(FOR_FIVE_CHUNKS.contains(&workers_for(chunks, sums(10))));
}

#[test]
fn null_timeout() {
    let gates = Gates::new();
    let pool = gates.pool(1).build().unwrap();
    let handle = pool.submit::<i32>("square_at_gate", (2,)).unwrap();
    std::thread::scope(|scope| {
        let _at_end = gates.open_at_end();
        let waits = [scope.spawn(|| handle.wait(None)), scope.spawn(|| pool.join(None).is_ok())];
        gates.until_somebody_waits_at(2);
        assert!(waits.iter().all(|wait| !wait.is_finished()));
        gates.open(2);
        assert!(waits.into_iter().all(|wait| wait.join().unwrap()));
    });
}

#[test]
fn zero_timeout() {
    let gates = Gates::new();
    let pool = gates.pool(1).build().unwrap();
    let handle = pool.submit::<i32>("square_at_gate", (2,)).unwrap();
    assert!(!handle.wait(Duration::ZERO));
    gates.open(2);
    handle.result().unwrap();
    assert!(handle.wait(Duration::ZERO), "it needs no time any more");
}

#[test]
fn expired_timeout() {
    let gates = Gates::new();
    let pool = gates.pool(3).build().unwrap();
    let handles: Vec<_> =
        (1..4).map(|i| pool.submit::<i32>("square_at_gate", (i,)).unwrap()).collect();
    // One time for all three: it is not begun anew for each, and nothing is left once it is over.
    let mut ended = stockade::as_done(handles.clone()).timeout(SHORT);
    assert_eq!(ended.next().unwrap().unwrap_err(), WaitTimeout(SHORT));
    gates.open_all();
    assert!(stockade::wait(&handles, None));
    assert!(ended.next().is_none());
}

#[test]
fn unexpired_timeout() {
    let gates = Gates::new();
    let pool = gates.pool(3).build().unwrap();
    let handles: Vec<_> =
        (1..4).map(|i| pool.submit::<i32>("square_at_gate", (i,)).unwrap()).collect();
    gates.open_all();
    assert!(stockade::wait(&handles, PATIENCE));
    assert_eq!(stockade::collect(&handles, PATIENCE).unwrap(), [1, 4, 9]);
}

#[test]
fn remote_traceback() {
    let pool = functions().build().unwrap();
    let RunError::Task(error) = pool.run::<i32>("divide", (1, 0)).unwrap_err() else { panic!() };
    assert!(matches!(error, TaskError::Trap { kind: TrapKind::DivisionByZero, .. }), "{error:?}");
    let [function] = error.backtrace() else { panic!("one function deep: {error:?}") };
    assert!(function.function.contains("divide"), "{function}");
    // What did not happen in a guest has no place in one.
    pool.shutdown();
    let RunError::Submit(refusal) = pool.run::<i32>("divide", (1, 0)).unwrap_err() else {
        panic!()
    };
    assert!(refusal.source().is_none(), "{refusal:?}");
}

/// An error that has come the longest way: from a guest's function through its pool and its check
/// to the pool's test.
fn far_travelled() -> TestError {
    let pool = with_failing_initializer();
    pool.spawn_workers(1).unwrap_err();
    pool.test().unwrap_err()
}

fn chain(error: &TestError) -> Vec<&(dyn Error + 'static)> {
    let outermost: &(dyn Error + 'static) = error;
    std::iter::successors(Some(outermost), |&error| error.source()).collect()
}

#[test]
fn exception_chain_is_whole() {
    let error = far_travelled();
    let texts: Vec<_> = chain(&error).iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 4, "{texts:?}");
}

#[test]
fn exception_chain_begins_with_the_outermost() {
    let error = far_travelled();
    let chain = chain(&error);
    assert!(chain[0].is::<TestError>());
    assert!(matches!(chain[1].downcast_ref(), Some(SubmitError::Broken(_))), "{chain:?}");
    assert!(chain[3].source().is_none());
    let cause = match chain[1].downcast_ref() {
        Some(SubmitError::Broken(cause)) => cause,
        _ => panic!("{chain:?}"),
    };
    assert!(matches!(&**cause, BrokenError::Initializer(_)));
    assert_eq!(chain[2].to_string(), cause.to_string());
}

#[test]
fn exception_chain_ends_with_the_guests_own_error() {
    let error = far_travelled();
    let last: &TaskError = chain(&error)[3].downcast_ref().expect("what the guest did");
    assert!(matches!(last, TaskError::Trap { kind: TrapKind::DivisionByZero, .. }), "{last:?}");
    let [inner, outer] = last.backtrace() else { panic!("{last:?}") };
    assert!(
        inner.function.contains("divide") && outer.function.contains("divide_by_zero"),
        "{last:?}"
    );
}

#[test]
fn import_classes() {
    // What stands for each of asyncpal's public names can be named by a caller.
    fn size<T>() -> usize {
        size_of::<T>()
    }
    let pools = [size::<Pool>(), size::<stockade::PoolBuilder>()];
    let tasks = [
        size::<TaskHandle<i32>>(),
        size::<TaskFilter<i32>>(),
        size::<CancelledTask>(),
        size::<CallbackId>(),
    ];
    let errors = [
        size::<BuildError>(),
        size::<SubmitError>(),
        size::<TaskError>(),
        size::<BrokenError>(),
        size::<RunError>(),
        size::<CollectError>(),
        size::<JoinTimeout>(),
        size::<WaitTimeout>(),
        size::<TestError>(),
    ];
    assert!(pools.iter().chain(&tasks).chain(&errors).all(|bytes| *bytes > 0));
    let none: [TaskHandle<i32>; 0] = [];
    assert!(stockade::wait(&none, None));
    assert!(stockade::collect(&none, None).unwrap().is_empty());
    assert!(stockade::as_done(none).next().is_none());
    let sized: [fn() -> stockade::PoolBuilder; 5] =
        [Pool::builder, Pool::single, Pool::dual, Pool::triple, Pool::quad];
    for builder in sized {
        assert!(matches!(builder().build(), Err(BuildError::NoModule)));
    }
}

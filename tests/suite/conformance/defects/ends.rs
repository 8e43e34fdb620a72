//! Defects about a pool that breaks, is joined or is shut down.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stockade::{BrokenError, JoinTimeout, PoolBuilder, RunError, SubmitError, TaskError};
use stockade_tests::{Folder, Gate, eventually, int, numbers, workers_that_fail_when_released};

use super::comes_back;

/// A pool that breaks once there is `release` in the folder.
fn breaks_when_released() -> (Folder, PoolBuilder) {
    let (folder, program) = workers_that_fail_when_released();
    (folder, numbers().worker_program(program))
}

fn is_broken(error: &RunError) -> bool {
    matches!(error, RunError::Submit(SubmitError::Broken(_)) | RunError::Task(TaskError::Broken(_)))
}

#[test]
fn d05_a_pool_that_breaks_while_an_eager_map_submits_ends_it() {
    // With room for all, the break comes in the middle of the results.
    let (folder, builder) = breaks_when_released();
    let pool = builder.build().unwrap();
    let all = pool.starmap_all::<i32, _, _>("add", (0..1000).map(|i| (i, 1)));
    folder.file("release", "");
    let results: Vec<_> = comes_back("the map's end", move || all.collect());
    assert_eq!(results.len(), 1000);
    assert!(results.iter().all(|result| result.as_ref().is_err_and(is_broken)));

    // With room for a few, in the middle of the submission, which truly blocks.
    for chunk_size in [1, 10] {
        let (folder, builder) = breaks_when_released();
        let pool = Arc::new(builder.max_pending_tasks(2).build().unwrap());
        let caller = pool.clone();
        let map = std::thread::spawn(move || {
            let map = caller.starmap::<i32, _, _>("add", (0..1000).map(|i| (i, 1)));
            map.chunk_size(chunk_size).submit_all().collect::<Vec<_>>()
        });
        eventually("a full pool", || pool.count_pending_tasks() == 2);
        assert!(!map.is_finished());
        folder.file("release", "");
        let results = comes_back("the map's end", move || map.join().unwrap());
        assert_eq!(results.len(), 3, "two that had room, and the one that waited for it");
        assert!(results.iter().all(|result| result.as_ref().is_err_and(is_broken)));
    }
}

#[test]
fn d06_tasks_submitted_after_the_break_end_at_once() {
    let (folder, builder) = breaks_when_released();
    let pool = builder.build().unwrap();
    let before = pool.submit::<i32>("add", (1, 2)).unwrap();
    // Some of these come before the break, some at its very moment, some after it.
    let mut handles = Vec::new();
    folder.file("release", "");
    let refusal = loop {
        match pool.submit::<i32>("add", (1, 2)) {
            Ok(handle) => handles.push(handle),
            Err(refusal) => break refusal,
        }
        std::thread::yield_now();
    };
    let SubmitError::Broken(cause) = refusal else { panic!("{refusal:?}") };
    assert!(matches!(&*cause, BrokenError::WorkersCannotStart(_)), "{cause:?}");
    let ended = comes_back("every task's end", move || {
        handles.push(before);
        handles.iter().all(|handle| matches!(handle.result(), Err(TaskError::Broken(_))))
    });
    assert!(ended);
    assert_eq!(pool.count_pending_tasks(), 0);
    assert!(matches!(pool.submit::<i32>("add", (1, 2)), Err(SubmitError::Broken(_))));
    let caller = pool.clone();
    assert!(comes_back("the shutdown", move || caller.shutdown()));
}

#[test]
fn d08_join_keeps_its_timeout_and_shutdown_ends_it() {
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    let running = gate.occupy(&pool);
    let pending = pool.submit::<Vec<u8>>("echo", int(1)).unwrap();
    let timeout = Duration::from_millis(10);
    let called = Instant::now();
    assert_eq!(pool.join(timeout), Err(JoinTimeout(timeout)));
    // The contract's 50 ms belong to a machine without load; the task itself never ends.
    assert!(called.elapsed() < Duration::from_secs(30));
    assert!(running.is_running() && pending.is_pending());
    let joiner = pool.clone();
    let join = std::thread::spawn(move || joiner.join(None));
    let ender = pool.clone();
    assert!(comes_back("the shutdown", move || ender.shutdown_timeout(Duration::ZERO)));
    comes_back("the join's end", move || join.join().unwrap()).unwrap();
    assert!(running.is_cancelled() && pending.is_cancelled() && pool.is_terminated());
}

#[test]
fn d16_a_map_continued_after_shutdown_says_closed() {
    for unordered in [false, true] {
        let pool = numbers().build().unwrap();
        let map = pool.starmap::<i32, _, _>("add", (0..).map(|i| (i, 1))).buffer_size(4);
        let mut map = if unordered { map.unordered() } else { map };
        assert!(map.next().unwrap().is_ok());
        assert!(pool.shutdown());
        let rest: Vec<_> = comes_back("the map's end", move || map.collect());
        let (last, under_way) = rest.split_last().unwrap();
        assert!(matches!(last, Err(RunError::Submit(SubmitError::Closed))), "{last:?}");
        assert_eq!(under_way.len(), 3);
        for result in under_way {
            let cancelled = matches!(result, Err(RunError::Task(TaskError::Cancelled(_))));
            assert!(cancelled || result.is_ok(), "{result:?}");
        }
    }
}

//! Room for pending tasks: a pool that is full blocks, fails or waits, as asked, and lets in again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use stockade::{
    BuildError, Map, Pool, RunError, SubmitError, TaskError, TaskHandle, TaskOptions, WhenFull,
};
use stockade_tests::{
    Gate, PATIENCE, eventually, int, numbers, tasks, two_ints, workers_that_fail_when_released,
};

type Submitted = Result<TaskHandle<Vec<u8>>, SubmitError>;

/// A pool of one worker that is busy until the gate opens, and full.
fn full(pending: usize) -> (Gate, Pool, Vec<TaskHandle<Vec<u8>>>) {
    let gate = Gate::new();
    let pool = gate.tasks().max_pending_tasks(pending).build().unwrap();
    assert_eq!(pool.max_pending_tasks(), Some(pending));
    // A task that has started takes no room.
    let running = gate.occupy(&pool);
    let waiting = (0..pending as i32).map(|i| submit(&pool, i, WhenFull::Fail).unwrap());
    let handles = [running].into_iter().chain(waiting).collect();
    (gate, pool, handles)
}

fn submit(pool: &Pool, number: i32, when_full: WhenFull) -> Submitted {
    pool.submit_with("echo", int(number), TaskOptions::default().when_full(when_full))
}

/// Submits on a thread of its own, which blocks.
fn submit_aside(pool: &Pool, when_full: WhenFull) -> Receiver<Submitted> {
    let (done, submitted) = mpsc::channel();
    let pool = pool.clone();
    std::thread::spawn(move || done.send(submit(&pool, 7, when_full)));
    submitted
}

#[track_caller]
fn answer(submitted: &Receiver<Submitted>) -> Submitted {
    submitted.recv_timeout(PATIENCE).expect("a submitter was forgotten")
}

fn is_full(submitted: Submitted, most: usize) -> bool {
    matches!(submitted, Err(SubmitError::Full { max_pending_tasks }) if max_pending_tasks == most)
}

#[test]
fn a_full_pool_refuses_who_will_not_wait() {
    let (gate, pool, handles) = full(2);
    assert!(is_full(submit(&pool, 7, WhenFull::Fail), 2));
    assert!(is_full(submit(&pool, 7, WhenFull::Wait(Duration::ZERO)), 2));
    assert!(is_full(submit(&pool, 7, WhenFull::Wait(Duration::from_millis(10))), 2));
    assert_eq!(pool.count_pending_tasks(), 2, "what was refused is nowhere");
    gate.open();
    assert!(handles.iter().all(|handle| handle.result().is_ok()));
    submit(&pool, 7, WhenFull::Fail).unwrap().result().unwrap();
}

#[test]
fn what_the_pool_says_holds_where_a_task_says_nothing() {
    let gate = Gate::new();
    let pool = gate.tasks().max_pending_tasks(1).when_full(WhenFull::Fail).build().unwrap();
    let _running = gate.occupy(&pool);
    let pending = pool.submit::<Vec<u8>>("echo", int(1)).unwrap();
    assert!(is_full(pool.submit("echo", int(2)), 1));
    assert!(matches!(
        pool.run::<()>("echo", int(2)),
        Err(RunError::Submit(SubmitError::Full { .. }))
    ));
    let together = pool.submit_together::<Vec<u8>, _>("echo", [int(2), int(3)]);
    assert!(together.into_iter().all(|submitted| is_full(submitted, 1)));
    // Also for those that a map submits at once, each of which has its own answer.
    let all: Vec<_> =
        pool.starmap_all::<Vec<u8>, _, _>("square", [two_ints(1, 0), two_ints(2, 0)]).collect();
    let full =
        |result: &Result<_, _>| matches!(result, Err(RunError::Submit(SubmitError::Full { .. })));
    assert!(all.len() == 2 && all.iter().all(full), "{all:?}");
    assert!(pending.cancel());
    eventually("room", || submit(&pool, 7, WhenFull::Fail).is_ok());
    gate.open();
}

#[test]
fn a_start_lets_in_who_is_blocked_one_for_one() {
    const TASKS: usize = 50;
    let (gate, pool, handles) = full(2);
    let submitted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let submitter = scope.spawn(|| {
            let submit = |number| {
                let handle = submit(&pool, number, WhenFull::Block).unwrap();
                submitted.fetch_add(1, Ordering::Relaxed);
                handle
            };
            (0..TASKS as i32).map(submit).collect::<Vec<_>>()
        });
        assert!(is_full(submit(&pool, 7, WhenFull::Fail), 2));
        assert_eq!(submitted.load(Ordering::Relaxed), 0);
        gate.open();
        for (number, handle) in (0..).zip(submitter.join().unwrap()) {
            assert_eq!(handle.result().unwrap(), i32::to_le_bytes(number));
        }
    });
    assert!(handles.iter().all(|handle| handle.result().is_ok()));
}

#[test]
fn never_more_tasks_wait_than_may() {
    let pool = numbers().max_workers(2).max_pending_tasks(3).build().unwrap();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..6)
            .map(|caller| {
                let pool = &pool;
                scope.spawn(move || {
                    let submit = |number| pool.submit::<i32>("add", (caller, number)).unwrap();
                    let handles: Vec<_> = (0..100).map(submit).collect();
                    for (number, handle) in (0..).zip(handles) {
                        assert_eq!(handle.result().unwrap(), caller + number);
                    }
                })
            })
            .collect();
        while callers.iter().any(|caller| !caller.is_finished()) {
            assert!(pool.count_pending_tasks() <= 3);
            std::thread::yield_now();
        }
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    });
}

#[test]
fn a_cancelled_task_gives_its_room_to_another() {
    let (gate, pool, handles) = full(1);
    let blocked = [WhenFull::Block, WhenFull::Wait(PATIENCE)].map(|how| submit_aside(&pool, how));
    assert!(handles[1].cancel());
    gate.open();
    for submitted in blocked {
        assert_eq!(answer(&submitted).unwrap().result().unwrap(), 7_i32.to_le_bytes());
    }
}

#[test]
fn a_shutdown_and_a_kill_send_away_who_is_blocked() {
    for kill in [false, true] {
        let (gate, pool, handles) = full(1);
        let blocked =
            [WhenFull::Block, WhenFull::Wait(PATIENCE * 2)].map(|how| submit_aside(&pool, how));
        let ender = pool.clone();
        let ending = std::thread::spawn(move || if kill { ender.kill() } else { ender.shutdown() });
        // Before the running task has ended.
        for submitted in &blocked {
            assert!(matches!(answer(submitted), Err(SubmitError::Closed)));
        }
        gate.open();
        assert!(ending.join().unwrap());
        assert!(handles[1].is_cancelled());
        assert_eq!(pool.cancelled_tasks().len(), if kill { 2 } else { 1 });
    }
}

#[test]
fn a_break_sends_away_who_is_blocked() {
    let (folder, program) = workers_that_fail_when_released();
    let pool = tasks().worker_program(program).max_pending_tasks(1).build().unwrap();
    let pending = submit(&pool, 1, WhenFull::Fail).unwrap();
    let blocked: Vec<_> = [WhenFull::Block, WhenFull::Block, WhenFull::Wait(PATIENCE * 2)]
        .map(|how| submit_aside(&pool, how))
        .into();
    assert!(is_full(submit(&pool, 7, WhenFull::Fail), 1));
    folder.file("release", "");
    for submitted in &blocked {
        assert!(matches!(answer(submitted), Err(SubmitError::Broken(_))));
    }
    assert!(matches!(pending.result(), Err(TaskError::Broken(_))));
    assert!(matches!(submit(&pool, 7, WhenFull::Block), Err(SubmitError::Broken(_))));
}

#[test]
fn lazy_maps_take_as_much_room_as_there_is() {
    for (chunk_size, unordered) in [(1, false), (1, true), (7, false), (7, true)] {
        let pool = tasks().max_workers(2).max_pending_tasks(1).when_full(WhenFull::Fail);
        let pool = pool.build().unwrap();
        let map = || {
            let items = (0..200).map(|i| two_ints(i, -1));
            let map = pool.starmap::<Vec<u8>, _, _>("square", items).chunk_size(chunk_size);
            if unordered { map.unordered() } else { map }
        };
        // Two at a time, each in the other's way.
        std::thread::scope(|scope| {
            let collect = |map: Map<Vec<u8>, _>| {
                let mut squares: Vec<i32> = map
                    .map(|square| i32::from_le_bytes(square.unwrap().try_into().unwrap()))
                    .collect();
                if unordered {
                    squares.sort_unstable();
                }
                assert_eq!(squares, (0..200).map(|i| i * i).collect::<Vec<_>>());
            };
            let (one, other) = (map(), map());
            let one = scope.spawn(move || collect(one));
            collect(other);
            one.join().unwrap();
        });
    }
}

#[test]
fn a_lazy_map_without_any_room_waits_for_its_time() {
    let (gate, pool, _handles) = full(1);
    let map = || pool.starmap::<Vec<u8>, _, _>("square", [two_ints(3, 0)]);
    let results: Vec<_> = map().timeout(Duration::from_millis(20)).collect();
    assert!(matches!(results[..], [Err(RunError::MapTimeout(_))]), "{results:?}");
    let waiting = map();
    gate.open();
    let results: Vec<_> = waiting.timeout(PATIENCE).collect::<Result<_, _>>().unwrap();
    assert_eq!(results, [9_i32.to_le_bytes()]);
}

#[test]
fn no_room_at_all_is_no_pool() {
    let error = numbers().max_pending_tasks(0).build().unwrap_err();
    assert!(matches!(error, BuildError::Setting { setting: "max_pending_tasks", .. }), "{error:?}");
    assert_eq!(numbers().max_pending_tasks(None).build().unwrap().max_pending_tasks(), None);
}

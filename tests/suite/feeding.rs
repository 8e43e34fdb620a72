//! Fed maps: items that are pushed as they come, and results that are taken as they are ready.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use stockade::{
    CancelReason, FedMap, Output, Pool, PushError, RunError, SubmitError, TaskError, TaskOptions,
    TaskResult,
};
use stockade_tests::{Gate, PATIENCE, eventually, kill, numbers, tasks, two_ints};

type Square = Vec<u8>;
type Ends<T> = Vec<(usize, Result<T, RunError>)>;

fn square_of(number: i32) -> Square {
    (number * number).to_le_bytes().to_vec()
}

fn gated(gate: &Gate, workers: usize) -> Pool {
    tasks().grants(gate.grants()).max_workers(workers).build().unwrap()
}

/// A fed map of squares, with so many pushed of which the one at `slow` waits at the gate.
fn squares(pool: &Pool, count: i32, slow: i32) -> FedMap<Square> {
    let mut fed = pool.feed("square").chunk_size(count as usize);
    for number in 0..count {
        assert_eq!(fed.push(two_ints(number, slow)).unwrap(), number as usize);
    }
    fed.submit();
    fed
}

/// All that is left.
fn drain<T: TaskResult>(fed: &mut FedMap<T>) -> Ends<T> {
    let mut ends = Vec::new();
    while fed.wait(PATIENCE) {
        ends.extend(fed.ready());
    }
    assert!(fed.is_empty() && fed.unfinished() == 0);
    ends
}

fn is_cancelled<T>(end: &Result<T, RunError>) -> bool {
    matches!(end, Err(RunError::Task(TaskError::Cancelled(CancelReason::Asked))))
}

#[test]
fn every_item_gives_its_result_in_order_or_as_it_comes() {
    let pool = numbers().max_workers(2).build().unwrap();
    for unordered in [false, true] {
        for chunk in [None, Some(1), Some(7), Some(5000)] {
            let fed = pool.feed::<i32>("add");
            let fed = chunk.map_or(pool.feed("add"), |items| fed.chunk_size(items));
            let mut fed = if unordered { fed.unordered() } else { fed };
            let mut ends = Ends::new();
            for number in 0..3000 {
                while let Err(PushError::Full(item)) = fed.push((number, 1)) {
                    assert_eq!(item, (number, 1));
                    assert!(fed.wait(PATIENCE));
                    ends.extend(fed.ready());
                }
            }
            fed.close();
            ends.extend(drain(&mut fed));
            if unordered {
                ends.sort_by_key(|(index, _)| *index);
            }
            assert_eq!(ends.len(), 3000);
            for (number, (index, end)) in (0..).zip(ends) {
                assert_eq!((index, end.unwrap()), (number as usize, number + 1), "{chunk:?}");
            }
        }
    }
}

#[test]
fn an_item_is_answered_although_no_other_follows() {
    let pool = numbers().max_workers(2).build().unwrap();
    let add = pool.function::<i32>("add").unwrap();
    // From now on it is known how quick it is, and batches are large.
    assert_eq!(add.starmap((0..1000).map(|i| (i, 1))).count(), 1000);
    let mut fed = add.feed();
    for number in 0..10 {
        assert_eq!(fed.push((number, 1)).unwrap(), number as usize);
        assert!(fed.wait(PATIENCE));
        let ends: Vec<_> = fed.ready().map(|(index, end)| (index, end.unwrap())).collect();
        assert_eq!(ends, [(number as usize, number + 1)]);
    }
    assert!(!fed.wait(None), "nothing is under way");
}

#[test]
fn a_consumer_that_takes_nothing_holds_up_only_its_own_map() {
    for unordered in [false, true] {
        let gate = Gate::new();
        let pool = gated(&gate, 1);
        let fed = pool.feed::<Square>("square");
        let mut fed = if unordered { fed.unordered() } else { fed };
        let mut pushed = 0;
        // The first waits at the gate. So it is not known how long items take, and the room stays.
        while fed.push(two_ints(pushed, 0)).is_ok() {
            pushed += 1;
        }
        assert_eq!((fed.len(), fed.room()), (pushed as usize, 0));
        assert!(pushed as usize <= fed.capacity() && pushed >= 16);
        gate.open();
        assert_eq!(pool.run::<Square>("square", two_ints(7, -1)).unwrap(), square_of(7));
        eventually("all to end", || fed.unfinished() == 0);
        assert!(matches!(fed.push(two_ints(pushed, -1)), Ok(_) | Err(PushError::Full(_))));
        assert!(fed.ready().all(|(index, end)| end.unwrap() == square_of(index as i32)));
    }
}

#[test]
fn what_is_dropped_while_it_is_full_starts_no_further_item() {
    let gate = Gate::new();
    let pool = gated(&gate, 1);
    let mut fed = pool.feed::<Square>("square").buffer_size(50);
    let mut number = 0;
    while fed.push(two_ints(number, 3)).is_ok() {
        number += 1;
    }
    assert_eq!(number, 50);
    gate.until_somebody_waits();
    drop(fed);
    eventually("nothing waits", || pool.count_pending_tasks() == 0);
    gate.open();
    assert_eq!(pool.run::<Square>("square", two_ints(9, -1)).unwrap(), square_of(9));
    assert_eq!(pool.workers()[0].tasks_done, 3 + 1 + 1);
}

#[test]
fn a_worker_that_dies_costs_the_item_that_it_had_started() {
    for retries in [0, 1] {
        let gate = Gate::new();
        let pool = gated(&gate, 1);
        let options = TaskOptions::default().retries(retries);
        let mut fed = pool.feed::<Square>("square").options(options).chunk_size(20);
        for number in 0..20 {
            fed.push(two_ints(number, 7)).unwrap();
        }
        fed.submit();
        gate.until_somebody_waits();
        kill(pool.workers()[0].pid);
        if retries > 0 {
            gate.open();
        }
        let ends = drain(&mut fed);
        for (number, (index, end)) in (0..20).zip(&ends) {
            assert_eq!(*index, number as usize);
            match end {
                Ok(bytes) => assert!(*bytes == square_of(number) && (number != 7 || retries == 1)),
                Err(RunError::Task(TaskError::WorkerLost(_))) => {
                    assert_eq!((number, retries), (7, 0));
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(ends.len(), 20);
    }
}

#[test]
fn a_cancel_is_exact() {
    let ranges = [5..6, 0..3, 9..10, 1..10, 0..10, 4..4, 8..100];
    for range in ranges {
        let gate = Gate::new();
        let pool = gated(&gate, 1);
        // One batch, whose first item runs.
        let mut fed = squares(&pool, 10, 0);
        gate.until_somebody_waits();
        fed.cancel(range.clone());
        let left = (0..10).filter(|index| *index == 0 || !range.contains(index));
        assert_eq!(fed.unfinished(), left.count(), "{range:?}");
        gate.open();
        let ends = drain(&mut fed);
        assert_eq!(ends.len(), 10);
        for (index, end) in ends {
            let cancelled = index > 0 && range.contains(&index);
            assert_eq!(is_cancelled(&end), cancelled, "{range:?} {index}: {end:?}");
            assert!(cancelled || end.unwrap() == square_of(index as i32));
        }
        assert_eq!(pool.workers()[0].id.0, 1, "its worker did nothing wrong");
    }
}

#[test]
fn single_items_of_many_are_cancelled_wherever_they_are() {
    let gate = Gate::new();
    let pool = gated(&gate, 1);
    let first = gate.occupy(&pool);
    // Of the same batch, which no worker has or one has, and of what is not submitted.
    let mut fed = pool.feed::<Square>("square").chunk_size(400).buffer_size(3);
    for number in 0..900 {
        fed.push(two_ints(number, -1)).unwrap();
    }
    for index in (0..900).step_by(3) {
        fed.cancel(index..=index);
    }
    gate.open();
    first.result().unwrap();
    let ends = drain(&mut fed);
    assert_eq!(ends.len(), 900);
    for (number, (index, end)) in (0..).zip(ends) {
        assert_eq!((index as i32, is_cancelled(&end)), (number, number % 3 == 0), "{end:?}");
        assert!(number % 3 == 0 || end.unwrap() == square_of(number));
    }
    assert_eq!(pool.workers()[0].tasks_done, 601);
    assert_eq!(pool.workers()[0].id.0, 1, "its worker did nothing wrong");
}

/// Pushes a number as soon as there is room, and cancels some of the last ones after every 31st; takes
/// what is ready meanwhile into `ends`, each item once.
fn push_and_cancel(
    fed: &mut FedMap<i32>,
    number: usize,
    round: usize,
    ends: &mut BTreeMap<usize, Result<i32, RunError>>,
    cancelled: &mut Vec<RangeInclusive<usize>>,
) {
    while fed.room() == 0 {
        assert!(fed.wait(PATIENCE));
        for (index, end) in fed.ready() {
            assert!(ends.insert(index, end).is_none(), "{index} twice");
        }
    }
    fed.push((number as i32, 1)).unwrap();
    if (number * 7 + round).is_multiple_of(31) {
        let from = number.saturating_sub(round);
        cancelled.push(from..=number);
        fed.cancel(from..=number);
    }
}

#[test]
fn items_that_are_cancelled_while_others_run_end_once_each() {
    let pool = numbers().max_workers(2).build().unwrap();
    for round in 0..20_usize {
        let fed = pool.feed::<i32>("add");
        let mut fed = if round % 2 == 0 { fed.unordered() } else { fed };
        let mut ends = BTreeMap::new();
        let mut cancelled = Vec::new();
        for number in 0..2000_usize {
            push_and_cancel(&mut fed, number, round, &mut ends, &mut cancelled);
        }
        for (index, end) in drain(&mut fed) {
            assert!(ends.insert(index, end).is_none(), "{index} twice");
        }
        assert_eq!(ends.len(), 2000);
        for (index, end) in ends {
            match end {
                Ok(sum) => assert_eq!(sum, index as i32 + 1),
                end => {
                    assert!(is_cancelled(&end), "{end:?}");
                    assert!(cancelled.iter().any(|range| range.contains(&index)), "{index}");
                }
            }
        }
    }
    assert!(pool.workers().iter().all(|worker| worker.id.0 <= 2), "no worker did anything wrong");
}

#[test]
fn nothing_is_taken_after_the_close_and_nothing_is_lost() {
    let pool = numbers().build().unwrap();
    let mut fed = pool.feed::<i32>("add");
    fed.push((1, 2)).unwrap();
    fed.close();
    assert_eq!(fed.room(), 0);
    assert!(matches!(fed.push((3, 4)), Err(PushError::Closed((3, 4)))));
    let late = RunError::Task(TaskError::Cancelled(CancelReason::Asked));
    assert!(matches!(fed.push_error(late), Err(PushError::Closed(_))));
    let ends = drain(&mut fed);
    assert!(matches!(ends[..], [(0, Ok(3))]), "{ends:?}");
}

#[test]
fn each_item_of_a_pool_that_closes_has_its_own_error() {
    for unordered in [false, true] {
        let pool = numbers().build().unwrap();
        let fed = pool.feed::<i32>("add").chunk_size(10);
        let mut fed = if unordered { fed.unordered() } else { fed };
        for number in 0..5 {
            fed.push((number, 1)).unwrap();
        }
        assert!(pool.shutdown());
        let ends = drain(&mut fed);
        let is_closed = |end: &_| matches!(end, Err(RunError::Submit(SubmitError::Closed)));
        assert!(ends.iter().all(|(_, end)| is_closed(end)) && ends.len() == 5, "{ends:?}");
        assert!(matches!(fed.push((1, 1)), Err(PushError::Closed(_))));
    }
}

#[test]
fn an_item_that_cannot_be_called_is_an_error_in_its_turn() {
    let pool = numbers().build().unwrap();
    let mut fed = pool.feed::<i32>("add");
    fed.push((1, 2)).unwrap();
    let own = RunError::Task(TaskError::Cancelled(CancelReason::WhileRunning));
    assert_eq!(fed.push_error(own).unwrap(), 1);
    fed.push((1,)).unwrap();
    fed.push((3, 4)).unwrap();
    let ends = drain(&mut fed);
    let own = matches!(ends[1].1, Err(RunError::Task(TaskError::Cancelled(_))));
    assert!(own && matches!(ends[2].1, Err(RunError::Submit(SubmitError::Signature { .. }))));
    assert!(matches!(ends[..], [(0, Ok(3)), (1, _), (2, _), (3, Ok(7))]), "{ends:?}");
    let mut none = pool.feed::<i32>("no_such_function");
    none.push((1,)).unwrap();
    let ends = drain(&mut none);
    assert!(matches!(ends[..], [(0, Err(RunError::Submit(SubmitError::UnknownFunction { .. })))]));
}

#[test]
fn a_setting_of_nothing_is_one_error() {
    let pool = numbers().build().unwrap();
    for fed in [pool.feed::<i32>("add").chunk_size(0), pool.feed("add").buffer_size(0)] {
        let mut fed = fed;
        fed.push((1, 2)).unwrap();
        assert!(matches!(fed.push((1, 2)), Err(PushError::Closed(_))));
        let ends = drain(&mut fed);
        assert!(matches!(ends[..], [(0, Err(RunError::MapSetting(_)))]), "{ends:?}");
    }
}

#[test]
fn a_pool_that_limits_pending_tasks_takes_what_it_has_room_for() {
    for limit in [1, 3, 64] {
        let pool = numbers().max_workers(2).max_pending_tasks(limit).build().unwrap();
        let mut fed = pool.feed::<i32>("add").chunk_size(50);
        let mut ends = Ends::new();
        for number in 0..1000 {
            while fed.room() == 0 {
                assert!(fed.wait(PATIENCE));
                ends.extend(fed.ready());
            }
            fed.push((number, 1)).unwrap();
        }
        ends.extend(drain(&mut fed));
        assert!(ends.into_iter().map(|(_, end)| end.unwrap()).eq(1..=1000), "{limit}");
    }
}

#[test]
fn a_map_that_finds_its_pool_full_goes_on_once_there_is_room() {
    let gate = Gate::new();
    let pool = gate.tasks().max_pending_tasks(1).build().unwrap();
    let running = gate.occupy(&pool);
    let waiting = pool.submit::<Square>("square", two_ints(3, -1)).unwrap();
    let mut fed = pool.feed::<Square>("square");
    fed.push(two_ints(5, -1)).unwrap();
    assert!(!fed.wait(Duration::ZERO), "it has no room");
    std::thread::scope(|scope| {
        let fed = scope.spawn(|| drain(&mut fed));
        gate.open();
        let ends = fed.join().unwrap();
        assert!(matches!(&ends[..], [(0, Ok(bytes))] if *bytes == square_of(5)), "{ends:?}");
    });
    running.result().unwrap();
    waiting.result().unwrap();
}

#[test]
fn a_waker_ends_a_wait_from_another_thread() {
    let gate = Gate::new();
    let pool = gated(&gate, 1);
    let mut fed = squares(&pool, 1, 0);
    let waker = fed.waker();
    gate.until_somebody_waits();
    // Before the wait, and while it lasts.
    waker.wake_by_ref();
    assert!(!fed.wait(None));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fed.wait(None));
        waker.wake_by_ref();
        assert!(!waiting.join().unwrap());
    });
    gate.open();
    assert!(fed.wait(PATIENCE));
    assert_eq!(fed.ready().count(), 1);
    // With a waker it waits for that too.
    waker.wake_by_ref();
    assert!(!fed.wait(None));
    drop(fed);
    waker.wake();
}

#[test]
fn a_future_waits_for_what_is_ready() {
    let pool = numbers().max_workers(2).build().unwrap();
    let mut fed = pool.feed::<i32>("add").unordered();
    for number in 0..10 {
        fed.push((number, 1)).unwrap();
    }
    let mut sums = Vec::new();
    while stockade_tests::block_on(poll_fn(|context| fed.poll_ready(context))) {
        sums.extend(fed.ready().map(|(_, end)| end.unwrap()));
    }
    sums.sort_unstable();
    assert!(sums.into_iter().eq(1..=10));
}

#[test]
fn a_result_comes_undecoded_or_with_its_report() {
    let pool = tasks().build().unwrap();
    let options = TaskOptions::default().label("mine");
    let mut fed = pool.feed::<Output>("square").options(options).buffer_size(20);
    for number in 0..20 {
        fed.push(two_ints(number, -1)).unwrap();
    }
    let mut taken = 0;
    while fed.wait(PATIENCE) {
        for (index, task) in fed.ready_tasks() {
            let task = task.unwrap();
            assert_eq!((index, task.report().label.as_deref()), (taken, Some("mine")));
            let output = task.result().unwrap();
            assert!(
                matches!(output, Output::Encoded { bytes, .. } if bytes == square_of(taken as i32))
            );
            taken += 1;
        }
    }
    assert_eq!(taken, 20);
    fed.push(two_ints(20, -1)).unwrap();
    assert!(fed.wait(PATIENCE));
}

#[test]
fn a_result_comes_before_a_slow_item_behind_it_although_nobody_waits() {
    for _ in 0..10 {
        let gate = Gate::new();
        let pool = gated(&gate, 1);
        // Its worker was heard last by a caller that takes the results of a map.
        let numbers = (0..2000).map(|number| two_ints(number, -1));
        assert_eq!(pool.map::<Square, _, _>("square", numbers).count(), 2000);
        let mut fed = squares(&pool, 2, 1);
        gate.until_somebody_waits();
        eventually("the first result", || fed.unfinished() == 1);
        gate.open();
        let ends = drain(&mut fed);
        assert!(ends.len() == 2 && ends.iter().all(|(_, end)| end.is_ok()), "{ends:?}");
    }
}

#[test]
fn a_caller_that_only_looks_hides_no_worker_that_dies() {
    let gate = Gate::new();
    let pool = gated(&gate, 2);
    let mut fed = squares(&pool, 1, 0);
    gate.until_somebody_waits();
    let dies = pool.workers()[0].pid;
    let begun = Instant::now();
    for round in 0_u64.. {
        match round {
            0..2000 => {
                // Its worker rings, and some of these bells come to the pool's own thread.
                drop(pool.submit::<Square>("square", two_ints(7, -1)).unwrap());
            }
            2000 => kill(dies),
            _ => {}
        }
        if fed.wait(Duration::ZERO) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE / 2, "nobody hears of the end");
    }
    assert_eq!(fed.ready().count(), 1);
}

#[test]
fn items_of_workers_that_die_while_others_are_cancelled_end_once_each() {
    let pool = numbers().max_workers(2).build().unwrap();
    for round in 0..3_usize {
        let options = TaskOptions::default().retries(round as u32 % 3);
        let fed = pool.feed::<i32>("add").options(options);
        let mut fed = if round % 2 == 0 { fed.unordered() } else { fed };
        let mut ends = BTreeMap::new();
        let mut cancelled = Vec::new();
        for number in 0..3000_usize {
            push_and_cancel(&mut fed, number, round, &mut ends, &mut cancelled);
            if number % 500 == 250
                && let Some(worker) = pool.workers().first()
            {
                kill(worker.pid);
            }
        }
        for (index, end) in drain(&mut fed) {
            assert!(ends.insert(index, end).is_none(), "{index} twice");
        }
        assert_eq!(ends.len(), 3000);
        for (index, end) in ends {
            match end {
                Ok(sum) => assert_eq!(sum, index as i32 + 1),
                Err(RunError::Task(TaskError::WorkerLost(_))) => {}
                end => {
                    assert!(is_cancelled(&end), "{end:?}");
                    assert!(cancelled.iter().any(|range| range.contains(&index)), "{index}");
                }
            }
        }
    }
}

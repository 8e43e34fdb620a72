//! Batches: what travels together starts, ends, fails and is cancelled by itself.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use stockade::{
    CancelReason, Limits, Pool, RunError, Status, SubmitError, TaskError, TaskHandle, TaskOptions,
};
use stockade_tests::{
    Gate, PATIENCE, eventually, int, kill, numbers, tasks, two_ints, until_running,
};

type Bytes = Vec<u8>;

fn square_of(number: i32) -> Bytes {
    (number * number).to_le_bytes().to_vec()
}

/// Items of which the one at `slow` waits at the gate.
fn items(count: i32, slow: i32) -> impl Iterator<Item = stockade::Bytes> {
    (0..count).map(move |number| two_ints(number, slow))
}

fn gated(gate: &Gate, workers: usize) -> Pool {
    tasks().grants(gate.grants()).max_workers(workers).build().unwrap()
}

#[test]
fn a_slow_item_holds_back_no_result_before_it() {
    for chunk_size in [10, 1] {
        let gate = Gate::new();
        // One worker, which does not ring while it is at the slow one.
        let pool = gated(&gate, 1);
        let map = pool.starmap::<Bytes, _, _>("square", items(10, 7)).chunk_size(chunk_size);
        let mut map = map.buffer_size(10);
        for number in 0..7 {
            assert_eq!(map.next().unwrap().unwrap(), square_of(number));
        }
        gate.open();
        for number in 7..10 {
            assert_eq!(map.next().unwrap().unwrap(), square_of(number));
        }
        assert!(map.next().is_none());
    }
}

#[test]
fn a_batch_is_split_when_a_worker_idles() {
    let gate = Gate::new();
    let pool = gated(&gate, 2);
    // Both are there before the only batch comes.
    pool.spawn_max_workers().unwrap();
    let map = pool.starmap::<Bytes, _, _>("square", items(20, 0)).chunk_size(20);
    let mut map = map.unordered();
    let others: BTreeSet<_> = (0..19).map(|_| map.next_task().unwrap().0).collect();
    assert!(others.iter().copied().eq(1..20));
    gate.open();
    let (index, first) = map.next_task().unwrap();
    assert_eq!((index, first.unwrap().result().unwrap()), (0, square_of(0)));
}

#[test]
fn a_worker_that_dies_costs_a_batch_the_item_that_it_had_started() {
    for retries in [0, 1] {
        let gate = Gate::new();
        let pool = gated(&gate, 1);
        let options = TaskOptions::default().retries(retries);
        let map = pool.starmap::<Bytes, _, _>("square", items(20, 7)).chunk_size(20);
        let mut map = map.options(options);
        for number in 0..7 {
            assert_eq!(map.next().unwrap().unwrap(), square_of(number));
        }
        gate.until_somebody_waits();
        kill(pool.workers()[0].pid);
        if retries > 0 {
            gate.open();
        }
        let (index, lost) = map.next_task().unwrap();
        assert_eq!(index, 7);
        let lost = lost.unwrap();
        match lost.result() {
            Ok(bytes) => assert_eq!((retries, bytes, lost.report().attempt), (1, square_of(7), 2)),
            Err(TaskError::WorkerLost(_)) => assert_eq!((retries, lost.report().attempt), (0, 1)),
            Err(other) => panic!("{other:?}"),
        }
        for number in 8..20 {
            let (_, task) = map.next_task().unwrap();
            let task = task.unwrap();
            assert_eq!((task.result().unwrap(), task.report().attempt), (square_of(number), 1));
        }
    }
}

#[test]
fn a_map_that_is_dropped_starts_no_further_item() {
    let gate = Gate::new();
    let pool = gated(&gate, 1);
    let map = pool.starmap::<Bytes, _, _>("square", items(50, 3)).chunk_size(50);
    let mut map = map.buffer_size(1);
    for number in 0..3 {
        assert_eq!(map.next().unwrap().unwrap(), square_of(number));
    }
    gate.until_somebody_waits();
    drop(map);
    eventually("nothing waits", || pool.count_pending_tasks() == 0);
    gate.open();
    // Behind whatever was started.
    assert_eq!(pool.run::<Bytes>("square", two_ints(9, 0)).unwrap(), square_of(9));
    assert_eq!(pool.workers()[0].tasks_done, 3 + 1 + 1);
}

fn together(pool: &Pool, count: i32, slow: i32) -> Vec<TaskHandle<Bytes>> {
    let submitted = pool.submit_together("square", items(count, slow));
    submitted.into_iter().map(Result::unwrap).collect()
}

#[test]
fn a_handle_in_the_middle_of_a_batch_is_cancelled_by_itself() {
    let gate = Gate::new();
    let pool = gated(&gate, 1);
    let handles = together(&pool, 10, 0);
    gate.until_somebody_waits();
    for index in [5, 3, 9, 5] {
        assert!(handles[index].cancel(), "{index} has not started");
    }
    assert!(!handles[0].cancel(), "the first has");
    gate.open();
    for (number, handle) in (0..).zip(&handles) {
        match handle.result() {
            Ok(bytes) => assert_eq!(bytes, square_of(number)),
            Err(TaskError::Cancelled(CancelReason::Asked)) => assert!([3, 5, 9].contains(&number)),
            Err(other) => panic!("{number}: {other:?}"),
        }
    }
    assert_eq!(handles.iter().filter(|handle| handle.is_cancelled()).count(), 3);
    assert_eq!(pool.workers()[0].tasks_done, 7);
}

#[test]
fn handles_that_are_cancelled_before_their_batch_is_sent_are_left_out() {
    let gate = Gate::new();
    let pool = gated(&gate, 1);
    let _first = pool.submit::<Bytes>("square", two_ints(0, 0)).unwrap();
    gate.until_somebody_waits();
    // Every second one, so that the batch falls into more parts than a page has slots to spare.
    let handles = together(&pool, 500, -1);
    assert!(handles.iter().step_by(2).all(TaskHandle::cancel));
    gate.open();
    for (number, handle) in (0..).zip(&handles) {
        match handle.result() {
            Ok(bytes) => assert_eq!((bytes, number % 2), (square_of(number), 1)),
            Err(TaskError::Cancelled(CancelReason::Asked)) => assert_eq!(number % 2, 0),
            Err(other) => panic!("{number}: {other:?}"),
        }
    }
    assert_eq!(pool.workers()[0].id.0, 1, "its worker did nothing wrong");
}

/// Tasks that were submitted one by one behind one that does not end, once it was known that they are short:
/// those that its worker's window does not hold travel together. And that one.
fn submitted_behind(
    pool: &Pool,
    count: i32,
    slow: i32,
) -> (TaskHandle<()>, Vec<TaskHandle<Bytes>>) {
    for number in 0..50 {
        assert_eq!(pool.run::<Bytes>("square", two_ints(number, -1)).unwrap(), square_of(number));
    }
    let endless = pool.submit::<()>("spin", int(0)).unwrap();
    until_running(&endless);
    let submit = |item| pool.submit::<Bytes>("square", item).unwrap();
    (endless, items(count, slow).map(submit).collect())
}

#[test]
fn short_tasks_that_wait_and_travel_together_are_cancelled_each_by_itself() {
    const TASKS: i32 = 2_000;
    let gate = Gate::new();
    let pool = gated(&gate, 1);
    let (endless, handles) = submitted_behind(&pool, TASKS, -1);
    let is_cancelled = |number: i32| number % 7 == 3;
    for (number, handle) in (0..).zip(&handles).filter(|(number, _)| is_cancelled(*number)) {
        assert!(handle.cancel(), "{number} has not started");
    }
    endless.cancel_running();
    for (number, handle) in (0..).zip(&handles) {
        match handle.result() {
            Ok(bytes) => assert_eq!((bytes, is_cancelled(number)), (square_of(number), false)),
            Err(TaskError::Cancelled(CancelReason::Asked)) => assert!(is_cancelled(number)),
            Err(other) => panic!("{number}: {other:?}"),
        }
    }
    let ran = (0..TASKS).filter(|number| !is_cancelled(*number)).count() as u64;
    assert_eq!(
        pool.workers().last().unwrap().tasks_done,
        ran,
        "the one before may still be ending"
    );
}

#[test]
fn a_worker_that_dies_costs_tasks_that_travel_together_the_one_that_had_started() {
    const TASKS: i32 = 1_000;
    const SLOW: i32 = 700;
    let gate = Gate::new();
    let pool = gated(&gate, 1);
    let (endless, handles) = submitted_behind(&pool, TASKS, SLOW);
    endless.cancel_running();
    gate.until_somebody_waits();
    for (number, handle) in (0..SLOW).zip(&handles) {
        assert_eq!(handle.result().unwrap(), square_of(number));
    }
    kill(pool.workers().last().unwrap().pid);
    for (number, handle) in (0..).zip(&handles) {
        match handle.result() {
            Ok(bytes) => assert_eq!((bytes, number == SLOW), (square_of(number), false)),
            Err(TaskError::WorkerLost(_)) => assert_eq!(number, SLOW),
            Err(other) => panic!("{number}: {other:?}"),
        }
        assert_eq!(handle.report().attempt, 1);
    }
}

#[test]
fn one_of_a_batch_is_stopped_while_it_runs_and_the_others_go_on() {
    let gate = Gate::new();
    let pool = gated(&gate, 1);
    let handles = together(&pool, 10, 4);
    eventually("the fifth to run", || handles[4].progress().is_some());
    handles[4].cancel_running();
    for (number, handle) in (0..).zip(&handles) {
        match handle.result() {
            Ok(bytes) => assert_eq!(bytes, square_of(number)),
            Err(TaskError::Cancelled(CancelReason::WhileRunning)) => assert_eq!(number, 4),
            Err(other) => panic!("{number}: {other:?}"),
        }
    }
}

#[test]
fn an_item_that_ends_has_its_own_report_and_what_it_emitted() {
    let pool = tasks().build().unwrap();
    let options = TaskOptions::default().label("mine");
    let map = pool.starmap::<Bytes, _, _>("square", items(30, -1)).options(options);
    let mut map = map.chunk_size(30);
    let mut ids = BTreeSet::new();
    for number in 0..30 {
        let (index, task) = map.next_task().unwrap();
        let task = task.unwrap();
        let report = task.report();
        assert_eq!((index, report.status), (number, Status::Completed));
        assert_eq!((report.label.as_deref(), report.attempt), (Some("mine"), 1));
        assert_eq!((report.worker.unwrap().0, report.target.as_str()), (1, "square"));
        assert!(report.memory_peak_bytes > 0 && report.lifetime >= report.wall_time);
        assert!(task.is_done() && !task.cancel());
        ids.insert(task.task_id());
    }
    assert_eq!(ids.len(), 30);
}

#[test]
fn items_that_the_pool_cancels_are_listed_with_what_they_were_called_with() {
    let gate = Gate::new();
    let pool = gated(&gate, 1);
    let mut map = pool.starmap::<Bytes, _, _>("square", items(20, 0)).chunk_size(10).submit_all();
    eventually("the first to run", || pool.count_busy_workers() == 1);
    pool.kill();
    let ends: Vec<_> = map.by_ref().collect();
    assert!(ends.iter().all(|end| matches!(end, Err(RunError::Task(TaskError::Cancelled(_))))));
    assert_eq!(ends.len(), 20);
    let listed = pool.cancelled_tasks();
    assert_eq!(listed.len(), 20);
    let again = tasks().build().unwrap();
    for (number, cancelled) in (0..).zip(listed).skip(1) {
        let bytes = again.run::<Bytes>("square", cancelled.arguments).unwrap();
        assert_eq!(bytes, square_of(number));
    }
}

#[test]
fn every_item_has_limits_of_its_own() {
    let limits = Limits::default().output_bytes(100);
    let pool = tasks().limits(limits).build().unwrap();
    let sizes =
        (0..60).map(|number| stockade::Bytes(vec![7; if number % 7 == 3 { 101 } else { 100 }]));
    let map = pool.starmap::<Bytes, _, _>("echo", sizes).chunk_size(60);
    for (number, result) in (0..60).zip(map) {
        match result {
            Ok(bytes) => assert_eq!((bytes.len(), number % 7 == 3), (100, false)),
            Err(RunError::Task(TaskError::Output { .. })) => assert_eq!(number % 7, 3),
            Err(other) => panic!("{number}: {other:?}"),
        }
    }
}

#[test]
fn a_pool_that_limits_pending_tasks_takes_batches_as_it_has_room() {
    for limit in [1, 3, 64] {
        let pool = numbers().max_workers(2).max_pending_tasks(limit).build().unwrap();
        let map = pool.starmap::<i32, _, _>("add", (0..2000).map(|i| (i, 1))).chunk_size(50);
        assert!(map.map(Result::unwrap).eq(1..=2000), "{limit}");
        let all = pool.starmap::<i32, _, _>("add", (0..2000).map(|i| (i, 1))).submit_all();
        assert!(all.map(Result::unwrap).eq(1..=2000), "{limit}");
        // Every permit is back.
        let handle = pool.submit::<i32>("add", (1, 1)).unwrap();
        assert_eq!(handle.result().unwrap(), 2);
        assert_eq!(pool.count_pending_tasks(), 0);
    }
}

#[test]
fn a_function_that_was_looked_up_does_what_its_name_does() {
    let pool = numbers().max_workers(2).build().unwrap();
    let add = pool.function::<i32>("add").unwrap();
    assert_eq!(add.run((1, 2)).unwrap(), 3);
    assert_eq!(add.submit((3, 4)).unwrap().result().unwrap(), 7);
    assert!(add.starmap((0..500).map(|i| (i, 1))).map(Result::unwrap).eq(1..=500));
    let same = pool.function::<i64>("same_i64").unwrap();
    assert!(same.map(0..500).map(Result::unwrap).eq(0..500));
    assert!(same.map_all(0..500).map(Result::unwrap).eq(0..500));
    let labelled = same.options(TaskOptions::default().label("mine")).unwrap();
    assert_eq!(labelled.submit((1,)).unwrap().label(), Some("mine"));
    assert!(pool.function::<i32>("ad").is_err());
    let loose = pool.limits().clone().output_bytes(u64::MAX);
    assert!(add.options(TaskOptions::default().limits(loose)).is_err());
    assert!(pool.shutdown());
}

#[test]
fn a_shared_instance_lasts_for_a_chunk_however_it_travels() {
    let pool = tasks().build().unwrap();
    // More than travel in one batch.
    let map = pool.starmap::<Bytes, _, _>("count", (0..3000).map(int)).chunk_size(1500);
    let counts =
        map.shared_instance().map(|count| i32::from_le_bytes(count.unwrap().try_into().unwrap()));
    assert!(counts.eq((1..=1500).chain(1..=1500)));
}

#[test]
fn a_map_that_is_dropped_cancels_nothing_of_another() {
    let gate = Gate::new();
    let pool = gated(&gate, 1);
    let _occupied = pool.submit::<Bytes>("square", two_ints(0, 0)).unwrap();
    gate.until_somebody_waits();
    // Older than the other map, behind it in the queue, and never at its end.
    let endless = pool.starmap::<Bytes, _, _>("spin", (0..3).map(int)).chunk_size(3).submit_all();
    let first = TaskOptions::default().priority(1);
    let other = pool.starmap::<Bytes, _, _>("square", items(10, -1)).chunk_size(10);
    let other = other.options(first).submit_all();
    gate.open();
    eventually("only two items wait", || pool.count_pending_tasks() == 2);
    // All of its items have ended, and none was given out.
    drop(other);
    assert_eq!(pool.workers().len(), 1, "the driver has heard of it");
    assert_eq!(pool.count_pending_tasks(), 2);
    pool.kill();
    let ends: Vec<_> = endless.collect();
    let is_shutdown = |end: &Result<Bytes, RunError>| {
        matches!(end, Err(RunError::Task(TaskError::Cancelled(CancelReason::Shutdown))))
    };
    assert!(ends.iter().all(is_shutdown), "{ends:?}");
}

#[test]
fn a_buffer_of_fewer_items_than_a_batch_would_have_loses_none() {
    let pool = numbers().max_workers(2).build().unwrap();
    let add = pool.function::<i32>("add").unwrap();
    // From now on it is known how quick it is.
    assert_eq!(add.starmap((0..1000).map(|i| (i, 1))).count(), 1000);
    for buffer in [1, 2, 7] {
        let map = add.starmap((0..500).map(|i| (i, 1))).buffer_size(buffer);
        assert!(map.map(Result::unwrap).eq(1..=500), "{buffer}");
    }
}

#[test]
fn a_map_whose_pool_closes_while_a_batch_is_gathered_ends_with_that_error() {
    for is_lazy in [true, false] {
        let pool = numbers().build().unwrap();
        let closing = pool.clone();
        let items = (0..10).map(move |number| {
            if number == 3 {
                closing.shutdown();
            }
            (number, 1)
        });
        let map = pool.starmap::<i32, _, _>("add", items).chunk_size(10).timeout(PATIENCE);
        let ends: Vec<_> = if is_lazy { map.collect() } else { map.submit_all().collect() };
        assert!(matches!(ends[..], [Err(RunError::Submit(SubmitError::Closed))]), "{ends:?}");
    }
}

#[test]
fn a_source_that_uses_the_pool_finds_room_there() {
    for limit in [1, 2, 8] {
        let pool = numbers().max_workers(2).max_pending_tasks(limit).build().unwrap();
        let source = || {
            let inner = pool.starmap::<i32, _, _>("add", (0..100).map(|i| (i, 1)));
            inner.timeout(PATIENCE).map(|sum| (sum.unwrap(), 1))
        };
        let lazy = pool.starmap::<i32, _, _>("add", source()).chunk_size(16).timeout(PATIENCE);
        assert!(lazy.map(Result::unwrap).eq(2..=101), "{limit}");
        let all = pool.starmap::<i32, _, _>("add", source()).chunk_size(16).submit_all();
        assert!(all.map(Result::unwrap).eq(2..=101), "{limit}");
        let together = pool.submit_together::<i32, _>("add", source());
        assert!(together.into_iter().map(|task| task.unwrap().result().unwrap()).eq(2..=101));
    }
}

#[test]
fn a_source_that_panics_costs_none_of_the_items_that_it_gave() {
    let pool = numbers().build().unwrap();
    let items = (0..10).map(|number| {
        assert!(number != 5, "the source panics once");
        (number, 1)
    });
    let map = pool.starmap::<i32, _, _>("add", items).chunk_size(10).timeout(PATIENCE);
    let mut map = map;
    assert!(catch_unwind(AssertUnwindSafe(|| map.next())).is_err());
    assert!(map.map(Result::unwrap).eq((1..=5).chain(7..=10)));
}

#[test]
fn an_item_that_is_rung_for_holds_back_no_result_after_it() {
    let pool = tasks().max_workers(1).build().unwrap();
    for _ in 0..20 {
        assert!(pool.run::<Bytes>("emit_bytes", int(0)).unwrap().is_empty());
        // The worker rings for the item. The result follows at once, and the next task has no end.
        let quick = pool.submit::<Bytes>("emit_bytes", int(1)).unwrap();
        let endless = pool.submit::<Bytes>("spin", int(0)).unwrap();
        // Nobody leads, who would look for it until then.
        eventually("the result to be heard", || quick.is_done());
        assert!(quick.result().is_ok());
        endless.cancel_running();
        assert!(endless.result().is_err());
    }
}

#[test]
fn a_shared_instance_is_also_that_of_items_that_travel_by_themselves() {
    let pool = tasks().build().unwrap();
    // Longer than what travels with others, the fourth and the ninth.
    let items =
        (0..10).map(|number| stockade::Bytes(vec![7; if number % 5 == 3 { 40_000 } else { 4 }]));
    let map = pool.starmap::<Bytes, _, _>("count", items).chunk_size(10).shared_instance();
    let counts = map.map(|count| i32::from_le_bytes(count.unwrap().try_into().unwrap()));
    assert!(counts.eq(1..=10));
}

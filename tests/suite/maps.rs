//! Maps: a function over many items, in order or not, lazily.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use stockade::{Json, Limits, Pool, RunError, SubmitError, TaskError};
use stockade_tests::{Gate, PATIENCE, eventually, guest_pool, int, numbers, tasks, two_ints};
use stockade_wire::BATCH_TASKS_MAX;

use serde_json::json;

fn two_workers() -> Pool {
    numbers().max_workers(2).build().unwrap()
}

#[test]
fn results_come_in_the_order_of_their_items() {
    let pool = two_workers();
    for chunk_size in [1, 2, 7, 64, 5000] {
        for buffer_size in [1, 2, 100] {
            let sums: Vec<i32> = pool
                .starmap("add", (0..1000).map(|i| (i, 1)))
                .chunk_size(chunk_size)
                .buffer_size(buffer_size)
                .collect::<Result<_, _>>()
                .unwrap();
            assert_eq!(sums, (1..=1000).collect::<Vec<_>>(), "{chunk_size} {buffer_size}");
        }
    }
}

#[test]
fn a_map_that_keeps_few_items_under_way_comes_to_its_end() {
    let pool = two_workers();
    // So that it is known how short they are.
    let known: Vec<i32> =
        pool.starmap("add", (0..500).map(|i| (i, 1))).map(Result::unwrap).collect();
    assert_eq!(known.len(), 500);
    let add = pool.function::<i32>("add").unwrap();
    for buffer_size in 1..=9 {
        let map = add.starmap((0..2000).map(|i| (i, 1))).buffer_size(buffer_size);
        assert!(map.map(Result::unwrap).eq(1..=2000), "{buffer_size}");
    }
}

#[test]
fn an_unordered_map_gives_every_result_once() {
    let pool = two_workers();
    for chunk_size in [1, 16] {
        let map = pool.starmap("add", (0..3000).map(|i| (i, 0))).chunk_size(chunk_size);
        let mut sums: Vec<i32> = map.unordered().collect::<Result<_, _>>().unwrap();
        sums.sort_unstable();
        assert_eq!(sums, (0..3000).collect::<Vec<_>>());
    }
}

#[test]
fn an_unordered_map_does_not_wait_for_a_slow_item() {
    let gate = Gate::new();
    let pool = tasks().grants(gate.grants()).max_workers(2).build().unwrap();
    // The first item waits at the gate, which opens only once all others have come.
    let mut map =
        pool.starmap::<Vec<u8>, _, _>("square", (0..100).map(|i| two_ints(i, 0))).unordered();
    let mut indices: Vec<_> = (0..99).map(|_| map.next_task().unwrap().0).collect();
    indices.sort_unstable();
    assert_eq!(indices, (1..100).collect::<Vec<_>>());
    gate.open();
    assert_eq!(map.next_task().unwrap().0, 0);
    assert!(map.next_task().is_none());
}

#[test]
fn a_map_takes_one_argument_and_a_starmap_several_of_any_kind() {
    let pool = guest_pool("wordcount").build().unwrap();
    let lines = ["to be", "or not", "to be that"];
    let counts: Vec<u64> = pool.map("word_count", lines).collect::<Result<_, _>>().unwrap();
    assert_eq!(counts, [2, 2, 3]);
    let named = lines.map(|line| Json::new().named("text", json!(line)));
    let counts: Vec<u64> = pool.starmap("word_count", named).collect::<Result<_, _>>().unwrap();
    assert_eq!(counts, [2, 2, 3]);
    let tuples = lines.map(|line| (line, 1_usize));
    let top: Vec<Vec<(String, u64)>> =
        pool.starmap("top_words", tuples).collect::<Result<_, _>>().unwrap();
    assert_eq!(top[0], [("be".to_string(), 1)]);
}

/// A caller's type that does not decode everything.
#[derive(Debug, PartialEq)]
struct NotFive(i32);

impl<'de> serde::Deserialize<'de> for NotFive {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i32::deserialize(deserializer)?;
        assert!(number != 5, "a caller's own panic");
        Ok(Self(number))
    }
}

#[test]
fn a_result_whose_type_panics_is_given_out_all_the_same() {
    let pool = two_workers();
    let mut map = pool.starmap::<NotFive, _, _>("add", (0..10).map(|i| (i, 0))).chunk_size(4);
    for number in 0..10 {
        let next = catch_unwind(AssertUnwindSafe(|| map.next()));
        match next {
            Ok(next) => assert_eq!(next.unwrap().unwrap(), NotFive(number)),
            Err(_) => assert_eq!(number, 5),
        }
    }
    assert!(map.next().is_none());
}

#[test]
fn no_items_give_no_results() {
    let pool = two_workers();
    assert_eq!(pool.map::<i32, i32, _>("same_i32", []).count(), 0);
    assert_eq!(pool.map::<i32, i32, _>("same_i32", []).unordered().chunk_size(9).count(), 0);
    assert_eq!(pool.count_workers(), 0);
}

#[test]
fn an_endless_source_is_drawn_from_only_as_results_are_taken() {
    let pool = two_workers();
    for unordered in [false, true] {
        for (chunk_size, buffer_size) in [(1, 1), (1, 10), (8, 3)] {
            let drawn = Cell::new(0);
            let source = (0..).inspect(|_| drawn.set(drawn.get() + 1)).map(|i: i32| (i, 0));
            let map = pool.starmap::<i32, _, _>("add", source);
            let map = map.chunk_size(chunk_size).buffer_size(buffer_size);
            let mut map = if unordered { map.unordered() } else { map };
            assert_eq!(drawn.get(), 0, "it began before it was asked");
            for taken in 1..=100 {
                map.next().unwrap().unwrap();
                let ahead = drawn.get() - taken;
                assert!(ahead < chunk_size * buffer_size, "{ahead} ahead");
            }
        }
    }
}

#[test]
fn what_a_map_has_under_way_by_itself_is_bounded_however_short_tasks_are() {
    let pool = two_workers();
    for unordered in [false, true] {
        let drawn = Cell::new(0);
        let source = (0..).inspect(|_| drawn.set(drawn.get() + 1)).map(|i: i32| (i, 0));
        let map = pool.starmap::<i32, _, _>("add", source);
        let mut map = if unordered { map.unordered() } else { map };
        for taken in 1..=3000 {
            map.next().unwrap().unwrap();
            let ahead = drawn.get() - taken;
            assert!(ahead <= 2 * 2 * BATCH_TASKS_MAX as usize, "{ahead} ahead");
        }
    }
}

#[test]
fn a_chunk_is_submitted_before_the_source_is_asked_for_the_next() {
    let pool = two_workers();
    let ended = || pool.workers().iter().map(|worker| worker.tasks_done).sum::<u64>();
    for chunk in [1, 3] {
        // So that it is known that they are short.
        let sums = pool.starmap::<i32, _, _>("add", (0..200).map(|i| (i, 0)));
        assert_eq!(sums.map(Result::unwrap).count(), 200);
        let before = ended();
        let source = (0..60).inspect(|i: &i32| {
            let whole = *i as usize / chunk * chunk;
            // What the source has next depends on the items before it.
            eventually("the chunks before it to end", || ended() >= before + whole as u64);
        });
        let sums = pool.starmap::<i32, _, _>("add", source.map(|i| (i, 1))).chunk_size(chunk);
        let sums: Vec<_> = sums.map(Result::unwrap).collect();
        assert_eq!(sums, (1..=60).collect::<Vec<_>>());
    }
}

#[test]
fn chunks_that_travelled_together_end_each_for_itself() {
    let pool = two_workers();
    for (chunk, unordered) in [(1, false), (1, true), (3, false), (3, true)] {
        let sums = pool.function::<i32>("add").unwrap().feed().chunk_size(chunk);
        let mut sums = if unordered { sums.unordered() } else { sums };
        let (mut pushed, mut got) = (0, Vec::new());
        while got.len() < 6_000 {
            while pushed < 6_000 && sums.push((pushed, 1)).is_ok() {
                pushed += 1;
            }
            sums.wait(None);
            got.extend(sums.ready().map(|(index, sum)| (index as i32, sum.unwrap())));
        }
        assert_eq!((sums.len(), sums.unfinished()), (0, 0));
        if unordered {
            got.sort_unstable();
        }
        assert!(got.iter().zip(0..).all(|(got, index)| *got == (index, index + 1)));
    }
}

#[test]
fn chunks_that_travel_together_are_cancelled_exactly() {
    let pool = two_workers();
    let mut sums = pool.function::<i32>("add").unwrap().feed().chunk_size(1);
    // So that it is known that they are short.
    for i in 0..200 {
        while sums.push((i, 0)).is_err() {
            sums.wait(None);
            assert!(sums.ready().all(|(_, sum)| sum.is_ok()));
        }
    }
    while sums.wait(None) {
        assert!(sums.ready().all(|(_, sum)| sum.is_ok()));
    }
    let first = sums.next_index();
    let mut pushed = 0;
    while pushed < 1_000 && sums.push((pushed, 0)).is_ok() {
        pushed += 1;
    }
    assert!(pushed >= 16, "there is room for {pushed}");
    let (from, to) = (first + pushed as usize / 2, first + pushed as usize * 3 / 4);
    sums.cancel(from..to);
    let mut ended = Vec::new();
    while sums.wait(None) {
        ended.extend(sums.ready());
    }
    assert_eq!(ended.len(), pushed as usize);
    for (index, sum) in ended {
        match sum {
            Ok(sum) => assert_eq!(sum as usize, index - first),
            Err(error) => {
                assert!((from..to).contains(&index), "{index}: {error}");
                assert!(matches!(error, RunError::Task(TaskError::Cancelled(_))), "{error}");
            }
        }
    }
    assert_eq!(sums.unfinished(), 0);
}

#[test]
fn a_result_that_is_ready_does_not_wait_for_all_that_a_slow_source_has() {
    let pool = two_workers();
    pool.run::<i32>("add", (1, 1)).unwrap();
    let drawn = Cell::new(0);
    let ended = || pool.workers().iter().map(|worker| worker.tasks_done).sum::<u64>();
    let source = (0..16).inspect(|_| {
        drawn.set(drawn.get() + 1);
        if drawn.get() == 2 {
            eventually("the first to end", || ended() == 2);
        }
        // Slow is what takes longer than a map fills at a time.
        std::thread::sleep(Duration::from_millis(2));
    });
    let mut map = pool.starmap::<i32, _, _>("add", source.map(|i| (i, 0)));
    assert_eq!(map.next().unwrap().unwrap(), 0);
    assert!(drawn.get() < 16, "the first came after all {}", drawn.get());
    assert_eq!(map.count(), 15);
}

#[test]
fn an_error_is_an_item_and_costs_no_other() {
    let pool = two_workers();
    for chunk_size in [1, 10] {
        let map = pool.starmap::<i32, _, _>("divide", (-50..50).map(|i| (100, i)));
        for (item, result) in (-50..50).zip(map.chunk_size(chunk_size)) {
            match result {
                Ok(quotient) => assert_eq!(quotient, 100 / item),
                Err(RunError::Task(TaskError::Trap { .. })) => assert_eq!(item, 0),
                Err(other) => panic!("{item}: {other:?}"),
            }
        }
    }
}

#[test]
fn an_item_that_cannot_be_submitted_is_an_error_in_its_place() {
    let pool = two_workers();
    let items = [json!(1), json!("two"), json!(3), json!(1_u64 << 40), json!(5)];
    let map = pool.map::<i64, _, _>("same_i32", items);
    let results: Vec<_> = map.chunk_size(2).collect();
    assert_eq!(results.len(), 5);
    for (index, expected) in [(0, 1), (2, 3), (4, 5)] {
        assert_eq!(*results[index].as_ref().unwrap(), expected);
    }
    for index in [1, 3] {
        let refused =
            matches!(results[index], Err(RunError::Submit(SubmitError::Signature { .. })));
        assert!(refused, "{:?}", results[index]);
    }
}

#[test]
fn an_item_at_its_deadline_costs_no_other() {
    let limits = Limits::default().wall_time(Duration::from_millis(300));
    let gate = Gate::new();
    let pool = tasks().limits(limits).grants(gate.grants()).build().unwrap();
    // Sleeping at its deadline, so that its worker might be tempted to go on by itself.
    for chunk_size in [1, 10, 100] {
        let items = (0..300).map(|i| two_ints(i, 112));
        let map = pool.starmap::<Vec<u8>, _, _>("square", items).chunk_size(chunk_size);
        for (number, result) in (0..300).zip(map) {
            match result {
                Ok(bytes) => assert_eq!(bytes, i32::to_le_bytes(number * number)),
                Err(RunError::Task(TaskError::Deadline { .. })) => assert_eq!(number, 112),
                Err(other) => panic!("{number}: {other:?}"),
            }
        }
    }
}

#[test]
fn settings_of_nothing_are_errors_and_end_the_map() {
    let pool = two_workers();
    let map = || pool.starmap::<i32, _, _>("add", [(1, 2), (3, 4)]);
    for (name, map) in [
        ("chunk_size", map().chunk_size(0)),
        ("buffer_size", map().buffer_size(0)),
        ("chunk_size", map().chunk_size(0).unordered()),
    ] {
        let results: Vec<_> = map.collect();
        assert_eq!(results.len(), 1);
        assert!(matches!(results[0], Err(RunError::MapSetting(told)) if told == name));
    }
    let all = map().chunk_size(usize::MAX).buffer_size(usize::MAX);
    assert_eq!(all.collect::<Result<Vec<_>, _>>().unwrap(), [3, 7]);
}

#[test]
fn a_map_that_is_out_of_time_ends_with_one_error() {
    let gate = Gate::new();
    let pool = tasks().grants(gate.grants()).build().unwrap();
    for unordered in [false, true] {
        let map = pool.starmap::<Vec<u8>, _, _>("square", (0..10).map(|i| two_ints(i, 3)));
        let map = map.timeout(Duration::from_millis(300));
        let map = if unordered { map.unordered() } else { map };
        let results: Vec<_> = map.collect();
        assert_eq!(results.len(), 4, "{unordered}");
        assert!(results[..3].iter().all(Result::is_ok));
        assert!(matches!(results[3], Err(RunError::MapTimeout(_))), "{:?}", results[3]);
        // What waited is cancelled; what runs goes on, and would hold up the next round.
        eventually("no pending task", || pool.count_pending_tasks() == 0);
        gate.open();
        eventually("no busy worker", || pool.count_busy_workers() == 0);
        std::fs::remove_file(gate.path().join("open")).unwrap();
    }
}

#[test]
fn a_maps_time_does_not_run_out_for_results_that_are_ready() {
    let pool = two_workers();
    let map = pool.starmap::<i32, _, _>("add", [(1, 2), (3, 4)]).timeout(PATIENCE);
    assert_eq!(map.count(), 2);
    let mut map = pool
        .starmap::<i32, _, _>("add", [(1, 2), (3, 4)])
        .timeout(Duration::from_secs(5))
        .buffer_size(2);
    let (_, first) = map.next_task().unwrap();
    assert_eq!(first.unwrap().result().unwrap(), 3);
    let forever = pool.starmap::<i32, _, _>("add", [(1, 2)]).timeout(Duration::MAX);
    assert_eq!(forever.collect::<Result<Vec<_>, _>>().unwrap(), [3]);
}

#[test]
fn a_dropped_map_cancels_what_it_has_queued() {
    let gate = Gate::new();
    let pool = tasks().grants(gate.grants()).build().unwrap();
    for unordered in [false, true] {
        let items = (0..1000).map(|i| two_ints(i, 1));
        let map = pool.starmap::<Vec<u8>, _, _>("square", items).buffer_size(500);
        let mut map = if unordered { map.unordered() } else { map };
        map.next().unwrap().unwrap();
        drop(map);
        eventually("only the running task", || pool.count_pending_tasks() == 0);
        gate.open();
        eventually("no task", || pool.count_busy_workers() == 0);
        std::fs::remove_file(gate.path().join("open")).unwrap();
    }
    assert_eq!(pool.run::<Vec<u8>>("echo", int(1)).unwrap(), 1_i32.to_le_bytes());
}

#[test]
fn a_map_over_a_closed_pool_is_one_error() {
    let pool = two_workers();
    assert!(pool.shutdown());
    let results: Vec<_> = pool.starmap::<i32, _, _>("add", (0..).map(|i| (i, 1))).collect();
    assert_eq!(results.len(), 1);
    assert!(matches!(results[0], Err(RunError::Submit(SubmitError::Closed))));
}

#[test]
fn a_pool_that_is_shut_down_in_the_middle_of_a_map_ends_the_map() {
    let pool = two_workers();
    for unordered in [false, true] {
        let pool = if unordered { numbers().build().unwrap() } else { two_workers() };
        let map = pool.starmap::<i32, _, _>("add", (0..).map(|i| (i, 1))).chunk_size(4);
        let map = if unordered { map.unordered() } else { map };
        let mut results = 0;
        std::thread::scope(|scope| {
            let mut ending = None;
            for result in map {
                results += 1;
                match result {
                    Ok(_)
                    | Err(RunError::Submit(SubmitError::Closed))
                    | Err(RunError::Task(TaskError::Cancelled(_))) => {}
                    Err(other) => panic!("{other:?}"),
                }
                if results == 100 {
                    ending = Some(scope.spawn(|| pool.shutdown()));
                }
            }
            assert!(ending.unwrap().join().unwrap());
        });
    }
    drop(pool);
}

#[test]
fn an_unknown_target_is_an_error_for_each_item() {
    let pool = two_workers();
    let results: Vec<_> = pool.map::<i32, _, _>("no_such_function", [1, 2]).collect();
    assert_eq!(results.len(), 2);
    for result in results {
        let unknown = matches!(result, Err(RunError::Submit(SubmitError::UnknownFunction { .. })));
        assert!(unknown);
    }
}

#[test]
fn several_maps_of_one_pool_run_side_by_side() {
    let pool = two_workers();
    let mut maps: Vec<_> = (0..4)
        .map(|offset| pool.starmap::<i32, _, _>("add", (0..500).map(move |i| (i, offset * 1000))))
        .collect();
    for expected in 0..500 {
        for (offset, map) in maps.iter_mut().enumerate() {
            assert_eq!(map.next().unwrap().unwrap(), expected + offset as i32 * 1000);
        }
    }
    assert!(maps.iter_mut().all(|map| map.next().is_none()));
}

#[test]
fn a_map_may_draw_from_a_map() {
    let pool = numbers().build().unwrap();
    let inner = pool.starmap::<i32, _, _>("add", (0..200).map(|i| (i, 1)));
    let outer = pool.map::<i32, _, _>("same_i32", inner.map(Result::unwrap));
    let results: Vec<_> = outer.collect::<Result<_, _>>().unwrap();
    assert_eq!(results, (1..=200).collect::<Vec<_>>());
}

#[test]
fn a_source_that_panics_hurts_only_its_map() {
    let pool = numbers().build().unwrap();
    let source = (0..).map(|i| if i < 50 { (i, 1) } else { panic!("the source is dry") });
    let map = pool.starmap::<i32, _, _>("add", source);
    let taken = catch_unwind(AssertUnwindSafe(|| map.count()));
    assert!(taken.is_err());
    assert_eq!(pool.run::<i32>("add", (1, 2)).unwrap(), 3);
}

//! Maps as streams, under an executor of our own and under tokio's.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_core::{FusedStream, Stream};
use stockade::{Bytes, Pool, RunError, SubmitError};
use stockade_tests::{Gate, PATIENCE, block_on, eventually, int, tasks, two_ints};

type Item = Result<Vec<u8>, RunError>;

type Boxed = Pin<Box<dyn FusedStream<Item = Item>>>;

fn on_tokio<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.unwrap().block_on(future)
}

/// Both executors.
fn everywhere<T>(mut act: impl FnMut(&dyn Fn(Pin<&mut dyn Future<Output = T>>) -> T)) {
    act(&|future| block_on(future));
    act(&|future| on_tokio(future));
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

async fn collect<S: Stream<Item = Item> + FusedStream + Unpin>(mut stream: S) -> Vec<Item> {
    let mut items = Vec::new();
    while let Some(item) = next(&mut stream).await {
        assert!(!stream.is_terminated());
        items.push(item);
    }
    assert!(stream.is_terminated());
    items
}

/// A lazy map as a stream, or an eager one.
#[derive(Clone, Copy, Debug)]
struct Kind {
    eager: bool,
    unordered: bool,
}

fn kinds() -> impl Iterator<Item = Kind> {
    [(false, false), (false, true), (true, false), (true, true)]
        .into_iter()
        .map(|(eager, unordered)| Kind { eager, unordered })
}

impl Kind {
    fn stream(self, pool: &Pool, items: &[Bytes], timeout: Duration) -> Boxed {
        let map = pool.starmap::<Vec<u8>, _, _>("square", items.to_vec()).timeout(timeout);
        let map = if self.unordered { map.unordered() } else { map };
        if self.eager {
            Box::pin(map.submit_all().into_stream())
        } else {
            Box::pin(map.into_stream())
        }
    }
}

fn number(item: &Item) -> i32 {
    i32::from_le_bytes(item.as_ref().unwrap()[..].try_into().unwrap())
}

#[test]
fn a_stream_gives_what_its_map_gives() {
    let pool = tasks().max_workers(2).build().unwrap();
    let items: Vec<_> = (0..300).map(|i| two_ints(i, -1)).collect();
    let begun = Instant::now();
    for kind in kinds() {
        for timeout in [PATIENCE, Duration::MAX] {
            everywhere(|run| {
                let stream = kind.stream(&pool, &items, timeout);
                let results = run(Box::pin(collect(stream)).as_mut());
                let mut squares: Vec<_> = results.iter().map(number).collect();
                if kind.unordered {
                    squares.sort_unstable();
                }
                assert_eq!(squares, (0..300).map(|i| i * i).collect::<Vec<_>>(), "{kind:?}");
            });
        }
    }
    // Our executor looks again after so long, also where it was not woken.
    assert!(begun.elapsed() < PATIENCE, "a wake-up was lost");
}

#[test]
fn a_stream_that_is_out_of_time_ends_with_one_error() {
    for kind in kinds() {
        everywhere(|run| {
            let gate = Gate::new();
            let pool = gate.tasks().build().unwrap();
            let items: Vec<_> = (0..6).map(|i| two_ints(i, 2)).collect();
            let begun = Instant::now();
            let stream = kind.stream(&pool, &items, Duration::from_millis(500));
            let results = run(Box::pin(collect(stream)).as_mut());
            assert!(begun.elapsed() < PATIENCE, "nobody was woken");
            let (last, given) = results.split_last().unwrap();
            let out_of_time = matches!(last, Err(RunError::MapTimeout(_)));
            assert!(out_of_time, "{kind:?}: {results:?}");
            // Those before the one at the gate, as far as there was time for them.
            assert!(given.len() <= 2, "{given:?}");
            assert!(given.iter().map(number).eq((0..).map(|i| i * i).take(given.len())));
            eventually("no pending task", || pool.count_pending_tasks() == 0);
            gate.open();
        });
    }
}

#[test]
fn a_stream_wakes_its_consumer_when_a_result_comes() {
    for kind in kinds() {
        everywhere(|run| {
            let gate = Gate::new();
            let pool = gate.tasks().build().unwrap();
            let begun = Instant::now();
            let stream = kind.stream(&pool, &[two_ints(3, 3)], Duration::MAX);
            let results = std::thread::scope(|scope| {
                scope.spawn(|| {
                    gate.until_somebody_waits();
                    gate.open();
                });
                run(Box::pin(collect(stream)).as_mut())
            });
            assert_eq!(results.iter().map(number).collect::<Vec<_>>(), [9], "{kind:?}");
            assert!(begun.elapsed() < PATIENCE, "nobody was woken");
        });
    }
}

#[test]
fn a_stream_waits_for_room_without_blocking_its_thread() {
    everywhere(|run| {
        let gate = Gate::new();
        let pool = gate.tasks().max_pending_tasks(1).build().unwrap();
        let _running = gate.occupy(&pool);
        let _pending = pool.submit::<Vec<u8>>("echo", int(1)).unwrap();
        let items = (0..20).map(|i| two_ints(i, -1));
        let mut stream = pool.starmap::<Vec<u8>, _, _>("square", items).into_stream();
        let begun = Instant::now();
        // A first look at a full pool gives nothing; the thread is free to open the gate.
        let mut looks = 0;
        let first = run(Box::pin(poll_fn(|context| {
            let polled =
                Pin::new(&mut stream).poll_next(context).map(|item| item.into_iter().collect());
            looks += 1;
            if looks == 1 {
                assert!(polled.is_pending());
                gate.open();
            }
            polled
        }))
        .as_mut());
        let rest: Vec<Item> = run(Box::pin(collect(stream)).as_mut());
        let squares: Vec<_> = first.iter().chain(&rest).map(number).collect();
        assert_eq!(squares, (0..20).map(|i| i * i).collect::<Vec<_>>());
        assert!(begun.elapsed() < PATIENCE, "nobody was woken");
    });
}

#[test]
fn a_stream_of_a_closed_pool_is_one_error() {
    let pool = tasks().build().unwrap();
    assert!(pool.shutdown());
    for kind in kinds() {
        let stream = kind.stream(&pool, &[two_ints(1, 0), two_ints(2, 0)], PATIENCE);
        let results = block_on(collect(stream));
        assert!(matches!(results[..], [Err(RunError::Submit(SubmitError::Closed))]), "{results:?}");
    }
}

#[test]
fn a_dropped_stream_cancels_what_it_has_queued() {
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    let _running = gate.occupy(&pool);
    let items: Vec<_> = (0..50).map(|i| two_ints(i, -1)).collect();
    let [mut lazy, eager] = [false, true]
        .map(|eager| Kind { eager, unordered: false }.stream(&pool, &items, Duration::MAX));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(lazy.as_mut().poll_next(&mut context).is_pending());
    eventually("tasks of both", || pool.count_pending_tasks() > 50);
    drop((lazy, eager));
    eventually("no pending task", || pool.count_pending_tasks() == 0);
    gate.open();
}

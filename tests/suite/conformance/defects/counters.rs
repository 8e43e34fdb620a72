//! Defects about queries and calls while tasks run.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use stockade::Pool;
use stockade_tests::{Gate, PATIENCE, eventually, int};

use super::comes_back;

#[test]
fn d07_run_serialises_nobody_and_counters_answer() {
    let gate = Gate::new();
    let pool = gate.tasks().max_workers(2).build().unwrap();
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let pool = pool.clone();
            std::thread::spawn(move || pool.run::<Vec<u8>>("wait", int(0)).unwrap())
        })
        .collect();
    // Two run at once, and whoever asks while they do is answered.
    eventually("two runs at once", || pool.count_busy_workers() == 2);
    eventually("two behind them", || pool.count_pending_tasks() == 2);
    let asked: fn(&Pool) -> [usize; 4] = |pool| {
        [
            pool.count_workers(),
            pool.count_busy_workers(),
            pool.count_free_workers(),
            pool.count_pending_tasks(),
        ]
    };
    let caller = pool.clone();
    assert_eq!(comes_back("the counters", move || asked(&caller)), [2, 2, 0, 2]);
    let caller = pool.clone();
    assert_eq!(comes_back("no more workers", move || caller.spawn_max_workers()).unwrap(), 0);
    assert!(runs.iter().all(|run| !run.is_finished()));
    gate.open();
    for run in runs {
        assert_eq!(run.join().unwrap(), 1_i32.to_le_bytes());
    }
    eventually("no task", || asked(&pool)[1] + asked(&pool)[3] == 0);
}

#[test]
fn d09_pending_and_running_durations_are_each_their_own() {
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    let submitted = Instant::now();
    let running = gate.occupy(&pool);
    let until_it_ran = submitted.elapsed();
    let pending = pool.submit::<Vec<u8>>("echo", int(1)).unwrap();
    let enough = until_it_ran + Duration::from_millis(5);
    eventually("a while", || running.duration().running > enough);
    assert!(running.duration().pending <= until_it_ran, "the part before its start stands still");
    assert!(pending.duration().pending > Duration::ZERO);
    assert_eq!(pending.duration().running, Duration::ZERO);
    gate.open();
    running.result().unwrap();
    pending.result().unwrap();
    let (first, second) = (running.duration(), pending.duration());
    assert!(first.pending <= until_it_ran, "{first:?}, {until_it_ran:?}");
    assert!(first.running > first.pending, "{first:?}");
    // The second waited for the first, and what it waited is not what it ran.
    assert!(second.pending > Duration::from_millis(5), "{second:?}");
    assert!(second.pending + second.running <= submitted.elapsed(), "{second:?}");
    assert_eq!(running.duration(), first, "after its end nothing grows");
}

#[test]
fn d12_a_callback_that_blocks_or_panics_stops_nothing() {
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    let (release, blocked) = mpsc::channel::<()>();
    let blocking = gate.occupy(&pool);
    blocking.on_done(move |_| blocked.recv().unwrap_or_default());
    let panicking = pool.submit::<Vec<u8>>("echo", int(1)).unwrap();
    let (said, heard) = mpsc::channel();
    panicking.on_done(|_| panic!("on purpose"));
    let after = said.clone();
    panicking.on_done(move |task| after.send(task.task_id().0).unwrap());
    let others: Vec<_> = (0..20).map(|i| pool.submit::<Vec<u8>>("echo", int(i)).unwrap()).collect();
    for other in &others {
        let said = said.clone();
        other.on_done(move |task| said.send(task.task_id().0).unwrap());
    }
    gate.open();
    for (number, other) in others.iter().enumerate() {
        assert_eq!(other.result().unwrap(), (number as i32).to_le_bytes());
    }
    let mut called: Vec<_> =
        (0..21).map(|_| heard.recv_timeout(PATIENCE).expect("a callback was not run")).collect();
    called.sort_unstable();
    assert_eq!(called, (2..=22).collect::<Vec<_>>());
    // The pool works while the first still blocks, and ends once it does not.
    assert_eq!(pool.run::<Vec<u8>>("echo", int(7)).unwrap(), 7_i32.to_le_bytes());
    drop(release);
    let caller = pool.clone();
    assert!(comes_back("the shutdown", move || caller.shutdown()));
}

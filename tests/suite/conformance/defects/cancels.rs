//! Defects about cancels.

use std::sync::Barrier;

use stockade::{Bytes, CancelReason, Pool, TaskError, TaskHandle};
use stockade_tests::{Gate, int, two_ints, until_running};

/// Submits tasks that leave traces as one chunk, which travels to one worker as far as it can.
fn submit_chunk(pool: &Pool, items: impl Iterator<Item = Bytes>) -> Vec<TaskHandle<Vec<u8>>> {
    pool.submit_together("trace", items).into_iter().map(Result::unwrap).collect()
}

#[test]
fn d17_cancel_takes_back_what_was_handed_out() {
    const TASKS: usize = 200;
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    // The chunk is whole before a worker is free to take it.
    let spinning = pool.submit::<()>("spin", int(0)).unwrap();
    until_running(&spinning);
    let handles = submit_chunk(&pool, (0..TASKS as i32).map(|i| two_ints(i, 0)));
    spinning.cancel_running();
    until_running(&handles[0]);
    assert!(!handles[0].cancel(), "it runs");
    for handle in &handles[1..] {
        assert!(handle.cancel());
        assert!(handle.is_cancelled() && handle.cancel());
        let error = handle.result().unwrap_err();
        assert!(matches!(error, TaskError::Cancelled(CancelReason::Asked)), "{error:?}");
    }
    gate.open();
    assert_eq!(handles[0].result().unwrap(), 0_i32.to_le_bytes());
    // The worker goes on and nothing of the chunk is left in it.
    let after = pool.submit::<Vec<u8>>("trace", two_ints(9999, -1)).unwrap();
    after.result().unwrap();
    assert_eq!(after.report().worker, handles[0].report().worker);
    assert_eq!(gate.traces(), ["0000", "9999"]);
    assert_eq!(pool.workers().last().unwrap().tasks_done, 2, "the one before may still be ending");
}

#[test]
fn d17_cancels_that_race_with_starts_say_the_truth() {
    const CHUNKS: usize = 60;
    const CHUNK: usize = 50;
    const THREADS: usize = 3;
    let gate = Gate::new();
    gate.open();
    let pool = gate.tasks().max_workers(2).build().unwrap();
    pool.spawn_max_workers().unwrap();
    let handles: Vec<_> = (0..CHUNKS)
        .flat_map(|chunk| {
            let first = (chunk * CHUNK) as i32;
            submit_chunk(&pool, (first..first + CHUNK as i32).map(|i| two_ints(i, -1)))
        })
        .collect();
    let barrier = Barrier::new(THREADS);
    // Each thread asks for tasks of its own, one for everybody's, and every fourth is left alone. It
    // asks when the task before has just started, so at the moment at which this one is about to.
    let cancel = |thread: usize| {
        barrier.wait();
        let mine = (1..handles.len()).filter(|number| [0, thread + 1].contains(&(number % 5)));
        let asked = mine.map(|number| {
            while handles[number - 1].is_pending() {
                std::thread::yield_now();
            }
            (number, handles[number].cancel())
        });
        asked.collect::<Vec<_>>()
    };
    let answers: Vec<_> = std::thread::scope(|scope| {
        let cancel = &cancel;
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || cancel(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let ran: Vec<_> = handles.iter().map(|handle| handle.result().is_ok()).collect();
    let traces = gate.traces();
    let mut cancelled = 0;
    for (number, handle) in handles.iter().enumerate() {
        let left_a_trace = traces.binary_search(&format!("{number:04}")).is_ok();
        assert_eq!(ran[number], left_a_trace, "task {number}: {:?}", handle.status());
        assert_eq!(ran[number], handle.is_completed());
        cancelled += usize::from(!left_a_trace);
    }
    for (number, taken_back) in answers.into_iter().flatten() {
        assert_eq!(taken_back, !ran[number], "task {number}");
    }
    assert!(cancelled > 0, "no cancel was in time, so nothing was tested");
    assert_eq!(traces.len() + cancelled, CHUNKS * CHUNK);
    assert!(pool.check().is_ok());
}

//! What a caller may ask for one task: priority, retries, tighter limits, a label.

use std::cmp::Reverse;
use std::time::Duration;

use stockade::{
    Limits, Pool, RunError, SubmitError, TaskError, TaskFilter, TaskOptions, WorkerState,
};
use stockade_tests::{Gate, eventually, int, kill, numbers, tasks, two_ints};

fn options() -> TaskOptions {
    TaskOptions::default()
}

#[test]
fn higher_priorities_start_first_and_one_priority_in_its_own_order() {
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    let running = gate.occupy(&pool);
    let priorities = [0, 5, -3, 5, i32::MIN, 0, i32::MAX, -3, 5, 0];
    let mut filter = TaskFilter::new();
    for priority in priorities {
        let options = options().priority(priority);
        filter.put(pool.submit_with::<Vec<u8>>("echo", int(priority), options).unwrap());
    }
    assert!(running.is_running(), "whatever its priority, it is left alone");
    gate.open();
    // One worker, so tasks end in the order in which they start. The first id is the gate's.
    let order: Vec<_> = filter.get_all(None).map(|task| task.unwrap().task_id().0).collect();
    let mut expected: Vec<_> = (2..).zip(priorities).map(|(id, p)| (Reverse(p), id)).collect();
    expected.sort_unstable();
    assert_eq!(order, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
}

#[test]
fn a_task_waits_for_as_long_as_one_of_a_higher_priority_does() {
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    let _running = gate.occupy(&pool);
    let low = pool.submit_with::<Vec<u8>>("echo", int(0), options().priority(-1)).unwrap();
    let map = pool.starmap::<Vec<u8>, _, _>("square", (0..500).map(|i| two_ints(i, -1)));
    let high = map.chunk_size(16).options(options().priority(1)).submit_all();
    gate.open();
    assert_eq!(high.filter(Result::is_ok).count(), 500);
    low.result().unwrap();
    // It started only when all others had ended.
    assert_eq!(pool.workers()[0].tasks_done, 502);
    let report = low.report();
    assert_eq!((report.attempt, report.task.0), (1, 2));
}

/// Kills the worker that runs the pool's only task, each time the task has started again.
fn kill_again_and_again(gate: &Gate, pool: &Pool, times: usize) {
    for starts in 1..=times {
        eventually("the task to start", || gate.traces().len() == starts);
        kill(pool.workers()[0].pid);
    }
}

#[test]
fn a_task_with_retries_outlives_as_many_workers() {
    for kills in [1, 3] {
        let gate = Gate::new();
        let pool = gate.tasks().build().unwrap();
        let options = options().retries(kills as u32);
        let handle = pool.submit_with::<Vec<u8>>("try", int(0), options).unwrap();
        kill_again_and_again(&gate, &pool, kills);
        eventually("the last start", || gate.traces().len() == kills + 1);
        gate.open();
        assert_eq!(handle.result().unwrap(), 1_i32.to_le_bytes());
        let report = handle.report();
        assert_eq!(report.attempt as usize, kills + 1);
        assert_eq!(report.worker.map(|id| id.0 as usize), Some(kills + 1));
        assert_eq!(gate.traces().len(), kills + 1);
    }
}

#[test]
fn a_task_without_enough_retries_is_lost_with_its_last_worker() {
    for kills in [1, 3] {
        let gate = Gate::new();
        let pool = gate.tasks().build().unwrap();
        let options = options().retries(kills as u32 - 1);
        let handle = pool.submit_with::<Vec<u8>>("try", int(0), options).unwrap();
        kill_again_and_again(&gate, &pool, kills);
        assert!(matches!(handle.result(), Err(TaskError::WorkerLost(_))), "{handle:?}");
        assert_eq!(handle.report().attempt as usize, kills);
        pool.run::<Vec<u8>>("echo", int(1)).unwrap();
        assert_eq!(gate.traces().len(), kills, "it was started again");
    }
}

#[test]
fn a_task_that_fails_by_itself_is_not_tried_again() {
    let limits = Limits::default().wall_time(Duration::from_millis(200));
    let pool = tasks().limits(limits).build().unwrap();
    for target in ["trap", "fail", "spin"] {
        let handle = pool.submit_with::<()>(target, int(0), options().retries(5)).unwrap();
        assert!(handle.result().is_err());
        assert_eq!(handle.report().attempt, 1, "{target}");
    }
}

#[test]
fn a_task_that_waits_for_its_retry_can_be_cancelled() {
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    let handle = pool.submit_with::<()>("try", int(0), options().retries(9)).unwrap();
    kill_again_and_again(&gate, &pool, 1);
    eventually("the second start", || gate.traces().len() == 2);
    handle.cancel_running();
    assert!(matches!(handle.result(), Err(TaskError::Cancelled(_))));
    pool.run::<Vec<u8>>("echo", int(1)).unwrap();
    assert_eq!(gate.traces().len(), 2);
}

#[test]
fn tighter_limits_hold_for_their_task_and_no_other() {
    let pool = tasks().build().unwrap();
    let submit = |bytes: i32, limits: Limits| {
        let options = options().limits(limits);
        pool.submit_with::<Vec<u8>>("write_at_once", int(bytes), options).unwrap()
    };
    let small = || pool.limits().clone().output_bytes(1000);
    let handles =
        [submit(1000, small()), submit(1001, small()), submit(1001, pool.limits().clone())];
    assert_eq!(handles[0].result().unwrap().len(), 1000);
    let error = handles[1].result().unwrap_err();
    assert!(matches!(error, TaskError::Output { limit: 1000 }), "{error:?}");
    assert_eq!(handles[2].result().unwrap().len(), 1001);

    let short = Duration::from_millis(100);
    let options = options().limits(pool.limits().clone().wall_time(short));
    let endless = pool.submit_with::<()>("spin", int(0), options).unwrap();
    let error = endless.result().unwrap_err();
    assert!(matches!(error, TaskError::Deadline { limit, .. } if limit == short), "{error:?}");

    let pool = numbers().limits(Limits::default().fuel(1_000_000)).build().unwrap();
    let count = |fuel: u64| {
        let options = TaskOptions::default().limits(pool.limits().clone().fuel(fuel));
        pool.submit_with::<()>("count_down", (10_000_i64,), options).unwrap().result()
    };
    assert!(matches!(count(5_000), Err(TaskError::Fuel { limit: 5_000 })));
    count(1_000_000).unwrap();

    let grow = |pages: u64, by: i32| {
        let options =
            TaskOptions::default().limits(pool.limits().clone().memory_bytes(pages << 16));
        pool.submit_with::<i32>("grow", (by,), options).unwrap().result().unwrap()
    };
    assert_eq!((grow(4, 3), grow(4, 4)), (1, -1));
}

#[test]
fn looser_limits_are_refused_by_name() {
    let pool_limits = Limits::default().fuel(1000).wall_time(Duration::from_secs(5));
    let pool = numbers().limits(pool_limits).build().unwrap();
    let limits = || pool.limits().clone();
    let (memory, output, stdio) =
        (limits().memory_bytes, limits().output_bytes, limits().stdio_bytes);
    for (name, looser) in [
        ("memory_bytes", limits().memory_bytes(memory + 1)),
        ("output_bytes", limits().output_bytes(output + 1)),
        ("stdio_bytes", limits().stdio_bytes(stdio + 1)),
        ("fuel", limits().fuel(1001)),
        ("fuel", limits().fuel(None)),
        ("wall_time", limits().wall_time(Duration::from_secs(6))),
        ("wall_time", limits().wall_time(None)),
        ("interruptible", limits().interruptible(true)),
    ] {
        let refused = pool.submit_with::<i32>("add", (1, 2), options().limits(looser.clone()));
        let Err(SubmitError::Limits { limit, .. }) = refused else { panic!("{name}: {refused:?}") };
        assert_eq!(limit, name);
        let map = pool.starmap::<i32, _, _>("add", [(1, 2)]).options(options().limits(looser));
        let refused: Vec<_> = map.collect();
        let named = |error: &RunError| error.to_string().contains(name);
        assert!(refused.len() == 1 && refused[0].as_ref().is_err_and(named), "{refused:?}");
    }
    let same = options().limits(limits());
    assert_eq!(pool.submit_with::<i32>("add", (1, 2), same).unwrap().result().unwrap(), 3);
    assert_eq!(pool.workers()[0].tasks_done, 1, "what was refused went to nobody");
}

#[test]
fn a_label_is_told_by_handle_report_and_list() {
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    let running = pool.submit_with::<Vec<u8>>("wait", int(0), options().label("the first"));
    let running = running.unwrap();
    stockade_tests::until_running(&running);
    let pending = pool.submit_with::<()>("echo", int(0), options().label("the second")).unwrap();
    let bare = pool.submit::<()>("echo", int(0)).unwrap();
    assert_eq!((running.label(), pending.label()), (Some("the first"), Some("the second")));
    assert_eq!(bare.label(), None);
    pool.kill();
    assert_eq!(running.report().label.as_deref(), Some("the first"));
    assert_eq!(pending.report().label.as_deref(), Some("the second"));
    let cancelled = pool.cancelled_tasks();
    let labels: Vec<_> = cancelled.iter().map(|task| task.label.as_deref()).collect();
    assert_eq!(labels, [Some("the first"), Some("the second"), None]);
}

#[test]
fn items_of_a_lost_attempt_are_not_those_of_the_next() {
    let gate = Gate::new();
    let pool = gate.tasks().max_workers(2).build().unwrap();
    // An idle worker takes the task over at once.
    pool.spawn_workers(2).unwrap();
    eventually("two idle workers", || pool.count_free_workers() == 2);
    let handle = pool.submit_with::<()>("emit_around_gate", int(0), options().retries(1)).unwrap();
    gate.until_somebody_waits();
    let busy = || pool.workers().into_iter().find(|worker| worker.state == WorkerState::Busy);
    let first = busy().expect("one has the task").pid;
    kill(first);
    eventually("the next attempt", || busy().is_some_and(|worker| worker.pid != first));
    gate.open();
    assert_eq!(handle.emitted::<stockade::Bytes>().count(), 2);
}

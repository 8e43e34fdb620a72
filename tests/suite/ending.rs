//! The end of a pool, at every awkward moment: it comes, once, and leaves nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Serialize, Serializer};
use stockade::{CancelReason, Limits, Pool, RunError, Status, SubmitError, TaskError, TaskHandle};
use stockade_tests::{
    Gate, PATIENCE, eventually, int, is_gone, numbers, processes_named, tasks, threads_named,
    until_running,
};

const SHORT: Duration = Duration::from_millis(200);

/// Nothing of the pool is left: no process, no zombie, no thread.
#[track_caller]
fn assert_ended(pool: &Pool, pids: &[u32]) {
    assert!(pool.is_closed() && pool.is_terminated());
    assert_eq!((pool.count_workers(), pool.count_pending_tasks()), (0, 0));
    assert!(pool.workers().is_empty());
    assert_nothing_left(pool.name(), pids);
    assert!(matches!(pool.check(), Err(SubmitError::Closed)));
}

#[track_caller]
fn assert_nothing_left(name: &str, pids: &[u32]) {
    assert!(processes_named(name).is_empty(), "a process is left");
    assert!(pids.iter().all(|pid| is_gone(*pid)), "a zombie is left");
    // Threads that were joined or have told their end may take a moment to be gone.
    eventually("no thread", || threads_named(name) == 0);
}

fn pids(pool: &Pool) -> Vec<u32> {
    pool.workers().iter().map(|worker| worker.pid).collect()
}

/// A pool without wall times, with two endless tasks that run and some that wait.
fn endless(grace_period: Duration) -> (Pool, Vec<TaskHandle<()>>) {
    let builder = tasks().max_workers(2).limits(Limits::default().wall_time(None));
    let pool = builder.shutdown_grace_period(grace_period).build().unwrap();
    let handles: Vec<_> = (0..2).map(|_| pool.submit::<()>("spin", int(0)).unwrap()).collect();
    handles.iter().for_each(until_running);
    let waiting = (0..5).map(|_| pool.submit::<()>("spin", int(0)).unwrap());
    let handles = handles.into_iter().chain(waiting.collect::<Vec<_>>()).collect();
    (pool, handles)
}

#[track_caller]
fn assert_cancelled<T: stockade::TaskResult + std::fmt::Debug>(handle: &TaskHandle<T>) {
    let error = handle.result().unwrap_err();
    let shut_down = matches!(error, TaskError::Cancelled(CancelReason::Shutdown));
    assert!(shut_down, "{error:?}");
    assert_eq!(handle.status(), Status::Cancelled);
}

#[test]
fn a_pool_that_did_nothing_ends_at_once() {
    let pool = numbers().build().unwrap();
    assert!(!pool.is_closed() && !pool.is_terminated());
    assert!(pool.shutdown());
    assert_ended(&pool, &[]);
}

#[test]
fn every_way_to_end_an_idle_pool_leaves_nothing() {
    type End = fn(&Pool) -> bool;
    let ends: [End; 4] =
        [Pool::shutdown, |pool| pool.shutdown_timeout(PATIENCE), Pool::drain, Pool::kill];
    for end in ends {
        let pool = numbers().max_workers(2).build().unwrap();
        pool.spawn_workers(2).unwrap();
        eventually("two idle workers", || pool.count_free_workers() == 2);
        let pids = pids(&pool);
        assert!(end(&pool));
        assert_ended(&pool, &pids);
    }
}

#[test]
fn only_the_first_end_counts_and_every_later_one_is_at_once() {
    let pool = numbers().build().unwrap();
    pool.run::<()>("nothing", ()).unwrap();
    assert!(pool.shutdown());
    assert!(!pool.shutdown());
    assert!(!pool.drain());
    assert!(!pool.kill());
    assert!(!pool.shutdown_timeout(Duration::ZERO));
    pool.join(None).unwrap();
    assert_ended(&pool, &[]);
}

#[test]
fn a_pool_can_be_ended_while_its_workers_start() {
    for kill in [false, true] {
        for _ in 0..5 {
            let pool = numbers().max_workers(2).build().unwrap();
            let handles: Vec<_> =
                (0..3).map(|i| pool.submit::<i32>("add", (i, 1)).unwrap()).collect();
            assert!(if kill { pool.kill() } else { pool.shutdown() });
            for (number, handle) in handles.iter().enumerate() {
                match handle.result() {
                    Ok(sum) => assert_eq!(sum, number as i32 + 1),
                    Err(_) => assert_cancelled(handle),
                }
            }
            assert_ended(&pool, &[]);
        }
    }
}

#[test]
fn a_shutdown_cancels_what_waits_and_lets_finish_what_runs() {
    let gate = Gate::new();
    let pool = tasks().grants(gate.grants()).build().unwrap();
    let running = pool.submit::<Vec<u8>>("wait", int(0)).unwrap();
    let waiting: Vec<_> =
        (0..300).map(|_| pool.submit::<Vec<u8>>("echo", int(1)).unwrap()).collect();
    until_running(&running);
    let pids = pids(&pool);
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| pool.shutdown());
        waiting.iter().for_each(assert_cancelled);
        assert!(pool.is_closed() && !pool.is_terminated());
        assert_eq!(running.status(), Status::Running);
        assert!(matches!(pool.submit::<()>("echo", int(1)), Err(SubmitError::Closed)));
        gate.open();
        assert!(ending.join().unwrap());
    });
    assert_eq!(running.result().unwrap(), 1_i32.to_le_bytes());
    assert_ended(&pool, &pids);
}

#[test]
fn a_drain_finishes_everything_first() {
    let gate = Gate::new();
    let pool = tasks().grants(gate.grants()).build().unwrap();
    let running = pool.submit::<Vec<u8>>("wait", int(0)).unwrap();
    let waiting: Vec<_> =
        (0..300).map(|i| pool.submit::<Vec<u8>>("echo", int(i)).unwrap()).collect();
    until_running(&running);
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| pool.drain());
        eventually("the pool to be closed", || pool.is_closed());
        assert!(matches!(pool.submit::<()>("echo", int(1)), Err(SubmitError::Closed)));
        gate.open();
        assert!(ending.join().unwrap());
    });
    running.result().unwrap();
    for (number, handle) in waiting.iter().enumerate() {
        assert_eq!(handle.result().unwrap(), (number as i32).to_le_bytes());
    }
    assert_ended(&pool, &[]);
}

#[test]
fn a_drain_that_takes_too_long_can_be_cut_short() {
    let (pool, handles) = endless(PATIENCE);
    std::thread::scope(|scope| {
        let draining = scope.spawn(|| pool.drain());
        eventually("the pool to be closed", || pool.is_closed());
        assert!(!pool.kill());
        assert!(draining.join().unwrap());
    });
    handles.iter().for_each(|handle| assert!(handle.result().is_err()));
    assert_ended(&pool, &[]);
}

#[test]
fn a_shutdown_with_endless_tasks_ends_after_its_grace_period() {
    let (pool, handles) = endless(SHORT);
    let pids = pids(&pool);
    assert!(pool.shutdown());
    handles.iter().for_each(assert_cancelled);
    assert_ended(&pool, &pids);
}

#[test]
fn a_shutdown_with_a_timeout_ends_endless_tasks_after_it() {
    for timeout in [Duration::ZERO, SHORT] {
        let (pool, handles) = endless(PATIENCE);
        let pids = pids(&pool);
        assert!(pool.shutdown_timeout(timeout));
        handles.iter().for_each(assert_cancelled);
        assert_ended(&pool, &pids);
    }
}

#[test]
fn a_kill_ends_everything_now() {
    let (pool, handles) = endless(PATIENCE);
    let pids = pids(&pool);
    assert!(pool.kill());
    handles.iter().for_each(assert_cancelled);
    assert_ended(&pool, &pids);
}

#[test]
fn a_dropped_pool_with_endless_tasks_leaves_nothing_and_its_handles_know() {
    let (pool, handles) = endless(SHORT);
    let (name, pids) = (pool.name().to_string(), pids(&pool));
    drop(pool);
    handles.iter().for_each(assert_cancelled);
    assert_nothing_left(&name, &pids);
    // Whatever is asked of a handle whose pool is gone has an answer.
    let handle = &handles[0];
    assert!(handle.cancel() && handle.is_done());
    handle.cancel_running();
    assert_eq!(handle.report().status, Status::Cancelled);
    assert_eq!(handle.emitted::<u8>().count(), 0);
}

#[test]
fn results_outlive_the_pool() {
    let pool = numbers().build().unwrap();
    let handle = pool.submit::<i32>("add", (1, 2)).unwrap();
    handle.wait(PATIENCE);
    drop(pool);
    assert_eq!(handle.result().unwrap(), 3);
    assert_eq!(handle.report().status, Status::Completed);
}

#[test]
fn many_ends_at_once_agree() {
    let (pool, handles) = endless(SHORT);
    let firsts = std::thread::scope(|scope| {
        let ends: Vec<_> = (0..8)
            .map(|i| {
                let pool = &pool;
                scope.spawn(move || if i % 2 == 0 { pool.shutdown() } else { pool.drain() })
            })
            .collect();
        ends.into_iter().map(|end| end.join().unwrap()).filter(|first| *first).count()
    });
    assert_eq!(firsts, 1);
    handles.iter().for_each(|handle| assert!(handle.is_done()));
    assert_ended(&pool, &[]);
}

#[test]
fn a_pool_that_is_shut_down_while_others_submit_loses_no_answer() {
    let pool = numbers().max_workers(2).build().unwrap();
    let closed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|caller| {
                let (pool, closed) = (&pool, &closed);
                scope.spawn(move || {
                    let mut handles = Vec::new();
                    for number in 0.. {
                        match pool.submit::<i32>("add", (number, caller)) {
                            Ok(handle) => handles.push(handle),
                            Err(SubmitError::Closed) => break,
                            Err(other) => panic!("{other:?}"),
                        }
                        if handles.len() > 200 {
                            closed.store(true, Ordering::Release);
                        }
                    }
                    let mut cancelled = Vec::new();
                    for (number, handle) in handles.iter().enumerate() {
                        match handle.result() {
                            Ok(sum) => assert_eq!(sum, number as i32 + caller),
                            Err(TaskError::Cancelled(CancelReason::Shutdown)) => {
                                cancelled.push(handle.task_id());
                            }
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                    cancelled
                })
            })
            .collect();
        eventually("enough tasks", || closed.load(Ordering::Acquire));
        assert!(pool.shutdown());
        let mut cancelled: Vec<_> =
            callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
        cancelled.sort();
        // Each submission was refused, or its task is in the list, or it has its result.
        let listed: Vec<_> = pool.cancelled_tasks().into_iter().map(|task| task.id).collect();
        assert_eq!(listed, cancelled);
    });
    assert_ended(&pool, &[]);
}

#[test]
fn a_closed_pool_refuses_everything_with_the_same_error() {
    let pool = numbers().build().unwrap();
    assert!(pool.shutdown());
    let closed = |error: SubmitError| matches!(error, SubmitError::Closed);
    assert!(closed(pool.check().unwrap_err()));
    assert!(closed(pool.submit::<i32>("add", (1, 2)).unwrap_err()));
    assert!(closed(pool.submit::<i32>("no_such_function", ()).unwrap_err()));
    assert!(closed(pool.submit_command(stockade::Command::new("p")).unwrap_err()));
    assert!(closed(pool.spawn_workers(1).unwrap_err()));
    assert!(closed(pool.set_idle_timeout(None).unwrap_err()));
    let run = pool.run::<i32>("add", (1, 2));
    assert!(matches!(run, Err(RunError::Submit(SubmitError::Closed))));
}

/// A number that shuts its pool down as it is encoded: after the pool was asked whether it is open, and
/// before the task is handed to it.
struct Closing<'a>(&'a Pool);

impl Serialize for Closing<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.shutdown();
        serializer.serialize_i32(1)
    }
}

#[test]
fn a_submission_that_is_refused_is_not_among_what_the_pool_cancelled() {
    type Submit = fn(&Pool) -> Vec<Result<i32, RunError>>;
    let ways: [Submit; 5] = [
        |pool| vec![pool.run("add", (Closing(pool), 1))],
        |pool| {
            let options = stockade::TaskOptions::default().priority(1);
            let submitted = pool.submit_with::<i32>("add", (Closing(pool), 1), options);
            vec![submitted.map_err(RunError::from).and_then(|handle| Ok(handle.result()?))]
        },
        |pool| {
            let items = [(Closing(pool), 1), (Closing(pool), 2)];
            let submitted = pool.submit_together::<i32, _>("add", items);
            let result = |submitted: Result<TaskHandle<i32>, SubmitError>| Ok(submitted?.result()?);
            submitted.into_iter().map(result).collect()
        },
        |pool| pool.starmap("add", [(Closing(pool), 1), (Closing(pool), 2)]).collect(),
        |pool| pool.starmap_all("add", [(Closing(pool), 1), (Closing(pool), 2)]).collect(),
    ];
    for (way, submit) in ways.iter().enumerate() {
        for most in [None, Some(10)] {
            let pool = numbers().max_pending_tasks(most).build().unwrap();
            let results = submit(&pool);
            let refused = |result: &Result<i32, RunError>| {
                matches!(result, Err(RunError::Submit(SubmitError::Closed)))
            };
            assert!(!results.is_empty() && results.iter().all(refused), "{way}: {results:?}");
            assert_eq!(pool.cancelled_tasks(), [], "{way}: refused, and cancelled as well");
        }
    }
}

#[test]
fn a_join_waits_for_tasks_and_workers_and_the_pool_goes_on() {
    let gate = Gate::new();
    let pool = tasks().grants(gate.grants()).max_workers(2).build().unwrap();
    pool.join(None).unwrap();
    pool.join(Some(Duration::ZERO)).ok();
    let handle = pool.submit::<Vec<u8>>("wait", int(0)).unwrap();
    until_running(&handle);
    let pids = pids(&pool);
    assert_eq!(pool.join(Some(SHORT)).unwrap_err().0, SHORT);
    assert_eq!(handle.status(), Status::Running);
    std::thread::scope(|scope| {
        let joins: Vec<_> = (0..3).map(|_| scope.spawn(|| pool.join(Some(PATIENCE)))).collect();
        assert!(pool.join(Some(SHORT)).is_err());
        gate.open();
        joins.into_iter().for_each(|join| join.join().unwrap().unwrap());
    });
    assert!(handle.is_done());
    assert_eq!(pool.count_workers(), 0);
    assert!(pids.iter().all(|pid| is_gone(*pid)));
    assert_eq!(pool.run::<Vec<u8>>("echo", int(5)).unwrap(), 5_i32.to_le_bytes());
}

#[test]
fn a_join_that_was_given_up_leaves_the_workers_alone() {
    let gate = Gate::new();
    let pool = tasks().grants(gate.grants()).idle_timeout(None).build().unwrap();
    let handle = pool.submit::<Vec<u8>>("wait", int(0)).unwrap();
    until_running(&handle);
    assert!(pool.join(Some(Duration::ZERO)).is_err());
    gate.open();
    handle.result().unwrap();
    eventually("an idle worker", || pool.count_free_workers() == 1);
    assert_eq!(pool.run::<Vec<u8>>("echo", int(5)).unwrap(), 5_i32.to_le_bytes());
    assert_eq!(pool.workers()[0].id.0, 1);
}

#[test]
fn a_join_ends_with_the_pool() {
    let (pool, _handles) = endless(SHORT);
    std::thread::scope(|scope| {
        let join = scope.spawn(|| pool.join(None));
        assert!(pool.shutdown());
        join.join().unwrap().unwrap();
    });
}

#[test]
fn a_join_of_a_pool_that_is_being_initialised_or_broken_comes_to_an_end() {
    let pool = tasks().initializer("start_counting_at", int(1)).build().unwrap();
    pool.spawn_workers(1).unwrap();
    pool.join(None).unwrap();
    assert_eq!(pool.count_workers(), 0);
    let pool = tasks().initializer("trap", int(0)).build().unwrap();
    assert!(matches!(pool.spawn_workers(1), Err(SubmitError::Broken(_))));
    pool.join(None).unwrap();
    assert!(pool.is_broken());
    pool.join(None).unwrap();
}

#[test]
fn pools_come_and_go_without_a_trace() {
    let module = stockade_tests::wat_file(stockade_tests::TASKS);
    let host = std::process::Command::new(env!("CARGO_BIN_EXE_host"))
        .arg("many")
        .arg(module)
        .env("STOCKADE_WORKER", stockade_tests::worker_program())
        .output()
        .unwrap();
    let output = String::from_utf8(host.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&host.stderr);
    let (first, last) = output.split_once('\n').unwrap_or_else(|| panic!("{complaint}"));
    // Descriptors and threads, after one round and after many.
    assert_eq!(first, last.trim_end());
    assert!(host.status.success(), "{complaint}");
}

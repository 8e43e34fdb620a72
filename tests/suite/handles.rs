//! Handles: what a caller sees of a task, from its submission to long after its end.

use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use stockade::{Bytes, CancelReason, Fault, Grants, Limits, Pool, Status, TaskError, TaskHandle};
use stockade_tests::{
    Gate, PATIENCE, block_on, eventually, guest_pool, int, is_gone, numbers, tasks, until_running,
};

fn gated() -> (Gate, Pool) {
    let gate = Gate::new();
    let pool = tasks().grants(gate.grants()).build().unwrap();
    (gate, pool)
}

fn wait_task(pool: &Pool) -> TaskHandle<Vec<u8>> {
    let handle = pool.submit("wait", int(0)).unwrap();
    until_running(&handle);
    handle
}

#[test]
fn many_tasks_that_wait_are_counted_cancelled_and_run_like_any() {
    let (gate, pool) = gated();
    let _running = wait_task(&pool);
    let tasks: Vec<_> =
        (0..1000).map(|i| pool.submit::<Vec<u8>>("echo", int(i)).unwrap()).collect();
    assert_eq!(pool.count_pending_tasks(), 1000);
    let cancelled = tasks.iter().step_by(4).filter(|task| task.cancel()).count();
    assert_eq!((cancelled, pool.count_pending_tasks()), (250, 750));
    gate.open();
    for (i, task) in (0_i32..).zip(&tasks) {
        match task.result() {
            Ok(echo) => assert!(i % 4 > 0 && echo == i.to_le_bytes(), "{i}: {echo:?}"),
            Err(error) => assert!(i % 4 == 0 && task.status() == Status::Cancelled, "{error:?}"),
        }
    }
    assert_eq!(pool.workers()[0].tasks_done, 1 + 750);
}

#[test]
fn a_task_is_pending_then_running_then_completed() {
    let (gate, pool) = gated();
    let running = wait_task(&pool);
    let pending = pool.submit::<Vec<u8>>("echo", int(1)).unwrap();
    assert_eq!((running.status(), pending.status()), (Status::Running, Status::Pending));
    assert!(!running.is_done() && !pending.is_done());
    assert_eq!((running.progress(), pending.progress()), (Some((1, 2)), None));
    assert!(running.result_timeout(Duration::ZERO).is_none());
    assert!(!running.wait(Duration::from_millis(10)));
    gate.open();
    assert_eq!(running.result().unwrap(), 1_i32.to_le_bytes());
    pending.result().unwrap();
    assert_eq!((running.status(), pending.status()), (Status::Completed, Status::Completed));
    assert_eq!(running.progress(), Some((1, 2)), "the last word on its progress stays");
    assert!(running.is_done());
}

#[test]
fn a_result_can_be_had_as_often_and_as_patiently_as_one_likes() {
    let pool = numbers().build().unwrap();
    let handle = pool.submit::<i32>("add", (1, 2)).unwrap();
    for _ in 0..3 {
        assert_eq!(handle.result().unwrap(), 3);
        assert_eq!(handle.result_timeout(Duration::ZERO).unwrap().unwrap(), 3);
        assert_eq!(handle.result_timeout(Duration::MAX).unwrap().unwrap(), 3);
        assert!(handle.wait(Duration::ZERO) && handle.wait(Duration::MAX));
    }
    let failed = pool.submit::<i32>("divide", (1, 0)).unwrap();
    for _ in 0..3 {
        assert!(matches!(failed.result(), Err(TaskError::Trap { .. })));
    }
    assert_eq!(failed.status(), Status::Failed);
}

#[test]
fn a_pending_task_is_cancelled_at_once_and_never_runs() {
    let (gate, pool) = gated();
    let running = wait_task(&pool);
    // Some travel with the running one, others are behind what travels.
    let handles: Vec<_> =
        (0..300).map(|i| pool.submit::<Vec<u8>>("echo", int(i)).unwrap()).collect();
    for handle in handles.iter().step_by(2) {
        assert!(handle.cancel());
        assert_eq!(handle.status(), Status::Cancelled);
        let error = handle.result().unwrap_err();
        assert!(matches!(error, TaskError::Cancelled(CancelReason::Asked)));
        assert_eq!(error.fault(), Fault::Caller);
        assert_eq!((handle.report().worker, handle.report().attempt), (None, 0));
        assert!(handle.cancel(), "it stays cancelled");
    }
    gate.open();
    running.result().unwrap();
    for (number, handle) in handles.iter().enumerate().filter(|(number, _)| number % 2 == 1) {
        assert_eq!(handle.result().unwrap(), (number as i32).to_le_bytes());
        assert!(!handle.cancel(), "it is over");
    }
}

#[test]
fn a_cancelled_task_is_never_started_even_if_it_was_sent_already() {
    // A task that would leave a trace.
    let folder = stockade_tests::Folder::new();
    let grants = Grants::none().write_dir(folder.path(), "/gate");
    let pool = tasks().grants(grants).build().unwrap();
    let blocking = pool.submit::<()>("spin", int(0)).unwrap();
    until_running(&blocking);
    let traces: Vec<_> = (0..5).map(|_| pool.submit::<()>("wait", int(0)).unwrap()).collect();
    assert!(traces.iter().all(TaskHandle::cancel));
    blocking.cancel_running();
    assert!(blocking.result().is_err());
    pool.run::<Vec<u8>>("echo", int(1)).unwrap();
    assert!(!folder.path().join("started").exists());
}

#[test]
fn a_running_task_is_left_alone_by_a_cancel_that_says_so() {
    let (gate, pool) = gated();
    let running = wait_task(&pool);
    assert!(!running.cancel());
    assert_eq!(running.status(), Status::Running);
    gate.open();
    assert_eq!(running.result().unwrap(), 1_i32.to_le_bytes());
    assert_eq!(pool.workers()[0].id.0, 1);
}

#[test]
fn a_running_task_can_be_ended_and_its_worker_is_replaced() {
    let (_gate, pool) = gated();
    let running = wait_task(&pool);
    let behind = pool.submit::<Vec<u8>>("echo", int(5)).unwrap();
    let pid = pool.workers()[0].pid;
    running.cancel_running();
    let error = running.result().unwrap_err();
    assert!(matches!(error, TaskError::Cancelled(CancelReason::WhileRunning)), "{error:?}");
    assert_eq!((running.status(), error.fault()), (Status::Cancelled, Fault::Caller));
    assert_eq!(behind.result().unwrap(), 5_i32.to_le_bytes());
    // The other may start before this one is quite gone.
    eventually("the worker to be gone", || is_gone(pid));
    // Asked again, and of one that is pending, and of one that is done.
    running.cancel_running();
    let blocking = pool.submit::<()>("spin", int(0)).unwrap();
    let pending = pool.submit::<Vec<u8>>("echo", int(6)).unwrap();
    until_running(&blocking);
    pending.cancel_running();
    let error = pending.result().unwrap_err();
    assert!(matches!(error, TaskError::Cancelled(CancelReason::Asked)), "{error:?}");
    behind.cancel_running();
    assert!(behind.result().is_ok());
    blocking.cancel_running();
    assert_eq!(pool.run::<Vec<u8>>("echo", int(7)).unwrap(), 7_i32.to_le_bytes());
}

#[test]
fn cancels_from_many_threads_agree_on_one_end() {
    let pool = tasks().max_workers(2).build().unwrap();
    for _ in 0..50 {
        let handle = Arc::new(pool.submit::<Vec<u8>>("echo", int(1)).unwrap());
        let barrier = Arc::new(Barrier::new(3));
        let cancels: Vec<_> = (0..3)
            .map(|kind| {
                let (handle, barrier) = (handle.clone(), barrier.clone());
                std::thread::spawn(move || {
                    barrier.wait();
                    if kind == 0 {
                        handle.cancel_running();
                    } else {
                        handle.cancel();
                    }
                })
            })
            .collect();
        let first = handle.result().map_err(|error| error.to_string());
        cancels.into_iter().for_each(|cancel| cancel.join().unwrap());
        assert_eq!(handle.result().map_err(|error| error.to_string()), first);
        assert_eq!(handle.status() == Status::Completed, first.is_ok());
    }
    assert_eq!(pool.run::<Vec<u8>>("echo", int(7)).unwrap(), 7_i32.to_le_bytes());
}

#[test]
fn a_handle_can_be_awaited_on_any_executor() {
    let (gate, pool) = gated();
    let running = wait_task(&pool);
    let failing = pool.submit::<()>("trap", int(0)).unwrap();
    let cancelled = pool.submit::<()>("trap", int(0)).unwrap();
    cancelled.cancel();
    gate.open();
    assert_eq!(block_on(running).unwrap(), 1_i32.to_le_bytes());
    assert!(matches!(block_on(failing), Err(TaskError::Trap { .. })));
    assert!(matches!(block_on(cancelled), Err(TaskError::Cancelled(_))));
}

#[test]
fn a_future_wakes_whoever_polled_it_last_and_never_twice_in_vain() {
    let (gate, pool) = gated();
    let mut running = wait_task(&pool);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1000 {
        let polled = std::pin::Pin::new(&mut running).poll(&mut context);
        assert!(matches!(polled, Poll::Pending));
    }
    gate.open();
    assert_eq!(block_on(&mut running).unwrap(), 1_i32.to_le_bytes());
    // Also after its end.
    assert_eq!(block_on(running).unwrap(), 1_i32.to_le_bytes());
}

#[test]
fn emitted_items_arrive_in_order_while_the_task_runs() {
    let (gate, pool) = gated();
    let handle = pool.submit::<Vec<u8>>("emit_around_gate", int(0)).unwrap();
    let mut items = handle.emitted::<Vec<u8>>();
    assert_eq!(items.next().unwrap().unwrap(), [1]);
    assert!(!handle.is_done());
    gate.open();
    assert_eq!(items.next().unwrap().unwrap(), [2]);
    assert!(items.next().is_none());
    assert_eq!(handle.status(), Status::Completed);
}

#[test]
fn many_items_are_neither_lost_nor_doubled_nor_turned_around() {
    let pool = guest_pool("probe").build().unwrap();
    let handle = pool.submit::<u32>("stream", (20_000_u32,)).unwrap();
    for (expected, item) in handle.emitted::<u32>().enumerate() {
        assert_eq!(item.unwrap(), expected as u32);
    }
    assert_eq!(handle.result().unwrap(), 20_000);
    assert_eq!(handle.emitted::<u32>().count(), 0, "each is given out once");
}

#[test]
fn an_item_that_is_not_the_callers_type_is_an_error_among_items() {
    let (gate, pool) = gated();
    gate.open();
    let handle = pool.submit::<Vec<u8>>("emit_around_gate", int(0)).unwrap();
    let items: Vec<_> = handle.emitted::<String>().collect();
    assert_eq!(items.len(), 2);
    let handle = pool.submit::<Vec<u8>>("emit_around_gate", int(0)).unwrap();
    assert!(handle.emitted::<bool>().all(|item| matches!(item, Err(TaskError::Decode(_)))));
}

#[test]
fn items_of_a_task_that_failed_stay() {
    let pool = tasks().limits(Limits::default().output_bytes(1000)).build().unwrap();
    let handle = pool.submit::<Vec<u8>>("emit_bytes", int(1000)).unwrap();
    assert!(handle.result().is_err());
    assert!(handle.emitted::<Vec<u8>>().count() > 10);
}

#[test]
fn a_report_tells_what_a_task_used() {
    let (gate, pool) = gated();
    let running = wait_task(&pool);
    let behind = pool.submit::<Vec<u8>>("echo", Bytes(vec![0; 1 << 20])).unwrap();
    gate.open();
    let report = running.report();
    assert_eq!((report.task.0, &report.target[..]), (1, "wait"));
    assert_eq!((report.status, report.attempt), (Status::Completed, 1));
    assert_eq!(report.worker.unwrap(), pool.workers()[0].id);
    assert!(report.wall_time > Duration::ZERO && report.wall_time >= report.cpu_time);
    assert_eq!(report.memory_peak_bytes, 4 << 16);
    assert_eq!((report.fuel, report.log_dropped), (None, 0));
    let second = behind.report();
    assert!(second.queue_wait > Duration::ZERO);
    assert_eq!(second.memory_peak_bytes, (4 + 17) << 16);
    assert_eq!(pool.workers()[0].tasks_done, 2);
}

#[test]
fn a_report_of_a_task_that_was_killed_tells_where_and_how_long() {
    let limits = Limits::default().wall_time(Duration::from_millis(200));
    let pool = tasks().limits(limits).build().unwrap();
    let report = pool.submit::<()>("spin", int(0)).unwrap().report();
    assert_eq!((report.status, report.attempt), (Status::Failed, 1));
    assert_eq!(report.worker.map(|id| id.0), Some(1));
    assert!(report.wall_time > Duration::ZERO);
}

#[test]
fn a_task_that_waited_behind_a_death_tells_that_it_was_started_once() {
    let (_gate, pool) = gated();
    let running = wait_task(&pool);
    let behind = pool.submit::<Vec<u8>>("echo", int(5)).unwrap();
    // Until it is in the same worker's hands.
    eventually("one pending task", || pool.count_pending_tasks() == 1);
    running.cancel_running();
    behind.result().unwrap();
    let report = behind.report();
    assert_eq!((report.attempt, report.worker.map(|id| id.0)), (1, Some(2)));
}

#[test]
fn callers_in_many_threads_do_not_mix_up_their_results() {
    let pool = numbers().max_workers(2).build().unwrap();
    std::thread::scope(|scope| {
        for caller in 0..16 {
            let pool = &pool;
            scope.spawn(move || {
                for number in 0..100 {
                    let sum = pool.run::<i32>("add", (caller * 1000, number)).unwrap();
                    assert_eq!(sum, caller * 1000 + number);
                }
            });
        }
    });
}

#[test]
fn many_threads_may_wait_for_one_task() {
    let (gate, pool) = gated();
    let running = wait_task(&pool);
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..8)
            .map(|i| {
                let running = &running;
                scope.spawn(move || match i % 3 {
                    0 => running.result().is_ok(),
                    1 => running.wait(PATIENCE),
                    _ => running.report().status == Status::Completed,
                })
            })
            .collect();
        gate.open();
        assert!(waiting.into_iter().all(|waiter| waiter.join().unwrap()));
    });
}

#[test]
fn a_dropped_handle_neither_cancels_its_task_nor_leaks_it() {
    let folder = stockade_tests::Folder::new();
    folder.file("open", "");
    let grants = Grants::none().write_dir(folder.path(), "/gate");
    let pool = tasks().grants(grants).build().unwrap();
    drop(pool.submit::<()>("wait", int(0)).unwrap());
    assert!(pool.drain());
    assert!(folder.path().join("started").exists(), "it did not run");
}

#[test]
fn pools_and_handles_may_go_to_other_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Pool>();
    // Whatever their results are.
    is_shared::<TaskHandle<*const u8>>();
    is_shared::<TaskError>();
    is_shared::<stockade::BuildError>();
}

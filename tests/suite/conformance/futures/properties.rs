//! Queries of one handle that do not block.

use std::time::Duration;

use stockade::{Status, TaskDuration, TaskError, TaskHandle};
use stockade_tests::{Gate, PATIENCE, eventually, int, numbers, two_ints};

use super::{add, bytes, echo, occupied};

fn statuses(handles: &[TaskHandle<Vec<u8>>]) -> Vec<Status> {
    handles.iter().map(TaskHandle::status).collect()
}

/// One that runs and two that wait behind it, before a shutdown and after it.
fn around_a_shutdown(look: impl Fn(&[TaskHandle<Vec<u8>>], bool)) {
    let (gate, pool, running) = occupied();
    let handles = [running, echo(&pool, 2), echo(&pool, 3)];
    look(&handles, false);
    let ender = pool.clone();
    let ending = std::thread::spawn(move || ender.shutdown());
    assert!(handles[1].wait(PATIENCE) && handles[2].wait(PATIENCE));
    gate.open();
    assert!(ending.join().unwrap());
    look(&handles, true);
}

#[test]
fn f20_pool_is_the_pool() {
    let pool = numbers().build().unwrap();
    let handle = add(&pool, 1, 2);
    assert!(handle.pool() == Some(pool.clone()));
    assert!(handle.pool() != Some(numbers().build().unwrap()));
    assert!(pool.shutdown());
    assert!(handle.pool() == Some(pool.clone()), "as long as somebody has it");
    drop(pool);
    assert!(handle.pool().is_none());
}

#[test]
fn f21_task_ids_count_from_one_in_each_pool() {
    let pools = [numbers().build().unwrap(), numbers().build().unwrap()];
    for pool in &pools {
        let ids: Vec<_> = (0..3).map(|number| add(pool, number, 0).task_id().0).collect();
        assert_eq!(ids, [1, 2, 3]);
    }
    // What is refused has none.
    assert!(pools[0].submit::<i32>("add", ()).is_err());
    assert_eq!(add(&pools[0], 1, 2).task_id().0, 4);
}

#[test]
fn f22_is_pending() {
    around_a_shutdown(|handles, after| {
        let pending: Vec<_> = handles.iter().map(TaskHandle::is_pending).collect();
        assert_eq!(pending, if after { [false; 3] } else { [false, true, true] });
    });
}

#[test]
fn f23_is_running() {
    around_a_shutdown(|handles, after| {
        let running: Vec<_> = handles.iter().map(TaskHandle::is_running).collect();
        assert_eq!(running, [!after, false, false]);
    });
}

#[test]
fn f24_is_completed() {
    let (gate, _pool, running) = occupied();
    assert!(!running.is_completed());
    gate.open();
    running.wait(None);
    assert!(running.is_completed() && !running.is_failed() && !running.is_cancelled());
}

#[test]
fn f25_is_failed() {
    let pool = numbers().build().unwrap();
    let handle = pool.submit::<i32>("divide", (1, 0)).unwrap();
    handle.wait(None);
    assert!(handle.is_failed() && !handle.is_completed() && !handle.is_cancelled());
}

#[test]
fn f26_is_cancelled() {
    around_a_shutdown(|handles, after| {
        let cancelled: Vec<_> = handles.iter().map(TaskHandle::is_cancelled).collect();
        assert_eq!(cancelled, [false, after, after]);
        if after {
            let (ended, cancelled) = (Status::Completed, Status::Cancelled);
            assert_eq!(statuses(handles), [ended, cancelled, cancelled]);
        }
    });
}

#[test]
fn f27_a_cancel_of_a_pending_task_is_seen_at_once() {
    // Upstream's flag says that somebody asked; here a cancel has an effect or says that it has none.
    let (gate, pool, running) = occupied();
    let pending = echo(&pool, 2);
    assert!(pending.cancel() && pending.is_cancelled() && pending.clone().is_cancelled());
    assert!(!running.cancel() && !running.is_cancelled());
    gate.open();
    assert_eq!(running.result().unwrap(), bytes(1));
}

#[test]
fn f28_is_done() {
    let (gate, pool, running) = occupied();
    let failing = pool.submit::<()>("trap", int(0)).unwrap();
    let cancelled = echo(&pool, 2);
    assert!(!running.is_done() && !failing.is_done() && !cancelled.is_done());
    cancelled.cancel();
    gate.open();
    running.wait(None);
    failing.wait(None);
    assert!(running.is_done() && failing.is_done() && cancelled.is_done());
    let statuses = [running.status(), failing.status(), cancelled.status()];
    assert_eq!(statuses, [Status::Completed, Status::Failed, Status::Cancelled]);
}

#[test]
fn f29_result_without_waiting() {
    // Upstream's property is ours with no time to wait.
    let (gate, pool, running) = occupied();
    let cancelled = echo(&pool, 2);
    let failing = pool.submit::<()>("trap", int(0)).unwrap();
    assert!(running.result_timeout(Duration::ZERO).is_none());
    assert!(failing.result_timeout(Duration::ZERO).is_none());
    cancelled.cancel();
    assert!(cancelled.result_timeout(Duration::ZERO).unwrap().is_err());
    gate.open();
    running.wait(None);
    failing.wait(None);
    assert_eq!(running.result_timeout(Duration::ZERO).unwrap().unwrap(), bytes(1));
    assert!(failing.result_timeout(Duration::ZERO).unwrap().is_err());
}

#[test]
fn f30_exception() {
    let (gate, pool, running) = occupied();
    let failing = pool.submit::<()>("trap", int(0)).unwrap();
    let cancelled = echo(&pool, 2);
    assert!(running.exception().is_none() && failing.exception().is_none());
    cancelled.cancel();
    gate.open();
    failing.wait(None);
    assert!(matches!(failing.exception(), Some(TaskError::Trap { .. })));
    assert!(running.exception().is_none(), "it has a result");
    assert!(cancelled.exception().is_none(), "nothing of it went wrong");
}

#[test]
fn f31_duration_of_a_pending_task() {
    let (gate, pool, _running) = occupied();
    let pending = echo(&pool, 2);
    let first = pending.duration();
    assert_eq!(first.running, Duration::ZERO);
    // Upstream tells nothing before the end; here the wait is seen while it lasts.
    eventually("a longer wait", || pending.duration().pending > first.pending);
    assert_eq!(pending.duration().running, Duration::ZERO);
    gate.open();
}

#[test]
fn f32_duration_of_a_completed_task() {
    let (gate, _pool, running) = occupied();
    gate.open();
    running.wait(None);
    let TaskDuration { pending, running: ran } = running.duration();
    assert!(pending > Duration::ZERO && ran > Duration::ZERO);
    let report = running.report();
    assert_eq!((report.queue_wait, report.wall_time), (pending, ran));
}

#[test]
fn f33_duration_of_a_failed_task() {
    let pool = numbers().build().unwrap();
    let handle = pool.submit::<i32>("divide", (1, 0)).unwrap();
    handle.wait(None);
    let TaskDuration { pending, running } = handle.duration();
    assert!(pending > Duration::ZERO && running > Duration::ZERO);
}

#[test]
fn f34_duration_of_a_cancelled_task() {
    let (gate, pool, _running) = occupied();
    let cancelled = echo(&pool, 2);
    cancelled.cancel();
    let duration = cancelled.duration();
    assert!(duration.pending > Duration::ZERO);
    assert_eq!(duration.running, Duration::ZERO);
    assert_eq!(cancelled.duration(), duration, "it stands still");
    gate.open();
}

#[test]
fn f46_a_handle_knows_its_pool_its_id_and_its_result() {
    // Upstream makes a future by hand; nobody can make a handle but a pool.
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    let handle = pool.submit::<Vec<u8>>("square", two_ints(6, 0)).unwrap();
    assert!(handle.pool() == Some(pool.clone()));
    assert_eq!((handle.task_id().0, handle.target()), (1, "square"));
    assert_eq!(handle.result().unwrap(), bytes(36));
}

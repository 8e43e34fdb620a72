//! `as_done`, `wait` and `collect`, over several handles.

use std::time::Duration;

use stockade::{CollectError, TaskError, TaskHandle, WaitTimeout, as_done, collect, wait};
use stockade_tests::{Gate, PATIENCE, numbers};

use super::{add, bytes, echo, occupied};

const SHORT: Duration = Duration::from_millis(10);

fn ids(handles: impl IntoIterator<Item = TaskHandle<Vec<u8>>>) -> Vec<u64> {
    handles.into_iter().map(|handle| handle.task_id().0).collect()
}

/// A slow task, which waits at the gate, and two that another worker runs in their order.
fn slow_and_quick() -> (Gate, stockade::Pool, [TaskHandle<Vec<u8>>; 3]) {
    let gate = Gate::new();
    let pool = gate.tasks().max_workers(2).build().unwrap();
    let slow = gate.occupy(&pool);
    let quick = echo(&pool, 2);
    quick.wait(None);
    let second = echo(&pool, 3);
    (gate, pool, [slow, quick, second])
}

#[test]
fn f35_as_done_in_the_order_of_submission() {
    let (gate, _pool, handles) = slow_and_quick();
    handles[2].wait(None);
    let mut done = as_done(handles).ordered().timeout(PATIENCE);
    gate.open();
    let given = done.by_ref().map(Result::unwrap).inspect(|handle| assert!(handle.is_done()));
    assert_eq!(ids(given), [1, 2, 3]);
    assert!(done.next().is_none());
}

#[test]
fn f36_as_done_in_the_order_of_completion() {
    let (gate, _pool, handles) = slow_and_quick();
    let mut done = as_done(handles);
    let quick = [done.next().unwrap().unwrap(), done.next().unwrap().unwrap()];
    assert!(quick.iter().all(TaskHandle::is_done));
    assert_eq!(ids(quick), [2, 3]);
    gate.open();
    assert_eq!(ids(done.map(Result::unwrap)), [1]);
}

#[test]
fn f37_as_done_with_a_timeout_that_is_kept() {
    let pool = numbers().build().unwrap();
    let handles: Vec<_> = (0..5).map(|number| add(&pool, number, 1)).collect();
    for ordered in [false, true] {
        let done = as_done(handles.clone()).timeout(PATIENCE);
        let done = if ordered { done.ordered() } else { done };
        let results: Vec<_> = done.map(|handle| handle.unwrap().result().unwrap()).collect();
        assert_eq!(results, [1, 2, 3, 4, 5]);
    }
}

#[test]
fn f38_as_done_with_a_timeout_that_passes() {
    let (gate, _pool, handles) = slow_and_quick();
    handles[2].wait(None);
    let mut done = as_done(handles.clone()).timeout(SHORT);
    // What has ended is given whatever the time; the rest is one error and the end.
    assert!(done.next().unwrap().is_ok() && done.next().unwrap().is_ok());
    assert_eq!(done.next().unwrap().unwrap_err(), WaitTimeout(SHORT));
    assert!(done.next().is_none());
    let mut ordered = as_done(handles.clone()).ordered().timeout(SHORT);
    assert_eq!(ordered.next().unwrap().unwrap_err(), WaitTimeout(SHORT));
    assert!(ordered.next().is_none());
    assert!(handles[0].is_running(), "the tasks go on");
    gate.open();
    assert!(wait(&handles, None));
}

#[test]
fn f39_wait_for_all_without_a_timeout() {
    let (gate, _pool, handles) = slow_and_quick();
    gate.open();
    assert!(wait(&handles, None));
    assert!(handles.iter().all(TaskHandle::is_done));
    assert!(wait::<i32, TaskHandle<i32>>([], Duration::ZERO), "of none all are done");
}

#[test]
fn f40_wait_for_all_with_a_timeout_that_passes() {
    let (gate, _pool, handles) = slow_and_quick();
    assert!(!wait(&handles, SHORT) && !wait(&handles, Duration::ZERO));
    gate.open();
    assert!(wait(&handles, None));
}

#[test]
fn f41_wait_for_all_with_a_timeout_that_is_kept() {
    let pool = numbers().build().unwrap();
    let handles = [add(&pool, 1, 2), pool.submit("divide", (1, 0)).unwrap()];
    assert!(wait(handles, PATIENCE), "a failure is an end");
}

#[test]
fn f42_collect_gives_results_in_order() {
    let (gate, _pool, handles) = slow_and_quick();
    gate.open();
    assert_eq!(collect(&handles, None).unwrap(), [bytes(1), bytes(2), bytes(3)]);
    assert_eq!(collect(handles.into_iter().rev(), None).unwrap(), [bytes(3), bytes(2), bytes(1)]);
}

#[test]
fn f43_collect_gives_the_first_error_in_the_tasks_order() {
    let pool = numbers().build().unwrap();
    let divide = |by: i32| pool.submit::<i32>("divide", (i32::MIN, by)).unwrap();
    let handles = [add(&pool, 1, 2), divide(-1), divide(0)];
    let Err(CollectError::Task(TaskError::Trap { kind, .. })) = collect(handles, None) else {
        panic!("no error")
    };
    assert_eq!(kind, stockade::TrapKind::IntegerOverflow);
    // One that comes before a task that does not end is told at once.
    let (gate, pool, running) = occupied();
    let cancelled = echo(&pool, 2);
    cancelled.cancel();
    let error = collect([cancelled, running], None).unwrap_err();
    assert!(matches!(error, CollectError::Task(TaskError::Cancelled(_))), "{error:?}");
    gate.open();
}

#[test]
fn f44_collect_with_a_timeout_that_passes() {
    let (gate, _pool, handles) = slow_and_quick();
    let error = collect(&handles, SHORT).unwrap_err();
    assert!(matches!(error, CollectError::Timeout(WaitTimeout(SHORT))), "{error:?}");
    gate.open();
    assert!(collect(&handles, None).is_ok());
}

#[test]
fn f45_collect_with_a_timeout_that_is_kept() {
    let pool = numbers().build().unwrap();
    let handles: Vec<_> = (0..3).map(|number| add(&pool, number, number)).collect();
    assert_eq!(collect(handles, PATIENCE).unwrap(), [0, 2, 4]);
}

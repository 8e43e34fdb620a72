//! Whatever a worker says costs that worker at most.

use super::super::{Action, BrokenCause, CancelReason, Event, Hook, Resolution};
use super::*;

fn killed(id: u64) -> Vec<Action> {
    vec![Action::Kill(worker(id))]
}

fn everything_from(id: u64) -> [Event; 10] {
    let worker = worker(id);
    [
        Event::Ready(worker),
        Event::Finished { worker, tasks: tasks(1, 1), wall_time: Duration::MAX },
        Event::HandedBack { worker, task: TaskId(1) },
        Event::HandedBack { worker, task: TaskId(u64::MAX) },
        Event::HookFailed { worker, hook: Hook::Initializer },
        Event::HookFailed { worker, hook: Hook::Finalizer },
        Event::Closed(worker),
        Event::Misbehaved(worker),
        Event::Exited { worker, started: Some(TaskId(1)) },
        Event::SpawnFailed(worker),
    ]
}

#[test]
fn nobody_listens_to_a_worker_that_never_was() {
    for event in everything_from(7) {
        let mut bench = one_worker_with(&[1], as_it_is);
        assert_eq!(bench.tell(event), []);
    }
}

#[test]
fn nobody_listens_to_a_worker_that_is_gone() {
    for event in everything_from(1) {
        let mut bench = one_worker_with(&[1], as_it_is);
        bench.exit(1, Some(1));
        assert_eq!(bench.tell(event), []);
    }
}

#[test]
fn a_result_for_another_task_kills() {
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    assert_eq!(bench.finish(1, 2), killed(1), "its second before its first");
    let mut bench = one_worker_with(&[1], as_it_is);
    assert_eq!(bench.finish(1, 99), killed(1), "one that nobody knows");
    let mut bench = Bench::ready(config(2));
    bench.submit(task(1));
    bench.submit(task(2));
    assert_eq!(bench.finish(1, 1), killed(1), "one of another worker");
}

#[test]
fn a_result_out_of_nowhere_kills() {
    let mut bench = Bench::ready(config(1));
    assert_eq!(bench.finish(1, 1), killed(1), "idle");
    let mut bench = Bench::ready(config(1));
    bench.tell(Event::Join);
    assert_eq!(bench.finish(1, 1), killed(1), "closing");
    let mut bench = Bench::new(config(1));
    bench.submit(task(1));
    assert_eq!(bench.finish(1, 1)[..1], killed(1), "starting");
}

#[test]
fn a_result_sent_twice_kills() {
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    bench.finish(1, 1);
    assert_eq!(bench.finish(1, 1), killed(1));
}

#[test]
fn a_task_handed_back_unasked_kills() {
    let mut bench = one_worker_with(&[1], as_it_is);
    assert_eq!(bench.hand_back(1, 1), killed(1));
}

#[test]
fn a_task_handed_back_twice_kills() {
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    bench.cancel(1);
    bench.hand_back(1, 1);
    assert_eq!(bench.hand_back(1, 1), killed(1));
}

#[test]
fn a_task_taken_back_and_answered_as_if_it_had_run_kills() {
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    bench.cancel(2);
    bench.finish(1, 1);
    assert_eq!(bench.finish(1, 2), killed(1));
}

#[test]
fn a_second_ready_kills() {
    let mut bench = Bench::ready(config(1));
    assert_eq!(bench.tell(Event::Ready(worker(1))), killed(1));
}

#[test]
fn a_goodbye_unasked_kills() {
    let mut bench = one_worker_with(&[1], as_it_is);
    assert_eq!(bench.tell(Event::Closed(worker(1))), killed(1));
}

#[test]
fn a_finalizer_that_was_not_due_kills_and_breaks_nothing() {
    let mut bench = one_worker_with(&[1], as_it_is);
    let failed = Event::HookFailed { worker: worker(1), hook: Hook::Finalizer };
    assert_eq!(bench.tell(failed), killed(1));
}

#[test]
fn a_dying_worker_may_say_what_it_likes() {
    for event in everything_from(1).into_iter().take(8) {
        let mut bench = one_worker_with(&[1], as_it_is);
        bench.cancel_running(1);
        assert_eq!(bench.tell(event), []);
    }
}

#[test]
fn a_killed_worker_forfeits_what_it_had_started_and_nothing_else() {
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    assert_eq!(bench.tell(Event::Misbehaved(worker(1))), killed(1));
    assert_eq!(bench.exit(1, Some(1)), [resolve(1, Resolution::WorkerLost)]);
    assert_eq!(bench.counts().pending_tasks, 1);
}

#[test]
fn nonsense_before_ready_is_a_failed_start() {
    let mut bench = Bench::new(config(1));
    bench.spawn_workers(1);
    bench.tell(Event::Misbehaved(worker(1)));
    bench.exit(1, None);
    assert_eq!(bench.submit(task(1)), []);
    assert_eq!(bench.time_out_at(BACKOFF_MIN), [Action::Spawn(worker(2))]);
}

#[test]
fn an_initializer_may_fail_late_because_a_trap_costs_an_instance() {
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    let failed = Event::HookFailed { worker: worker(1), hook: Hook::Initializer };
    let broken = [Action::Kill(worker(1)), Action::Broken(BrokenCause::Initializer)];
    assert_eq!(bench.tell(failed), broken);
    let cancelled = Resolution::Cancelled(CancelReason::Broken);
    assert_eq!(bench.exit(1, None), [resolve_all(&[1, 2], cancelled)]);
}

//! Cancels, by a task's caller and by the pool, wherever the task is.

use super::super::{Action, CancelReason, Config, Event, Hook, Resolution, Submission};
use super::*;

const CANCELLED: Resolution = Resolution::Cancelled(CancelReason::Asked);
const STOPPED: Resolution = Resolution::CancelledRunning(CancelReason::Asked);
const SHUT_DOWN: Resolution = Resolution::Cancelled(CancelReason::Shutdown);

fn late_with(id: u64, resolution: Resolution) -> [Action; 2] {
    [Action::Kill(worker(1)), resolve(id, resolution)]
}

#[test]
fn a_cancelled_pending_task_never_starts() {
    let mut bench = Bench::new(config(1));
    bench.submit(task(1));
    bench.submit(task(2));
    assert_eq!(bench.cancel(1), [resolve(1, CANCELLED)]);
    assert_eq!(bench.tell(Event::Ready(worker(1))), [run(1, &[2]), start(2)]);
}

#[test]
fn cancel_of_a_task_that_is_done_or_unknown_does_nothing() {
    let mut bench = one_worker_with(&[1], as_it_is);
    bench.finish(1, 1);
    assert_eq!(bench.cancel(1), []);
    assert_eq!(bench.cancel_running(1), []);
    assert_eq!(bench.cancel(99), []);
}

#[test]
fn a_task_taken_back_in_a_window_ends_at_once_and_is_handed_back_in_its_turn() {
    let mut bench = one_worker_with(&[1, 2, 3], as_it_is);
    assert_eq!(bench.cancel(2), [resolve(2, CANCELLED)], "its worker will see it on its page");
    assert_eq!(bench.counts().pending_tasks, 1, "what stands behind it waits in the queue");
    let again = [resolve(1, Resolution::Finished), run(1, &[3])];
    assert_eq!(bench.finish_after(1, 1, 1), again, "nobody says that it started");
    assert_eq!(bench.hand_back(1, 2), [start(3)]);
    assert_eq!(bench.timeout(), None);
}

#[test]
fn a_first_task_taken_back_is_waited_for_as_long_as_a_hand_back_takes() {
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    assert_eq!(bench.cancel(1), [resolve(1, CANCELLED)]);
    bench.wait_until(RECALL_TIMEOUT);
    assert_eq!(bench.hand_back(1, 1), [run(1, &[2]), start(2)]);
    assert_eq!(bench.timeout(), None);
}

#[test]
fn a_task_that_is_not_handed_back_in_time_costs_its_worker_and_nobody_else() {
    let strict = Config { requeues_max: 0, losses_in_a_row_max: Some(1), ..config(1) };
    let mut bench = Bench::new(strict);
    bench.submit_batch(&[1, 2], as_it_is);
    bench.tell(Event::Ready(worker(1)));
    bench.cancel(1);
    let replaced = [Action::Kill(worker(1)), Action::Spawn(worker(2))];
    assert_eq!(bench.time_out_at(RECALL_TIMEOUT), replaced, "without a pause");
    assert_eq!(bench.hand_back(1, 1), [], "too late");
    assert_eq!(bench.exit(1, None), []);
    assert_eq!(bench.tell(Event::Ready(worker(2))), [run(2, &[2]), start(2)]);
}

#[test]
fn the_time_to_hand_back_counts_from_the_tasks_turn() {
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    bench.cancel(2);
    bench.wait_until(70);
    bench.finish(1, 1);
    assert_eq!(bench.time_out_at(70 + RECALL_TIMEOUT), [Action::Kill(worker(1))]);
}

#[test]
fn the_time_to_hand_back_is_not_prolonged_by_another_cancel() {
    let mut bench = one_worker_with(&[1], as_it_is);
    bench.cancel(1);
    bench.wait_until(5);
    bench.cancel(1);
    assert_eq!(bench.timeout(), Some(RECALL_TIMEOUT));
}

#[test]
fn a_task_that_was_taken_back_has_no_wall_time_any_more() {
    let short = |task| Submission { wall_time: Some(ms(RECALL_TIMEOUT - 1)), ..task };
    let mut bench = one_worker_with(&[1], short);
    bench.wait_until(3);
    bench.cancel(1);
    assert_eq!(bench.time_out_at(3 + RECALL_TIMEOUT), [Action::Kill(worker(1))]);
}

#[test]
fn a_worker_that_runs_what_was_taken_back_is_killed_and_not_believed() {
    let mut bench = one_worker_with(&[1, 2], with_retry);
    bench.cancel(1);
    assert_eq!(bench.finish(1, 1), [Action::Kill(worker(1)), Action::Spawn(worker(2))]);
    assert_eq!(bench.exit(1, Some(1)), [], "and its page is not, either");
    assert_eq!(bench.counts().pending_tasks, 1);
}

#[test]
fn a_task_taken_back_in_a_window_is_not_queued_again() {
    let mut bench = one_worker_with(&[1, 2, 3], as_it_is);
    bench.cancel(2);
    assert_eq!(bench.exit(1, Some(1)), [resolve(1, Resolution::WorkerLost)]);
    assert_eq!(bench.counts().pending_tasks, 1);
}

#[test]
fn a_task_taken_back_in_a_window_is_cancelled_though_its_page_says_it_ran() {
    let mut bench = one_worker_with(&[1, 2], with_retry);
    assert_eq!(bench.cancel(2), [resolve(2, CANCELLED)]);
    bench.finish(1, 1);
    assert_eq!(bench.exit(1, Some(2)), []);
}

#[test]
fn a_task_taken_back_behind_a_late_one_ends_before_the_worker() {
    let mut bench = one_worker_with(&[1, 2], with_wall_time);
    bench.time_out_at(WALL_TIME);
    assert_eq!(bench.cancel(2), [resolve(2, CANCELLED)]);
    assert_eq!(bench.exit(1, Some(1)), []);
}

#[test]
fn a_task_taken_back_is_not_ended_as_a_running_one() {
    let mut bench = one_worker_with(&[1], as_it_is);
    bench.cancel(1);
    assert_eq!(bench.cancel_running(1), [], "it does not run");
    assert_eq!(bench.shut_down(ShutdownMode::Kill), [Action::Kill(worker(1))]);
}

#[test]
fn cancel_of_a_running_task_frees_its_worker_and_spares_the_rest() {
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    let [kill, stopped] = late_with(1, STOPPED);
    assert_eq!(bench.cancel_running(1), [recall(1, 2), kill, stopped]);
    assert_eq!(bench.take_back(1, 2), [Action::Spawn(worker(2))], "without a pause");
    assert_eq!(bench.tell(Event::Ready(worker(2))), [run(2, &[2]), start(2)]);
    assert_eq!(bench.exit(1, Some(1)), []);
}

/// A worker that has started a task behind the first.
fn passed(tasks: &[u64], change: impl Fn(Submission) -> Submission) -> Bench {
    let mut bench = one_worker_with(tasks, change);
    bench.has_passed = true;
    bench
}

fn stop(task: u64) -> Action {
    Action::Stop(worker(1), TaskId(task))
}

#[test]
fn a_stop_that_comes_when_the_next_has_started_costs_nobody_anything() {
    let mut bench = passed(&[1, 2, 3], as_it_is);
    assert_eq!(bench.cancel_running(1), [recall(1, 2), stop(1)]);
    assert_eq!(bench.take_back(1, 3), []);
    assert_eq!(bench.finish(1, 1), [resolve(1, Resolution::Finished), start(2)]);
    let stoppable = Event::Stoppable { worker: worker(1), task: TaskId(1) };
    assert_eq!(bench.tell(stoppable), [], "it has ended");
    assert_eq!(bench.finish(1, 2), [resolve(2, Resolution::Finished), run(1, &[3])]);
    assert_eq!(bench.hand_back(1, 3), [start(3)]);
}

#[test]
fn a_deadline_that_passes_when_the_next_has_started_costs_nobody_anything() {
    let mut bench = passed(&[1, 2], with_wall_time);
    assert_eq!(bench.time_out_at(WALL_TIME), [recall(1, 2), stop(1)]);
    assert_eq!(bench.finish(1, 1), [resolve(1, Resolution::Finished), start(2)]);
    assert_eq!(bench.timeout(), Some(2 * WALL_TIME), "its own");
}

#[test]
fn a_worker_that_only_says_that_it_has_started_the_next_is_killed_all_the_same() {
    let mut bench = passed(&[1, 2], as_it_is);
    bench.cancel_running(1);
    assert_eq!(bench.cancel_running(1), [], "once");
    assert_eq!(bench.time_out_at(RECALL_TIMEOUT), late_with(1, STOPPED));
    assert_eq!(bench.exit(1, Some(2)), [resolve(2, Resolution::WorkerLost)]);
}

#[test]
fn a_worker_that_is_to_be_stopped_is_given_nothing() {
    let mut bench = passed(&[1, 2], as_it_is);
    bench.finish_after(1, 1, 1);
    bench.cancel_running(2);
    assert_eq!(bench.submit(task(3)), []);
    assert_eq!(bench.finish(1, 2), [resolve(2, Resolution::Finished), run(1, &[3]), start(3)]);
}

#[test]
fn a_pool_that_is_killed_does_not_wait_for_what_is_to_be_stopped() {
    let mut bench = passed(&[1, 2], as_it_is);
    bench.cancel_running(1);
    let ended = Resolution::CancelledRunning(CancelReason::Shutdown);
    assert_eq!(bench.shut_down(ShutdownMode::Kill), late_with(1, ended));
}

#[test]
fn what_was_to_be_stopped_and_dies_with_its_worker_is_not_tried_again() {
    let mut bench = passed(&[1, 2], with_retry);
    bench.cancel_running(1);
    assert_eq!(bench.exit(1, Some(2))[..1], [resolve(1, STOPPED)]);
}

#[test]
fn a_task_that_started_behind_another_is_stopped_when_that_ones_answer_is_there() {
    let mut bench = one_worker_with(&[1, 2, 3], as_it_is);
    assert_eq!(bench.cancel_running(2), []);
    let [kill, stopped] = late_with(2, STOPPED);
    assert_eq!(bench.finish(1, 1), [resolve(1, Resolution::Finished), recall(1, 3), kill, stopped]);
    assert_eq!(bench.exit(1, Some(2)), [Action::Spawn(worker(2))], "without a pause");
    assert_eq!(bench.tell(Event::Ready(worker(2))), [run(2, &[3]), start(3)]);
}

#[test]
fn a_task_to_be_stopped_that_dies_with_its_worker_is_as_good_as_stopped() {
    let mut bench = one_worker_with(&[1, 2, 3], with_retry);
    bench.cancel_running(2);
    bench.cancel_running(3);
    assert_eq!(bench.exit(1, Some(2)), [resolve(2, STOPPED), resolve(3, CANCELLED)]);
}

#[test]
fn a_lost_task_can_be_ended_while_it_waits_to_be_tried_again() {
    let mut bench = one_worker_with(&[1], with_retry);
    bench.exit(1, Some(1));
    assert_eq!(bench.cancel_running(1), [resolve(1, CANCELLED)]);
}

#[test]
fn what_the_pool_wants_back_keeps_its_wall_time_because_it_may_have_started() {
    let mut bench = one_worker_with(&[1, 2], with_wall_time);
    assert_eq!(bench.shut_down(ShutdownMode::Cancel), [recall(1, 2)]);
    bench.wait_until(70);
    assert_eq!(bench.finish(1, 1), [resolve(1, Resolution::Finished), start(2)]);
    let late = late_with(2, Resolution::DeadlinePassed);
    assert_eq!(bench.time_out_at(70 + WALL_TIME), late);
}

#[test]
fn what_the_pool_wants_back_too_late_ends_as_any_other() {
    let shutting_down = || {
        let mut bench = one_worker_with(&[1, 2], with_retry);
        bench.shut_down(ShutdownMode::Cancel);
        bench.finish(1, 1);
        bench
    };
    let finished = shutting_down().finish(1, 2);
    assert_eq!(finished, [resolve(2, Resolution::Finished), Action::Close(worker(1))]);
    assert_eq!(shutting_down().cancel_running(2), late_with(2, STOPPED));
    let lost = [resolve(2, Resolution::WorkerLost), Action::Terminated];
    assert_eq!(shutting_down().exit(1, Some(2)), lost);
    let never_started = [resolve(2, SHUT_DOWN), Action::Terminated];
    assert_eq!(shutting_down().exit(1, Some(1)), never_started);
}

#[test]
fn what_the_pool_wants_back_in_time_ends_at_once_and_leaves_its_worker_an_answer_to_give() {
    let mut bench = one_worker_with(&[1, 2], with_wall_time);
    assert_eq!(bench.shut_down(ShutdownMode::Cancel), [recall(1, 2)]);
    assert_eq!(bench.take_back(1, 2), [resolve(2, SHUT_DOWN)]);
    assert_eq!(bench.take_back(1, 2), [], "once");
    assert_eq!(bench.finish(1, 1), [resolve(1, Resolution::Finished)]);
    assert_eq!(bench.hand_back(1, 2), [Action::Close(worker(1))]);
}

#[test]
fn the_pool_does_not_want_back_what_its_caller_took() {
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    bench.cancel(2);
    assert_eq!(bench.shut_down(ShutdownMode::Cancel), []);
}

#[test]
fn the_pool_wants_a_task_back_once() {
    let mut bench = Bench::new(config(2));
    bench.spawn_workers(2);
    bench.submit_batch(&[1, 2], as_it_is);
    bench.tell(Event::Ready(worker(1)));
    let failed = Event::HookFailed { worker: worker(2), hook: Hook::Initializer };
    assert_eq!(bench.tell(failed)[2..], [recall(1, 2)]);
    let cancelled = resolve(2, Resolution::Cancelled(CancelReason::Broken));
    assert_eq!(bench.take_back(1, 2), [cancelled]);
    assert_eq!(bench.shut_down(ShutdownMode::Cancel), []);
}

#[test]
fn a_caller_may_take_back_what_the_pool_wants() {
    let mut bench = one_worker_with(&[1, 2], with_wall_time);
    bench.shut_down(ShutdownMode::Cancel);
    assert_eq!(bench.cancel(2), [resolve(2, CANCELLED)]);
    assert_eq!(bench.take_back(1, 2), [], "if anybody says so then");
    bench.finish(1, 1);
    assert_eq!(bench.timeout(), Some(RECALL_TIMEOUT), "it never starts");
}

#[test]
fn a_withheld_task_makes_way_for_the_next() {
    let mut bench = one_worker_with(&[1, 2, 3], as_it_is);
    assert_eq!(bench.withhold(1, &[2]), [resolve(2, CANCELLED)]);
    assert_eq!(bench.withhold(1, &[1]), [resolve(1, CANCELLED), start(3)]);
    assert_eq!(bench.cancel(1), [], "the cancel that it was withheld for");
    assert_eq!(bench.withhold(1, &[3]), [resolve(3, CANCELLED)]);
    assert_eq!(bench.withhold(1, &[3]), [], "once");
    assert_eq!(bench.submit(task(4)), [run(1, &[4]), start(4)], "its worker is free");
}

#[test]
fn a_hundred_thousand_tasks_can_be_cancelled_one_by_one() {
    const TASKS: u64 = 100_000;
    let mut bench = Bench::new(config(1));
    for id in 1..=TASKS {
        bench.hear(Event::Submit(task(id)));
    }
    assert_eq!(bench.decided().len(), 1, "one spawn");
    for id in (1..=TASKS).rev() {
        bench.hear(Event::Cancel(TaskId(id).into()));
    }
    assert_eq!(bench.counts().pending_tasks, 0);
    assert_eq!(bench.decided().len() as u64, TASKS, "a resolution each");
}

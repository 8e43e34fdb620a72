//! What becomes of tasks: order, deadlines, deaths, cancels.

use super::super::{Action, CancelReason, Config, Event, Resolution, Submission};
use super::*;

const CANCELLED: Resolution = Resolution::Cancelled(CancelReason::Asked);
const STOPPED: Resolution = Resolution::CancelledRunning(CancelReason::Asked);

#[test]
fn a_task_runs_on_an_idle_worker_at_once() {
    let mut bench = Bench::ready(config(1));
    assert_eq!(bench.submit(task(1)), [run(1, &[1]), start(1)]);
    assert_eq!(bench.finish(1, 1), [resolve(1, Resolution::Finished)]);
}

#[test]
fn tasks_run_in_the_order_of_their_submission() {
    let mut bench = Bench::ready(config(1));
    for id in 1..=3 {
        bench.submit(task(id));
    }
    assert_eq!(bench.finish(1, 1), [resolve(1, Resolution::Finished), run(1, &[2]), start(2)]);
    assert_eq!(bench.finish(1, 2), [resolve(2, Resolution::Finished), run(1, &[3]), start(3)]);
}

#[test]
fn a_chunk_travels_together_and_its_tasks_start_one_by_one() {
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    assert_eq!(bench.finish(1, 1), [resolve(1, Resolution::Finished), start(2)]);
    assert_eq!(bench.finish(1, 2), [resolve(2, Resolution::Finished)]);
}

#[test]
fn a_chunk_is_cut_at_the_window() {
    let mut bench = Bench::new(Config { window_tasks_max: 2, ..config(1) });
    bench.submit_chunk(&[1, 2, 3], as_it_is);
    assert_eq!(bench.tell(Event::Ready(worker(1))), [run(1, &[1, 2]), start(1)]);
    bench.finish(1, 1);
    assert_eq!(bench.finish(1, 2), [resolve(2, Resolution::Finished), run(1, &[3]), start(3)]);
}

#[test]
fn a_deadline_ends_the_task_and_its_worker() {
    let mut bench = one_worker_with(&[1], with_wall_time);
    let ends = [Action::Kill(worker(1)), resolve(1, Resolution::DeadlinePassed)];
    assert_eq!(bench.time_out_at(WALL_TIME), ends);
    assert_eq!(bench.finish(1, 1), [], "too late");
    assert_eq!(bench.exit(1, Some(1)), []);
}

#[test]
fn a_result_that_comes_first_beats_the_deadline() {
    let mut bench = one_worker_with(&[1], with_wall_time);
    bench.wait_until(WALL_TIME);
    assert_eq!(bench.finish(1, 1), [resolve(1, Resolution::Finished)]);
    assert_eq!(bench.timeout(), None);
}

#[test]
fn a_deadline_counts_from_the_start_of_its_task() {
    let mut bench = one_worker_with(&[1, 2], with_wall_time);
    bench.wait_until(70);
    bench.finish(1, 1);
    let ends = [Action::Kill(worker(1)), resolve(2, Resolution::DeadlinePassed)];
    assert_eq!(bench.time_out_at(70 + WALL_TIME), ends);
}

#[test]
fn a_wall_time_beyond_the_end_of_time_is_no_deadline_to_fear() {
    let endless = |task| Submission { wall_time: Some(Duration::MAX), ..task };
    let mut bench = Bench::ready(config(1));
    bench.wait_until(1);
    bench.submit(endless(task(1)));
    assert_eq!(bench.dispatcher.poll_timeout(), Some(Duration::MAX));
}

#[test]
fn what_waits_behind_a_late_task_goes_to_the_next_worker_in_order() {
    let mut bench = one_worker_with(&[1, 2, 3], with_wall_time);
    bench.submit(task(4));
    let ends = bench.time_out_at(WALL_TIME);
    assert_eq!(ends[..2], [Action::Kill(worker(1)), resolve(1, Resolution::DeadlinePassed)]);
    assert_eq!(ends[2..], [Action::Spawn(worker(2))], "somebody has to run the fourth");
    assert_eq!(bench.exit(1, Some(1)), []);
    assert_eq!(bench.tell(Event::Ready(worker(2))), [run(2, &[2, 3]), start(2)]);
}

#[test]
fn a_dying_workers_answers_count_until_it_is_gone() {
    let mut bench = one_worker_with(&[1, 2], with_wall_time);
    bench.time_out_at(WALL_TIME);
    assert_eq!(bench.finish(1, 2), [resolve(2, Resolution::Finished)]);
}

#[test]
fn what_started_before_the_kill_arrived_is_lost() {
    let mut bench = one_worker_with(&[1, 2, 3], with_wall_time);
    bench.time_out_at(WALL_TIME);
    let next = [resolve(2, Resolution::WorkerLost), Action::Spawn(worker(2))];
    assert_eq!(bench.exit(1, Some(2)), next);
    assert_eq!(bench.tell(Event::Ready(worker(2))), [run(2, &[3]), start(3)]);
}

#[test]
fn a_death_costs_the_started_task_and_nothing_else() {
    let mut bench = one_worker_with(&[1, 2, 3], as_it_is);
    bench.submit(task(4));
    bench.finish(1, 1);
    let next = [resolve(2, Resolution::WorkerLost), Action::Spawn(worker(2))];
    assert_eq!(bench.exit(1, Some(2)), next);
    assert_eq!(bench.tell(Event::Ready(worker(2))), [run(2, &[3]), start(3)], "before the fourth");
}

#[test]
fn everything_up_to_the_started_task_is_lost() {
    let mut bench = one_worker_with(&[1, 2, 3], as_it_is);
    let lost = bench.exit(1, Some(2));
    assert_eq!(lost, [resolve(1, Resolution::WorkerLost), resolve(2, Resolution::WorkerLost)]);
    assert_eq!(bench.counts().pending_tasks, 1);
}

#[test]
fn a_lost_task_is_started_again_as_often_as_it_allows() {
    let mut bench = one_worker_with(&[1], with_retry);
    assert_eq!(bench.exit(1, Some(1)), []);
    bench.time_out_at(BACKOFF_MIN);
    assert_eq!(bench.tell(Event::Ready(worker(2))), [run(2, &[1]), start(1)]);
    assert_eq!(bench.exit(2, Some(1)), [resolve(1, Resolution::WorkerLost)]);
}

#[test]
fn a_task_whose_workers_say_nothing_is_queued_again_so_often_and_no_more() {
    let mut bench = one_worker_with(&[1], as_it_is);
    for id in 1..=u64::from(REQUEUES_MAX) {
        assert_eq!(bench.exit(id, None), [], "queued again");
        let pause_over = bench.timeout().unwrap();
        assert_eq!(bench.time_out_at(pause_over), [Action::Spawn(worker(id + 1))]);
        assert_eq!(bench.tell(Event::Ready(worker(id + 1))), [run(id + 1, &[1]), start(1)]);
    }
    let last = u64::from(REQUEUES_MAX) + 1;
    assert_eq!(bench.exit(last, None), [resolve(1, Resolution::WorkerLost)]);
}

#[test]
fn a_task_behind_a_late_one_is_queued_again_free_of_charge() {
    let mut bench = Bench::new(Config { requeues_max: 0, ..config(1) });
    bench.submit_chunk(&[1, 2], with_wall_time);
    bench.tell(Event::Ready(worker(1)));
    bench.time_out_at(WALL_TIME);
    assert_eq!(bench.exit(1, Some(1)), [Action::Spawn(worker(2))]);
    assert_eq!(bench.tell(Event::Ready(worker(2))), [run(2, &[2]), start(2)]);
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
fn cancel_leaves_a_running_task_alone() {
    let mut bench = one_worker_with(&[1], as_it_is);
    assert_eq!(bench.cancel(1), []);
    assert_eq!(bench.finish(1, 1), [resolve(1, Resolution::Finished)]);
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
fn cancel_takes_a_task_back_from_the_window() {
    let mut bench = one_worker_with(&[1, 2, 3], as_it_is);
    assert_eq!(bench.cancel(2), [Action::Recall(worker(1), TaskId(2))]);
    assert_eq!(bench.cancel(2), [], "once is enough");
    assert_eq!(bench.finish(1, 1), [resolve(1, Resolution::Finished)], "nobody says it started");
    assert_eq!(bench.hand_back(1, 2), [resolve(2, CANCELLED), start(3)]);
}

#[test]
fn a_recall_that_comes_too_late_lets_the_task_finish() {
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    bench.cancel(2);
    bench.finish(1, 1);
    assert_eq!(bench.finish(1, 2), [resolve(2, Resolution::Finished)]);
}

#[test]
fn a_task_cancelled_in_a_window_is_not_queued_again() {
    let mut bench = one_worker_with(&[1, 2, 3], as_it_is);
    bench.cancel(2);
    let gone = bench.exit(1, Some(1));
    assert_eq!(gone, [resolve(1, Resolution::WorkerLost), resolve(2, CANCELLED)]);
}

#[test]
fn a_task_cancelled_in_a_window_is_not_tried_again() {
    let mut bench = one_worker_with(&[1, 2], with_retry);
    bench.cancel(2);
    bench.finish(1, 1);
    assert_eq!(bench.exit(1, Some(2)), [resolve(2, Resolution::WorkerLost)]);
}

#[test]
fn a_task_cancelled_behind_a_late_one_ends_with_the_worker() {
    let mut bench = one_worker_with(&[1, 2], with_wall_time);
    bench.time_out_at(WALL_TIME);
    assert_eq!(bench.cancel(2), [], "it may have started");
    assert_eq!(bench.exit(1, Some(1)), [resolve(2, CANCELLED)]);
}

#[test]
fn cancel_of_a_running_task_frees_its_worker_and_spares_the_rest() {
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    assert_eq!(bench.cancel_running(1), [Action::Kill(worker(1)), resolve(1, STOPPED)]);
    assert_eq!(bench.exit(1, Some(1)), [Action::Spawn(worker(2))], "without a pause");
    assert_eq!(bench.tell(Event::Ready(worker(2))), [run(2, &[2]), start(2)]);
}

#[test]
fn a_task_to_be_stopped_is_given_the_time_of_a_recall_and_no_more() {
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    assert_eq!(bench.cancel_running(2), [Action::Recall(worker(1), TaskId(2))]);
    bench.wait_until(70);
    bench.finish(1, 1);
    let ends = [Action::Kill(worker(1)), resolve(2, STOPPED)];
    assert_eq!(bench.time_out_at(70 + RECALL_TIMEOUT), ends);
}

#[test]
fn a_cancelled_task_that_runs_after_all_can_still_be_stopped() {
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    bench.cancel(2);
    bench.finish(1, 1);
    assert_eq!(bench.timeout(), None, "cancel alone stops nothing");
    assert_eq!(bench.cancel_running(2), [Action::Kill(worker(1)), resolve(2, STOPPED)]);
}

#[test]
fn a_withheld_task_makes_way_for_the_next() {
    let withhold =
        |bench: &mut Bench, id| bench.tell(Event::Withheld { worker: worker(1), task: TaskId(id) });
    let mut bench = one_worker_with(&[1, 2, 3], as_it_is);
    assert_eq!(withhold(&mut bench, 2), [resolve(2, CANCELLED)]);
    assert_eq!(withhold(&mut bench, 1), [resolve(1, CANCELLED), start(3)]);
    assert_eq!(bench.cancel(1), [], "the cancel that it was withheld for");
    assert_eq!(withhold(&mut bench, 3), [resolve(3, CANCELLED)]);
    assert_eq!(withhold(&mut bench, 3), [], "once");
    assert_eq!(bench.submit(task(4)), [run(1, &[4]), start(4)], "its worker is free");
}

#[test]
fn a_hundred_thousand_tasks_can_be_cancelled_one_by_one() {
    const TASKS: u64 = 100_000;
    let mut bench = Bench::new(config(1));
    for id in 1..=TASKS {
        bench.dispatcher.handle_event(Moment::ZERO, Event::Submit(task(id)));
    }
    for id in (1..=TASKS).rev() {
        bench.dispatcher.handle_event(Moment::ZERO, Event::Cancel(TaskId(id)));
    }
    assert_eq!(bench.counts().pending_tasks, 0);
    assert_eq!(bench.decided().len() as u64, 1 + TASKS, "one spawn, and a resolution each");
}

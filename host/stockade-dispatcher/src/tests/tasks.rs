//! What becomes of tasks: order, deadlines, deaths.

use super::super::{Action, Config, Event, Resolution, Submission};
use super::*;

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
fn a_batch_travels_together_and_its_tasks_start_one_by_one() {
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    assert_eq!(bench.finish(1, 1), [resolve(1, Resolution::Finished), start(2)]);
    assert_eq!(bench.finish(1, 2), [resolve(2, Resolution::Finished)]);
}

#[test]
fn a_batch_is_cut_at_the_window() {
    let mut bench = Bench::new(Config { window_tasks_max: 2, ..config(1) });
    bench.submit_batch(&[1, 2, 3], as_it_is);
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
    assert_eq!(bench.timeout(), None);
}

#[test]
fn what_waits_behind_a_late_task_goes_to_the_next_worker_in_order() {
    let mut bench = one_worker_with(&[1, 2, 3], with_wall_time);
    bench.submit(task(4));
    let ends = bench.time_out_at(WALL_TIME);
    assert_eq!(ends[..2], [recall(1, 2), Action::Kill(worker(1))]);
    assert_eq!(ends[2..3], [resolve(1, Resolution::DeadlinePassed)]);
    assert_eq!(ends[3..], [Action::Spawn(worker(2))], "somebody has to run the fourth");
    assert_eq!(bench.take_back(1, 2), []);
    assert_eq!(bench.tell(Event::Ready(worker(2))), [run(2, &[2, 3]), start(2)]);
    assert_eq!(bench.exit(1, Some(1)), [], "nobody has waited for that");
}

#[test]
fn what_cannot_be_taken_back_from_a_killed_worker_waits_for_its_end() {
    let mut bench = one_worker_with(&[1, 2], with_wall_time);
    let ends = bench.time_out_at(WALL_TIME);
    assert_eq!(ends[..2], [recall(1, 2), Action::Kill(worker(1))]);
    assert_eq!(bench.exit(1, Some(1)), [Action::Spawn(worker(2))]);
    assert_eq!(bench.tell(Event::Ready(worker(2))), [run(2, &[2]), start(2)]);
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
    assert_eq!(lost, [resolve_all(&[1, 2], Resolution::WorkerLost)]);
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
    bench.submit_batch(&[1, 2], with_wall_time);
    bench.tell(Event::Ready(worker(1)));
    bench.time_out_at(WALL_TIME);
    assert_eq!(bench.exit(1, Some(1)), [Action::Spawn(worker(2))]);
    assert_eq!(bench.tell(Event::Ready(worker(2))), [run(2, &[2]), start(2)]);
}

//! When workers come and go.

use super::super::{Action, BrokenCause, CancelReason, Config, Event, Phase, Resolution};
use super::*;

fn spawn(id: u64) -> Action {
    Action::Spawn(worker(id))
}

#[test]
fn a_worker_starts_for_every_task_that_waits_up_to_the_maximum() {
    let mut bench = Bench::new(config(2));
    assert_eq!(bench.submit(task(1)), [spawn(1)]);
    assert_eq!(bench.submit(task(2)), [spawn(2)]);
    assert_eq!(bench.submit(task(3)), []);
}

#[test]
fn no_worker_starts_while_another_is_free() {
    let mut bench = Bench::new(config(3));
    bench.spawn_workers(2);
    bench.tell(Event::Ready(worker(1)));
    assert_eq!(bench.submit(task(1)), [run(1, &[1]), start(1)]);
    assert_eq!(bench.submit(task(2)), [], "the second worker is about to be ready");
    assert_eq!(bench.submit(task(3)), [spawn(3)]);
}

#[test]
fn a_batch_is_work_for_one() {
    let mut bench = Bench::new(config(4));
    bench.submit_batch(&[1, 2, 3, 4, 5], as_it_is);
    assert_eq!(bench.counts().workers, 1);
    bench.submit_batch(&[6, 7, 8, 9, 10], as_it_is);
    assert_eq!(bench.counts().workers, 2);
}

#[test]
fn what_a_window_leaves_of_a_batch_is_work_for_another() {
    let mut bench = Bench::new(Config { window_tasks_max: 2, ..config(4) });
    bench.submit_batch(&[1, 2, 3], as_it_is);
    assert_eq!(bench.tell(Event::Ready(worker(1))), [run(1, &[1, 2]), start(1), spawn(2)]);
}

#[test]
fn workers_can_be_asked_for_up_to_the_maximum() {
    let mut bench = Bench::new(config(3));
    assert_eq!(bench.spawn_workers(2), [spawn(1), spawn(2), spawned(2)]);
    assert_eq!(bench.spawn_workers(usize::MAX), [spawn(3), spawned(1)]);
    assert_eq!(bench.spawn_workers(1), [spawned(0)]);
}

#[test]
fn the_freshest_worker_takes_the_next_task() {
    let mut bench = Bench::ready(config(3));
    bench.submit(task(1));
    bench.wait_until(5);
    bench.finish(3, 1);
    bench.wait_until(6);
    assert_eq!(bench.submit(task(2)), [run(3, &[2]), start(2)]);
}

#[test]
fn the_snapshot_is_made_once_and_before_the_first_worker() {
    let mut bench = Bench::new(Config { needs_preparation: true, ..config(2) });
    assert_eq!(bench.submit(task(1)), [Action::Prepare]);
    assert_eq!(bench.submit(task(2)), []);
    assert_eq!(bench.spawn_workers(1), []);
    assert_eq!(bench.tell(Event::Prepared), [spawn(1), spawn(2), spawned(1)]);
}

#[test]
fn a_snapshot_that_cannot_be_made_breaks_the_pool() {
    let mut bench = Bench::new(Config { needs_preparation: true, ..config(2) });
    bench.submit(task(1));
    let cancelled = resolve(1, Resolution::Cancelled(CancelReason::Broken));
    let broken = [Action::Broken(BrokenCause::Preparation), cancelled];
    assert_eq!(bench.tell(Event::PreparationFailed), broken);
}

#[test]
fn a_worker_that_is_not_ready_in_time_is_killed() {
    let mut bench = Bench::new(config(1));
    bench.submit(task(1));
    assert_eq!(bench.time_out_at(START_TIMEOUT), [Action::Kill(worker(1)), spawn(2)]);
    assert_eq!(bench.tell(Event::Ready(worker(1))), [], "too late");
    assert_eq!(bench.exit(1, None), []);
}

#[test]
fn a_worker_that_is_ready_in_time_is_not_killed() {
    let mut bench = Bench::new(config(1));
    bench.submit(task(1));
    bench.wait_until(START_TIMEOUT);
    assert_eq!(bench.tell(Event::Ready(worker(1))), [run(1, &[1]), start(1)]);
    assert_eq!(bench.timeout(), None);
}

#[test]
fn every_failed_worker_doubles_the_pause_up_to_the_longest() {
    let mut bench = Bench::new(Config { start_failures_max: 100, ..config(1) });
    bench.submit(task(1));
    let mut now = 0;
    for (id, pause) in (1..).zip([10, 20, 40, 80, 80]) {
        assert_eq!(bench.tell(Event::SpawnFailed(worker(id))), []);
        now += pause;
        assert_eq!(bench.time_out_at(now), [spawn(id + 1)]);
    }
}

#[test]
fn workers_that_fail_together_cost_one_pause() {
    let mut bench = Bench::new(Config { start_failures_max: 100, ..config(3) });
    for id in 1..=3 {
        bench.submit(task(id));
    }
    for id in 1..=3 {
        bench.tell(Event::SpawnFailed(worker(id)));
    }
    assert_eq!(bench.time_out_at(BACKOFF_MIN), [spawn(4), spawn(5), spawn(6)]);
}

#[test]
fn a_worker_that_dies_before_it_finished_a_task_costs_a_pause() {
    let mut bench = one_worker_with(&[1], with_retry);
    assert_eq!(bench.exit(1, Some(1)), []);
    assert_eq!(bench.time_out_at(BACKOFF_MIN), [spawn(2)]);
}

#[test]
fn a_worker_that_dies_after_it_finished_a_task_costs_no_pause() {
    let mut bench = one_worker_with(&[1, 2], with_retry);
    bench.finish(1, 1);
    assert_eq!(bench.exit(1, Some(2)), [spawn(2)]);
}

#[test]
fn a_finished_task_ends_the_pause_and_its_doubling() {
    let mut bench = Bench::new(config(2));
    bench.submit(task(1));
    bench.submit(task(2));
    bench.tell(Event::Ready(worker(1)));
    assert_eq!(bench.tell(Event::SpawnFailed(worker(2))), []);
    assert_eq!(bench.submit(task(3)), [], "in the pause");
    let resumed = bench.finish(1, 1);
    assert_eq!(resumed[1..], [run(1, &[2]), start(2), spawn(3)]);
    assert_eq!(bench.tell(Event::SpawnFailed(worker(3))), []);
    assert_eq!(bench.time_out_at(BACKOFF_MIN), [spawn(4)], "as short as the first");
}

#[test]
fn the_last_of_so_many_failed_starts_breaks_the_pool() {
    let mut bench = Bench::new(config(1));
    bench.submit(task(1));
    assert_eq!(bench.tell(Event::SpawnFailed(worker(1))), []);
    assert_eq!(bench.time_out_at(10), [spawn(2)]);
    assert_eq!(bench.exit(2, None), []);
    assert_eq!(bench.time_out_at(30), [spawn(3)]);
    let cancelled = resolve(1, Resolution::Cancelled(CancelReason::Broken));
    let broken = [Action::Broken(BrokenCause::WorkersCannotStart), cancelled];
    assert_eq!(bench.tell(Event::SpawnFailed(worker(3))), broken);
    assert_eq!(bench.timeout(), None);
}

/// Has one worker after the other ended from outside, as soon as it may start, until this moment. Says
/// when and what followed from the last.
fn end_starts_until(
    bench: &mut Bench,
    first: u64,
    from: u64,
    until: u64,
) -> (u64, u64, Vec<Action>) {
    let (mut id, mut now) = (first, from);
    loop {
        assert_eq!(bench.tell(Event::EndedFromOutside(worker(id))), []);
        let followed = bench.exit(id, None);
        let Some(next) = bench.timeout().filter(|next| *next <= until) else {
            return (id, now, followed);
        };
        now = next;
        id += 1;
        assert_eq!(bench.time_out_at(now), [spawn(id)], "it goes on");
    }
}

#[test]
fn starts_that_are_ended_from_outside_go_on_with_growing_pauses_until_patience_ends() {
    let mut bench = Bench::new(config(1));
    bench.submit(task(1));
    // After 10, 20, 40 ms, and then every 80 ms: far more often than may fail by themselves.
    let (id, now, followed) = end_starts_until(&mut bench, 1, 0, START_PATIENCE - 1);
    assert_eq!((id, now, followed), (9, 470, vec![]));
    assert_eq!(bench.time_out_at(550), [spawn(10)]);
    assert_eq!(bench.tell(Event::EndedFromOutside(worker(10))), []);
    let broken = bench.tell(Event::SpawnFailed(worker(10)));
    assert_eq!(broken[0], Action::Broken(BrokenCause::WorkersCannotStart));
    assert_eq!(bench.timeout(), None);
}

#[test]
fn a_worker_that_becomes_ready_ends_the_time_of_starts_that_were_ended_from_outside() {
    let mut bench = Bench::new(config(1));
    bench.submit(with_retry(task(1)));
    let (id, now, _) = end_starts_until(&mut bench, 1, 0, START_PATIENCE - 1);
    bench.time_out_at(now + BACKOFF_MAX);
    bench.tell(Event::Ready(worker(id + 1)));
    bench.exit(id + 1, Some(1));
    let next = bench.timeout().unwrap();
    assert_eq!(bench.time_out_at(next), [spawn(id + 2)]);
    bench.tell(Event::EndedFromOutside(worker(id + 2)));
    assert_eq!(bench.exit(id + 2, None), [], "its time begins anew");
}

#[test]
fn without_a_bound_starts_that_are_ended_from_outside_never_break_a_pool() {
    let mut bench = Bench::new(Config { start_patience: None, ..config(1) });
    bench.submit(task(1));
    let (.., followed) = end_starts_until(&mut bench, 1, 0, 100 * START_PATIENCE);
    assert_eq!(followed, []);
}

#[test]
fn a_worker_that_was_to_end_anyhow_was_not_ended_from_outside() {
    let mut bench = Bench::new(Config { start_failures_max: 2, ..config(1) });
    bench.submit(task(1));
    // It took too long, so it was killed already, and another is on its way.
    bench.time_out_at(START_TIMEOUT);
    bench.tell(Event::EndedFromOutside(worker(1)));
    assert_eq!(bench.exit(1, None), []);
    let broken = bench.exit(2, None);
    assert_eq!(broken[0], Action::Broken(BrokenCause::WorkersCannotStart), "the second of its own");
}

#[test]
fn a_worker_that_becomes_ready_forgives_the_failed_starts() {
    let mut bench = Bench::new(config(1));
    bench.submit(with_retry(task(1)));
    bench.exit(1, None);
    bench.time_out_at(10);
    bench.exit(2, None);
    bench.time_out_at(30);
    bench.tell(Event::Ready(worker(3)));
    bench.exit(3, Some(1));
    bench.time_out_at(70);
    assert_eq!(bench.exit(4, None), [], "the first of its row");
}

#[test]
fn failed_starts_do_not_break_a_pool_in_which_a_worker_serves() {
    let mut bench = Bench::new(config(2));
    bench.submit(task(1));
    bench.tell(Event::Ready(worker(1)));
    bench.submit(task(2));
    for (id, now) in (2..).zip([10, 30, 70, 150]) {
        assert_eq!(bench.tell(Event::SpawnFailed(worker(id))), []);
        bench.time_out_at(now);
    }
    assert_eq!(bench.exit(1, None), [], "its task waits for another");
    let broken = bench.tell(Event::SpawnFailed(worker(6)));
    assert_eq!(broken[0], Action::Broken(BrokenCause::WorkersCannotStart));
}

#[test]
fn a_worker_gets_so_many_tasks_and_closes() {
    let mut bench = Bench::ready(Config { tasks_per_worker_max: Some(2), ..config(1) });
    bench.submit(task(1));
    assert_eq!(bench.finish(1, 1), [resolve(1, Resolution::Finished)]);
    bench.submit(task(2));
    assert_eq!(bench.submit(task(3)), [spawn(2)], "ahead of the first one's end");
    assert_eq!(bench.finish(1, 2), [resolve(2, Resolution::Finished), Action::Close(worker(1))]);
    assert_eq!(bench.tell(Event::Ready(worker(2))), [run(2, &[3]), start(3)]);
}

#[test]
fn a_batch_is_cut_at_what_its_worker_may_still_get() {
    let mut bench = Bench::new(Config { tasks_per_worker_max: Some(2), ..config(1) });
    bench.submit_batch(&[1, 2, 3], as_it_is);
    assert_eq!(bench.tell(Event::Ready(worker(1))), [run(1, &[1, 2]), start(1), spawn(2)]);
}

#[test]
fn a_batch_of_more_than_a_worker_may_get_is_work_for_several() {
    let limited = Config { tasks_per_worker_max: Some(2), ..config(4) };
    let mut bench = Bench::new(limited);
    bench.submit_batch(&[1, 2, 3, 4, 5], as_it_is);
    assert_eq!(bench.counts().workers, 3);
    bench.submit(task(6));
    assert_eq!(bench.counts().workers, 3, "the third has room for it");
    bench.submit(task(7));
    assert_eq!(bench.counts().workers, 4);
}

#[test]
fn processes_are_never_more_than_twice_the_maximum() {
    let mut bench = Bench::ready(Config { tasks_per_worker_max: Some(1), ..config(1) });
    bench.submit(task(1));
    assert_eq!(bench.submit(task(2)), [spawn(2)]);
    bench.tell(Event::Ready(worker(2)));
    assert_eq!(bench.submit(task(3)), [], "two retire already");
    bench.finish(1, 1);
    assert_eq!(bench.tell(Event::Closed(worker(1))), []);
    assert_eq!(bench.exit(1, Some(1)), [spawn(3)]);
}

#[test]
fn an_idle_worker_closes_at_its_timeout() {
    let mut bench = Bench::new(Config { idle_timeout: Some(ms(50)), ..config(1) });
    bench.spawn_workers(1);
    bench.wait_until(5);
    bench.tell(Event::Ready(worker(1)));
    assert_eq!(bench.time_out_at(55), [Action::Close(worker(1))]);
    assert_eq!(bench.exit(1, None), [], "a pool shrinks to nothing");
}

#[test]
fn a_task_interrupts_the_idle_time() {
    let mut bench = Bench::new(Config { idle_timeout: Some(ms(50)), ..config(1) });
    bench.spawn_workers(1);
    bench.tell(Event::Ready(worker(1)));
    bench.wait_until(40);
    bench.submit(task(1));
    bench.wait_until(45);
    bench.finish(1, 1);
    assert_eq!(bench.time_out_at(95), [Action::Close(worker(1))]);
}

#[test]
fn without_an_idle_timeout_a_worker_stays() {
    let bench = Bench::ready(config(1));
    assert_eq!(bench.timeout(), None);
}

#[test]
fn a_changed_idle_timeout_reaches_the_workers_that_are_idle() {
    let mut bench = Bench::ready(config(1));
    bench.wait_until(30);
    bench.tell(Event::SetIdleTimeout(Some(ms(50))));
    assert_eq!(bench.timeout(), Some(50));
    bench.tell(Event::SetIdleTimeout(Some(ms(20))));
    assert_eq!(bench.timeout(), Some(20), "due at once");
    bench.dispatcher.handle_timeout(ms(30));
    assert_eq!(bench.decided(), [Action::Close(worker(1))]);
}

#[test]
fn a_worker_that_does_not_close_in_time_is_killed_and_forgiven() {
    let mut bench = Bench::ready(config(1));
    bench.tell(Event::Join);
    assert_eq!(bench.time_out_at(CLOSE_TIMEOUT), [Action::Kill(worker(1))]);
    assert_eq!(bench.exit(1, None), [Action::Joined]);
    assert_eq!(bench.submit(task(1)), [spawn(2)], "without a pause");
}

#[test]
fn a_worker_that_dies_while_it_closes_is_forgiven() {
    let mut bench = Bench::ready(config(1));
    bench.tell(Event::Join);
    assert_eq!(bench.exit(1, None), [Action::Joined]);
    assert_eq!(bench.submit(task(1)), [spawn(2)]);
}

#[test]
fn everything_is_counted_where_it_is() {
    let mut bench = Bench::ready(Config { tasks_per_worker_max: Some(4), ..config(3) });
    bench.submit(task(1));
    bench.cancel_running(1);
    bench.submit_batch(&[2, 3], as_it_is);
    bench.submit(task(4));
    bench.spawn_workers(9);
    let counts = Counts {
        workers: 4,
        starting: 1,
        busy: 2,
        free: 0,
        leaving: 1,
        pending_tasks: 1,
        window_tasks: 0,
    };
    assert_eq!(bench.counts(), counts);
}

#[test]
fn every_worker_is_somewhere_in_its_life() {
    let mut bench = Bench::ready(Config { idle_timeout: Some(ms(50)), ..config(5) });
    bench.time_out_at(50);
    bench.spawn_workers(5);
    for id in 6..=9 {
        bench.tell(Event::Ready(worker(id)));
    }
    bench.submit(task(1));
    bench.tell(Event::Misbehaved(worker(8)));
    let phases: Vec<_> = bench.dispatcher.phases().skip(4).collect();
    let expected = [
        (worker(5), Phase::Closing),
        (worker(6), Phase::Idle),
        (worker(7), Phase::Idle),
        (worker(8), Phase::Dying),
        (worker(9), Phase::Busy),
        (worker(10), Phase::Starting),
    ];
    assert_eq!(phases, expected);
}

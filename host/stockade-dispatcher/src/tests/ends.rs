//! How a pool breaks, is joined and shuts down.

use super::super::{Action, BrokenCause, CancelReason, Config, Event, Hook, Resolution};
use super::*;

const CANCELLED: Resolution = Resolution::Cancelled(CancelReason::Shutdown);
const BROKEN: Resolution = Resolution::Cancelled(CancelReason::Broken);

fn close(id: u64) -> Action {
    Action::Close(worker(id))
}

fn hook_failed(id: u64, hook: Hook) -> Event {
    Event::HookFailed { worker: worker(id), hook }
}

/// A pool of three workers, of which the first fails in its initializer while the second runs task
/// 1, the third is idle, and nothing waits.
fn broken_by_initializer() -> Bench {
    let mut bench = Bench::new(config(3));
    bench.spawn_workers(3);
    bench.tell(Event::Ready(worker(2)));
    bench.submit(task(1));
    bench.tell(Event::Ready(worker(3)));
    let broken = bench.tell(hook_failed(1, Hook::Initializer));
    let kill = Action::Kill(worker(1));
    assert_eq!(broken, [kill, Action::Broken(BrokenCause::Initializer), close(3)]);
    bench
}

#[test]
fn a_broken_pool_finishes_what_runs_and_takes_nothing_more() {
    let mut bench = broken_by_initializer();
    assert_eq!(bench.exit(1, None), [], "no replacement");
    assert_eq!(bench.submit(task(2)), [resolve(2, BROKEN)]);
    assert_eq!(bench.spawn_workers(1), [spawned(0)]);
    assert_eq!(bench.finish(2, 1), [resolve(1, Resolution::Finished), close(2)]);
}

#[test]
fn a_pool_breaks_once() {
    let mut bench = broken_by_initializer();
    assert_eq!(bench.tell(hook_failed(3, Hook::Finalizer)), [Action::Kill(worker(3))]);
}

#[test]
fn a_breaking_pool_cancels_what_waits_in_queue_and_window() {
    let mut bench = Bench::new(config(2));
    bench.submit_batch(&[1, 2], as_it_is);
    bench.tell(Event::Ready(worker(1)));
    bench.submit(task(3));
    let broken = bench.tell(hook_failed(2, Hook::Initializer));
    let recall = recall(1, 2);
    assert_eq!(broken[2..], [resolve(3, BROKEN), recall]);
    assert_eq!(bench.take_back(1, 2), [resolve(2, BROKEN)]);
    bench.finish(1, 1);
    assert_eq!(bench.hand_back(1, 2), [close(1)]);
}

#[test]
fn a_lost_task_is_not_tried_again_in_a_broken_pool() {
    let mut bench = Bench::new(config(2));
    bench.spawn_workers(2);
    bench.submit(with_retry(task(1)));
    bench.tell(Event::Ready(worker(1)));
    bench.tell(hook_failed(2, Hook::Initializer));
    assert_eq!(bench.exit(1, Some(1)), [resolve(1, Resolution::WorkerLost)]);
}

#[test]
fn a_finalizer_that_fails_breaks_the_pool() {
    let mut bench = Bench::ready(config(1));
    assert_eq!(bench.tell(Event::Join), [close(1)]);
    let broken = [Action::Kill(worker(1)), Action::Broken(BrokenCause::Finalizer)];
    assert_eq!(bench.tell(hook_failed(1, Hook::Finalizer)), broken);
    assert_eq!(bench.exit(1, None), [Action::Joined]);
}

#[test]
fn join_finishes_everything_and_leaves_the_pool_usable() {
    let mut bench = Bench::ready(config(1));
    bench.submit(task(1));
    bench.submit(task(2));
    assert_eq!(bench.tell(Event::Join), []);
    assert_eq!(bench.finish(1, 1)[1..], [run(1, &[2]), start(2)]);
    assert_eq!(bench.finish(1, 2), [resolve(2, Resolution::Finished), close(1)]);
    assert_eq!(bench.tell(Event::Closed(worker(1))), []);
    assert_eq!(bench.exit(1, Some(2)), [Action::Joined]);
    assert_eq!(bench.submit(task(3)), [Action::Spawn(worker(2))]);
    bench.tell(Event::Ready(worker(2)));
    assert_eq!(bench.finish(2, 3), [resolve(3, Resolution::Finished)], "and nobody closes");
}

#[test]
fn join_of_an_empty_pool_is_over_at_once() {
    let mut bench = Bench::new(config(1));
    assert_eq!(bench.tell(Event::Join), [Action::Joined]);
    assert_eq!(bench.tell(Event::Join), [Action::Joined]);
}

#[test]
fn join_waits_for_workers_that_start() {
    let mut bench = Bench::new(config(1));
    bench.spawn_workers(1);
    assert_eq!(bench.tell(Event::Join), []);
    assert_eq!(bench.tell(Event::Ready(worker(1))), [close(1)]);
    assert_eq!(bench.exit(1, None), [Action::Joined]);
}

#[test]
fn join_waits_for_the_snapshot() {
    let mut bench = Bench::new(Config { needs_preparation: true, ..config(1) });
    bench.submit(task(1));
    bench.cancel(1);
    assert_eq!(bench.tell(Event::Join), []);
    assert_eq!(bench.tell(Event::Prepared), [Action::Joined]);
}

#[test]
fn a_join_given_up_closes_no_more_workers() {
    let mut bench = Bench::ready(config(1));
    bench.submit(task(1));
    bench.tell(Event::Join);
    bench.tell(Event::JoinGivenUp);
    assert_eq!(bench.finish(1, 1), [resolve(1, Resolution::Finished)]);
}

#[test]
fn an_empty_pool_shuts_down_at_once() {
    for mode in [ShutdownMode::Drain, ShutdownMode::Cancel, ShutdownMode::Kill] {
        let mut bench = Bench::new(config(1));
        assert_eq!(bench.shut_down(mode), [Action::Terminated]);
        assert_eq!(bench.submit(task(1)), [resolve(1, CANCELLED)]);
        assert_eq!(bench.shut_down(mode), [], "once");
        assert_eq!(bench.spawn_workers(1), [spawned(0)]);
    }
}

#[test]
fn shutdown_cancels_what_waits_and_finishes_what_runs() {
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    bench.submit(task(3));
    let recall = recall(1, 2);
    assert_eq!(bench.shut_down(ShutdownMode::Cancel), [resolve(3, CANCELLED), recall]);
    assert_eq!(bench.submit(task(4)), [resolve(4, CANCELLED)]);
    assert_eq!(bench.take_back(1, 2), [resolve(2, CANCELLED)]);
    bench.finish(1, 1);
    assert_eq!(bench.hand_back(1, 2), [close(1)]);
    bench.tell(Event::Closed(worker(1)));
    assert_eq!(bench.exit(1, Some(1)), [Action::Terminated]);
}

#[test]
fn shutdown_lets_a_starting_worker_be_ready_and_close() {
    let mut bench = Bench::new(config(1));
    bench.submit(task(1));
    assert_eq!(bench.shut_down(ShutdownMode::Cancel), [resolve(1, CANCELLED)]);
    assert_eq!(bench.tell(Event::Ready(worker(1))), [close(1)]);
    assert_eq!(bench.exit(1, None), [Action::Terminated]);
}

#[test]
fn drain_finishes_what_waits_with_new_workers_if_need_be() {
    let mut bench = one_worker_with(&[1], with_retry);
    bench.submit(task(2));
    assert_eq!(bench.shut_down(ShutdownMode::Drain), []);
    assert_eq!(bench.submit(task(3)), [resolve(3, CANCELLED)]);
    assert_eq!(bench.exit(1, Some(1)), []);
    assert_eq!(bench.time_out_at(BACKOFF_MIN), [Action::Spawn(worker(2))]);
    assert_eq!(bench.tell(Event::Ready(worker(2))), [run(2, &[1]), start(1)]);
    assert_eq!(bench.finish(2, 1)[1..], [run(2, &[2]), start(2)]);
    assert_eq!(bench.finish(2, 2), [resolve(2, Resolution::Finished), close(2)]);
    assert_eq!(bench.exit(2, Some(2)), [Action::Terminated]);
}

#[test]
fn a_drain_that_cannot_start_workers_ends_as_broken() {
    let mut bench = Bench::new(Config { start_failures_max: 1, ..config(1) });
    bench.submit(task(1));
    bench.shut_down(ShutdownMode::Drain);
    let broken = Action::Broken(BrokenCause::WorkersCannotStart);
    let ends = [broken, resolve(1, BROKEN), Action::Terminated];
    assert_eq!(bench.tell(Event::SpawnFailed(worker(1))), ends);
}

#[test]
fn kill_ends_everything_now() {
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    bench.submit(task(3));
    let stopped = Resolution::CancelledRunning(CancelReason::Shutdown);
    let ends = [resolve(1, stopped), resolve(3, CANCELLED)];
    let now = bench.shut_down(ShutdownMode::Kill);
    assert_eq!(now[..2], [recall(1, 2), Action::Kill(worker(1))]);
    assert_eq!(now[2..], ends);
    assert_eq!(bench.exit(1, Some(1)), [resolve(2, CANCELLED), Action::Terminated]);
}

#[test]
fn kill_spares_no_state() {
    let mut bench = Bench::new(config(3));
    bench.spawn_workers(3);
    bench.tell(Event::Ready(worker(1)));
    bench.tell(Event::Ready(worker(2)));
    bench.tell(Event::Join);
    bench.tell(Event::Misbehaved(worker(2)));
    let kills = [Action::Kill(worker(1)), Action::Kill(worker(3))];
    assert_eq!(bench.shut_down(ShutdownMode::Kill), kills, "closing, starting; not one dying");
}

#[test]
fn a_harsher_shutdown_replaces_a_milder_one_and_not_the_reverse() {
    let mut bench = one_worker_with(&[1], as_it_is);
    bench.submit(task(2));
    assert_eq!(bench.shut_down(ShutdownMode::Drain), []);
    assert_eq!(bench.shut_down(ShutdownMode::Cancel), [resolve(2, CANCELLED)]);
    assert_eq!(bench.shut_down(ShutdownMode::Drain), []);
    assert_eq!(bench.shut_down(ShutdownMode::Kill)[0], Action::Kill(worker(1)));
    assert_eq!(bench.shut_down(ShutdownMode::Cancel), []);
    assert_eq!(bench.exit(1, None), [Action::Terminated]);
}

#[test]
fn a_drain_after_a_shutdown_revives_nothing() {
    let mut bench = one_worker_with(&[1], with_retry);
    bench.shut_down(ShutdownMode::Cancel);
    bench.shut_down(ShutdownMode::Drain);
    let ends = [resolve(1, Resolution::WorkerLost), Action::Terminated];
    assert_eq!(bench.exit(1, Some(1)), ends);
}

#[test]
fn a_closed_pool_says_so_even_if_it_is_broken_too() {
    let mut bench = broken_by_initializer();
    bench.shut_down(ShutdownMode::Drain);
    assert_eq!(bench.submit(task(2)), [resolve(2, CANCELLED)]);
}

#[test]
fn shutdown_waits_for_no_snapshot() {
    let mut bench = Bench::new(Config { needs_preparation: true, ..config(1) });
    bench.submit(task(1));
    let ends = [resolve(1, CANCELLED), Action::Terminated];
    assert_eq!(bench.shut_down(ShutdownMode::Cancel), ends);
    assert_eq!(bench.tell(Event::PreparationFailed), [], "nobody waits for its answer");
}

#[test]
fn shutdown_ends_a_join() {
    let mut bench = Bench::new(Config { needs_preparation: true, ..config(1) });
    bench.spawn_workers(1);
    bench.tell(Event::Join);
    let ends = [spawned(0), Action::Joined, Action::Terminated];
    assert_eq!(bench.shut_down(ShutdownMode::Cancel), ends);
}

//! Workers that somebody asked for, and what is answered.

use super::super::{Action, Config, Event, Resolution};
use super::*;

fn spawn(id: u64) -> Action {
    Action::Spawn(worker(id))
}

/// Asks for as many workers as there is a need for.
fn spawn_as_needed(bench: &mut Bench) -> Vec<Action> {
    bench.tell(Event::SpawnWorkers { request: RequestId(1), count: None })
}

#[test]
fn a_request_without_a_number_is_for_every_pending_task_that_no_worker_is_free_for() {
    let mut bench = one_worker_of(3, &[1, 2, 3, 4]);
    // Three tasks of one batch are pending behind the first, and nobody is free.
    assert_eq!(spawn_as_needed(&mut bench), [spawn(2), spawn(3), spawned(2)], "the maximum");
    assert_eq!(spawn_as_needed(&mut bench), [spawned(0)]);
    let mut bench = one_worker_of(9, &[1, 2, 3]);
    assert_eq!(spawn_as_needed(&mut bench), [spawn(2), spawn(3), spawned(2)], "the need");
}

#[test]
fn a_request_without_a_number_counts_those_that_start_and_those_that_are_free() {
    let mut bench = one_worker_of(9, &[1, 2, 3]);
    bench.spawn_workers(1);
    assert_eq!(spawn_as_needed(&mut bench), [spawn(3), spawned(1)], "two pending, one starting");
    let mut bench = one_worker_of(9, &[1, 2]);
    bench.spawn_workers(1);
    bench.tell(Event::Ready(worker(2)));
    assert_eq!(spawn_as_needed(&mut bench), [spawned(0)], "one pending, one free");
}

#[test]
fn a_request_without_a_number_counts_those_that_were_asked_for_before() {
    let mut bench = one_worker_of(9, &[1, 2]);
    bench.submit(task(3));
    bench.tell(Event::SpawnFailed(worker(2)));
    assert_eq!(spawn_as_needed(&mut bench), [], "in the pause: two pending, nobody free");
    assert_eq!(bench.tell(Event::SpawnWorkers { request: RequestId(2), count: None }), []);
    let both = [spawn(3), spawn(4), spawned(2), Action::Spawned(RequestId(2), 0)];
    assert_eq!(bench.time_out_at(BACKOFF_MIN), both);
}

#[test]
fn a_request_without_a_number_of_an_idle_pool_is_for_none() {
    let mut bench = Bench::new(config(3));
    assert_eq!(spawn_as_needed(&mut bench), [spawned(0)]);
}

#[test]
fn a_request_is_answered_when_its_last_worker_starts() {
    let mut bench = Bench::new(Config { needs_preparation: true, ..config(2) });
    assert_eq!(bench.spawn_workers(2), [Action::Prepare]);
    let spawned_two = [spawn(1), spawn(2), spawned(2)];
    assert_eq!(bench.tell(Event::Prepared), spawned_two);
}

#[test]
fn what_is_still_to_start_counts_against_the_maximum() {
    let mut bench = Bench::new(Config { needs_preparation: true, ..config(2) });
    bench.spawn_workers(1);
    assert_eq!(bench.tell(Event::SpawnWorkers { request: RequestId(2), count: Some(2) }), []);
    let answers = [spawned(1), Action::Spawned(RequestId(2), 1)];
    assert_eq!(bench.tell(Event::Prepared)[2..], answers);
}

#[test]
fn a_request_is_answered_though_the_pool_breaks() {
    let mut bench = Bench::new(Config { needs_preparation: true, ..config(2) });
    bench.spawn_workers(2);
    let answers = bench.tell(Event::PreparationFailed);
    assert_eq!(answers[1..], [spawned(0)]);
}

#[test]
fn a_request_is_answered_though_the_pool_shuts_down() {
    for mode in [ShutdownMode::Drain, ShutdownMode::Cancel, ShutdownMode::Kill] {
        let mut bench = Bench::new(Config { needs_preparation: true, ..config(2) });
        bench.spawn_workers(2);
        assert_eq!(bench.shut_down(mode), [spawned(0), Action::Terminated]);
    }
}

#[test]
fn a_request_that_is_cut_short_is_told_what_had_started() {
    // Of two processes that retire, and one place left, only one of the two asked for can start.
    let mut bench = Bench::ready(Config { tasks_per_worker_max: Some(1), ..config(2) });
    bench.submit(task(1));
    bench.submit(task(2));
    bench.finish(1, 1);
    bench.submit(task(3));
    assert_eq!(bench.counts().workers, 3);
    bench.tell(Event::Ready(worker(3)));
    assert_eq!(bench.counts().busy, 2, "one retires, one is about to, one closes");
    assert_eq!(bench.spawn_workers(2), [spawn(4)]);
    assert_eq!(bench.shut_down(ShutdownMode::Drain), [spawned(1)]);
}

#[test]
fn requests_that_wait_together_lose_from_the_latest() {
    // Four processes that retire are as many as a pool of two workers may have.
    let mut bench = Bench::ready(Config { tasks_per_worker_max: Some(1), ..config(2) });
    for id in 1..=4 {
        bench.submit(task(id));
    }
    bench.tell(Event::Ready(worker(3)));
    bench.tell(Event::Ready(worker(4)));
    assert_eq!(bench.spawn_workers(1), []);
    assert_eq!(bench.tell(Event::SpawnWorkers { request: RequestId(2), count: Some(1) }), []);
    bench.finish(1, 2);
    let gone = bench.exit(1, Some(2));
    assert_eq!(gone, [spawn(5)], "for the first, who still waits with the other");
    let answers = [spawned(1), Action::Spawned(RequestId(2), 0)];
    assert_eq!(bench.shut_down(ShutdownMode::Drain), answers);
}

#[test]
fn a_request_is_answered_though_the_worker_that_started_for_it_dies() {
    let mut bench = Bench::new(config(1));
    assert_eq!(bench.spawn_workers(1), [spawn(1), spawned(1)]);
    assert_eq!(bench.tell(Event::SpawnFailed(worker(1))), []);
    assert_eq!(bench.timeout(), None, "nobody waits for another");
    bench.submit(task(1));
    bench.time_out_at(BACKOFF_MIN);
    bench.tell(Event::Ready(worker(2)));
    assert_eq!(bench.finish(2, 1), [resolve(1, Resolution::Finished)]);
}

/// A pool of at most so many workers, of which one holds these tasks as one batch.
fn one_worker_of(workers_max: usize, tasks: &[u64]) -> Bench {
    let mut bench = Bench::new(config(workers_max));
    bench.submit_batch(tasks, as_it_is);
    bench.tell(Event::Ready(worker(1)));
    bench
}

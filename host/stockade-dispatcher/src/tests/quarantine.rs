//! Modules that cost worker after worker.

use super::super::{Action, CancelReason, Config, Event, Resolution, Submission};
use super::*;

const QUARANTINED: Resolution = Resolution::Cancelled(CancelReason::Quarantined);
const LOSSES_MAX: u32 = 2;

fn of_module(module: u32) -> impl Fn(Submission) -> Submission + Copy {
    move |submission| Submission { module: ModuleId(module), ..submission }
}

fn quarantine(module: u32) -> Action {
    Action::Quarantine(ModuleId(module))
}

fn ready(id: u64) -> Event {
    Event::Ready(worker(id))
}

/// A pool of so many workers, in which module 7 has cost as many as it may, and that is over any
/// pause: the next worker is number 3, with the first of these tasks.
fn about_to_lose(workers_max: usize, tasks: &[u64]) -> Bench {
    let limit = Config {
        losses_in_a_row_max: Some(LOSSES_MAX),
        backoff_min: Duration::ZERO,
        ..config(workers_max)
    };
    let mut bench = Bench::new(limit);
    bench.submit(of_module(7)(task(100)));
    bench.tell(ready(1));
    let lost = [resolve(100, Resolution::WorkerLost)];
    assert_eq!(bench.exit(1, Some(100)), lost, "one loss is none too many");
    bench.submit_batch(tasks, of_module(7));
    bench.tell(ready(2));
    bench
}

#[test]
fn the_last_of_so_many_losses_quarantines_a_module() {
    let mut bench = about_to_lose(1, &[1, 2]);
    bench.submit(of_module(7)(task(3)));
    bench.submit(of_module(8)(task(4)));
    let gone = bench.exit(2, Some(1));
    let ends = [
        quarantine(7),
        resolve(3, QUARANTINED),
        resolve(1, Resolution::WorkerLost),
        resolve(2, QUARANTINED),
        Action::Spawn(worker(3)),
    ];
    assert_eq!(gone, ends);
    assert_eq!(bench.tell(ready(3)), [run(3, &[4]), start(4)], "others notice nothing");
}

#[test]
fn a_quarantined_module_takes_no_tasks_for_good() {
    let mut bench = about_to_lose(1, &[1]);
    bench.exit(2, Some(1));
    assert_eq!(bench.submit(of_module(7)(task(2))), [resolve(2, QUARANTINED)]);
    assert_eq!(bench.submit(of_module(8)(task(3))), [Action::Spawn(worker(3))]);
    bench.tell(ready(3));
    bench.finish(3, 3);
    assert_eq!(bench.submit(of_module(7)(task(4))), [resolve(4, QUARANTINED)]);
}

#[test]
fn a_finished_task_forgives_its_module_and_no_other() {
    let mut bench = about_to_lose(1, &[1, 2]);
    bench.finish(2, 1);
    assert_eq!(bench.exit(2, Some(2)), [resolve(2, Resolution::WorkerLost)], "the first in a row");
    let mut bench = about_to_lose(1, &[1]);
    bench.cancel_running(1);
    bench.exit(2, Some(1));
    bench.submit(of_module(8)(task(2)));
    bench.tell(ready(3));
    bench.finish(3, 2);
    bench.submit(of_module(7)(task(3)));
    assert_eq!(bench.exit(3, Some(3))[0], quarantine(7));
}

#[test]
fn a_task_handed_back_forgives_nothing() {
    let mut bench = about_to_lose(1, &[1, 2]);
    bench.cancel(1);
    bench.hand_back(2, 1);
    assert_eq!(bench.exit(2, Some(2))[0], quarantine(7));
}

#[test]
fn a_death_that_we_caused_is_held_against_nobody() {
    let stopped = about_to_lose(1, &[1]).cancel_running(1);
    assert_eq!(stopped[0], Action::Kill(worker(2)));
    let mut bench = about_to_lose(1, &[1]);
    bench.cancel_running(1);
    assert_eq!(bench.exit(2, Some(1)), []);
    let mut bench = about_to_lose(1, &[1]);
    bench.shut_down(ShutdownMode::Kill);
    assert_eq!(bench.exit(2, Some(1)), [Action::Terminated]);
}

#[test]
fn a_passed_deadline_is_held_against_nobody() {
    let mut bench = Bench::new(Config { losses_in_a_row_max: Some(1), ..config(1) });
    bench.submit(with_wall_time(task(1)));
    bench.tell(ready(1));
    bench.time_out_at(WALL_TIME);
    assert_eq!(bench.exit(1, Some(1)), []);
}

#[test]
fn a_worker_that_misbehaves_is_held_against_what_it_ran() {
    let mut bench = about_to_lose(1, &[1]);
    bench.tell(Event::Misbehaved(worker(2)));
    assert_eq!(bench.exit(2, Some(1))[0], quarantine(7));
}

#[test]
fn a_worker_without_a_task_is_held_against_nobody() {
    let mut bench = about_to_lose(1, &[1]);
    bench.cancel_running(1);
    bench.exit(2, Some(1));
    bench.spawn_workers(1);
    bench.tell(ready(3));
    assert_eq!(bench.exit(3, Some(1)), []);
}

#[test]
fn a_death_is_held_against_the_task_that_had_started_else_the_first() {
    let pair = |bench: &mut Bench| {
        bench.submit(of_module(9)(task(100)));
        bench.tell(ready(1));
        bench.finish_after(1, 1, 100);
        bench.submit(of_module(8)(task(1)));
        assert_eq!(bench.submit(of_module(7)(task(2))), [run(1, &[2])], "behind the first");
    };
    let strict = Config { losses_in_a_row_max: Some(1), ..config(1) };
    let mut bench = Bench::new(strict.clone());
    pair(&mut bench);
    assert_eq!(bench.exit(1, Some(2))[0], quarantine(7));
    let mut bench = Bench::new(strict.clone());
    pair(&mut bench);
    assert_eq!(bench.exit(1, None)[0], quarantine(8));
    let mut bench = Bench::new(strict);
    pair(&mut bench);
    assert_eq!(bench.exit(1, Some(99))[0], quarantine(8), "its page names another's");
}

#[test]
fn a_lost_task_is_not_tried_again_by_a_quarantined_module() {
    let mut bench = about_to_lose(1, &[]);
    bench.submit(with_retry(of_module(7)(task(1))));
    bench.tell(ready(2));
    let ends = [quarantine(7), resolve(1, Resolution::WorkerLost)];
    assert_eq!(bench.exit(2, Some(1)), ends);
}

#[test]
fn what_a_quarantined_module_runs_finishes_and_what_it_has_sent_is_wanted_back() {
    let mut bench = about_to_lose(2, &[1]);
    bench.submit_batch(&[2, 3], of_module(7));
    bench.tell(ready(3));
    let ends = [quarantine(7), recall(3, 3), resolve(1, Resolution::WorkerLost)];
    assert_eq!(bench.exit(2, Some(1)), ends);
    assert_eq!(bench.take_back(3, 3), [resolve(3, QUARANTINED)]);
    assert_eq!(bench.finish(3, 2), [resolve(2, Resolution::Finished)]);
    assert_eq!(bench.hand_back(3, 3), []);
    assert_eq!(bench.submit(of_module(7)(task(4))), [resolve(4, QUARANTINED)], "none the less");
}

#[test]
fn a_module_is_quarantined_while_the_pool_shuts_down_too() {
    let mut bench = about_to_lose(1, &[1, 2]);
    bench.shut_down(ShutdownMode::Drain);
    let ends = [
        quarantine(7),
        resolve(1, Resolution::WorkerLost),
        resolve(2, QUARANTINED),
        Action::Terminated,
    ];
    assert_eq!(bench.exit(2, Some(1)), ends);
    let mut bench = about_to_lose(1, &[1]);
    bench.shut_down(ShutdownMode::Cancel);
    let ends = [quarantine(7), resolve(1, Resolution::WorkerLost), Action::Terminated];
    assert_eq!(bench.exit(2, Some(1)), ends);
}

#[test]
fn a_module_is_quarantined_once() {
    let mut bench = about_to_lose(2, &[1]);
    bench.submit(with_retry(of_module(7)(task(2))));
    bench.tell(ready(3));
    bench.exit(2, Some(1));
    assert_eq!(bench.exit(3, Some(2)), [resolve(2, Resolution::WorkerLost)]);
}

#[test]
fn without_a_limit_no_module_is_quarantined() {
    let mut bench = Bench::new(Config { backoff_min: Duration::ZERO, ..config(1) });
    for id in 1..=100 {
        bench.submit(task(id));
        bench.tell(ready(id));
        assert_eq!(bench.exit(id, Some(id)), [resolve(id, Resolution::WorkerLost)]);
    }
}

//! How much a worker is given at a time, and what is taken from it again.

use super::super::{Action, Config, Event, Resolution, Submission};
use super::*;

fn done(task: u64) -> Action {
    resolve(task, Resolution::Finished)
}

/// A pool of so many workers that have each finished a task in a millisecond, four of which make a
/// window; they run tasks 1, 2, and so on.
fn paced(workers_max: usize) -> Bench {
    paced_with(config(workers_max))
}

fn paced_with(config: Config) -> Bench {
    let workers = config.workers_max as u64;
    let mut bench = Bench::ready(config);
    for (first, tell) in [(101, true), (1, false)] {
        for task_id in first..first + workers {
            bench.submit(task(task_id));
        }
        for id in 1..=workers {
            // The latest to be ready is the first to be given something.
            if tell {
                bench.finish_after(1, id, first + workers - id);
            }
        }
    }
    bench
}

/// A batch each.
fn run_each(id: u64, ids: std::ops::RangeInclusive<u64>) -> Vec<Action> {
    ids.map(|task| run(id, &[task])).collect()
}

/// Submits these tasks all at once.
fn submit_all(bench: &mut Bench, tasks: std::ops::RangeInclusive<u64>) -> Vec<Action> {
    for id in tasks {
        bench.hear(Event::Submit(task(id)));
    }
    bench.decided()
}

#[test]
fn a_busy_worker_is_given_a_windows_time_of_work() {
    let mut bench = paced(1);
    assert_eq!(submit_all(&mut bench, 2..=9), run_each(1, 2..=4));
    assert_eq!(bench.counts().pending_tasks, 8);
}

#[test]
fn a_dispatcher_knows_how_many_tasks_fill_all_windows_and_whether_another_would_only_wait() {
    let bench = Bench::ready(config(2));
    assert_eq!(bench.counts().window_tasks, 0, "nothing is known of their paces");
    let mut bench = paced(2);
    assert_eq!(bench.counts().window_tasks, 2 * 4);
    submit_all(&mut bench, 3..=4);
    assert!(!bench.dispatcher.is_saturated(), "windows have room");
    submit_all(&mut bench, 5..=11);
    assert!(bench.dispatcher.is_saturated());
    let mut starting = Bench::new(config(3));
    submit_all(&mut starting, 1..=2);
    assert!(!starting.dispatcher.is_saturated(), "a third worker would start for it");
    submit_all(&mut starting, 3..=4);
    assert!(starting.dispatcher.is_saturated());
}

#[test]
fn a_window_is_filled_when_half_of_it_is_done_and_not_before() {
    let mut bench = paced(1);
    submit_all(&mut bench, 2..=9);
    assert_eq!(bench.finish_after(1, 1, 1), [done(1), start(2)]);
    assert_eq!(bench.finish_after(1, 1, 2), [done(2), start(3), run(1, &[5]), run(1, &[6])]);
}

#[test]
fn many_answers_that_are_told_at_once_are_followed_by_one_refill_and_one_start() {
    let mut bench = paced(1);
    submit_all(&mut bench, 2..=9);
    for id in 1..=3 {
        let wall_time = ms(1);
        let finished = Event::Finished { worker: worker(1), tasks: tasks(id, id), wall_time };
        bench.dispatcher.handle_event(bench.now, finished);
    }
    let decided = bench.decided();
    assert_eq!(decided[..4], [done(1), done(2), done(3), start(4)]);
    assert_eq!(decided[4..], run_each(1, 5..=7));
}

#[test]
fn a_worker_that_has_finished_nothing_holds_one_batch() {
    let mut bench = Bench::new(config(1));
    bench.submit_batch(&[1, 2], as_it_is);
    bench.submit(task(3));
    assert_eq!(bench.tell(Event::Ready(worker(1))), [run(1, &[1, 2]), start(1)]);
}

#[test]
fn a_worker_whose_tasks_are_long_gets_one_batch_at_a_time() {
    let mut bench = paced(1);
    bench.finish_after(1_000_000, 1, 1);
    bench.submit(task(2));
    for id in 3..9 {
        bench.submit(task(id));
        bench.finish_after(1_000_000, 1, id - 1);
    }
    bench.submit_batch(&[20, 21, 22], as_it_is);
    let next = bench.finish_after(1_000_000, 1, 8);
    assert_eq!(next, [done(8), run(1, &[20, 21, 22]), start(20)], "and that whole");
}

#[test]
fn nonsense_about_wall_times_is_no_more_than_a_deep_or_a_shallow_window() {
    let mut bench = Bench::ready(config(1));
    bench.submit(task(1));
    bench.finish_after(0, 1, 1);
    let given = submit_all(&mut bench, 2..=20);
    assert_eq!(given[..2], [run(1, &[2]), start(2)]);
    assert_eq!(given[2..], run_each(1, 3..=9), "as much as a window holds");
    let forever =
        Event::Finished { worker: worker(1), tasks: tasks(2, 2), wall_time: Duration::MAX };
    assert_eq!(bench.tell(forever), [done(2), start(3)]);
}

#[test]
fn a_window_holds_as_many_bytes_as_allowed_and_no_more() {
    let tight = |window_bytes_max| {
        let mut bench = paced_with(Config { window_bytes_max, ..config(1) });
        submit_all(&mut bench, 2..=9)
    };
    assert_eq!(tight(40), run_each(1, 2..=4));
    assert_eq!(tight(39), run_each(1, 2..=3));
    assert_eq!(tight(19), []);
}

#[test]
fn no_window_is_deepened_while_a_worker_starts_or_may() {
    let mut bench = paced_with(config(1));
    bench.dispatcher = Dispatcher::new(config(2));
    bench.spawn_workers(1);
    bench.tell(Event::Ready(worker(1)));
    bench.submit(task(1));
    bench.finish_after(1, 1, 1);
    bench.submit(task(2));
    let spawn = [Action::Spawn(worker(2))];
    assert_eq!(submit_all(&mut bench, 3..=9), spawn);
    assert_eq!(bench.submit(task(10)), [], "while it starts");
    let ready = bench.tell(Event::Ready(worker(2)));
    assert_eq!(ready[..2], [run(2, &[3]), start(3)]);
    assert_eq!(ready[2..], run_each(1, 4..=6), "the other's pace is not known");
}

#[test]
fn what_is_left_is_shared_out() {
    let mut bench = paced(2);
    let actions = submit_all(&mut bench, 3..=6);
    let shares = [run_each(1, 3..=4), run_each(2, 5..=6)].concat();
    assert_eq!(actions, shares, "half, then half again, twice");
}

#[test]
fn nobody_waits_behind_a_slow_task() {
    let mut bench = paced(2);
    submit_all(&mut bench, 3..=8);
    // The second worker ends what it has, and none of it is long.
    for id in [1, 6, 7, 8] {
        bench.finish_after(1, 2, id);
    }
    assert_eq!(bench.counts().free, 1);
    let recalls = [recall(1, 5), recall(1, 4), recall(1, 3)];
    assert_eq!(bench.time_out_at(PATIENCE), recalls, "the last first");
    for id in [5, 4, 3] {
        let taken_back = Event::TakenBack { worker: worker(1), task: TaskId(id) };
        bench.dispatcher.handle_event(bench.now, taken_back);
    }
    let elsewhere = [run(2, &[3]), start(3), run(2, &[4]), run(2, &[5])];
    assert_eq!(bench.decided(), elsewhere, "in their old order, and not to where they were");
}

#[test]
fn a_pool_of_one_worker_is_patient() {
    let mut bench = paced(1);
    submit_all(&mut bench, 2..=9);
    assert_eq!(bench.timeout(), None);
}

#[test]
fn the_same_task_may_go_to_the_worker_that_is_to_hand_it_back() {
    let mut bench = paced(2);
    submit_all(&mut bench, 3..=8);
    bench.wait_until(PATIENCE);
    bench.dispatcher.handle_timeout(bench.now);
    bench.decided();
    bench.take_back(2, 7);
    let again = [done(1), start(6), run(2, &[7]), run(2, &[8])];
    assert_eq!(bench.finish_after(1, 2, 1), again);
    assert_eq!(bench.finish_after(1, 2, 6), [done(6)]);
    assert_eq!(bench.hand_back(2, 7), [start(7)]);
    assert_eq!(bench.finish_after(1, 2, 7), [done(7), start(8)]);
}

#[test]
fn a_task_that_was_recalled_too_late_ends_where_it_is_and_is_not_recalled_again() {
    let mut bench = paced(2);
    submit_all(&mut bench, 3..=8);
    bench.wait_until(PATIENCE);
    bench.dispatcher.handle_timeout(bench.now);
    assert_eq!(bench.decided().len(), 5, "three and two");
    assert_eq!(bench.timeout(), None);
    bench.finish_after(1, 1, 2);
    assert_eq!(bench.timeout(), None);
    assert_eq!(bench.finish_after(1, 1, 3)[..2], [done(3), start(4)]);
}

#[test]
fn an_idle_worker_gets_half_of_what_waits_in_another_window() {
    let mut bench = Bench::new(Config { patience: ms(30), ..config(2) });
    bench.submit_batch(&[1, 2, 3, 4, 5, 6], as_it_is);
    bench.tell(Event::Ready(worker(1)));
    bench.spawn_workers(1);
    bench.wait_until(5);
    bench.tell(Event::Ready(worker(2)));
    bench.wait_until(20);
    bench.finish(1, 1);
    assert_eq!(bench.time_out_at(35), [recall(1, 5)], "the last two of four");
    assert_eq!(bench.take_back(1, 5), [run(2, &[5, 6]), start(5)]);
}

#[test]
fn what_was_taken_back_does_not_count_as_given_to_a_worker() {
    let limited = Config { tasks_per_worker_max: Some(3), ..config(1) };
    let mut bench = Bench::new(limited);
    bench.submit_batch(&[1, 2, 3], as_it_is);
    bench.tell(Event::Ready(worker(1)));
    bench.cancel(3);
    bench.finish(1, 1);
    bench.finish(1, 2);
    assert_eq!(bench.hand_back(1, 3), [], "one more is left to it");
    assert_eq!(bench.submit(task(4)), [run(1, &[4]), start(4)]);
    assert_eq!(bench.finish(1, 4), [done(4), Action::Close(worker(1))]);
}

#[test]
fn a_worker_that_another_has_replaced_is_given_no_more_whatever_is_taken_back() {
    let limited = Config { tasks_per_worker_max: Some(2), ..config(1) };
    let mut bench = Bench::new(limited);
    bench.submit_batch(&[1, 2], as_it_is);
    bench.submit(task(3));
    bench.tell(Event::Ready(worker(1)));
    bench.cancel(2);
    bench.finish(1, 1);
    assert_eq!(bench.hand_back(1, 2), [Action::Close(worker(1))]);
}

#[test]
fn a_revoked_task_takes_a_place_in_its_window() {
    let small = Config { window_tasks_max: 3, ..config(1) };
    let mut bench = paced_with(small);
    assert_eq!(submit_all(&mut bench, 2..=9), run_each(1, 2..=3));
    bench.cancel(2);
    bench.cancel(3);
    assert_eq!(bench.finish_after(1, 1, 1), [done(1), run(1, &[4])], "beside two");
    assert_eq!(bench.hand_back(1, 2), [run(1, &[5])]);
}

#[test]
fn what_waits_behind_a_task_that_is_not_handed_back_goes_elsewhere() {
    let mut bench = paced(2);
    submit_all(&mut bench, 3..=4);
    bench.cancel(2);
    let taken = bench.time_out_at(PATIENCE);
    assert!(taken.contains(&recall(1, 3)), "{taken:?}");
}

fn with_priority(priority: i32, id: u64) -> Submission {
    Submission { priority, ..task(id) }
}

#[test]
fn what_was_taken_back_goes_to_the_front_of_its_own_priority() {
    let mut bench = paced(2);
    submit_all(&mut bench, 3..=8);
    bench.wait_until(PATIENCE);
    bench.dispatcher.handle_timeout(bench.now);
    bench.decided();
    bench.submit(with_priority(1, 20));
    bench.submit(with_priority(0, 21));
    bench.take_back(1, 5);
    bench.take_back(1, 4);
    let batches = &bench.dispatcher.batches;
    let order = bench.dispatcher.queue.iter(batches).map(|key| batches[key].tasks.first().0);
    let order: Vec<_> = order.collect();
    assert_eq!(order, [20, 4, 5, 8, 21], "the eighth found no room before");
}

//! Batches: partly answered, cut, revoked from the middle on, lost in the middle.

use super::super::{Action, CancelReason, Config, Event, Resolution};
use super::*;

const CANCELLED: Resolution = Resolution::Cancelled(CancelReason::Asked);
const STOPPED: Resolution = Resolution::CancelledRunning(CancelReason::Asked);
const LOST: Resolution = Resolution::WorkerLost;

fn done(ids: &[u64]) -> Action {
    resolve_all(ids, Resolution::Finished)
}

fn kill(id: u64) -> Action {
    Action::Kill(worker(id))
}

/// A pool of one worker, whose tasks take a millisecond, with these batches in its window; four tasks are
/// the window's time of work.
fn one_worker_with_batches(config: Config, batches: &[(u64, u64)]) -> Bench {
    let mut bench = Bench::ready(config);
    bench.submit(task(100));
    bench.finish_after(1, 1, 100);
    for &(first, last) in batches {
        bench.hear(Event::Submit(batch(first, last)));
    }
    let expected =
        batches.iter().map(|&(first, last)| Action::Run(worker(1), ENTRY, tasks(first, last)));
    let mut decided = bench.decided();
    decided.retain(|action| matches!(action, Action::Run(..)));
    assert_eq!(decided, expected.collect::<Vec<_>>());
    bench
}

/// A pool of one worker whose window is as deep as may be.
fn deep() -> Config {
    Config { window_time: ms(20), ..config(1) }
}

/// What waits in the queue, in order: the first and the last of each batch.
fn queued(bench: &Bench) -> Vec<(u64, u64)> {
    let batches = &bench.dispatcher.batches;
    let bounds = |key| (batches[key].tasks.first().0, batches[key].tasks.last().0);
    bench.dispatcher.queue.iter(batches).map(bounds).collect()
}

#[test]
fn tasks_of_several_batches_are_answered_together_and_only_what_comes_next_is_said_to_start() {
    let mut bench = one_worker_with_batches(deep(), &[(1, 2), (3, 3), (4, 5)]);
    assert_eq!(
        bench.finish_all(4, 1, &[1, 2, 3, 4]),
        [done(&[1, 2]), done(&[3]), done(&[4]), start(5)]
    );
    assert_eq!(bench.finish_all(1, 1, &[5]), [done(&[5])]);
    assert_eq!(bench.counts().free, 1);
}

#[test]
fn answers_that_do_not_follow_cost_the_worker_and_not_those_before_them() {
    let answered = |ids: &[u64]| {
        let mut bench = one_worker_with_batches(deep(), &[(1, 2), (4, 5)]);
        let answer = bench.finish_all(1, 1, ids);
        (answer, bench.counts().pending_tasks)
    };
    assert_eq!(answered(&[1, 2, 3]), (vec![done(&[1, 2]), kill(1)], 2), "there is no third");
    assert_eq!(answered(&[1, 2, 3, 4]), (vec![done(&[1, 2]), kill(1)], 2));
    assert_eq!(answered(&[2]), (vec![kill(1)], 4), "the first is missing");
    assert_eq!(answered(&[4, 5]), (vec![kill(1)], 4), "a batch is missing");
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    assert_eq!(
        bench.finish_all(1, 1, &[1, 2, 3]),
        [done(&[1, 2]), kill(1)],
        "though it is idle then"
    );
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    bench.finish(1, 1);
    assert_eq!(bench.finish_all(1, 1, &[1, 2]), [kill(1)], "the first for the second time");
}

#[test]
fn a_task_that_was_revoked_is_not_believed_to_have_run_with_those_before_it() {
    let mut bench = one_worker_with(&[1, 2, 3], as_it_is);
    bench.cancel_all(&[3]);
    assert_eq!(bench.finish_all(1, 1, &[1, 2, 3]), [done(&[1, 2]), kill(1)]);
    assert_eq!(bench.exit(1, Some(3)), []);
}

#[test]
fn tasks_answered_together_make_a_pace_as_one_by_one() {
    let mut bench = Bench::ready(config(1));
    bench.submit_batch(&[1, 2, 3, 4], as_it_is);
    bench.finish_all(4, 1, &[1, 2, 3, 4]);
    assert_eq!(bench.counts().window_tasks, 4, "a millisecond each");
}

#[test]
fn a_deadline_counts_for_each_task_of_a_batch() {
    let mut bench = one_worker_with(&[1, 2, 3], with_wall_time);
    bench.wait_until(60);
    bench.finish_all(2, 1, &[1, 2]);
    let late = [kill(1), resolve(3, Resolution::DeadlinePassed)];
    assert_eq!(bench.time_out_at(60 + WALL_TIME), late);
}

#[test]
fn a_worker_without_work_is_given_a_whole_batch_whatever_its_pace() {
    let mut bench = one_worker_with_batches(config(1), &[(1, 8)]);
    assert_eq!(
        bench.finish_all(8, 1, &[1, 2, 3, 4, 5, 6, 7, 8]),
        [done(&[1, 2, 3, 4, 5, 6, 7, 8])]
    );
}

#[test]
fn a_busy_worker_is_given_the_next_batch_whole() {
    let mut bench = one_worker_with_batches(config(1), &[(1, 1), (2, 6)]);
    assert_eq!(bench.submit(task(7)), [], "that was more than a window's time of work");
    bench.finish_all(3, 1, &[1, 2, 3]);
    assert_eq!(bench.submit(task(8)), []);
    assert_eq!(bench.finish_all(1, 1, &[4])[2..], [run(1, &[7]), run(1, &[8])]);
}

#[test]
fn a_batch_that_does_not_fit_behind_others_waits_for_the_window_to_empty() {
    let mut bench = one_worker_with_batches(config(1), &[(1, 3)]);
    bench.submit(batch(4, 10));
    assert_eq!(bench.finish_after(1, 1, 1), [done(&[1]), start(2)], "two and seven are too many");
}

#[test]
fn a_window_holds_as_many_batches_as_allowed_and_no_more() {
    let few = Config { window_batches_max: 2, ..config(1) };
    let mut bench = one_worker_with_batches(few, &[(1, 1), (2, 2)]);
    assert_eq!(bench.submit(task(3)), []);
    bench.cancel(2);
    assert_eq!(bench.submit(task(4)), [], "what is to be handed back keeps its slot");
    assert_eq!(bench.finish_after(1, 1, 1), [done(&[1]), run(1, &[3])]);
    assert_eq!(bench.hand_back(1, 2), [start(3), run(1, &[4])]);
}

#[test]
fn a_cancel_in_the_middle_of_a_queued_batch_leaves_the_rest_in_its_place() {
    let cancelled = |ids: &[u64]| {
        let mut bench = Bench::new(config(1));
        for (first, last) in [(1, 1), (2, 5), (6, 7)] {
            bench.submit(batch(first, last));
        }
        assert_eq!(bench.cancel_all(ids), [resolve_all(ids, CANCELLED)]);
        assert_eq!(bench.cancel_all(ids), [], "once");
        queued(&bench)
    };
    assert_eq!(cancelled(&[3]), [(1, 1), (2, 2), (4, 5), (6, 7)]);
    assert_eq!(cancelled(&[3, 4]), [(1, 1), (2, 2), (5, 5), (6, 7)]);
    assert_eq!(cancelled(&[2]), [(1, 1), (3, 5), (6, 7)]);
    assert_eq!(cancelled(&[5]), [(1, 1), (2, 4), (6, 7)]);
    assert_eq!(cancelled(&[2, 3, 4, 5]), [(1, 1), (6, 7)]);
}

#[test]
fn a_cancel_covers_whatever_batches_and_gaps_its_tasks_are_in_by_now() {
    let mut bench = one_worker_with(&[1, 2, 3], as_it_is);
    bench.submit(batch(4, 6));
    bench.submit(task(7));
    bench.submit(batch(20, 22));
    bench.cancel(5);
    let all: Vec<_> = (2..=21).collect();
    let expected = [
        resolve_all(&[2, 3], CANCELLED),
        resolve(4, CANCELLED),
        resolve(6, CANCELLED),
        resolve(7, CANCELLED),
        resolve_all(&[20, 21], CANCELLED),
    ];
    assert_eq!(bench.cancel_all(&all), expected);
    assert_eq!(queued(&bench), [(22, 22)]);
}

#[test]
fn a_cancel_in_the_middle_of_a_window_lets_those_behind_it_wait_again() {
    let mut bench = one_worker_with(&[1, 2, 3, 4, 5], as_it_is);
    bench.submit(task(6));
    assert_eq!(bench.cancel_all(&[3]), [resolve(3, CANCELLED)]);
    assert_eq!(queued(&bench), [(4, 5), (6, 6)], "before what was submitted later");
    let next = [done(&[1]), start(2), run(1, &[4, 5]), run(1, &[6])];
    assert_eq!(bench.finish_after(1, 1, 1), next, "with the revoked one still to be handed back");
    assert_eq!(bench.finish_after(1, 1, 2), [done(&[2])]);
    assert_eq!(bench.hand_back(1, 3), [start(4)]);
}

#[test]
fn what_stands_behind_a_cancel_ends_in_a_pool_that_stops() {
    let mut bench = one_worker_with(&[1, 2, 3], as_it_is);
    bench.shut_down(ShutdownMode::Cancel);
    let shut_down = Resolution::Cancelled(CancelReason::Shutdown);
    assert_eq!(bench.cancel(2), [resolve(2, CANCELLED), resolve(3, shut_down)]);
}

#[test]
fn a_batch_that_is_revoked_again_from_an_earlier_task_on_is_handed_back_from_there() {
    let revoked_twice = || {
        let mut bench = one_worker_with(&[1, 2, 3, 4, 5], as_it_is);
        bench.cancel_all(&[4, 5]);
        assert_eq!(bench.cancel(3), [resolve(3, CANCELLED)]);
        assert_eq!(bench.cancel(2), [resolve(2, CANCELLED)]);
        bench.finish(1, 1);
        bench
    };
    assert_eq!(revoked_twice().hand_back(1, 2), []);
    assert_eq!(revoked_twice().hand_back(1, 4), [kill(1)]);
    assert_eq!(revoked_twice().hand_back(1, 3), [kill(1)]);
    let mut early = one_worker_with(&[1, 2], as_it_is);
    early.cancel(2);
    assert_eq!(early.hand_back(1, 2), [kill(1)], "the first is to be answered before");
}

#[test]
fn a_recall_that_came_too_late_for_some_takes_back_the_others() {
    let mut bench = Bench::new(config(2));
    bench.submit_batch(&[1, 2, 3, 4, 5], as_it_is);
    bench.tell(Event::Ready(worker(1)));
    assert_eq!(bench.time_out_at(PATIENCE), [recall(1, 2)]);
    assert_eq!(bench.take_back(1, 4), [Action::Spawn(worker(2))]);
    assert_eq!(queued(&bench), [(4, 5)]);
    assert_eq!(bench.finish(1, 1), [done(&[1]), start(2)]);
    assert_eq!(bench.timeout(), Some(START_TIMEOUT + PATIENCE), "the others have started");
    bench.finish(1, 2);
    bench.finish(1, 3);
    assert_eq!(bench.hand_back(1, 4), [run(1, &[4, 5]), start(4)]);
}

/// Two workers, of which the second holds these batches, the first of whose tasks has just ended, and the
/// first idles since 5 ms, with 30 ms of patience.
fn stealable(batches: &[(u64, u64)]) -> Bench {
    let mut bench = Bench::ready(Config { patience: ms(30), window_time: ms(20), ..config(2) });
    bench.submit(task(100));
    bench.finish_after(1, 2, 100);
    let (first, last) = batches[0];
    assert_eq!(
        bench.submit(batch(first, last))[0],
        Action::Run(worker(2), ENTRY, tasks(first, last))
    );
    bench.submit(task(101));
    for &(first, last) in &batches[1..] {
        let given = [Action::Run(worker(2), ENTRY, tasks(first, last))];
        assert_eq!(bench.submit(batch(first, last)), given, "the other's pace is not known");
    }
    bench.wait_until(5);
    bench.finish(1, 101);
    bench.wait_until(20);
    bench.finish_after(1, 2, first);
    bench
}

#[test]
fn stealing_cuts_a_batch_where_half_of_what_waits_ends() {
    let mut bench = stealable(&[(1, 2), (3, 5)]);
    assert_eq!(bench.time_out_at(35), [recall(2, 4)], "two of three");
    assert_eq!(bench.take_back(2, 4), [run(1, &[4, 5]), start(4)]);
    let mut bench = stealable(&[(1, 4), (5, 5)]);
    assert_eq!(bench.time_out_at(35), [recall(2, 5), recall(2, 4)], "of both batches");
    bench.hear(Event::TakenBack { worker: worker(2), task: TaskId(5) });
    assert_eq!(bench.take_back(2, 4)[..2], [run(1, &[4]), start(4)]);
}

#[test]
fn a_theft_that_came_too_late_for_some_is_not_tried_on_those_before_them() {
    let mut bench = stealable(&[(1, 8)]);
    assert_eq!(bench.time_out_at(35), [recall(2, 6)], "three of six");
    assert_eq!(bench.take_back(2, 7), [run(1, &[7, 8]), start(7)], "the sixth has started");
    assert_eq!(bench.timeout(), Some(35 + 30), "of the first worker; nothing waits in the other");
}

#[test]
fn a_task_to_be_stopped_is_recalled_with_those_behind_it_and_the_page_says_what_has_started() {
    let stopped_in_the_middle = || {
        let mut bench = Bench::new(config(2));
        bench.submit_batch(&[1, 2, 3, 4, 5], as_it_is);
        bench.tell(Event::Ready(worker(1)));
        assert_eq!(bench.cancel_running(3), []);
        assert_eq!(bench.time_out_at(PATIENCE), [recall(1, 2)]);
        bench
    };
    let mut started = stopped_in_the_middle();
    started.take_back(1, 4);
    assert_eq!(queued(&started), [(4, 5)]);
    let ended = started.finish_all(2, 1, &[1, 2]);
    assert_eq!(ended[..3], [done(&[1, 2]), kill(1), resolve(3, STOPPED)]);
    let mut unstarted = stopped_in_the_middle();
    assert_eq!(unstarted.take_back(1, 2)[0], resolve(3, CANCELLED), "a word that came late");
    assert_eq!(queued(&unstarted), [(2, 2), (4, 5)]);
}

#[test]
fn a_stop_of_the_first_task_of_a_batch_spares_the_others() {
    let mut bench = one_worker_with(&[1, 2, 3], with_retry);
    let ended = [recall(1, 2), kill(1), resolve(1, STOPPED)];
    assert_eq!(bench.cancel_running(1), ended);
    assert_eq!(bench.take_back(1, 3), [Action::Spawn(worker(2))], "the second had started");
    assert_eq!(bench.exit(1, Some(2)), [], "and is tried again");
    assert_eq!(bench.tell(Event::Ready(worker(2))), [run(2, &[2]), start(2)]);
}

#[test]
fn a_death_in_the_middle_of_a_batch_costs_those_that_had_started_a_retry() {
    let mut bench = one_worker_with(&[1, 2, 3, 4, 5], with_retry);
    bench.finish(1, 1);
    assert_eq!(bench.exit(1, Some(3)), [Action::Spawn(worker(2))]);
    assert_eq!(queued(&bench), [(2, 3), (4, 5)]);
    assert_eq!(bench.tell(Event::Ready(worker(2))), [run(2, &[2, 3]), start(2)]);
    assert_eq!(bench.exit(2, Some(3)), [resolve_all(&[2, 3], LOST)]);
    bench.time_out_at(BACKOFF_MIN);
    assert_eq!(bench.tell(Event::Ready(worker(3))), [run(3, &[4, 5]), start(4)]);
    assert_eq!(bench.exit(3, Some(5)), [], "they have a retry of their own");
}

#[test]
fn the_first_task_of_a_batch_is_suspected_alone() {
    let mut bench = Bench::new(Config { requeues_max: 0, ..config(1) });
    bench.submit_batch(&[1, 2, 3], as_it_is);
    bench.tell(Event::Ready(worker(1)));
    assert_eq!(bench.exit(1, None), [resolve(1, LOST)]);
    assert_eq!(queued(&bench), [(2, 3)]);
}

#[test]
fn tasks_to_be_stopped_end_with_their_worker_wherever_they_are_in_their_batch() {
    let dying = |started| {
        let mut bench = one_worker_with(&[1, 2, 3, 4, 5], with_retry);
        bench.cancel_running(2);
        bench.cancel_running(4);
        let ended = bench.exit(1, started);
        (ended, queued(&bench))
    };
    let parts = vec![(1, 1), (3, 3), (5, 5)];
    assert_eq!(dying(Some(3)), (vec![resolve(2, STOPPED), resolve(4, CANCELLED)], parts.clone()));
    assert_eq!(dying(None), (vec![resolve(2, CANCELLED), resolve(4, CANCELLED)], parts));
}

#[test]
fn a_withheld_part_leaves_a_batch_before_and_one_behind_it() {
    let limited = Config { tasks_per_worker_max: Some(6), window_batches_max: 3, ..config(1) };
    let mut bench = Bench::new(limited);
    bench.submit_batch(&[1, 2, 3, 4, 5], as_it_is);
    bench.tell(Event::Ready(worker(1)));
    assert_eq!(bench.withhold(1, &[2, 3]), [resolve_all(&[2, 3], CANCELLED)]);
    assert_eq!(bench.withhold(1, &[2, 3]), [], "once");
    assert_eq!(bench.finish_after(1, 1, 1), [done(&[1]), start(4)]);
    assert_eq!(bench.cancel(5), [resolve(5, CANCELLED)], "on a page of its own");
    assert_eq!(bench.finish_after(1, 1, 4), [done(&[4])]);
    assert_eq!(bench.submit(batch(6, 8)), []);
    let rest = [run(1, &[6, 7]), start(6), Action::Spawn(worker(2))];
    assert_eq!(
        bench.hand_back(1, 5),
        rest,
        "what was withheld counts as given, what was revoked not"
    );
}

#[test]
fn a_withheld_front_or_end_of_a_batch_leaves_the_rest() {
    let mut bench = one_worker_with(&[1, 2, 3, 4, 5], as_it_is);
    assert_eq!(bench.withhold(1, &[1, 2]), [resolve_all(&[1, 2], CANCELLED), start(3)]);
    assert_eq!(bench.withhold(1, &[5]), [resolve(5, CANCELLED)]);
    assert_eq!(bench.finish_all(2, 1, &[3, 4]), [done(&[3, 4])]);
    let mut bench = one_worker_with(&[1, 2], as_it_is);
    assert_eq!(bench.withhold(1, &[1, 2]), [resolve_all(&[1, 2], CANCELLED)]);
    assert_eq!(bench.counts().free, 1);
}

#[test]
fn a_window_may_hold_more_batches_than_allowed_where_parts_were_withheld() {
    let few = Config { window_batches_max: 1, ..config(1) };
    let mut bench = Bench::new(few);
    bench.submit_batch(&[1, 2, 3], as_it_is);
    bench.tell(Event::Ready(worker(1)));
    bench.withhold(1, &[2]);
    assert_eq!(bench.submit(task(4)), []);
    assert_eq!(bench.finish_after(1, 1, 1), [done(&[1]), start(3)]);
    assert_eq!(bench.submit(task(5)), []);
    assert_eq!(bench.finish_after(1, 1, 3), [done(&[3]), run(1, &[4]), start(4)]);
}

#[test]
fn revoked_tasks_do_not_count_as_given_however_many_they_are() {
    let mut bench = Bench::new(Config { tasks_per_worker_max: Some(5), ..config(1) });
    bench.submit_batch(&[1, 2, 3, 4, 5], as_it_is);
    bench.tell(Event::Ready(worker(1)));
    bench.cancel_all(&[2, 3, 4, 5]);
    bench.finish(1, 1);
    bench.hand_back(1, 2);
    assert_eq!(bench.submit(batch(6, 10))[0], run(1, &[6, 7, 8, 9]), "four are left to it");
}

#[test]
fn a_batch_is_counted_in_tasks() {
    let mut bench = Bench::new(config(3));
    bench.submit(batch(1, 5));
    bench.submit(batch(6, 6));
    assert_eq!((bench.counts().pending_tasks, bench.counts().workers), (6, 2));
    bench.tell(Event::Ready(worker(1)));
    assert_eq!(bench.counts().pending_tasks, 5);
}

#[test]
fn a_refused_batch_and_one_that_is_cancelled_by_the_pool_end_in_one_word() {
    let mut bench = Bench::new(config(1));
    bench.submit(batch(1, 500));
    let all: Vec<_> = (1..=500).collect();
    let shut_down = Resolution::Cancelled(CancelReason::Shutdown);
    assert_eq!(bench.shut_down(ShutdownMode::Cancel), [resolve_all(&all, shut_down)]);
    assert_eq!(bench.submit(batch(501, 503)), [resolve_all(&[501, 502, 503], shut_down)]);
}

//! Which task goes first.

use super::super::{Event, Submission};
use super::*;

fn with_priority(id: u64, priority: i32) -> Submission {
    Submission { priority, ..task(id) }
}

/// A pool of one worker, which runs task 1; these tasks wait, each with its priority.
fn busy_with_line(line: &[(u64, i32)]) -> Bench {
    let mut bench = one_worker_with(&[1], with_retry);
    for &(id, priority) in line {
        bench.submit(with_priority(id, priority));
    }
    bench
}

#[test]
fn a_higher_priority_goes_first_and_a_lower_one_last() {
    let mut bench = busy_with_line(&[(2, 0), (3, i32::MIN), (4, i32::MAX), (5, 1)]);
    for (done, next) in [(1, 4), (4, 5), (5, 2), (2, 3)] {
        assert_eq!(bench.finish(1, done)[1..], [run(1, &[next]), start(next)]);
    }
}

#[test]
fn within_a_priority_the_first_comes_first() {
    let mut bench = busy_with_line(&[(2, 1), (3, 1), (4, 1)]);
    for (done, next) in [(1, 2), (2, 3), (3, 4)] {
        assert_eq!(bench.finish(1, done)[1..], [run(1, &[next]), start(next)]);
    }
}

#[test]
fn a_higher_priority_does_not_interrupt_what_runs() {
    let mut bench = one_worker_with(&[1], as_it_is);
    assert_eq!(bench.submit(with_priority(2, 9)), []);
}

#[test]
fn what_comes_back_goes_to_the_front_of_its_own_priority() {
    let mut bench = busy_with_line(&[(2, 0), (3, 1), (4, -1)]);
    bench.exit(1, Some(1));
    bench.time_out_at(BACKOFF_MIN);
    assert_eq!(bench.tell(Event::Ready(worker(2))), [run(2, &[3]), start(3)]);
    assert_eq!(bench.finish(2, 3)[1..], [run(2, &[1]), start(1)]);
    assert_eq!(bench.finish(2, 1)[1..], [run(2, &[2]), start(2)]);
}

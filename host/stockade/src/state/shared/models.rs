//! What a pool's callers and its driver share, in every order of its end: `just shuttle`.

use crossbeam_channel::Receiver;

use super::*;
use crate::backend::entry::{Ending, TaskEntry};
use crate::backend::event_loop::EventLoop;
use crate::backend::request::Request;
use crate::base::sync::Wakers;
use crate::base::sync::model::{Time, check, exhaust, far};
use crate::base::sync::thread::{self, JoinHandle};
use crate::call::payload::Payload;
use crate::outcome::error::{CancelReason, TaskError};
use crate::state::callbacks::Callbacks;
use crate::state::cell::TaskCell;
use crate::state::link::Link;
use crate::state::semaphore::{Patience, Permit};
use crate::state::spec::TaskSpec;
use stockade_dispatcher::{CancelReason as DispatchCancel, Resolution};

fn shared(places: usize) -> Arc<Shared> {
    Arc::new(Shared::new(Some(Arc::new(Semaphore::new(places))), None))
}

fn spawn<T: Send + 'static>(
    shared: &Arc<Shared>,
    act: impl FnOnce(&Arc<Shared>) -> T + Send + 'static,
) -> JoinHandle<T> {
    let shared = shared.clone();
    thread::spawn(move || act(&shared))
}

/// A task as the driver holds it, and what its handles tell.
fn task(shared: &Arc<Shared>, id: u64, permit: Option<Permit>) -> (TaskEntry, Receiver<Request>) {
    let event_loop = Arc::new(EventLoop::new(None, shared.clone()));
    let told = event_loop.told();
    let link = Arc::new(Link::new(event_loop, Callbacks::new("model".into()), shared.clone()));
    let spec = Arc::new(TaskSpec::of_a_test(link));
    let cell = TaskCell::new(TaskId(id), spec, Payload::default(), permit);
    (TaskEntry::new(Arc::new(cell)), told)
}

fn ending(resolution: Resolution) -> Ending<'static> {
    Ending { resolution, exit: None, now: Duration::ZERO }
}

#[test]
fn the_first_of_those_who_close_is_one_and_all_hear_of_the_end() {
    check(Time::Flies, || {
        let shared = shared(1);
        let closers = [0, 1, 2].map(|_| {
            spawn(&shared, |shared| {
                let first = shared.close();
                assert!(shared.is_closed());
                assert!(shared.wait_terminated(None) && shared.is_terminated());
                first
            })
        });
        let impatient = spawn(&shared, |shared| {
            let ended = shared.wait_terminated(Some(far()));
            assert!(!ended || shared.is_terminated());
        });
        while !shared.is_closed() {
            thread::yield_now();
        }
        shared.terminate();
        let first = closers.map(|closer| closer.join().unwrap());
        assert_eq!(first.iter().filter(|first| **first).count(), 1);
        impatient.join().unwrap();
    });
}

#[test]
fn the_end_is_heard_whenever_somebody_begins_to_wait_for_it() {
    exhaust(Time::Stands, || {
        let shared = shared(1);
        spawn(&shared, |shared| shared.terminate());
        assert!(shared.wait_terminated(None));
    });
}

/// Whoever waited for room, and finds himself let in without a place being freed, sees why.
fn let_in_by(ends: &'static [fn(&Shared)]) {
    check(Time::Stands, move || {
        let shared = shared(1);
        let _held = shared.room().unwrap().take(Patience::None).unwrap();
        let takers = [0, 1].map(|_| {
            spawn(&shared, |shared| {
                let permit = shared.room().unwrap().take(Patience::Endless).unwrap();
                assert!(shared.is_closed() || shared.broken().is_some());
                permit
            })
        });
        ends.iter().for_each(|end| drop(spawn(&shared, |shared| end(shared))));
        let _kept = takers.map(|taker| taker.join().unwrap());
    });
}

fn break_it(shared: &Shared) {
    let cause = BrokenError::Finalizer(TaskError::Exited(1));
    shared.break_with(cause).into_iter().for_each(wake);
}

fn close_it(shared: &Shared) {
    assert!(shared.close());
}

#[test]
fn who_waits_for_room_when_the_pool_breaks_is_let_in_and_sees_why() {
    let_in_by(&[break_it]);
}

#[test]
fn who_waits_for_room_when_the_pool_closes_is_let_in_and_sees_why() {
    let_in_by(&[close_it]);
    let_in_by(&[close_it, break_it]);
}

/// The whole way of a submission: nobody waits forever, and every task that got through ends.
#[test]
fn every_submission_is_refused_or_its_task_ends_whenever_the_pool_does() {
    check(Time::Stands, || {
        let (shared, (send, tasks)) = (shared(1), shuttle::sync::mpsc::channel());
        let callers: Vec<_> = (1..=3)
            .map(|id| {
                let send = send.clone();
                spawn(&shared, move |shared| {
                    let permit = shared.room().unwrap().take(Patience::Endless);
                    if shared.is_closed() {
                        return;
                    }
                    let (entry, _told) = task(shared, id, permit);
                    let cell = entry.cell.clone();
                    // Dropped, and so ended, where the driver has gone.
                    drop(send.send(entry));
                    cell.wait_for_end();
                })
            })
            .collect();
        drop(send);
        let driver = spawn(&shared, move |shared| {
            while let (false, Ok(mut entry)) = (shared.is_closed(), tasks.recv()) {
                entry.start(Duration::ZERO, &mut Wakers::new());
                entry.resolve(ending(Resolution::Finished), &mut Wakers::new());
            }
            drop(tasks);
            shared.terminate();
        });
        shared.close();
        assert!(shared.wait_terminated(None));
        callers.into_iter().chain([driver]).for_each(|thread| thread.join().unwrap());
    });
}

/// The pool's end and a caller both cancel a task.
#[test]
fn the_list_has_the_tasks_that_the_pool_cancelled_and_no_others() {
    check(Time::Stands, || {
        let shared = shared(2);
        let ids = [2, 1];
        let tasks = ids.map(|id| task(&shared, id, None).0);
        let cells = tasks.each_ref().map(|entry| entry.cell.clone());
        let callers = cells.clone().map(|cell| thread::spawn(move || cell.cancel()));
        let waiter = {
            let cell = cells[0].clone();
            spawn(&shared, move |shared| {
                let end = cell.wait_for_end();
                if matches!(end.result, Err(TaskError::Cancelled(CancelReason::Shutdown))) {
                    let listed = shared.cancelled_tasks();
                    assert!(listed.iter().any(|task| task.id == cell.id), "heard too early");
                }
            })
        };
        let driver = thread::spawn(move || {
            let [mut resolved, dropped] = tasks;
            resolved.resolve(
                ending(Resolution::Cancelled(DispatchCancel::Shutdown)),
                &mut Wakers::new(),
            );
            drop(dropped);
        });
        driver.join().unwrap();
        waiter.join().unwrap();
        let cancelled = callers.map(|caller| caller.join().unwrap());
        // A task that ended cancelled says so to whoever asks, whoever it was.
        assert_eq!(cancelled, [true, true]);
        let by_pool = |cell: &&Arc<TaskCell>| {
            let result = &cell.done().unwrap().result;
            matches!(result, Err(TaskError::Cancelled(CancelReason::Shutdown)))
        };
        let mut expected: Vec<_> = cells.iter().filter(by_pool).map(|cell| cell.id).collect();
        expected.sort_unstable();
        let listed: Vec<_> = shared.cancelled_tasks().iter().map(|task| task.id).collect();
        assert_eq!(listed, expected);
    });
}

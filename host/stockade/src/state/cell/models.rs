//! A task's cell in every order of its driver, its worker, its callers and who waits: `just shuttle`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::Receiver;
use shuttle::sync::mpsc;
use stockade_wire::{PageSlot, StatusPage};

use super::*;
use crate::backend::event_loop::EventLoop;
use crate::backend::request::Request;
use crate::base::sync::model::{StreamPoller, Time, check, exhaust, far, pause};
use crate::base::sync::thread::{self, JoinHandle};
use crate::state::callbacks::Callbacks;
use crate::state::link::Link;
use crate::state::shared::Shared;
use crate::state::spec::TaskSpec;

const TASK: TaskId = TaskId(7);
const PLACE: PageSlot = PageSlot { slot: 0, first: TASK, index: 0 };

/// A task, and what its handles tell the driver.
fn task() -> (Arc<TaskCell>, Receiver<Request>) {
    let shared = Arc::new(Shared::new(None, None));
    let event_loop = Arc::new(EventLoop::new(None, shared.clone()));
    let told = event_loop.told();
    let link = Link::new(event_loop, Callbacks::new("model".into()), shared);
    let spec = Arc::new(TaskSpec::of_a_test(Arc::new(link)));
    (Arc::new(TaskCell::new(TASK, spec, Payload::default(), None)), told)
}

fn completed(cell: &TaskCell, result: Result<Output, TaskError>) -> Completed {
    let status = if result.is_ok() { Status::Completed } else { Status::Cancelled };
    Completed::new(result, cell.blank_report(status))
}

fn returned(cell: &TaskCell) -> Completed {
    completed(cell, Ok(Output::Exited(0)))
}

fn shut_down(cell: &TaskCell) -> Completed {
    completed(cell, Err(TaskError::Cancelled(CancelReason::Shutdown)))
}

/// Ends a task as a driver does, which wakes whoever polls once it has nothing locked.
fn finish(cell: &Arc<TaskCell>, completed: Completed) -> bool {
    let mut wakers = Wakers::new();
    let ended = cell.finish(completed, &mut wakers);
    wakers.into_iter().for_each(wake);
    ended
}

fn spawn<T: Send + 'static>(
    cell: &Arc<TaskCell>,
    act: impl FnOnce(&Arc<TaskCell>) -> T + Send + 'static,
) -> JoinHandle<T> {
    let cell = cell.clone();
    thread::spawn(move || act(&cell))
}

fn page() -> Arc<StatusPage> {
    Arc::new(StatusPage::create().unwrap())
}

/// The task is offered on a page, and its handles look there from then on.
fn claim(cell: &TaskCell, page: &Arc<StatusPage>) -> Option<Payload> {
    page.offer(PLACE.slot, TASK.into());
    cell.claim(Sent { page: page.clone(), place: PLACE })
}

/// A worker that is sent the task, and returns whether it has started its code.
fn work(page: &Arc<StatusPage>) -> (mpsc::Sender<()>, mpsc::Receiver<bool>) {
    let page = page.clone();
    let ((send, sent), (say, said)) = (mpsc::channel(), mpsc::channel());
    thread::spawn(move || {
        if sent.recv().is_ok() {
            pause();
            let started = page.start(PLACE);
            pause();
            let _ = say.send(started);
        }
    });
    (send, said)
}

/// What a driver does with a task, from its claim to its end. Returns whether it was this that ended it,
/// and whether the code has started.
fn drive(cell: &Arc<TaskCell>, page: &Arc<StatusPage>, recalls: bool) -> (bool, bool) {
    let (send, said) = work(page);
    if claim(&cell, &page).is_none() {
        return (false, false);
    }
    send.send(()).unwrap();
    let taken_back = recalls && page.revoke_from(PLACE).is_some();
    cell.start(Duration::ZERO, &mut Wakers::new());
    let started = said.recv().unwrap();
    assert!(!(started && taken_back), "what was taken back has started");
    let outcome = if started { returned(cell) } else { shut_down(cell) };
    (finish(&cell, outcome), started)
}

/// Callers and the driver settle who has ended the task, and how.
fn settle(recalls: bool) {
    let (cell, _told) = task();
    let callers = [0, 1].map(|_| spawn(&cell, TaskCell::cancel));
    let driver = spawn(&cell, move |cell| drive(cell, &page(), recalls));
    let end = cell.wait_for_end();
    let cancelled = callers.map(|caller| caller.join().unwrap());
    let (ended, started) = driver.join().unwrap();
    assert_eq!(started, end.report.status == Status::Completed);
    let asked = matches!(end.result, Err(TaskError::Cancelled(CancelReason::Asked)));
    assert_eq!(ended, !asked, "ended once, by the driver or by a cancel");
    for cancelled in cancelled {
        assert!(!(cancelled && started), "what was cancelled has started");
        assert!(cancelled || !asked, "what was not cancelled by one has been by another");
        assert!(cancelled || started || recalls, "neither cancelled nor started");
    }
    assert!(Arc::ptr_eq(&end, &cell.done().unwrap()));
}

#[test]
fn a_task_is_cancelled_exactly_where_its_code_never_starts() {
    check(Time::Stands, || settle(false));
}

#[test]
fn a_task_that_the_pool_takes_back_ends_once_and_never_starts() {
    check(Time::Stands, || settle(true));
}

/// The worker dies, before or after it has started the task, and another is given it.
#[test]
fn a_cancel_holds_across_the_death_of_a_worker() {
    check(Time::Stands, || {
        let (cell, _told) = task();
        let cancelled = Arc::new(AtomicBool::new(false));
        let caller = {
            let said = cancelled.clone();
            spawn(&cell, move |cell| {
                let cancelled = cell.cancel();
                said.store(cancelled, Ordering::Relaxed);
                cancelled
            })
        };
        for attempt in 0..2 {
            let page = page();
            if claim(&cell, &page).is_none() {
                break;
            }
            let worker = {
                let cancelled = cancelled.clone();
                thread::spawn(move || {
                    pause();
                    let before = cancelled.load(Ordering::Relaxed);
                    let started = page.start(PLACE);
                    assert!(!(before && started), "what was cancelled has started");
                    started
                })
            };
            cell.start(Duration::ZERO, &mut Wakers::new());
            let started = worker.join().unwrap();
            if attempt == 0 {
                cell.requeue();
            } else {
                assert_eq!(started, finish(&cell, returned(&cell)));
            }
        }
        let cancelled = caller.join().unwrap();
        assert_eq!(cancelled, cell.status() == Status::Cancelled);
        assert_eq!(!cancelled, cell.status() == Status::Completed);
    });
}

/// However the end comes: by the driver, or by a cancel at the same time.
fn race_to_the_end(cell: &Arc<TaskCell>) -> [JoinHandle<bool>; 2] {
    [spawn(cell, |cell| finish(cell, returned(cell))), spawn(cell, TaskCell::cancel)]
}

#[test]
fn everybody_who_waits_hears_of_the_end_and_of_the_same() {
    check(Time::Flies, || {
        let (cell, _told) = task();
        let followed = Arc::new(Completions::default());
        let waiters = [0, 1].map(|_| spawn(&cell, |cell| cell.wait(None)));
        let impatient = spawn(&cell, |cell| cell.wait(Some(far())));
        let poller = spawn(&cell, |cell| {
            let poller = Arc::new(StreamPoller::default());
            loop {
                match cell.poll(&Context::from_waker(&poller.waker())) {
                    Poll::Ready(end) => return Some(end),
                    Poll::Pending => poller.wait(),
                }
            }
        });
        let follower = {
            let followed = followed.clone();
            spawn(&cell, move |cell| {
                cell.follow(&followed, 3);
                assert_eq!(followed.next(None), Some(3));
                cell.done()
            })
        };
        let racers = race_to_the_end(&cell);
        let end = cell.wait_for_end();
        for waiter in waiters.into_iter().chain([poller, follower]) {
            assert!(Arc::ptr_eq(&end, &waiter.join().unwrap().unwrap()));
        }
        assert!(impatient.join().unwrap().is_none_or(|heard| Arc::ptr_eq(&end, &heard)));
        for racer in racers {
            racer.join().unwrap();
        }
        assert_eq!(followed.try_next(), None, "heard once");
    });
}

#[test]
fn who_waits_hears_of_the_end_whenever_it_comes() {
    exhaust(Time::Stands, || {
        let (cell, _told) = task();
        spawn(&cell, |cell| finish(cell, returned(cell)));
        cell.wait_for_end();
    });
}

/// As `Pool::run` does, which does not copy a long result.
#[test]
fn who_alone_has_seen_the_end_can_take_the_result_out_of_it() {
    exhaust(Time::Stands, || {
        let (cell, _told) = task();
        let output = || Output::Encoded { codec: Codec::Raw, bytes: vec![1] };
        // Which is told after the end.
        cell.follow(&Arc::default(), 1);
        spawn(&cell, move |cell| finish(cell, completed(cell, Ok(output()))));
        drop(cell.wait_for_end());
        assert_eq!(cell.take_encoded(), Some(output()));
    });
}

#[test]
fn items_come_in_order_and_end_with_the_task() {
    check(Time::Stands, || {
        let (cell, _told) = task();
        let read = Arc::new(Completions::default());
        let driver = {
            let read = read.clone();
            spawn(&cell, move |cell| {
                assert!(claim(cell, &page()).is_some());
                cell.start(Duration::ZERO, &mut Wakers::new());
                assert!(cell.emit(Codec::Raw, vec![1]));
                // The task is still running when its first item is read.
                assert_eq!(read.next(None), Some(1));
                assert!(cell.emit(Codec::Raw, vec![2]));
                assert!(cell.emit(Codec::Raw, vec![3]));
                finish(cell, returned(cell))
            })
        };
        assert_eq!(next(&cell), Some(vec![1]));
        let _ = read.push(1);
        let items: Vec<_> = std::iter::from_fn(|| next(&cell)).collect();
        assert_eq!(items, [vec![2], vec![3]]);
        assert!(driver.join().unwrap());
    });
}

fn next(cell: &TaskCell) -> Option<Vec<u8>> {
    cell.next_emitted().map(|(_, item)| item)
}

/// A callback that counts its calls.
fn count(calls: &Arc<AtomicUsize>) -> impl FnOnce(Arc<TaskCell>) + Send + 'static {
    let calls = calls.clone();
    move |cell| {
        assert!(cell.done().is_some());
        calls.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_callback_runs_once_unless_it_is_removed_and_then_never() {
    check(Time::Stands, || {
        let (cell, _told) = task();
        let calls = Arc::new([(); 3].map(|()| Arc::new(AtomicUsize::new(0))));
        let kept = cell.on_done(count(&calls[0]));
        let racers = race_to_the_end(&cell);
        let removers = [0, 1].map(|_| {
            let calls = calls.clone();
            spawn(&cell, move |cell| {
                let id = cell.on_done(count(&calls[1]));
                let also = cell.on_done(count(&calls[2]));
                assert_ne!(id, also);
                cell.remove_callback(id)
            })
        });
        let removed = removers.map(|remover| remover.join().unwrap());
        for racer in racers {
            racer.join().unwrap();
        }
        cell.spec.link.callbacks.close(None);
        assert!(!cell.remove_callback(kept), "it has run");
        let removed = removed.iter().filter(|removed| **removed).count();
        let counts = calls.each_ref().map(|calls| calls.load(Ordering::Relaxed));
        assert_eq!(counts, [1, 2 - removed, 2]);
    });
}

/// Who has seen the end may shut the pool down at once, and ends the process then.
#[test]
fn callbacks_are_waited_for_by_whoever_has_seen_the_end() {
    check(Time::Stands, || {
        let (cell, _told) = task();
        let calls = Arc::new(AtomicUsize::new(0));
        cell.on_done(count(&calls));
        race_to_the_end(&cell);
        cell.wait_for_end();
        cell.spec.link.callbacks.close(None);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn callbacks_run_one_after_the_other_in_the_order_in_which_they_were_added() {
    check(Time::Stands, || {
        let (cell, _told) = task();
        let (running, order) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let racers = race_to_the_end(&cell);
        for number in 0..3 {
            let (running, order) = (running.clone(), order.clone());
            cell.on_done(move |_| {
                assert!(!running.swap(true, Ordering::Relaxed), "two at a time");
                pause();
                lock(&order).push(number);
                running.store(false, Ordering::Relaxed);
                if number == 1 {
                    // Without the report of a panic, which would be one a schedule.
                    std::panic::resume_unwind(Box::new("on purpose"));
                }
            });
        }
        for racer in racers {
            racer.join().unwrap();
        }
        cell.spec.link.callbacks.close(None);
        assert_eq!(*lock(&order), [0, 1, 2]);
    });
}

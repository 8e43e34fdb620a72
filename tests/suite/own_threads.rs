//! What callers' code may do where the pool runs it: wakers, callbacks and subscribers on the pool's own
//! threads, which none of it may hold up without end.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_core::Stream;
use stockade::{Pool, PoolBuilder, TaskHandle};
use stockade_tests::{
    Gate, PATIENCE, eventually, int, kill, processes_named, tasks, threads_named, two_ints,
};

/// How often what a test needs is tried where it depends on which thread is faster.
const TRIES: usize = 50;

type Act = Box<dyn FnOnce() + Send>;

/// A waker that does something the first time, and then says on which thread.
struct Acting(Mutex<Option<(Act, Sender<String>)>>);

impl Wake for Acting {
    fn wake(self: Arc<Self>) {
        let act = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((act, acted)) = act {
            act();
            let thread = std::thread::current();
            let _ = acted.send(thread.name().unwrap_or_default().to_owned());
        }
    }
}

fn waker(act: impl FnOnce() + Send + 'static) -> (Waker, Receiver<String>) {
    let (said, acted) = mpsc::channel();
    let act: Act = Box::new(act);
    (Waker::from(Arc::new(Acting(Mutex::new(Some((act, said)))))), acted)
}

/// Has `act` done by the waker of a task that has not ended, if it has not.
fn when_woken<T: stockade::TaskResult>(
    mut handle: TaskHandle<T>,
    act: impl FnOnce() + Send + 'static,
) -> Receiver<String> {
    let (waker, acted) = waker(act);
    let _ = Pin::new(&mut handle).poll(&mut Context::from_waker(&waker));
    acted
}

#[track_caller]
fn thread_of(acted: &Receiver<String>) -> String {
    acted.recv_timeout(PATIENCE).expect("what the waker did never came to its end")
}

#[track_caller]
fn assert_ends(name: &str) {
    eventually("no process and no thread", || {
        processes_named(name).is_empty() && threads_named(name) == 0
    });
}

/// What is done with a pool.
type End = fn(Pool);

const ENDS: [End; 6] = [
    drop,
    |pool| assert!(pool.shutdown()),
    |pool| assert!(pool.shutdown_timeout(Duration::from_secs(1))),
    |pool| assert!(pool.drain()),
    |pool| assert!(pool.kill()),
    // Only asks, where nothing of what these wait for could happen.
    |pool| {
        let _ = (pool.join(None), pool.spawn_max_workers());
    },
];

/// A pool with a task that runs until the gate opens.
fn occupied(builder: impl Fn(&Gate) -> PoolBuilder) -> (Gate, Pool, TaskHandle<Vec<u8>>) {
    let gate = Gate::new();
    let pool = builder(&gate).build().unwrap();
    let handle = gate.occupy(&pool);
    (gate, pool, handle)
}

#[test]
fn a_pool_may_be_ended_by_a_waker_on_its_own_thread() {
    for end in ENDS {
        let (gate, pool, handle) = occupied(Gate::tasks);
        let name = pool.name().to_owned();
        let acted = when_woken(handle, move || end(pool));
        gate.open();
        assert_eq!(thread_of(&acted), format!("{name}-driver"));
        assert_ends(&name);
    }
}

#[test]
fn a_pool_may_be_ended_by_a_waker_on_its_supervisors_thread() {
    for end in ENDS {
        let is_supervisors = |_: usize| {
            let (_gate, pool, handle) = occupied(Gate::tasks);
            let name = pool.name().to_owned();
            let pid = pool.workers()[0].pid;
            let acted = when_woken(handle, move || end(pool));
            kill(pid);
            let thread = thread_of(&acted);
            assert_ends(&name);
            thread == format!("{name}-supervisor")
        };
        assert!(
            (0..TRIES).any(is_supervisors),
            "the supervisor never told of a worker's end itself"
        );
    }
}

#[test]
fn a_pool_may_be_ended_by_a_waker_on_the_thread_that_prepares_its_module() {
    for end in ENDS {
        let is_preparing = |_: usize| {
            let pool = tasks().initializer("panic", int(0)).build().unwrap();
            let name = pool.name().to_owned();
            let handle = pool.submit::<Vec<u8>>("echo", int(1)).unwrap();
            let acted = when_woken(handle, move || end(pool));
            let thread = acted.recv_timeout(PATIENCE);
            assert_ends(&name);
            thread.is_ok_and(|thread| thread == "stockade-prepare")
        };
        assert!((0..TRIES).any(is_preparing), "the preparation never told of its end itself");
    }
}

#[test]
fn a_pool_may_be_ended_by_a_callback() {
    for end in ENDS {
        let (gate, pool, handle) = occupied(Gate::tasks);
        let name = pool.name().to_owned();
        let (said, acted) = mpsc::channel();
        handle.on_done(move |_| {
            end(pool);
            said.send(()).unwrap();
        });
        gate.open();
        acted.recv_timeout(PATIENCE).expect("the callback never came to its end");
        assert_ends(&name);
    }
}

/// Each pool's own thread drops the other pool.
#[test]
fn two_pools_may_end_each_other() {
    let ((gate, one, first), (other_gate, other, second)) =
        (occupied(Gate::tasks), occupied(Gate::tasks));
    let names = [one.name().to_owned(), other.name().to_owned()];
    let barrier = Arc::new(std::sync::Barrier::new(2));
    let met = barrier.clone();
    let ends_other = when_woken(first, move || {
        met.wait();
        drop(other);
    });
    let ends_one = when_woken(second, move || {
        barrier.wait();
        drop(one);
    });
    gate.open();
    other_gate.open();
    assert_eq!(thread_of(&ends_other), format!("{}-driver", names[0]));
    assert_eq!(thread_of(&ends_one), format!("{}-driver", names[1]));
    names.iter().for_each(|name| assert_ends(name));
}

/// Whoever waits for room is woken when the driver starts a task; what is done then may ask the driver.
#[test]
fn who_is_woken_for_room_may_ask_the_pool() {
    let gate = Gate::new();
    let pool = gate.tasks().max_pending_tasks(1).build().unwrap();
    let running = gate.occupy(&pool);
    let waiting = pool.submit::<Vec<u8>>("echo", int(1)).unwrap();
    let map = pool.starmap::<Vec<u8>, _, _>("square", (0..3).map(|number| two_ints(number, 1)));
    let mut stream = Box::pin(map.into_stream());
    let asked = pool.clone();
    let (waker, acted) = waker(move || {
        assert_eq!(asked.workers().len(), 1);
        drop(asked);
    });
    assert!(matches!(stream.as_mut().poll_next(&mut Context::from_waker(&waker)), Poll::Pending));
    gate.open();
    thread_of(&acted);
    assert!(running.result().is_ok() && waiting.result().is_ok());
}

//! The model checker's locks and threads, with deadlines, and how models are run.
//!
//! Shuttle runs a model's threads one at a time and decides at every lock, wake-up and start of a
//! thread who goes on; a run in which nobody can go on fails as a deadlock, and so does a wake-up that
//! is lost. Its own condition variable never times out. So this one is built on its futures: a wait
//! with a deadline starts a thread that ends it, and that thread's turn may come at any moment.
//! Loom would need the same and tries every order of steps, which are too many for what is checked
//! here: a task's life has hundreds.
//!
//! Invariant: a wait ends only by a wake-up meant for it or its deadline. So no wake-up that was
//! forgotten is made up for by another's.
//!
//! Deliberately absent: weak memory. Everything shared here is behind locks; the one protocol that is
//! not, the status page's, is checked with loom.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

pub(crate) use shuttle::thread;

use shuttle::rand::Rng;
use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

/// Schedules of each kind that a model is run in, unless `STOCKADE_SCHEDULES` says another number.
const SCHEDULES: usize = 2_000;

/// Where the random choices begin, so that a failure repeats; `SHUTTLE_RANDOM_SEED` says another.
const SEED: u64 = 1;

/// Changes of priority in a schedule of the kind that has few of them.
const PRIORITY_CHANGES: usize = 4;

/// A model's threads call deeper than shuttle's own 60 kB allow in a debug build.
const STACK_BYTES: usize = 1 << 17;

/// The most schedules of a model that is run in all of them.
const EXHAUSTIVE_MAX: usize = 200_000;

/// Whether deadlines pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    /// None ever does, so whoever is not woken is not helped by one.
    Stands,
    /// Each does at any moment.
    Flies,
}

thread_local! {
    // All threads of a model are one to the system.
    static TIME: Cell<Time> = const { Cell::new(Time::Stands) };
}

shuttle::thread_local! {
    /// The latest deadline that has passed for a thread.
    static PASSED: RefCell<Option<Instant>> = RefCell::new(None);
}

/// Runs a model in many schedules: random ones, and such that let each thread go on for long.
pub(crate) fn check(time: Time, model: impl Fn() + Clone + Send + Sync + 'static) {
    let schedules = std::env::var("STOCKADE_SCHEDULES");
    let schedules = schedules.map_or(SCHEDULES, |number| number.parse().unwrap());
    run(RandomScheduler::new_from_seed(SEED, schedules), time, model.clone());
    run(PctScheduler::new_from_seed(SEED, PRIORITY_CHANGES, schedules), time, model);
}

/// Runs a small model in every schedule there is, except for who of several is woken by a
/// `notify_one`. Fails where these are too many.
pub(crate) fn exhaust(time: Time, model: impl Fn() + Send + Sync + 'static) {
    let schedules = run(DfsScheduler::new(Some(EXHAUSTIVE_MAX), true), time, model);
    assert!(schedules < EXHAUSTIVE_MAX, "not every schedule was run");
}

fn run(
    scheduler: impl Scheduler + 'static,
    time: Time,
    model: impl Fn() + Send + Sync + 'static,
) -> usize {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    TIME.set(time);
    Runner::new(scheduler, config).run(model)
}

/// Lets another thread go on, or not. Where something happens that shuttle does not see.
pub(crate) fn pause() {
    thread::sleep(Duration::ZERO);
}

/// A deadline that only the model lets pass.
pub(crate) fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// A lock that says which it is to whoever holds it.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

/// A lock that is held.
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    guard: shuttle::sync::MutexGuard<'a, T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// As the system's.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    let guard = mutex.0.lock().unwrap_or_else(PoisonError::into_inner);
    MutexGuard { mutex, guard }
}

/// A condition variable whose waits may have deadlines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Condvar {
    waiters: Arc<std::sync::Mutex<Vec<Arc<Waiter>>>>,
}

/// One wait.
#[derive(Debug, Default)]
struct Waiter {
    /// Woken, by whatever.
    woken: AtomicBool,
    waker: std::sync::Mutex<Option<Waker>>,
    /// Its deadline has passed.
    passed: AtomicBool,
}

impl Waiter {
    fn wake(&self) {
        self.woken.store(true, Ordering::Relaxed);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Blocks until woken, and is not woken by anything else as a thread that parks is.
    fn sleep(&self) {
        shuttle::future::block_on(poll_fn(|context| {
            if self.woken.load(Ordering::Relaxed) {
                return Poll::Ready(());
            }
            let waker = Some(context.waker().clone());
            *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = waker;
            Poll::Pending
        }));
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Wakes any one of those who wait.
    pub(crate) fn notify_one(&self) {
        pause();
        let mut waiters = self.waiters();
        let one = match waiters.len() {
            0 => return,
            1 => 0,
            several => shuttle::rand::thread_rng().gen_range(0..several),
        };
        let one = waiters.remove(one);
        drop(waiters);
        one.wake();
    }

    pub(crate) fn notify_all(&self) {
        pause();
        let all = std::mem::take(&mut *self.waiters());
        all.iter().for_each(|one| one.wake());
    }

    fn waiters(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Waiter>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the waiter's deadline pass when the scheduler likes to.
    fn expire(&self, waiter: &Arc<Waiter>) {
        let (condvar, waiter) = (self.clone(), waiter.clone());
        thread::spawn(move || {
            waiter.passed.store(true, Ordering::Relaxed);
            let mut waiters = condvar.waiters();
            if let Some(index) = waiters.iter().position(|one| Arc::ptr_eq(one, &waiter)) {
                waiters.remove(index);
                drop(waiters);
                waiter.wake();
            }
        });
    }
}

/// As the system's.
pub(crate) fn wait<'a, T>(
    changed: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Option<Instant>,
) -> Option<MutexGuard<'a, T>> {
    if let Some(deadline) = deadline
        && (deadline <= Instant::now() || PASSED.with(|passed| *passed.borrow() >= Some(deadline)))
    {
        return None;
    }
    let waiter = Arc::new(Waiter::default());
    if deadline.is_some() && TIME.get() == Time::Flies {
        changed.expire(&waiter);
    }
    let MutexGuard { mutex, guard } = guard;
    // Shuttle lets others go on before it opens the lock, not after: nobody can come in between.
    drop(guard);
    if !waiter.passed.load(Ordering::Relaxed) {
        changed.waiters().push(waiter.clone());
        waiter.sleep();
    }
    if waiter.passed.load(Ordering::Relaxed) {
        PASSED.with(|passed| *passed.borrow_mut() = deadline);
    }
    Some(lock(mutex))
}

/// Somebody who polls: a waker, and a wait for it.
#[derive(Debug, Default)]
pub(crate) struct StreamPoller {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl StreamPoller {
    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        self.clone().into()
    }

    /// Waits for a wake-up since the last.
    pub(crate) fn wait(&self) {
        let mut woken = lock(&self.woken);
        while !*woken {
            woken = wait(&self.changed, woken, None).unwrap();
        }
        *woken = false;
    }
}

impl Wake for StreamPoller {
    fn wake(self: Arc<Self>) {
        *lock(&self.woken) = true;
        self.changed.notify_all();
    }
}

/// What the models themselves stand on.
mod models {
    use super::*;

    #[test]
    fn a_wait_ends_at_its_deadline_only_where_time_flies() {
        exhaust(Time::Flies, || {
            let (mutex, condvar) = (Mutex::new(()), Condvar::new());
            let deadline = Some(far());
            let guard = wait(&condvar, lock(&mutex), deadline).unwrap();
            assert!(wait(&condvar, guard, deadline).is_none());
        });
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_wait_that_nobody_ends_is_a_deadlock() {
        exhaust(Time::Stands, || {
            let (mutex, condvar) = (Mutex::new(()), Condvar::new());
            drop(wait(&condvar, lock(&mutex), Some(far())));
        });
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_wake_up_for_one_wakes_one() {
        exhaust(Time::Stands, || {
            let shared = Arc::new((Mutex::new(()), Condvar::new()));
            let waiters = [0, 1].map(|_| {
                let shared = shared.clone();
                thread::spawn(move || drop(wait(&shared.1, lock(&shared.0), None)))
            });
            shared.1.notify_one();
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        });
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_wake_up_that_comes_before_the_wait_is_lost() {
        exhaust(Time::Stands, || {
            let shared = Arc::new((Mutex::new(()), Condvar::new()));
            let waiter = {
                let shared = shared.clone();
                thread::spawn(move || drop(wait(&shared.1, lock(&shared.0), None)))
            };
            shared.1.notify_all();
            waiter.join().unwrap();
        });
    }
}

//! The event loop: where callers, workers and the clock meet the driver, in whichever thread has the time.
//!
//! ```text
//! callers ──tell──► requests ─┐
//! workers ──bells─────────────┼──► turn: the driver, by the thread that has its lock ──► wakers, after it
//! clock ────timer─────────────┘
//!
//! the pool's own thread: waits on the poller, always
//! a caller that waits for a result: waits on the poller too, if no other does, and so is woken first
//! ```
//!
//! There is one driver and a lock around it, and no thread that it belongs to. Who has something to
//! tell leaves it in the queue and takes the lock if it is free; who has the lock works until the
//! queue is empty, and looks once more after giving it up. So nothing is left lying, nobody waits
//! for the lock to be heard, and a call from one thread costs no other thread's waking.
//!
//! What bounds a turn, however much is said: it takes so many requests and hears so many messages
//! ([`crate::backend::driver`]), and of each busy worker a window's answers more where a deadline has come. What
//! bounds a call: its own turn, and [`CATCH_UP_TURNS_MAX`] for what others have left meanwhile. Who
//! leaves while there is more rings the bell, for the pool's own thread or for who leads. A worker that
//! rings while others have the lock stands once among the [`Calls`], however often it does.
//!
//! A waiting caller *leads*: it waits on the poller itself, receives its worker's answer, and
//! returns. One caller leads at a time, the others wait on their tasks' cells. What a leader waits
//! for may be ended by another thread; that one rings for it.
//!
//! Invariant: no caller's code runs under the lock; wakers are collected and called after it.

mod calls;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use stockade_wire::{Spin, TaskId, TaskRange};

use self::calls::Calls;
use crate::backend::driver::Driver;
use crate::backend::own_thread::become_own_thread;
use crate::backend::poller::{PollEvent, Poller};
use crate::backend::request::{Request, RequestQueue};
use crate::base::sync::wake;
use crate::outcome::error::SubmitError;
use crate::state::backend::{Awaited, Backend, Lead};
use crate::state::shared::Shared;

/// How long a caller may look for its result before it sleeps: where nobody looks, a short task's comes
/// within this time.
const SPIN_MAX: Duration = Duration::from_micros(50);

/// Commands that are left in the queue: as many as a turn for them is worth, and no memory to speak of.
const LEFT_MAX: usize = 256;

/// How long the pool's own thread leaves the poller to a caller that takes results, or submits tasks, and comes
/// back for more. Then it only asks the poller, without waiting, what is there.
const NAP: Duration = Duration::from_millis(1);

/// Turns of one call beside its own, for what others have left in the queue meanwhile: enough that a
/// bell is seldom needed, and together some milliseconds at most.
const CATCH_UP_TURNS_MAX: usize = 2;

/// The loop that all threads share. It outlives the driver: then there is nothing left to do.
#[derive(Debug)]
pub(crate) struct EventLoop {
    /// `None` before the pool has begun and after it has ended.
    driver: Mutex<Option<Driver>>,
    requests: (Sender<Request>, Receiver<Request>),
    /// Bells for the pool's own thread while another thread worked.
    calls: Calls,
    /// `None` without workers, as in models.
    poller: Option<Arc<Poller>>,
    shared: Arc<Shared>,
    ended: AtomicBool,
    /// Whether another task changes nothing before the next turn.
    saturated: AtomicBool,
    /// Whether a caller waits on the poller.
    led: AtomicBool,
    /// The number it waits for.
    awaited: AtomicU64,
    /// How often one has led that dozed, or has heard the workers as it submitted.
    leads: AtomicU64,
    /// How long leaders have waited.
    spin: Mutex<Spin>,
    /// Processors that this process may use.
    processors: usize,
    /// The pool's own thread, and whether it waits for a leader to take a bell.
    own_thread: OnceLock<Thread>,
    own_thread_waits: AtomicBool,
}

impl EventLoop {
    /// An event loop without a driver, whose requests stay where they are.
    pub(crate) fn new(poller: Option<Arc<Poller>>, shared: Arc<Shared>) -> Self {
        Self {
            driver: Mutex::new(None),
            requests: crossbeam_channel::unbounded(),
            calls: Calls::default(),
            poller,
            shared,
            ended: AtomicBool::new(false),
            saturated: AtomicBool::new(false),
            led: AtomicBool::new(false),
            awaited: AtomicU64::new(0),
            leads: AtomicU64::new(0),
            spin: Mutex::new(Spin::new(SPIN_MAX)),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            own_thread: OnceLock::new(),
            own_thread_waits: AtomicBool::new(false),
        }
    }

    /// The queued requests, in tests without a driver.
    #[cfg(all(test, shuttle))]
    pub(crate) fn told(&self) -> Receiver<Request> {
        self.requests.1.clone()
    }

    /// Begins to work.
    pub(crate) fn begin(&self, driver: Driver) {
        *self.lock() = Some(driver);
        self.catch_up();
    }

    /// Sends a request to the driver. Runs turns if no other thread does, and never waits for one
    /// that does.
    ///
    /// # Errors
    /// [`SubmitError::Closed`] where the driver has ended.
    pub(crate) fn tell(&self, request: Request) -> Result<(), SubmitError> {
        if self.ended.load(Ordering::Acquire) {
            request.refuse();
            return Err(SubmitError::Closed);
        }
        let mut request = Some(request);
        if let Ok(guard) = self.driver.try_lock()
            && self.requests.1.is_empty()
        {
            // All earlier requests are done, so it need not be queued.
            self.turn(guard, |driver| {
                driver.take_request(request.take(), &self.requests.1);
            });
        }
        if let Some(request) = request {
            // Unbounded, and this side has the receiver too: it neither blocks nor fails.
            let _ = self.requests.0.send(request);
        }
        self.catch_up();
        Ok(())
    }

    /// Leaves a task for the driver's next turn, if it would only wait until then anyway; else as
    /// [`tell`](Self::tell). There is always such a turn, as a task that waits for a worker waits for
    /// something that the driver hears of. `how` a caller waits for the task also says how such a turn, if it
    /// is this caller's, hears the workers.
    ///
    /// # Errors
    /// As [`tell`](Self::tell).
    pub(crate) fn leave(&self, submission: Request, how: Lead) -> Result<(), SubmitError> {
        let is_full = self.requests.1.len() >= LEFT_MAX;
        let how = self.current(how);
        if !self.saturated.load(Ordering::Acquire) || is_full && how == Lead::Listening {
            return self.tell(submission);
        }
        let _ = self.requests.0.send(submission);
        // Either this sees what the latest turn has come to, or that turn looks at the queue later.
        fence(Ordering::SeqCst);
        if !self.saturated.load(Ordering::Relaxed) {
            self.catch_up();
        } else if is_full {
            // One who submits so many comes back for more, as one does who takes results.
            if let Ok(guard) = self.driver.try_lock() {
                self.hear_busy(guard, how);
                self.leads.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Whether a caller listens or dozes now.
    fn current(&self, how: Lead) -> Lead {
        match how {
            Lead::DozingIfSaturated if self.saturated.load(Ordering::Acquire) => Lead::Dozing,
            Lead::DozingIfSaturated => Lead::Listening,
            Lead::Listening | Lead::Dozing => how,
        }
    }

    /// Lets the driver handle all queued requests.
    pub(crate) fn settle(&self) {
        if !self.requests.1.is_empty() {
            self.ask(|_| ());
        }
    }

    /// Asks the driver, after all earlier requests; `None` if it has ended. Blocks shortly if
    /// another thread runs a turn.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(&Driver) -> T) -> Option<T> {
        let guard = self.lock();
        let mut answer = None;
        self.turn(guard, |driver| {
            driver.look_around(&self.requests.1);
            answer = Some(question(driver));
        });
        self.catch_up();
        answer
    }

    /// Runs turns until nothing is left or another thread works, at most some turns: then another
    /// thread continues.
    fn catch_up(&self) {
        for _ in 0..CATCH_UP_TURNS_MAX {
            if self.is_quiet() {
                return;
            }
            let guard = match self.driver.try_lock() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // Who has it looks at the queue again after giving it up.
                Err(TryLockError::WouldBlock) => return,
            };
            if guard.is_none() {
                if self.ended.load(Ordering::Acquire) {
                    drop(guard);
                    // What it held ends as it is dropped.
                    self.requests.1.try_iter().for_each(drop);
                }
                return;
            }
            self.turn(guard, |driver| driver.look_around(&self.requests.1));
        }
        if let Some(poller) = &self.poller
            && !self.is_quiet()
        {
            poller.ring();
        }
    }

    /// Whether the queue is empty.
    fn is_quiet(&self) -> bool {
        self.requests.1.is_empty() && self.calls.is_empty()
    }

    /// One turn of the driver, under its lock; then what had to wait for the lock's end.
    fn turn(&self, mut guard: MutexGuard<'_, Option<Driver>>, work: impl FnOnce(&mut Driver)) {
        let Some(driver) = guard.as_mut() else { return };
        let worked = catch_unwind(AssertUnwindSafe(|| {
            self.calls.take().into_iter().for_each(|worker| driver.call(worker));
            work(driver);
            self.saturated.store(driver.is_saturated(), Ordering::Relaxed);
            (driver.take_wakers(), driver.take_heard())
        }));
        let gone = match &worked {
            Ok(_) if !driver.has_ended() => None,
            // Even if the driver panics, no thread waits forever.
            Ok(_) | Err(_) => guard.take(),
        };
        drop(guard);
        if let Some(driver) = gone {
            self.end(driver);
        }
        fence(Ordering::SeqCst);
        match worked {
            Ok((wakers, messages)) => {
                wakers.into_iter().for_each(wake);
                tracing::trace!(target: "stockade::turn", messages, "a turn");
            }
            Err(panic) => resume_unwind(panic),
        }
    }

    /// The driver has nothing more to do: dropping it ends everything still in it.
    fn end(&self, driver: Driver) {
        self.ended.store(true, Ordering::Release);
        self.saturated.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        drop(driver);
        self.requests.1.try_iter().for_each(drop);
        self.shared.terminate();
        if let Some(poller) = &self.poller {
            poller.ring();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Driver>> {
        // A turn that panicked has taken the driver out.
        self.driver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of the pool's own thread: serves all that ring, until the driver has ended.
    pub(crate) fn serve(&self) {
        let Some(poller) = &self.poller else { return };
        become_own_thread();
        let _ = self.own_thread.set(std::thread::current());
        let (mut events, mut leads) = (Vec::new(), 0);
        while !self.ended.load(Ordering::Acquire) {
            poller.wait(None, &mut events);
            self.hear_as_own_thread(poller, &events, Lead::Listening);
            // Such a caller hears the workers whenever it comes back, so this thread would only take the
            // processor from it.
            loop {
                let before = std::mem::replace(&mut leads, self.leads.load(Ordering::Relaxed));
                if leads == before || self.ended.load(Ordering::Acquire) {
                    break;
                }
                std::thread::park_timeout(NAP);
                // One that always finds results hears only what is in rings: no worker's end, no long
                // message.
                poller.wait(Some(Duration::ZERO), &mut events);
                self.hear_as_own_thread(poller, &events, Lead::Dozing);
            }
        }
        // For a leader, if it was its bell that was heard here last.
        poller.ring();
    }

    /// Hears what came to the pool's own thread.
    fn hear_as_own_thread(&self, poller: &Poller, events: &[PollEvent], how: Lead) {
        if events.is_empty() {
            return;
        }
        // First the messages of a bell: no other thread will get it, and a leader may need them.
        self.hear_in_time(events, how);
        if events.contains(&PollEvent::Bell) {
            self.pass_on(poller);
        }
    }

    /// A bell that was heard here may have been for a leader that was about to wait. It is rung
    /// again, and no other thread waits on the poller until the leader has received it.
    fn pass_on(&self, poller: &Poller) {
        if self.awaited.load(Ordering::SeqCst) == 0 {
            return;
        }
        poller.ring();
        self.own_thread_waits.store(true, Ordering::SeqCst);
        while self.awaited.load(Ordering::SeqCst) != 0 && !self.ended.load(Ordering::Acquire) {
            std::thread::park();
        }
        self.own_thread_waits.store(false, Ordering::SeqCst);
    }

    /// Lets the driver receive after a bell: now, or by the thread that works for it.
    fn hear_in_time(&self, events: &[PollEvent], how: Lead) {
        match self.driver.try_lock() {
            Ok(guard) => self.hear_with(guard, events, how),
            Err(TryLockError::Poisoned(poisoned)) => {
                self.hear_with(poisoned.into_inner(), events, how);
            }
            Err(TryLockError::WouldBlock) => {
                for event in events {
                    match *event {
                        PollEvent::Worker(worker) => self.calls.add(worker),
                        // A bell may say that the turn before left workers unheard, and who has the lock
                        // is the one who would wait for it next.
                        PollEvent::Timer | PollEvent::Bell => self.calls.add_turn(),
                    }
                }
                // Either this takes the lock, or who had it sees the calls after giving it up.
                fence(Ordering::SeqCst);
                self.catch_up();
            }
        }
    }

    /// Has the driver hear what was rung for.
    fn hear_with(&self, guard: MutexGuard<'_, Option<Driver>>, events: &[PollEvent], how: Lead) {
        self.turn(guard, |driver| {
            driver.doze(how == Lead::Dozing);
            for event in events {
                if let PollEvent::Worker(worker) = *event {
                    driver.call(worker);
                }
            }
            driver.look_around(&self.requests.1);
            driver.doze(false);
        });
        self.catch_up();
    }
}

impl Backend for EventLoop {
    fn cancel(&self, task: TaskId) {
        self.put(Request::Cancel(task));
    }

    fn cancel_running(&self, task: TaskId) {
        self.put(Request::CancelRunning(task));
    }

    fn cancel_map(&self, batches: Vec<TaskRange>) {
        self.put(Request::CancelMap(batches));
    }

    fn cancel_items(&self, tasks: Vec<TaskRange>) {
        self.put(Request::CancelItems(tasks));
        self.settle();
    }

    fn lead(
        &self,
        awaited: Awaited,
        deadline: Option<Instant>,
        how: Lead,
        done: &mut dyn FnMut() -> bool,
    ) -> bool {
        let Some(poller) = &self.poller else { return false };
        if self.ended.load(Ordering::Acquire) || self.led.swap(true, Ordering::Acquire) {
            return false;
        }
        let how = self.current(how);
        let mut events = Vec::new();
        let mut since = None;
        while !done() && !self.ended.load(Ordering::Acquire) {
            let heard = match since {
                Some(_) => self.look_around(how),
                None => {
                    since = Some(Instant::now());
                    self.look_for(how, done)
                }
            };
            // A flood does not keep a thread that no longer waits.
            if heard && deadline.is_none_or(|deadline| Instant::now() < deadline) {
                continue;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            self.awaited.store(awaited, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            events.clear();
            if !done() {
                poller.wait(left, &mut events);
            }
            self.stop_awaiting();
            if !events.is_empty() {
                self.hear_with(self.lock(), &events, how);
            }
        }
        if let Some(since) = since {
            self.spin().note(since.elapsed());
        }
        if how == Lead::Dozing {
            self.leads.fetch_add(1, Ordering::Relaxed);
        }
        self.led.store(false, Ordering::Release);
        if self.ended.load(Ordering::Acquire) {
            // For the pool's own thread, if its bell was heard here.
            poller.ring();
        }
        true
    }

    fn done(&self, awaited: Awaited) {
        fence(Ordering::SeqCst);
        if self.awaited.load(Ordering::SeqCst) == awaited
            && let Some(poller) = &self.poller
        {
            poller.ring();
        }
    }
}

impl EventLoop {
    /// Looks for what workers write without their ringing for it, where that pays and takes no
    /// processor from one of them; then hears it. Says whether that was anything.
    fn look_for(&self, how: Lead, done: &mut dyn FnMut() -> bool) -> bool {
        let pays = self.spin().pays();
        let busy = if pays { self.lock().as_ref().map_or(0, Driver::stay_awake) } else { 0 };
        if (1..self.processors).contains(&busy) {
            self.spin().look(|| done() || self.has_written());
        }
        // Even if it is done: from now on they ring again.
        self.hear_busy(self.lock(), how)
    }

    /// Whether there are unread messages, if no other thread works for the driver.
    fn has_written(&self) -> bool {
        let driver = self.driver.try_lock();
        driver.is_ok_and(|driver| driver.as_ref().is_none_or(Driver::has_written))
    }

    fn spin(&self) -> MutexGuard<'_, Spin> {
        // Only its leader's.
        self.spin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop_awaiting(&self) {
        self.awaited.store(0, Ordering::SeqCst);
        if self.own_thread_waits.load(Ordering::SeqCst)
            && let Some(thread) = self.own_thread.get()
        {
            thread.unpark();
        }
    }

    /// Hears what workers have written and not rung for. Says whether that was anything.
    fn look_around(&self, how: Lead) -> bool {
        self.driver.try_lock().is_ok_and(|guard| self.hear_busy(guard, how))
    }

    fn hear_busy(&self, guard: MutexGuard<'_, Option<Driver>>, how: Lead) -> bool {
        let mut heard = false;
        self.turn(guard, |driver| {
            driver.doze(how == Lead::Dozing);
            heard = driver.hear_busy();
            driver.look_around(&self.requests.1);
            driver.doze(false);
        });
        self.catch_up();
        heard
    }
}

impl RequestQueue for EventLoop {
    fn put(&self, request: Request) {
        // A driver that has ended wants to know nothing.
        let _ = self.tell(request);
    }
}

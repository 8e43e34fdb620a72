//! The cell: what a task's handles and the driver share, and the one place where its end is decided.
//!
//! ```text
//! Pending ──claim──► Claimed ──start──► Running ──finish──► Done
//!    ▲                  │  recall ► TakenBack │
//!    └─────requeue──────┴─────────────────────┘      cancel: from anywhere its code has not started
//! ```
//!
//! Whoever finishes a task first, the driver with an outcome or a handle with a cancel, wins, and
//! nobody finishes it again. A cancel of a task that a worker already holds is settled with that
//! worker, on its status page: either its code has started, or it never will.
//!
//! Deliberately absent: decoding, and everything about a task that only one side needs.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use stockade_wire::{Codec, StatusPage, TaskId};

use crate::buffer::BufferSlot;
use crate::completions::Completions;
use crate::hub::{Awaited, Wakers};
use crate::link::Link;
use crate::report::{Status, TaskReport};
use crate::shape::Shape;
use crate::sync::{Condvar, Mutex, MutexGuard, lock, wait, wake};
use crate::task::Output;
use crate::{CancelReason, TaskError};

/// How a task ended.
#[derive(Debug)]
pub(crate) struct Completed {
    pub(crate) result: Result<Output, TaskError>,
    pub(crate) report: TaskReport,
}

/// What is fixed when a task is submitted.
#[derive(Debug)]
pub(crate) struct TaskInfo {
    pub(crate) id: TaskId,
    pub(crate) target: String,
    pub(crate) label: Option<String>,
    pub(crate) codec: Codec,
    /// What the result is made of, where the module tells it.
    pub(crate) result_shape: Option<Arc<Shape>>,
    /// What it was lent, until somebody takes that back.
    pub(crate) buffer: Option<Box<BufferSlot>>,
}

/// What a handle and the driver share of one task.
#[derive(Debug)]
pub(crate) struct TaskCell {
    pub(crate) info: TaskInfo,
    /// The way to the task's pool.
    pub(crate) link: Arc<Link>,
    pub(crate) submitted: Instant,
    inner: Mutex<Inner>,
    changed: Condvar,
}

/// Where a worker says whether it has started a task.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) page: Arc<StatusPage>,
    pub(crate) slot: u8,
}

#[derive(Debug)]
enum State {
    /// Queued.
    Pending,
    /// Sent to a worker, behind others.
    Claimed(Sent),
    /// Taken back from its worker by the pool; its end is on its way.
    TakenBack,
    /// As good as started; the page tells whether, and its progress.
    Running {
        sent: Sent,
        since: Instant,
    },
    Done(Arc<Completed>),
}

#[derive(Debug)]
struct Inner {
    state: State,
    emitted: VecDeque<Vec<u8>>,
    progress: Option<(u64, u64)>,
    wakers: Vec<Waker>,
    /// Told the number when the task ends.
    followers: Vec<(Arc<Completions>, usize)>,
    callbacks: VecDeque<Callback>,
    callbacks_added: u64,
    /// The task has ended, and somebody calls its callbacks or is about to.
    calling: bool,
}

/// What [`TaskHandle::remove_callback`](crate::TaskHandle::remove_callback) takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallbackId(u64);

struct Callback {
    id: CallbackId,
    call: Box<dyn FnOnce(Arc<TaskCell>) + Send>,
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

impl TaskCell {
    pub(crate) fn new(info: TaskInfo, link: Arc<Link>) -> Self {
        let inner = Inner {
            state: State::Pending,
            emitted: VecDeque::new(),
            progress: None,
            wakers: Vec::new(),
            followers: Vec::new(),
            callbacks: VecDeque::new(),
            callbacks_added: 0,
            calling: false,
        };
        let (inner, changed) = (Mutex::new(inner), Condvar::new());
        Self { info, link, submitted: Instant::now(), inner, changed }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Driver: the task goes to a worker now. False where it is cancelled already.
    pub(crate) fn claim(&self, sent: Sent) -> bool {
        let mut inner = self.lock();
        if matches!(inner.state, State::Done(_)) {
            return false;
        }
        // Before the task is sent, so that the worker finds its slot filled.
        sent.page.offer(sent.slot, self.info.id);
        inner.state = State::Claimed(sent);
        // Of an attempt that was lost.
        inner.emitted.clear();
        true
    }

    /// Driver: the task is the next that its worker starts, or was taken back.
    pub(crate) fn start(&self) {
        let mut inner = self.lock();
        if let State::Claimed(sent) = &inner.state {
            inner.state = State::Running { sent: sent.clone(), since: Instant::now() };
            self.changed.notify_all();
        }
    }

    /// Driver: a task that was sent shall not start. False where it has; else its worker says in its
    /// turn that it did not.
    pub(crate) fn recall(&self) -> bool {
        let mut inner = self.lock();
        let (State::Claimed(sent) | State::Running { sent, .. }) = &inner.state else {
            return true;
        };
        let taken_back = sent.page.revoke(sent.slot, self.info.id);
        if taken_back {
            inner.state = State::TakenBack;
        }
        taken_back
    }

    /// Driver: the task is back in the queue.
    pub(crate) fn requeue(&self) {
        let mut inner = self.lock();
        if !matches!(inner.state, State::Done(_)) {
            inner.state = State::Pending;
            inner.emitted.clear();
        }
    }

    /// Driver: an item arrived.
    pub(crate) fn emit(&self, item: Vec<u8>) {
        let mut inner = self.lock();
        if !matches!(inner.state, State::Done(_)) {
            inner.emitted.push_back(item);
            self.changed.notify_all();
        }
    }

    /// Ends the task, unless it has ended already, and leaves in `wakers` whom to wake for that.
    /// Says whether it was this that ended it.
    pub(crate) fn finish(self: &Arc<Self>, completed: Completed, wakers: &mut Wakers) -> bool {
        let inner = self.lock();
        if matches!(inner.state, State::Done(_)) {
            return false;
        }
        self.finish_locked(inner, completed, wakers);
        true
    }

    fn finish_locked(
        self: &Arc<Self>,
        mut inner: MutexGuard<'_, Inner>,
        completed: Completed,
        wakers: &mut Wakers,
    ) {
        if let State::Claimed(sent) | State::Running { sent, .. } = &inner.state {
            inner.progress = sent.page.progress_of(self.info.id);
        }
        inner.state = State::Done(Arc::new(completed));
        wakers.append(&mut inner.wakers);
        let followers = mem::take(&mut inner.followers);
        // Before anybody can see the end: who sees it and ends the pool has them waited for.
        self.call(&mut inner);
        drop(inner);
        self.changed.notify_all();
        self.link.hub.done(self.awaited());
        for (follower, number) in followers {
            wakers.extend(follower.push(number));
            self.link.hub.done(follower.awaited());
        }
    }

    /// What a leader that waits for the task's end waits for.
    fn awaited(&self) -> Awaited {
        std::ptr::from_ref(self).addr() as Awaited
    }

    /// Cancels the task unless its code has started. Says whether it is cancelled now.
    pub(crate) fn cancel(self: &Arc<Self>) -> bool {
        let inner = self.lock();
        match &inner.state {
            State::Pending | State::TakenBack => {}
            State::Claimed(sent) | State::Running { sent, .. } => {
                if !sent.page.revoke(sent.slot, self.info.id) {
                    return false;
                }
            }
            State::Done(completed) => return completed.report.status == Status::Cancelled,
        }
        let completed = Completed {
            result: Err(TaskError::Cancelled(CancelReason::Asked)),
            report: self.blank_report(Status::Cancelled),
        };
        let mut wakers = Wakers::new();
        self.finish_locked(inner, completed, &mut wakers);
        wakers.into_iter().for_each(wake);
        true
    }

    /// A report that knows only what the host knows.
    pub(crate) fn blank_report(&self, status: Status) -> TaskReport {
        TaskReport {
            task: self.info.id,
            target: self.info.target.clone(),
            label: self.info.label.clone(),
            status,
            worker: None,
            attempt: 0,
            queue_wait: self.submitted.elapsed(),
            wall_time: Duration::ZERO,
            cpu_time: Duration::ZERO,
            fuel: None,
            memory_peak_bytes: 0,
            stdout: Default::default(),
            stderr: Default::default(),
            log: Vec::new(),
            log_dropped: 0,
        }
    }

    pub(crate) fn status(&self) -> Status {
        match &self.lock().state {
            State::Pending | State::Claimed(_) | State::TakenBack => Status::Pending,
            State::Running { .. } => Status::Running,
            State::Done(completed) => completed.report.status,
        }
    }

    /// How the task ended, if it has.
    pub(crate) fn done(&self) -> Option<Arc<Completed>> {
        match &self.lock().state {
            State::Done(completed) => Some(completed.clone()),
            _ => None,
        }
    }

    /// Takes the encoded result out of a task that has ended and of which nobody will ask again, if
    /// nobody looks at it now.
    pub(crate) fn take_encoded(&self) -> Option<Output> {
        let mut inner = self.lock();
        let State::Done(completed) = &mut inner.state else { return None };
        match &mut Arc::get_mut(completed)?.result {
            Ok(Output::Encoded { codec, bytes }) => {
                Some(Output::Encoded { codec: *codec, bytes: mem::take(bytes) })
            }
            _ => None,
        }
    }

    fn is_done(&self) -> bool {
        matches!(self.lock().state, State::Done(_))
    }

    /// How long it has waited, and how long it has run.
    pub(crate) fn duration(&self) -> (Duration, Duration) {
        match &self.lock().state {
            State::Pending | State::Claimed(_) | State::TakenBack => {
                (self.submitted.elapsed(), Duration::ZERO)
            }
            State::Running { since, .. } => {
                (since.saturating_duration_since(self.submitted), since.elapsed())
            }
            State::Done(completed) => (completed.report.queue_wait, completed.report.wall_time),
        }
    }

    /// What it last said of its progress.
    pub(crate) fn progress(&self) -> Option<(u64, u64)> {
        let inner = self.lock();
        match &inner.state {
            State::Running { sent, .. } => sent.page.progress_of(self.info.id),
            _ => inner.progress,
        }
    }

    /// Blocks until the task has ended or `deadline` has come.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Option<Arc<Completed>> {
        if let Some(completed) = self.done() {
            return Some(completed);
        }
        // If nobody else does, this thread listens to the workers itself.
        self.link.hub.lead(self.awaited(), deadline, || self.is_done());
        let mut inner = self.lock();
        loop {
            if let State::Done(completed) = &inner.state {
                return Some(completed.clone());
            }
            inner = wait(&self.changed, inner, deadline)?;
        }
    }

    /// Blocks until the task has ended.
    pub(crate) fn wait_for_end(&self) -> Arc<Completed> {
        self.wait(None).unwrap_or_else(|| unreachable!("there is no deadline to pass"))
    }

    /// How the task ended, or a wake-up of `context` when it does.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Arc<Completed>> {
        let mut inner = self.lock();
        if let State::Done(completed) = &inner.state {
            return Poll::Ready(completed.clone());
        }
        if !inner.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            inner.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Blocks for the next item; `None` once the task has ended and all are taken.
    pub(crate) fn next_emitted(&self) -> Option<Vec<u8>> {
        let mut inner = self.lock();
        loop {
            if let Some(item) = inner.emitted.pop_front() {
                return Some(item);
            }
            if matches!(inner.state, State::Done(_)) {
                return None;
            }
            inner = wait(&self.changed, inner, None)?;
        }
    }

    /// Says `number` to `follower` when the task ends, at once if it has.
    pub(crate) fn follow(&self, follower: &Arc<Completions>, number: usize) {
        let mut inner = self.lock();
        if matches!(inner.state, State::Done(_)) {
            drop(inner);
            follower.push(number).into_iter().for_each(wake);
        } else {
            inner.followers.push((follower.clone(), number));
        }
    }

    /// Has `call` called, on one of the pool's threads for callbacks, when the task ends or at once
    /// if it has.
    pub(crate) fn on_done(
        self: &Arc<Self>,
        call: impl FnOnce(Arc<Self>) + Send + 'static,
    ) -> CallbackId {
        let mut inner = self.lock();
        let id = CallbackId(inner.callbacks_added);
        inner.callbacks_added += 1;
        inner.callbacks.push_back(Callback { id, call: Box::new(call) });
        if matches!(inner.state, State::Done(_)) {
            self.call(&mut inner);
        }
        id
    }

    /// Takes a callback back. Says whether it was still to be called.
    pub(crate) fn remove_callback(&self, id: CallbackId) -> bool {
        let mut inner = self.lock();
        let index = inner.callbacks.iter().position(|callback| callback.id == id);
        let removed = index.and_then(|index| inner.callbacks.remove(index));
        // What it captured may be dropped with locks of its own.
        drop(inner);
        removed.is_some()
    }

    /// Has the callbacks called, unless they are being called already.
    fn call(self: &Arc<Self>, inner: &mut Inner) {
        if inner.calling || inner.callbacks.is_empty() {
            return;
        }
        inner.calling = true;
        let cell = self.clone();
        // Never waits for one of its jobs, so none can wait for this lock meanwhile.
        self.link.callbacks.run(move || cell.call_all());
    }

    /// One after the other, in the order in which they were added; none is spared by another's panic.
    fn call_all(self: &Arc<Self>) {
        loop {
            let mut inner = self.lock();
            let Some(callback) = inner.callbacks.pop_front() else {
                inner.calling = false;
                return;
            };
            drop(inner);
            let cell = self.clone();
            // The panic itself was reported by the panic hook.
            let _ = catch_unwind(AssertUnwindSafe(move || (callback.call)(cell)));
        }
    }
}

#[cfg(test)]
#[cfg(shuttle)]
mod models;

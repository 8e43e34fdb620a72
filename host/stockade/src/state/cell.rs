//! The cell: state that a task's handles and the driver share, and the only place where its outcome
//! is set.
//!
//! ```text
//! Pending ──claim──► Claimed ──start──► Running ──finish──► Done
//!    ▲                  │                     │
//!    └──recall, requeue─┴─────────────────────┘      cancel: from anywhere its code has not started
//! ```
//!
//! Ending a task is idempotent: the first call, the driver's with an outcome or a handle's with a
//! cancel, sets the outcome. A cancel of a task that a worker already holds is settled with that
//! worker, on its status page: either its code has started, or it never will.
//!
//! A million tasks may wait, so a queued one is little more than its payload. State of tasks that
//! have started or have waiters is boxed separately, and most of it is freed at the end:
//!
//! ```text
//! Queued(Payload) ──its turn, or a waiter──► Tracked ──the end──► Done
//!     its turn: the payload goes to the driver
//! ```
//!
//! Deliberately absent: decoding; state that only the driver uses, which is in its
//! [entry](crate::backend::entry); and what it does with a cell, which is in `driven`.

mod driven;
mod tracked;

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use stockade_wire::{Codec, TaskId};

use crate::base::sync::{Mutex, MutexGuard, Wakers, lock, wait, wake};
use crate::call::buffer::BufferSlot;
use crate::call::payload::Payload;
use crate::outcome::error::{CancelReason, TaskError};
use crate::outcome::output::Output;
use crate::outcome::report::{Status, Summary};
use crate::state::backend::{Awaited, Lead};
use crate::state::completions::Completions;
use crate::state::semaphore::Permit;
use crate::state::spec::TaskSpec;

use tracked::{Stage, Tracked};

pub(crate) use driven::{Sent, nanos};

/// How a task ended.
#[derive(Debug)]
pub(crate) struct Completed {
    pub(crate) result: Result<Output, TaskError>,
    pub(crate) report: Summary,
    /// What it was lent, however it ended. The cell's to give.
    pub(crate) buffer: Option<Arc<BufferSlot>>,
}

impl Completed {
    pub(crate) fn new(result: Result<Output, TaskError>, report: Summary) -> Self {
        Self { result, report, buffer: None }
    }
}

/// Rare parts of an ended task.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    /// Its emitted items, in order, and their encoding.
    pub(crate) emitted: VecDeque<(Codec, Vec<u8>)>,
    /// What it last said of its progress.
    pub(crate) progress: Option<(u64, u64)>,
    /// Of a column: the item that failed.
    pub(crate) item: Option<u32>,
}

/// State that a task's handles and the driver share.
#[derive(Debug)]
pub(crate) struct TaskCell {
    pub(crate) id: TaskId,
    pub(crate) spec: Arc<TaskSpec>,
    /// In nanoseconds of the pool's life.
    submitted: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Queued, without waiters.
    Queued(Payload),
    Tracked(Box<Tracked>),
    /// Ended, with nothing left to do.
    Done(Arc<Completed>),
}

/// The id of a callback for [`TaskHandle::remove_callback`](crate::TaskHandle::remove_callback).
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

impl State {
    fn done(&self) -> Option<&Arc<Completed>> {
        match self {
            Self::Done(completed) => Some(completed),
            Self::Tracked(tracked) => match &tracked.stage {
                Stage::Done(completed) => Some(completed),
                _ => None,
            },
            Self::Queued(_) => None,
        }
    }

    /// The same, if nobody else looks at it.
    fn done_alone(&mut self) -> Option<&mut Completed> {
        let completed = match self {
            Self::Done(completed) => completed,
            Self::Tracked(tracked) => match &mut tracked.stage {
                Stage::Done(completed) => completed,
                _ => return None,
            },
            Self::Queued(_) => return None,
        };
        Arc::get_mut(completed)
    }

    /// What the task was lent.
    fn take_buffer(&mut self) -> Option<Arc<BufferSlot>> {
        match self {
            Self::Queued(payload) => payload.buffer().cloned(),
            Self::Tracked(tracked) => tracked.take_buffer(),
            Self::Done(_) => None,
        }
    }

    /// Allocates the rare state.
    fn track(&mut self) -> &mut Tracked {
        if !matches!(self, Self::Tracked(_)) {
            let (stage, payload) = match mem::replace(self, Self::Queued(Payload::default())) {
                Self::Done(completed) => (Stage::Done(completed), Payload::default()),
                Self::Queued(payload) => (Stage::Pending, payload),
                Self::Tracked(_) => unreachable!("it was looked at"),
            };
            *self = Self::Tracked(Box::new(Tracked::new(stage, payload)));
        }
        match self {
            Self::Tracked(tracked) => tracked,
            _ => unreachable!("it was made so"),
        }
    }
}

impl TaskCell {
    /// A task that is about to be queued, with its place among the pending where these are limited.
    pub(crate) fn new(
        id: TaskId,
        spec: Arc<TaskSpec>,
        payload: Payload,
        permit: Option<Permit>,
    ) -> Self {
        let mut state = State::Queued(payload);
        if permit.is_some() {
            // As many as have places, and no more.
            state.track().permit = permit;
        }
        let submitted = spec.link.age_nanos();
        Self { id, spec, submitted, state: Mutex::new(state) }
    }

    /// A task that was submitted without a handle and has ended, for a handle that is made now.
    pub(crate) fn ended(
        id: TaskId,
        spec: Arc<TaskSpec>,
        submitted: u64,
        completed: Completed,
        leftovers: Option<Leftovers>,
    ) -> Self {
        let mut state = State::Done(Arc::new(completed));
        if let Some(Leftovers { emitted, progress, .. }) = leftovers {
            state.track().leave(emitted, progress);
        }
        Self { id, spec, submitted, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// When it was submitted, in the pool's life.
    pub(crate) fn submitted(&self) -> Duration {
        Duration::from_nanos(self.submitted)
    }

    /// How long ago it was submitted.
    fn age(&self) -> Duration {
        self.until(self.spec.link.age_nanos())
    }

    /// Ends the task, unless it has ended already, and leaves in `wakers` whom to wake for that.
    /// Returns whether it was this that ended it.
    pub(crate) fn finish(self: &Arc<Self>, completed: Completed, wakers: &mut Wakers) -> bool {
        let state = self.lock();
        if state.done().is_some() {
            return false;
        }
        self.finish_locked(state, completed, wakers);
        true
    }

    fn finish_locked(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        mut completed: Completed,
        wakers: &mut Wakers,
    ) {
        completed.buffer = state.take_buffer();
        // Kept nowhere else, so that a result can be taken out of it.
        let done = Arc::new(completed);
        let (mut followers, mut changed, mut permit) = (Vec::new(), None, None);
        let mut spent = None;
        if let State::Tracked(tracked) = &mut *state {
            tracked.end(self.id, done);
            wakers.append(&mut tracked.wakers);
            followers = mem::take(&mut tracked.followers);
            changed = tracked.changed.take();
            permit = tracked.permit.take();
            // Before the end is visible: a thread that sees it and ends the pool waits for these.
            self.call(tracked);
            if let Some(done) = tracked.take_spent() {
                spent = Some(mem::replace(&mut *state, State::Done(done)));
            }
        } else {
            spent = Some(mem::replace(&mut *state, State::Done(done)));
        }
        drop(state);
        // Code that takes other locks runs without this one.
        drop(spent);
        wakers.extend(permit.into_iter().flat_map(Permit::give_up));
        if let Some(changed) = changed {
            changed.notify_all();
        }
        let event_loop = &self.spec.link.event_loop;
        event_loop.done(self.awaited());
        for (follower, number) in followers {
            follower.push(number);
            event_loop.done(follower.awaited());
        }
    }

    /// The number that a leader waits for.
    fn awaited(&self) -> Awaited {
        std::ptr::from_ref(self).addr() as Awaited
    }

    /// Cancels the task unless its code has started. Returns whether it is cancelled now.
    pub(crate) fn cancel(self: &Arc<Self>) -> bool {
        let state = self.lock();
        if let Some(completed) = state.done() {
            return completed.report.status == Status::Cancelled;
        }
        if let State::Tracked(tracked) = &*state
            && let Some(sent) = tracked.sent()
            && !sent.revoke()
        {
            return false;
        }
        let result = Err(TaskError::Cancelled(CancelReason::Asked));
        let completed = Completed::new(result, self.blank_report(Status::Cancelled));
        let mut wakers = Wakers::new();
        self.finish_locked(state, completed, &mut wakers);
        wakers.into_iter().for_each(wake);
        true
    }

    /// The report of a task that never ran, from the host's data.
    pub(crate) fn blank_report(&self, status: Status) -> Summary {
        Summary::blank(status, self.age())
    }

    pub(crate) fn status(&self) -> Status {
        let state = self.lock();
        match (&*state, state.done()) {
            (_, Some(completed)) => completed.report.status,
            (State::Tracked(tracked), None) if tracked.is_running() => Status::Running,
            _ => Status::Pending,
        }
    }

    /// How the task ended, if it has.
    pub(crate) fn done(&self) -> Option<Arc<Completed>> {
        self.lock().done().cloned()
    }

    /// Takes the encoded result out of an ended task whose last handle this is, if no other thread
    /// uses it now.
    pub(crate) fn take_encoded(&self) -> Option<Output> {
        match &mut self.lock().done_alone()?.result {
            Ok(Output::Encoded { codec, bytes }) => {
                Some(Output::Encoded { codec: *codec, bytes: mem::take(bytes) })
            }
            _ => None,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.lock().done().is_some()
    }

    /// How long it has waited, and how long it has run.
    pub(crate) fn duration(&self) -> (Duration, Duration) {
        let state = self.lock();
        if let Some(completed) = state.done() {
            return (completed.report.queue_wait, completed.report.wall_time);
        }
        match &*state {
            State::Tracked(tracked) if tracked.is_running() => {
                let age = self.age();
                let pending = self.until(tracked.started);
                (pending, age.saturating_sub(pending))
            }
            _ => (self.age(), Duration::ZERO),
        }
    }

    /// From its submission to this nanosecond of the pool's life.
    pub(crate) fn until(&self, moment: u64) -> Duration {
        Duration::from_nanos(moment.saturating_sub(self.submitted))
    }

    /// What it last said of its progress.
    pub(crate) fn progress(&self) -> Option<(u64, u64)> {
        match &*self.lock() {
            State::Tracked(tracked) => tracked.progress(self.id),
            State::Queued(_) | State::Done(_) => None,
        }
    }

    /// Blocks until the task has ended or `deadline` has come.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Option<Arc<Completed>> {
        if let Some(completed) = self.done() {
            return Some(completed);
        }
        // If nobody else does, this thread listens to the workers itself.
        self.spec
            .link
            .event_loop
            .lead(self.awaited(), deadline, self.spec.lead(), &mut || self.is_done());
        let mut state = self.lock();
        loop {
            if let Some(completed) = state.done() {
                return Some(completed.clone());
            }
            let changed = state.track().changed();
            state = wait(&changed, state, deadline)?;
        }
    }

    /// Blocks until the task has ended.
    pub(crate) fn wait_for_end(&self) -> Arc<Completed> {
        self.wait(None).unwrap_or_else(|| unreachable!("there is no deadline to pass"))
    }

    /// How the task ended, or a wake-up of `context` when it does.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Arc<Completed>> {
        let mut state = self.lock();
        if let Some(completed) = state.done() {
            return Poll::Ready(completed.clone());
        }
        let wakers = &mut state.track().wakers;
        if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            wakers.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Blocks for the next item and its encoding; `None` when the task has ended and all are taken.
    pub(crate) fn next_emitted(&self) -> Option<(Codec, Vec<u8>)> {
        if !self.has_news() {
            self.spec
                .link
                .event_loop
                .lead(self.awaited(), None, Lead::Listening, &mut || self.has_news());
        }
        let mut state = self.lock();
        loop {
            if let State::Tracked(tracked) = &mut *state
                && let Some(item) = tracked.emitted.pop_front()
            {
                return Some(item);
            }
            if state.done().is_some() {
                return None;
            }
            let changed = state.track().changed();
            state = wait(&changed, state, None)?;
        }
    }

    /// Whether there is an item, or the task has ended.
    fn has_news(&self) -> bool {
        let state = self.lock();
        let has_item = matches!(&*state, State::Tracked(tracked) if !tracked.emitted.is_empty());
        has_item || state.done().is_some()
    }

    /// Sends `number` to `follower` when the task ends, at once if it has.
    pub(crate) fn follow(&self, follower: &Arc<Completions>, number: usize) {
        let mut state = self.lock();
        if state.done().is_some() {
            drop(state);
            follower.push(number);
        } else {
            state.track().followers.push((follower.clone(), number));
        }
    }

    /// Has `call` called, on one of the pool's threads for callbacks, when the task ends or at once
    /// if it has.
    pub(crate) fn on_done(
        self: &Arc<Self>,
        call: impl FnOnce(Arc<Self>) + Send + 'static,
    ) -> CallbackId {
        let mut state = self.lock();
        let tracked = state.track();
        let id = CallbackId(tracked.callbacks_added);
        tracked.callbacks_added += 1;
        tracked.callbacks.push_back(Callback { id, call: Box::new(call) });
        if matches!(tracked.stage, Stage::Done(_)) {
            self.call(tracked);
        }
        id
    }

    /// Removes a callback. Returns whether it had not been called.
    pub(crate) fn remove_callback(&self, id: CallbackId) -> bool {
        let mut state = self.lock();
        let State::Tracked(tracked) = &mut *state else { return false };
        let callbacks = &mut tracked.callbacks;
        let index = callbacks.iter().position(|callback| callback.id == id);
        let removed = index.and_then(|index| callbacks.remove(index));
        // What it captured may be dropped with locks of its own.
        drop(state);
        removed.is_some()
    }

    /// Has the callbacks called, unless they are being called already.
    fn call(self: &Arc<Self>, tracked: &mut Tracked) {
        if tracked.calling || tracked.callbacks.is_empty() {
            return;
        }
        tracked.calling = true;
        let cell = self.clone();
        // Never waits for one of its jobs, so none can wait for this lock meanwhile.
        self.spec.link.callbacks.run(move || cell.call_all());
    }

    /// One after the other, in the order in which they were added; after a panic the others still
    /// run.
    fn call_all(self: &Arc<Self>) {
        loop {
            let mut state = self.lock();
            let tracked = state.track();
            let Some(callback) = tracked.callbacks.pop_front() else {
                tracked.calling = false;
                return;
            };
            drop(state);
            let cell = self.clone();
            // The panic itself was reported by the panic hook.
            let _ = catch_unwind(AssertUnwindSafe(move || (callback.call)(cell)));
        }
    }
}

#[cfg(test)]
#[cfg(shuttle)]
mod models;

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_seven_words() {
        // Besides the two counters of its `Arc`, in the 80 bytes that an allocator gives for them.
        assert_eq!(size_of::<TaskCell>(), 7 * size_of::<usize>());
    }
}

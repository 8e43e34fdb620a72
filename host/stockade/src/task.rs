//! Tasks as their callers see them: the handle, and the cell it shares with the driver.
//!
//! The cell is the one place where a task's end is decided: whoever finishes it first, the driver
//! with an outcome or a handle with a cancel, wins, and nobody finishes it again.

use std::collections::VecDeque;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use serde::de::DeserializeOwned;
use stockade_wire::{Codec, Scalar, StatusPage, TaskId};

use crate::driver::Command as DriverCommand;
use crate::report::{Status, TaskReport};
use crate::shape::Shape;
use crate::{CancelReason, CommandOutput, TaskError, codec, scalar};

/// What a task gave, before it is decoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// A task's result, in the codec of its call.
    Encoded {
        /// How it is written.
        codec: Codec,
        /// As the guest wrote it.
        bytes: Vec<u8>,
    },
    /// A scalar function's results.
    Scalars(Vec<Scalar>),
    /// A command's exit code.
    Exited(i32),
}

/// A type that a task's output can become: any that serde can deserialise, or [`CommandOutput`].
///
/// Sealed: no other type can implement it.
pub trait TaskResult: Sized + sealed::Sealed {
    #[doc(hidden)]
    fn from_output(output: &Output, shape: &Shape, report: &TaskReport) -> Result<Self, String>;
}

mod sealed {
    pub trait Sealed {}
    impl<T: serde::de::DeserializeOwned> Sealed for T {}
    impl Sealed for crate::CommandOutput {}
}

impl<T: DeserializeOwned> TaskResult for T {
    fn from_output(output: &Output, shape: &Shape, _: &TaskReport) -> Result<Self, String> {
        match output {
            Output::Encoded { codec, bytes } => codec::decode(*codec, bytes, shape),
            Output::Scalars(scalars) => scalar::decode(scalars),
            Output::Exited(code) => scalar::decode(&[Scalar::I32(*code)]),
        }
    }
}

impl TaskResult for CommandOutput {
    fn from_output(output: &Output, _: &Shape, report: &TaskReport) -> Result<Self, String> {
        match output {
            Output::Exited(exit_code) => Ok(Self {
                exit_code: *exit_code,
                stdout: report.stdout.clone(),
                stderr: report.stderr.clone(),
            }),
            _ => Err("the target is no command".into()),
        }
    }
}

/// How a task ended.
#[derive(Debug)]
pub(crate) struct Completed {
    pub(crate) result: Result<Output, TaskError>,
    pub(crate) report: TaskReport,
}

#[derive(Debug)]
enum State {
    /// Queued.
    Pending,
    /// Sent to a worker, behind others.
    Claimed,
    /// Started; the page tells its progress.
    Running {
        page: Arc<StatusPage>,
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
    listeners: Vec<(Sender<usize>, usize)>,
}

/// What a handle and the driver share of one task.
#[derive(Debug)]
pub(crate) struct TaskCell {
    pub(crate) id: TaskId,
    pub(crate) target: String,
    pub(crate) codec: Codec,
    /// Where the module tells it.
    result_shape: Option<Arc<Shape>>,
    pub(crate) submitted: Instant,
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl TaskCell {
    pub(crate) fn new(
        id: TaskId,
        target: String,
        codec: Codec,
        result_shape: Option<Arc<Shape>>,
    ) -> Self {
        let inner = Inner {
            state: State::Pending,
            emitted: VecDeque::new(),
            progress: None,
            wakers: Vec::new(),
            listeners: Vec::new(),
        };
        let submitted = Instant::now();
        let (inner, changed) = (Mutex::new(inner), Condvar::new());
        Self { id, target, codec, result_shape, submitted, inner, changed }
    }

    fn decode<T: TaskResult>(&self, done: &Completed) -> Result<T, TaskError> {
        let output = done.result.as_ref().map_err(Clone::clone)?;
        let shape = self.result_shape.as_deref().unwrap_or(&Shape::Any);
        T::from_output(output, shape, &done.report).map_err(TaskError::Decode)
    }

    /// Nothing under this lock can panic half-way, so a poisoned one still holds a sound state.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Driver: the task goes to a worker now. False where it is cancelled already.
    pub(crate) fn claim(&self) -> bool {
        let mut inner = self.lock();
        match inner.state {
            State::Done(_) => false,
            _ => {
                inner.state = State::Claimed;
                true
            }
        }
    }

    /// Driver: the task starts now.
    pub(crate) fn start(&self, page: Arc<StatusPage>) {
        let mut inner = self.lock();
        if !matches!(inner.state, State::Done(_)) {
            inner.state = State::Running { page };
            self.changed.notify_all();
        }
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

    /// Ends the task, unless it has ended already.
    pub(crate) fn finish(&self, completed: Completed) {
        let mut inner = self.lock();
        if matches!(inner.state, State::Done(_)) {
            return;
        }
        if let State::Running { page } = &inner.state {
            inner.progress = page.progress_of(self.id);
        }
        inner.state = State::Done(Arc::new(completed));
        let (wakers, listeners) =
            (std::mem::take(&mut inner.wakers), std::mem::take(&mut inner.listeners));
        drop(inner);
        self.changed.notify_all();
        for waker in wakers {
            waker.wake();
        }
        for (listener, number) in listeners {
            // Unbounded, so it never blocks; a listener that is gone wants nothing.
            let _ = listener.send(number);
        }
    }

    /// Cancels the task unless it has started. Says whether it is cancelled now.
    fn cancel(&self) -> bool {
        match &self.lock().state {
            State::Pending | State::Claimed => {}
            State::Running { .. } => return false,
            State::Done(completed) => return completed.report.status == Status::Cancelled,
        }
        self.finish(Completed {
            result: Err(TaskError::Cancelled(CancelReason::Asked)),
            report: self.blank_report(Status::Cancelled),
        });
        self.status() == Status::Cancelled
    }

    /// A report that knows only what the host knows.
    pub(crate) fn blank_report(&self, status: Status) -> TaskReport {
        TaskReport {
            task: self.id,
            target: self.target.clone(),
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

    fn status(&self) -> Status {
        match &self.lock().state {
            State::Pending | State::Claimed => Status::Pending,
            State::Running { .. } => Status::Running,
            State::Done(completed) => completed.report.status,
        }
    }

    /// Blocks until the task has ended or `deadline` has come.
    fn wait(&self, deadline: Option<Instant>) -> Option<Arc<Completed>> {
        let mut inner = self.lock();
        loop {
            if let State::Done(completed) = &inner.state {
                return Some(completed.clone());
            }
            inner = self.wait_change(inner, deadline)?;
        }
    }

    /// Blocks until the task has ended or `deadline` has come; says whether it has ended.
    pub(crate) fn wait_done(&self, deadline: Option<Instant>) -> bool {
        self.wait(deadline).is_some()
    }

    /// Blocks for the next item; `None` once the task has ended and all are taken.
    fn next_emitted(&self) -> Option<Vec<u8>> {
        let mut inner = self.lock();
        loop {
            if let Some(item) = inner.emitted.pop_front() {
                return Some(item);
            }
            if matches!(inner.state, State::Done(_)) {
                return None;
            }
            inner = self.wait_change(inner, None)?;
        }
    }

    fn wait_change<'a>(
        &self,
        inner: MutexGuard<'a, Inner>,
        deadline: Option<Instant>,
    ) -> Option<MutexGuard<'a, Inner>> {
        let Some(deadline) = deadline else {
            return Some(self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner));
        };
        let left =
            deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        let (inner, _) =
            self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner);
        Some(inner)
    }

    /// Sends `number` to `listener` when the task ends, at once if it has.
    pub(crate) fn listen(&self, listener: Sender<usize>, number: usize) {
        let mut inner = self.lock();
        if matches!(inner.state, State::Done(_)) {
            let _ = listener.send(number);
        } else {
            inner.listeners.push((listener, number));
        }
    }
}

/// A submitted task, whose result becomes a `T`.
///
/// Dropping the handle neither cancels nor waits. As a future it ends when the task does, on any
/// executor.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = stockade::Pool::builder().module("tasks.wasm").build()?;
/// let handle = pool.submit::<u64>("word_count", ("to be or not to be",))?;
/// println!("{:?}", handle.status());
/// println!("{} words in {:?}", handle.result()?, handle.report().cpu_time);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TaskHandle<T> {
    pub(crate) cell: Arc<TaskCell>,
    commands: Sender<DriverCommand>,
    result: PhantomData<fn() -> T>,
}

impl<T: TaskResult> TaskHandle<T> {
    pub(crate) fn new(cell: Arc<TaskCell>, commands: Sender<DriverCommand>) -> Self {
        Self { cell, commands, result: PhantomData }
    }

    /// The task's number in its pool, from 1.
    pub fn task_id(&self) -> TaskId {
        self.cell.id
    }

    /// Where the task stands now.
    pub fn status(&self) -> Status {
        self.cell.status()
    }

    /// Whether the task has ended, however it did.
    pub fn is_done(&self) -> bool {
        self.status().is_done()
    }

    /// Blocks until the task has ended, and decodes its result.
    ///
    /// Where the module's manifest names the result's type, a number becomes one of the caller's
    /// type if that changes nothing: a `u64` is a `u32` where it is in its range.
    ///
    /// # Errors
    /// [`TaskError`], however the task ended; [`TaskError::Decode`] where its result is no `T`.
    pub fn result(&self) -> Result<T, TaskError> {
        self.cell
            .wait(None)
            .map_or_else(|| unreachable!("no deadline"), |done| self.cell.decode(&done))
    }

    /// As [`result`](Self::result), for at most `timeout`; `None` where the task has not ended then.
    /// The task goes on.
    pub fn result_timeout(&self, timeout: Duration) -> Option<Result<T, TaskError>> {
        let done = self.cell.wait(Instant::now().checked_add(timeout))?;
        Some(self.cell.decode(&done))
    }

    /// Blocks until the task has ended, and gives its output undecoded.
    ///
    /// # Errors
    /// [`TaskError`], however the task ended.
    pub fn output(&self) -> Result<Output, TaskError> {
        match self.cell.wait(None) {
            Some(done) => done.result.clone(),
            None => unreachable!("no deadline"),
        }
    }

    /// Blocks until the task has ended or `timeout` has passed; says whether it has ended.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.cell.wait(Instant::now().checked_add(timeout)).is_some()
    }

    /// Blocks until the task has ended, and tells what is known of it.
    pub fn report(&self) -> TaskReport {
        match self.cell.wait(None) {
            Some(done) => done.report.clone(),
            None => unreachable!("no deadline"),
        }
    }

    /// What the task last said of its progress: done and total, which is 0 where unknown. `None`
    /// where it never said.
    pub fn progress(&self) -> Option<(u64, u64)> {
        let inner = self.cell.lock();
        match &inner.state {
            State::Running { page } => page.progress_of(self.cell.id),
            _ => inner.progress,
        }
    }

    /// Items that the task emits, in order, as they come: blocks for each, and ends with the task.
    /// Each is given out once, whoever asks.
    pub fn emitted<U: DeserializeOwned>(&self) -> impl Iterator<Item = Result<U, TaskError>> + '_ {
        std::iter::from_fn(|| {
            let item = self.cell.next_emitted()?;
            Some(codec::decode(self.cell.codec, &item, &Shape::Any).map_err(TaskError::Decode))
        })
    }

    /// Cancels the task unless it has started, at once and for good. Says whether it is cancelled;
    /// one that runs goes on.
    pub fn cancel(&self) -> bool {
        let cancelled = self.cell.cancel();
        // The pool may be gone: then the task has ended, and there is nothing to tell.
        let _ = self.commands.send(DriverCommand::Cancel(self.cell.id));
        cancelled
    }

    /// Cancels the task, also while it runs: its worker is then killed and replaced. Does not wait;
    /// a result that was already on its way wins.
    pub fn cancel_running(&self) {
        self.cell.cancel();
        let _ = self.commands.send(DriverCommand::CancelRunning(self.cell.id));
    }
}

impl<T: TaskResult> Future for TaskHandle<T> {
    type Output = Result<T, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut inner = self.cell.lock();
        if let State::Done(completed) = &inner.state {
            let completed = completed.clone();
            drop(inner);
            return Poll::Ready(self.cell.decode(&completed));
        }
        if !inner.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            inner.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

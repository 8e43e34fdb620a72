//! Tasks as callers see them: the handle, its outcome, and how a result is decoded.
//!
//! Deliberately absent: a task's state, which its cell owns.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde::de::DeserializeOwned;
use stockade_wire::{Codec, Scalar, TaskId, Written};

use crate::api::pool::Pool;
use crate::base::deadline;
use crate::call::buffer::{BufferSlot, SharedBuffer};
use crate::call::command::CommandOutput;
use crate::call::shape::Shape;
use crate::call::{codec, scalar};
use crate::outcome::error::{TaskError, Undecodable};
use crate::outcome::output::Output;
use crate::outcome::report::{Status, Summary, TaskReport};
use crate::state::cell::{CallbackId, Completed, TaskCell};
use crate::state::spec::TaskSpec;

/// A type of task results: any that serde can deserialise, [`CommandOutput`], the lent
/// [`SharedBuffer`], which only the first caller gets, or the undecoded [`Output`] itself.
///
/// Sealed: no other type can implement it.
pub trait TaskResult: Sized + sealed::Sealed {
    #[doc(hidden)]
    fn from_output(ended: Ended<'_>) -> Result<Self, Undecodable>;
}

/// The data that a task's result is made from.
#[doc(hidden)]
#[derive(Debug)]
pub struct Ended<'a> {
    output: Cow<'a, Output>,
    shape: &'a Shape,
    report: &'a Summary,
    buffer: Option<&'a BufferSlot>,
}

mod sealed {
    pub trait Sealed {}
    impl<T: serde::de::DeserializeOwned> Sealed for T {}
    impl Sealed for crate::call::command::CommandOutput {}
    impl Sealed for crate::outcome::output::Output {}
    impl Sealed for crate::call::buffer::SharedBuffer {}
}

impl<T: DeserializeOwned> TaskResult for T {
    fn from_output(Ended { output, shape, buffer, .. }: Ended<'_>) -> Result<Self, Undecodable> {
        match output {
            Cow::Owned(Output::Encoded { codec, bytes }) => codec::decode(codec, bytes, shape),
            Cow::Borrowed(Output::Encoded { codec, bytes }) => codec::decode(*codec, bytes, shape),
            output => match &*output {
                Output::Encoded { codec, bytes } => codec::decode(*codec, bytes, shape),
                Output::InPlace => {
                    let buffer = buffer.ok_or_else(no_buffer)?;
                    let bytes = buffer.to_vec().map_err(Undecodable::of_another_type)?;
                    codec::decode(Codec::Raw, bytes, shape)
                }
                // Numbers, and as many as the function's type has: nothing in them can be malformed.
                Output::Scalars(scalars) => {
                    scalar::decode(scalars).map_err(Undecodable::of_another_type)
                }
                Output::Exited(code) => {
                    scalar::decode(&[Scalar::I32(*code)]).map_err(Undecodable::of_another_type)
                }
            },
        }
    }
}

impl TaskResult for CommandOutput {
    fn from_output(Ended { output, report, .. }: Ended<'_>) -> Result<Self, Undecodable> {
        match &*output {
            Output::Exited(exit_code) => {
                let Written { stdout, stderr, .. } = report.written();
                Ok(Self { exit_code: *exit_code, stdout, stderr })
            }
            _ => Err(Undecodable::of_another_type("the target is not a command")),
        }
    }
}

impl TaskResult for Output {
    fn from_output(Ended { output, .. }: Ended<'_>) -> Result<Self, Undecodable> {
        Ok(output.into_owned())
    }
}

fn no_buffer() -> Undecodable {
    Undecodable::of_another_type("the task was lent no buffer")
}

impl TaskResult for SharedBuffer {
    fn from_output(Ended { output, buffer, .. }: Ended<'_>) -> Result<Self, Undecodable> {
        let buffer = buffer.ok_or_else(no_buffer)?;
        let taken = match &*output {
            Output::InPlace => buffer.take_with(None),
            Output::Encoded { bytes, .. } => buffer.take_with(Some(bytes)),
            Output::Scalars(_) | Output::Exited(_) => {
                Err("the target does not return bytes".into())
            }
        };
        taken.map_err(Undecodable::of_another_type)
    }
}

/// From this length on a result is not copied.
const LONG_BYTES: usize = 64 << 10;

/// A submitted task, whose result becomes a `T`.
///
/// Dropping the handle neither cancels nor blocks, and a clone is the same task. It is also a
/// future, on any executor, that is ready when the task has ended.
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
pub struct TaskHandle<T> {
    pub(crate) cell: Arc<TaskCell>,
    result: PhantomData<fn() -> T>,
}

/// How long a task has waited and run, until now or until its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskDuration {
    /// From its submission to its last start, or to its end if it never started.
    pub pending: Duration,
    /// From that start to its end.
    pub running: Duration,
}

impl<T> Clone for TaskHandle<T> {
    fn clone(&self) -> Self {
        Self { cell: self.cell.clone(), result: PhantomData }
    }
}

impl<T> fmt::Debug for TaskHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle")
            .field("task", &self.cell.id)
            .field("target", &self.cell.spec.target)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// The task's present state. Nothing here blocks.
impl<T> TaskHandle<T> {
    pub(crate) fn new(cell: Arc<TaskCell>) -> Self {
        Self { cell, result: PhantomData }
    }

    /// The same task, without the type of its result.
    pub(crate) fn of_any<U>(self) -> TaskHandle<U> {
        TaskHandle::new(self.cell)
    }

    /// The task's number in its pool, from 1.
    pub fn task_id(&self) -> TaskId {
        self.cell.id
    }

    /// The target, as the caller named it.
    pub fn target(&self) -> &str {
        &self.cell.spec.target
    }

    /// The task's label, see [`TaskOptions::label`](crate::TaskOptions::label).
    pub fn label(&self) -> Option<&str> {
        self.cell.spec.label.as_deref()
    }

    /// The task's pool; `None` after its last `Pool` was dropped.
    pub fn pool(&self) -> Option<Pool> {
        Pool::of(&self.cell.spec.link)
    }

    /// The task's status.
    pub fn status(&self) -> Status {
        self.cell.status()
    }

    /// Whether the task has not started.
    pub fn is_pending(&self) -> bool {
        self.status() == Status::Pending
    }

    /// Whether the task has started and not ended.
    pub fn is_running(&self) -> bool {
        self.status() == Status::Running
    }

    /// Whether the task has ended with a result.
    pub fn is_completed(&self) -> bool {
        self.status() == Status::Completed
    }

    /// Whether the task has ended with an error other than a cancel.
    pub fn is_failed(&self) -> bool {
        self.status() == Status::Failed
    }

    /// Whether the task was cancelled, by a handle or by the pool.
    pub fn is_cancelled(&self) -> bool {
        self.status() == Status::Cancelled
    }

    /// Whether the task has ended.
    pub fn is_done(&self) -> bool {
        self.status().is_done()
    }

    /// The error of a failed task; `None` if it has not failed, has not ended, or was cancelled.
    pub fn exception(&self) -> Option<TaskError> {
        let done = self.cell.done().filter(|done| done.report.status == Status::Failed)?;
        done.result.as_ref().err().cloned()
    }

    /// How long the task has waited and run.
    pub fn duration(&self) -> TaskDuration {
        let (pending, running) = self.cell.duration();
        TaskDuration { pending, running }
    }

    /// Takes the [`SharedBuffer`] that the task was lent, with any outcome. `None` if the task has
    /// not ended, was lent no buffer, or the buffer was already taken.
    pub fn take_buffer(&self) -> Option<SharedBuffer> {
        self.cell.done()?.buffer.as_ref()?.take()
    }

    /// The task's last progress: done and total, which is 0 if unknown. `None` if it reported none.
    pub fn progress(&self) -> Option<(u64, u64)> {
        self.cell.progress()
    }
}

/// Waiting for the task, and cancelling it.
impl<T: TaskResult> TaskHandle<T> {
    /// Blocks until the task has ended, and decodes its result.
    ///
    /// If the module's manifest names the result's type, a number is converted to the caller's type
    /// if its value stays the same: a `u64` in the range of a `u32` becomes a `u32`.
    ///
    /// # Errors
    /// [`TaskError`] if the task gave no result; [`TaskError::Decode`] if its result is not a `T`.
    pub fn result(&self) -> Result<T, TaskError> {
        self.decode(&self.cell.wait_for_end())
    }

    /// As [`result`](Self::result), but blocks at most for `timeout`; `None` if the task has not
    /// ended then. The task goes on.
    pub fn result_timeout(&self, timeout: Duration) -> Option<Result<T, TaskError>> {
        let done = self.cell.wait(deadline::after(timeout))?;
        Some(self.decode(&done))
    }

    /// Blocks until the task has ended, and returns its undecoded result.
    ///
    /// # Errors
    /// [`TaskError`] if the task gave no result.
    pub fn output(&self) -> Result<Output, TaskError> {
        self.cell.wait_for_end().result.clone()
    }

    /// Blocks until the task has ended or `timeout` has passed; `None` has no timeout. Returns
    /// whether the task has ended.
    pub fn wait(&self, timeout: impl Into<Option<Duration>>) -> bool {
        self.cell.wait(deadline::after(timeout)).is_some()
    }

    /// Blocks until the task has ended, and returns its report.
    pub fn report(&self) -> TaskReport {
        report_of(&self.cell, &self.cell.wait_for_end().report)
    }

    /// The task's emitted items, in order, as they come: blocks for each, and ends with the task.
    /// Each item is returned once, by any one of the handle's iterators. A task that is retried
    /// emits from the beginning.
    pub fn emitted<U: DeserializeOwned>(&self) -> impl Iterator<Item = Result<U, TaskError>> + '_ {
        std::iter::from_fn(|| {
            let (codec, item) = self.cell.next_emitted()?;
            let decoded = codec::decode(codec, &item, &Shape::Any);
            Some(decoded.map_err(TaskError::Decode))
        })
    }

    /// Cancels the task unless it has started. Never blocks. Returns true if the task is cancelled:
    /// its code will never run. Returns false if it is running, and goes on, or has ended
    /// otherwise.
    pub fn cancel(&self) -> bool {
        let cancelled = self.cell.cancel();
        if cancelled {
            self.cell.spec.link.event_loop.cancel(self.cell.id);
        }
        cancelled
    }

    /// Cancels the task, also while it runs: its worker is then killed and replaced. Does not
    /// block. A result that is already on its way wins, and no other task ends.
    pub fn cancel_running(&self) {
        if !self.cancel() {
            self.cell.spec.link.event_loop.cancel_running(self.cell.id);
        }
    }

    /// Calls `callback` with this task after it has ended, or at once if it has.
    ///
    /// It runs exactly once, on a thread of the pool, after callbacks of this task that were added
    /// before. A callback that panics or blocks delays only callbacks after it. The pool's shutdown
    /// waits for callbacks, with a limit.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = stockade::Pool::builder().module("tasks.wasm").build()?;
    /// let handle = pool.submit::<u64>("word_count", ("to be or not to be",))?;
    /// handle.on_done(|task| println!("{}: {:?}", task.task_id(), task.result()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_done(&self, callback: impl FnOnce(Self) + Send + 'static) -> CallbackId {
        self.cell.on_done(move |cell| callback(Self::new(cell)))
    }

    /// Removes a callback. Returns true if it had not been called, and so never will be.
    pub fn remove_callback(&self, callback: CallbackId) -> bool {
        self.cell.remove_callback(callback)
    }

    /// As [`result`](Self::result), but the task's only handle does not copy a long result.
    pub(crate) fn into_result(self) -> Result<T, TaskError> {
        let done = self.cell.wait_for_end();
        let is_long = |output: &Output| match output {
            Output::Encoded { bytes, .. } => bytes.len() >= LONG_BYTES,
            _ => false,
        };
        if !done.result.as_ref().is_ok_and(is_long) {
            return self.decode(&done);
        }
        drop(done);
        let taken = self.cell.take_encoded();
        let done = self.cell.wait_for_end();
        let output = done.result.as_ref().map_err(Clone::clone)?;
        self.decode_output(&done, taken.map_or(Cow::Borrowed(output), Cow::Owned))
    }

    fn decode(&self, done: &Completed) -> Result<T, TaskError> {
        let output = done.result.as_ref().map_err(Clone::clone)?;
        self.decode_output(done, Cow::Borrowed(output))
    }

    fn decode_output(&self, done: &Completed, output: Cow<'_, Output>) -> Result<T, TaskError> {
        decode(&self.cell.spec, done, output)
    }
}

/// The whole report of the task of `cell`, which has ended so.
fn report_of(cell: &TaskCell, end: &Summary) -> TaskReport {
    let spec = &*cell.spec;
    let Written { stdout, stderr, log, log_dropped } = end.written();
    TaskReport {
        task: cell.id,
        target: spec.target.clone(),
        label: spec.label.clone(),
        status: end.status,
        worker: end.worker,
        attempt: end.attempt,
        submitted: cell.submitted(),
        lifetime: end.lifetime,
        queue_wait: end.queue_wait,
        wall_time: end.wall_time,
        cpu_time: end.cpu_time,
        fuel: end.fuel,
        memory_peak_bytes: end.memory_peak_bytes,
        stdout,
        stderr,
        log: log.lines().collect(),
        log_dropped,
        coredump: end.coredump(),
    }
}

/// Decodes the outcome of a task of this `spec` as a `T`.
pub(crate) fn decode<T: TaskResult>(
    spec: &TaskSpec,
    Completed { report, buffer, .. }: &Completed,
    output: Cow<'_, Output>,
) -> Result<T, TaskError> {
    let shape = spec.result_shape.as_deref().unwrap_or(&Shape::Any);
    let ended = Ended { output, shape, report, buffer: buffer.as_deref() };
    T::from_output(ended).map_err(TaskError::Decode)
}

impl<T: TaskResult> Future for TaskHandle<T> {
    type Output = Result<T, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = ready!(self.cell.poll(context));
        Poll::Ready(self.decode(&done))
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::panic::{RefUnwindSafe, UnwindSafe};

    use super::*;

    #[test]
    fn what_callers_hold_may_go_to_other_threads_and_through_catch_unwind() {
        fn assert<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
        assert::<TaskHandle<u64>>();
        assert::<Pool>();
    }
}

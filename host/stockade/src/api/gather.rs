//! Several tasks at once: waiting for all, collecting their results, taking them as they end.
//!
//! Every wait here takes a timeout, or `None` for none; when it passes, the tasks go on.

use std::borrow::Borrow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::task::{TaskHandle, TaskResult};
use crate::base::deadline;
use crate::outcome::error::TaskError;
use crate::state::completions::Completions;

/// Not every task had ended in time; they go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not every task ended within {0:?}")]
pub struct WaitTimeout(pub Duration);

/// Why [`collect`] gave no results.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// The error of the first task, in their order, that gave no result.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The timeout passed first.
    #[error(transparent)]
    Timeout(#[from] WaitTimeout),
}

/// Blocks until every task has ended or `timeout` has passed; returns whether all have ended.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = stockade::Pool::builder().module("tasks.wasm").build()?;
/// let handles = [pool.submit::<u64>("word_count", ("a",))?, pool.submit("word_count", ("b c",))?];
/// assert!(stockade::wait(&handles, None));
/// # Ok(())
/// # }
/// ```
pub fn wait<T, H>(
    handles: impl IntoIterator<Item = H>,
    timeout: impl Into<Option<Duration>>,
) -> bool
where
    T: TaskResult,
    H: Borrow<TaskHandle<T>>,
{
    let deadline = deadline::after(timeout);
    handles.into_iter().all(|handle| handle.borrow().cell.wait(deadline).is_some())
}

/// Blocks for the results of all tasks, in the tasks' order.
///
/// # Errors
/// [`CollectError`]: the first error in the tasks' order, or a timeout before all tasks in front of
/// it had ended.
pub fn collect<T, H>(
    handles: impl IntoIterator<Item = H>,
    timeout: impl Into<Option<Duration>>,
) -> Result<Vec<T>, CollectError>
where
    T: TaskResult,
    H: Borrow<TaskHandle<T>>,
{
    let timeout = timeout.into();
    let deadline = deadline::after(timeout);
    let mut results = Vec::new();
    for handle in handles {
        let handle = handle.borrow();
        if handle.cell.wait(deadline).is_none() {
            return Err(WaitTimeout(timeout.unwrap_or_default()).into());
        }
        results.push(handle.result()?);
    }
    Ok(results)
}

/// Returns an iterator over the tasks as they end, or with [`AsDone::ordered`] in their own order.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = stockade::Pool::builder().module("tasks.wasm").build()?;
/// let handles = [pool.submit::<u64>("word_count", ("a",))?, pool.submit("word_count", ("b c",))?];
/// for task in stockade::as_done(handles) {
///     println!("{}", task?.result()?);
/// }
/// # Ok(())
/// # }
/// ```
pub fn as_done<T: TaskResult>(handles: impl IntoIterator<Item = TaskHandle<T>>) -> AsDone<T> {
    let mut filter = TaskFilter::new();
    filter.populate(handles);
    AsDone { order: Order::Completion(filter), timeout: None, deadline: None }
}

/// An iterator over tasks that have ended. See [`as_done`].
#[derive(Debug)]
pub struct AsDone<T: TaskResult> {
    order: Order<T>,
    timeout: Option<Duration>,
    /// Set at the first call of `next`.
    deadline: Option<Instant>,
}

#[derive(Debug)]
enum Order<T: TaskResult> {
    Completion(TaskFilter<T>),
    Submission(VecDeque<TaskHandle<T>>),
    /// The timeout has passed.
    Over,
}

impl<T: TaskResult> AsDone<T> {
    /// Yields the tasks in their own order.
    #[must_use]
    pub fn ordered(mut self) -> Self {
        if let Order::Completion(filter) = self.order {
            self.order = Order::Submission(filter.under_way.into_values().collect());
        }
        self
    }

    /// Ends with an error if the next task has not ended when `timeout` has passed since the first
    /// call of `next`.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<T: TaskResult> Iterator for AsDone<T> {
    type Item = Result<TaskHandle<T>, WaitTimeout>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.deadline.is_none() {
            self.deadline = deadline::after(self.timeout);
        }
        let next = match &mut self.order {
            Order::Completion(filter) => filter.next_until(self.deadline),
            Order::Submission(handles) => {
                let ended = handles.front()?.cell.wait(self.deadline);
                ended.and_then(|_| handles.pop_front()).map(Some).ok_or(TimedOut)
            }
            Order::Over => return None,
        };
        match next {
            Ok(handle) => handle.map(Ok),
            Err(TimedOut) => {
                self.order = Order::Over;
                Some(Err(WaitTimeout(self.timeout.unwrap_or_default())))
            }
        }
    }
}

/// A set of tasks that are taken out as they end.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = stockade::Pool::builder().module("tasks.wasm").build()?;
/// let mut filter = stockade::TaskFilter::new();
/// filter.put(pool.submit::<u64>("word_count", ("to be",))?);
/// while let Some(task) = filter.get() {
///     let words = task.result()?;
///     if words > 1 {
///         filter.put(pool.submit("word_count", ("be",))?);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TaskFilter<T: TaskResult> {
    /// By the order in which they were put in.
    under_way: BTreeMap<usize, TaskHandle<T>>,
    ended: Arc<Completions>,
    put: usize,
    /// Whether they are of several pools.
    is_mixed: bool,
}

/// The deadline came first.
struct TimedOut;

impl<T: TaskResult> Default for TaskFilter<T> {
    fn default() -> Self {
        Self { under_way: BTreeMap::new(), ended: Arc::default(), put: 0, is_mixed: false }
    }
}

impl<T: TaskResult> TaskFilter<T> {
    /// An empty filter.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a task, ended or not.
    pub fn put(&mut self, handle: TaskHandle<T>) {
        let number = self.put;
        self.put += 1;
        handle.cell.follow(&self.ended, number);
        let other = self.under_way.values().next();
        self.is_mixed = match other.map(|other| (&other.cell.spec.link, &handle.cell.spec.link)) {
            None => false,
            Some((one, two)) => self.is_mixed || !Arc::ptr_eq(one, two),
        };
        self.under_way.insert(number, handle);
    }

    /// Adds several tasks.
    pub fn populate(&mut self, handles: impl IntoIterator<Item = TaskHandle<T>>) {
        handles.into_iter().for_each(|handle| self.put(handle));
    }

    /// The number of tasks in it.
    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Whether it has no tasks.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Blocks for the next task that ends, and takes it out. `None` if the filter is empty.
    pub fn get(&mut self) -> Option<TaskHandle<T>> {
        self.next_until(None).unwrap_or(None)
    }

    /// Takes out the next task that has ended; `None` if none has.
    pub fn try_get(&mut self) -> Option<TaskHandle<T>> {
        self.ended.try_next().and_then(|number| self.under_way.remove(&number))
    }

    /// As [`get`](Self::get), but blocks at most for `timeout`.
    ///
    /// # Errors
    /// [`WaitTimeout`]: none has ended in time; all stay in the filter.
    pub fn get_timeout(&mut self, timeout: Duration) -> Result<Option<TaskHandle<T>>, WaitTimeout> {
        self.next_until(deadline::after(timeout)).map_err(|TimedOut| WaitTimeout(timeout))
    }

    /// Takes all out as they end. `None` is no timeout.
    pub fn get_all(&mut self, timeout: impl Into<Option<Duration>>) -> AsDone<T> {
        let filter = std::mem::take(self);
        let mut all = AsDone { order: Order::Completion(filter), timeout: None, deadline: None };
        all.timeout = timeout.into();
        all
    }

    fn next_until(&mut self, until: Option<Instant>) -> Result<Option<TaskHandle<T>>, TimedOut> {
        if self.under_way.is_empty() {
            return Ok(None);
        }
        if let Some(task) = self.under_way.values().next()
            && !self.is_mixed
            && !self.ended.has_next()
        {
            // If nobody else does, this thread listens to their workers itself.
            let (spec, ended) = (&task.cell.spec, &self.ended);
            let event_loop = &spec.link.event_loop;
            event_loop.lead(ended.awaited(), until, spec.lead(), &mut || ended.has_next());
        }
        let number = self.ended.next(until).ok_or(TimedOut)?;
        Ok(self.under_way.remove(&number))
    }
}

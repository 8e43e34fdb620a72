//! Eager maps: all items are submitted before the first result is taken.

use std::time::{Duration, Instant};

use super::results::{Results, TimedOut};
use crate::api::pool::Pool;
use crate::api::task::{TaskHandle, TaskResult};
use crate::base::deadline;
use crate::outcome::error::RunError;

/// An iterator over the results of a function that was submitted for all items at once. See
/// [`Pool::map_all`].
///
/// An error is an item, as in a [`Map`](super::Map). Dropping it cancels what has not started.
#[derive(Debug)]
pub struct MapAll<T: TaskResult> {
    /// Which the tasks need.
    _pool: Pool,
    results: Results<T>,
    timeout: Option<Duration>,
    /// When the submission began, and with it the time of the whole.
    started: Instant,
    submitted: usize,
}

impl<T: TaskResult> MapAll<T> {
    pub(super) fn new(
        pool: Pool,
        results: Results<T>,
        timeout: Option<Duration>,
        started: Instant,
        submitted: usize,
    ) -> Self {
        Self { _pool: pool, results, timeout, started, submitted }
    }

    /// Yields results as they complete rather than in the items' order.
    #[must_use]
    pub fn unordered(mut self) -> Self {
        self.results.unordered();
        self
    }

    /// Ends with an error if a result is not ready when `timeout` has passed since the call that
    /// submitted the items.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The next task that ended, as its handle with result and report, and the index of its item.
    /// Blocks like [`next`](Iterator::next).
    pub fn next_task(&mut self) -> Option<(usize, Result<TaskHandle<T>, RunError>)> {
        match self.results.next_task(self.deadline()) {
            Ok(ended) => ended,
            Err(TimedOut) => Some((self.submitted, Err(self.run_out()))),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        deadline::from(self.started, self.timeout)
    }

    /// Cancels items that have not started, and ends with a timeout error.
    pub(super) fn run_out(&mut self) -> RunError {
        self.results.cancel();
        RunError::MapTimeout(self.timeout.unwrap_or_default())
    }

    #[cfg(feature = "stream")]
    pub(super) fn results(&mut self) -> &mut Results<T> {
        &mut self.results
    }
}

impl<T: TaskResult> Iterator for MapAll<T> {
    type Item = Result<T, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.results.next_result(self.deadline()) {
            Ok(result) => result,
            Err(TimedOut) => Some(Err(self.run_out())),
        }
    }
}

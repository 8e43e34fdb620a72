//! A function of a pool, looked up once.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;

use crate::api::map::{FedMap, Map, MapAll, Singles, SliceItem, map_slice};
use crate::api::pool::Pool;
use crate::api::task::{TaskHandle, TaskResult};
use crate::call::arguments::Arguments;
use crate::call::options::TaskOptions;
use crate::call::target::Target;
use crate::outcome::error::{RunError, SliceError, SubmitError};
use crate::state::spec::TaskSpec;

/// A function of a pool's module, looked up once. Its tasks need no name, and their common options
/// are checked once. Holds its pool. A clone is the same function.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = stockade::Pool::builder().module("tasks.wasm").build()?;
/// let word_count = pool.function::<u64>("word_count")?;
/// println!("{}", word_count.run(("to be or not to be",))?);
/// for count in word_count.map(["to be", "or not to be"]) {
///     println!("{}", count?);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Function<T> {
    pool: Pool,
    target: Target,
    spec: Arc<TaskSpec>,
    options: TaskOptions,
    result: PhantomData<fn() -> T>,
}

impl<T> Clone for Function<T> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            target: self.target.clone(),
            spec: self.spec.clone(),
            options: self.options.clone(),
            result: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Function<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("target", &self.spec.target).finish_non_exhaustive()
    }
}

impl Pool {
    /// Looks up a function with results of type `T`.
    ///
    /// # Errors
    /// [`SubmitError`] if there is no such function, or the pool accepts none of its tasks.
    pub fn function<T: TaskResult>(
        &self,
        target: impl Into<Target>,
    ) -> Result<Function<T>, SubmitError> {
        let (target, options) = (target.into(), TaskOptions::default());
        let spec = self.core.spec_of(&target, &options)?;
        Ok(Function { pool: self.clone(), target, spec, options, result: PhantomData })
    }
}

impl<T: TaskResult> Function<T> {
    /// The same function with these options for its tasks: priority, retries, tighter limits, a
    /// label, and what to do when the pool is full.
    ///
    /// # Errors
    /// [`SubmitError`] if a limit is looser than the pool's.
    pub fn options(mut self, options: TaskOptions) -> Result<Self, SubmitError> {
        self.spec = self.pool.core.spec_of(&self.target, &options)?;
        self.options = options;
        Ok(self)
    }

    /// The target, as the caller named it.
    pub fn target(&self) -> &str {
        &self.spec.target
    }

    /// The function's pool.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Submits a task and blocks for its result, as [`Pool::run`].
    ///
    /// # Errors
    /// [`RunError`], of the submission or of the task.
    pub fn run(&self, arguments: impl Arguments) -> Result<T, RunError> {
        Ok(self.submit(arguments)?.into_result()?)
    }

    /// Submits a task, as [`Pool::submit`].
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was queued.
    pub fn submit(&self, arguments: impl Arguments) -> Result<TaskHandle<T>, SubmitError> {
        let mut known = Some(self.spec.clone());
        let core = &self.pool.core;
        let (own, payload) =
            core.encode(&self.target, arguments, &self.options, &mut known, false)?;
        let permit = core.permit(core.patience(&self.options))?;
        core.enqueue(own.unwrap_or_else(|| self.spec.clone()), payload, &self.options, permit)
    }

    /// Applies it to every item of `items`, in order, as [`Pool::map`]: for functions of one parameter.
    pub fn map<A, I>(&self, items: I) -> Map<T, Singles<I::IntoIter>>
    where
        A: Serialize,
        I: IntoIterator<Item = A>,
    {
        self.map_of(Singles(items.into_iter()))
    }

    /// As [`map`](Self::map), for functions of several parameters: items are whole [`Arguments`].
    pub fn starmap<A, I>(&self, items: I) -> Map<T, I::IntoIter>
    where
        A: Arguments,
        I: IntoIterator<Item = A>,
    {
        self.map_of(items.into_iter())
    }

    /// A map over items that are pushed as they come, rather than taken from an iterator, and whose
    /// results are taken as they are ready.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = stockade::Pool::builder().module("tasks.wasm").build()?;
    /// let mut counts = pool.function::<u64>("word_count")?.feed();
    /// counts.push(("to be",))?;
    /// counts.push(("or not to be",))?;
    /// while counts.wait(None) {
    ///     for (index, count) in counts.ready() {
    ///         println!("{index}: {}", count?);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn feed(&self) -> FedMap<T> {
        let (pool, target) = (self.pool.clone(), self.target.clone());
        FedMap::of_function(pool, target, self.spec.clone(), self.options.clone())
    }

    /// Submits a task for every item of `items` at once, and returns the results in order, as
    /// [`Pool::map_all`].
    pub fn map_all<A, I>(&self, items: I) -> MapAll<T>
    where
        A: Serialize,
        I: IntoIterator<Item = A>,
    {
        self.map(items).submit_all()
    }

    /// Applies the function to every item of a slice, and returns the results in the items' order:
    /// the fastest way for many numbers. The function must have one parameter and one result that
    /// are numbers: `i32` and `u32` are WebAssembly's `i32`, `i64` and `u64` its `i64`. Floats keep
    /// their bits, also those of a NaN. Blocks until all items have ended, or one has failed.
    ///
    /// The slice is sent to the workers in pieces. The first pieces are single items. Later ones
    /// are sized to take about 2 ms by the time of earlier pieces, at most 256 KiB of items or
    /// results, and get smaller towards the end. With
    /// [`Limits::deterministic`](crate::Limits::deterministic) each piece but the last has 4,096
    /// items. A piece is one task of the pool, with the function's options:
    ///
    /// - **It runs in one fresh instance.** Later items of its piece see the state that an item
    ///   leaves; other pieces and callers do not. In a pool with
    ///   [`Instances::PerWorker`](crate::Instances) it runs in the worker's own.
    /// - Its limits on time, memory and output apply to all its items together, the limit on fuel
    ///   to each item. A piece never has more results than its output limit allows. If a few items
    ///   take thousands of times as long as earlier ones, a piece may exceed its wall time: then
    ///   use [`map`](Self::map).
    /// - A retry, after its worker was lost, starts again with its first item.
    /// - In a full pool it waits like [`submit`](Self::submit), if no other piece of this slice is
    ///   under way.
    ///
    /// Output, logs, emitted items and progress of the calls are dropped.
    ///
    /// # Errors
    /// [`SliceError`], the first failure in the items' order, and no results. Pieces that have not
    /// started are then cancelled, and the results of running ones are ignored.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = stockade::Pool::builder().module("numbers.wasm").build()?;
    /// let square = pool.function::<i64>("square")?;
    /// assert_eq!(square.map_slice(&[1_i64, 2, 3])?, [1, 4, 9]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_slice<A: SliceItem>(&self, items: &[A]) -> Result<Vec<T>, SliceError>
    where
        T: SliceItem,
    {
        map_slice(&self.pool, &self.spec, &self.options, items)
    }

    fn map_of<I>(&self, items: I) -> Map<T, I> {
        let (pool, target) = (self.pool.clone(), self.target.clone());
        Map::of_function(pool, target, items, self.spec.clone(), self.options.clone())
    }
}

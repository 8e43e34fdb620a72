//! Maps: a function over many items, lazily or all at once, as an iterator or as a stream.
//!
//! ```text
//! source ─ next ─► Map ─ batches ─► driver ─ ends ─► Inbox ─► Results ─► next()   lazy: a bounded number
//!                   └─ submit_all ─► MapAll ────────────────► Results ─► next()   eager
//!                                       └─ into_stream ─► MapStream               either, without blocking
//! ```
//!
//! A lazy map takes, encodes and submits items only as results are taken, so an infinite source and
//! a slow consumer both work in bounded memory. Items are sent in batches and have no handles;
//! `next_task` makes one on request.
//!
//! Invariant: every item that was taken gives one result, in the items' order or as they end.

mod all;
mod inbox;
mod results;
mod sizes;
mod slice;
#[cfg(feature = "stream")]
mod stream;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stockade_wire::{BATCH_TASKS_MAX, ChunkId};

use crate::arguments::Arguments;
use crate::deadline;
use crate::inputs::Inputs;
use crate::options::TaskOptions;
use crate::payload::Payload;
use crate::semaphore::{Patience, Permit};
use crate::spec::TaskSpec;
use crate::submit::MapBatch;
use crate::target::Target;
use crate::task::{TaskHandle, TaskResult};
use crate::{Pool, RunError, SubmitError};

pub use all::MapAll;
pub(crate) use inbox::{EndedItem, EndedItems, Inbox};
pub use slice::SliceItem;
pub(crate) use slice::map_slice;
#[cfg(feature = "stream")]
pub use stream::MapStream;

use results::{Results, TimedOut};
use sizes::Sizes;

/// An iterator over the results of a function applied to items. See [`Pool::map`].
///
/// The error of an item does not end the iteration. Only a closed or broken pool, or a timeout,
/// ends the map with a last error. Dropping the map cancels queued items. A map holds its pool.
#[derive(Debug)]
pub struct Map<T: TaskResult, I> {
    pool: Pool,
    target: Target,
    /// `None` after the last item was taken.
    items: Option<I>,
    /// Encoded items that are neither submitted nor refused.
    ahead: VecDeque<Result<Encoded, SubmitError>>,
    options: TaskOptions,
    sizes: Sizes,
    shares_instance: bool,
    timeout: Option<Duration>,
    /// Set at the first call of `next`.
    deadline: Option<Instant>,
    results: Results<T>,
    taken: usize,
    /// Results that were given out since it was last asked whether there is room for more items.
    unfilled: usize,
    /// What the tasks have in common, once the first was submitted.
    spec: Option<Arc<TaskSpec>>,
    /// The chunk whose items may share an instance, and how many more it takes.
    chunk: Option<(ChunkId, usize)>,
}

/// Items as tuples of one, which is what a function of one parameter takes.
#[derive(Clone, Debug)]
pub struct Singles<I>(pub(crate) I);

impl<I: Iterator> Iterator for Singles<I> {
    type Item = (I::Item,);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|item| (item,))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

/// An item's arguments, and its function if it names one.
type Encoded = (Option<Arc<TaskSpec>>, Payload);

/// How long a map keeps submitting while the next result is ready: longer than a source with ready
/// items needs.
const FILL_TIME: Duration = Duration::from_millis(1);

/// Results of one group that are given out without asking whether there is room for more items.
const UNFILLED_MAX: usize = 16;

/// What filling the buffer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    /// Enough items are under way, or the source has ended.
    Enough,
    /// The pool stayed full for the allowed time.
    NoRoom,
}

impl<T: TaskResult, I> Map<T, I> {
    pub(crate) fn new(pool: Pool, target: Target, items: I) -> Self {
        let results = Results::ordered(pool.core.link.clone());
        Self {
            pool,
            target,
            items: Some(items),
            ahead: VecDeque::new(),
            options: TaskOptions::default(),
            sizes: Sizes::default(),
            shares_instance: false,
            timeout: None,
            deadline: None,
            results,
            taken: 0,
            unfilled: 0,
            spec: None,
            chunk: None,
        }
    }

    /// One of a function that was looked up.
    pub(crate) fn of_function(
        pool: Pool,
        target: Target,
        items: I,
        spec: Arc<TaskSpec>,
        options: TaskOptions,
    ) -> Self {
        Self { spec: Some(spec), options, ..Self::new(pool, target, items) }
    }

    /// Sends `chunk_size` items together, at least 1. Each still gets an instance of its own, and a
    /// failed item affects no other. A chunk of more than 1,024 items is sent as several. Default:
    /// as many as take about 0.2 ms, by the times of the function's latest items, and fewer towards
    /// the end of a source of known length, so that all workers end together.
    #[must_use]
    pub fn chunk_size(mut self, items: usize) -> Self {
        self.sizes.chunk = Some(items);
        self
    }

    /// Lets the items of a chunk share one instance, one after the other. This is faster if an
    /// instance is costly, but later items see the state of earlier ones. Every item still has its
    /// own limits; after a trap there is a fresh instance.
    #[must_use]
    pub fn shared_instance(mut self) -> Self {
        self.shares_instance = true;
        self
    }

    /// Keeps `buffer_size` chunks under way, at least 1; without [`chunk_size`](Self::chunk_size)
    /// that many items. Default: enough to keep every worker busy, which is at least 16 chunks and
    /// four for each worker, and more if tasks take only microseconds.
    #[must_use]
    pub fn buffer_size(mut self, chunks: usize) -> Self {
        self.sizes.buffer = Some(chunks);
        self
    }

    /// Yields results as they complete rather than in the items' order.
    #[must_use]
    pub fn unordered(mut self) -> Self {
        self.results.unordered();
        self
    }

    /// Ends the map with an error if a result is not ready when `timeout` has passed since the
    /// first call of `next`; this includes the caller's own time.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Submits every item with these options. In a pool with a maximum of pending tasks a lazy map
    /// uses the free permits, and ignores the option for a full pool.
    #[must_use]
    pub fn options(mut self, options: TaskOptions) -> Self {
        self.options = options;
        self.spec = None;
        self
    }

    /// The timeout starts with the first call of `next`.
    fn begin(&mut self) {
        if let Some(timeout) = self.timeout
            && self.deadline.is_none()
        {
            self.deadline = deadline::after(timeout);
        }
    }

    /// Cancels items under way, takes no more, and ends with a timeout error.
    fn run_out(&mut self) -> RunError {
        let timeout = self.timeout.unwrap_or_default();
        self.fail(RunError::MapTimeout(timeout))
    }

    /// Cancels items under way, and takes no more.
    fn fail(&mut self, error: RunError) -> RunError {
        self.take_no_more();
        self.results.cancel();
        error
    }

    /// Whether every item was submitted or refused.
    fn is_exhausted(&self) -> bool {
        self.items.is_none() && self.ahead.is_empty()
    }

    fn take_no_more(&mut self) {
        self.items = None;
        self.ahead.clear();
    }
}

impl<T: TaskResult, I> Map<T, I>
where
    I: Iterator,
    I::Item: Arguments,
{
    /// The next task that ended, as its handle with result and report, and the index of its item
    /// in the source. Blocks like [`next`](Iterator::next).
    pub fn next_task(&mut self) -> Option<(usize, Result<TaskHandle<T>, RunError>)> {
        let next = self.fill_for_next().and_then(|()| {
            let deadline = self.deadline;
            self.results.next_task(deadline).map_err(|TimedOut| self.run_out())
        });
        next.unwrap_or_else(|error| Some((self.taken, Err(error))))
    }

    /// Submits items before it blocks for the next result.
    fn fill_for_next(&mut self) -> Result<(), RunError> {
        // To look whether there is room costs about as much as to give out a result that is there.
        if self.results.is_giving_out() && self.unfilled < UNFILLED_MAX {
            self.unfilled += 1;
            return Ok(());
        }
        self.unfilled = 0;
        self.begin();
        let patience = self.deadline.map_or(Patience::Endless, Patience::Until);
        match self.fill(patience) {
            Ok(Filled::Enough) => Ok(()),
            Ok(Filled::NoRoom) if !self.results.is_empty() => Ok(()),
            Ok(Filled::NoRoom) => Err(self.run_out()),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Submits every item now, and returns the results as [`Pool::map_all`] does. Blocks while the
    /// pool is full. The time of [`timeout`](Self::timeout) starts now.
    pub fn submit_all(mut self) -> MapAll<T> {
        let started = Instant::now();
        if let Err(error) = self.sizes.check() {
            self.take_no_more();
            self.push_error(error);
        }
        while !self.is_exhausted() {
            let size = self.batch_size(true) as usize;
            self.gather(size);
            if self.ahead.is_empty() {
                break;
            }
            let patience = self.pool.core.patience(&self.options);
            match self.pool.core.permit(patience) {
                Ok(permit) => self.submit_batch(size, permit),
                Err(error) => self.refuse_next(error),
            }
        }
        MapAll::new(self.pool, self.results, self.timeout, started, self.taken)
    }

    /// Submits batches until enough items are under way, or the next result has been ready for a
    /// while. Waits for a permit only if nothing is under way.
    fn fill(&mut self, patience: Patience) -> Result<Filled, RunError> {
        if self.is_exhausted() {
            return Ok(Filled::Enough);
        }
        self.sizes.check()?;
        let under_way_max = self.under_way_max();
        let size = (self.batch_size(false) as usize).min(under_way_max);
        let room = under_way_max.saturating_sub(self.results.len());
        // Many at a time cost less each than one by one.
        if room < self.sizes.worth(under_way_max).max(size) {
            return Ok(Filled::Enough);
        }
        let begun = Instant::now();
        while !self.is_exhausted() && self.results.len() < under_way_max {
            let size = (self.batch_size(false) as usize).min(under_way_max);
            let is_too_much = self.results.len().saturating_add(size) > under_way_max;
            if is_too_much || begun.elapsed() > FILL_TIME && self.results.has_next() {
                break;
            }
            self.gather(size);
            if self.ahead.is_empty() {
                break;
            }
            let alone = self.results.is_empty();
            match self.pool.core.permit(if alone { patience } else { Patience::None }) {
                Ok(permit) => self.submit_batch(size, permit),
                Err(SubmitError::Full { .. }) => return Ok(Filled::NoRoom),
                Err(error) => self.refuse_next(error),
            }
        }
        Ok(Filled::Enough)
    }

    /// How many items may be under way.
    fn under_way_max(&self) -> usize {
        let window_tasks = self.pool.core.link.shared.counts().window_tasks;
        let pace = self.spec.as_ref().and_then(|spec| spec.pace());
        self.sizes.under_way_max(self.pool.max_workers(), window_tasks, pace)
    }

    /// How many items the next batch takes at most.
    fn batch_size(&mut self, all: bool) -> u32 {
        if let Some(size) = self.sizes.chunk {
            if self.chunk.is_none_or(|(_, left)| left == 0) {
                self.chunk = Some((self.pool.core.new_chunk(), size));
            }
            let left = self.chunk.map_or(size, |(_, left)| left);
            return u32::try_from(left).unwrap_or(u32::MAX).min(BATCH_TASKS_MAX);
        }
        let hint = self.items.as_ref().map(Iterator::size_hint).unwrap_or_default();
        let pace = self.spec.as_ref().and_then(|spec| spec.pace());
        self.sizes.batch(self.pool.max_workers(), hint, pace, all)
    }

    /// Takes and encodes items until this many are ready to be submitted. It holds no permit
    /// meanwhile, since a source may use the pool itself. If the source panics, earlier items are
    /// kept.
    fn gather(&mut self, size: usize) {
        let missing = size.saturating_sub(self.ahead.len());
        let before = self.ahead.len();
        let begun = Instant::now();
        let pool = self.pool.clone();
        let check = |spec: &Arc<TaskSpec>| pool.core.check_spec(spec);
        let is_checked = self.spec.as_ref().is_some_and(|spec| check(spec).is_ok());
        for _ in 0..missing {
            let Some(arguments) = self.items.as_mut().and_then(Iterator::next) else {
                self.items = None;
                break;
            };
            let (core, spec) = (&self.pool.core, &mut self.spec);
            let encoded = core.encode(&self.target, arguments, &self.options, spec, is_checked);
            self.ahead.push_back(encoded);
        }
        // The source may have taken its time, or closed the pool itself.
        if let Some(spec) = &self.spec
            && is_checked
            && check(spec).is_err()
        {
            for item in self.ahead.range_mut(before..).filter(|item| item.is_ok()) {
                if let Err(error) = check(spec) {
                    *item = Err(error);
                }
            }
        }
        if missing > 0 {
            self.sizes.note_filled(begun.elapsed(), missing);
        }
    }

    /// Submits at most this many of the ready items, together if possible. `place` is the permit of
    /// the first, if the pool has a maximum of pending tasks; the others use free permits.
    fn submit_batch(&mut self, size: usize, mut permit: Option<Permit>) {
        let size = self.ahead.len().min(size);
        let size = match &mut permit {
            None => size,
            Some(permit) => 1 + permit.extend(size.saturating_sub(1)),
        };
        let mut batch = Inputs::default();
        let mut first = self.taken;
        for _ in 0..size {
            let Some(encoded) = self.ahead.pop_front() else { break };
            if let Some((_, left)) = &mut self.chunk {
                *left = left.saturating_sub(1);
            }
            let encoded = match encoded {
                Ok(encoded) => encoded,
                Err(error) => {
                    self.flush(&mut batch, &mut first, &mut permit);
                    self.refuse(error);
                    first = self.taken;
                    continue;
                }
            };
            let (own, payload) = encoded;
            let is_small = own.is_none() && Inputs::is_small(&payload);
            if !is_small || !batch.fits(&payload) {
                self.flush(&mut batch, &mut first, &mut permit);
            }
            if is_small {
                batch.copy(&payload, size);
                self.taken += 1;
            } else {
                self.taken += 1;
                let permit = permit.as_mut().map(|permit| permit.split_off(1));
                let spec = own.or_else(|| self.spec.clone());
                self.submit(spec, Inputs::one(payload), first, permit);
                first = self.taken;
            }
        }
        self.flush(&mut batch, &mut first, &mut permit);
    }

    /// Submits what was gathered.
    fn flush(&mut self, batch: &mut Inputs, first: &mut usize, permit: &mut Option<Permit>) {
        if batch.is_many() {
            let batch = std::mem::take(batch);
            let permit = permit.as_mut().map(|permit| permit.split_off(batch.count() as usize));
            self.submit(self.spec.clone(), batch, *first, permit);
        }
        *first = self.taken;
    }

    /// Submits tasks whose first has this index.
    fn submit(
        &mut self,
        spec: Option<Arc<TaskSpec>>,
        inputs: Inputs,
        index: usize,
        permit: Option<Permit>,
    ) {
        let Some(spec) = spec else { return };
        let share = self.chunk.filter(|_| self.shares_instance).map(|(chunk, _)| chunk);
        let inbox = self.results.inbox().clone();
        let batch = MapBatch { inbox, spec, inputs, index, share, permit };
        match self.pool.core.enqueue_batch(batch, &self.options) {
            Ok(tasks) => self.results.submitted(tasks),
            Err(error) => {
                self.taken = index;
                self.refuse(error);
            }
        }
    }

    /// The next ready item cannot be submitted.
    fn refuse_next(&mut self, error: SubmitError) {
        if self.ahead.pop_front().is_some() {
            self.refuse(error);
        }
    }

    /// An item that was taken cannot be submitted.
    fn refuse(&mut self, error: SubmitError) {
        if matches!(error, SubmitError::Closed | SubmitError::Broken(_)) {
            // Submitted items still end, and this error comes last.
            self.take_no_more();
            self.results.push_last(self.taken, RunError::Submit(error));
            self.taken += 1;
            return;
        }
        self.push_error(RunError::Submit(error));
    }

    fn push_error(&mut self, error: RunError) {
        self.results.push_error(self.taken, error);
        self.taken += 1;
    }
}

impl<T: TaskResult, I> Iterator for Map<T, I>
where
    I: Iterator,
    I::Item: Arguments,
{
    type Item = Result<T, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.fill_for_next().and_then(|()| {
            let deadline = self.deadline;
            self.results.next_result(deadline).map_err(|TimedOut| self.run_out())
        });
        next.unwrap_or_else(|error| Some(Err(error)))
    }
}

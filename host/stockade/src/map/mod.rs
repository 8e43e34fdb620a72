//! Maps: a function over many items, lazily or all at once, as an iterator or as a stream.
//!
//! ```text
//! source ─ next ─► Map ─ batches ─► driver ─ ends ─► Inbox ─► Results ─► next()   lazy: a bounded number
//!                   └─ submit_all ─► MapAll ────────────────► Results ─► next()   eager
//!                                       └─ into_stream ─► MapStream               either, without blocking
//! ```
//!
//! A lazy map takes, encodes and submits items only as results are taken; so a source without end
//! and a slow consumer both work in bounded memory. Items travel in batches and have no handles: one is
//! made only for who asks for it.
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
/// An error is an item: it concerns its own item alone, and iteration goes on after it. Only a pool
/// that is closed or broken, or a time that has run out, ends the map with one last error. Dropping
/// the map cancels what it has queued. A map holds its pool: that is not dropped before.
#[derive(Debug)]
pub struct Map<T: TaskResult, I> {
    pool: Pool,
    target: Target,
    /// `None` once nothing more is taken.
    items: Option<I>,
    /// Items that were taken and encoded, and are neither submitted nor refused.
    ahead: VecDeque<Result<Encoded, SubmitError>>,
    options: TaskOptions,
    sizes: Sizes,
    shares_instance: bool,
    timeout: Option<Duration>,
    /// Set when the first result is asked for.
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

/// What an item is called with, and what it has for itself where it names its own function.
type Encoded = (Option<Arc<TaskSpec>>, Payload);

/// How long a map submits more while its consumer could have the next result: longer than it takes
/// from a source that has its items ready.
const FILL_TIME: Duration = Duration::from_millis(1);

/// Results of one group that are given out without asking whether there is room for more items.
const UNFILLED_MAX: usize = 16;

/// What filling the buffer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    /// Enough is under way, or the source is at its end.
    Enough,
    /// The pool has no room for another pending task, in the time that there was.
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

    /// Sends so many items together, from 1. Each still gets an instance of its own, and an item
    /// that fails costs no other. A chunk of more than 1,024 items is sent as several. Default: as many
    /// as take about 0.2 ms, by what the function's items took of late, and fewer towards the end of a
    /// source that knows its length, so that all workers end together.
    #[must_use]
    pub fn chunk_size(mut self, items: usize) -> Self {
        self.sizes.chunk = Some(items);
        self
    }

    /// Lets the items of a chunk share one instance, one after the other: faster where an instance
    /// is costly, and no longer pristine for all but the first. Every item still has limits of its
    /// own; one that traps is followed by a fresh instance.
    #[must_use]
    pub fn shared_instance(mut self) -> Self {
        self.shares_instance = true;
        self
    }

    /// Keeps so many chunks under way, from 1; without [`chunk_size`](Self::chunk_size), so many items.
    /// Default: enough to keep every worker busy, which is at least four chunks for each and 16, and
    /// more where tasks are done within microseconds.
    #[must_use]
    pub fn buffer_size(mut self, chunks: usize) -> Self {
        self.sizes.buffer = Some(chunks);
        self
    }

    /// Gives results as they come rather than in the items' order.
    #[must_use]
    pub fn unordered(mut self) -> Self {
        self.results.unordered();
        self
    }

    /// Ends the map with an error where a result is not ready when so much time has passed since
    /// the first was asked for, the caller's own time included.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Submits every item with these options. A lazy map takes as much room of a pool that limits
    /// its pending tasks as there is, whatever the options say of a full one.
    #[must_use]
    pub fn options(mut self, options: TaskOptions) -> Self {
        self.options = options;
        self.spec = None;
        self
    }

    /// The time of the whole begins with the first result that is asked for.
    fn begin(&mut self) {
        if let Some(timeout) = self.timeout
            && self.deadline.is_none()
        {
            self.deadline = deadline::after(timeout);
        }
    }

    /// Cancels what is under way and takes nothing more, with the error that says so.
    fn run_out(&mut self) -> RunError {
        let timeout = self.timeout.unwrap_or_default();
        self.fail(RunError::MapTimeout(timeout))
    }

    /// Cancels what is under way and takes nothing more.
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

    /// Submits what there is to submit before the next result is waited for.
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

    /// Submits every item now, and gives the results as [`Pool::map_all`] does. Blocks where the
    /// pool limits its pending tasks and is full. The time of [`timeout`](Self::timeout) begins now.
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

    /// Submits batches until enough is under way, or for as long as its consumer would rather have
    /// the next result. Waits for room only while nothing is under way.
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

    /// Takes and encodes items until so many are ahead. It holds no permit meanwhile: a source may use the
    /// pool itself. Where the source panics, what it gave before is kept.
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

    /// Submits at most so many of the items that are ahead, together as far as they can travel so. `place`
    /// is for the first, where the pool limits its pending tasks; the others take as much room as there is.
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

    /// The next item that is ahead cannot be submitted.
    fn refuse_next(&mut self, error: SubmitError) {
        if self.ahead.pop_front().is_some() {
            self.refuse(error);
        }
    }

    /// An item that was taken cannot be submitted.
    fn refuse(&mut self, error: SubmitError) {
        if matches!(error, SubmitError::Closed | SubmitError::Broken(_)) {
            // What was submitted before still ends, and this error comes last.
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

//! Fed maps: a map whose items are pushed rather than taken from an iterator, and the one machine under
//! every map.
//!
//! ```text
//! push ─► ahead ─ batches ─► driver ─ ends ─► Inbox ─► Results ─► ready(), wait()
//! Map's source ─┘                                             └─► Map::next()
//! ```
//!
//! Nothing here blocks but [`FedMap::wait`].
//!
//! Invariant: every item that was pushed gives one result, unless the map is dropped.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use stockade_wire::{BATCH_TASKS_MAX, ChunkId};

use super::ahead::{Ahead, Piece};
use super::results::Results;
use super::sizes::Sizes;
use crate::api::pool::Pool;
use crate::api::submit::MapBatch;
use crate::api::task::{TaskHandle, TaskResult};
use crate::base::deadline;
use crate::call::arguments::Arguments;
use crate::call::inputs::Inputs;
use crate::call::options::TaskOptions;
use crate::call::target::Target;
use crate::outcome::error::{CancelReason, RunError, SubmitError, TaskError};
use crate::state::semaphore::{Patience, Permit};
use crate::state::spec::TaskSpec;

/// A map that is fed: items are pushed as they come, and results taken as they are ready. For input
/// that no iterator can give, because nobody may block for its next item: lines of a terminal, messages
/// of a socket. See [`Function::feed`](crate::Function::feed) and [`Pool::feed`].
///
/// As in a [`Map`](super::Map) items travel in batches and have no handles, results come in the items'
/// order or as they end, and an error is an item: it concerns its own item alone. Items are numbered
/// from 0 in the order of their pushes. Dropping the map cancels what has not started. It holds its pool.
///
/// Its memory is bounded: it takes no more than [`room`](Self::room) items until results are taken.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = stockade::Pool::builder().module("tasks.wasm").build()?;
/// let mut counts = pool.function::<u64>("word_count")?.feed();
/// for line in std::io::stdin().lines() {
///     let line = line?;
///     while counts.room() == 0 {
///         counts.wait(None);
///         for (index, count) in counts.ready() {
///             println!("{index}: {}", count?);
///         }
///     }
///     let _ = counts.push((line,));
/// }
/// counts.close();
/// while counts.wait(None) {
///     for (index, count) in counts.ready() {
///         println!("{index}: {}", count?);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FedMap<T: TaskResult> {
    pub(super) pool: Pool,
    target: Target,
    /// Items that were pushed and encoded, and are neither submitted nor refused.
    ahead: Ahead,
    options: TaskOptions,
    pub(super) sizes: Sizes,
    shares_instance: bool,
    pub(super) results: Results<T>,
    /// Items that were submitted or refused.
    taken: usize,
    /// What the tasks have in common, once the first was encoded.
    spec: Option<Arc<TaskSpec>>,
    /// The chunk whose items may share an instance, and how many more it takes.
    chunk: Option<(ChunkId, usize)>,
    is_closed: bool,
    /// Whether a pool that takes no more tasks ends the map with one last error, rather than each item
    /// with its own.
    ends_with_one_error: bool,
    /// What has a wait return early, once that may happen; and whether others have it.
    waker: Option<Waker>,
    is_waker_shared: bool,
    /// How many items the next batch takes, and how many may be under way, as of the last batch.
    batch_items: usize,
    under_way_max: usize,
}

/// Why a [`FedMap`] does not take an item, with what was to be pushed.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError<A> {
    /// There is no [`room`](FedMap::room) until results are taken.
    #[error("the map has no room until results are taken")]
    Full(A),
    /// The map was closed, or its pool takes no more tasks.
    #[error("the map is closed")]
    Closed(A),
}

impl<A> fmt::Debug for PushError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl<A> PushError<A> {
    /// What was to be pushed.
    pub fn into_item(self) -> A {
        match self {
            Self::Full(item) | Self::Closed(item) => item,
        }
    }
}

impl<T: TaskResult> FedMap<T> {
    pub(crate) fn new(pool: Pool, target: Target) -> Self {
        let results = Results::ordered(pool.core.link.clone());
        Self {
            pool,
            target,
            ahead: Ahead::default(),
            options: TaskOptions::default(),
            sizes: Sizes::default(),
            shares_instance: false,
            results,
            taken: 0,
            spec: None,
            chunk: None,
            is_closed: false,
            ends_with_one_error: false,
            waker: None,
            is_waker_shared: false,
            batch_items: 0,
            under_way_max: 0,
        }
    }

    /// One of a function that was looked up.
    pub(crate) fn of_function(
        pool: Pool,
        target: Target,
        spec: Arc<TaskSpec>,
        options: TaskOptions,
    ) -> Self {
        Self { spec: Some(spec), options, ..Self::new(pool, target) }
    }

    /// The same, for a map over a source: a pool that takes no more tasks is one last error.
    pub(super) fn ending_with_one_error(mut self) -> Self {
        self.ends_with_one_error = true;
        self
    }

    /// Sends items in chunks of so many, as [`Map::chunk_size`](super::Map::chunk_size). Default: as many as
    /// take about 0.2 ms, by what the function's items took of late.
    #[must_use]
    pub fn chunk_size(mut self, items: usize) -> Self {
        self.sizes.chunk = Some(items);
        self
    }

    /// Lets the items of a chunk share one instance, as
    /// [`Map::shared_instance`](super::Map::shared_instance).
    #[must_use]
    pub fn shared_instance(mut self) -> Self {
        self.shares_instance = true;
        self
    }

    /// Takes so many chunks at most until results are taken; without [`chunk_size`](Self::chunk_size),
    /// so many items. Default: enough to keep every worker busy, as
    /// [`Map::buffer_size`](super::Map::buffer_size).
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

    /// Submits every item with these options. The map takes as much room of a pool that limits its
    /// pending tasks as there is, whatever the options say of a full one.
    #[must_use]
    pub fn options(mut self, options: TaskOptions) -> Self {
        self.options = options;
        self.spec = None;
        self
    }

    /// How many results are not taken: of items that wait, run or have ended.
    pub fn len(&self) -> usize {
        self.results.len() + self.ahead.len()
    }

    /// Whether every result was taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many items may be pushed now, for certain unless the map closes. It changes as results are
    /// taken, and with how long the function's items take: 16 at first, or four for each worker; where they are
    /// short 3 ms of work for each worker, at most 2,048 items for each.
    pub fn room(&mut self) -> usize {
        if self.is_closed {
            return 0;
        }
        self.look_at_pace();
        self.under_way_max.saturating_sub(self.len())
    }

    /// How many results may be open at a time: [`room`](Self::room) and [`len`](Self::len) together.
    pub fn capacity(&mut self) -> usize {
        self.look_at_pace();
        self.under_way_max
    }

    /// How many items have not ended.
    pub fn unfinished(&mut self) -> usize {
        self.results.count_unfinished() + self.ahead.live()
    }

    /// Adds an item and encodes its arguments. Returns its index. It is submitted at once where it
    /// completes a batch, and otherwise with the next call of [`submit`](Self::submit),
    /// [`ready`](Self::ready) or [`wait`](Self::wait). Never blocks.
    ///
    /// Arguments that the function does not take are the error of this item, in its turn.
    ///
    /// # Errors
    /// [`PushError`], with the arguments.
    pub fn push<A: Arguments>(&mut self, arguments: A) -> Result<usize, PushError<A>> {
        if self.is_closed {
            return Err(PushError::Closed(arguments));
        }
        if let Err(error) = self.sizes.check() {
            self.is_closed = true;
            self.ahead.push_failed(error);
            return Ok(self.next_index() - 1);
        }
        if self.len() >= self.under_way_max && self.room() == 0 {
            // So that results come, for which there is no room otherwise.
            self.submit();
            return Err(PushError::Full(arguments));
        }
        let index = self.next_index();
        self.encode(arguments, true, self.batch_items);
        if self.ahead.len() >= self.batch_items {
            self.submit_batches(self.batch_items);
        }
        Ok(index)
    }

    /// Adds an item that has failed before it could be called: `error` is its result, in its turn.
    /// Returns its index.
    ///
    /// # Errors
    /// [`PushError`], with the error.
    pub fn push_error(&mut self, error: RunError) -> Result<usize, PushError<RunError>> {
        if self.is_closed {
            return Err(PushError::Closed(error));
        }
        if self.room() == 0 {
            return Err(PushError::Full(error));
        }
        self.ahead.push_failed(error);
        Ok(self.next_index() - 1)
    }

    /// The index of the item that is pushed next: how many were pushed.
    pub fn next_index(&self) -> usize {
        self.taken + self.ahead.len()
    }

    /// Submits what was pushed, as far as the pool has room for pending tasks. Never blocks.
    pub fn submit(&mut self) {
        self.submit_batches(1);
    }

    /// Takes no more items. Those that were pushed still give their results.
    pub fn close(&mut self) {
        self.is_closed = true;
        self.submit();
    }

    /// Submits what was pushed. Returns whether a result is ready. Never blocks.
    pub fn is_ready(&mut self) -> bool {
        self.submit();
        self.results.has_next()
    }

    /// Submits what was pushed, and takes all results that are ready, each with its item's index: in the
    /// items' order, or as they come. Never blocks.
    pub fn ready(&mut self) -> impl Iterator<Item = (usize, Result<T, RunError>)> + '_ {
        self.submit();
        std::iter::from_fn(|| self.results.next_ready())
    }

    /// As [`ready`](Self::ready), with each result in its task's handle, which has its report too. An
    /// item that was not submitted has an error.
    pub fn ready_tasks(
        &mut self,
    ) -> impl Iterator<Item = (usize, Result<TaskHandle<T>, RunError>)> + '_ {
        self.submit();
        std::iter::from_fn(|| self.results.next_ready_task())
    }

    /// Submits what was pushed, and blocks until a result is ready, for at most `timeout`; `None` is
    /// without end. Returns whether one is. Returns false at once where all results were taken, and
    /// early where a [`waker`](Self::waker) is woken; once there is one, it also waits while nothing is
    /// under way.
    pub fn wait(&mut self, timeout: impl Into<Option<Duration>>) -> bool {
        let deadline = deadline::after(timeout);
        loop {
            self.submit();
            if self.is_empty() && !self.is_waker_shared {
                return false;
            }
            self.listen_for_room(None);
            if self.results.wait(deadline) {
                return true;
            }
            let is_late = deadline.is_some_and(|deadline| std::time::Instant::now() >= deadline);
            if is_late || self.is_waker_shared {
                return false;
            }
        }
    }

    /// As [`wait`](Self::wait), as a future does it: ready with true once a result is, and with false
    /// where all results were taken. Otherwise wakes `context` when to poll again.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        self.submit();
        if self.is_empty() {
            return Poll::Ready(false);
        }
        self.listen_for_room(Some(context.waker()));
        self.results.poll_ready(context).map(|()| true)
    }

    /// Has [`wait`](Self::wait) return early, or the next one if there is none: for other threads that
    /// have news for the one that waits.
    pub fn waker(&mut self) -> Waker {
        self.is_waker_shared = true;
        self.own_waker().clone()
    }

    /// Cancels those of these items that have not started, by their indices: `cancel(..)` all,
    /// `cancel(7..)` the eighth and those after it. Once it returns, none of them starts, wherever it was,
    /// and each gives [`TaskError::Cancelled`] in its turn. Items that run go on, and give their results;
    /// one that then loses its worker is not tried again. Never waits for a worker.
    pub fn cancel(&mut self, items: impl RangeBounds<usize>) {
        let start = match items.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match items.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => usize::MAX,
        };
        let items = start..end.min(self.next_index());
        let place = |index: usize| index.saturating_sub(self.taken);
        let ahead = place(items.start)..place(items.end);
        self.ahead.fail(ahead, &TaskError::Cancelled(CancelReason::Asked).into());
        self.results.cancel_items(&items);
    }

    /// Where what was pushed waits for room of the pool's, has the map woken, or `waker`.
    fn listen_for_room(&mut self, waker: Option<&Waker>) {
        if self.ahead.is_empty() {
            return;
        }
        let own = self.own_waker().clone();
        if let Some(room) = self.pool.core.link.shared.room() {
            room.wake_when_free(waker.unwrap_or(&own));
        }
    }

    fn own_waker(&mut self) -> &Waker {
        let results = &self.results;
        self.waker.get_or_insert_with(|| results.waker())
    }

    /// Decides how many items may be under way, and how many the next batch takes.
    fn look_at_pace(&mut self) {
        self.under_way_max = self.under_way_limit();
        self.size_batch();
    }

    fn size_batch(&mut self) {
        let size = self.batch_size((0, None), false) as usize;
        self.batch_items = size.clamp(1, self.under_way_max.max(1));
    }

    /// Submits batches while so many items are ahead, as far as the pool has room.
    fn submit_batches(&mut self, items: usize) {
        while !self.ahead.is_empty() && self.ahead.len() >= items {
            self.size_batch();
            self.check_ahead();
            if self.submit_next(self.batch_items, Patience::None).is_err() {
                return;
            }
        }
    }
}

/// What a map over a source shares.
impl<T: TaskResult> FedMap<T> {
    /// Whether nothing is ahead.
    pub(super) fn has_submitted_all(&self) -> bool {
        self.ahead.is_empty()
    }

    /// How many items are ahead.
    pub(super) fn ahead(&self) -> usize {
        self.ahead.len()
    }

    /// How many were submitted or refused.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Takes nothing more, and forgets what is ahead.
    pub(super) fn take_no_more(&mut self) {
        self.is_closed = true;
        self.ahead.clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// How many items may be under way.
    pub(super) fn under_way_limit(&self) -> usize {
        let window_tasks = self.pool.core.link.shared.counts().window_tasks;
        let pace = self.spec.as_ref().and_then(|spec| spec.pace());
        self.sizes.under_way_max(self.pool.max_workers(), window_tasks, pace)
    }

    /// How many items the next batch takes at most; `hint` is what the source says of its length, and `all`
    /// whether all are submitted before the first result is asked for.
    pub(super) fn batch_size(&mut self, hint: (usize, Option<usize>), all: bool) -> u32 {
        if let Some(size) = self.sizes.chunk {
            if self.chunk.is_none_or(|(_, left)| left == 0) {
                self.chunk = Some((self.pool.core.new_chunk(), size));
            }
            let left = self.chunk.map_or(size, |(_, left)| left);
            return u32::try_from(left).unwrap_or(u32::MAX).min(BATCH_TASKS_MAX);
        }
        let pace = self.spec.as_ref().and_then(|spec| spec.pace());
        self.sizes.batch(self.pool.max_workers(), hint, pace, all)
    }

    /// Whether the pool takes tasks of the function, where that is known. To ask takes three locks.
    pub(super) fn takes_tasks(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| self.pool.core.check_spec(spec).is_ok())
    }

    /// Refuses what is ahead if the pool takes no tasks of the function any more.
    pub(super) fn check_ahead(&mut self) {
        let Some(spec) = &self.spec else { return };
        if let Err(error) = self.pool.core.check_spec(spec) {
            self.ahead.fail(0..usize::MAX, &error.into());
        }
    }

    /// Encodes an item, which is ahead then, and travels with at most `together` items. `is_checked` says
    /// that the pool [takes tasks](Self::takes_tasks) of the function, or is asked before this one is
    /// submitted.
    pub(super) fn encode(&mut self, arguments: impl Arguments, is_checked: bool, together: usize) {
        let core = &self.pool.core;
        let spec = &mut self.spec;
        let encoded = core.encode(&self.target, arguments, &self.options, spec, is_checked);
        match encoded {
            Ok(encoded) => self.ahead.push(encoded, together),
            Err(error) => self.ahead.push_failed(error.into()),
        }
    }

    /// Submits at most so many of the items that are ahead. Waits so long for room.
    ///
    /// # Errors
    /// [`NoRoom`]: the pool has none for another pending task.
    pub(super) fn submit_next(&mut self, size: usize, patience: Patience) -> Result<(), NoRoom> {
        match self.pool.core.permit(patience) {
            Ok(permit) => self.submit_batch(size.max(1), permit),
            Err(SubmitError::Full { .. }) => return Err(NoRoom),
            Err(error) => self.refuse_next(error),
        }
        Ok(())
    }

    /// As [`submit_next`](Self::submit_next), with an item that finds no room as long as its options have
    /// it wait refused.
    pub(super) fn submit_next_or_refuse(&mut self, size: usize) {
        match self.pool.core.permit(self.pool.core.patience(&self.options)) {
            Ok(permit) => self.submit_batch(size, permit),
            Err(error) => self.refuse_next(error),
        }
    }

    /// What is left of a map that takes nothing more: its pool, its results and how many it has.
    pub(super) fn into_results(self) -> (Pool, Results<T>, usize) {
        (self.pool, self.results, self.taken)
    }

    /// Submits at most so many of the items that are ahead, together as far as they can travel so. The
    /// permit is for the first, where the pool limits its pending tasks; the others take as much room as
    /// there is.
    fn submit_batch(&mut self, size: usize, mut permit: Option<Permit>) {
        let size = self.ahead.len().min(size);
        let size = match &mut permit {
            None => size,
            Some(permit) => 1 + permit.extend(size.saturating_sub(1)),
        };
        let mut left = size;
        while left > 0 {
            let Some(piece) = self.ahead.pop(left) else { break };
            let count = piece.count();
            left -= count;
            if let Some((_, left)) = &mut self.chunk {
                *left = left.saturating_sub(count);
            }
            let (spec, inputs) = match piece {
                Piece::Small(inputs) => (self.spec.clone(), inputs),
                Piece::Alone((own, payload)) => {
                    (own.or_else(|| self.spec.clone()), Inputs::one(payload))
                }
                Piece::Failed(error) => {
                    self.refuse(error);
                    continue;
                }
            };
            let permit = permit.as_mut().map(|permit| permit.split_off(count));
            let first = self.taken;
            self.taken += count;
            self.submit_inputs(spec, inputs, first, permit);
        }
    }

    /// Submits tasks whose first has this index.
    fn submit_inputs(
        &mut self,
        spec: Option<Arc<TaskSpec>>,
        inputs: Inputs,
        index: usize,
        permit: Option<Permit>,
    ) {
        let Some(spec) = spec else { return };
        let share = self.chunk.filter(|_| self.shares_instance).map(|(chunk, _)| chunk);
        let inbox = self.results.inbox().clone();
        let may_grow = self.sizes.chunk.is_some() && share.is_none();
        let batch = MapBatch { inbox, spec, inputs, index, share, may_grow, permit };
        match self.pool.core.enqueue_batch(batch, &self.options) {
            Ok(tasks) => self.results.submitted(tasks, index),
            Err(error) if self.ends_with_one_error => {
                self.taken = index;
                self.refuse(error.into());
            }
            Err(error) => {
                let items = index..self.taken;
                self.taken = index;
                items.for_each(|_| self.refuse(error.clone().into()));
            }
        }
    }

    /// The next item that is ahead cannot be submitted.
    pub(super) fn refuse_next(&mut self, error: SubmitError) {
        // What is known of the item itself says more.
        match self.ahead.pop(1) {
            Some(Piece::Failed(known)) => self.refuse(known),
            Some(_) => self.refuse(error.into()),
            None => {}
        }
    }

    /// An item that was taken cannot be submitted.
    fn refuse(&mut self, error: RunError) {
        if matches!(error, RunError::Submit(SubmitError::Closed | SubmitError::Broken(_))) {
            self.is_closed = true;
            if self.ends_with_one_error {
                // What was submitted before still ends, and this error comes last.
                self.take_no_more();
                self.results.push_last(self.taken, error);
                self.taken += 1;
                return;
            }
        }
        self.push_failed(error);
    }

    pub(super) fn push_failed(&mut self, error: RunError) {
        self.results.push_error(self.taken, error);
        self.taken += 1;
    }
}

/// The pool has no room for another pending task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

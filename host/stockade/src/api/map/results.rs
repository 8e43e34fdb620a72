//! Results: a map's ended items, yielded in the items' order or as they complete.
//!
//! ```text
//! Inbox ─ groups of items ─► waiting, by the index of the first ─► current ─► given out
//!                       └──► ready, as they came ─────────────────────▲
//! ```
//!
//! A group's items follow each other in the map, so a group waits for its turn as a whole.
//!
//! Invariant: each submitted or refused item is yielded once, or cancelled.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use stockade_wire::{TaskId, TaskRange};

use crate::api::task::{TaskHandle, TaskResult, decode};
use crate::outcome::error::RunError;
use crate::outcome::output::Output;
use crate::state::cell::{Completed, Leftovers, TaskCell};
use crate::state::inbox::{End, EndedItem, EndedItems, Inbox};
use crate::state::link::Link;

/// Items of a map that are under way, and those that have ended.
#[derive(Debug)]
pub(super) struct Results<T: TaskResult> {
    link: Arc<Link>,
    inbox: Arc<Inbox>,
    /// Batches of which not all has ended, in the order of their tasks.
    batches: VecDeque<Batch>,
    /// Items that are not given out.
    left: usize,
    is_ordered: bool,
    /// The index of the next item, where they are given out in their order.
    next: usize,
    /// What is given out now, and how many of its items were: they are large, and dropped together.
    current: Option<(EndedItems, usize)>,
    /// In the items' order: groups whose turn has not come.
    waiting: BTreeMap<usize, Group>,
    /// Otherwise: groups as they came.
    ready: VecDeque<Group>,
    /// What ends the map, to be given out last.
    last: Option<(usize, RunError)>,
    result: PhantomData<fn() -> T>,
}

/// Batches that are kept although each of their items may have ended.
const BATCHES_KEPT: usize = 64;

/// A batch that was submitted.
#[derive(Debug)]
struct Batch {
    tasks: TaskRange,
    /// The place of its first item in the map.
    index: usize,
    /// How many of its items have not ended.
    left: u32,
}

impl Batch {
    fn items(&self) -> Range<usize> {
        self.index..self.index + self.tasks.count() as usize
    }

    /// The tasks of those of these items that are in it.
    fn tasks_of(&self, items: &Range<usize>) -> Option<TaskRange> {
        let place =
            |item: usize| u32::try_from(item.saturating_sub(self.index)).unwrap_or(u32::MAX);
        let (before, _) = self.tasks.split_at(place(items.end));
        before?.split_at(place(items.start)).1
    }
}

/// What is known of items that follow each other.
#[derive(Debug)]
enum Group {
    Ended(EndedItems),
    Failed(usize, Box<RunError>),
}

/// What is to be given out next.
#[derive(Debug)]
enum Next {
    /// The first item of the current group.
    Item,
    Failed(usize, RunError),
}

/// An item that is given out whole.
#[derive(Debug)]
struct Taken {
    index: usize,
    task: TaskId,
    completed: Completed,
    leftovers: Option<Leftovers>,
}

/// What has a map's wait return early.
#[derive(Debug)]
struct Notifier {
    inbox: Arc<Inbox>,
    link: Arc<Link>,
}

impl Wake for Notifier {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.inbox.notify(&*self.link.event_loop);
    }
}

/// The deadline came first.
#[derive(Debug)]
pub(super) struct TimedOut;

/// A task that has ended as its handle, and the index of its item.
pub(super) type EndedTask<T> = (usize, Result<TaskHandle<T>, RunError>);

impl<T: TaskResult> Results<T> {
    /// None yet, to be given out in the items' order.
    pub(super) fn ordered(link: Arc<Link>) -> Self {
        Self {
            link,
            inbox: Arc::default(),
            batches: VecDeque::new(),
            left: 0,
            is_ordered: true,
            next: 0,
            current: None,
            waiting: BTreeMap::new(),
            ready: VecDeque::new(),
            last: None,
            result: PhantomData,
        }
    }

    /// From now on they are given out as they come.
    pub(super) fn unordered(&mut self) {
        self.is_ordered = false;
        self.ready.extend(mem::take(&mut self.waiting).into_values());
    }

    /// Where the driver puts what has ended.
    pub(super) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// How many are not given out.
    pub(super) fn len(&self) -> usize {
        self.left
    }

    /// How many are given out.
    pub(super) fn given(&self) -> usize {
        self.next
    }

    /// Whether all are given out.
    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The next items, of which the first has this index, were submitted as these tasks.
    pub(super) fn submitted(&mut self, tasks: TaskRange, index: usize) {
        self.left += tasks.count() as usize;
        self.batches.push_back(Batch { tasks, index, left: tasks.count() });
    }

    /// The item of this index was not submitted.
    pub(super) fn push_error(&mut self, index: usize, error: RunError) {
        self.left += 1;
        self.put(index, Group::Failed(index, Box::new(error)));
    }

    /// The map ends with this error, after everything that was submitted.
    pub(super) fn push_last(&mut self, index: usize, error: RunError) {
        if self.last.is_none() {
            self.left += 1;
            self.last = Some((index, error));
        }
    }

    fn put(&mut self, index: usize, group: Group) {
        if self.is_ordered {
            self.waiting.insert(index, group);
        } else {
            self.ready.push_back(group);
        }
    }

    /// Takes over what has ended.
    fn take_in(&mut self) {
        for group in self.inbox.take_all() {
            let Some((first, count)) = group.span() else { continue };
            let after = self.batches.partition_point(|batch| batch.tasks.first() <= first.task);
            // It may be of several batches that have travelled together.
            let ended = TaskRange::new(first.task, count);
            for batch in self.batches.range_mut(after.saturating_sub(1)..) {
                let Some(part) = ended.and_then(|ended| batch.tasks.overlap(ended)) else { break };
                batch.left = batch.left.saturating_sub(part.count());
            }
            self.put(first.index, Group::Ended(group));
        }
        while self.batches.pop_front_if(|batch| batch.left == 0).is_some() {}
        // A slow item at the front keeps nothing of those behind it that have ended.
        if self.batches.len() > 2 * self.left + BATCHES_KEPT {
            self.batches.retain(|batch| batch.left > 0);
        }
    }

    /// Whether the next is of the group that is being given out.
    pub(super) fn is_giving_out(&self) -> bool {
        self.current.is_some()
    }

    /// Whether the next can be given out without waiting for it.
    pub(super) fn has_next(&mut self) -> bool {
        self.end_current();
        if self.current.is_some() {
            return true;
        }
        self.take_in();
        let is_last = self.left == 1 && self.last.is_some();
        is_last || self.waiting.contains_key(&self.next) || !self.ready.is_empty()
    }

    /// What is to be given out next, as far as it is known.
    fn next_known(&mut self) -> Option<Next> {
        self.end_current();
        if self.current.is_none() {
            let group = match self.is_ordered {
                true => self.waiting.remove(&self.next),
                false => self.ready.pop_front(),
            };
            match group {
                Some(Group::Ended(items)) => self.current = Some((items, 0)),
                Some(Group::Failed(index, error)) => {
                    self.count_given();
                    return Some(Next::Failed(index, *error));
                }
                None => {
                    let (index, error) = self.last.take_if(|_| self.left == 1)?;
                    self.count_given();
                    return Some(Next::Failed(index, error));
                }
            }
        }
        Some(Next::Item)
    }

    fn count_given(&mut self) {
        self.left -= 1;
        self.next += 1;
    }

    /// What is to be given out next, once it is known; `None` where nothing is left.
    fn wait_for_next(&mut self, deadline: Option<Instant>) -> Result<Option<Next>, TimedOut> {
        loop {
            if let Some(next) = self.next_known() {
                return Ok(Some(next));
            }
            self.take_in();
            if let Some(next) = self.next_known() {
                return Ok(Some(next));
            }
            if self.is_empty() {
                return Ok(None);
            }
            if !self.inbox.wait(&*self.link.event_loop, deadline) {
                return Err(TimedOut);
            }
        }
    }

    /// The next result that can be given out without waiting for it, and the index of its item.
    pub(super) fn next_ready(&mut self) -> Option<(usize, Result<T, RunError>)> {
        let next = self.next_ready_known()?;
        let index = match (&next, &self.current) {
            (Next::Failed(index, _), _) => *index,
            (Next::Item, group) => {
                group.as_ref().and_then(|(group, given)| group.items.get(*given))?.index
            }
        };
        Some((index, self.give_result(next)))
    }

    /// The next task that can be given out without waiting for it.
    pub(super) fn next_ready_task(&mut self) -> Option<EndedTask<T>> {
        let next = self.next_ready_known()?;
        Some(self.give_task(next))
    }

    fn next_ready_known(&mut self) -> Option<Next> {
        match self.next_known() {
            Some(next) => Some(next),
            None => {
                self.take_in();
                self.next_known()
            }
        }
    }

    /// Blocks until the next can be given out, somebody has notified, or `deadline` has come. Returns
    /// whether the next can be given out.
    pub(super) fn wait(&mut self, deadline: Option<Instant>) -> bool {
        loop {
            if self.has_next() {
                return true;
            }
            if !self.inbox.wait(&*self.link.event_loop, deadline) {
                return false;
            }
            if self.inbox.take_notified() {
                return self.has_next();
            }
        }
    }

    /// Has `wait` return early, from any thread.
    pub(super) fn waker(&self) -> Waker {
        Waker::from(Arc::new(Notifier { inbox: self.inbox.clone(), link: self.link.clone() }))
    }

    /// Whether the next can be given out; else wakes who polls once it may.
    pub(super) fn poll_ready(&mut self, context: &Context<'_>) -> Poll<()> {
        while !self.has_next() {
            if !self.inbox.poll(context.waker()) {
                return Poll::Pending;
            }
            self.inbox.take_notified();
        }
        Poll::Ready(())
    }

    /// How many items were submitted and have not ended.
    pub(super) fn count_unfinished(&mut self) -> usize {
        self.take_in();
        self.batches.iter().map(|batch| batch.left as usize).sum()
    }

    /// Has none of these items start that has not. They end as cancelled.
    pub(super) fn cancel_items(&mut self, items: &Range<usize>) {
        self.take_in();
        let live = self.batches.iter().filter(|batch| batch.left > 0);
        let tasks: Vec<_> = live.clone().filter_map(|batch| batch.tasks_of(items)).collect();
        if !tasks.is_empty() {
            self.inbox.cancel_items(items, live.map(Batch::items));
            self.link.event_loop.cancel_items(tasks);
        }
    }

    /// Blocks for the next result; `None` where none is left.
    pub(super) fn next_result(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Option<Result<T, RunError>>, TimedOut> {
        let next = self.wait_for_next(deadline)?;
        Ok(next.map(|next| self.give_result(next)))
    }

    /// Blocks for the next task; `None` where none is left.
    pub(super) fn next_task(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Option<EndedTask<T>>, TimedOut> {
        let next = self.wait_for_next(deadline)?;
        Ok(next.map(|next| self.give_task(next)))
    }

    /// Blocks for the next item, as the driver has put it; `None` where none is left, or the next was
    /// not submitted.
    pub(super) fn next_item(&mut self) -> Option<(Completed, Option<Leftovers>)> {
        match self.wait_for_next(None) {
            Ok(Some(Next::Item)) => {
                self.take_next().map(|taken| (taken.completed, taken.leftovers))
            }
            Ok(_) | Err(TimedOut) => None,
        }
    }

    /// As [`next_result`](Self::next_result), as a future does it.
    #[cfg(feature = "stream")]
    pub(super) fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<Result<T, RunError>>> {
        loop {
            if let Some(next) = self.next_known() {
                return Poll::Ready(Some(self.give_result(next)));
            }
            if self.is_empty() {
                return Poll::Ready(None);
            }
            if !self.inbox.poll(context.waker()) {
                return Poll::Pending;
            }
            self.take_in();
        }
    }

    fn give_result(&mut self, next: Next) -> Result<T, RunError> {
        if let Next::Failed(_, error) = next {
            return Err(error);
        }
        let result = self.current.as_mut().and_then(|(group, given)| {
            let EndedItems { spec, codec, outputs, items, .. } = group;
            let end = &mut items.get_mut(*given)?.end;
            // Counted before it is decoded: the caller's type may panic at that.
            (*given, self.left, self.next) = (*given + 1, self.left - 1, self.next + 1);
            let mut short;
            let completed = match end {
                End::Short(end) => {
                    short = end.complete(*codec, outputs);
                    &mut short
                }
                End::Other(other) => &mut other.0,
            };
            let output = mem::replace(&mut completed.result, Ok(Output::InPlace));
            Some(output.and_then(|output| decode(spec, completed, Cow::Owned(output))))
        });
        self.end_current();
        Ok(result.unwrap_or_else(|| unreachable!("a group has items"))?)
    }

    fn give_task(&mut self, next: Next) -> EndedTask<T> {
        if let Next::Failed(index, error) = next {
            return (index, Err(error));
        }
        let common = self.current.as_ref().map(|(group, _)| (group.spec.clone(), group.submitted));
        let (Some((spec, submitted)), Some(taken)) = (common, self.take_next()) else {
            unreachable!("a group has items")
        };
        let Taken { index, task, completed, leftovers } = taken;
        let cell = TaskCell::ended(task, spec, submitted, completed, leftovers);
        (index, Ok(TaskHandle::new(Arc::new(cell))))
    }

    /// Takes the next item of the current group, which is given out.
    fn take_next(&mut self) -> Option<Taken> {
        let (group, given) = self.current.as_mut()?;
        group.items.drain(..mem::take(given));
        let EndedItem { index, task, end } = group.items.pop_front()?;
        let (completed, leftovers) = match end {
            End::Short(short) => (short.complete(group.codec, &group.outputs), None),
            End::Other(other) => *other,
        };
        self.end_current();
        self.count_given();
        Some(Taken { index, task, completed, leftovers })
    }

    /// Forgets the current group once all of it is given out.
    fn end_current(&mut self) {
        let _ = self.current.take_if(|(group, given)| *given >= group.items.len());
    }

    /// Cancels what is under way, as far as it has not started, and forgets it.
    pub(super) fn cancel(&mut self) {
        (self.left, self.last, self.current) = (0, None, None);
        self.waiting.clear();
        self.ready.clear();
        let batches: Vec<_> = mem::take(&mut self.batches).into_iter().collect();
        if !batches.is_empty() {
            self.inbox.cancel();
            let batches = batches.into_iter().map(|batch| batch.tasks).collect();
            self.link.event_loop.cancel_map(batches);
        }
    }
}

impl<T: TaskResult> Drop for Results<T> {
    fn drop(&mut self) {
        self.cancel();
    }
}

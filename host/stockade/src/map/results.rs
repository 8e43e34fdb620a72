//! Results: tasks of a map that are under way, given out as their consumer wants them.
//!
//! Invariant: a task that was pushed is given out once, or cancelled.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

#[cfg(feature = "stream")]
use std::task::{Context, Poll, ready};

use super::Ended;
use crate::RunError;
use crate::completions::Completions;
use crate::sync::wake;
use crate::task::{TaskHandle, TaskResult};

/// Tasks under way, or errors in their place; with the indices of their items.
#[derive(Debug)]
pub(super) struct Results<T: TaskResult> {
    order: Order<T>,
}

/// An error is larger than a handle, and rarer.
type Slot<T> = Result<TaskHandle<T>, Box<RunError>>;

#[derive(Debug)]
enum Order<T: TaskResult> {
    /// By the items' order: the index of the first, and whatever follows it.
    Items { first: usize, slots: VecDeque<Slot<T>> },
    /// By completion.
    Completion { under_way: BTreeMap<usize, Slot<T>>, ended: Arc<Completions> },
}

/// The deadline came first.
#[derive(Debug)]
pub(super) struct TimedOut;

impl<T: TaskResult> Results<T> {
    /// None yet, to be given out in the items' order.
    pub(super) fn ordered() -> Self {
        Self { order: Order::Items { first: 0, slots: VecDeque::new() } }
    }

    /// The same, to be given out as they end.
    pub(super) fn unordered(mut self) -> Self {
        let Order::Items { first, slots } = &mut self.order else { return self };
        let (first, slots) = (*first, std::mem::take(slots));
        let (under_way, ended) = (BTreeMap::new(), Arc::default());
        let mut results = Self { order: Order::Completion { under_way, ended } };
        for (index, slot) in (first..).zip(slots) {
            results.put(index, slot);
        }
        results
    }

    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        match &self.order {
            Order::Items { slots, .. } => slots.len(),
            Order::Completion { under_way, .. } => under_way.len(),
        }
    }

    /// Whether none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the next can be given out without waiting for it.
    pub(super) fn has_next(&self) -> bool {
        match &self.order {
            Order::Items { slots, .. } => match slots.front() {
                Some(Ok(task)) => task.cell.is_done(),
                Some(Err(_)) => true,
                None => false,
            },
            Order::Completion { ended, .. } => ended.has_next(),
        }
    }

    /// Adds the task of the next item, which has this index, or the error that it had.
    pub(super) fn push(&mut self, index: usize, task: Result<TaskHandle<T>, RunError>) {
        self.put(index, task.map_err(Box::new));
    }

    fn put(&mut self, index: usize, slot: Slot<T>) {
        match &mut self.order {
            Order::Items { first, slots } => {
                if slots.is_empty() {
                    *first = index;
                }
                slots.push_back(slot);
            }
            Order::Completion { under_way, ended } => {
                match &slot {
                    Ok(task) => task.cell.follow(ended, index),
                    // Whoever polls has polled before or polls after this.
                    Err(_) => ended.push(index).into_iter().for_each(wake),
                }
                under_way.insert(index, slot);
            }
        }
    }

    /// Blocks for the next that has ended; `None` where none is left.
    pub(super) fn next(&mut self, deadline: Option<Instant>) -> Result<Option<Ended<T>>, TimedOut> {
        if self.is_empty() {
            return Ok(None);
        }
        match &mut self.order {
            Order::Items { first, slots } => {
                if let Some(Ok(task)) = slots.front()
                    && task.cell.wait(deadline).is_none()
                {
                    return Err(TimedOut);
                }
                Ok(take_first(first, slots))
            }
            Order::Completion { under_way, ended } => {
                if let Some(task) = under_way.values().flatten().next() {
                    // All of one pool: if nobody else does, this thread listens to its workers.
                    let hub = &task.cell.terms.link.hub;
                    hub.lead(ended.awaited(), deadline, || ended.has_next());
                }
                let index = ended.next(deadline).ok_or(TimedOut)?;
                Ok(under_way.remove_entry(&index).map(given_out))
            }
        }
    }

    /// As [`next`](Self::next), as a future does it.
    #[cfg(feature = "stream")]
    pub(super) fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<Ended<T>>> {
        if self.is_empty() {
            return Poll::Ready(None);
        }
        match &mut self.order {
            Order::Items { first, slots } => {
                if let Some(Ok(task)) = slots.front() {
                    ready!(task.cell.poll(context));
                }
                Poll::Ready(take_first(first, slots))
            }
            Order::Completion { under_way, ended } => {
                let index = ready!(ended.poll_next(context));
                Poll::Ready(under_way.remove_entry(&index).map(given_out))
            }
        }
    }

    /// Cancels what is under way, as far as it has not started, and forgets it.
    pub(super) fn cancel(&mut self) {
        let slots: Vec<_> = match &mut self.order {
            Order::Items { slots, .. } => std::mem::take(slots).into(),
            Order::Completion { under_way, .. } => {
                std::mem::take(under_way).into_values().collect()
            }
        };
        for task in slots.into_iter().flatten() {
            task.cancel();
        }
    }
}

fn take_first<T: TaskResult>(first: &mut usize, slots: &mut VecDeque<Slot<T>>) -> Option<Ended<T>> {
    let slot = slots.pop_front()?;
    *first += 1;
    Some(given_out((*first - 1, slot)))
}

fn given_out<T: TaskResult>((index, slot): (usize, Slot<T>)) -> Ended<T> {
    (index, slot.map_err(|error| *error))
}

impl<T: TaskResult> Drop for Results<T> {
    fn drop(&mut self) {
        self.cancel();
    }
}

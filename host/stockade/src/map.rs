//! Maps: a function over many items, lazily.
//!
//! Items are taken from the source, encoded and submitted only as results are taken, a bounded
//! number ahead; so a source without end and a slow consumer both work in bounded memory.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::arguments::Arguments;
use crate::target::Target;
use crate::task::{TaskHandle, TaskResult};
use crate::{Pool, RunError, SubmitError};

/// An iterator over the results of a function applied to items. See [`Pool::map`].
///
/// An error is an item: it concerns its own item alone, and iteration goes on after it. Only a pool
/// that is closed or broken, or a time that has run out, ends the map with one last error. Dropping
/// the map cancels what it has queued.
#[derive(Debug)]
pub struct Map<'p, T: TaskResult, I> {
    pool: &'p Pool,
    target: Target,
    items: Option<I>,
    chunk_size: usize,
    buffer_size: Option<usize>,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    order: Order<T>,
    taken: usize,
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

type Slot<T> = Result<TaskHandle<T>, RunError>;

#[derive(Debug)]
enum Order<T: TaskResult> {
    /// By the items' order; the front's index is beside it.
    Items(VecDeque<(usize, Slot<T>)>),
    /// By completion: tasks under way by index, and the indices of those that ended.
    Completion { under_way: BTreeMap<usize, Slot<T>>, ended: (Sender<usize>, Receiver<usize>) },
}

impl<T: TaskResult> Order<T> {
    fn len(&self) -> usize {
        match self {
            Self::Items(slots) => slots.len(),
            Self::Completion { under_way, .. } => under_way.len(),
        }
    }

    fn push(&mut self, index: usize, slot: Slot<T>) {
        match self {
            Self::Items(slots) => slots.push_back((index, slot)),
            Self::Completion { under_way, ended: (sender, _) } => {
                match &slot {
                    Ok(handle) => handle.cell.listen(sender.clone(), index),
                    // Unbounded, and this very map holds the other end.
                    Err(_) => drop(sender.send(index)),
                }
                under_way.insert(index, slot);
            }
        }
    }

    /// Blocks for the next slot that has ended; `None` where there is none left, `Err` where the
    /// deadline came first.
    fn next(&mut self, deadline: Option<Instant>) -> Result<Option<(usize, Slot<T>)>, ()> {
        if self.len() == 0 {
            return Ok(None);
        }
        match self {
            Self::Items(slots) => {
                if let Some((_, Ok(handle))) = slots.front()
                    && !handle.cell.wait_done(deadline)
                {
                    return Err(());
                }
                Ok(slots.pop_front())
            }
            Self::Completion { under_way, ended: (_, receiver) } => {
                let index = match deadline {
                    None => receiver.recv().map_err(|_| ())?,
                    Some(deadline) => match receiver.recv_deadline(deadline) {
                        Ok(index) => index,
                        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                            return Err(());
                        }
                    },
                };
                Ok(under_way.remove_entry(&index))
            }
        }
    }

    fn cancel(&mut self) {
        let cancel = |slot: Slot<T>| {
            if let Ok(handle) = slot {
                handle.cancel();
            }
        };
        match self {
            Self::Items(slots) => slots.drain(..).for_each(|(_, slot)| cancel(slot)),
            Self::Completion { under_way, .. } => {
                std::mem::take(under_way).into_values().for_each(cancel);
            }
        }
    }
}

impl<'p, T: TaskResult, I> Map<'p, T, I> {
    pub(crate) fn new(pool: &'p Pool, target: Target, items: I) -> Self {
        Self {
            pool,
            target,
            items: Some(items),
            chunk_size: 1,
            buffer_size: None,
            timeout: None,
            deadline: None,
            order: Order::Items(VecDeque::new()),
            taken: 0,
        }
    }

    /// Sends so many items together, from 1. Each still gets an instance of its own, and an item
    /// that fails costs no other. Default: 1.
    #[must_use]
    pub fn chunk_size(mut self, items: usize) -> Self {
        self.chunk_size = items;
        self
    }

    /// Keeps so many chunks under way, from 1. Default: enough to keep every worker busy.
    #[must_use]
    pub fn buffer_size(mut self, chunks: usize) -> Self {
        self.buffer_size = Some(chunks);
        self
    }

    /// Gives results as they come rather than in the items' order.
    #[must_use]
    pub fn unordered(mut self) -> Self {
        let ended = crossbeam_channel::unbounded();
        self.order = Order::Completion { under_way: BTreeMap::new(), ended };
        self
    }

    /// Ends the map with an error where a result is not ready when so much time has passed since
    /// the first was asked for, the caller's own time included.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<T: TaskResult, I> Map<'_, T, I>
where
    I: Iterator,
    I::Item: Arguments,
{
    /// The next task that ended, as its handle with result and report, and the index of its item
    /// in the source. Blocks like [`next`](Iterator::next).
    pub fn next_task(&mut self) -> Option<(usize, Result<TaskHandle<T>, RunError>)> {
        let started = *self.deadline.get_or_insert_with(|| {
            // A time too far to reckon with is one that never comes.
            let far = Instant::now() + Duration::from_secs(100 * 365 * 86_400);
            self.timeout.and_then(|timeout| Instant::now().checked_add(timeout)).unwrap_or(far)
        });
        let deadline = self.timeout.map(|_| started);
        if let Err(error) = self.fill() {
            return Some((self.end(), Err(error)));
        }
        match self.order.next(deadline) {
            Ok(slot) => slot,
            Err(()) => {
                let error = RunError::MapTimeout(self.timeout.unwrap_or_default());
                Some((self.end(), Err(error)))
            }
        }
    }

    /// Cancels what is under way and takes nothing more; gives the index that comes next.
    fn end(&mut self) -> usize {
        self.items = None;
        self.order.cancel();
        self.taken
    }

    /// Submits chunks until enough are under way.
    fn fill(&mut self) -> Result<(), RunError> {
        if self.items.is_none() {
            return Ok(());
        }
        let buffer_size = self.buffer_size.unwrap_or_else(|| (4 * self.pool.max_workers()).max(16));
        for (name, given) in [("chunk_size", self.chunk_size), ("buffer_size", buffer_size)] {
            if given == 0 {
                return Err(RunError::MapSetting(name));
            }
        }
        let under_way_max = buffer_size.saturating_mul(self.chunk_size);
        while self.order.len().saturating_add(self.chunk_size) <= under_way_max {
            let chunk = (self.chunk_size > 1).then(|| self.pool.new_chunk());
            for _ in 0..self.chunk_size {
                let Some(arguments) = self.items.as_mut().and_then(Iterator::next) else {
                    self.items = None;
                    return Ok(());
                };
                let index = self.taken;
                self.taken += 1;
                let submitted = self.pool.submit_chunk(&self.target, arguments, chunk);
                let over = matches!(submitted, Err(SubmitError::Closed | SubmitError::Broken(_)));
                self.order.push(index, submitted.map_err(RunError::Submit));
                if over {
                    // What was submitted before still ends, and this error comes last.
                    self.items = None;
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl<T: TaskResult, I> Iterator for Map<'_, T, I>
where
    I: Iterator,
    I::Item: Arguments,
{
    type Item = Result<T, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (_, slot) = self.next_task()?;
        Some(slot.and_then(|handle| Ok(handle.result()?)))
    }
}

impl<T: TaskResult, I> Drop for Map<'_, T, I> {
    fn drop(&mut self) {
        self.order.cancel();
    }
}

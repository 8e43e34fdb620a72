//! The inbox of a map: a queue of ended items, from the driver to the map's consumer.
//!
//! ```text
//! driver ─ push ─► ended ─ take_all ─► Results     a group at a time, under one lock
//! driver ─ claim ─► sent ◄─ cancel ─ Map           each item starts, or never does
//! others ─ notify ─► notified ─────► FedMap        wait returns early
//! ```
//!
//! Invariant: once the map or an item is cancelled, it does not start.

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use stockade_wire::{Codec, PageSlot, TaskId, TaskRange, WorkerId};

use crate::base::sync::{Condvar, Mutex, lock, wait, wake};
use crate::outcome::output::Output;
use crate::outcome::report::{Status, Summary};
use crate::state::backend::{Awaited, Backend, Lead};
use crate::state::cancelled_items::CancelledItems;
use crate::state::cell::{Completed, Leftovers, Sent};
use crate::state::spec::TaskSpec;

/// What a map and the driver share.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<InboxState>,
    changed: Condvar,
    /// Whether the whole map is cancelled.
    cancelled: AtomicBool,
}

#[derive(Debug, Default)]
struct InboxState {
    /// As the driver has put it here: groups of items, none of them empty.
    ended: VecDeque<EndedItems>,
    waker: Option<Waker>,
    /// Threads that block for an end; a wake-up without waiters would still be a system call.
    waiting: usize,
    /// Whether a wait is to return early.
    notified: bool,
    /// Parts of batches that workers have.
    sent: Vec<SentPart>,
    /// Items that were cancelled while the map was not; some of them may have ended.
    cancelled_items: CancelledItems,
}

impl InboxState {
    fn has_news(&self) -> bool {
        !self.ended.is_empty() || self.notified
    }
}

/// A part of a batch that a worker has.
#[derive(Debug)]
struct SentPart {
    worker: WorkerId,
    /// Where it is offered.
    sent: Sent,
    /// Its items' places in the map.
    items: Range<usize>,
}

impl SentPart {
    /// Has those of these items that it has never start, unless they have. Where one of them is revoked,
    /// all that are behind it in this part are, and the driver queues them again.
    fn revoke(&self, items: &Range<usize>) {
        let overlap = self.items.start.max(items.start)..self.items.end.min(items.end);
        for item in overlap {
            let index = u32::try_from(item - self.items.start).unwrap_or(u32::MAX);
            if self.sent.page.revoke(PageSlot { index, ..self.sent.place }) {
                return;
            }
        }
    }
}

/// Items of one batch that have ended one after the other; they follow each other in the map.
#[derive(Debug)]
pub(crate) struct EndedItems {
    pub(crate) spec: Arc<TaskSpec>,
    /// In nanoseconds of the pool's life.
    pub(crate) submitted: u64,
    pub(crate) items: VecDeque<EndedItem>,
    /// The encoding of their outputs.
    pub(crate) codec: Codec,
    /// Short outputs, end to end. A block of memory for each would cost more than all the rest, since a
    /// batch of them is more than an allocator keeps at hand.
    pub(crate) outputs: Vec<u8>,
}

/// The longest output that is kept with others.
pub(crate) const SHORT_BYTES_MAX: usize = 512;

impl EndedItems {
    /// The first, and how many there are.
    pub(crate) fn span(&self) -> Option<(&EndedItem, u32)> {
        Some((self.items.front()?, u32::try_from(self.items.len()).unwrap_or(u32::MAX)))
    }
}

/// An item that has ended.
#[derive(Debug)]
pub(crate) struct EndedItem {
    /// Its place in the map, from 0.
    pub(crate) index: usize,
    pub(crate) task: TaskId,
    pub(crate) end: End,
}

/// How an item has ended.
#[derive(Debug)]
pub(crate) enum End {
    /// As most do.
    Short(ShortEnd),
    /// In any way, with rare parts if there are any.
    Other(Box<(Completed, Option<Leftovers>)>),
}

/// The end of an item that returned a short output at its first attempt, and left nothing else.
#[derive(Clone, Debug)]
pub(crate) struct ShortEnd {
    pub(crate) worker: WorkerId,
    /// From its submission to its end, and to its start, in nanoseconds.
    pub(crate) lifetime: u64,
    pub(crate) queue_wait: u64,
    /// What its worker says that it used.
    pub(crate) wall_nanos: u64,
    pub(crate) cpu_nanos: u64,
    pub(crate) memory_peak_bytes: u64,
    /// Where its output is among those of its group.
    pub(crate) output: Range<u32>,
}

impl ShortEnd {
    /// All of it, with its output from among those of its group.
    pub(crate) fn complete(&self, codec: Codec, outputs: &[u8]) -> Completed {
        let bytes = self.output_in(outputs).to_vec();
        Completed::new(Ok(Output::Encoded { codec, bytes }), self.report())
    }

    /// Its output, from among those of its group.
    pub(crate) fn output_in<'o>(&self, outputs: &'o [u8]) -> &'o [u8] {
        outputs.get(self.output.start as usize..self.output.end as usize).unwrap_or_default()
    }

    fn report(&self) -> Summary {
        let mut report = Summary::blank(Status::Completed, Duration::from_nanos(self.lifetime));
        (report.worker, report.attempt) = (Some(self.worker), 1);
        report.queue_wait = Duration::from_nanos(self.queue_wait);
        report.wall_time = Duration::from_nanos(self.wall_nanos);
        report.cpu_time = Duration::from_nanos(self.cpu_nanos);
        report.memory_peak_bytes = self.memory_peak_bytes;
        report
    }
}

impl End {
    pub(crate) fn new(completed: Completed, leftovers: Option<Leftovers>) -> Self {
        Self::Other(Box::new((completed, leftovers)))
    }

    /// How long it ran.
    pub(crate) fn wall_time(&self) -> Duration {
        match self {
            Self::Short(short) => Duration::from_nanos(short.wall_nanos),
            Self::Other(other) => other.0.report.wall_time,
        }
    }

    pub(crate) fn report(&self) -> Summary {
        match self {
            Self::Short(short) => short.report(),
            Self::Other(other) => other.0.report.clone(),
        }
    }
}

impl Inbox {
    /// Driver: these tasks, which stand offered and whose first has this index, go to a worker. Returns
    /// those of them, from the first on, before one that is cancelled;
    /// `None` where the first is cancelled.
    pub(crate) fn claim(
        &self,
        tasks: TaskRange,
        index: usize,
        worker: WorkerId,
        sent: Sent,
    ) -> Option<TaskRange> {
        debug_assert_eq!(tasks.first(), sent.place.first);
        let mut state = lock(&self.state);
        if self.is_cancelled() {
            return None;
        }
        let count = state.cancelled_items.count_before(index, tasks.count());
        let claimed = tasks.split_at(count).0?;
        let items = index..index + count as usize;
        state.sent.push(SentPart { worker, sent, items });
        Some(claimed)
    }

    /// Driver: a part that a worker had is answered whole, or lost.
    pub(crate) fn forget(&self, worker: WorkerId, first: TaskId) {
        let mut state = lock(&self.state);
        let is_it = |part: &SentPart| part.worker == worker && part.sent.place.first == first;
        if let Some(index) = state.sent.iter().position(is_it) {
            state.sent.swap_remove(index);
        }
    }

    /// Driver: items have ended. Returns whom to wake for that, once no lock is held.
    #[must_use]
    pub(crate) fn push(&self, items: EndedItems) -> Option<Waker> {
        let mut state = lock(&self.state);
        if self.is_cancelled() || items.items.is_empty() {
            drop(state);
            return None;
        }
        state.ended.push_back(items);
        let (waker, waiting) = (state.waker.take(), state.waiting);
        drop(state);
        if waiting > 0 {
            self.changed.notify_all();
        }
        waker
    }

    /// Has no item start any more, wherever it is.
    pub(crate) fn cancel(&self) {
        let mut state = lock(&self.state);
        self.cancelled.store(true, Ordering::Release);
        for SentPart { sent, .. } in mem::take(&mut state.sent) {
            let _ = sent.page.revoke_from(sent.place);
        }
        let ended = mem::take(&mut state.ended);
        drop(state);
        drop(ended);
    }

    /// Has none of these items start that has not. Those that have not ended are all in `live`.
    pub(crate) fn cancel_items(
        &self,
        items: &Range<usize>,
        live: impl Iterator<Item = Range<usize>>,
    ) {
        let mut state = lock(&self.state);
        state.cancelled_items.insert(items.clone());
        state.cancelled_items.keep_only(live);
        state.sent.iter().for_each(|part| part.revoke(items));
    }

    /// Whether the item of this index, which has not ended, never starts, or never again.
    pub(crate) fn has_cancelled(&self, index: usize) -> bool {
        self.is_cancelled() || lock(&self.state).cancelled_items.contains(index)
    }

    /// Whether no item starts any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// What a leader that waits for the next end waits for.
    pub(crate) fn awaited(&self) -> Awaited {
        std::ptr::from_ref(self).addr() as Awaited
    }

    /// Whether an item has ended and was not taken, or somebody has notified.
    pub(crate) fn has_news(&self) -> bool {
        lock(&self.state).has_news()
    }

    /// What has ended and was not taken.
    pub(crate) fn take_all(&self) -> VecDeque<EndedItems> {
        mem::take(&mut lock(&self.state).ended)
    }

    /// Blocks until there is news. False once `deadline` has come.
    pub(crate) fn wait(&self, event_loop: &dyn Backend, deadline: Option<Instant>) -> bool {
        if self.has_news() {
            return true;
        }
        // If nobody else does, this thread listens to the workers itself.
        event_loop.lead(self.awaited(), deadline, Lead::Dozing, &mut || self.has_news());
        let mut state = lock(&self.state);
        state.waiting += 1;
        while !state.has_news() {
            match wait(&self.changed, state, deadline) {
                Some(again) => state = again,
                None => {
                    lock(&self.state).waiting -= 1;
                    return false;
                }
            }
        }
        state.waiting -= 1;
        true
    }

    /// Has a [`wait`](Self::wait) return early: this one, or else the next.
    pub(crate) fn notify(&self, event_loop: &dyn Backend) {
        let mut state = lock(&self.state);
        if mem::replace(&mut state.notified, true) {
            return;
        }
        let (waker, waiting) = (state.waker.take(), state.waiting);
        drop(state);
        if waiting > 0 {
            self.changed.notify_all();
        }
        event_loop.done(self.awaited());
        waker.into_iter().for_each(wake);
    }

    /// Whether somebody has notified since this was asked last.
    pub(crate) fn take_notified(&self) -> bool {
        mem::take(&mut lock(&self.state).notified)
    }

    /// Whether there is news; else wakes `waker` when there is.
    pub(crate) fn poll(&self, waker: &Waker) -> bool {
        let mut state = lock(&self.state);
        if state.has_news() {
            return true;
        }
        state.waker = Some(waker.clone());
        false
    }
}

#[cfg(test)]
#[cfg(shuttle)]
mod models;

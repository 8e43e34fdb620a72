//! The inbox of a map: a queue of ended items, from the driver to the map's consumer.
//!
//! ```text
//! driver ─ push ─► ended ─ take_all ─► Results     a group at a time, under one lock
//! driver ─ claim ─► sent ◄─ cancel ─ Map           each item starts, or never does
//! ```
//!
//! Invariant: once the map is cancelled, no item of it starts.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Instant;

use stockade_wire::{TaskId, TaskRange, WorkerId};

use crate::cell::{Completed, Leftovers, Sent};
use crate::event_loop::{Awaited, EventLoop, Lead};
use crate::spec::TaskSpec;
use crate::sync::{Condvar, Mutex, lock, wait};

/// What a map and the driver share.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<InboxState>,
    changed: Condvar,
    cancelled: AtomicBool,
}

#[derive(Debug, Default)]
struct InboxState {
    /// As the driver has put it here: groups of items, none of them empty.
    ended: VecDeque<EndedItems>,
    waker: Option<Waker>,
    /// Threads that block for an end; a wake-up without waiters would still be a system call.
    waiting: usize,
    /// Parts of batches that workers have, each with the worker, and where it is offered.
    sent: Vec<(WorkerId, Sent)>,
}

/// Items of one batch that have ended one after the other; they follow each other in the map.
#[derive(Debug)]
pub(crate) struct EndedItems {
    pub(crate) spec: Arc<TaskSpec>,
    /// In nanoseconds of the pool's life.
    pub(crate) submitted: u64,
    pub(crate) items: VecDeque<EndedItem>,
}

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
    pub(crate) completed: Completed,
    pub(crate) leftovers: Option<Box<Leftovers>>,
}

impl Inbox {
    /// Driver: these tasks, which stand offered, go to a worker. False where the map is cancelled.
    pub(crate) fn claim(&self, tasks: TaskRange, worker: WorkerId, sent: Sent) -> bool {
        debug_assert_eq!(tasks.first(), sent.place.first);
        let mut state = lock(&self.state);
        if self.is_cancelled() {
            return false;
        }
        state.sent.push((worker, sent));
        true
    }

    /// Driver: a part that a worker had is answered whole, or lost.
    pub(crate) fn forget(&self, worker: WorkerId, first: TaskId) {
        let mut state = lock(&self.state);
        let is_it = |(of, sent): &(WorkerId, Sent)| *of == worker && sent.place.first == first;
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
        for (_, sent) in mem::take(&mut state.sent) {
            let _ = sent.page.revoke_from(sent.place);
        }
        let ended = mem::take(&mut state.ended);
        drop(state);
        drop(ended);
    }

    /// Whether no item starts any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// What a leader that waits for the next end waits for.
    pub(crate) fn awaited(&self) -> Awaited {
        std::ptr::from_ref(self).addr() as Awaited
    }

    /// Whether an item has ended and was not taken.
    pub(crate) fn has_next(&self) -> bool {
        !lock(&self.state).ended.is_empty()
    }

    /// What has ended and was not taken.
    pub(crate) fn take_all(&self) -> VecDeque<EndedItems> {
        mem::take(&mut lock(&self.state).ended)
    }

    /// Blocks until an item has ended and was not taken. False once `deadline` has come.
    pub(crate) fn wait(&self, event_loop: &EventLoop, deadline: Option<Instant>) -> bool {
        if self.has_next() {
            return true;
        }
        // If nobody else does, this thread listens to the workers itself.
        event_loop.lead(self.awaited(), deadline, Lead::Dozing, || self.has_next());
        let mut state = lock(&self.state);
        state.waiting += 1;
        while state.ended.is_empty() {
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

    /// Whether an item has ended and was not taken; else wakes `waker` when one does.
    #[cfg(feature = "stream")]
    pub(crate) fn poll(&self, waker: &Waker) -> bool {
        let mut state = lock(&self.state);
        if !state.ended.is_empty() {
            return true;
        }
        state.waker = Some(waker.clone());
        false
    }
}

#[cfg(test)]
#[cfg(shuttle)]
mod models;

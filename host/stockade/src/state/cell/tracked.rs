//! State of a task that has started or has waiters.
//!
//! Deliberately absent: locks. The cell's lock protects this.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::task::Waker;

use stockade_wire::{Codec, TaskId};

use super::{Callback, Completed, Sent};
use crate::base::sync::Condvar;
use crate::call::buffer::BufferSlot;
use crate::call::payload::Payload;
use crate::state::completions::Completions;
use crate::state::semaphore::Permit;

/// The phase of a task.
#[derive(Debug)]
pub(super) enum Stage {
    /// Queued, or taken back from its worker.
    Pending,
    /// Sent to a worker, behind others.
    Claimed(Sent),
    /// As good as started; the page tells whether, and its progress.
    Running(Sent),
    Done(Arc<Completed>),
}

#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) stage: Stage,
    /// When it was last started, in nanoseconds of the pool's life.
    pub(super) started: u64,
    /// What it is called with, until its first turn.
    pub(super) payload: Payload,
    /// What it is lent, from its first turn on.
    pub(super) buffer: Option<Arc<BufferSlot>>,
    /// Its place among the pending, given up when it first starts. A task that is tried again takes
    /// none, so it never waits for room.
    pub(super) permit: Option<Permit>,
    pub(super) emitted: VecDeque<(Codec, Vec<u8>)>,
    progress: Option<(u64, u64)>,
    /// Of those that block.
    pub(super) changed: Option<Arc<Condvar>>,
    pub(super) wakers: Vec<Waker>,
    /// Told the number when the task ends.
    pub(super) followers: Vec<(Arc<Completions>, usize)>,
    pub(super) callbacks: VecDeque<Callback>,
    pub(super) callbacks_added: u64,
    /// The task has ended, and its callbacks are being called or about to be.
    pub(super) calling: bool,
}

impl Tracked {
    pub(super) fn new(stage: Stage, payload: Payload) -> Self {
        Self {
            stage,
            started: 0,
            payload,
            buffer: None,
            permit: None,
            emitted: VecDeque::new(),
            progress: None,
            changed: None,
            wakers: Vec::new(),
            followers: Vec::new(),
            callbacks: VecDeque::new(),
            callbacks_added: 0,
            calling: false,
        }
    }

    /// Gives what it is called with to the driver; nothing where that has it already.
    pub(super) fn take_payload(&mut self) -> Payload {
        let payload = mem::take(&mut self.payload);
        self.buffer = payload.buffer().cloned().or(self.buffer.take());
        payload
    }

    /// What it is lent.
    pub(super) fn take_buffer(&mut self) -> Option<Arc<BufferSlot>> {
        self.take_payload();
        self.buffer.take()
    }

    /// Where it was sent, if a worker has it.
    pub(super) fn sent(&self) -> Option<&Sent> {
        match &self.stage {
            Stage::Claimed(sent) | Stage::Running(sent) => Some(sent),
            Stage::Pending | Stage::Done(_) => None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running(_))
    }

    /// What the task `id`, which this is of, last said of its progress.
    pub(super) fn progress(&self, id: TaskId) -> Option<(u64, u64)> {
        match &self.stage {
            Stage::Running(sent) => sent.page.progress_of(id),
            _ => self.progress,
        }
    }

    /// Takes over what the task has left, which has ended.
    pub(super) fn leave(
        &mut self,
        emitted: VecDeque<(Codec, Vec<u8>)>,
        progress: Option<(u64, u64)>,
    ) {
        (self.emitted, self.progress) = (emitted, progress);
    }

    /// What those wait for who block.
    pub(super) fn changed(&mut self) -> Arc<Condvar> {
        self.changed.get_or_insert_with(Arc::default).clone()
    }

    /// Somebody who blocks has to look.
    pub(super) fn notify(&self) {
        if let Some(changed) = &self.changed {
            changed.notify_all();
        }
    }

    /// The task `id`, which this is of, has ended.
    pub(super) fn end(&mut self, id: TaskId, completed: Arc<Completed>) {
        if let Some(sent) = self.sent() {
            self.progress = sent.page.progress_of(id);
        }
        self.stage = Stage::Done(completed);
    }

    /// The outcome of an ended task without other handles.
    pub(super) fn take_spent(&mut self) -> Option<Arc<Completed>> {
        let is_spent = self.emitted.is_empty()
            && self.progress.is_none()
            && self.callbacks.is_empty()
            && !self.calling;
        match &self.stage {
            Stage::Done(_) if is_spent => {}
            _ => return None,
        }
        match mem::replace(&mut self.stage, Stage::Pending) {
            Stage::Done(completed) => Some(completed),
            _ => None,
        }
    }
}

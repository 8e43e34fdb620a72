//! What is known of a task whose turn has come, or for which somebody waits.
//!
//! Deliberately absent: locks. Whoever has this has the cell's.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::task::Waker;

use stockade_wire::{Codec, Finished, SharedMemory, TaskId, WorkerId};

use super::{Callback, Completed, Sent};
use crate::completions::Completions;
use crate::coredump::Coredump;
use crate::payload::Payload;
use crate::room::Place;
use crate::sync::Condvar;

/// Where a task stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// Queued.
    Pending,
    /// Sent to a worker, behind others.
    Claimed(Sent),
    /// Taken back from its worker by the pool; its end, or its next turn, is on its way.
    TakenBack,
    /// As good as started; the page tells whether, and its progress.
    Running(Sent),
    Done(Arc<Completed>),
}

/// What the driver knows of a task's latest attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempt {
    pub(super) worker: Option<WorkerId>,
    /// From 1.
    pub(super) number: u32,
    /// In nanoseconds of the pool's life.
    pub(super) started: Option<u64>,
    pub(super) emitted_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Attended {
    pub(super) phase: Phase,
    /// Kept until the end in case the task has to be sent again.
    pub(super) payload: Payload,
    /// The payload's, which the items outlive.
    pub(super) codec: Codec,
    pub(super) attempt: Attempt,
    /// What its worker said of its end.
    pub(super) finished: Option<Box<Finished>>,
    /// Where its result lies, if that is a file of its worker's.
    pub(super) memory: Option<Arc<SharedMemory>>,
    /// What its worker says that its guest was at.
    pub(super) dump: Option<Coredump>,
    /// Its place among the pending, given up when it first starts. A task that is tried again takes
    /// none, so it never waits for room.
    pub(super) place: Option<Place>,
    pub(super) emitted: VecDeque<Vec<u8>>,
    progress: Option<(u64, u64)>,
    /// Of those that block.
    pub(super) changed: Option<Arc<Condvar>>,
    pub(super) wakers: Vec<Waker>,
    /// Told the number when the task ends.
    pub(super) followers: Vec<(Arc<Completions>, usize)>,
    pub(super) callbacks: VecDeque<Callback>,
    pub(super) callbacks_added: u64,
    /// The task has ended, and somebody calls its callbacks or is about to.
    pub(super) calling: bool,
}

impl Attended {
    pub(super) fn new(phase: Phase, payload: Payload) -> Self {
        Self {
            phase,
            codec: payload.codec(),
            payload,
            attempt: Attempt::default(),
            finished: None,
            memory: None,
            dump: None,
            place: None,
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

    /// Where it was sent, if a worker has it.
    pub(super) fn sent(&self) -> Option<&Sent> {
        match &self.phase {
            Phase::Claimed(sent) | Phase::Running(sent) => Some(sent),
            Phase::Pending | Phase::TakenBack | Phase::Done(_) => None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running(_))
    }

    /// What the task `id`, which this is of, last said of its progress.
    pub(super) fn progress(&self, id: TaskId) -> Option<(u64, u64)> {
        match &self.phase {
            Phase::Running(sent) => sent.page.progress_of(id),
            _ => self.progress,
        }
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
        self.phase = Phase::Done(completed);
        self.payload = Payload::default();
    }

    /// Of a task that has ended, and of which nobody will ask for anything else: its end.
    pub(super) fn take_spent(&mut self) -> Option<Arc<Completed>> {
        let is_spent = self.emitted.is_empty()
            && self.progress.is_none()
            && self.callbacks.is_empty()
            && !self.calling;
        match &self.phase {
            Phase::Done(_) if is_spent => {}
            _ => return None,
        }
        match mem::replace(&mut self.phase, Phase::TakenBack) {
            Phase::Done(completed) => Some(completed),
            _ => None,
        }
    }
}

//! Answers: what a worker says of a task's end, before anything is made of it.

use std::mem;
use std::sync::Arc;

use stockade_wire::{Finished, Outcome, SharedMemory};

use crate::outcome::coredump::Coredump;

/// What a worker says of a task's end. It is large and there is one for each task, so it is lent from one to
/// the next and not moved.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) finished: Finished,
    /// Where the input lies, and perhaps the result, if that is a file of the worker's.
    pub(crate) memory: Option<Arc<SharedMemory>>,
    /// Its core dump.
    pub(crate) dump: Option<Coredump>,
}

impl Answer {
    /// Takes all of it, and leaves one that says nothing.
    pub(crate) fn take(&mut self) -> Self {
        let Self { finished, memory, dump } = self;
        let finished = mem::replace(finished, Finished::new(finished.task, Outcome::Recalled));
        Self { finished, memory: memory.take(), dump: dump.take() }
    }
}

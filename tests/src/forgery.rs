//! Messages that a worker makes up.

use stockade_wire::{Finished, Outcome, TaskId, WorkerMessage};

/// Tasks that the first `hostile-worker` of a pool waits for before it does what it is for.
pub const HOSTILE_BATCH: usize = 10;

/// What a worker or a compiler begins with, in the words of `hostile-worker`: no environment either.
pub const INHERITED: &str = "0 null, 1 null, 2 null, 3 socket";

/// That `task` has ended with `outcome`, and nothing else about it.
pub fn finished(task: TaskId, outcome: Outcome) -> WorkerMessage {
    WorkerMessage::Finished(Finished::new(task, outcome))
}

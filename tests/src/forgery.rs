//! Messages that a worker makes up.

use stockade_wire::{Captured, Finished, Metrics, Outcome, TaskId, WorkerMessage};

/// That `task` has ended with `outcome`, and nothing else about it.
pub fn finished(task: TaskId, outcome: Outcome) -> WorkerMessage {
    WorkerMessage::Finished(Box::new(Finished {
        task,
        outcome,
        metrics: Metrics::default(),
        stdout: Captured::default(),
        stderr: Captured::default(),
        log: Vec::new(),
        log_dropped: 0,
    }))
}

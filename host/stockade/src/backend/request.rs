//! Requests: what the driver is asked and told, by callers and by the threads that it has started.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use stockade_dispatcher::{RequestId, ShutdownMode, Submission};
use stockade_wire::{TaskId, TaskRange, WorkerId};

use crate::backend::entry::Entry;
use crate::backend::worker::{Buried, WorkerProcess};
use crate::outcome::error::BrokenError;
use crate::outcome::exit::MemoryExcess;

/// Requests of callers to the driver.
#[derive(Debug)]
pub(crate) enum Request {
    /// The driver says where it keeps the batch.
    Submit(Entry, Submission),
    Cancel(TaskId),
    CancelRunning(TaskId),
    /// None of these batches' tasks is to start: their map was cancelled.
    CancelMap(Vec<TaskRange>),
    /// None of these tasks of a map's batches is to start.
    CancelItems(Vec<TaskRange>),
    /// Start this many workers, or as many as there is work for; send their number to `started`.
    SpawnWorkers {
        request: RequestId,
        count: Option<usize>,
        started: Sender<usize>,
    },
    SetIdleTimeout(Option<Duration>),
    /// Signal `done` when no task and no worker is left.
    Join {
        join: u64,
        done: Sender<()>,
    },
    JoinGivenUp(u64),
    Prepared(Result<Arc<File>, BrokenError>),
    /// The supervisor has started a worker, or could not.
    Started {
        worker: WorkerId,
        process: io::Result<Box<WorkerProcess>>,
    },
    /// The supervisor has seen that a worker has more memory than it may have.
    Outgrown(WorkerId, MemoryExcess),
    /// The supervisor has made sure that a worker is gone.
    Buried(Box<Buried>),
    Shutdown(ShutdownMode),
}

impl Request {
    /// Its caller gets an error, since the driver has ended.
    pub(crate) fn refuse(self) {
        if let Self::Submit(entry, _) = self {
            entry.refuse();
        }
    }
}

/// The event loop, as the threads know it that the driver has started.
pub(crate) trait RequestQueue: Send + Sync {
    /// Tells the driver, if it has not ended. Never waits for another thread.
    fn put(&self, request: Request);
}

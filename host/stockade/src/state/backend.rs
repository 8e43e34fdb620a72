//! What handles, maps and ended tasks ask of the event loop.
//!
//! The pool, which submits, holds the event loop itself. Handles, maps and cells know only this trait: a
//! handle may outlive its pool, and the event loop holds what ends a cell.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Instant;

use stockade_wire::{TaskId, TaskRange};

/// The number that a leader waits for, which is also known to the code that completes it; 0 is
/// none.
pub(crate) type Awaited = u64;

/// How a leader waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// Woken for each result, or for several that ended close to each other.
    Listening,
    /// For a caller that takes many results and comes back for more: while they come, it is woken when a
    /// look is due, or by a worker that has nothing more to do.
    Dozing,
    /// `Dozing` where tasks wait behind others that keep every worker busy, else `Listening`: for a caller
    /// that takes the result of a short task, and probably has many.
    DozingIfSaturated,
}

/// The event loop, as handles see it. Once its driver has ended, cancels do nothing and nobody leads.
pub(crate) trait Backend: fmt::Debug + Send + Sync + UnwindSafe + RefUnwindSafe {
    /// A task was cancelled by its caller. Never waits for another thread.
    fn cancel(&self, task: TaskId);

    /// A task is to end although it may run. Never waits for another thread.
    fn cancel_running(&self, task: TaskId);

    /// No task of these batches is to start: their map was cancelled. Never waits for another thread.
    fn cancel_map(&self, batches: Vec<TaskRange>);

    /// None of these tasks of a map's batches is to start. Returns once the driver has heard it; waits for
    /// the thread that works for the driver, which is never for long.
    fn cancel_items(&self, tasks: Vec<TaskRange>);

    /// Waits on the poller in the calling thread until `done` returns true or `deadline` comes.
    /// Returns false at once if another caller already does. The code that makes `done` true calls
    /// [`done`](Self::done) with `awaited` after that.
    fn lead(
        &self,
        awaited: Awaited,
        deadline: Option<Instant>,
        how: Lead,
        done: &mut dyn FnMut() -> bool,
    ) -> bool;

    /// Reports that a leader's number is done.
    fn done(&self, awaited: Awaited);
}

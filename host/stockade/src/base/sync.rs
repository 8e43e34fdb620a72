//! Locks and threads, as the shared parts of the host use them: the system's, or the model checker's when the
//! crate's tests are built to be checked (`--cfg shuttle`).
//!
//! Everything that threads of a caller and threads of a pool share is built on these, so that
//! `just shuttle` can run it in every order of its steps:
//!
//! | State | Shared between | Checked by |
//! |---|---|---|
//! | [`Semaphore`](crate::state::semaphore::Semaphore) | callers that wait for a permit, the driver that frees it | `semaphore::models` |
//! | [`Completions`](crate::state::completions::Completions) | threads that end tasks, one follower of several | `completions::models` |
//! | [`Callbacks`](crate::state::callbacks::Callbacks) | threads that end tasks, callback threads, a shutdown | `callbacks::models` |
//! | [`TaskCell`](crate::state::cell::TaskCell) | handles, the driver, and through its page the worker | `cell::models` |
//! | [`Inbox`](crate::state::inbox::Inbox) | a map, the driver, and through its page the worker | `inbox::models` |
//! | [`Shared`](crate::state::shared::Shared) | callers, who shuts down, the driver | `shared::models` |
//! | a slot of the status page | the host, the worker's process | loom, in `stockade-wire` |
//!
//! Deliberately absent: atomics and channels. What is here of atomics is one flag or a counter each,
//! where one step is the whole story; and the channels to the driver are crossbeam's own.

#[cfg(test)]
#[cfg(shuttle)]
pub(crate) mod model;
#[cfg(not(shuttle))]
mod system;

#[cfg(shuttle)]
pub(crate) use model::{Condvar, Mutex, MutexGuard, lock, thread, wait};
#[cfg(not(shuttle))]
pub(crate) use system::{Condvar, Mutex, MutexGuard, lock, thread, wait};

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Wakers of callers, to be called once no lock is held.
pub(crate) type Wakers = Vec<Waker>;

/// Wakes a task of a caller's executor. If a waker panics, which it should not, this thread
/// continues.
pub(crate) fn wake(waker: Waker) {
    // The panic itself was reported by the panic hook.
    let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
}

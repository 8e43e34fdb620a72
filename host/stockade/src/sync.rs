//! Locks and threads, as the shared parts of the host use them: the system's, or the model checker's when the
//! crate is built to be checked (`--cfg shuttle`).
//!
//! Everything that threads of a caller and threads of a pool share is built on these, so that
//! `just shuttle` can run it in every order of its steps.

#[cfg(shuttle)]
pub(crate) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard},
    thread,
};
#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard},
    thread,
};

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::task::Waker;
use std::time::Instant;

/// Takes a lock. What our locks guard is sound at every moment at which code under them could
/// panic, so a poisoned one still holds a sound value.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes a task of somebody's executor. A waker that panics, which none should, is its owner's
/// trouble and not that of the thread that wakes.
pub(crate) fn wake(waker: Waker) {
    // The panic itself was reported by the panic hook.
    let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
}

/// Waits for a change; `None` once `deadline` has come.
pub(crate) fn wait<'a, T>(
    changed: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Option<Instant>,
) -> Option<MutexGuard<'a, T>> {
    let Some(deadline) = deadline else {
        return Some(changed.wait(guard).unwrap_or_else(PoisonError::into_inner));
    };
    let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
    let (guard, _) = changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner);
    Some(guard)
}

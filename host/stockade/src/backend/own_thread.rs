//! Which threads are pools' own: those without which a driver gets no further.
//!
//! They wait for no pool's end, not even another's: two that waited for each other's would never come
//! back.

use std::cell::Cell;

thread_local! {
    static IS_OWN: Cell<bool> = const { Cell::new(false) };
}

/// From now on the calling thread is a pool's own.
pub(crate) fn become_own_thread() {
    IS_OWN.set(true);
}

/// Whether the calling thread is a pool's own, and so must not wait for what such threads bring about.
pub(crate) fn is_own_thread() -> bool {
    IS_OWN.get()
}

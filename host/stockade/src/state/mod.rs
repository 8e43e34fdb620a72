//! State that threads of callers share with the backend, and what watchers are told of it.
//!
//! Handles outlive their pool, and know no more of the event loop than [`backend::Backend`].

pub(crate) mod backend;
pub(crate) mod callbacks;
pub(crate) mod cancelled_items;
pub(crate) mod cell;
pub(crate) mod completions;
pub(crate) mod inbox;
pub(crate) mod link;
#[cfg(feature = "metrics")]
pub(crate) mod meters;
pub(crate) mod semaphore;
pub(crate) mod shared;
pub(crate) mod spec;
pub(crate) mod watch;

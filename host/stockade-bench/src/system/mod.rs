//! What the machine does by itself: processes, pipes, futexes, copies; and what it tells of processes.

pub(crate) mod copies;
pub(crate) mod futex;
pub(crate) mod pipe;
pub(crate) mod processes;
pub(crate) mod quiet;
pub(crate) mod session;
pub(crate) mod usage;

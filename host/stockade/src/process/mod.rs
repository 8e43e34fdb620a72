//! Processes: how they are started, asked, looked at and ended.
//!
//! Invariant: no process is signalled or waited for by its number. Another part of the program may have
//! waited for it, and then the number may be another process's.

pub(crate) mod allowance;
pub(crate) mod child;
pub(crate) mod conversation;
pub(crate) mod footprint;
pub(crate) mod loadable;
pub(crate) mod lockdown;
pub(crate) mod oom;
pub(crate) mod pidfd;
pub(crate) mod program;
pub(crate) mod start;
pub(crate) mod template;
pub(crate) mod vigil;

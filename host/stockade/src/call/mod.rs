//! Calls: what can be called in a module, and with what.
//!
//! Deliberately absent: tasks. A call is checked and encoded before there is one.

pub(crate) mod arguments;
pub(crate) mod buffer;
pub(crate) mod cancelled;
pub(crate) mod codec;
pub(crate) mod command;
pub(crate) mod inputs;
pub(crate) mod number;
pub(crate) mod options;
pub(crate) mod payload;
pub(crate) mod scalar;
pub(crate) mod shape;
pub(crate) mod target;

//! Base: helpers that know nothing of pools: time-outs, locks, files of this user alone, text made
//! harmless.

pub(crate) mod deadline;
pub(crate) mod private_file;
pub(crate) mod shown;
pub(crate) mod sync;

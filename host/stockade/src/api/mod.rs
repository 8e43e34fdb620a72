//! What users call: pools, functions, maps, handles.

pub(crate) mod builder;
pub(crate) mod check;
pub(crate) mod ending;
pub(crate) mod function;
pub(crate) mod gather;
pub(crate) mod given;
pub(crate) mod hooks;
pub(crate) mod inspect;
pub(crate) mod locate;
pub(crate) mod map;
pub(crate) mod pool;
pub(crate) mod recording;
pub(crate) mod self_test;
pub(crate) mod submit;
pub(crate) mod task;

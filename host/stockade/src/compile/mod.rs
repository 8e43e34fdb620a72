//! Compilation: modules become artefacts in processes of their own, or come from the cache.

pub(crate) mod cache;
pub(crate) mod compiler;
pub(crate) mod prepare;

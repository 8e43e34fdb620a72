//! Artefacts that outlive the pool they were compiled for.

#[allow(dead_code)]
mod entry;

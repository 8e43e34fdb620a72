//! Modules as a worker, or its template, gets them.

use std::fs::File;
use std::sync::Arc;

use stockade_wire::{Load, Setup};

/// A module as workers get it.
#[derive(Clone, Debug)]
pub(crate) struct Loadable {
    pub(crate) load: Load,
    /// Sealed.
    pub(crate) artefact: Arc<File>,
    /// How many memories it has.
    pub(crate) memories: u32,
}

/// `setup` for a process that gets `modules`.
pub(crate) fn setup_for(setup: Setup, modules: &[Loadable]) -> Setup {
    let count = u32::try_from(modules.len()).unwrap_or(u32::MAX);
    let memories = modules.iter().fold(0_u32, |sum, module| sum.saturating_add(module.memories));
    Setup { modules: count, memories, ..setup }
}

//! Artefacts: loading a module that a compiler of ours has made.
//!
//! An artefact is native code, so nothing protects the process that loads a forged one. It comes
//! through the host from a compiler of the same program, in a memory file that nobody can change
//! any more; that chain is checked as far as a worker can check it.
#![allow(unsafe_code)]

use std::fs::File;

use stockade_wire::descriptor;
use wasmtime::{Engine, Module};

/// Why an artefact was not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArtefactError {
    /// Somebody could still change it.
    #[error("the artefact is not in a sealed memory file")]
    Unsealed,
    /// It was made by another version, for other settings, or for another processor.
    #[error("the artefact does not fit this worker: {0}")]
    Unfit(wasmtime::Error),
}

/// Maps the artefact that `file` holds.
///
/// # Errors
/// [`ArtefactError`]
pub(crate) fn load(engine: &Engine, file: File) -> Result<Module, ArtefactError> {
    if !descriptor::is_sealed(&file) {
        return Err(ArtefactError::Unsealed);
    }
    // SAFETY: the file must hold what `Engine::precompile_module` made and must not change while it
    // is mapped. The host passes on only what a compiler of its own wrote, in a file it sealed; the
    // seals, just checked, cannot be taken off.
    unsafe { Module::deserialize_open_file(engine, file) }.map_err(ArtefactError::Unfit)
}

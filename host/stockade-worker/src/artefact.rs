//! Artefacts: loading a module that a compiler of ours has made.
//!
//! An artefact is native code, so only the lockdown contains a forged one. The host passes it on
//! from a compiler of the same program, in a sealed memory file; the worker checks as much of this
//! chain as it can.
//!
//! ```text
//! sealed file ─ mapped for reading ─► engine: parsed, checked ─► publish: its code, mapped anew
//!                                                                readable and executable
//! ```
//!
//! Invariant: memory becomes executable only by mapping a sealed file, never by changing its
//! protection. So the lockdown forbids the latter, see [`lockdown`](crate::lockdown).
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::mm::{MapFlags, ProtFlags};
use stockade_wire::descriptor;
use wasmtime::{CustomCodeMemory, Module};

use crate::engine::WorkerEngine;
use crate::memory::{MemoryError, ModuleMemories};

/// Why an artefact was not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArtefactError {
    /// Its file is not sealed.
    #[error("the artefact is not in a sealed memory file")]
    Unsealed,
    /// Its code section is not where it should be.
    #[error("the artefact is malformed: {0}")]
    Malformed(io::Error),
    /// It was made by another version, for other settings, or for another processor.
    #[error("the artefact does not fit this worker: {0}")]
    Unfit(wasmtime::Error),
    /// Its memories do not fit here.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Publishes the code of an engine's artefacts. Shared by the engine, which calls it, and by the
/// loader of an artefact, which sets the file.
#[derive(Debug)]
pub(crate) struct Code {
    loading: Mutex<Option<Loading>>,
    page_bytes: usize,
}

/// The artefact that is being loaded.
#[derive(Debug)]
struct Loading {
    file: File,
    /// Where its code begins in the file.
    offset: u64,
}

impl Code {
    /// Asks the system for its pages' size, which it must not ask for later.
    pub(crate) fn new() -> Self {
        Self { loading: Mutex::default(), page_bytes: rustix::param::page_size() }
    }

    fn loading(&self) -> MutexGuard<'_, Option<Loading>> {
        // No code that holds the lock can panic halfway through a change.
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CustomCodeMemory for Code {
    fn required_alignment(&self) -> usize {
        self.page_bytes
    }

    fn publish_executable(&self, start: *const u8, length: usize) -> wasmtime::Result<()> {
        let loading = self.loading();
        let Some(Loading { file, offset }) = &*loading else {
            return Err(wasmtime::Error::msg("no artefact is being loaded"));
        };
        // SAFETY: the range is the engine's own mapping of this very file, which it calls this for;
        // the new mapping shows the same bytes, and nothing refers to them as writable. Beyond the
        // end of the code, to the end of its page, the file goes on.
        unsafe {
            rustix::mm::mmap(
                start.cast_mut().cast::<c_void>(),
                length.next_multiple_of(self.page_bytes),
                ProtFlags::READ | ProtFlags::EXEC,
                MapFlags::PRIVATE | MapFlags::FIXED,
                file,
                *offset,
            )
        }
        .map_err(|errno| wasmtime::Error::msg(format!("cannot map the code: {errno}")))?;
        Ok(())
    }

    fn unpublish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        // The engine unmaps the artefact next.
        Ok(())
    }
}

/// Maps the artefact and the images that `file` holds.
///
/// # Errors
/// [`ArtefactError`]
pub(crate) fn load(
    engine: &WorkerEngine,
    file: File,
) -> Result<(Module, Arc<ModuleMemories>), ArtefactError> {
    let WorkerEngine { engine, code, memories } = engine;
    if !descriptor::is_sealed(&file) {
        return Err(ArtefactError::Unsealed);
    }
    let offset = code_offset(&file).map_err(ArtefactError::Malformed)?;
    let own = file.try_clone().map_err(ArtefactError::Malformed)?;
    let image = file.try_clone().map_err(ArtefactError::Malformed)?;
    *code.loading() = Some(Loading { file: own, offset });
    // SAFETY: the file must hold what `Engine::precompile_module` made and must not change while it
    // is mapped. The host passes on only what a compiler of its own wrote, in a file it sealed; the
    // seals, just checked, cannot be taken off.
    let module = unsafe { Module::deserialize_open_file(engine, file) };
    *code.loading() = None;
    let module = module.map_err(ArtefactError::Unfit)?;
    Ok((module, memories.add(&Arc::new(image))?))
}

/// The most sections an artefact is searched through; the engine makes about twenty.
const SECTIONS_MAX: u16 = 256;

/// Marks a section as code: `SHF_EXECINSTR` of the System V ABI, as all numbers here.
const EXECUTABLE: u64 = 4;

/// Where the code begins in an artefact, which is an ELF file of 64 bits with one section of code.
/// The engine checks the rest.
fn code_offset(file: &File) -> io::Result<u64> {
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0)?;
    let (sections_at, sections) = (word(&header, 0x28), half(&header, 0x3c));
    if half(&header, 0x3a) != 64 || sections > SECTIONS_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    for index in 0..u64::from(sections) {
        let mut section = [0; 64];
        let at = sections_at.checked_add(index * 64).ok_or(io::ErrorKind::InvalidData)?;
        file.read_exact_at(&mut section, at)?;
        if word(&section, 0x08) & EXECUTABLE != 0 {
            return Ok(word(&section, 0x18));
        }
    }
    // A module without functions has no code to publish either.
    Ok(0)
}

fn word(bytes: &[u8; 64], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn half(bytes: &[u8; 64], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

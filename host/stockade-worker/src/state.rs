//! The state that an initializer leaves: written by a worker, read by a compiler.
//!
//! ```text
//! magic, then globals, then memories; numbers little-endian
//! globals:  u32 count, each: name, 16 bytes of value
//! memories: u32 count, each: name, u64 bytes, then runs until one of no bytes
//! run:      u64 offset, u64 length, that many bytes
//! name:     u16 length, UTF-8
//! ```
//!
//! Only what is not zero is written, page by page, so that a large and mostly empty memory makes a
//! small file. The names are those that the instrumented module exports its state under.
//!
//! The reader does not trust it: it was written by a process that had run a guest.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use wasmtime::{Extern, Instance, Store, Val};
use wasmtime_wizer::{InstanceState, SnapshotVal, ValType};

use crate::guest::GuestState;

const MAGIC: &[u8; 8] = b"stkstat1";

/// Memory is compared with zero in pieces of this size.
const CHUNK_BYTES: usize = 4096;

/// The most memory that a snapshot may hold. All of it is in the compiler's memory at once, and all
/// that is not zero becomes part of the artefact.
pub(crate) const SNAPSHOT_MEMORY_BYTES_MAX: u64 = 1 << 30;

/// What the instrumented module's exports of state begin with.
const STATE_EXPORT_PREFIX: &str = "__wizer_";

/// Why state was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// There is no instance to read it from.
    #[error("the instance could not be made")]
    NotMade,
    /// There is more of it than the host allows.
    #[error("the initialised state has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// A global holds what cannot be written down.
    #[error("a mutable global holds a reference, which a snapshot cannot hold")]
    Reference,
    /// The file failed.
    #[error("cannot write the state: {0}")]
    Io(#[from] io::Error),
}

/// Writes the exported state of `instance` to `file`; returns the number of bytes.
///
/// # Errors
/// [`StateError`]
pub(crate) fn write(
    store: &mut Store<GuestState>,
    instance: &Instance,
    file: &File,
    bytes_max: u64,
) -> Result<u64, StateError> {
    let mut globals = Vec::new();
    let mut memories = Vec::new();
    for export in instance.exports(&mut *store) {
        let name = export.name().to_owned();
        if !name.starts_with(STATE_EXPORT_PREFIX) {
            continue;
        }
        match export.into_extern() {
            Extern::Global(global) => globals.push((name, global)),
            Extern::Memory(memory) => memories.push((name, memory)),
            _ => {}
        }
    }
    let mut out = BoundedFile { file, position: 0, limit: bytes_max };
    out.write(MAGIC)?;
    out.write(&(globals.len() as u32).to_le_bytes())?;
    for (name, global) in globals {
        out.write_name(&name)?;
        out.write(&bits(&global.get(&mut *store))?.to_le_bytes())?;
    }
    out.write(&(memories.len() as u32).to_le_bytes())?;
    for (name, memory) in memories {
        out.write_name(&name)?;
        out.write_memory(memory.data(&*store))?;
    }
    Ok(out.position)
}

fn bits(value: &Val) -> Result<u128, StateError> {
    Ok(match value {
        Val::I32(number) => u128::from(number.cast_unsigned()),
        Val::I64(number) => u128::from(number.cast_unsigned()),
        Val::F32(bits) => u128::from(*bits),
        Val::F64(bits) => u128::from(*bits),
        Val::V128(bits) => bits.as_u128(),
        _ => return Err(StateError::Reference),
    })
}

/// Writes at positions of its own: a descriptor's offset is shared with its sender.
struct BoundedFile<'a> {
    file: &'a File,
    position: u64,
    limit: u64,
}

impl BoundedFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let end = self.position + bytes.len() as u64;
        if end > self.limit {
            return Err(StateError::TooLarge { limit: self.limit });
        }
        self.file.write_all_at(bytes, self.position)?;
        self.position = end;
        Ok(())
    }

    fn write_name(&mut self, name: &str) -> Result<(), StateError> {
        self.write(&(name.len() as u16).to_le_bytes())?;
        self.write(name.as_bytes())
    }

    fn write_memory(&mut self, memory: &[u8]) -> Result<(), StateError> {
        self.write(&(memory.len() as u64).to_le_bytes())?;
        let mut offset = 0;
        for run in
            memory.chunks(CHUNK_BYTES).map(is_zero).collect::<Vec<_>>().chunk_by(|a, b| a == b)
        {
            let end = memory.len().min(offset + run.len() * CHUNK_BYTES);
            if !run[0] {
                self.write(&(offset as u64).to_le_bytes())?;
                self.write(&((end - offset) as u64).to_le_bytes())?;
                self.write(&memory[offset..end])?;
            }
            offset = end;
        }
        self.write(&[0; 16])
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Initialised state, as a compiler reads it.
#[derive(Debug, Default)]
pub(crate) struct InitialisedState {
    globals: HashMap<String, u128>,
    memories: HashMap<String, Vec<u8>>,
    /// Whether the module asked for something that is not here.
    incomplete: bool,
}

/// Bytes that are not the state of any module.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state of the initialised module is damaged")]
pub(crate) struct DamagedState;

impl InitialisedState {
    /// Reads the state in `bytes`.
    ///
    /// # Errors
    /// [`DamagedState`]
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, DamagedState> {
        let mut input = Cursor(bytes);
        let mut state = Self::default();
        if input.take(MAGIC.len())? != MAGIC {
            return Err(DamagedState);
        }
        for _ in 0..u32::from_le_bytes(input.array()?) {
            state.globals.insert(input.name()?, u128::from_le_bytes(input.array()?));
        }
        let mut memory_bytes = 0u64;
        for _ in 0..u32::from_le_bytes(input.array()?) {
            let name = input.name()?;
            let length = u64::from_le_bytes(input.array()?);
            memory_bytes = memory_bytes.saturating_add(length);
            if memory_bytes > SNAPSHOT_MEMORY_BYTES_MAX {
                return Err(DamagedState);
            }
            let mut memory = vec![0; usize::try_from(length).map_err(|_| DamagedState)?];
            while let Some((offset, run)) = input.run()? {
                let end = offset.checked_add(run.len()).ok_or(DamagedState)?;
                memory.get_mut(offset..end).ok_or(DamagedState)?.copy_from_slice(run);
            }
            state.memories.insert(name, memory);
        }
        if input.0.is_empty() { Ok(state) } else { Err(DamagedState) }
    }

    /// Whether everything that was asked for was there.
    pub(crate) fn was_complete(&self) -> bool {
        !self.incomplete
    }
}

impl InstanceState for InitialisedState {
    async fn global_get(&mut self, name: &str, kind: ValType) -> SnapshotVal {
        let value = self.globals.get(name).copied();
        self.incomplete |= value.is_none();
        let value = value.unwrap_or_default();
        match kind {
            ValType::I64 => SnapshotVal::I64((value as u64).cast_signed()),
            ValType::F32 => SnapshotVal::F32(value as u32),
            ValType::F64 => SnapshotVal::F64(value as u64),
            ValType::V128 => SnapshotVal::V128(value),
            ValType::I32 | ValType::Ref(_) => SnapshotVal::I32((value as u32).cast_signed()),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory = self.memories.get(name);
        self.incomplete |= memory.is_none();
        contents(memory.map_or(&[], Vec::as_slice));
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], DamagedState> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(DamagedState)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DamagedState> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DamagedState)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn name(&mut self) -> Result<String, DamagedState> {
        let length = u16::from_le_bytes(self.array()?);
        let bytes = self.take(usize::from(length))?;
        Ok(std::str::from_utf8(bytes).map_err(|_| DamagedState)?.to_owned())
    }

    /// The next run, or none where the memory ends.
    fn run(&mut self) -> Result<Option<(usize, &'a [u8])>, DamagedState> {
        let offset = u64::from_le_bytes(self.array()?);
        let length = u64::from_le_bytes(self.array()?);
        if length == 0 {
            return Ok(None);
        }
        let offset = usize::try_from(offset).map_err(|_| DamagedState)?;
        let length = usize::try_from(length).map_err(|_| DamagedState)?;
        Ok(Some((offset, self.take(length)?)))
    }
}

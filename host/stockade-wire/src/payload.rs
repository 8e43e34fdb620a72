//! Payload files: memory that holds a task's input, and often its result, where both sides find it.
//!
//! ```text
//!  host                         file                          worker
//!  SharedMemory ── mapped ──► the input ◄── mapped over the guest's memory, or read into it
//!  copied out, or given back ◄── the result, where it stands in the same place
//! ```
//!
//! Invariant: no reference to bytes of it exists while another process may have it mapped for
//! writing. They are copied out, as from a ring, or looked at one by one as atomics; only what was
//! frozen is a slice.
//!
//! Deliberately absent: whose it is and when it is free. The host's side keeps count.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU8;

use crate::Placement;
use crate::descriptor::file_bytes;
use crate::mapping::{FrozenMapping, Mapping, MappingError, keeps_its_length};
use crate::ring::RING_BODY_BYTES_MAX;

/// Files that a worker keeps for inputs: one for the task that runs and one for the next.
pub const PAYLOAD_FILES_MAX: usize = 2;

/// The most bytes of a file that outlives its task. Both sides drop longer ones once it has ended.
pub const PAYLOAD_KEPT_BYTES_MAX: usize = 32 << 20;

/// The fewest bytes of an input that lies in a file: shorter ones travel in a ring with all that
/// surrounds them.
pub const PAYLOAD_BYTES_MIN: usize = RING_BODY_BYTES_MAX - 1024;

/// A memory file of a fixed length, as its owner maps it. Nobody can execute it.
#[derive(Debug)]
pub struct SharedMemory {
    mapping: Mapping,
    /// Of what was asked for; the file goes on to the end of its last page.
    bytes: usize,
    file_bytes: usize,
}

impl SharedMemory {
    /// Makes memory of `bytes` bytes, all zero. It takes room as it is written.
    ///
    /// # Errors
    /// [`MappingError::Io`] if memory files, descriptors or mappings are not available.
    pub fn create(bytes: usize) -> Result<Self, MappingError> {
        let pages = bytes.max(1).checked_next_multiple_of(rustix::param::page_size());
        let file_bytes = pages.ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let mapping = Mapping::create_to_seal("stockade-payload", file_bytes)?;
        Ok(Self { mapping, bytes, file_bytes })
    }

    /// How many bytes were asked for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The descriptor to hand to the other side.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.mapping.descriptor()
    }

    /// Copies `from` to the place `offset`.
    ///
    /// # Panics
    /// If it does not fit.
    pub fn write_at(&mut self, offset: usize, from: &[u8]) {
        let place = self.place(offset, from.len());
        // SAFETY: within the mapping, as just checked; `from` is private memory, which no mapping
        // overlaps. What another process does to these bytes meanwhile changes what it reads.
        unsafe { place.copy_from_nonoverlapping(NonNull::from(from).cast(), from.len()) }
    }

    /// Copies what stands at `offset` into `into`.
    ///
    /// # Panics
    /// If there is not as much.
    pub fn read_at(&self, offset: usize, into: &mut [u8]) {
        let place = self.place(offset, into.len());
        // SAFETY: as above; any bytes will do, as they are looked at only in the copy.
        unsafe { place.copy_to_nonoverlapping(NonNull::from(&mut *into).cast(), into.len()) }
    }

    /// Puts `input` where a task finds it, and nothing of what stood there before behind it.
    ///
    /// # Panics
    /// As [`write_at`](Self::write_at).
    pub fn put(&mut self, input: &[u8]) {
        self.write_at(0, input);
        let end = input.len();
        let rest = end.next_multiple_of(rustix::param::page_size()).min(self.file_bytes) - end;
        // SAFETY: to the end of the last page that holds any of the input, within the mapping.
        unsafe { self.mapping.start().add(end).write_bytes(0, rest) }
    }

    /// Makes `into` a copy of the first `bytes` bytes, in the memory that it has if that is enough.
    ///
    /// # Panics
    /// As [`read_at`](Self::read_at).
    pub fn read_into(&self, bytes: usize, into: &mut Vec<u8>) {
        let place = self.place(0, bytes);
        into.clear();
        into.reserve_exact(bytes);
        // SAFETY: as for `read_at`; there is room for so many bytes, and then they are there.
        unsafe {
            place.copy_to_nonoverlapping(NonNull::new_unchecked(into.as_mut_ptr()), bytes);
            into.set_len(bytes);
        }
    }

    /// All bytes, each to be read and written by itself, whoever else does. Alone, because a copy of
    /// many at once, during a write of one would be a race of two threads.
    pub fn atomics(&mut self) -> &[AtomicU8] {
        // SAFETY: mapped with at least this length for as long as `self` lives, which is borrowed for
        // as long; atomics are made for memory that others change, and any bit pattern is one.
        unsafe { std::slice::from_raw_parts(self.mapping.start().cast().as_ptr(), self.bytes) }
    }

    /// Makes the memory one that nobody can change any more. Blocks for a fraction of a second where
    /// the system itself is at work in it.
    ///
    /// # Errors
    /// [`FreezeError`], with the memory where it is as it was.
    pub fn freeze(self) -> Result<FrozenMemory, FreezeError> {
        let Self { mapping, bytes, file_bytes } = self;
        // Its own mapping is one for writing too.
        let file = mapping.into_file()?;
        match FrozenMapping::freeze(&file, file_bytes) {
            Ok(mapping) => Ok(FrozenMemory { mapping, bytes }),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let mapping = Mapping::open(file, file_bytes).map_err(io::Error::other)?;
                Err(FreezeError::InUse(Self { mapping, bytes, file_bytes }))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn place(&self, offset: usize, bytes: usize) -> NonNull<u8> {
        let end = offset.checked_add(bytes);
        assert!(
            end.is_some_and(|end| end <= self.bytes),
            "{bytes} bytes at {offset} are not within {}",
            self.bytes
        );
        // SAFETY: within the mapping, as just checked.
        unsafe { self.mapping.start().add(offset) }
    }
}

/// Memory that was not frozen.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// A process can still write to it; the memory is given back.
    #[error("the memory is mapped for writing by another process")]
    InUse(SharedMemory),
    /// The system does not do it, or another process has forbidden it.
    #[error("the memory cannot be sealed: {0}")]
    Io(#[from] io::Error),
}

/// Memory that nobody can change any more, in any process.
#[derive(Debug)]
pub struct FrozenMemory {
    mapping: FrozenMapping,
    bytes: usize,
}

impl Deref for FrozenMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.mapping.bytes()[..self.bytes]
    }
}

/// A payload file as a worker gets it.
#[derive(Debug)]
pub struct PayloadFile {
    file: File,
    bytes: u64,
}

impl PayloadFile {
    /// Takes what came with a message.
    ///
    /// # Errors
    /// [`MappingError::Unsealed`] where it could be made shorter.
    pub fn open(descriptor: OwnedFd) -> Result<Self, MappingError> {
        let file = File::from(descriptor);
        if !keeps_its_length(&file) {
            return Err(MappingError::Unsealed);
        }
        let bytes = file_bytes(&file)?;
        Ok(Self { file, bytes })
    }

    /// Whether it holds all that is placed there.
    pub fn holds(&self, placement: Placement) -> bool {
        placement.bytes <= self.bytes
    }

    /// How long it is: whole pages.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file, to be read and written at positions and mapped.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl AsFd for PayloadFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
#[cfg(not(miri))]
mod tests;

//! A mapping: memory that a host shares with one worker, as both of them see it.
//!
//! Invariant: the file below is sealed against resizing before it is mapped, because a page that
//! vanishes under a mapping kills its reader.
//!
//! Deliberately absent: what the memory means. The status page and the rings say that.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;

use rustix::fs::SealFlags;
use rustix::mm::{MapFlags, ProtFlags};

use crate::descriptor::memory_file;

/// Memory that cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// A system call failed.
    #[error("cannot map shared memory: {0}")]
    Io(#[from] io::Error),
    /// The descriptor is not memory of the expected size that stays as long as it is.
    #[error("the shared memory is not sealed against resizing")]
    Unsealed,
}

/// One side's view of the memory.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    file: File,
}

// SAFETY: the mapping lives until drop, whatever thread drops it; what may be done with its memory
// is up to those that are given the pointer.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Makes memory of `bytes` bytes, all zero.
    ///
    /// # Errors
    /// [`MappingError::Io`] where memory files or mappings cannot be had.
    pub(crate) fn create(name: &str, bytes: usize) -> Result<Self, MappingError> {
        let file = memory_file(name)?;
        file.set_len(bytes as u64)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)
            .map_err(io::Error::from)?;
        Self::open(file, bytes)
    }

    /// Maps the `bytes` bytes that `file` holds.
    ///
    /// # Errors
    /// [`MappingError`]
    pub(crate) fn open(file: File, bytes: usize) -> Result<Self, MappingError> {
        let resize = SealFlags::GROW | SealFlags::SHRINK;
        let sealed = rustix::fs::fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(resize));
        if !sealed || crate::descriptor::file_bytes(&file)? != bytes as u64 {
            return Err(MappingError::Unsealed);
        }
        // SAFETY: a fresh mapping at an address the kernel picks aliases nothing of ours; the file
        // has the mapped length and, sealed, keeps it.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )
        }
        .map_err(io::Error::from)?;
        let start = NonNull::new(address.cast::<u8>())
            .ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Self { start, bytes, file })
    }

    /// The descriptor to hand to the other side.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Where it begins, at the beginning of a page. Valid for all of its bytes for as long as `self`
    /// lives; the other side may change any of them at any time.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `open` with this length; no reference outlives `self`. A failure would
        // leak the memory and is nothing to act on.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

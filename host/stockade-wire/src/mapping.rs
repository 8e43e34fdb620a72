//! A mapping: memory that a host shares with one worker, as both of them see it.
//!
//! Invariant: the file below is sealed against resizing before it is mapped, because a page that
//! vanishes under a mapping kills its reader.
//!
//! Deliberately absent: what the memory means. The status page, the rings and payloads say that.
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

// SAFETY: the mapping lives until drop, dropped by any thread; what may be done with its memory
// is up to those that are given the pointer.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Makes memory of `bytes` bytes, all zero.
    ///
    /// # Errors
    /// [`MappingError::Io`] if memory files or mappings are not available.
    pub(crate) fn create(name: &str, bytes: usize) -> Result<Self, MappingError> {
        Self::create_sealed(name, bytes, RESIZE | SealFlags::SEAL)
    }

    /// As [`create`](Self::create), and more seals can be put on it later.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub(crate) fn create_to_seal(name: &str, bytes: usize) -> Result<Self, MappingError> {
        Self::create_sealed(name, bytes, RESIZE)
    }

    fn create_sealed(name: &str, bytes: usize, seals: SealFlags) -> Result<Self, MappingError> {
        let file = memory_file(name)?;
        file.set_len(bytes as u64)?;
        rustix::fs::fcntl_add_seals(&file, seals).map_err(io::Error::from)?;
        Self::open(file, bytes)
    }

    /// Maps the `bytes` bytes that `file` holds.
    ///
    /// # Errors
    /// [`MappingError`]
    pub(crate) fn open(file: File, bytes: usize) -> Result<Self, MappingError> {
        if !keeps_its_length(&file) || crate::descriptor::file_bytes(&file)? != bytes as u64 {
            return Err(MappingError::Unsealed);
        }
        let start = map(&file, bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)?;
        Ok(Self { start, bytes, file })
    }

    /// Gives the memory up, and its file.
    pub(crate) fn into_file(self) -> io::Result<File> {
        self.file.try_clone()
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

/// Memory that nobody can change any more.
#[derive(Debug)]
pub(crate) struct FrozenMapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: as for `Mapping`, and nothing changes it.
unsafe impl Send for FrozenMapping {}
// SAFETY: as above.
unsafe impl Sync for FrozenMapping {}

impl FrozenMapping {
    /// Seals `file`, of `bytes` bytes that cannot become fewer, for good, and maps it for reading.
    ///
    /// # Errors
    /// If anybody maps it for writing, which is [`io::ErrorKind::ResourceBusy`], or something else
    /// fails.
    pub(crate) fn freeze(file: &File, bytes: usize) -> io::Result<Self> {
        rustix::fs::fcntl_add_seals(file, SealFlags::WRITE)?;
        // Private, because older kernels refuse a shared mapping of what must not be written.
        let start = map(file, bytes, ProtFlags::READ, MapFlags::PRIVATE)?;
        Ok(Self { start, bytes })
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: mapped with this length until drop. The file was sealed against writing before, and
        // the kernel refuses that while anybody has it mapped for writing: nothing changes it again.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

/// What a sealed memory file holds, without a copy of it.
#[derive(Debug)]
pub struct SealedBytes(Option<FrozenMapping>);

impl SealedBytes {
    /// Maps all of `file` for reading.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] where its bytes may still change; where there is no address space.
    pub fn of(file: &File) -> io::Result<Self> {
        if !crate::descriptor::is_sealed(file) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let bytes = crate::descriptor::file_bytes(file)?;
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        if bytes == 0 {
            // There is no mapping of nothing.
            return Ok(Self(None));
        }
        // All at once: the caller reads it to its end.
        let flags = MapFlags::PRIVATE.union(MapFlags::POPULATE);
        let start = map(file, bytes, ProtFlags::READ, flags)?;
        Ok(Self(Some(FrozenMapping { start, bytes })))
    }
}

impl std::ops::Deref for SealedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], FrozenMapping::bytes)
    }
}

impl Drop for FrozenMapping {
    fn drop(&mut self) {
        // SAFETY: as for `Mapping`.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

const RESIZE: SealFlags = SealFlags::GROW.union(SealFlags::SHRINK);

/// Whether nobody can make `file` shorter or longer, as with files that are mapped here.
pub(crate) fn keeps_its_length(file: &File) -> bool {
    rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(RESIZE))
}

fn map(file: &File, bytes: usize, access: ProtFlags, flags: MapFlags) -> io::Result<NonNull<u8>> {
    // SAFETY: a fresh mapping at an address the kernel picks aliases nothing of ours; the file has
    // the mapped length and, sealed, keeps it.
    let address = unsafe { rustix::mm::mmap(std::ptr::null_mut(), bytes, access, flags, file, 0) }?;
    NonNull::new(address.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at address zero"))
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `open` with this length; no reference outlives `self`. A failure would
        // leak the memory and is nothing to act on.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::descriptor::{seal, sealed_file};

    #[test]
    #[cfg_attr(miri, ignore = "maps a memory file")]
    fn sealed_bytes_are_those_of_the_file_from_its_start() {
        for bytes in [vec![], vec![7], (0..=255).cycle().take(10_000).collect()] {
            let mut file = sealed_file("test", &bytes).unwrap();
            io::Seek::seek(&mut file, io::SeekFrom::End(0)).unwrap();
            assert_eq!(SealedBytes::of(&file).unwrap()[..], bytes[..]);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "maps a memory file")]
    fn a_file_that_may_still_change_is_not_taken_for_sealed() {
        let file = memory_file("test").unwrap();
        file.write_all_at(b"abc", 0).unwrap();
        let refused = |file: &File| SealedBytes::of(file).unwrap_err().kind();
        assert_eq!(refused(&file), io::ErrorKind::InvalidInput);
        // Some of the seals are not enough.
        rustix::fs::fcntl_add_seals(&file, RESIZE).unwrap();
        assert_eq!(refused(&file), io::ErrorKind::InvalidInput);
        seal(&file).unwrap();
        assert_eq!(&*SealedBytes::of(&file).unwrap(), b"abc");
        assert!(SealedBytes::of(&File::open("/dev/null").unwrap()).is_err());
    }
}

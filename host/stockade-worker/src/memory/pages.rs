//! System calls on address space, each in one place.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use stockade_wire::OUT_OF_MEMORY_EXIT_CODE;

/// The protection of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    None,
    Read,
    Write,
}

impl Access {
    fn protection(self) -> ProtFlags {
        match self {
            Self::None => ProtFlags::empty(),
            Self::Read => ProtFlags::READ,
            Self::Write => ProtFlags::READ | ProtFlags::WRITE,
        }
    }
}

/// Address space of this process's own, unmapped when it is dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: an address; the memory there belongs to the owner of this value, in any thread.
unsafe impl Send for Mapping {}
// SAFETY: the same; what is read through a shared one does not change.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Reserves address space without access.
    ///
    /// # Errors
    /// The system's, where it has no more for this process.
    pub(super) fn reserve(bytes: usize) -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: new pages, at an address that the system chooses.
        let start = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes, ProtFlags::empty(), flags)
        }?;
        Ok(Self { start: start.cast(), bytes })
    }

    /// Maps a part of a file that nobody changes, for reading.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn of_file(file: &File, offset: u64, bytes: usize) -> io::Result<Self> {
        // SAFETY: new pages, at an address that the system chooses.
        let start = unsafe {
            let (access, flags) = (ProtFlags::READ, MapFlags::PRIVATE);
            rustix::mm::mmap(std::ptr::null_mut(), bytes, access, flags, file, offset)
        }?;
        Ok(Self { start: start.cast(), bytes })
    }

    /// The address of what is `offset` bytes from its start.
    ///
    /// # Panics
    /// If that is not in it.
    pub(super) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.bytes, "an address within the mapping");
        // SAFETY: within the mapping, just compared.
        unsafe { self.start.add(offset) }
    }

    /// What is in it, which must be readable: for a mapping made by [`of_file`](Self::of_file).
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for reading from a sealed file, so that it neither changes nor shrinks.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: its own, and nothing refers to it any more. Where the system refuses, it stays.
        let _ = unsafe { rustix::mm::munmap(self.start.cast(), self.bytes) };
    }
}

/// Maps `place` of the memory at `base` anew: privately from a place in `file`, or with zeros. Not
/// writable at first: over existing mappings Linux does not check `RLIMIT_DATA`, so a locked down
/// process may not map writable memory there. It does count memory that [`protect`] makes writable.
///
/// # Errors
/// The system's.
///
/// # Safety
/// The place is within a [`Mapping`] of the caller's, and nobody refers to what is there.
pub(super) unsafe fn map_over(
    base: *mut u8,
    place: &Range<usize>,
    file: Option<(&File, u64)>,
    access: Access,
) -> io::Result<()> {
    let (start, access) = (base.wrapping_add(place.start).cast(), access.protection());
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    // SAFETY: as the caller promises.
    unsafe {
        match file {
            Some((file, offset)) => {
                rustix::mm::mmap(start, place.len(), access, flags, file, offset)
            }
            None => rustix::mm::mmap_anonymous(start, place.len(), access, flags),
        }
    }?;
    Ok(())
}

/// Changes the protection of `place` of the memory at `base`.
///
/// # Errors
/// The system's.
///
/// # Safety
/// The place is within a [`Mapping`] of the caller's; nobody refers to it who could do then what is
/// forbidden.
pub(super) unsafe fn protect(
    base: *mut u8,
    place: &Range<usize>,
    access: Access,
) -> io::Result<()> {
    let flags = MprotectFlags::from_bits_retain(access.protection().bits());
    // SAFETY: as the caller promises.
    unsafe { rustix::mm::mprotect(base.wrapping_add(place.start).cast(), place.len(), flags) }?;
    Ok(())
}

/// Ends this process if the system has no memory for a required mapping. It is async-signal-safe.
pub(super) fn out_of_memory() -> ! {
    // SAFETY: ends this process and no other.
    unsafe { libc::_exit(OUT_OF_MEMORY_EXIT_CODE) }
}

/// Makes every page of `place` writable by writing a byte of it back. For pages that the kernel
/// will write: it fails on a protected page instead of faulting. Only while a guest is on the
/// stack.
pub(crate) fn touch(place: &mut [u8], page_bytes: usize) {
    let mut at = 0;
    while at < place.len() {
        let byte = &raw mut place[at];
        // SAFETY: a byte of a slice that is borrowed for writing. Volatile, because what is written is
        // what is there, and the write is the purpose.
        unsafe { byte.write_volatile(byte.read_volatile()) };
        let to_next_page = page_bytes - (byte.addr() & (page_bytes - 1));
        at += to_next_page;
    }
}

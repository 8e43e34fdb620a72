//! Fresh memory: mapped for one instance and unmapped with it.
//!
//! For whatever has no slot: a second instance of a module beside one that lives on, a memory that the
//! engine fills by its segments, one with 64-bit addresses, a heap of garbage-collected objects. It
//! takes some system calls more than a [`Slot`](super::slot::Slot), and each page that is written is
//! faulted in.
#![allow(unsafe_code)]

use std::io;

use wasmtime::LinearMemory;

use super::image::Image;
use super::pages::{Access, Mapping, map_over, protect};

/// One memory of one instance.
#[derive(Debug)]
pub(super) struct FreshMemory {
    mapping: Mapping,
    guard: usize,
    size: usize,
    capacity: usize,
}

impl FreshMemory {
    /// A memory of `size` bytes that can grow to `capacity`, with `guard` bytes on both sides: what
    /// `image` has, and zeros.
    ///
    /// # Errors
    /// The system's, where it has no address space or no memory.
    pub(super) fn new(
        size: usize,
        capacity: usize,
        guard: usize,
        image: Option<&Image>,
    ) -> io::Result<Self> {
        let bytes = capacity.checked_add(2 * guard).ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = Self { mapping: Mapping::reserve(bytes)?, guard, size, capacity };
        let base = memory.mapping.at(guard);
        match image {
            // SAFETY: within the new mapping, which nobody else knows.
            Some(image) => image
                .pieces(0..size)
                .try_for_each(|piece| unsafe { piece.map(base, Access::Write) })?,
            None if size == 0 => {}
            // SAFETY: the same.
            None => unsafe { map_over(base, &(0..size), None, Access::Write) }?,
        }
        Ok(memory)
    }
}

// SAFETY: page aligned, as the engine's sizes are; what lies behind its size has no access, to the end
// of the guard. It never moves.
unsafe impl LinearMemory for FreshMemory {
    fn byte_size(&self) -> usize {
        self.size
    }

    fn byte_capacity(&self) -> usize {
        self.capacity
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        if size > self.capacity {
            return Err(wasmtime::Error::msg("a memory grows beyond its reservation"));
        }
        // SAFETY: within its mapping, and nobody could refer to what had no access.
        unsafe { protect(self.mapping.at(self.guard), &(self.size..size), Access::Write) }?;
        self.size = size;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.mapping.at(self.guard)
    }
}

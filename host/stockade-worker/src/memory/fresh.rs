//! Fresh memory: mapped for one instance, in a place that is lent to it, and unmapped with it.
//!
//! For memories without a slot: of a second instance of a module whose first lives on, a memory
//! that the engine fills by its segments, one with 64-bit addresses, a heap of garbage-collected
//! objects. It takes some system calls more than a [`MemorySlot`](super::slot::MemorySlot), and each page that
//! is written is faulted in.
#![allow(unsafe_code)]

use std::io;

use wasmtime::LinearMemory;

use super::arena::Place;
use super::image::Image;
use super::pages::{Access, map_over, out_of_memory, protect};

/// One memory of one instance.
#[derive(Debug)]
pub(super) struct FreshMemory {
    place: Place,
    size: usize,
    capacity: usize,
}

impl FreshMemory {
    /// A memory of `size` bytes that can grow to `capacity`, in `place`: what `image` has, and zeros.
    ///
    /// # Errors
    /// The system's, where it has no memory.
    pub(super) fn new(
        place: Place,
        size: usize,
        capacity: usize,
        image: Option<&Image>,
    ) -> io::Result<Self> {
        let memory = Self { place, size, capacity };
        let base = memory.place.base();
        if let Some(image) = image {
            // Readable first: see `map_over`.
            image.pieces(0..size).try_for_each(|piece| {
                // SAFETY: within the place, which nobody else has.
                unsafe { piece.map(base) }
            })?;
        }
        if size > 0 {
            // SAFETY: the same.
            unsafe { protect(base, &(0..size), Access::Write) }?;
        }
        Ok(memory)
    }
}

impl Drop for FreshMemory {
    fn drop(&mut self) {
        // All of it: a growth that failed may have made a part accessible.
        // SAFETY: within the place; the instance is gone, so nobody refers to it.
        let dropped =
            unsafe { map_over(self.place.base(), &(0..self.capacity), None, Access::None) };
        if dropped.is_err() {
            // The next to have the place would find what is there.
            out_of_memory();
        }
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
        // SAFETY: within the place, and nobody could refer to what had no access.
        unsafe { protect(self.place.base(), &(self.size..size), Access::Write) }?;
        self.size = size;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.place.base()
    }
}

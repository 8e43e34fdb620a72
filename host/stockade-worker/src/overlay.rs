//! Overlays: a task's input, mapped over its guest's own memory in place of a copy.
//!
//! ```text
//! ┌ image, copied on write ┬ rest of the initial memory ┬ grown ─────────────┐
//! └────────────────────────┴────────────────────────────┴────┬──────────┬────┘
//!                                        input_map(ptr, len) │ the file │ until the call's end
//!                                                            └──────────┘
//! ```
//!
//! Only over memory that the guest has grown since its start, because that has only anonymous
//! pages, which can be restored; the image is below it. A guest's memory never moves.
//!
//! Invariant: the anonymous pages are restored before the call's answer is sent, and before the
//! memory is reset, which zeroes only its own pages. A process that cannot restore them exits.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use stockade_abi::MAP_ALIGNMENT;
use stockade_wire::OUT_OF_MEMORY_EXIT_CODE;

use crate::failure::HostTrap;
use crate::guest::GuestState;
use crate::payload::{CallInput, FileInput};

/// Pages of a file in the place of a guest's own.
#[derive(Debug)]
pub(crate) struct Overlay {
    start: *mut u8,
    mapped_bytes: usize,
    /// Of the input, in the guest's memory.
    place: Range<usize>,
}

// SAFETY: an address; the memory there belongs to the owner of this value, in any thread.
unsafe impl Send for Overlay {}

/// Puts the call's input at `pointer` of `memory`, the memory of the guest whose state this is, if it
/// can be there. Returns whether it is.
///
/// # Errors
/// [`HostTrap::OutOfBounds`] where there is no such memory; or that the system does not map it.
pub(crate) fn map_input(
    memory: &mut [u8],
    state: &mut GuestState,
    pointer: u32,
    length: u32,
) -> wasmtime::Result<bool> {
    let (start, end) = (pointer as usize, pointer as usize + length as usize);
    let pages = memory.get_mut(start..end).ok_or(HostTrap::OutOfBounds { pointer, length })?;
    let CallInput::File(input) = &state.call.input else { return Ok(false) };
    let fits = pages.len() == input.bytes.next_multiple_of(MAP_ALIGNMENT);
    let is_grown = state.initial_bytes.is_some_and(|initial| start as u64 >= initial);
    let is_aligned = start.is_multiple_of(MAP_ALIGNMENT)
        && pages.as_ptr().addr().is_multiple_of(state.surroundings.page_bytes);
    if state.overlay.is_some() || pages.is_empty() || !fits || !is_grown || !is_aligned {
        return Ok(false);
    }
    let mapped_bytes = input.bytes.next_multiple_of(state.surroundings.page_bytes);
    if mapped_bytes > pages.len() {
        return Ok(false);
    }
    let addresses = pages.as_ptr().addr()..pages.as_ptr().addr() + mapped_bytes;
    if let Some(memories) = &state.memories
        && memories.admit_grown(&addresses).is_err()
    {
        return Ok(false);
    }
    let place = start..start + input.bytes;
    // From here on, so that a mapping that failed halfway is restored too.
    let overlay = Overlay { start: pages.as_mut_ptr(), mapped_bytes, place };
    overlay.map(input)?;
    state.overlay = Some(overlay);
    Ok(true)
}

impl Overlay {
    /// Where the input stands in the guest's memory.
    pub(crate) fn place(&self) -> Range<usize> {
        self.place.clone()
    }

    fn map(&self, input: &FileInput) -> io::Result<()> {
        // SAFETY: whole pages of the guest's memory, which is accessible there and holds nothing but
        // what the guest wrote: no reference to it is held here, and the engine holds none. It stays
        // where it is for as long as its store lives, which ends after `self`. The file is as long
        // and keeps its length.
        unsafe {
            rustix::mm::mmap(
                self.start.cast(),
                self.mapped_bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::FIXED | MapFlags::POPULATE,
                input.file.as_fd(),
                0,
            )
        }?;
        Ok(())
    }
}

impl Drop for Overlay {
    /// Puts anonymous pages back, all zero, as the engine had made them.
    fn drop(&mut self) {
        // SAFETY: as for `map`. The store of the memory still lives: a guest ends its calls before it
        // gives up its store, and a store drops its state before its memory.
        // Readable first: see `memory`'s `map_over`.
        let restored = unsafe {
            let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
            let (start, bytes) = (self.start.cast(), self.mapped_bytes);
            rustix::mm::mmap_anonymous(start, bytes, ProtFlags::READ, flags).and_then(|start| {
                rustix::mm::mprotect(start, bytes, MprotectFlags::READ | MprotectFlags::WRITE)
            })
        };
        if restored.is_err() {
            // The next task would see foreign data. The only possible reason is missing memory.
            std::process::exit(OUT_OF_MEMORY_EXIT_CODE);
        }
    }
}

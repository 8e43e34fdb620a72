//! Slots: one memory of a module, kept from instance to instance.
//!
//! ```text
//! guard │ image and zeros: read-only but for hot pages │ window │ grown, or no access │ guard
//!       0                                        minimum
//! ```
//!
//! Pages above the minimum have no access before they are grown. Those of the window, right above it,
//! are zeroed and keep their place when the instance ends: most guests that grow do it in every task,
//! by a little. What was grown beyond the window is dropped.
//!
//! Invariant: one instance at a time has the slot, and the next finds nothing of it.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stockade_wire::OUT_OF_MEMORY_EXIT_CODE;
use wasmtime::LinearMemory;

use super::hot::{Admission, HOT_PAGES_MAX, HotSet, Survey};
use super::image::Image;
use super::pages::{Access, Mapping, map_over, protect};
use super::{GUARD_BYTES, RESERVATION_BYTES};

/// How much of what was grown is zeroed and kept. To look through it takes 20 µs at most; a page that
/// is dropped instead takes about 1 µs when it is written next. The kernel does not count it as data
/// while it has no access, so it is small beside what a worker may have.
const WINDOW_BYTES: usize = 1 << 20;

/// Address space that a slot takes.
pub(super) const fn reserved_bytes() -> usize {
    (RESERVATION_BYTES + 2 * GUARD_BYTES) as usize
}

/// Where the instances of a module have one of its memories, one after the other.
#[derive(Debug)]
pub(super) struct Slot {
    mapping: Mapping,
    image: Arc<Image>,
    hot: HotSet,
    page_bytes: usize,
    is_taken: AtomicBool,
}

impl Slot {
    /// Reserves address space and maps `image` into it, for reading.
    ///
    /// # Errors
    /// The system's, where it has no address space.
    pub(super) fn new(image: Image) -> io::Result<Self> {
        let page_bytes = rustix::param::page_size();
        let slot = Self {
            mapping: Mapping::reserve(reserved_bytes())?,
            hot: HotSet::new(image.minimum_bytes.div_ceil(page_bytes)),
            image: Arc::new(image),
            page_bytes,
            is_taken: AtomicBool::new(false),
        };
        slot.map_image(0..slot.image.minimum_bytes)?;
        Ok(slot)
    }

    pub(super) fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// Leaves this slot its part of the hot pages of a process with so many slots.
    pub(super) fn share_hot_set(&self, slots: usize) {
        self.hot.limit(HOT_PAGES_MAX / slots.max(1));
    }

    /// Where grown pages are kept without access.
    pub(super) fn window(&self) -> Range<usize> {
        let start = self.base().addr() + self.image.minimum_bytes;
        let end = self.base().addr() + RESERVATION_BYTES as usize;
        start..end.min(start + WINDOW_BYTES)
    }

    fn base(&self) -> *mut u8 {
        self.mapping.at(GUARD_BYTES as usize)
    }

    /// Makes the page at `address` writable, if it is one that was not yet. In a handler of a signal.
    pub(super) fn admit_write(&self, address: usize) -> bool {
        let place = address.wrapping_sub(self.base().addr());
        if place >= self.image.minimum_bytes {
            return false;
        }
        let admission = self.hot.admission(place / self.page_bytes);
        let pages = match &admission {
            Admission::Refused => return false,
            Admission::Page(page) => *page..page + 1,
            Admission::Block(pages) => pages.clone(),
        };
        if self.make_writable(pages).is_ok() {
            self.hot.admit(&admission);
            return true;
        }
        // The system has no mapping more for a page of its own; one for all needs none.
        if self.make_writable(0..self.pages()).is_ok() {
            self.hot.admit_all();
            return true;
        }
        out_of_memory()
    }

    fn pages(&self) -> usize {
        self.image.minimum_bytes.div_ceil(self.page_bytes)
    }

    /// The bytes of some pages.
    fn place_of(&self, pages: Range<usize>) -> Range<usize> {
        pages.start * self.page_bytes..self.image.minimum_bytes.min(pages.end * self.page_bytes)
    }

    fn make_writable(&self, pages: Range<usize>) -> io::Result<()> {
        // SAFETY: below the minimum, so within the mapping.
        unsafe { protect(self.base(), &self.place_of(pages), Access::Write) }
    }

    fn map_image(&self, place: Range<usize>) -> io::Result<()> {
        // SAFETY: below the minimum, so within the mapping; between two instances, so that nobody
        // refers to it.
        self.image
            .pieces(place)
            .try_for_each(|piece| unsafe { piece.map(self.base(), Access::Read) })
    }

    /// Makes the memory, of which an instance has left `size` bytes, as it was.
    fn reset(&self, size: usize) {
        if self.take_back_growth(size).is_err() {
            out_of_memory();
        }
        self.hot.end(
            |pages| {
                if self.map_image(self.place_of(pages)).is_err() {
                    out_of_memory();
                }
            },
            |page, survey| self.copy_back(self.place_of(page..page + 1), survey),
        );
    }

    fn take_back_growth(&self, size: usize) -> io::Result<()> {
        let minimum = self.image.minimum_bytes;
        if size <= minimum {
            return Ok(());
        }
        let window_end = self.window().end - self.base().addr();
        let kept = minimum..size.min(window_end);
        // SAFETY: the instance had access to it, and is gone.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(self.base().add(kept.start), kept.len()) };
        bytes
            .chunks_mut(self.page_bytes)
            .filter(|page| !is_zero(page))
            .for_each(|page| page.fill(0));
        // SAFETY: within the mapping, and nobody refers to it any more.
        unsafe {
            protect(self.base(), &kept, Access::None)?;
            if size > window_end {
                map_over(self.base(), &(window_end..size), None, Access::None)?;
            }
        }
        Ok(())
    }

    /// Copies a hot page back. Says whether it had changed, or that it might have.
    fn copy_back(&self, place: Range<usize>, survey: Survey) -> bool {
        for piece in self.image.pieces(place) {
            // SAFETY: a hot page, so it is writable; the instance is gone, so nobody refers to it.
            let now = unsafe {
                std::slice::from_raw_parts_mut(
                    self.base().add(piece.place.start),
                    piece.place.len(),
                )
            };
            match piece.bytes() {
                Some(bytes) if survey == Survey::Yes && now == bytes => return false,
                Some(bytes) => now.copy_from_slice(bytes),
                None if survey == Survey::Yes && is_zero(now) => return false,
                None => now.fill(0),
            }
        }
        true
    }
}

/// Whether all is zero. In pieces that the compiler makes vectors of.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(256).all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Ends this process, where the system has no memory for what must be. It calls nothing that a handler
/// of a signal may not call.
fn out_of_memory() -> ! {
    // SAFETY: ends this process and no other.
    unsafe { libc::_exit(OUT_OF_MEMORY_EXIT_CODE) }
}

/// The memory of an instance that has a slot.
#[derive(Debug)]
pub(super) struct SlotMemory {
    slot: Arc<Slot>,
    size: usize,
}

impl SlotMemory {
    /// Takes `slot`, unless another instance has it.
    pub(super) fn take(slot: &Arc<Slot>) -> Option<Self> {
        // Acquires what the last instance's thread did to it.
        let was_taken = slot.is_taken.swap(true, Ordering::Acquire);
        (!was_taken).then(|| Self { slot: Arc::clone(slot), size: slot.image.minimum_bytes })
    }
}

impl Drop for SlotMemory {
    fn drop(&mut self) {
        self.slot.reset(self.size);
        self.slot.is_taken.store(false, Ordering::Release);
    }
}

// SAFETY: page aligned, as long as it says, reserved to the end of the guard and never moved. Pages of
// it that are protected are made writable when they are written, see `ModuleMemories::watch`.
unsafe impl LinearMemory for SlotMemory {
    fn byte_size(&self) -> usize {
        self.size
    }

    fn byte_capacity(&self) -> usize {
        RESERVATION_BYTES as usize
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        if size > self.byte_capacity() {
            return Err(wasmtime::Error::msg("a memory grows beyond its reservation"));
        }
        // SAFETY: within the mapping; nobody could refer to what had no access.
        unsafe { protect(self.slot.base(), &(self.size..size), Access::Write) }?;
        self.size = size;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.slot.base()
    }
}

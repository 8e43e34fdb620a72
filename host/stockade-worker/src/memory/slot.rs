//! Slots: one memory of a module, kept from instance to instance.
//!
//! ```text
//! guard │ image and zeros: read-only but for hot pages │ window │ grown, or no access │ guard
//!       0                                        minimum
//! ```
//!
//! Pages above the minimum have no access before they are grown. Those of the window, right above it,
//! keep their place when the instance ends, and those among them that guests write are zeroed: most
//! guests that grow do it in every task, by a little. What was grown beyond the window is dropped.
//!
//! Invariant: one instance at a time has the slot, and the next finds nothing of it.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use wasmtime::LinearMemory;

use super::RESERVATION_BYTES;
use super::arena::Place;
use super::grown::GrownSet;
use super::hot::{Admission, HOT_PAGES_MAX, HotSet, LOOSE_BLOCKS_MAX, Survey};
use super::image::Image;
use super::pages::{Access, map_over, out_of_memory, protect};
use crate::lockdown::Space;

/// How much of what was grown is kept, where anything is. To zero and to protect all of it takes some 100 µs; a page that
/// is dropped instead takes about 1 µs when it is written next. The kernel does not count it as data
/// while it has no access, so it is small compared with what a worker may have.
pub(crate) const WINDOW_BYTES: usize = Space::WINDOW_BYTES_MAX;

/// Of a window, what becomes known together: a fault and a system call take as long as to zero some
/// pages.
const BLOCK_BYTES: usize = 16 << 10;

/// Where the instances of a module have one of its memories, one after the other.
#[derive(Debug)]
pub(super) struct MemorySlot {
    place: Place,
    image: Arc<Image>,
    window_bytes: usize,
    hot: HotSet,
    grown: GrownSet,
    /// Bytes that the instance has, which has the slot.
    size: AtomicUsize,
    page_bytes: usize,
    block_bytes: usize,
    is_taken: AtomicBool,
    /// Has the system refuse to change single pages, as it does where it has no mapping more.
    #[cfg(test)]
    is_refused: AtomicBool,
}

impl MemorySlot {
    /// Maps `image` into `place`, for reading. What is grown is dropped where nothing of it `is_kept`.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(place: Place, image: Image, is_kept: bool) -> io::Result<Self> {
        let page_bytes = rustix::param::page_size();
        let slot = Self {
            place,
            window_bytes: if is_kept { WINDOW_BYTES } else { 0 },
            hot: HotSet::new(image.minimum_bytes.div_ceil(page_bytes)),
            grown: GrownSet::new(WINDOW_BYTES / BLOCK_BYTES),
            size: AtomicUsize::new(image.minimum_bytes),
            image: Arc::new(image),
            page_bytes,
            block_bytes: BLOCK_BYTES.max(page_bytes),
            is_taken: AtomicBool::new(false),
            #[cfg(test)]
            is_refused: AtomicBool::new(false),
        };
        slot.map_image(0..slot.image.minimum_bytes)?;
        Ok(slot)
    }

    pub(super) fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// Leaves this slot its part of the hot pages of a process with so many slots.
    pub(super) fn share_hot_set(&self, slots: usize) {
        let slots = slots.max(1);
        self.hot.limit(HOT_PAGES_MAX / slots, LOOSE_BLOCKS_MAX / slots);
    }

    /// Where grown pages are kept without access.
    pub(super) fn window(&self) -> Range<usize> {
        let start = self.base().addr() + self.image.minimum_bytes;
        let end = self.base().addr() + RESERVATION_BYTES as usize;
        start..end.min(start + self.window_bytes)
    }

    fn base(&self) -> *mut u8 {
        self.place.base()
    }

    /// Makes the page at `address` writable, if the instance has it and it was not yet. In a handler of
    /// a signal.
    pub(super) fn admit_write(&self, address: usize) -> bool {
        let place = address.wrapping_sub(self.base().addr());
        if place >= self.size.load(Ordering::Relaxed) {
            return false;
        }
        match place.checked_sub(self.image.minimum_bytes) {
            None => self.admit_page(place),
            Some(beyond) => self.admit_grown(beyond / self.block_bytes),
        }
    }

    fn admit_page(&self, place: usize) -> bool {
        let admission = self.hot.admission(place / self.page_bytes);
        let pages = match &admission {
            Admission::Refused => return false,
            Admission::Page(page) => *page..page + 1,
            Admission::Block(pages) => pages.clone(),
            Admission::All => return self.open(),
        };
        if self.make_writable(pages).is_ok() {
            self.hot.admit(&admission);
            return true;
        }
        self.open()
    }

    /// Makes all that the instance has writable, where the system has no mapping more for pages of their
    /// own: one mapping for all needs none.
    fn open(&self) -> bool {
        let size = self.size.load(Ordering::Relaxed);
        // SAFETY: the instance has it, so it is within the place.
        if unsafe { protect(self.base(), &(0..size), Access::Write) }.is_err() {
            out_of_memory();
        }
        self.hot.admit_all();
        (0..self.blocks_of(size)).for_each(|block| self.grown.admit(block));
        true
    }

    fn admit_grown(&self, block: usize) -> bool {
        if self.grown.is_known(block) || block * self.block_bytes >= self.window_bytes {
            return false;
        }
        if self.protect_blocks(block..block + 1, Access::Write).is_ok() {
            self.grown.admit(block);
            return true;
        }
        self.open()
    }

    /// Makes the blocks of the window that `addresses` are in writable, because what is mapped there and
    /// taken away again leaves pages that are.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn admit_grown_at(&self, addresses: &Range<usize>) -> io::Result<()> {
        let start = self.base().addr() + self.image.minimum_bytes;
        let blocks = self.blocks_of(self.size.load(Ordering::Relaxed));
        let first = addresses.start.saturating_sub(start) / self.block_bytes;
        let end = addresses.end.saturating_sub(start).div_ceil(self.block_bytes);
        for block in first..end.min(blocks) {
            if !self.grown.is_known(block) {
                self.protect_blocks(block..block + 1, Access::Write)?;
                self.grown.admit(block);
            }
        }
        Ok(())
    }

    /// Blocks of the window that a memory of `size` bytes has.
    fn blocks_of(&self, size: usize) -> usize {
        (size - self.image.minimum_bytes).min(self.window_bytes) / self.block_bytes
    }

    fn protect_blocks(&self, blocks: Range<usize>, access: Access) -> io::Result<()> {
        #[cfg(test)]
        if self.is_refused.load(Ordering::Relaxed) && blocks.len() == 1 {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        // SAFETY: of the window, so within the place. Nobody refers to what has no access yet, and to
        // what loses it only the instance did, which is gone.
        unsafe { protect(self.base(), &self.place_of_blocks(blocks), access) }
    }

    /// The bytes of some blocks of the window.
    fn place_of_blocks(&self, blocks: Range<usize>) -> Range<usize> {
        let at = |block| self.image.minimum_bytes + block * self.block_bytes;
        at(blocks.start)..at(blocks.end)
    }

    /// Makes the memory so many bytes long.
    ///
    /// # Errors
    /// The system's; the memory is as long as it was then.
    fn grow(&self, size: usize) -> io::Result<()> {
        let old = self.size.load(Ordering::Relaxed);
        let shown = self.show(old, size);
        if shown.is_ok() {
            self.size.store(size, Ordering::Relaxed);
        } else {
            // A part of it may have access already, which neither this guest nor the next may have.
            // SAFETY: within the place; a guest that knew of it was never told that it is there.
            let hidden = unsafe { map_over(self.base(), &(old..size), None, Access::None) };
            if hidden.is_err() {
                out_of_memory();
            }
        }
        shown
    }

    /// Gives access to what is between two sizes.
    fn show(&self, old: usize, size: usize) -> io::Result<()> {
        for (blocks, is_known) in self.grown.runs(self.blocks_of(old)..self.blocks_of(size)) {
            match is_known {
                true => self.protect_blocks(blocks, Access::Write)?,
                // Mapped anew: a locked down process makes no memory readable that it had hidden.
                // SAFETY: of the window, so within the place; nobody refers to what has no access, and
                // nothing is in it but zeros.
                false => unsafe {
                    map_over(self.base(), &self.place_of_blocks(blocks), None, Access::Read)?;
                },
            }
        }
        let beyond = old.max(self.image.minimum_bytes + self.window_bytes)..size;
        if !beyond.is_empty() {
            // SAFETY: within the place; nobody refers to what has no access.
            unsafe { protect(self.base(), &beyond, Access::Write) }?;
        }
        Ok(())
    }

    /// The bytes of some pages.
    fn place_of(&self, pages: Range<usize>) -> Range<usize> {
        pages.start * self.page_bytes..self.image.minimum_bytes.min(pages.end * self.page_bytes)
    }

    fn make_writable(&self, pages: Range<usize>) -> io::Result<()> {
        #[cfg(test)]
        if self.is_refused.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        // SAFETY: below the minimum, so within the place.
        unsafe { protect(self.base(), &self.place_of(pages), Access::Write) }
    }

    fn map_image(&self, place: Range<usize>) -> io::Result<()> {
        // SAFETY: below the minimum, so within the place; between two instances, so that nobody
        // refers to it.
        self.image.pieces(place).try_for_each(|piece| unsafe { piece.map(self.base()) })
    }

    /// Resets the memory.
    fn reset(&self) {
        let size = self.size.swap(self.image.minimum_bytes, Ordering::Relaxed);
        if size > self.image.minimum_bytes && self.take_back_growth(size).is_err() {
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
        let blocks = self.blocks_of(size);
        let window = self.image.minimum_bytes;
        self.grown.end(blocks, |block| {
            // SAFETY: a known block, so it is writable; the instance is gone, so nobody refers to it.
            let bytes = unsafe {
                let start = self.base().add(window + block * self.block_bytes);
                std::slice::from_raw_parts_mut(start, self.block_bytes)
            };
            let pages = bytes.chunks_mut(self.page_bytes).filter(|page| !is_zero(page));
            pages.map(|page| page.fill(0)).count() > 0
        });
        if blocks > 0 {
            self.protect_blocks(0..blocks, Access::None)?;
        }
        let beyond = window + self.window_bytes..size;
        if !beyond.is_empty() {
            // SAFETY: within the place, and nobody refers to it any more.
            unsafe { map_over(self.base(), &beyond, None, Access::None) }?;
        }
        Ok(())
    }

    /// Copies a hot page back. Returns whether it had changed, or that it might have.
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

/// Whether all is zero: the first byte is, and each is as the next. A comparison of slices is the C
/// library's, which is as fast as memory, also where this crate is built without optimisation.
fn is_zero(bytes: &[u8]) -> bool {
    match bytes {
        [] => true,
        [first, rest @ ..] => *first == 0 && bytes[..rest.len()] == *rest,
    }
}

/// The memory of an instance that has a slot.
#[derive(Debug)]
pub(super) struct SlotMemory(Arc<MemorySlot>);

impl SlotMemory {
    /// Takes `slot`, unless another instance has it.
    pub(super) fn take(slot: &Arc<MemorySlot>) -> Option<Self> {
        // Acquires what the last instance's thread did to it.
        let was_taken = slot.is_taken.swap(true, Ordering::Acquire);
        (!was_taken).then(|| Self(Arc::clone(slot)))
    }
}

impl Drop for SlotMemory {
    fn drop(&mut self) {
        self.0.reset();
        self.0.is_taken.store(false, Ordering::Release);
    }
}

// SAFETY: page aligned, as long as it says, reserved to the end of the guard and never moved. Pages of
// it that are protected are made writable when they are written, see `ModuleMemories::watch`.
unsafe impl LinearMemory for SlotMemory {
    fn byte_size(&self) -> usize {
        self.0.size.load(Ordering::Relaxed)
    }

    fn byte_capacity(&self) -> usize {
        RESERVATION_BYTES as usize
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        if size > self.byte_capacity() {
            return Err(wasmtime::Error::msg("a memory grows beyond its reservation"));
        }
        Ok(self.0.grow(size)?)
    }

    fn as_ptr(&self) -> *mut u8 {
        self.0.base()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use stockade_wire::descriptor::sealed_file;

    use super::super::arena::Arena;
    use super::super::hot::BLOCK_PAGES;
    use super::super::image::{Contents, GRANULE_BYTES, Images, append};
    use super::*;

    const GRANULE: usize = GRANULE_BYTES as usize;

    /// A slot of so many granules, of which those that `filled` names hold their number.
    fn slot(granules: usize, filled: &[u64]) -> Arc<MemorySlot> {
        slot_that_keeps(granules, filled, true)
    }

    fn slot_that_keeps(granules: usize, filled: &[u64], is_kept: bool) -> Arc<MemorySlot> {
        let contents = filled.iter().map(|number| (*number, vec![*number as u8 + 1; GRANULE]));
        let minimum_bytes = (granules * GRANULE) as u64;
        let contents = Contents { minimum_bytes, granules: Some(contents.collect()) };
        let mut artefact = b"code".to_vec();
        append(&mut artefact, &[contents]);
        let file: Arc<File> = Arc::new(sealed_file("artefact", &artefact).unwrap());
        let read = Images::read(&file).unwrap().0.remove(0);
        let image = Image::new(file, read.runs.unwrap(), read.minimum_bytes).unwrap();
        let place = Arena::new(1).unwrap().take().unwrap();
        Arc::new(MemorySlot::new(place, image, is_kept).unwrap())
    }

    impl SlotMemory {
        fn bytes(&self) -> &[u8] {
            // SAFETY: all of it can be read, and only tests write to it, through `write`.
            unsafe { std::slice::from_raw_parts(self.as_ptr(), self.byte_size()) }
        }

        /// Writes a byte, as a guest would whose first write to a page faults.
        fn write(&self, at: usize) {
            let address = self.as_ptr().wrapping_add(at);
            self.0.admit_write(address.addr());
            // SAFETY: within the memory and writable.
            unsafe { address.write_volatile(0xee) };
        }
    }

    #[track_caller]
    fn assert_pristine(slot: &Arc<MemorySlot>, filled: &[u64]) {
        let memory = SlotMemory::take(slot).expect("nobody has it");
        for (number, granule) in (0..).zip(memory.bytes().chunks(GRANULE)) {
            let expected = if filled.contains(&number) { number as u8 + 1 } else { 0 };
            assert!(granule.iter().all(|byte| *byte == expected), "granule {number}");
        }
    }

    #[test]
    fn what_was_written_is_put_back_from_the_image_or_to_zeros() {
        let filled = [1, 2, 5];
        let slot = slot(8, &filled);
        for at in [0, GRANULE - 1, GRANULE, 3 * GRANULE - 1, 3 * GRANULE, 8 * GRANULE - 1] {
            for _ in 0..10 {
                SlotMemory::take(&slot).unwrap().write(at);
                assert_pristine(&slot, &filled);
            }
        }
    }

    #[test]
    fn more_pages_than_may_be_hot_are_put_back_too() {
        for (blocks, kept) in [(LOOSE_BLOCKS_MAX, 3), (2, 0)] {
            let slot = slot(64, &[0, 63]);
            slot.hot.limit(3, blocks);
            for _ in 0..10 {
                let mut memory = SlotMemory::take(&slot).unwrap();
                memory.grow_to(66 * GRANULE).unwrap();
                (0..66 * GRANULE).step_by(slot.page_bytes).for_each(|at| memory.write(at));
                assert!(memory.bytes().iter().step_by(slot.page_bytes).all(|byte| *byte == 0xee));
                drop(memory);
                assert_eq!(slot.hot.count(), kept);
                assert_pristine(&slot, &[0, 63]);
            }
        }
    }

    #[test]
    fn where_the_system_has_no_mapping_for_single_pages_all_are_put_back() {
        let slot = slot(2 * BLOCK_PAGES, &[1]);
        let memory = SlotMemory::take(&slot).unwrap();
        memory.write(5);
        slot.is_refused.store(true, Ordering::Relaxed);
        memory.write(GRANULE + 5);
        // They are writable now.
        (0..2 * GRANULE).for_each(|at| memory.write(at));
        drop(memory);
        assert_pristine(&slot, &[1]);
        let mut memory = SlotMemory::take(&slot).unwrap();
        memory.grow_to(memory.byte_size() + 2 * GRANULE).unwrap();
        (0..memory.byte_size()).step_by(1000).for_each(|at| memory.write(at));
        drop(memory);
        assert_pristine(&slot, &[1]);
        slot.is_refused.store(false, Ordering::Relaxed);
        SlotMemory::take(&slot).unwrap().write(5);
        assert_pristine(&slot, &[1]);
    }

    #[test]
    fn grown_memory_is_empty_and_out_of_reach_for_the_next() {
        for is_kept in [true, false] {
            grow_and_look(&slot_that_keeps(1, &[0], is_kept));
        }
    }

    fn grow_and_look(slot: &Arc<MemorySlot>) {
        let window = WINDOW_BYTES / GRANULE;
        for pages in [1, 2, window, window + 1, 3 * window, 1] {
            let mut memory = SlotMemory::take(slot).unwrap();
            for size in 2..=pages + 1 {
                memory.grow_to(size * GRANULE).unwrap();
            }
            assert!(memory.bytes()[GRANULE..].iter().all(|byte| *byte == 0), "{pages}");
            (GRANULE..memory.byte_size()).step_by(1000).for_each(|at| memory.write(at));
            drop(memory);
            assert_pristine(slot, &[0]);
            let window = slot.window().start - slot.base().addr();
            for at in [window, window + WINDOW_BYTES - 1, pages * GRANULE] {
                assert!(!is_readable(slot.base().wrapping_add(at)), "{pages} {at}");
            }
        }
    }

    #[test]
    fn a_growth_that_fails_halfway_leaves_no_access() {
        let slot = slot(1, &[0]);
        let mut memory = SlotMemory::take(&slot).unwrap();
        memory.grow_to(2 * GRANULE).unwrap();
        // The second block is known from now on, and the first is not.
        memory.write(GRANULE + BLOCK_BYTES);
        drop(memory);
        let mut memory = SlotMemory::take(&slot).unwrap();
        slot.is_refused.store(true, Ordering::Relaxed);
        assert!(memory.grow_to(2 * GRANULE).is_err());
        assert_eq!(memory.byte_size(), GRANULE);
        for at in [GRANULE, GRANULE + BLOCK_BYTES, 2 * GRANULE - 1] {
            assert!(!is_readable(slot.base().wrapping_add(at)), "{at}");
        }
        slot.is_refused.store(false, Ordering::Relaxed);
        memory.grow_to(2 * GRANULE).unwrap();
        assert!(memory.bytes()[GRANULE..].iter().all(|byte| *byte == 0));
        memory.write(2 * GRANULE - 1);
        drop(memory);
        assert_pristine(&slot, &[0]);
    }

    /// Whether the kernel can read a byte there.
    fn is_readable(at: *const u8) -> bool {
        let (_reader, writer) = io::pipe().unwrap();
        // SAFETY: the kernel copies the byte, or says that it cannot.
        unsafe { libc::write(std::os::fd::AsRawFd::as_raw_fd(&writer), at.cast(), 1) == 1 }
    }

    #[test]
    fn a_slot_is_one_instances_at_a_time() {
        let slot = slot(1, &[]);
        let memory = SlotMemory::take(&slot).unwrap();
        assert!(SlotMemory::take(&slot).is_none());
        drop(memory);
        assert!(SlotMemory::take(&slot).is_some());
    }

    #[test]
    fn an_address_outside_of_what_was_there_first_is_not_admitted() {
        let slot = slot(1, &[]);
        let mut memory = SlotMemory::take(&slot).unwrap();
        memory.grow_to(2 * GRANULE).unwrap();
        let base = slot.base().addr();
        for address in [0, base - 1, base + 2 * GRANULE, usize::MAX] {
            assert!(!slot.admit_write(address), "{address:#x}");
        }
        assert!(slot.admit_write(base + GRANULE) && !slot.admit_write(base + GRANULE));
        assert!(slot.admit_write(base + 2 * GRANULE - 1));
        assert!(slot.admit_write(base) && !slot.admit_write(base + 1), "the page is writable");
        assert!(slot.admit_write(base + GRANULE - 1));
    }
}

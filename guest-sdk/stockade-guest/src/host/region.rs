//! The region: memory for long inputs, where the host can map them without a copy.
//!
//! Grown at the end of the memory, where the host may put them, and kept for the next call of the same
//! instance. No allocator uses it.
//!
//! Invariant: it is lent to one input at a time.
#![allow(unsafe_code)]

use core::arch::wasm32;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;
use stockade_abi::MAP_ALIGNMENT;

use super::imports;

/// Where it begins, and its length: whole pages, and none of both while it is lent.
static REGION: Mutex<(usize, usize)> = Mutex::new((0, 0));

/// The input of this call, in the region.
pub(crate) struct Region {
    start: usize,
    room: usize,
    length: usize,
}

impl Region {
    /// Takes an input of `length` bytes there, `None` if there is no such memory.
    pub(crate) fn take_input(length: usize) -> Option<Self> {
        let room = length.checked_next_multiple_of(MAP_ALIGNMENT)?;
        let (mut start, mut there) = std::mem::take(&mut *REGION.lock().ok()?);
        if there < room {
            let before = wasm32::memory_grow::<0>(room / MAP_ALIGNMENT);
            if before == usize::MAX {
                return None;
            }
            (start, there) = (before * MAP_ALIGNMENT, room);
        }
        let mut region = Self { start, room: there, length };
        if !imports::input_map(region.bytes(room)) {
            imports::input_read(&mut region, 0);
        }
        Some(region)
    }

    fn bytes(&mut self, length: usize) -> &mut [u8] {
        // SAFETY: memory that `memory_grow` gave, at least as much, zero or written since; it is this
        // value's alone, as it was taken out of `REGION`.
        unsafe { std::slice::from_raw_parts_mut(self.start as *mut u8, length) }
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as for `bytes`.
        unsafe { std::slice::from_raw_parts(self.start as *const u8, self.length) }
    }
}

impl DerefMut for Region {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes(self.length)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Ok(mut region) = REGION.lock() {
            *region = (self.start, self.room);
        }
    }
}

//! The arena: all address space for guests' memories, reserved before the process is locked down.
//!
//! ```text
//! guard │ place: 4 GiB │ guard │ place: 4 GiB │ guard │ …        no access, until a memory is there
//! ```
//!
//! A place belongs to one memory permanently, or is lent to one instance after another. Beyond the
//! arena a locked down worker reserves no address space: see [`Space`](crate::lockdown::Space).

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::pages::Mapping;
use super::{GUARD_BYTES, RESERVATION_BYTES};

/// From the beginning of one place to that of the next.
const STRIDE_BYTES: usize = (RESERVATION_BYTES + GUARD_BYTES) as usize;

/// The arena of a process.
#[derive(Debug)]
pub(super) struct Arena {
    mapping: Mapping,
    places: usize,
    state: Mutex<ArenaState>,
}

#[derive(Debug, Default)]
struct ArenaState {
    /// The first place that nobody ever had.
    unused: usize,
    /// Those that are lent to instances and back.
    idle: Vec<usize>,
}

/// A place for one memory, all of it without access. Where it was lent, it goes back when it is dropped;
/// nothing may be mapped there any more then.
#[derive(Debug)]
pub(super) struct Place {
    arena: Arc<Arena>,
    number: usize,
    is_lent: bool,
}

impl Arena {
    /// Reserves so many places.
    ///
    /// # Errors
    /// The system's, where it has no address space for this process.
    pub(super) fn new(places: usize) -> io::Result<Arc<Self>> {
        let mapping = Mapping::reserve(Self::bytes(places))?;
        Ok(Arc::new(Self { mapping, places, state: Mutex::default() }))
    }

    /// Address space that so many places take.
    pub(super) fn bytes(places: usize) -> usize {
        places.saturating_mul(STRIDE_BYTES).saturating_add(GUARD_BYTES as usize)
    }

    /// Takes a place for good.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.state();
        let number = (state.unused < self.places).then_some(state.unused)?;
        state.unused += 1;
        Some(Place { arena: Arc::clone(self), number, is_lent: false })
    }

    /// Has one place more to lend. False where there is none left.
    pub(super) fn add_lent(self: &Arc<Self>) -> bool {
        let mut state = self.state();
        let is_left = state.unused < self.places;
        if is_left {
            let number = state.unused;
            state.idle.push(number);
            state.unused += 1;
        }
        is_left
    }

    /// Lends a place that nobody has.
    pub(super) fn lend(self: &Arc<Self>) -> Option<Place> {
        let number = self.state().idle.pop()?;
        Some(Place { arena: Arc::clone(self), number, is_lent: true })
    }

    /// All addresses of it.
    pub(super) fn addresses(&self) -> Range<usize> {
        let start = self.mapping.at(0).addr();
        start..start + Self::bytes(self.places)
    }

    fn state(&self) -> MutexGuard<'_, ArenaState> {
        // No code that holds the lock can panic halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Where its memory begins.
    pub(super) fn base(&self) -> *mut u8 {
        self.arena.mapping.at(GUARD_BYTES as usize + self.number * STRIDE_BYTES)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_lent {
            self.arena.state().idle.push(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_apart_by_a_guard_and_within_the_arena() {
        let arena = Arena::new(2).unwrap();
        let (first, second) = (arena.take().unwrap(), arena.take().unwrap());
        let guard = GUARD_BYTES as usize;
        let (start, end) = (arena.addresses().start, arena.addresses().end);
        assert_eq!(first.base().addr(), start + guard);
        assert_eq!(second.base().addr() - first.base().addr(), STRIDE_BYTES);
        assert_eq!(second.base().addr() + STRIDE_BYTES, end);
        assert!(arena.take().is_none() && !arena.add_lent());
    }

    #[test]
    fn a_place_that_is_lent_comes_back_and_one_that_is_taken_does_not() {
        let arena = Arena::new(2).unwrap();
        drop(arena.take().unwrap());
        assert!(arena.add_lent());
        let base = arena.lend().unwrap().base();
        let lent = arena.lend().unwrap();
        assert_eq!(lent.base(), base);
        assert!(arena.lend().is_none());
    }
}

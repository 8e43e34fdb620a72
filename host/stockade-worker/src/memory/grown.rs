//! Grown pages: which blocks of a memory's window are written after they were grown.
//!
//! | a block is | when it is grown | when the instance ends |
//! |---|---|---|
//! | unknown | readable; the first write makes it known | it is zero: nobody could write to it |
//! | known | writable | it is zeroed where it is not zero |
//!
//! To make pages inaccessible and accessible again costs by the page that is present, about as much as to
//! zero it. So pages that no guest writes are left alone: even to look at one makes it present.
//!
//! Everything is an atomic for the same reason as in [`hot`](super::hot), and system calls are the
//! [`slot`](super::slot)'s.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// After so many instances, one after the other, that left a known block zero it is unknown again.
const IDLE_ENDS: u8 = 8;

const UNKNOWN: u8 = 0;
/// Known, and not zero when the last instance ended; more is the number of those that left it zero.
const KNOWN: u8 = 1;

/// The blocks of a window, by their number.
#[derive(Debug)]
pub(super) struct GrownSet(Box<[AtomicU8]>);

impl GrownSet {
    /// As many blocks, all unknown.
    pub(super) fn new(blocks: usize) -> Self {
        Self((0..blocks).map(|_| AtomicU8::new(UNKNOWN)).collect())
    }

    /// Whether a block is known.
    pub(super) fn is_known(&self, block: usize) -> bool {
        self.0.get(block).is_some_and(|state| state.load(Relaxed) != UNKNOWN)
    }

    /// Makes a block known.
    pub(super) fn admit(&self, block: usize) {
        if let Some(state) = self.0.get(block) {
            state.store(KNOWN, Relaxed);
        }
    }

    /// Some blocks in runs, each with whether its blocks are known.
    pub(super) fn runs(&self, blocks: Range<usize>) -> impl Iterator<Item = (Range<usize>, bool)> {
        let mut at = blocks.start;
        std::iter::from_fn(move || {
            let start = at;
            let is_known = self.is_known(start);
            while at < blocks.end && self.is_known(at) == is_known {
                at += 1;
            }
            (start < at).then_some((start..at, is_known))
        })
    }

    /// Has the known ones among the first so many blocks zeroed by `zero`, which says whether a block was
    /// not zero.
    pub(super) fn end(&self, blocks: usize, mut zero: impl FnMut(usize) -> bool) {
        for (block, state) in self.0.iter().enumerate().take(blocks) {
            let idle = match state.load(Relaxed) {
                UNKNOWN => continue,
                known => known,
            };
            let next = match zero(block) {
                true => KNOWN,
                false if idle >= IDLE_ENDS => UNKNOWN,
                false => idle + 1,
            };
            state.store(next, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_unknown_blocks_come_in_runs() {
        let set = GrownSet::new(6);
        [1, 2, 5].into_iter().for_each(|block| set.admit(block));
        let runs = |blocks| set.runs(blocks).collect::<Vec<_>>();
        assert_eq!(runs(0..6), [(0..1, false), (1..3, true), (3..5, false), (5..6, true)]);
        assert_eq!(runs(2..3), [(2..3, true)]);
        assert_eq!(runs(3..3), []);
    }

    #[test]
    fn only_known_blocks_that_were_grown_are_zeroed() {
        let set = GrownSet::new(6);
        [1, 2, 5].into_iter().for_each(|block| set.admit(block));
        let mut zeroed = Vec::new();
        set.end(5, |block| {
            zeroed.push(block);
            true
        });
        assert_eq!(zeroed, [1, 2]);
    }

    #[test]
    fn a_block_that_is_left_zero_for_long_is_unknown_again() {
        let set = GrownSet::new(2);
        set.admit(0);
        set.admit(1);
        for _ in 0..IDLE_ENDS {
            assert!(set.is_known(0));
            set.end(2, |block| block == 1);
        }
        assert!(!set.is_known(0) && set.is_known(1));
    }
}

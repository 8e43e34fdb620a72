//! Hot pages: the writable pages of a memory, detected by the first write to each.
//!
//! | a page is | it is writable | when the instance ends |
//! |---|---|---|
//! | cold | no | nothing is done: it was not written |
//! | hot | yes, in later instances too | it is copied back from the image |
//! | loose, where there are too many hot ones, or all where there are too many loose blocks | yes | it is dropped, and cold |
//!
//! A hot page that no instance writes any more is cold again after some surveys: those compare each hot
//! page with its image before they copy it.
//!
//! The first half, admission, runs in a signal handler; the second runs when no guest runs. So all
//! fields are atomics; relaxed ordering suffices, since one thread at a time uses a memory.
//!
//! Deliberately absent: system calls. What is decided here is performed by the
//! [`slot`](super::slot).

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering::Relaxed};

/// The most hot pages of a process, in all its slots: 32 MiB of pages of 4 KiB. A hot page between cold
/// ones splits a mapping and so costs two more, and a process may have 65,530 (`vm.max_map_count`). Loose
/// blocks take as many again, and images 128 for each slot.
pub(super) const HOT_PAGES_MAX: usize = 8192;

/// The most loose blocks of a process. If a guest writes to more, all of its memory becomes
/// writable.
pub(super) const LOOSE_BLOCKS_MAX: usize = 8192;

/// Pages that become loose together. They are dropped by one system call, so only the fault is to be
/// saved, which costs some times what it takes the kernel to give one more page.
pub(super) const BLOCK_PAGES: usize = 64;

/// Every so many instances the hot pages are surveyed. A comparison costs as much as a copy.
const SURVEY_EVERY: u32 = 4;

/// In so many surveys, one after the other, a page must be unchanged to be cold again: a page that is
/// written by every fourth instance or more often stays hot. To heat one takes as long as about 40
/// copies.
const IDLE_SURVEYS: u8 = 2;

const COLD: u8 = 0;
const LOOSE: u8 = 1;
/// Hot, and changed since the last survey; more is the number of surveys that found it unchanged.
const HOT: u8 = 2;

/// The pages of one memory, by their number.
#[derive(Debug)]
pub(super) struct HotSet {
    states: Box<[AtomicU8]>,
    /// The hot ones.
    pages: Box<[AtomicU32]>,
    count: AtomicUsize,
    /// How many they may be; the process's share of this slot.
    limit: AtomicUsize,
    /// Blocks with loose pages, each by its number.
    blocks: Box<[AtomicU32]>,
    block_count: AtomicUsize,
    block_limit: AtomicUsize,
    /// Whether all pages were made writable at once.
    all_loose: AtomicBool,
    ended: AtomicU32,
}

/// What to do at the first write to a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It becomes hot.
    Page(usize),
    /// These become writable, of which the cold ones become loose.
    Block(Range<usize>),
    /// All pages become writable and are dropped in the end, see [`HotSet::admit_all`].
    All,
    /// It is writable already.
    Refused,
}

impl HotSet {
    /// As many pages, all cold.
    pub(super) fn new(pages: usize) -> Self {
        let zeros = |count| (0..count).map(|_| AtomicU32::new(0)).collect();
        Self {
            states: (0..pages).map(|_| AtomicU8::new(COLD)).collect(),
            pages: zeros(pages.min(HOT_PAGES_MAX)),
            count: AtomicUsize::new(0),
            limit: AtomicUsize::new(HOT_PAGES_MAX),
            blocks: zeros(pages.div_ceil(BLOCK_PAGES)),
            block_count: AtomicUsize::new(0),
            block_limit: AtomicUsize::new(LOOSE_BLOCKS_MAX),
            all_loose: AtomicBool::new(false),
            ended: AtomicU32::new(0),
        }
    }

    /// Allows so many hot pages and loose blocks; pages that are hot beyond it stay until they cool.
    pub(super) fn limit(&self, pages: usize, blocks: usize) {
        self.limit.store(pages, Relaxed);
        self.block_limit.store(blocks, Relaxed);
    }

    /// Hot pages at the moment.
    pub(super) fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Decides what to do about a faulting write to `page`.
    pub(super) fn admission(&self, page: usize) -> Admission {
        let is_cold = self.states.get(page).is_some_and(|state| state.load(Relaxed) == COLD);
        if !is_cold || self.all_loose.load(Relaxed) {
            return Admission::Refused;
        }
        let room = self.limit.load(Relaxed).min(self.pages.len());
        if self.count() < room {
            return Admission::Page(page);
        }
        if self.block_count.load(Relaxed) >= self.block_limit.load(Relaxed) {
            return Admission::All;
        }
        let first = page / BLOCK_PAGES * BLOCK_PAGES;
        Admission::Block(first..self.states.len().min(first + BLOCK_PAGES))
    }

    /// Records that the pages of an admission are writable.
    pub(super) fn admit(&self, admission: &Admission) {
        match admission {
            Admission::Page(page) => {
                let count = self.count();
                // There is room: it was asked for.
                if let Some(place) = self.pages.get(count) {
                    place.store(*page as u32, Relaxed);
                    self.states[*page].store(HOT, Relaxed);
                    self.count.store(count + 1, Relaxed);
                }
            }
            Admission::Block(pages) => {
                let count = self.block_count.load(Relaxed);
                if let Some(place) = self.blocks.get(count) {
                    place.store((pages.start / BLOCK_PAGES) as u32, Relaxed);
                    self.block_count.store(count + 1, Relaxed);
                }
                for state in &self.states[pages.clone()] {
                    let _ = state.compare_exchange(COLD, LOOSE, Relaxed, Relaxed);
                }
            }
            Admission::All => self.admit_all(),
            Admission::Refused => {}
        }
    }

    /// Records that every page is writable.
    pub(super) fn admit_all(&self) {
        self.all_loose.store(true, Relaxed);
    }

    /// Resets every page: `drop` discards some pages and protects them, `copy` copies a page back.
    /// If `copy` has to compare, it returns whether the page had changed.
    pub(super) fn end(
        &self,
        mut drop: impl FnMut(Range<usize>),
        mut copy: impl FnMut(usize, Survey) -> bool,
    ) {
        if self.all_loose.swap(false, Relaxed) {
            drop(0..self.states.len());
            self.states.iter().for_each(|state| state.store(COLD, Relaxed));
            self.count.store(0, Relaxed);
            self.block_count.store(0, Relaxed);
            return;
        }
        for block in &self.blocks[..self.block_count.swap(0, Relaxed)] {
            self.end_block(block.load(Relaxed) as usize * BLOCK_PAGES, &mut drop);
        }
        let ended = self.ended.load(Relaxed).wrapping_add(1);
        self.ended.store(ended, Relaxed);
        if ended.is_multiple_of(SURVEY_EVERY) {
            self.survey(drop, copy);
            return;
        }
        for page in &self.pages[..self.count()] {
            copy(page.load(Relaxed) as usize, Survey::No);
        }
    }

    /// Drops the loose pages of the block that begins with the page `first`.
    fn end_block(&self, first: usize, drop: &mut impl FnMut(Range<usize>)) {
        let states = &self.states[first..self.states.len().min(first + BLOCK_PAGES)];
        let mut at = first;
        for run in states.chunk_by(|a, b| (a.load(Relaxed) == LOOSE) == (b.load(Relaxed) == LOOSE))
        {
            if run[0].load(Relaxed) == LOOSE {
                drop(at..at + run.len());
                run.iter().for_each(|state| state.store(COLD, Relaxed));
            }
            at += run.len();
        }
    }

    /// Copies changed hot pages back, and cools pages that did not change for long enough.
    fn survey(
        &self,
        mut drop: impl FnMut(Range<usize>),
        mut copy: impl FnMut(usize, Survey) -> bool,
    ) {
        let (mut kept, mut cooled) = (0, Vec::new());
        for index in 0..self.count() {
            let page = self.pages[index].load(Relaxed);
            let state = &self.states[page as usize];
            match copy(page as usize, Survey::Yes) {
                true => state.store(HOT, Relaxed),
                false => state.store(state.load(Relaxed) + 1, Relaxed),
            }
            if state.load(Relaxed) >= HOT + IDLE_SURVEYS {
                state.store(COLD, Relaxed);
                cooled.push(page as usize);
                continue;
            }
            self.pages[kept].store(page, Relaxed);
            kept += 1;
        }
        self.count.store(kept, Relaxed);
        cooled.sort_unstable();
        for run in cooled.chunk_by(|a, b| a + 1 == *b) {
            drop(run[0]..run[run.len() - 1] + 1);
        }
    }
}

/// Whether a page is to be compared before it is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Survey {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(set: &HotSet, page: usize) -> Admission {
        let admission = set.admission(page);
        set.admit(&admission);
        admission
    }

    /// Ends an instance in which the pages `changed` were written; answers what was dropped and copied.
    fn end(set: &HotSet, changed: &[usize]) -> (Vec<Range<usize>>, Vec<usize>) {
        let (mut dropped, mut copied) = (Vec::new(), Vec::new());
        set.end(
            |pages| dropped.push(pages),
            |page, survey| {
                let has_changed = changed.contains(&page);
                if survey == Survey::No || has_changed {
                    copied.push(page);
                }
                has_changed
            },
        );
        (dropped, copied)
    }

    #[test]
    fn a_page_that_was_written_is_copied_back_and_no_other() {
        let set = HotSet::new(10);
        assert_eq!(write(&set, 3), Admission::Page(3));
        assert_eq!(set.admission(3), Admission::Refused);
        assert_eq!(set.admission(10), Admission::Refused);
        assert_eq!(end(&set, &[3]), (vec![], vec![3]));
        assert_eq!(set.admission(3), Admission::Refused, "it stays hot");
        assert_eq!(end(&set, &[]), (vec![], vec![3]));
    }

    #[test]
    fn a_page_that_two_surveys_find_unchanged_is_cold_again() {
        let set = HotSet::new(10);
        (2..6).for_each(|page| {
            write(&set, page);
        });
        for instance in 1..2 * SURVEY_EVERY {
            assert_eq!(end(&set, &[4]).0, vec![], "{instance}");
        }
        assert_eq!(end(&set, &[4]), (vec![2..4, 5..6], vec![4]));
        assert_eq!(set.count(), 1);
        assert_eq!(write(&set, 5), Admission::Page(5));
        assert_eq!(set.admission(4), Admission::Refused);
    }

    #[test]
    fn a_page_that_every_survey_finds_changed_stays_hot() {
        let set = HotSet::new(1);
        write(&set, 0);
        for _ in 0..10 * SURVEY_EVERY {
            assert_eq!(end(&set, &[0]), (vec![], vec![0]));
        }
    }

    #[test]
    fn beyond_the_limit_blocks_become_loose_and_their_hot_pages_stay_hot() {
        let set = HotSet::new(3 * BLOCK_PAGES - 1);
        set.limit(2, 2);
        let in_last = 2 * BLOCK_PAGES + 7;
        write(&set, in_last);
        write(&set, 0);
        let last = 2 * BLOCK_PAGES..3 * BLOCK_PAGES - 1;
        assert_eq!(write(&set, in_last + 1), Admission::Block(last.clone()));
        assert_eq!(write(&set, BLOCK_PAGES), Admission::Block(BLOCK_PAGES..2 * BLOCK_PAGES));
        assert_eq!(set.admission(last.start), Admission::Refused);
        assert_eq!(set.admission(1), Admission::All, "a third block");
        let dropped =
            vec![last.start..in_last, in_last + 1..last.end, BLOCK_PAGES..2 * BLOCK_PAGES];
        assert_eq!(end(&set, &[in_last, 0]), (dropped, vec![in_last, 0]));
        assert_eq!(end(&set, &[]), (vec![], vec![in_last, 0]));
        assert_eq!(set.admission(BLOCK_PAGES + 1), Admission::Block(BLOCK_PAGES..2 * BLOCK_PAGES));
    }

    #[test]
    fn no_more_than_the_limit_are_hot_and_the_last_that_may_is() {
        let set = HotSet::new(HOT_PAGES_MAX + 1);
        for page in 0..HOT_PAGES_MAX {
            assert_eq!(write(&set, page), Admission::Page(page));
        }
        assert!(matches!(write(&set, HOT_PAGES_MAX), Admission::Block(_)));
        assert_eq!(set.count(), HOT_PAGES_MAX);
    }

    #[test]
    fn where_all_are_loose_all_are_dropped() {
        let set = HotSet::new(100);
        write(&set, 1);
        set.admit_all();
        assert_eq!(set.admission(2), Admission::Refused);
        let (dropped, copied) = end(&set, &[]);
        let whole = 0..100;
        assert_eq!((dropped.first(), dropped.len(), copied.len()), (Some(&whole), 1, 0));
        assert_eq!(set.admission(1), Admission::Page(1));
    }
}

//! Items of a map that were cancelled one by one or by range: their indices, as ranges.
//!
//! Invariant: no two ranges touch or overlap, and none is empty.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of indices.
#[derive(Debug, Default)]
pub(crate) struct CancelledItems {
    /// The first index of each range, and the one behind its last.
    ranges: BTreeMap<usize, usize>,
}

impl CancelledItems {
    /// The range that begins last, of those that begin at `index` or before it.
    fn before(&self, index: usize) -> Option<Range<usize>> {
        self.ranges.range(..=index).next_back().map(|(&start, &end)| start..end)
    }

    pub(crate) fn contains(&self, index: usize) -> bool {
        self.before(index).is_some_and(|range| range.contains(&index))
    }

    pub(crate) fn insert(&mut self, mut items: Range<usize>) {
        if items.is_empty() {
            return;
        }
        while let Some(known) = self.before(items.end).filter(|known| known.end >= items.start) {
            self.ranges.remove(&known.start);
            items = known.start.min(items.start)..known.end.max(items.end);
        }
        self.ranges.insert(items.start, items.end);
    }

    /// Forgets what is in none of these ranges, which do not overlap.
    pub(crate) fn keep_only(&mut self, kept: impl Iterator<Item = Range<usize>>) {
        if self.ranges.is_empty() {
            return;
        }
        let known = std::mem::take(self);
        for range in kept {
            let before = known.before(range.start).into_iter();
            let within = known.ranges.range(range.start + 1..).map(|(&start, &end)| start..end);
            for known in before.chain(within.take_while(|known| known.start < range.end)) {
                self.insert(known.start.max(range.start)..known.end.min(range.end));
            }
        }
    }

    /// How many of the next `count` indices from `index` on come before one that is in the set.
    pub(crate) fn count_before(&self, index: usize, count: u32) -> u32 {
        if self.contains(index) {
            return 0;
        }
        let next = self.ranges.range(index..).next().map_or(usize::MAX, |(&start, _)| start);
        count.min(u32::try_from(next - index).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[Range<usize>]) -> CancelledItems {
        let mut set = CancelledItems::default();
        ranges.iter().for_each(|range| set.insert(range.clone()));
        set
    }

    fn ranges(set: &CancelledItems) -> Vec<Range<usize>> {
        set.ranges.iter().map(|(&start, &end)| start..end).collect()
    }

    #[test]
    fn ranges_that_touch_or_overlap_become_one() {
        assert_eq!(ranges(&set(&[3..5, 8..9, 5..6])), [3..6, 8..9]);
        assert_eq!(ranges(&set(&[3..5, 8..9, 4..8])), vec![3..9]);
        assert_eq!(ranges(&set(&[0..2, 4..5, 7..8, 0..10])), vec![0..10]);
        assert_eq!(ranges(&set(&[2..9, 3..4])), vec![2..9]);
        assert_eq!(ranges(&set(&[4..4, 6..6])), []);
    }

    #[test]
    fn what_is_not_kept_is_forgotten() {
        let kept = |known: &[Range<usize>], kept: &[Range<usize>]| {
            let mut set = set(known);
            set.keep_only(kept.iter().cloned());
            ranges(&set)
        };
        assert_eq!(kept(&[2..6, 8..9], &[3..5, 5..9]), [3..6, 8..9]);
        assert_eq!(kept(&[0..2, 3..4], &[2..3, 4..9]), []);
        assert_eq!(kept(&[0..7, 7..9], &[1..2, 4..5]), [1..2, 4..5]);
    }

    #[test]
    fn what_comes_before_an_index_of_the_set_is_counted() {
        let items = set(&[2..4, 7..8]);
        let counts = [0, 2, 3, 4, 8].map(|index| items.count_before(index, 5));
        assert_eq!(counts, [2, 0, 0, 3, 5]);
    }
}

//! The numbers of finished items, as ranges.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A set of numbers, kept as ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// First and last of each range. No two touch.
    ranges: BTreeMap<u64, u64>,
}

impl Done {
    /// Adds a number; one that is there already changes nothing.
    pub(crate) fn insert(&mut self, number: u64) {
        let before = self.ranges.range(..=number).next_back().map(|(&first, &last)| (first, last));
        let (first, last) = match before {
            Some((_, last)) if last >= number => return,
            Some((first, last)) if last + 1 == number => (first, number),
            _ => (number, number),
        };
        let last = self.ranges.remove(&(number + 1)).unwrap_or(last);
        self.ranges.insert(first, last);
    }

    /// Takes a number out; one that is not there changes nothing.
    pub(crate) fn remove(&mut self, number: u64) {
        let Some((&first, &last)) = self.ranges.range(..=number).next_back() else { return };
        if last < number {
            return;
        }
        self.ranges.remove(&first);
        if first < number {
            self.ranges.insert(first, number - 1);
        }
        if number < last {
            self.ranges.insert(number + 1, last);
        }
    }

    /// Whether a number is there.
    pub(crate) fn contains(&self, number: u64) -> bool {
        self.ranges.range(..=number).next_back().is_some_and(|(_, &last)| last >= number)
    }

    /// As JSON: a list of firsts and lasts.
    pub(crate) fn to_json(&self) -> Value {
        self.ranges.iter().map(|(first, last)| json!([first, last])).collect()
    }

    /// From what [`to_json`](Self::to_json) gave; `None` for anything else.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let mut ranges = BTreeMap::new();
        let mut end = 0;
        for range in value.as_array()? {
            let [first, last] = range.as_array()?.as_slice() else { return None };
            let (first, last) = (first.as_u64()?, last.as_u64()?);
            if first <= end || last < first || last == u64::MAX {
                return None;
            }
            ranges.insert(first, last);
            end = last + 1;
        }
        Some(Self { ranges })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_any_order_become_as_few_ranges_as_there_are() {
        let mut done = Done::default();
        for number in [5, 1, 2, 9, 4, 3, 5, 7] {
            done.insert(number);
        }
        assert_eq!(done.to_json(), json!([[1, 5], [7, 7], [9, 9]]));
        assert_eq!(Done::from_json(&done.to_json()), Some(done.clone()));
        let known: Vec<_> = (0..=10).filter(|&number| done.contains(number)).collect();
        assert_eq!(known, [1, 2, 3, 4, 5, 7, 9]);
        done.insert(8);
        done.insert(6);
        assert_eq!(done.to_json(), json!([[1, 9]]));
        for number in [1, 9, 5, 5, 20] {
            done.remove(number);
        }
        assert_eq!(done.to_json(), json!([[2, 4], [6, 8]]));
        done.remove(3);
        done.remove(2);
        assert_eq!(done.to_json(), json!([[4, 4], [6, 8]]));
    }

    #[test]
    fn what_is_no_set_of_ranges_is_none() {
        for text in ["1", "[1]", "[[1]]", "[[2, 1]]", "[[1, 2], [3, 4]]", "[[0, 1]]", "[[1, -1]]"] {
            assert_eq!(Done::from_json(&serde_json::from_str(text).unwrap()), None, "{text}");
        }
    }
}

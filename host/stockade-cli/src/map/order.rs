//! Order: what has ended waits here for its turn, in the items' order or as it comes.
//!
//! Invariant: an outcome comes out once. Where a gap stops the order, nothing behind an item that never
//! ran is to be written: it comes out as [`Turn::Behind`].

use std::collections::VecDeque;

/// A place in the output, given out in the input's order and never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(u64);

/// How outcomes come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// As they settle.
    Completion,
    /// In the order of their slots.
    Slots {
        /// Whether an item that never ran holds back all behind it, for good.
        stops_at_gap: bool,
    },
}

/// An outcome whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn<T> {
    /// It is to be written.
    Write(T),
    /// It is behind a gap, and not written.
    Behind(T),
}

/// Outcomes on their way from slots to the output.
#[derive(Debug)]
pub(crate) struct Order<T> {
    by: By,
    /// The number of the next slot.
    next: u64,
    /// In order: the slots that are not out yet, `None` while they are open. The last is the one before
    /// `next`. An item that never ran has the outcome `None`.
    waiting: VecDeque<Option<Option<T>>>,
    /// Slots that were opened and have not settled.
    open: usize,
    ready: VecDeque<Turn<T>>,
    /// Whether the order has stopped.
    has_gap: bool,
}

impl<T> Order<T> {
    /// No slot yet.
    pub(crate) fn new(by: By) -> Self {
        let (waiting, ready) = (VecDeque::new(), VecDeque::new());
        Self { by, next: 0, waiting, open: 0, ready, has_gap: false }
    }

    /// Opens the next slot.
    pub(crate) fn open(&mut self) -> Slot {
        self.open += 1;
        if self.by != By::Completion {
            self.waiting.push_back(None);
        }
        self.next += 1;
        Slot(self.next - 1)
    }

    /// Puts the outcome of a slot where it belongs: `None` of an item that never ran. A slot settles
    /// once.
    pub(crate) fn settle(&mut self, slot: Slot, outcome: Option<T>) {
        self.open -= 1;
        let By::Slots { stops_at_gap } = self.by else {
            return self.ready.extend(outcome.map(Turn::Write));
        };
        let first = self.next - self.waiting.len() as u64;
        if let Some(place) = self.waiting.get_mut((slot.0 - first) as usize) {
            *place = Some(outcome);
        }
        while let Some(Some(_)) = self.waiting.front() {
            match self.waiting.pop_front().flatten().flatten() {
                Some(outcome) if self.has_gap => self.ready.push_back(Turn::Behind(outcome)),
                Some(outcome) => self.ready.push_back(Turn::Write(outcome)),
                None => self.has_gap |= stops_at_gap,
            }
        }
    }

    /// The next outcome whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<Turn<T>> {
        self.ready.pop_front()
    }

    /// How many slots are open or hold back an outcome.
    pub(crate) fn len(&self) -> usize {
        let held = if self.by == By::Completion { self.open } else { self.waiting.len() };
        held + self.ready.len()
    }

    /// Whether an outcome was, or is to be, held back for good.
    pub(crate) fn has_gap(&self) -> bool {
        self.has_gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN_ORDER: By = By::Slots { stops_at_gap: false };

    /// What is to be written, and in parentheses what is behind a gap.
    fn popped(order: &mut Order<char>) -> String {
        let turns = std::iter::from_fn(|| order.pop());
        let shown = turns.map(|turn| match turn {
            Turn::Write(outcome) => outcome.to_string(),
            Turn::Behind(outcome) => format!("({outcome})"),
        });
        shown.collect()
    }

    #[test]
    fn in_order_the_first_holds_back_those_behind_it() {
        let mut order = Order::new(IN_ORDER);
        let [a, b, c] = [order.open(), order.open(), order.open()];
        order.settle(b, Some('b'));
        assert_eq!((popped(&mut order), order.len()), (String::new(), 3));
        order.settle(a, Some('a'));
        assert_eq!((popped(&mut order), order.len()), ("ab".into(), 1));
        let d = order.open();
        order.settle(d, Some('d'));
        order.settle(c, Some('c'));
        assert_eq!((popped(&mut order), order.len()), ("cd".into(), 0));
    }

    #[test]
    fn by_completion_everything_comes_as_it_settles_and_no_slot_twice() {
        let mut order = Order::new(By::Completion);
        let [a, b] = [order.open(), order.open()];
        order.settle(b, Some('b'));
        let c = order.open();
        assert!(c > b);
        order.settle(c, Some('c'));
        assert_eq!((popped(&mut order), order.len()), ("bc".into(), 1));
        order.settle(a, Some('a'));
        assert_eq!((popped(&mut order), order.len()), ("a".into(), 0));
    }

    #[test]
    fn an_item_that_never_ran_leaves_a_gap_only_where_that_stops_the_order() {
        let by = |by| {
            let mut order = Order::new(by);
            let [a, b, c] = [order.open(), order.open(), order.open()];
            order.settle(c, Some('c'));
            order.settle(b, None);
            order.settle(a, Some('a'));
            let d = order.open();
            order.settle(d, Some('d'));
            (popped(&mut order), order.len(), order.has_gap())
        };
        assert_eq!(by(By::Slots { stops_at_gap: true }), ("a(c)(d)".into(), 0, true));
        assert_eq!(by(IN_ORDER), ("acd".into(), 0, false));
        assert_eq!(by(By::Completion), ("cad".into(), 0, false));
    }
}

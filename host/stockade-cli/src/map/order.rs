//! Order: what has ended waits here for its turn.

use std::collections::VecDeque;

/// A place in the output, given out in the input's order and never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(u64);

/// Outcomes on their way from slots to the output.
#[derive(Debug)]
pub(crate) struct Order<T> {
    in_order: bool,
    /// The number of the first slot in `waiting`.
    first: u64,
    /// Where the order matters: the slots that are not out yet.
    waiting: VecDeque<Option<T>>,
    /// Slots that were opened and have not settled.
    open: usize,
    ready: VecDeque<T>,
}

impl<T> Order<T> {
    /// None yet; they come out in the order of their slots, or as they settle.
    pub(crate) fn new(in_order: bool) -> Self {
        Self { in_order, first: 0, waiting: VecDeque::new(), open: 0, ready: VecDeque::new() }
    }

    /// Opens the next slot.
    pub(crate) fn open(&mut self) -> Slot {
        self.open += 1;
        self.waiting.push_back(None);
        Slot(self.first + self.waiting.len() as u64 - 1)
    }

    /// Puts the outcome of a slot where it belongs. A slot settles once.
    pub(crate) fn settle(&mut self, slot: Slot, outcome: T) {
        self.open -= 1;
        if !self.in_order {
            // The numbers must go on, and nothing else of the queue is needed.
            self.first += self.waiting.len() as u64;
            self.waiting.clear();
            return self.ready.push_back(outcome);
        }
        if let Some(place) = self.waiting.get_mut((slot.0 - self.first) as usize) {
            *place = Some(outcome);
        }
        while let Some(Some(_)) = self.waiting.front() {
            self.ready.extend(self.waiting.pop_front().flatten());
            self.first += 1;
        }
    }

    /// The next outcome whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.ready.pop_front()
    }

    /// How many slots are open or hold back an outcome.
    pub(crate) fn len(&self) -> usize {
        if self.in_order {
            self.waiting.len() + self.ready.len()
        } else {
            self.open + self.ready.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn popped(order: &mut Order<char>) -> String {
        std::iter::from_fn(|| order.pop()).collect()
    }

    #[test]
    fn in_order_the_first_holds_back_those_behind_it() {
        let mut order = Order::new(true);
        let [a, b, c] = [order.open(), order.open(), order.open()];
        order.settle(b, 'b');
        assert_eq!((popped(&mut order), order.len()), (String::new(), 3));
        order.settle(a, 'a');
        assert_eq!((popped(&mut order), order.len()), ("ab".into(), 1));
        let d = order.open();
        order.settle(d, 'd');
        order.settle(c, 'c');
        assert_eq!((popped(&mut order), order.len()), ("cd".into(), 0));
    }

    #[test]
    fn unordered_everything_comes_as_it_settles_and_no_slot_twice() {
        let mut order = Order::new(false);
        let [a, b] = [order.open(), order.open()];
        order.settle(b, 'b');
        let c = order.open();
        assert!(c > b);
        order.settle(c, 'c');
        assert_eq!((popped(&mut order), order.len()), ("bc".into(), 1));
        order.settle(a, 'a');
        assert_eq!((popped(&mut order), order.len()), ("a".into(), 0));
    }
}

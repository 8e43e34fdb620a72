//! Items that a map has encoded, and neither submitted nor refused.
//!
//! ```text
//! push ─► [ Alone ][ Small: 40 items ][ Failed ][ Small: 7 items ] ◄─ grows here
//!             └─ pop: at most so many items of the first piece
//! ```
//!
//! Inputs that can travel together are copied into one buffer at once, so that a short item costs no memory
//! of its own.
//!
//! Invariant: pieces are in the items' order, and none is without items.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::call::inputs::Inputs;
use crate::call::payload::Payload;
use crate::outcome::error::RunError;
use crate::state::spec::TaskSpec;

/// What an item is called with, and what it has for itself where it names its own function.
pub(super) type Encoded = (Option<Arc<TaskSpec>>, Payload);

/// Items that follow each other.
#[derive(Debug)]
pub(super) enum Piece {
    /// Inputs of the map's function that can travel together.
    Small(Inputs),
    /// An item that travels by itself.
    Alone(Encoded),
    /// An item that cannot be submitted.
    Failed(RunError),
}

impl Piece {
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Small(inputs) => inputs.count() as usize,
            Self::Alone(_) | Self::Failed(_) => 1,
        }
    }
}

/// Items, in their order.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    pieces: VecDeque<Piece>,
    items: usize,
    failed: usize,
}

impl Ahead {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.items
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// How many are to be submitted.
    pub(super) fn live(&self) -> usize {
        self.items - self.failed
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds an item that cannot be submitted.
    pub(super) fn push_failed(&mut self, error: RunError) {
        self.push_piece(Piece::Failed(error));
    }

    /// Adds an item. At most `together` of those that can travel together do.
    pub(super) fn push(&mut self, (own, payload): Encoded, together: usize) {
        if own.is_some() || !Inputs::is_small(&payload) {
            return self.push_piece(Piece::Alone((own, payload)));
        }
        if let Some(Piece::Small(inputs)) = self.pieces.back_mut()
            && (inputs.count() as usize) < together
            && inputs.fits(&payload)
        {
            inputs.copy(&payload, together);
            self.items += 1;
            return;
        }
        let mut inputs = Inputs::default();
        inputs.copy(&payload, together);
        self.push_piece(Piece::Small(inputs));
    }

    fn push_piece(&mut self, piece: Piece) {
        self.items += piece.count();
        self.failed += usize::from(matches!(piece, Piece::Failed(_)));
        self.pieces.push_back(piece);
    }

    /// Takes items from the front: at most `items_max`, at least 1, and none that cannot travel with the
    /// first.
    pub(super) fn pop(&mut self, items_max: usize) -> Option<Piece> {
        if let Some(Piece::Small(inputs)) = self.pieces.front_mut()
            && inputs.count() as usize > items_max
        {
            self.items -= items_max;
            let items = u32::try_from(items_max).unwrap_or(u32::MAX);
            return Some(Piece::Small(inputs.split_front(items)));
        }
        let mut piece = self.pieces.pop_front()?;
        if let Piece::Small(inputs) = &mut piece {
            inputs.shrink();
        }
        self.items -= piece.count();
        self.failed -= usize::from(matches!(piece, Piece::Failed(_)));
        Some(piece)
    }

    /// Has those of these places, from 0, that are to be submitted fail instead.
    pub(super) fn fail(&mut self, places: Range<usize>, error: &RunError) {
        let mut before = std::mem::take(self);
        while let Some(place) = Some(self.items).filter(|_| !before.is_empty()) {
            let is_in = places.contains(&place);
            // Up to where that changes.
            let until = if is_in {
                places.end
            } else if place < places.start {
                places.start
            } else {
                usize::MAX
            };
            match before.pop(until - place) {
                Some(Piece::Failed(known)) => self.push_failed(known),
                Some(piece) if is_in => {
                    (0..piece.count()).for_each(|_| self.push_failed(error.clone()));
                }
                Some(piece) => self.push_piece(piece),
                None => break,
            }
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use stockade_wire::Codec;

    use super::*;

    fn small(input: &[u8]) -> Encoded {
        (None, Payload::Task { codec: Codec::Raw, input: input.into() })
    }

    /// Five that can travel together, at most two at a time, behind one that cannot.
    fn six() -> Ahead {
        let mut ahead = Ahead::default();
        ahead.push(small(&[0; 64 << 10]), 2);
        for input in [b"a", b"b", b"c", b"d", b"e"] {
            ahead.push(small(input), 2);
        }
        ahead
    }

    fn counts(mut ahead: Ahead, items_max: usize) -> Vec<(char, usize)> {
        let pop = || {
            let piece = ahead.pop(items_max)?;
            let kind = match piece {
                Piece::Small(_) => 's',
                Piece::Alone(_) => 'a',
                Piece::Failed(_) => 'f',
            };
            Some((kind, piece.count()))
        };
        std::iter::from_fn(pop).collect()
    }

    #[test]
    fn small_ones_are_kept_together_as_far_as_they_may_travel_so() {
        assert_eq!((six().len(), six().live()), (6, 6));
        assert_eq!(counts(six(), 9), [('a', 1), ('s', 2), ('s', 2), ('s', 1)]);
        assert_eq!(counts(six(), 1), [('a', 1), ('s', 1), ('s', 1), ('s', 1), ('s', 1), ('s', 1)]);
    }

    #[test]
    fn what_fails_leaves_the_others_in_their_places() {
        let error = RunError::MapSetting("test");
        let after = |places: Range<usize>| {
            let mut ahead = six();
            ahead.fail(places, &error);
            assert_eq!(ahead.len(), 6);
            let live = ahead.live();
            (live, counts(ahead, 9))
        };
        assert_eq!(
            after(2..4),
            (4, vec![('a', 1), ('s', 1), ('f', 1), ('f', 1), ('s', 1), ('s', 1)])
        );
        assert_eq!(after(0..1), (5, vec![('f', 1), ('s', 2), ('s', 2), ('s', 1)]));
        assert_eq!(after(0..6).0, 0);
        assert_eq!(after(6..9).0, 6);
        assert_eq!(after(3..3).0, 6);
    }
}

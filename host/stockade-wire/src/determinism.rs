//! Determinism: what a guest sees of chance and time where the same call is to end the same way each
//! time.

use std::time::Duration;

use crate::codec::{Decode, Encode};

/// Where every guest begins: the same random numbers, and a clock that goes on only as it is looked
/// at or slept on.
///
/// Nothing here is random for anybody who knows the seed, and two tasks draw the same numbers: it is
/// for finding out what went wrong, and for answers that can be had again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Determinism {
    /// What a guest's random numbers are made from.
    pub seed: u64,
    /// The time of day when a guest begins, since 1970 in UTC.
    pub clock: Duration,
}

impl Determinism {
    /// From `seed`, at the beginning of 1970.
    ///
    /// ```
    /// assert_eq!(stockade_wire::Determinism::new(7).seed, 7);
    /// ```
    pub fn new(seed: u64) -> Self {
        Self { seed, clock: Duration::ZERO }
    }

    /// Sets [`clock`](Self::clock).
    #[must_use]
    pub fn clock(mut self, since_1970: Duration) -> Self {
        self.clock = since_1970;
        self
    }
}

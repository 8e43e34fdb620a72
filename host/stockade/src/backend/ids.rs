//! Tables by number: maps whose keys are numbers that the pool itself has given out.
//!
//! Deliberately absent: defence against keys that were chosen to collide. Nobody chooses these.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map from the ids of this pool.
pub(crate) type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// Spreads consecutive numbers over a table: a multiplication by the odd number next to 2⁶⁴ divided
/// by the golden ratio, as in Knuth, The Art of Computer Programming, volume 3, section 6.4.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The table looks at the highest bits and the lowest ones.
        let product = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ product >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

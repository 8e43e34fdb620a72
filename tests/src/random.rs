//! Randomness that a seed decides, for programs that disturb and load pools.
//!
//! SplitMix64: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014,
//! with the constants of Sebastiano Vigna's public-domain `splitmix64.c`.

use std::time::Duration;

/// A sequence of numbers that its seed decides.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A sequence of `part`'s own within that of `seed`.
    pub fn of_part(seed: u64, part: u64) -> Self {
        Self(mix(seed) ^ mix(part.wrapping_add(GAMMA)))
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        let number = mix(self.0.wrapping_add(GAMMA));
        self.0 = self.0.wrapping_add(GAMMA);
        number
    }

    /// A number below `end`, which is not 0. Its bias towards small numbers is of no account here.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// A number of a closed range.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// Whether something happens that happens so many times in a thousand.
    pub fn per_mille(&mut self, times: u64) -> bool {
        self.below(1000) < times
    }

    /// A span of time between two numbers of milliseconds.
    pub fn millis(&mut self, first: u64, last: u64) -> Duration {
        Duration::from_micros(self.between(first * 1000, last * 1000))
    }

    /// One of `choices`, which are not none.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's finalizer: a different number for every number.
pub fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// A seed that no earlier run had: the clock's.
pub fn seed_of_now() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    mix(now.unwrap_or_default().as_nanos() as u64) as u32
}

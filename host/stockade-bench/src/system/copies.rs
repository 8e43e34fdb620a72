//! Copies within one process: what bytes cost that only move.

use std::hint::black_box;
use std::time::Instant;

/// Bytes and a place for them, both touched, so that no copy waits for the system.
#[derive(Debug)]
pub(crate) struct Copies {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Copies {
    /// For payloads of `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { from: vec![3; bytes], to: vec![5; bytes] }
    }

    /// The time of one copy there and one back, in microseconds.
    pub(crate) fn two_micros(&mut self) -> f64 {
        let started = Instant::now();
        black_box(&mut self.to).copy_from_slice(black_box(&self.from));
        black_box(&mut self.from).copy_from_slice(black_box(&self.to));
        started.elapsed().as_secs_f64() * 1e6
    }
}

//! Where the task of an id is: a hash table that holds nothing but keys.
//!
//! Open addressing with linear probing, and deletion that moves later entries up (Knuth, TAOCP 3, 6.4,
//! algorithms L and R). Hashing multiplies by 2^64 divided by the golden ratio, which spreads ids
//! that follow each other evenly; ids are the pool's own, so nobody chooses them to collide.
//!
//! Invariant: at most three quarters of the buckets are taken, so that every search ends.
//!
//! Deliberately absent: the ids. Whoever asks knows the id of a key.

use stockade_wire::TaskId;

use super::tasks::Key;

const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
const BUCKETS_MIN: usize = 16;

/// Keys by the ids of their tasks: between six and eleven bytes a task.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// A power of two of them, or none.
    buckets: Vec<Option<Key>>,
    len: usize,
}

impl Index {
    /// Small multiples of it all have the first bucket for their home: the multiplier's inverse.
    #[cfg(test)]
    pub(super) const FIRST_BUCKET_STEP: u64 = 0xF1DE_83E1_9937_733D;

    /// The key of `id`.
    pub(super) fn find(&self, id: TaskId, id_of: impl Fn(Key) -> TaskId) -> Option<Key> {
        self.bucket_of(id, id_of).and_then(|bucket| self.buckets[bucket])
    }

    /// Adds the key of an id that is not there.
    pub(super) fn insert(&mut self, id: TaskId, key: Key, id_of: impl Fn(Key) -> TaskId) {
        if (self.len + 1) * 4 > self.buckets.len() * 3 {
            self.grow(id_of);
        }
        self.len += 1;
        self.put(id, key);
    }

    /// Takes out the key of `id`.
    pub(super) fn remove(&mut self, id: TaskId, id_of: impl Fn(Key) -> TaskId) {
        let Some(mut hole) = self.bucket_of(id, &id_of) else { return };
        self.len -= 1;
        let mut bucket = hole;
        loop {
            bucket = self.after(bucket);
            let Some(key) = self.buckets[bucket] else { break };
            // It moves up unless its home lies behind the hole: then a search never passes that.
            let home = self.home(id_of(key));
            if self.distance(home, bucket) >= self.distance(hole, bucket) {
                self.buckets[hole] = Some(key);
                hole = bucket;
            }
        }
        self.buckets[hole] = None;
    }

    /// What it takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.buckets.len() * size_of::<Option<Key>>()
    }

    fn bucket_of(&self, id: TaskId, id_of: impl Fn(Key) -> TaskId) -> Option<usize> {
        if self.buckets.is_empty() {
            return None;
        }
        let mut bucket = self.home(id);
        while let Some(key) = self.buckets[bucket] {
            if id_of(key) == id {
                return Some(bucket);
            }
            bucket = self.after(bucket);
        }
        None
    }

    fn put(&mut self, id: TaskId, key: Key) {
        let mut bucket = self.home(id);
        while self.buckets[bucket].is_some() {
            bucket = self.after(bucket);
        }
        self.buckets[bucket] = Some(key);
    }

    fn grow(&mut self, id_of: impl Fn(Key) -> TaskId) {
        let buckets = (self.buckets.len() * 2).max(BUCKETS_MIN);
        let keys = std::mem::replace(&mut self.buckets, vec![None; buckets]);
        for key in keys.into_iter().flatten() {
            self.put(id_of(key), key);
        }
    }

    fn home(&self, id: TaskId) -> usize {
        let bits = self.buckets.len().trailing_zeros();
        (id.0.wrapping_mul(MULTIPLIER) >> (u64::BITS - bits)) as usize
    }

    fn after(&self, bucket: usize) -> usize {
        (bucket + 1) & (self.buckets.len() - 1)
    }

    /// How many steps forward from one bucket to the other.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.buckets.len() - 1)
    }
}

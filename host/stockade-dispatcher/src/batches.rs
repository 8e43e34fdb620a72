//! The batches whose tasks are not all resolved, by task and by key.
//!
//! ```text
//! TaskId, the last of its batch ──► by_last ─────┐
//!                                                ├──► Key ──► slot: Batch
//! TaskId, any other ─────► longer.range(id..) ───┘     ▲
//!                                   Queue, Window: know keys
//! ```
//!
//! A key finds its batch without a search. Slots are reused, and keys with them: a queue or a window gives
//! up its key when the batch is removed.
//!
//! A batch is found by its last task because that one stays the last while its tasks end from the front.
//!
//! Invariant: `longer` names exactly the batches of several tasks, so that a batch of one pays nothing for
//! it. A batch of one takes a slot and at most twelve bytes of the index, 76 bytes in all; a test holds it
//! to that.
//!
//! Deliberately absent: what becomes of a task; and defence against ids that were chosen to collide, since
//! the pool chooses them.

use alloc::collections::BTreeMap;
use core::num::NonZeroU32;
use core::ops;

use hashbrown::HashTable;
use slab::Slab;
use stockade_wire::{TaskId, TaskRange};

use super::batch::Batch;

/// Where a batch is kept until all its tasks are resolved. Not zero, so that `Option` costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(NonZeroU32);

impl Key {
    /// The slot after so many others. There are never 2^32 of them: that would be 256 GiB.
    fn new(index: usize) -> Self {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        Self(NonZeroU32::new(number).unwrap_or(NonZeroU32::MAX))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Unresolved batches. Every method takes constant time for a batch of one, but for when a table grows, and
/// logarithmic time for others.
#[derive(Debug, Default)]
pub(super) struct Batches {
    slots: Slab<Batch>,
    /// Tasks of all of them.
    tasks: usize,
    /// Keys alone: the caller knows the last task's id, and the slot has it too.
    by_last: HashTable<Key>,
    /// Batches of several tasks, by their last.
    longer: BTreeMap<TaskId, Key>,
}

/// Slots that an empty table keeps; one that has held more gives its memory back.
const SLOTS_KEPT: usize = 16_384;

impl Batches {
    /// How many tasks there are.
    pub(super) fn tasks(&self) -> usize {
        self.tasks
    }

    /// Whether every task is resolved.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Adds a batch, whose tasks' ids are never used before.
    pub(super) fn insert(&mut self, batch: Batch) -> Key {
        self.tasks += batch.count();
        let tasks = batch.tasks;
        let key = Key::new(self.slots.insert(batch));
        self.add_to_index(key, tasks);
        key
    }

    /// Takes a batch out.
    pub(super) fn remove(&mut self, key: Key) {
        let tasks = self[key].tasks;
        self.remove_from_index(key, tasks);
        self.slots.remove(key.index());
        self.tasks -= tasks.count() as usize;
        if self.slots.is_empty() && self.slots.capacity() > SLOTS_KEPT {
            *self = Self::default();
        }
    }

    /// Takes a batch's first tasks out; the batch, if they are all.
    pub(super) fn remove_first(&mut self, key: Key, count: u32) {
        let tasks = self[key].tasks;
        let (first, Some(rest)) = tasks.split_at(count) else { return self.remove(key) };
        self.tasks -= first.map_or(0, |first| first.count() as usize);
        self.slots[key.index()].tasks = rest;
        if tasks.count() > 1 && rest.count() == 1 {
            self.longer.remove(&tasks.last());
        }
    }

    /// Makes the rest of a batch, from a task that is not its first, a batch of its own in the same place;
    /// returns that one's key.
    pub(super) fn split(&mut self, key: Key, task: TaskId) -> Key {
        let whole = self[key].tasks;
        let (Some(front), Some(rest)) = whole.split_before(task) else { return key };
        self.remove_from_index(key, whole);
        self.slots[key.index()].tasks = front;
        self.add_to_index(key, front);
        let mut rest_batch = self[key].clone();
        rest_batch.tasks = rest;
        let rest_key = Key::new(self.slots.insert(rest_batch));
        self.add_to_index(rest_key, rest);
        rest_key
    }

    /// Makes what stands behind some tasks of a batch a batch of its own in the same place; returns that
    /// one's key, if there is any.
    pub(super) fn split_behind(&mut self, key: Key, tasks: TaskRange) -> Option<Key> {
        let is_behind = tasks.last() < self[key].tasks.last();
        is_behind.then(|| self.split(key, TaskId(tasks.last().0 + 1)))
    }

    /// Where a task's batch is kept.
    pub(super) fn find(&self, task: TaskId) -> Option<Key> {
        let is_last = |key: &Key| self[*key].tasks.last() == task;
        if let Some(key) = self.by_last.find(hash(task), is_last) {
            return Some(*key);
        }
        let (_, &key) = self.longer.range(task..).next()?;
        self[key].tasks.contains(task).then_some(key)
    }

    fn add_to_index(&mut self, key: Key, tasks: TaskRange) {
        let slots = &self.slots;
        let hash_of = |key: &Key| hash(slots[key.index()].tasks.last());
        self.by_last.insert_unique(hash(tasks.last()), key, hash_of);
        if tasks.count() > 1 {
            self.longer.insert(tasks.last(), key);
        }
    }

    fn remove_from_index(&mut self, key: Key, tasks: TaskRange) {
        if let Ok(entry) = self.by_last.find_entry(hash(tasks.last()), |found| *found == key) {
            entry.remove();
        }
        if tasks.count() > 1 {
            self.longer.remove(&tasks.last());
        }
    }

    /// All of them, in no particular order.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Batch)> {
        self.slots.iter().map(|(index, batch)| (Key::new(index), batch))
    }

    /// Panics where the index differs from what a walk finds.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let (mut tasks, mut longer) = (0, 0);
        for (key, batch) in self.iter() {
            let range = batch.tasks;
            tasks += batch.count();
            longer += usize::from(batch.count() > 1);
            let middle = TaskId(range.first().0 + u64::from(range.count()) / 2);
            for task in [range.first(), middle, range.last()] {
                assert_eq!(self.find(task), Some(key), "task {task} is not found");
            }
        }
        assert_eq!((self.tasks, self.longer.len()), (tasks, longer), "tasks are miscounted");
        assert_eq!(self.by_last.len(), self.slots.len(), "the index has forgotten a batch");
    }
}

/// Spreads ids that follow each other: a multiplication by 2^64 divided by the golden ratio (Knuth, The
/// Art of Computer Programming, volume 3, section 6.4), with the highest bits in the lowest too, where
/// the table looks.
fn hash(id: TaskId) -> u64 {
    let product = id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    product ^ product >> 32
}

impl ops::Index<Key> for Batches {
    type Output = Batch;

    fn index(&self, key: Key) -> &Batch {
        &self.slots[key.index()]
    }
}

impl ops::IndexMut<Key> for Batches {
    fn index_mut(&mut self, key: Key) -> &mut Batch {
        &mut self.slots[key.index()]
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use stockade_wire::ModuleId;

    use super::super::{EntryKey, Submission};
    use super::*;

    fn batch(first: u64, count: u32) -> Batch {
        let submission = Submission {
            tasks: TaskRange::new(TaskId(first), count).unwrap(),
            entry: EntryKey(0),
            module: ModuleId(0),
            priority: 0,
            task_bytes: 0,
            wall_time: None,
            retries: 0,
        };
        Batch::new(&submission, 0)
    }

    #[test]
    fn a_queued_batch_of_one_takes_no_more_than_76_bytes() {
        // What a slab keeps a batch in: the batch, or the next free slot.
        let slot_bytes = size_of::<Result<Batch, usize>>();
        let (mut batches, mut most) = (Batches::default(), 0);
        for id in 1..=1_000_000 {
            batches.insert(batch(id, 1));
            if id > 1_000 {
                most = most.max(batches.by_last.allocation_size().div_ceil(id as usize));
            }
        }
        assert!(batches.longer.is_empty());
        assert!(slot_bytes + most <= 76, "{slot_bytes} bytes of slot, {most} of index");
    }

    #[test]
    fn every_task_is_found_until_it_is_removed_whatever_the_order() {
        let mut batches = Batches::default();
        // Ids that follow each other, ids with the same hash in the bits that a small table looks at, and
        // some of each that stay while others pass.
        let alike = (5_000..5_300).map(|id: u64| id << 40);
        let ids = (1..5_000).chain(alike);
        let mut present = BTreeSet::new();
        for (step, id) in ids.clone().enumerate() {
            if present.insert(id) {
                batches.insert(batch(id, 1));
            }
            if step % 3 > 0 {
                let victim = if step % 2 == 0 { present.first() } else { present.last() };
                let victim = victim.copied().filter(|id| id % 11 > 0);
                if let Some(victim) = victim {
                    present.remove(&victim);
                    batches.remove(batches.find(TaskId(victim)).unwrap());
                    assert_eq!(batches.find(TaskId(victim)), None);
                }
            }
            assert_eq!(batches.tasks(), present.len());
        }
        for id in ids {
            let key = batches.find(TaskId(id));
            let found = key.map(|key| batches[key].tasks.first());
            assert_eq!(found, present.contains(&id).then_some(TaskId(id)));
            key.into_iter().for_each(|key| batches.remove(key));
        }
        assert!(batches.is_empty() && batches.iter().next().is_none());
    }

    fn ranges(batches: &Batches) -> Vec<(u64, u64)> {
        batches.check_invariants();
        let bounds = |(_, batch): (_, &Batch)| (batch.tasks.first().0, batch.tasks.last().0);
        let mut ranges: Vec<_> = batches.iter().map(bounds).collect();
        ranges.sort_unstable();
        ranges
    }

    #[test]
    fn tasks_are_found_in_whatever_part_of_a_batch_they_are_by_now() {
        let mut batches = Batches::default();
        batches.insert(batch(1, 1));
        let key = batches.insert(batch(5, 10));
        batches.insert(batch(20, 2));
        batches.remove_first(key, 2);
        assert_eq!(ranges(&batches), [(1, 1), (7, 14), (20, 21)]);
        for gone in [0, 2, 4, 5, 6, 15, 19, 22] {
            assert_eq!(batches.find(TaskId(gone)), None);
        }
        let rest = batches.split(key, TaskId(9));
        assert_eq!(ranges(&batches), [(1, 1), (7, 8), (9, 14), (20, 21)]);
        assert_eq!(batches.find(TaskId(8)), Some(key));
        assert_eq!(batches.find(TaskId(9)), Some(rest));
        batches.remove_first(key, 1);
        let last = batches.split(rest, TaskId(14));
        assert_eq!(ranges(&batches), [(1, 1), (8, 8), (9, 13), (14, 14), (20, 21)]);
        batches.remove_first(key, 1);
        batches.remove(rest);
        batches.remove_first(last, u32::MAX);
        assert_eq!(ranges(&batches), [(1, 1), (20, 21)]);
        assert_eq!(batches.tasks(), 3);
    }

    #[test]
    fn a_table_that_was_large_gives_its_memory_back_when_it_is_empty() {
        let mut batches = Batches::default();
        for id in 0..100_000 {
            batches.insert(batch(id, 1));
        }
        for id in 0..100_000 {
            batches.remove(batches.find(TaskId(id)).unwrap());
        }
        assert_eq!((batches.slots.capacity(), batches.by_last.allocation_size()), (0, 0));
    }
}

//! The tasks that are not resolved, by id and by key.
//!
//! ```text
//! TaskId ──► index ──► Key ──► slot: Task
//!                       ▲
//!            Queue, Window: know keys
//! ```
//!
//! A key finds its task without a search. Slots are used again, keys with them: whoever keeps a key
//! gives it up when the task is resolved.
//!
//! Invariant: a task takes a slot and at most twelve bytes of the index, 76 bytes in all; a test holds
//! it to that.
//!
//! Deliberately absent: what becomes of a task; and defence against ids that were chosen to collide,
//! since the pool chooses them.

use core::num::NonZeroU32;
use core::ops;

use hashbrown::HashTable;
use slab::Slab;
use stockade_wire::TaskId;

use super::task::Task;

/// Where a task is kept until it is resolved. Not zero, so that none costs no more than one.
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

/// Unresolved tasks. Every method takes constant time, but for when a table grows.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    slots: Slab<Task>,
    /// Keys alone: the caller knows the id, and the slot has it too.
    index: HashTable<Key>,
}

/// Slots that an empty table keeps; one that has held more gives its memory back.
const SLOTS_KEPT: usize = 16_384;

impl Tasks {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether every task is resolved.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Adds a task, whose id is never used before.
    pub(super) fn insert(&mut self, task: Task) -> Key {
        let id = task.id;
        let key = Key::new(self.slots.insert(task));
        let slots = &self.slots;
        self.index.insert_unique(hash(id), key, |key| hash(slots[key.index()].id));
        key
    }

    /// Takes a task out.
    pub(super) fn remove(&mut self, key: Key) {
        let task = self.slots.remove(key.index());
        if let Ok(entry) = self.index.find_entry(hash(task.id), |found| *found == key) {
            entry.remove();
        }
        if self.slots.is_empty() && self.slots.capacity() > SLOTS_KEPT {
            *self = Self::default();
        }
    }

    /// Where the task of an id is kept.
    pub(super) fn find(&self, id: TaskId) -> Option<Key> {
        self.index.find(hash(id), |key| self[*key].id == id).copied()
    }

    /// All of them, in no order that means anything.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Task)> {
        self.slots.iter().map(|(index, task)| (Key::new(index), task))
    }
}

/// Spreads ids that follow each other: a multiplication by 2^64 divided by the golden ratio (Knuth, The
/// Art of Computer Programming, volume 3, section 6.4), with the highest bits in the lowest too, where
/// the table looks.
fn hash(id: TaskId) -> u64 {
    let product = id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    product ^ product >> 32
}

impl ops::Index<Key> for Tasks {
    type Output = Task;

    fn index(&self, key: Key) -> &Task {
        &self.slots[key.index()]
    }
}

impl ops::IndexMut<Key> for Tasks {
    fn index_mut(&mut self, key: Key) -> &mut Task {
        &mut self.slots[key.index()]
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use stockade_wire::ModuleId;

    use super::super::Submission;
    use super::*;

    fn task(id: u64) -> Task {
        let submission = Submission {
            task: TaskId(id),
            module: ModuleId(0),
            priority: 0,
            chunk: None,
            inline_bytes: 0,
            wall_time: None,
            retries: 0,
        };
        Task::new(&submission, 0)
    }

    #[test]
    fn a_queued_task_takes_no_more_than_76_bytes() {
        // What a slab keeps a task in: the task, or the next free slot.
        let slot_bytes = size_of::<Result<Task, usize>>();
        let (mut tasks, mut most) = (Tasks::default(), 0);
        for id in 1..=1_000_000 {
            tasks.insert(task(id));
            if id > 1_000 {
                most = most.max(tasks.index.allocation_size().div_ceil(id as usize));
            }
        }
        assert!(slot_bytes + most <= 76, "{slot_bytes} bytes of slot, {most} of index");
    }

    #[test]
    fn every_task_is_found_until_it_is_removed_whatever_the_order() {
        let mut tasks = Tasks::default();
        // Ids that follow each other, ids with the same hash in the bits that a small table looks at, and
        // some of each that stay while others pass.
        let alike = (5_000..5_300).map(|id: u64| id << 40);
        let ids = (1..5_000).chain(alike);
        let mut present = BTreeSet::new();
        for (step, id) in ids.clone().enumerate() {
            if present.insert(id) {
                tasks.insert(task(id));
            }
            if step % 3 > 0 {
                let victim = if step % 2 == 0 { present.first() } else { present.last() };
                let victim = victim.copied().filter(|id| id % 11 > 0);
                if let Some(victim) = victim {
                    present.remove(&victim);
                    tasks.remove(tasks.find(TaskId(victim)).unwrap());
                    assert_eq!(tasks.find(TaskId(victim)), None);
                }
            }
            assert_eq!(tasks.len(), present.len());
        }
        for id in ids {
            let key = tasks.find(TaskId(id));
            let found = key.map(|key| tasks[key].id);
            assert_eq!(found, present.contains(&id).then_some(TaskId(id)));
            key.into_iter().for_each(|key| tasks.remove(key));
        }
        assert!(tasks.is_empty() && tasks.iter().next().is_none());
    }

    #[test]
    fn a_table_that_was_large_gives_its_memory_back_when_it_is_empty() {
        let mut tasks = Tasks::default();
        for id in 0..100_000 {
            tasks.insert(task(id));
        }
        for id in 0..100_000 {
            tasks.remove(tasks.find(TaskId(id)).unwrap());
        }
        assert_eq!((tasks.slots.capacity(), tasks.index.allocation_size()), (0, 0));
    }
}

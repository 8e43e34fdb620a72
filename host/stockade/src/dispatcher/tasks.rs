//! The tasks that are not resolved, by id and by key.
//!
//! ```text
//! TaskId ──► Index ──► Key ──► slot: Task
//!                       ▲
//!            Queue, Window: know keys
//! ```
//!
//! A key finds its task without a search. Slots are used again, keys with them: whoever keeps a key
//! gives it up when the task is resolved.
//!
//! Invariant: a task takes a slot and at most eleven bytes of the index, 75 bytes in all; a test holds
//! it to that.
//!
//! Deliberately absent: what becomes of a task.

use std::num::NonZeroU32;
use std::ops;

use stockade_wire::TaskId;

use super::index::Index;
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

#[derive(Debug)]
enum Slot {
    Taken(Task),
    /// The next free one.
    Free(Option<Key>),
}

/// Unresolved tasks. Every method takes constant time.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    slots: Vec<Slot>,
    free: Option<Key>,
    len: usize,
    index: Index,
}

/// Slots that an empty table keeps; one that has held more gives its memory back.
const SLOTS_KEPT: usize = 16_384;

impl Tasks {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether every task is resolved.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a task, whose id is never used before.
    pub(super) fn insert(&mut self, task: Task) -> Key {
        let id = task.id;
        let key = match self.free {
            Some(key) => {
                if let Slot::Free(next) = self.slots[key.index()] {
                    self.free = next;
                }
                self.slots[key.index()] = Slot::Taken(task);
                key
            }
            None => {
                self.slots.push(Slot::Taken(task));
                Key::new(self.slots.len() - 1)
            }
        };
        self.len += 1;
        let slots = &self.slots;
        self.index.insert(id, key, |key| id_in(slots, key));
        key
    }

    /// Takes a task out.
    pub(super) fn remove(&mut self, key: Key) {
        let slots = &self.slots;
        self.index.remove(id_in(slots, key), |key| id_in(slots, key));
        self.slots[key.index()] = Slot::Free(self.free);
        self.free = Some(key);
        self.len -= 1;
        if self.len == 0 && self.slots.capacity() > SLOTS_KEPT {
            *self = Self::default();
        }
    }

    /// Where the task of an id is kept.
    pub(super) fn find(&self, id: TaskId) -> Option<Key> {
        self.index.find(id, |key| id_in(&self.slots, key))
    }

    /// All of them, in no order that means anything.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Task)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| match slot {
            Slot::Taken(task) => Some((Key::new(index), task)),
            Slot::Free(_) => None,
        })
    }
}

fn id_in(slots: &[Slot], key: Key) -> TaskId {
    match &slots[key.index()] {
        Slot::Taken(task) => task.id,
        Slot::Free(_) => unreachable!("a key is given up with its task"),
    }
}

impl ops::Index<Key> for Tasks {
    type Output = Task;

    fn index(&self, key: Key) -> &Task {
        match &self.slots[key.index()] {
            Slot::Taken(task) => task,
            Slot::Free(_) => unreachable!("a key is given up with its task"),
        }
    }
}

impl ops::IndexMut<Key> for Tasks {
    fn index_mut(&mut self, key: Key) -> &mut Task {
        match &mut self.slots[key.index()] {
            Slot::Taken(task) => task,
            Slot::Free(_) => unreachable!("a key is given up with its task"),
        }
    }
}

#[cfg(test)]
mod tests {
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
    fn a_queued_task_takes_no_more_than_75_bytes() {
        assert_eq!(size_of::<Slot>(), 64);
        let (mut tasks, mut most) = (Tasks::default(), 0);
        for id in 1..=1_000_000 {
            tasks.insert(task(id));
            let buckets = tasks.index.bytes();
            if id > 1_000 {
                most = most.max(buckets.div_ceil(id as usize));
            }
        }
        assert!(size_of::<Slot>() + most <= 75, "{most} bytes of index");
    }

    #[test]
    fn every_task_is_found_until_it_is_removed_whatever_the_order() {
        let mut tasks = Tasks::default();
        // Ids that follow each other, ids that all belong in the first bucket, and some of each that
        // stay while others pass.
        let first_bucket = (5_000..5_300).map(|id: u64| id.wrapping_mul(Index::FIRST_BUCKET_STEP));
        let ids = (1..5_000).chain(first_bucket);
        let mut present = std::collections::BTreeSet::new();
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
        assert_eq!(tasks.slots.capacity(), 0);
    }
}

//! The driver's entries: every batch that has not ended, under the key that the dispatcher passes back.
//!
//! Invariant: a key is used again only once its entry has ended, of which the dispatcher was the first
//! to know.

use std::collections::BTreeMap;

use slab::Slab;
use stockade_wire::{TaskId, TaskRange};

use crate::backend::entry::{Entry, EntryMut, TaskEntry};
use stockade_dispatcher::EntryKey;

/// Batches that have not ended.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// Single tasks, of which a million may wait: a slot is two words.
    tasks: Slab<TaskEntry>,
    /// All others.
    batches: Slab<Entry>,
    /// Those of several tasks, or of a map, by their first task, with their last: for who knows only a task.
    ranges: BTreeMap<TaskId, (TaskId, EntryKey)>,
}

/// Slots that an empty table keeps; one that has held more gives its memory back.
const SLOTS_KEPT: usize = 16_384;

/// Where an entry is kept.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Task(usize),
    Batch(usize),
}

impl Slot {
    fn key(self) -> EntryKey {
        let number = match self {
            Self::Task(index) => 2 * index,
            Self::Batch(index) => 2 * index + 1,
        };
        // There are never 2^31 of them: that would be 32 GiB.
        EntryKey(u32::try_from(number).unwrap_or(u32::MAX))
    }

    fn of(EntryKey(number): EntryKey) -> Self {
        let index = (number / 2) as usize;
        if number % 2 == 0 { Self::Task(index) } else { Self::Batch(index) }
    }
}

impl Entries {
    /// Adds a batch of tasks whose numbers were never used before.
    pub(super) fn insert(&mut self, tasks: TaskRange, entry: Entry) -> EntryKey {
        match entry {
            Entry::One(task) => Slot::Task(self.tasks.insert(task)).key(),
            batch => {
                let key = Slot::Batch(self.batches.insert(batch)).key();
                self.ranges.insert(tasks.first(), (tasks.last(), key));
                key
            }
        }
    }

    pub(super) fn get_mut(&mut self, key: EntryKey) -> Option<EntryMut<'_>> {
        match Slot::of(key) {
            Slot::Task(index) => self.tasks.get_mut(index).map(EntryMut::One),
            Slot::Batch(index) => self.batches.get_mut(index).map(Entry::as_mut),
        }
    }

    /// The entry of a task that travels with others, or of a map, if it has not ended.
    pub(super) fn key_of(&self, task: TaskId) -> Option<EntryKey> {
        let (_, &(last, key)) = self.ranges.range(..=task).next_back()?;
        // Else the task's own entry has ended, and this one is of tasks before it.
        (task <= last).then_some(key)
    }

    /// Forgets a batch that has ended.
    pub(super) fn remove(&mut self, key: EntryKey) {
        match Slot::of(key) {
            Slot::Task(index) => {
                self.tasks.try_remove(index);
                shrink(&mut self.tasks);
            }
            Slot::Batch(index) => {
                let batch = self.batches.try_remove(index);
                if let Some(first) = batch.and_then(|batch| batch.first_of_range()) {
                    self.ranges.remove(&first);
                }
                shrink(&mut self.batches);
            }
        }
    }
}

/// Gives an empty table's memory back.
fn shrink<T>(slots: &mut Slab<T>) {
    if slots.is_empty() && slots.capacity() > SLOTS_KEPT {
        *slots = Slab::new();
    }
}

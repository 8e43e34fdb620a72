//! The driver's entries: every batch that has not ended, under the key that the dispatcher passes back.
//!
//! Invariant: a key is used again only once its entry has ended, of which the dispatcher was the first
//! to know.

use std::collections::BTreeMap;

use slab::Slab;
use stockade_wire::{TaskId, TaskRange};

use crate::backend::entry::Entry;
use stockade_dispatcher::EntryKey;

/// Batches that have not ended.
#[derive(Debug, Default)]
pub(super) struct Entries {
    slots: Slab<Entry>,
    /// Those of several tasks, or of a map, by their first task, with their last: for who knows only a task.
    ranges: BTreeMap<TaskId, (TaskId, EntryKey)>,
}

/// Slots that an empty table keeps; one that has held more gives its memory back.
const SLOTS_KEPT: usize = 16_384;

impl Entries {
    /// Adds a batch of tasks whose numbers were never used before.
    pub(super) fn insert(&mut self, tasks: TaskRange, entry: Entry) -> EntryKey {
        let is_range = !matches!(entry, Entry::One(_));
        // There are never 2^32 of them: that would be 96 GiB.
        let key = EntryKey(u32::try_from(self.slots.insert(entry)).unwrap_or(u32::MAX));
        if is_range {
            self.ranges.insert(tasks.first(), (tasks.last(), key));
        }
        key
    }

    pub(super) fn get_mut(&mut self, key: EntryKey) -> Option<&mut Entry> {
        self.slots.get_mut(key.0 as usize)
    }

    /// The entry of a task that travels with others, or of a map, if it has not ended.
    pub(super) fn key_of(&self, task: TaskId) -> Option<EntryKey> {
        let (_, &(last, key)) = self.ranges.range(..=task).next_back()?;
        // Else the task's own entry has ended, and this one is of tasks before it.
        (task <= last).then_some(key)
    }

    /// Forgets a batch that has ended.
    pub(super) fn remove(&mut self, key: EntryKey) {
        let Some(entry) = self.slots.try_remove(key.0 as usize) else { return };
        if let Some(first) = entry.first_of_range() {
            self.ranges.remove(&first);
        }
        if self.slots.is_empty() && self.slots.capacity() > SLOTS_KEPT {
            self.slots = Slab::new();
        }
    }
}

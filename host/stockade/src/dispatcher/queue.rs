//! The queue: which tasks wait for a worker, in which order, and which of them travel together.
//!
//! Higher priorities stand before lower ones, strictly: a task waits for as long as one of a higher
//! priority does. Within a priority, tasks join at the back, and those that come back from a dead
//! worker at the front. A task in the middle leaves by its position, so that a cancel never searches.
//!
//! Invariant: `batches` is the number of entries that do not continue their predecessor's chunk.
//!
//! Deliberately absent: what becomes of a task.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use stockade_wire::{ChunkId, TaskId};

/// Where a task stands: lower is earlier. Never used twice by one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    priority: Reverse<i32>,
    order: i64,
}

/// A task that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) task: TaskId,
    pub(super) priority: i32,
    pub(super) chunk: Option<ChunkId>,
    pub(super) inline_bytes: usize,
}

impl Entry {
    /// Whether `self` may travel in the batch that ends with `previous`.
    fn continues(&self, previous: Option<&Self>) -> bool {
        self.chunk.is_some() && previous.is_some_and(|previous| previous.chunk == self.chunk)
    }
}

/// Tasks that wait for a worker. Every method takes logarithmic time for every task it moves.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: BTreeMap<Position, Entry>,
    /// Entries ever pushed at the back, which names the next position there.
    pushed_back: i64,
    /// Entries ever pushed at the front, likewise.
    pushed_front: i64,
    batches: usize,
}

impl Queue {
    /// Whether no task waits.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Runs of tasks that may travel together: how many workers have something to do here.
    pub(super) fn batches(&self) -> usize {
        self.batches
    }

    /// Adds a task behind all others of its priority.
    pub(super) fn push_back(&mut self, entry: Entry) -> Position {
        self.pushed_back += 1;
        self.insert(self.pushed_back - 1, entry)
    }

    /// Adds a task before all others of its priority.
    pub(super) fn push_front(&mut self, entry: Entry) -> Position {
        self.pushed_front += 1;
        self.insert(-self.pushed_front, entry)
    }

    fn insert(&mut self, order: i64, entry: Entry) -> Position {
        let position = Position { priority: Reverse(entry.priority), order };
        let (without, with) = self.heads_around(position, &entry);
        self.batches = self.batches + with - without;
        self.entries.insert(position, entry);
        position
    }

    /// Takes a task out wherever it stands.
    pub(super) fn remove(&mut self, position: Position) -> Option<Entry> {
        let entry = self.entries.remove(&position)?;
        let (without, with) = self.heads_around(position, &entry);
        self.batches = self.batches + without - with;
        Some(entry)
    }

    /// How many batches begin at `position` and right behind it, without and with an entry there,
    /// which is not in the map now.
    fn heads_around(&self, position: Position, entry: &Entry) -> (usize, usize) {
        let previous = self.entries.range(..position).next_back().map(|(_, entry)| entry);
        let next = self.entries.range(position..).next().map(|(_, entry)| entry);
        let without = next.is_some_and(|next| !next.continues(previous));
        let next_with = next.is_some_and(|next| !next.continues(Some(entry)));
        let with = usize::from(!entry.continues(previous)) + usize::from(next_with);
        (usize::from(without), with)
    }

    /// Takes the first task and those of its chunk right behind it, at most `tasks_max` of them,
    /// together at most `bytes_max` in line unless the first alone has more.
    pub(super) fn take_batch(&mut self, tasks_max: usize, bytes_max: usize) -> Vec<TaskId> {
        let mut batch = Vec::new();
        let mut last: Option<Entry> = None;
        let mut bytes = 0_usize;
        while let Some((&position, entry)) = self.entries.first_key_value() {
            bytes = bytes.saturating_add(entry.inline_bytes);
            let fits = batch.len() < tasks_max && bytes <= bytes_max;
            if last.is_some() && !(fits && entry.continues(last.as_ref())) {
                break;
            }
            last = self.remove(position);
            batch.extend(last.map(|entry| entry.task));
        }
        batch
    }

    /// Tasks that wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Everything that waits, in order.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = TaskId> {
        self.entries.values().map(|entry| entry.task)
    }

    /// The task at a position.
    #[cfg(test)]
    pub(super) fn at(&self, position: Position) -> Option<TaskId> {
        self.entries.get(&position).map(|entry| entry.task)
    }

    /// Panics where the queue contradicts itself.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let mut previous = None;
        let mut heads = 0;
        for entry in self.entries.values() {
            heads += usize::from(!entry.continues(previous));
            previous = Some(entry);
        }
        assert_eq!(heads, self.batches, "batches are counted as they are");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(task: u64, chunk: Option<u64>) -> Entry {
        Entry { task: TaskId(task), priority: 0, chunk: chunk.map(ChunkId), inline_bytes: 10 }
    }

    fn queue(entries: &[(u64, Option<u64>)]) -> (Queue, Vec<Position>) {
        let mut queue = Queue::default();
        let positions =
            entries.iter().map(|&(task, chunk)| queue.push_back(entry(task, chunk))).collect();
        (queue, positions)
    }

    fn batch(queue: &mut Queue, tasks_max: usize, bytes_max: usize) -> Vec<u64> {
        let batch = queue.take_batch(tasks_max, bytes_max);
        queue.check_invariants();
        batch.into_iter().map(|task| task.0).collect()
    }

    #[test]
    fn tasks_leave_in_the_order_of_their_arrival() {
        let (mut queue, _) = queue(&[(1, None), (2, None), (3, None)]);
        assert_eq!(batch(&mut queue, 9, 99), [1]);
        assert_eq!(batch(&mut queue, 9, 99), [2]);
        assert_eq!(batch(&mut queue, 9, 99), [3]);
        assert!(batch(&mut queue, 9, 99).is_empty());
    }

    #[test]
    fn a_task_pushed_at_the_front_leaves_first() {
        let (mut queue, _) = queue(&[(1, None)]);
        queue.push_front(entry(2, None));
        queue.push_front(entry(3, None));
        assert_eq!(queue.iter().map(|task| task.0).collect::<Vec<_>>(), [3, 2, 1]);
    }

    #[test]
    fn a_priority_has_a_front_and_a_back_of_its_own() {
        let mut queue = Queue::default();
        for (task, priority) in [(1, 0), (2, 1), (3, -1), (4, 1), (5, 0)] {
            queue.push_back(Entry { priority, ..entry(task, None) });
        }
        for (task, priority) in [(6, 0), (7, 1), (8, -1), (9, 2)] {
            queue.push_front(Entry { priority, ..entry(task, None) });
        }
        let order: Vec<_> = queue.iter().map(|task| task.0).collect();
        assert_eq!(order, [9, 7, 2, 4, 6, 1, 5, 8, 3]);
    }

    #[test]
    fn batches_stay_counted_when_a_task_joins_anywhere() {
        let between = |chunk| {
            let mut queue = Queue::default();
            queue.push_back(Entry { priority: 2, ..entry(1, Some(7)) });
            queue.push_back(Entry { priority: 0, ..entry(2, Some(7)) });
            assert_eq!(queue.batches(), 1);
            queue.push_front(Entry { priority: 1, ..entry(3, chunk) });
            queue.check_invariants();
            queue.batches()
        };
        assert_eq!(between(Some(7)), 1, "goes with both");
        assert_eq!(between(Some(8)), 3, "parts them");
        assert_eq!(between(None), 3);
    }

    #[test]
    fn a_batch_is_consecutive_tasks_of_one_chunk() {
        let (mut queue, _) = queue(&[(1, Some(7)), (2, Some(7)), (3, Some(8)), (4, Some(7))]);
        assert_eq!(queue.batches(), 3);
        assert_eq!(batch(&mut queue, 9, 99), [1, 2]);
        assert_eq!(batch(&mut queue, 9, 99), [3]);
        assert_eq!(batch(&mut queue, 9, 99), [4]);
    }

    #[test]
    fn a_batch_holds_as_many_tasks_as_allowed_and_no_more() {
        let (mut queue, _) = queue(&[(1, Some(7)), (2, Some(7)), (3, Some(7))]);
        assert_eq!(batch(&mut queue, 2, 99), [1, 2]);
        assert_eq!(batch(&mut queue, 2, 99), [3]);
    }

    #[test]
    fn a_batch_holds_as_many_bytes_as_allowed_and_no_more() {
        let tasks = [(1, Some(7)), (2, Some(7)), (3, Some(7))];
        assert_eq!(batch(&mut queue(&tasks).0, 9, 30), [1, 2, 3]);
        assert_eq!(batch(&mut queue(&tasks).0, 9, 29), [1, 2]);
        assert_eq!(batch(&mut queue(&tasks).0, 9, 9), [1], "a large task travels alone");
    }

    #[test]
    fn batches_stay_counted_when_a_task_leaves_from_anywhere() {
        let tasks = [(1, Some(7)), (2, None), (3, Some(7)), (4, Some(7)), (5, Some(8))];
        for (leaver, batches) in [(0, 3), (1, 2), (2, 4), (3, 4), (4, 3)] {
            let (mut queue, positions) = queue(&tasks);
            assert_eq!(queue.remove(positions[leaver]).unwrap().task, TaskId(leaver as u64 + 1));
            assert_eq!(queue.batches(), batches);
            queue.check_invariants();
            assert!(queue.remove(positions[leaver]).is_none(), "gone is gone");
        }
    }
}

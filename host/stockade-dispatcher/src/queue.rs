//! The queue: which batches wait for a worker, and in which order.
//!
//! ```text
//! priority 1: first ◄─► … ◄─► last        the links are in Batch::place,
//! priority 0: first ◄─► … ◄─► last        so that waiting costs no further memory
//! ```
//!
//! Higher priorities stand before lower ones, strictly: a batch waits for as long as one of a higher
//! priority does. Within a priority, batches join at the back, and those that come back from a worker
//! at the front. A batch in the middle leaves by its links, so that a cancel never searches.
//!
//! Invariant: a batch in the queue changes its tasks only by [`Queue::split`].
//!
//! Deliberately absent: what becomes of a task.

use alloc::collections::BTreeMap;
use core::cmp::Reverse;

use stockade_wire::{TaskId, TaskRange};

use super::batch::{Batch, Place};
use super::batches::{Batches, Key};

/// The batches of one priority, at least one.
#[derive(Clone, Copy, Debug)]
struct Line {
    first: Key,
    last: Key,
}

/// How much fits into a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) tasks: usize,
    pub(super) batches: usize,
    /// In line.
    pub(super) bytes: usize,
}

impl Room {
    /// How many tasks of so many bytes each fit.
    fn tasks_of(self, task_bytes: u32) -> usize {
        let by_bytes = self.bytes.checked_div(task_bytes as usize).unwrap_or(usize::MAX);
        if self.batches == 0 { 0 } else { self.tasks.min(by_bytes) }
    }

    fn without(self, batch: &Batch) -> Self {
        let bytes = batch.count().saturating_mul(batch.task_bytes as usize);
        Self {
            tasks: self.tasks.saturating_sub(batch.count()),
            batches: self.batches.saturating_sub(1),
            bytes: self.bytes.saturating_sub(bytes),
        }
    }
}

/// What a worker is given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Portion {
    /// One batch for a worker without work: whole if it fits, else its first tasks; at least one, if there
    /// is room for a task, however many bytes it has.
    First,
    /// Whole batches behind those that the worker has, for so many tasks. The first of them may have more.
    /// A batch is cut only if no window holds it whole.
    More { tasks: usize, window: Room },
}

/// Batches that wait for a worker. Every method takes constant time for every batch it moves, and
/// logarithmic time in the number of priorities.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: BTreeMap<Reverse<i32>, Line>,
    tasks: usize,
    batches: usize,
}

impl Queue {
    /// Whether no task waits.
    pub(super) fn is_empty(&self) -> bool {
        self.batches == 0
    }

    /// Tasks that wait.
    pub(super) fn tasks(&self) -> usize {
        self.tasks
    }

    /// Batches that wait.
    pub(super) fn batches(&self) -> usize {
        self.batches
    }

    /// Everything that waits, in order.
    pub(super) fn iter<'a>(&self, batches: &'a Batches) -> impl Iterator<Item = Key> + use<'a, '_> {
        self.lines.values().flat_map(move |line| {
            core::iter::successors(Some(line.first), |key| match batches[*key].place {
                Place::Queued { next, .. } => next,
                Place::Window(_) => None,
            })
        })
    }

    /// Adds a batch behind all others of its priority.
    pub(super) fn push_back(&mut self, batches: &mut Batches, key: Key) {
        let last = self.lines.get(&Reverse(batches[key].priority)).map(|line| line.last);
        self.insert(batches, key, last, None);
    }

    /// Adds a batch before all others of its priority.
    pub(super) fn push_front(&mut self, batches: &mut Batches, key: Key) {
        let first = self.lines.get(&Reverse(batches[key].priority)).map(|line| line.first);
        self.insert(batches, key, None, first);
    }

    /// Makes the rest of a batch that waits, from a task that is not its first, a batch of its own right
    /// behind it; returns that one's key.
    pub(super) fn split(&mut self, batches: &mut Batches, key: Key, task: TaskId) -> Key {
        let rest = batches.split(key, task);
        if rest != key {
            self.insert_split(batches, key, rest);
        }
        rest
    }

    /// Makes what stands behind some tasks of a batch that waits a batch of its own right behind it.
    pub(super) fn split_behind(&mut self, batches: &mut Batches, key: Key, tasks: TaskRange) {
        if let Some(rest) = batches.split_behind(key, tasks) {
            self.insert_split(batches, key, rest);
        }
    }

    fn insert_split(&mut self, batches: &mut Batches, key: Key, rest: Key) {
        if let Place::Queued { next, .. } = batches[key].place {
            // It is counted already, as a part of the whole.
            self.tasks -= batches[rest].count();
            self.insert(batches, rest, Some(key), next);
        }
    }

    fn insert(
        &mut self,
        batches: &mut Batches,
        key: Key,
        previous: Option<Key>,
        next: Option<Key>,
    ) {
        self.tasks += batches[key].count();
        self.batches += 1;
        batches[key].place = Place::Queued { previous, next };
        self.join(batches, key, previous, Some(key));
        self.join(batches, key, Some(key), next);
    }

    /// Takes a batch out wherever it stands. The caller sets its place.
    pub(super) fn remove(&mut self, batches: &mut Batches, key: Key) {
        let Place::Queued { previous, next } = batches[key].place else { return };
        self.tasks -= batches[key].count();
        self.batches -= 1;
        if previous.is_none() && next.is_none() {
            self.lines.remove(&Reverse(batches[key].priority));
        } else {
            self.join(batches, key, previous, next);
        }
    }

    /// Takes batches from the front, as far as they fit the room, and passes each to `to`.
    pub(super) fn take(
        &mut self,
        batches: &mut Batches,
        portion: Portion,
        mut room: Room,
        mut to: impl FnMut(Key, &mut Batch),
    ) {
        let mut taken = 0;
        while let Some((_, &Line { first, .. })) = self.lines.first_key_value() {
            let count = match portion {
                Portion::First if taken > 0 => 0,
                Portion::First => first_part(&batches[first], room),
                Portion::More { tasks, window } => {
                    next_part(&batches[first], room, tasks, taken, window)
                }
            };
            let Some((_, rest)) = (count > 0).then(|| {
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                batches[first].tasks.split_at(count)
            }) else {
                return;
            };
            if let Some(rest) = rest {
                self.split(batches, first, rest.first());
            }
            self.remove(batches, first);
            room = room.without(&batches[first]);
            taken += batches[first].count();
            to(first, &mut batches[first]);
        }
    }

    /// Lets one batch follow the other in the line of `key`; where either is missing, the line ends there.
    fn join(&mut self, batches: &mut Batches, key: Key, before: Option<Key>, behind: Option<Key>) {
        if let Some(before) = before
            && let Place::Queued { next, .. } = &mut batches[before].place
        {
            *next = behind;
        }
        if let Some(behind) = behind
            && let Place::Queued { previous, .. } = &mut batches[behind].place
        {
            *previous = before;
        }
        let (last, first) = match (before, behind) {
            (Some(last), None) => (Some(last), None),
            (None, Some(first)) => (None, Some(first)),
            _ => return,
        };
        let priority = Reverse(batches[key].priority);
        let line = self.lines.entry(priority).or_insert(Line { first: key, last: key });
        line.last = last.unwrap_or(line.last);
        line.first = first.unwrap_or(line.first);
    }

    /// Panics where the queue contradicts itself.
    #[cfg(test)]
    pub(super) fn check_invariants(&self, batches: &Batches) {
        let (mut previous, mut tasks, mut count) = (None::<Key>, 0, 0);
        for key in self.iter(batches) {
            let batch = &batches[key];
            let of_line = previous.filter(|key| batches[*key].priority == batch.priority);
            assert!(
                matches!(batch.place, Place::Queued { previous, .. } if previous == of_line),
                "a line is the same in both directions"
            );
            previous = Some(key);
            tasks += batch.count();
            count += 1;
        }
        assert_eq!((tasks, count), (self.tasks, self.batches), "the queue is miscounted");
        for (priority, line) in &self.lines {
            assert_eq!(*priority, Reverse(batches[line.last].priority));
            assert!(matches!(batches[line.last].place, Place::Queued { next: None, .. }));
        }
    }
}

/// How many of a batch's tasks go to a worker without work.
fn first_part(batch: &Batch, room: Room) -> usize {
    let fits = room.tasks_of(batch.task_bytes).max(1);
    batch.count().min(fits).min(room.tasks_of(0))
}

/// How many of a batch's tasks go behind those that a worker has, if it is to get about `wanted` and has
/// got `taken` of them.
fn next_part(batch: &Batch, room: Room, wanted: usize, taken: usize, window: Room) -> usize {
    let (count, fits) = (batch.count(), room.tasks_of(batch.task_bytes));
    let is_wanted = taken == 0 || taken.saturating_add(count) <= wanted;
    if count <= fits {
        return if is_wanted { count } else { 0 };
    }
    // It will be cut anyhow.
    let is_oversized = count > window.tasks_of(batch.task_bytes);
    if is_oversized { fits.min(wanted.saturating_sub(taken)) } else { 0 }
}

#[cfg(test)]
mod tests {
    use stockade_wire::{ModuleId, WorkerId};

    use super::super::{EntryKey, Submission};
    use super::*;

    /// What an empty window holds.
    const WINDOW: Room = Room { tasks: 9, batches: 9, bytes: 90 };

    /// A queue with the batches in it.
    #[derive(Default)]
    struct Bench {
        batches: Batches,
        queue: Queue,
    }

    impl Bench {
        /// Batches of these tasks, from the first to the last.
        fn new(batches: &[(u64, u64)]) -> Self {
            let mut bench = Self::default();
            for &tasks in batches {
                bench.push_back(tasks, 0);
            }
            bench
        }

        fn add(&mut self, (first, last): (u64, u64), priority: i32) -> Key {
            let submission = Submission {
                tasks: TaskRange::between(TaskId(first), TaskId(last)).unwrap(),
                entry: EntryKey(0),
                module: ModuleId(0),
                priority,
                task_bytes: 10,
                wall_time: None,
                retries: 0,
            };
            self.batches.insert(Batch::new(&submission, 0))
        }

        fn push_back(&mut self, tasks: (u64, u64), priority: i32) {
            let key = self.add(tasks, priority);
            self.queue.push_back(&mut self.batches, key);
            self.check();
        }

        fn push_front(&mut self, tasks: (u64, u64), priority: i32) {
            let key = self.add(tasks, priority);
            self.queue.push_front(&mut self.batches, key);
            self.check();
        }

        fn take(&mut self, portion: Portion, room: Room) -> Vec<(u64, u64)> {
            let mut taken = Vec::new();
            self.queue.take(&mut self.batches, portion, room, |_, batch| {
                batch.place = Place::Window(WorkerId(1));
                taken.push(bounds(batch));
            });
            self.check();
            taken
        }

        fn first(&mut self, tasks: usize, bytes: usize) -> Vec<(u64, u64)> {
            self.take(Portion::First, Room { tasks, bytes, ..WINDOW })
        }

        fn more(&mut self, tasks: usize, room: Room) -> Vec<(u64, u64)> {
            self.take(Portion::More { tasks, window: WINDOW }, room)
        }

        fn order(&self) -> Vec<(u64, u64)> {
            self.queue.iter(&self.batches).map(|key| bounds(&self.batches[key])).collect()
        }

        fn check(&self) {
            self.queue.check_invariants(&self.batches);
            self.batches.check_invariants();
        }
    }

    fn bounds(batch: &Batch) -> (u64, u64) {
        (batch.tasks.first().0, batch.tasks.last().0)
    }

    #[test]
    fn batches_leave_in_the_order_of_their_arrival() {
        let mut bench = Bench::new(&[(1, 1), (2, 4), (5, 5)]);
        assert_eq!((bench.queue.tasks(), bench.queue.batches()), (5, 3));
        assert_eq!(bench.first(9, 99), [(1, 1)]);
        assert_eq!(bench.first(9, 99), [(2, 4)]);
        assert_eq!(bench.first(9, 99), [(5, 5)]);
        assert!(bench.first(9, 99).is_empty());
    }

    #[test]
    fn a_batch_pushed_at_the_front_leaves_first() {
        let mut bench = Bench::new(&[(1, 1)]);
        bench.push_front((2, 2), 0);
        bench.push_front((3, 4), 0);
        assert_eq!(bench.order(), [(3, 4), (2, 2), (1, 1)]);
    }

    #[test]
    fn a_priority_has_a_front_and_a_back_of_its_own() {
        let mut bench = Bench::default();
        for (task, priority) in [(1, 0), (2, 1), (3, -1), (4, 1), (5, 0)] {
            bench.push_back((task, task), priority);
        }
        for (task, priority) in [(6, 0), (7, 1), (8, -1), (9, 2)] {
            bench.push_front((task, task), priority);
        }
        let order: Vec<_> = bench.order().into_iter().map(|(first, _)| first).collect();
        assert_eq!(order, [9, 7, 2, 4, 6, 1, 5, 8, 3]);
    }

    #[test]
    fn a_batch_is_split_in_its_place() {
        for split in [1, 4, 8] {
            let mut bench = Bench::new(&[(1, 3), (4, 6), (7, 9)]);
            let key = bench.batches.find(TaskId(split + 1)).unwrap();
            let rest = bench.queue.split(&mut bench.batches, key, TaskId(split + 1));
            assert!(rest != key);
            bench.check();
            assert_eq!((bench.queue.tasks(), bench.queue.batches()), (9, 4));
            let tasks = bench.order().into_iter().flat_map(|(first, last)| first..=last);
            assert_eq!(tasks.collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
            bench.queue.remove(&mut bench.batches, rest);
            bench.batches.remove(rest);
            bench.check();
        }
        let mut bench = Bench::new(&[(1, 3)]);
        let key = bench.batches.find(TaskId(1)).unwrap();
        assert_eq!(
            bench.queue.split(&mut bench.batches, key, TaskId(1)),
            key,
            "nothing is before it"
        );
        assert_eq!(bench.order(), [(1, 3)]);
    }

    #[test]
    fn a_worker_without_work_is_given_one_batch_or_what_fits_of_it() {
        let taken = |tasks, bytes| {
            let mut bench = Bench::new(&[(1, 4), (5, 5)]);
            (bench.first(tasks, bytes), bench.order())
        };
        assert_eq!(taken(4, 40), (vec![(1, 4)], vec![(5, 5)]));
        assert_eq!(taken(3, 40), (vec![(1, 3)], vec![(4, 4), (5, 5)]));
        assert_eq!(taken(4, 39), (vec![(1, 3)], vec![(4, 4), (5, 5)]));
        assert_eq!(taken(4, 9), (vec![(1, 1)], vec![(2, 4), (5, 5)]), "a large task goes alone");
        assert_eq!(taken(0, 40), (vec![], vec![(1, 4), (5, 5)]));
    }

    #[test]
    fn a_busy_worker_is_given_whole_batches_as_long_as_they_are_wanted_and_fit() {
        let batches = [(1, 3), (4, 4), (5, 7)];
        let more = |tasks, room| Bench::new(&batches).more(tasks, room);
        assert_eq!(more(7, WINDOW), batches);
        assert_eq!(more(6, WINDOW), batches[..2]);
        assert_eq!(more(1, WINDOW), batches[..1], "the first may have more than is wanted");
        assert_eq!(more(7, Room { tasks: 6, ..WINDOW }), batches[..2]);
        assert_eq!(more(7, Room { bytes: 69, ..WINDOW }), batches[..2]);
        assert_eq!(more(7, Room { batches: 2, ..WINDOW }), batches[..2]);
        assert_eq!(more(7, Room { batches: 0, ..WINDOW }), []);
        assert_eq!(more(7, Room { tasks: 2, ..WINDOW }), [], "it is not cut");
        assert_eq!(more(7, Room { bytes: 29, ..WINDOW }), []);
    }

    #[test]
    fn a_batch_that_no_window_holds_is_cut_for_a_busy_worker_too() {
        let more = |tasks, room| Bench::new(&[(1, 10)]).more(tasks, room);
        assert_eq!(more(4, WINDOW), [(1, 4)]);
        assert_eq!(more(40, Room { tasks: 3, ..WINDOW }), [(1, 3)]);
        assert_eq!(more(40, Room { bytes: 9, ..WINDOW }), []);
        assert_eq!(more(4, Room { batches: 0, ..WINDOW }), []);
        let mut bench = Bench::new(&[(1, 3), (4, 13)]);
        assert_eq!(bench.more(5, WINDOW), [(1, 3), (4, 5)]);
        assert_eq!(bench.order(), [(6, 13)]);
    }
}

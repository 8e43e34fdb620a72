//! The queue: which tasks wait for a worker, in which order, and which of them travel together.
//!
//! ```text
//! priority 1: first ◄─► … ◄─► last        the links are in Task::place,
//! priority 0: first ◄─► … ◄─► last        so that to wait costs nothing more
//! ```
//!
//! Higher priorities stand before lower ones, strictly: a task waits for as long as one of a higher
//! priority does. Within a priority, tasks join at the back, and those that come back from a worker
//! at the front. A task in the middle leaves by its links, so that a cancel never searches.
//!
//! Invariant: `batches` is the number of tasks that do not continue their predecessor's chunk.
//!
//! Deliberately absent: what becomes of a task.

use alloc::collections::BTreeMap;
use core::cmp::Reverse;
use core::ops::Bound;

use super::task::{Place, Task};
use super::tasks::{Key, Tasks};

/// The tasks of one priority, at least one.
#[derive(Clone, Copy, Debug)]
struct Line {
    first: Key,
    last: Key,
}

/// How much somebody takes at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portion {
    pub(super) tasks_max: usize,
    /// In line.
    pub(super) bytes_max: usize,
    /// Of one chunk only; but its first task however large it is.
    pub(super) is_batch: bool,
}

/// Tasks that wait for a worker. Every method takes constant time for every task it moves, and
/// logarithmic time in the number of priorities.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: BTreeMap<Reverse<i32>, Line>,
    len: usize,
    batches: usize,
}

impl Queue {
    /// Whether no task waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tasks that wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Runs of tasks that may travel together: how many workers have something to do here.
    pub(super) fn batches(&self) -> usize {
        self.batches
    }

    /// Everything that waits, in order.
    pub(super) fn iter<'a>(&self, tasks: &'a Tasks) -> impl Iterator<Item = Key> + use<'a, '_> {
        self.lines.values().flat_map(move |line| {
            core::iter::successors(Some(line.first), |key| match tasks[*key].place {
                Place::Queued { next, .. } => next,
                Place::Window(_) => None,
            })
        })
    }

    /// Adds a task behind all others of its priority.
    pub(super) fn push_back(&mut self, tasks: &mut Tasks, key: Key) {
        let last = self.lines.get(&Reverse(tasks[key].priority)).map(|line| line.last);
        self.insert(tasks, key, last, None);
    }

    /// Adds a task before all others of its priority.
    pub(super) fn push_front(&mut self, tasks: &mut Tasks, key: Key) {
        let first = self.lines.get(&Reverse(tasks[key].priority)).map(|line| line.first);
        self.insert(tasks, key, None, first);
    }

    fn insert(&mut self, tasks: &mut Tasks, key: Key, previous: Option<Key>, next: Option<Key>) {
        let (without, with) = self.heads_around(tasks, key, previous, next);
        self.batches = self.batches + with - without;
        self.len += 1;
        tasks[key].place = Place::Queued { previous, next };
        self.join(tasks, key, previous, Some(key));
        self.join(tasks, key, Some(key), next);
    }

    /// Takes a task out wherever it stands. Its place is then its taker's to say.
    pub(super) fn remove(&mut self, tasks: &mut Tasks, key: Key) {
        let Place::Queued { previous, next } = tasks[key].place else { return };
        self.len -= 1;
        if previous.is_none() && next.is_none() {
            self.lines.remove(&Reverse(tasks[key].priority));
        } else {
            self.join(tasks, key, previous, next);
        }
        let (without, with) = self.heads_around(tasks, key, previous, next);
        self.batches = self.batches + without - with;
    }

    /// Takes tasks from the front and says each to `to`.
    pub(super) fn take(
        &mut self,
        tasks: &mut Tasks,
        portion: Portion,
        mut to: impl FnMut(Key, &mut Task),
    ) {
        let (mut last, mut bytes) = (None, 0_usize);
        for _ in 0..portion.tasks_max {
            let Some((_, &Line { first, .. })) = self.lines.first_key_value() else { return };
            let task = &tasks[first];
            bytes = bytes.saturating_add(task.inline_bytes as usize);
            let fits = bytes <= portion.bytes_max || portion.is_batch && last.is_none();
            let goes_along = |last: Key| !portion.is_batch || task.continues(Some(&tasks[last]));
            if !fits || !last.is_none_or(goes_along) {
                return;
            }
            self.remove(tasks, first);
            to(first, &mut tasks[first]);
            last = Some(first);
        }
    }

    /// Lets one task follow the other in the line of `key`; where either is none, it ends there.
    fn join(&mut self, tasks: &mut Tasks, key: Key, before: Option<Key>, behind: Option<Key>) {
        if let Some(before) = before
            && let Place::Queued { next, .. } = &mut tasks[before].place
        {
            *next = behind;
        }
        if let Some(behind) = behind
            && let Place::Queued { previous, .. } = &mut tasks[behind].place
        {
            *previous = before;
        }
        let (last, first) = match (before, behind) {
            (Some(last), None) => (Some(last), None),
            (None, Some(first)) => (None, Some(first)),
            _ => return,
        };
        let priority = Reverse(tasks[key].priority);
        let line = self.lines.entry(priority).or_insert(Line { first: key, last: key });
        line.last = last.unwrap_or(line.last);
        line.first = first.unwrap_or(line.first);
    }

    /// How many batches begin at `key` and right behind it, without and with that task, which stands
    /// between these two of its priority.
    fn heads_around(
        &self,
        tasks: &Tasks,
        key: Key,
        previous: Option<Key>,
        next: Option<Key>,
    ) -> (usize, usize) {
        let task = &tasks[key];
        let own = Reverse(task.priority);
        let lower = (Bound::Excluded(own), Bound::Unbounded);
        // Most pools know one priority, and this is on every task's way.
        let has_others = self.lines.len() > usize::from(previous.is_some() || next.is_some());
        let above = || self.lines.range(..own).next_back().map(|(_, line)| line.last);
        let below = || self.lines.range(lower).next().map(|(_, line)| line.first);
        let above = || has_others.then(above).flatten();
        let below = || has_others.then(below).flatten();
        let previous = previous.or_else(above).map(|key| &tasks[key]);
        let next = next.or_else(below).map(|key| &tasks[key]);
        let without = next.is_some_and(|next| !next.continues(previous));
        let next_with = next.is_some_and(|next| !next.continues(Some(task)));
        let with = usize::from(!task.continues(previous)) + usize::from(next_with);
        (usize::from(without), with)
    }

    /// Panics where the queue contradicts itself.
    #[cfg(test)]
    pub(super) fn check_invariants(&self, tasks: &Tasks) {
        let (mut previous, mut heads, mut len) = (None::<Key>, 0, 0);
        for key in self.iter(tasks) {
            let task = &tasks[key];
            heads += usize::from(!task.continues(previous.map(|key| &tasks[key])));
            let of_line = previous.filter(|key| tasks[*key].priority == task.priority);
            assert!(
                matches!(task.place, Place::Queued { previous, .. } if previous == of_line),
                "a line is the same in both directions"
            );
            previous = Some(key);
            len += 1;
        }
        assert_eq!(heads, self.batches, "batches are counted as they are");
        assert_eq!(len, self.len, "tasks are counted as they are");
        for (priority, line) in &self.lines {
            assert_eq!(*priority, Reverse(tasks[line.last].priority));
            assert!(matches!(tasks[line.last].place, Place::Queued { next: None, .. }));
        }
    }
}

#[cfg(test)]
mod tests {
    use stockade_wire::{ChunkId, ModuleId, TaskId, WorkerId};

    use super::super::Submission;
    use super::*;

    /// A queue with the tasks in it.
    #[derive(Default)]
    struct Bench {
        tasks: Tasks,
        queue: Queue,
    }

    impl Bench {
        fn new(tasks: &[(u64, Option<u64>)]) -> Self {
            let mut bench = Self::default();
            for &(id, chunk) in tasks {
                bench.push_back(id, chunk, 0);
            }
            bench
        }

        fn add(&mut self, id: u64, chunk: Option<u64>, priority: i32) -> Key {
            let submission = Submission {
                task: TaskId(id),
                module: ModuleId(0),
                priority,
                chunk: chunk.map(ChunkId),
                inline_bytes: 10,
                wall_time: None,
                retries: 0,
            };
            self.tasks.insert(Task::new(&submission, 0))
        }

        fn push_back(&mut self, id: u64, chunk: Option<u64>, priority: i32) {
            let key = self.add(id, chunk, priority);
            self.queue.push_back(&mut self.tasks, key);
            self.queue.check_invariants(&self.tasks);
        }

        fn push_front(&mut self, id: u64, chunk: Option<u64>, priority: i32) {
            let key = self.add(id, chunk, priority);
            self.queue.push_front(&mut self.tasks, key);
            self.queue.check_invariants(&self.tasks);
        }

        fn remove(&mut self, id: u64) {
            let key = self.tasks.find(TaskId(id)).unwrap();
            self.queue.remove(&mut self.tasks, key);
            self.tasks.remove(key);
            self.queue.check_invariants(&self.tasks);
        }

        fn take(&mut self, tasks_max: usize, bytes_max: usize, is_batch: bool) -> Vec<u64> {
            let mut taken = Vec::new();
            let portion = Portion { tasks_max, bytes_max, is_batch };
            self.queue.take(&mut self.tasks, portion, |_, task| {
                task.place = Place::Window(WorkerId(1));
                taken.push(task.id.0);
            });
            self.queue.check_invariants(&self.tasks);
            taken
        }

        fn batch(&mut self, tasks_max: usize, bytes_max: usize) -> Vec<u64> {
            self.take(tasks_max, bytes_max, true)
        }

        fn order(&self) -> Vec<u64> {
            self.queue.iter(&self.tasks).map(|key| self.tasks[key].id.0).collect()
        }
    }

    #[test]
    fn tasks_leave_in_the_order_of_their_arrival() {
        let mut bench = Bench::new(&[(1, None), (2, None), (3, None)]);
        assert_eq!(bench.batch(9, 99), [1]);
        assert_eq!(bench.batch(9, 99), [2]);
        assert_eq!(bench.batch(9, 99), [3]);
        assert!(bench.batch(9, 99).is_empty());
    }

    #[test]
    fn a_task_pushed_at_the_front_leaves_first() {
        let mut bench = Bench::new(&[(1, None)]);
        bench.push_front(2, None, 0);
        bench.push_front(3, None, 0);
        assert_eq!(bench.order(), [3, 2, 1]);
    }

    #[test]
    fn a_priority_has_a_front_and_a_back_of_its_own() {
        let mut bench = Bench::default();
        for (task, priority) in [(1, 0), (2, 1), (3, -1), (4, 1), (5, 0)] {
            bench.push_back(task, None, priority);
        }
        for (task, priority) in [(6, 0), (7, 1), (8, -1), (9, 2)] {
            bench.push_front(task, None, priority);
        }
        assert_eq!(bench.order(), [9, 7, 2, 4, 6, 1, 5, 8, 3]);
    }

    #[test]
    fn batches_stay_counted_when_a_task_joins_anywhere() {
        let between = |chunk| {
            let mut bench = Bench::default();
            bench.push_back(1, Some(7), 2);
            bench.push_back(2, Some(7), 0);
            assert_eq!(bench.queue.batches(), 1);
            bench.push_front(3, chunk, 1);
            bench.queue.batches()
        };
        assert_eq!(between(Some(7)), 1, "goes with both");
        assert_eq!(between(Some(8)), 3, "parts them");
        assert_eq!(between(None), 3);
    }

    #[test]
    fn a_batch_is_consecutive_tasks_of_one_chunk() {
        let mut bench = Bench::new(&[(1, Some(7)), (2, Some(7)), (3, Some(8)), (4, Some(7))]);
        assert_eq!(bench.queue.batches(), 3);
        assert_eq!(bench.batch(9, 99), [1, 2]);
        assert_eq!(bench.batch(9, 99), [3]);
        assert_eq!(bench.batch(9, 99), [4]);
    }

    #[test]
    fn a_batch_holds_as_many_tasks_as_allowed_and_no_more() {
        let mut bench = Bench::new(&[(1, Some(7)), (2, Some(7)), (3, Some(7))]);
        assert_eq!(bench.batch(2, 99), [1, 2]);
        assert_eq!(bench.batch(2, 99), [3]);
    }

    #[test]
    fn a_batch_holds_as_many_bytes_as_allowed_and_no_more() {
        let tasks = [(1, Some(7)), (2, Some(7)), (3, Some(7))];
        assert_eq!(Bench::new(&tasks).batch(9, 30), [1, 2, 3]);
        assert_eq!(Bench::new(&tasks).batch(9, 29), [1, 2]);
        assert_eq!(Bench::new(&tasks).batch(9, 9), [1], "a large task travels alone");
    }

    #[test]
    fn what_joins_others_may_be_of_any_chunk_but_has_to_fit() {
        let tasks = [(1, Some(7)), (2, None), (3, Some(8))];
        assert_eq!(Bench::new(&tasks).take(9, 30, false), [1, 2, 3]);
        assert_eq!(Bench::new(&tasks).take(2, 30, false), [1, 2]);
        assert_eq!(Bench::new(&tasks).take(9, 29, false), [1, 2]);
        assert!(Bench::new(&tasks).take(9, 9, false).is_empty());
    }

    #[test]
    fn batches_stay_counted_when_a_task_leaves_from_anywhere() {
        let tasks = [(1, Some(7)), (2, None), (3, Some(7)), (4, Some(7)), (5, Some(8))];
        for (leaver, batches) in [(1, 3), (2, 2), (3, 4), (4, 4), (5, 3)] {
            let mut bench = Bench::new(&tasks);
            bench.remove(leaver);
            assert_eq!(bench.queue.batches(), batches);
        }
    }
}

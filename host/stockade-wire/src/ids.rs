//! Ids of tasks, workers, modules and chunks. None is reused in a pool, so a late message can be
//! told from a current one.

use std::fmt;

use crate::codec::{Decode, DecodeError, Decoder, Encode, impl_borrow_decode};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($number:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        pub struct $name(pub $number);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A task of one pool, counted from 1 in the order of submission.
    TaskId(u64)
}
/// The most tasks of one batch.
pub const BATCH_TASKS_MAX: u32 = 1024;

/// Tasks whose numbers follow each other, at least one: a batch, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
pub struct TaskRange {
    first: TaskId,
    count: u32,
}

impl TaskRange {
    /// `count` tasks from `first` on; `None` if `count` is 0, or if the numbers do not reach that far.
    pub fn new(first: TaskId, count: u32) -> Option<Self> {
        let last = u64::from(count).checked_sub(1)?;
        first.0.checked_add(last)?;
        Some(Self { first, count })
    }

    /// The tasks from `first` to `last`; `None` where `last` comes before `first`, or far behind it.
    pub fn between(first: TaskId, last: TaskId) -> Option<Self> {
        let count = last.0.checked_sub(first.0)?.checked_add(1)?;
        Some(Self { first, count: u32::try_from(count).ok()? })
    }

    /// The first of them.
    pub fn first(self) -> TaskId {
        self.first
    }

    /// The last of them.
    pub fn last(self) -> TaskId {
        TaskId(self.first.0 + u64::from(self.count - 1))
    }

    /// How many they are, at least 1.
    pub fn count(self) -> u32 {
        self.count
    }

    /// Whether `task` is one of them.
    pub fn contains(self, task: TaskId) -> bool {
        self.index_of(task).is_some()
    }

    /// The place of `task` among them, from 0.
    pub fn index_of(self, task: TaskId) -> Option<u32> {
        let index = task.0.checked_sub(self.first.0)?;
        u32::try_from(index).ok().filter(|index| *index < self.count)
    }

    /// The tasks that are also in `other`.
    pub fn overlap(self, other: Self) -> Option<Self> {
        Self::between(self.first.max(other.first), self.last().min(other.last()))
    }

    /// The tasks before `index`, and those from it on.
    pub fn split_at(self, index: u32) -> (Option<Self>, Option<Self>) {
        let index = index.min(self.count);
        let behind = TaskId(self.first.0.saturating_add(u64::from(index)));
        (Self::new(self.first, index), Self::new(behind, self.count - index))
    }

    /// The tasks before `task`, and those from it on.
    pub fn split_before(self, task: TaskId) -> (Option<Self>, Option<Self>) {
        let index = task.0.saturating_sub(self.first.0);
        self.split_at(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Each of them.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = TaskId> + ExactSizeIterator {
        (0..self.count).map(move |index| TaskId(self.first.0 + u64::from(index)))
    }
}

impl<Context> Decode<Context> for TaskRange {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (first, count) = (Decode::decode(decoder)?, Decode::decode(decoder)?);
        Self::new(first, count).ok_or(DecodeError::Other("no tasks"))
    }
}

impl_borrow_decode!(TaskRange);

impl From<TaskId> for TaskRange {
    fn from(task: TaskId) -> Self {
        Self { first: task, count: 1 }
    }
}

impl fmt::Display for TaskRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => self.first.fmt(f),
            _ => write!(f, "{} to {}", self.first, self.last()),
        }
    }
}

id! {
    /// A worker process of one pool, counted from 1 in the order of its start.
    WorkerId(u64)
}
id! {
    /// A module of one pool, counted from 0 in the order in which the builder was given it.
    ModuleId(u32)
}
id! {
    /// A chunk of one pool: tasks that are sent together and may share an instance.
    ChunkId(u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, last: u64) -> TaskRange {
        TaskRange::between(TaskId(first), TaskId(last)).unwrap()
    }

    #[test]
    fn a_range_has_at_least_one_task_and_no_number_beyond_the_last() {
        assert_eq!(TaskRange::new(TaskId(7), 0), None);
        assert_eq!(TaskRange::between(TaskId(7), TaskId(6)), None);
        assert_eq!(TaskRange::new(TaskId(u64::MAX), 2), None);
        assert_eq!(TaskRange::between(TaskId(1), TaskId(1 << 40)), None);
        assert_eq!(TaskRange::new(TaskId(u64::MAX), 1).unwrap().last(), TaskId(u64::MAX));
        assert_eq!(TaskRange::from(TaskId(7)), range(7, 7));
    }

    #[test]
    fn a_range_is_cut_anywhere() {
        let whole = range(5, 9);
        assert_eq!((whole.first(), whole.last(), whole.count()), (TaskId(5), TaskId(9), 5));
        assert_eq!(whole.split_at(0), (None, Some(whole)));
        assert_eq!(whole.split_at(2), (Some(range(5, 6)), Some(range(7, 9))));
        for behind in [5, 6, u32::MAX] {
            assert_eq!(whole.split_at(behind), (Some(whole), None));
        }
        assert_eq!(whole.split_before(TaskId(1)), (None, Some(whole)));
        assert_eq!(whole.split_before(TaskId(9)), (Some(range(5, 8)), Some(range(9, 9))));
        assert_eq!(whole.split_before(TaskId(u64::MAX)), (Some(whole), None));
        let end = range(u64::MAX - 1, u64::MAX);
        assert_eq!(end.split_at(2), (Some(end), None));
    }

    #[test]
    fn a_task_has_a_place_in_its_own_range_alone() {
        let whole = range(5, 9);
        let places = [4, 5, 9, 10, u64::MAX].map(|task| whole.index_of(TaskId(task)));
        assert_eq!(places, [None, Some(0), Some(4), None, None]);
        assert_eq!(whole.iter().map(|task| task.0).collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
    }

    #[test]
    fn ranges_overlap_where_both_are() {
        let whole = range(5, 9);
        assert_eq!(whole.overlap(range(1, 4)), None);
        assert_eq!(whole.overlap(range(1, 6)), Some(range(5, 6)));
        assert_eq!(whole.overlap(range(8, 20)), Some(range(8, 9)));
        assert_eq!(range(6, 7).overlap(whole), Some(range(6, 7)));
    }
}

//! The status page: one page of memory that a worker writes and its host reads.
//!
//! It carries what changes too often for messages, what must be readable after the worker's death,
//! and what two sides must agree on at once: how far the running task says it is, which task was
//! started last, and for each task of the window whether it has started or was taken back. Each
//! field is one atomic word, so a worker that writes nonsense gives the host a wrong number, or a
//! wrong answer about a task of its own, and nothing worse.
//!
//! ```text
//! host                                        worker
//! offer(slot, batch) ──► Run { slot } ──────► start(place) ─► true: runs, Finished; then the next
//! revoke(place) ───────► true: never starts                └► false: Recalled, for the rest
//! ```
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::mapping::{Mapping, MappingError};
use crate::slot::Slot;
use crate::{TaskId, TaskRange};

/// Slots of a worker's page: the most batches that may be on their way to it or in it.
pub const SLOTS_MAX: usize = 192;

const PAGE_BYTES: usize = 4096;

const _: () = assert!(size_of::<Words>() <= PAGE_BYTES);

#[repr(C)]
struct Words {
    /// The task started last, 0 before the first.
    started: AtomicU64,
    progress_task: AtomicU64,
    progress_done: AtomicU64,
    progress_total: AtomicU64,
    slots: [Slot; SLOTS_MAX],
}

/// Where a task stands on a status page: in which slot, and where in the batch that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSlot {
    /// The slot; less than [`SLOTS_MAX`].
    pub slot: u8,
    /// The first task of the batch.
    pub first: TaskId,
    /// The place of the task in its batch, from 0.
    pub index: u32,
}

impl PageSlot {
    /// The task.
    pub fn task(self) -> TaskId {
        TaskId(self.first.0.saturating_add(u64::from(self.index)))
    }
}

/// One side's view of the status page.
#[derive(Debug)]
pub struct StatusPage(Mapping);

impl StatusPage {
    /// Makes a page for one worker.
    ///
    /// # Errors
    /// [`MappingError::Io`] if memory files or mappings are not available.
    pub fn create() -> Result<Self, MappingError> {
        Mapping::create("stockade-status", PAGE_BYTES).map(Self)
    }

    /// Maps the page that `file` holds.
    ///
    /// # Errors
    /// [`MappingError`]
    pub fn open(file: File) -> Result<Self, MappingError> {
        Mapping::open(file, PAGE_BYTES).map(Self)
    }

    /// The descriptor to hand to the other side.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.descriptor()
    }

    /// Host: lets the tasks of `batch` start, one after the other, in a slot that the batch has to itself
    /// until it is answered whole. Before the batch is sent; what was written before is seen by the
    /// worker that starts one of them. A slot beyond [`SLOTS_MAX`] does not exist: what is offered there never
    /// starts.
    pub fn offer(&self, slot: u8, batch: TaskRange) {
        if let Some(slot) = self.slot(slot) {
            slot.offer(batch);
        }
    }

    /// Host: has the task at `place` never start, from any thread. True means that it has not started
    /// and never will, and nor will those behind it in its batch. False means that it has started, or
    /// is not in this slot. A worker that lies may answer true for a task that it runs all the same;
    /// what it then says of the task counts for nothing.
    #[must_use]
    pub fn revoke(&self, place: PageSlot) -> bool {
        self.slot(place.slot).is_some_and(|slot| slot.revoke(place.first, place.index))
    }

    /// Host: revokes the task at `place` and those behind it in its batch, as far as they have not
    /// started and were not revoked before, and returns them.
    #[must_use]
    pub fn revoke_from(&self, place: PageSlot) -> Option<TaskRange> {
        let (from, to) = self.slot(place.slot)?.revoke_from(place.first, place.index)?;
        let first = place.first.0.checked_add(u64::from(from))?;
        TaskRange::new(TaskId(first), to - from)
    }

    /// Host: whether the task at `place` has started. One that was not revoked in time has.
    pub fn has_started(&self, place: PageSlot) -> bool {
        self.slot(place.slot).is_some_and(|slot| slot.has_started(place.first, place.index))
    }

    /// Worker: starts the task at `place`. False means that it was revoked and must not run, and nor
    /// must those behind it in its batch. True is followed by its first instruction, and
    /// [`started`](Self::started) tells it before that: a worker that dies in between has run nothing
    /// of it.
    #[must_use]
    pub fn start(&self, place: PageSlot) -> bool {
        let starts = self.slot(place.slot).is_some_and(|slot| slot.start(place.first, place.index));
        if starts {
            self.words().started.store(place.task().0, Ordering::Release);
        }
        starts
    }

    /// Worker: `task` says that `done` of `total` is done.
    pub fn progress(&self, task: TaskId, done: u64, total: u64) {
        let words = self.words();
        words.progress_done.store(done, Ordering::Relaxed);
        words.progress_total.store(total, Ordering::Relaxed);
        words.progress_task.store(task.0, Ordering::Release);
    }

    /// Host: the task that the worker says it started last.
    pub fn started(&self) -> Option<TaskId> {
        match self.words().started.load(Ordering::Acquire) {
            0 => None,
            task => Some(TaskId(task)),
        }
    }

    /// Host: what `task` last said of its progress. The two numbers may come from two calls of a
    /// task that calls often; they are for a person's eyes.
    pub fn progress_of(&self, task: TaskId) -> Option<(u64, u64)> {
        let words = self.words();
        (words.progress_task.load(Ordering::Acquire) == task.0).then(|| {
            (
                words.progress_done.load(Ordering::Relaxed),
                words.progress_total.load(Ordering::Relaxed),
            )
        })
    }

    fn slot(&self, slot: u8) -> Option<&Slot> {
        self.words().slots.get(usize::from(slot))
    }

    fn words(&self) -> &Words {
        // SAFETY: the mapping is at least as large and as aligned as `Words`, lives as long as
        // `self`, and holds only atomics, for which any bit pattern is a value.
        unsafe { self.0.start().cast::<Words>().as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::memory_file;

    fn both_sides() -> (StatusPage, StatusPage) {
        let host = StatusPage::create().unwrap();
        let worker =
            StatusPage::open(File::from(host.descriptor().try_clone_to_owned().unwrap())).unwrap();
        (host, worker)
    }

    fn place(slot: u8, task: u64) -> PageSlot {
        PageSlot { slot, first: TaskId(task), index: 0 }
    }

    #[test]
    #[cfg_attr(miri, ignore = "maps a memory file")]
    fn both_sides_see_the_same_page() {
        let (host, worker) = both_sides();
        assert_eq!(host.started(), None);
        host.offer(3, TaskId(7).into());
        assert!(worker.start(place(3, 7)));
        worker.progress(TaskId(7), 3, 10);
        assert_eq!(host.started(), Some(TaskId(7)));
        assert_eq!(host.progress_of(TaskId(7)), Some((3, 10)));
        assert_eq!(host.progress_of(TaskId(8)), None);
    }

    #[test]
    #[cfg_attr(miri, ignore = "maps a memory file")]
    fn a_task_that_was_revoked_does_not_start_and_is_not_told_as_started() {
        let (host, worker) = both_sides();
        host.offer(0, TaskId(1).into());
        host.offer(1, TaskId(2).into());
        assert!(host.revoke(place(1, 2)));
        assert!(!worker.start(place(1, 2)));
        assert_eq!(host.started(), None);
        assert!(worker.start(place(0, 1)));
        assert!(!host.revoke(place(0, 1)));
        assert_eq!(host.started(), Some(TaskId(1)));
        assert!(host.has_started(place(0, 1)) && !host.has_started(place(1, 2)));
    }

    #[test]
    #[cfg_attr(miri, ignore = "maps a memory file")]
    fn the_rest_of_a_batch_is_named_by_its_tasks() {
        let (host, worker) = both_sides();
        host.offer(0, TaskRange::new(TaskId(5), 4).unwrap());
        let at = |index| PageSlot { slot: 0, first: TaskId(5), index };
        assert!(worker.start(at(0)));
        assert_eq!(host.revoke_from(at(2)), TaskRange::new(TaskId(7), 2));
        assert_eq!(host.revoke_from(at(0)), TaskRange::new(TaskId(6), 1));
        assert!(!worker.start(at(1)));
        assert_eq!(host.started(), Some(TaskId(5)));
    }

    #[test]
    #[cfg_attr(miri, ignore = "maps a memory file")]
    fn a_slot_that_does_not_exist_holds_no_task() {
        let (host, worker) = both_sides();
        let last = u8::try_from(SLOTS_MAX - 1).unwrap();
        host.offer(last, TaskId(1).into());
        assert!(worker.start(place(last, 1)));
        for beyond in [last + 1, u8::MAX] {
            host.offer(beyond, TaskId(2).into());
            assert!(!worker.start(place(beyond, 2)));
            assert!(!host.revoke(place(beyond, 2)));
            assert_eq!(host.revoke_from(place(beyond, 2)), None);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "seals a memory file")]
    fn a_page_that_could_shrink_is_refused() {
        let file = memory_file("page").unwrap();
        file.set_len(PAGE_BYTES as u64).unwrap();
        assert!(matches!(StatusPage::open(file), Err(MappingError::Unsealed)));
    }
}

//! A worker's window: the batches that it was sent and has not answered whole, in the order of sending.
//!
//! ```text
//!        slot                  slot                 slot
//! ┌─────────────────┐ ┌───────────────────┐ ┌─────────────────┐
//! │ live            │ │ live   │ revoked  │ │ live            │ ◄── Run
//! └─────────────────┘ └───────────────────┘ └─────────────────┘
//!   Finished, task by task    HandedBack, once
//! ```
//!
//! A batch takes a slot of the worker's status page until it is answered whole. Its tasks start in order,
//! so only its rest can be revoked, from some task on: the live tasks are those before it. Of the live
//! tasks those at the end may have been recalled before; if they are still here, they have started, and so
//! are not recalled again. Which of the others have started, the driver sees on the page as it recalls them.
//!
//! Invariant: the counts are what a walk through the window would count. A task is live at most once in a
//! window, and then behind every slot in which it was revoked.
//!
//! Deliberately absent: batches, of which it knows task ids and keys.

use alloc::collections::VecDeque;

use stockade_wire::{TaskId, TaskRange};

use super::batches::Key;

/// A batch that was sent and is not answered whole.
#[derive(Clone, Copy, Debug)]
struct Unanswered {
    /// What is still to be answered task by task.
    live: Option<Live>,
    /// What is to be handed back after that.
    revoked: Option<TaskRange>,
    /// Of each task.
    task_bytes: u32,
}

/// Tasks of one batch that are in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live {
    /// Their batch, which has no other tasks.
    pub(super) key: Key,
    pub(super) tasks: TaskRange,
    /// Those before this one may be recalled.
    recallable_to: TaskId,
}

impl Live {
    fn new(key: Key, tasks: TaskRange) -> Self {
        let behind = TaskId(tasks.last().0.saturating_add(1));
        Self { key, tasks, recallable_to: behind }
    }

    /// The same batch with fewer tasks.
    fn narrowed(self, tasks: TaskRange) -> Self {
        let behind = TaskId(tasks.last().0.saturating_add(1));
        Self { tasks, recallable_to: self.recallable_to.min(behind), ..self }
    }

    fn recallable(&self) -> usize {
        usize::try_from(self.recallable_to.0.saturating_sub(self.tasks.first().0)).unwrap_or(0)
    }
}

impl Unanswered {
    /// Tasks that are to be answered or handed back.
    fn held(&self) -> usize {
        let revoked = self.revoked.map_or(0, |tasks| tasks.count() as usize);
        self.live() + revoked
    }

    fn live(&self) -> usize {
        self.live.map_or(0, |live| live.tasks.count() as usize)
    }

    fn recallable(&self) -> usize {
        self.live.map_or(0, |live| live.recallable())
    }

    fn bytes(&self) -> usize {
        self.held().saturating_mul(self.task_bytes as usize)
    }

    fn is_live(&self, task: TaskId) -> bool {
        self.live.is_some_and(|live| live.tasks.contains(task))
    }

    fn is_answered(&self) -> bool {
        self.live.is_none() && self.revoked.is_none()
    }
}

/// What has to be answered next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// This task of the batch runs, as far as the dispatcher knows.
    Live(Key, TaskId),
    /// The rest of a batch, from this task on, is to be handed back.
    Revoked(TaskId),
}

impl First {
    /// The task that the answer has to name.
    pub(super) fn task(self) -> TaskId {
        match self {
            Self::Live(_, task) | Self::Revoked(task) => task,
        }
    }
}

/// What a withheld part leaves of a batch in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Withdrawn {
    /// The batch of the withheld tasks, which has no others by now, if they were live.
    pub(super) live: Option<Key>,
    /// Whether the window's first task was among them.
    pub(super) was_first: bool,
}

/// A worker's window.
#[derive(Debug, Default)]
pub(super) struct Window {
    slots: VecDeque<Unanswered>,
    /// Tasks that are live or to be handed back.
    held: usize,
    /// Tasks that are live.
    live: usize,
    /// Live tasks that may be recalled, the window's first among them.
    recallable: usize,
    bytes: usize,
}

impl Window {
    /// Tasks that were sent and not answered, revoked ones among them.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Batches that were sent and not answered whole.
    pub(super) fn batches(&self) -> usize {
        self.slots.len()
    }

    /// Whether everything is answered.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Tasks that are live.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// What all tasks that are held have in line.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What has to be answered next.
    pub(super) fn first(&self) -> Option<First> {
        let slot = self.slots.front()?;
        let live = slot.live.map(|live| First::Live(live.key, live.tasks.first()));
        live.or(slot.revoked.map(|tasks| First::Revoked(tasks.first())))
    }

    /// Tasks behind the window's first task that may be recalled.
    pub(super) fn waiting(&self) -> usize {
        let first = self.slots.front().and_then(|slot| slot.live);
        self.recallable - usize::from(first.is_some_and(|live| live.recallable() > 0))
    }

    /// The batches with live tasks, in order.
    pub(super) fn lives(&self) -> impl DoubleEndedIterator<Item = Live> {
        self.slots.iter().filter_map(|slot| slot.live)
    }

    /// A batch is sent.
    pub(super) fn push(&mut self, key: Key, tasks: TaskRange, task_bytes: u32) {
        let slot = Unanswered { live: Some(Live::new(key, tasks)), revoked: None, task_bytes };
        self.count(slot);
        self.slots.push_back(slot);
    }

    /// Tasks are answered or not waited for any more: as many of `tasks` as the window's first batch has.
    /// Returns those and their batch, which has lost them; `None` where the first of them is not the first
    /// of the window, or was revoked.
    pub(super) fn pop(&mut self, tasks: TaskRange) -> Option<(Key, TaskRange)> {
        let slot = *self.slots.front()?;
        let live = slot.live.filter(|live| live.tasks.first() == tasks.first())?;
        let (done, rest) = live.tasks.split_at(tasks.count());
        let rest = rest.map(|rest| live.narrowed(rest));
        self.replace(0, Unanswered { live: rest, ..slot });
        done.map(|done| (live.key, done))
    }

    /// The rest of a batch is handed back. Returns whether that was due, from just this task on.
    pub(super) fn hand_back(&mut self, task: TaskId) -> bool {
        let is_due = self.first() == Some(First::Revoked(task));
        if is_due {
            self.pop_revoked();
        }
        is_due
    }

    /// Forgets the first batch, if it is only to be handed back.
    pub(super) fn pop_revoked(&mut self) {
        if let Some(slot) = self.slots.front().filter(|slot| slot.live.is_none()) {
            self.replace(0, Unanswered { revoked: None, ..*slot });
        }
    }

    /// The rest of a batch, from a live task on, is revoked. Returns the batch, the live tasks that it has
    /// lost, and whether the window's first task is among them.
    pub(super) fn revoke(&mut self, task: TaskId) -> Option<(Key, TaskRange, bool)> {
        let index = self.slot_of(task)?;
        let slot = self.slots[index];
        let live = slot.live?;
        let (before, Some(lost)) = live.tasks.split_before(task) else { return None };
        let last = slot.revoked.map_or(lost.last(), TaskRange::last);
        let before_live = before.map(|before| {
            let mut kept = live.narrowed(before);
            if live.recallable_to < task {
                // A recall from there on has found all of these started.
                kept.recallable_to = before.first();
            }
            kept
        });
        let revoked = TaskRange::between(task, last);
        self.replace(index, Unanswered { live: before_live, revoked, ..slot });
        Some((live.key, lost, index == 0 && before.is_none()))
    }

    /// Tasks that were to be sent last of all of these ids are not sent. Those before and behind them in
    /// their batch stay, as batches of their own: `split` makes the rest of a batch, from a task on, a batch
    /// of its own. Returns `None` where no batch has them all.
    pub(super) fn withdraw(
        &mut self,
        tasks: TaskRange,
        mut split: impl FnMut(Key, TaskId) -> Key,
    ) -> Option<Withdrawn> {
        let has_all = |slot: &Unanswered| {
            let has =
                |task| slot.is_live(task) || slot.revoked.is_some_and(|own| own.contains(task));
            has(tasks.first()) && has(tasks.last())
        };
        let mut index = self.slots.iter().rposition(has_all)?;
        if self.split_slot(index, tasks.first(), &mut split) {
            index += 1;
        }
        if let Some(behind) = tasks.last().0.checked_add(1) {
            self.split_slot(index, TaskId(behind), &mut split);
        }
        let live = self.slots[index].live.map(|live| live.key);
        self.replace(index, Unanswered { live: None, revoked: None, task_bytes: 0 });
        Some(Withdrawn { live, was_first: index == 0 })
    }

    /// Recalls the last tasks behind the window's first that are of a `wanted` batch and were not recalled
    /// before: at most so many. Tells `recall` the first task of each
    /// batch that is recalled, the last batch first.
    pub(super) fn recall(
        &mut self,
        tasks_max: usize,
        wanted: impl Fn(Key) -> bool,
        mut recall: impl FnMut(Key, TaskId),
    ) {
        let mut left = tasks_max.min(self.waiting());
        for index in (0..self.slots.len()).rev() {
            if left == 0 {
                return;
            }
            let mut slot = self.slots[index];
            let Some(live) = slot.live.as_mut().filter(|live| wanted(live.key)) else { continue };
            let behind_first = live.recallable().saturating_sub(usize::from(index == 0));
            let count = left.min(behind_first);
            if count > 0 {
                left -= count;
                live.recallable_to.0 -= count as u64;
                recall(live.key, live.recallable_to);
                self.replace(index, slot);
            }
        }
    }

    /// The slot in which a task is live.
    fn slot_of(&self, task: TaskId) -> Option<usize> {
        self.slots.iter().rposition(|slot| slot.is_live(task))
    }

    /// Lets the rest of a batch, from this task on, take a slot of its own. Returns whether it has one now:
    /// not where it is the whole batch, or nothing.
    fn split_slot(
        &mut self,
        index: usize,
        task: TaskId,
        split: &mut impl FnMut(Key, TaskId) -> Key,
    ) -> bool {
        let slot = self.slots[index];
        let cut =
            |tasks: Option<TaskRange>| tasks.map_or((None, None), |own| own.split_before(task));
        let (live_before, live_behind) = cut(slot.live.map(|live| live.tasks));
        let (revoked_before, revoked_behind) = cut(slot.revoked);
        let has_before = live_before.is_some() || revoked_before.is_some();
        let has_behind = live_behind.is_some() || revoked_behind.is_some();
        if !has_before || !has_behind {
            return false;
        }
        let (mut before, mut behind) = (slot, slot);
        before.revoked = revoked_before;
        behind.revoked = revoked_behind;
        if let Some(live) = slot.live {
            before.live = live_before.map(|tasks| live.narrowed(tasks));
            behind.live = live_behind.map(|tasks| {
                let key = if live_before.is_some() { split(live.key, task) } else { live.key };
                Live { key, ..live.narrowed(tasks) }
            });
        }
        self.count(behind);
        self.slots.insert(index + 1, behind);
        self.replace(index, before);
        true
    }

    /// Puts another slot in place of one, or removes it where everything is answered.
    fn replace(&mut self, index: usize, slot: Unanswered) {
        self.uncount(self.slots[index]);
        if slot.is_answered() {
            self.slots.remove(index);
        } else {
            self.count(slot);
            self.slots[index] = slot;
        }
    }

    fn count(&mut self, slot: Unanswered) {
        self.held += slot.held();
        self.live += slot.live();
        self.recallable += slot.recallable();
        self.bytes += slot.bytes();
    }

    fn uncount(&mut self, slot: Unanswered) {
        self.held -= slot.held();
        self.live -= slot.live();
        self.recallable -= slot.recallable();
        self.bytes -= slot.bytes();
    }

    /// Panics where the window contradicts itself.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let sum = |of: fn(&Unanswered) -> usize| self.slots.iter().map(of).sum::<usize>();
        assert_eq!(self.held, sum(Unanswered::held));
        assert_eq!(self.live, sum(Unanswered::live));
        assert_eq!(self.recallable, sum(Unanswered::recallable));
        assert_eq!(self.bytes, sum(Unanswered::bytes));
        for (index, slot) in self.slots.iter().enumerate() {
            assert!(!slot.is_answered(), "an answered batch keeps its slot");
            if let Some(Live { tasks, recallable_to, .. }) = slot.live {
                assert!(recallable_to.0 <= tasks.last().0 + 1);
                for task in tasks.iter() {
                    assert_eq!(self.slot_of(task), Some(index), "a task is live twice");
                }
                let behind = |revoked: TaskRange| revoked.first().0 == tasks.last().0 + 1;
                assert!(slot.revoked.is_none_or(behind), "what is revoked is the rest of a batch");
            }
        }
    }
}

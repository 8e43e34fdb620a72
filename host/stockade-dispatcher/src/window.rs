//! A worker's window: what it was sent and has not answered, in the order of the sending.
//!
//! ```text
//!     runs      waits     was taken back   may have started   waits
//! ┌──────────┬──────────┬────────────────┬──────────────────┬──────────┐
//! │   Live   │   Live   │     Ghost      │     Recalled     │   Live   │ ◄── Run
//! └──────────┴──────────┴────────────────┴──────────────────┴──────────┘
//!  Finished                  HandedBack
//! ```
//!
//! Invariant: counts are what a walk through the window would count. A task is live at most once in a
//! window, and then behind all of its ghosts.
//!
//! Deliberately absent: tasks, of which it knows names and keys.

use alloc::collections::VecDeque;

use stockade_wire::TaskId;

use super::tasks::Key;

/// What stands in a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) task: TaskId,
    pub(super) state: SentState,
    bytes: u32,
}

/// What is still to come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SentState {
    /// The task is here.
    Live(Key),
    /// Likewise, and not to be wanted back: because it was, which came too late if nothing more is
    /// heard of it, or because it is known to have started.
    Recalled(Key),
    /// It was revoked, and is to be handed back.
    Ghost,
}

impl SentState {
    /// The task, if it is here.
    pub(super) fn key(self) -> Option<Key> {
        match self {
            Self::Live(key) | Self::Recalled(key) => Some(key),
            Self::Ghost => None,
        }
    }
}

/// A worker's window.
#[derive(Debug, Default)]
pub(super) struct Window {
    sent: VecDeque<Sent>,
    /// Those that are not ghosts.
    live: usize,
    /// Those of the live ones that are not to be wanted back.
    recalled: usize,
    bytes: usize,
}

impl Window {
    /// What was sent and not answered, ghosts among it.
    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    /// Whether everything is answered.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Tasks that are here.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// What all of it has in line.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What has to be answered next.
    pub(super) fn front(&self) -> Option<Sent> {
        self.sent.front().copied()
    }

    /// Tasks behind the first that may be wanted back.
    pub(super) fn waiting(&self) -> usize {
        let first = matches!(self.front(), Some(Sent { state: SentState::Live(_), .. }));
        self.live - self.recalled - usize::from(first)
    }

    /// The first task's key, if that is here.
    pub(super) fn first(&self) -> Option<Key> {
        self.front().and_then(|sent| sent.state.key())
    }

    /// The tasks that are here.
    pub(super) fn tasks(&self) -> impl DoubleEndedIterator<Item = (TaskId, Key)> {
        self.sent.iter().filter_map(|sent| sent.state.key().map(|key| (sent.task, key)))
    }

    /// A task is sent.
    pub(super) fn push(&mut self, task: TaskId, key: Key, bytes: u32) {
        self.sent.push_back(Sent { task, state: SentState::Live(key), bytes });
        self.live += 1;
        self.bytes += bytes as usize;
    }

    /// The first is answered, or is not waited for any more.
    pub(super) fn pop(&mut self) -> Option<Sent> {
        let sent = self.sent.pop_front()?;
        self.uncount(sent);
        Some(sent)
    }

    /// What was sent last of this name is not there after all. Says what it was, and whether it stood
    /// first.
    pub(super) fn withdraw(&mut self, task: TaskId) -> Option<(SentState, bool)> {
        let index = self.last_of(task)?;
        let sent = self.sent.remove(index)?;
        self.uncount(sent);
        Some((sent.state, index == 0))
    }

    /// A task that is here is revoked, and leaves its ghost. Says whether it stands first.
    pub(super) fn revoke(&mut self, task: TaskId) -> Option<(Key, bool)> {
        let index = self.last_of(task)?;
        let before = self.sent[index];
        let key = before.state.key()?;
        self.uncount(before);
        self.sent[index].state = SentState::Ghost;
        self.bytes += before.bytes as usize;
        Some((key, index == 0))
    }

    /// A task has started, and so is not to be wanted back.
    pub(super) fn keep(&mut self, task: TaskId) {
        if let Some(index) = self.last_of(task)
            && let SentState::Live(key) = self.sent[index].state
        {
            self.sent[index].state = SentState::Recalled(key);
            self.recalled += 1;
        }
    }

    /// Wants back the last tasks behind the first that are `wanted` and were not wanted before, at
    /// most so many, and says each, the last first.
    pub(super) fn recall(
        &mut self,
        tasks_max: usize,
        wanted: impl Fn(Key) -> bool,
        mut say: impl FnMut(TaskId),
    ) {
        let mut left = tasks_max.min(self.waiting());
        for sent in self.sent.iter_mut().skip(1).rev() {
            if left == 0 {
                return;
            }
            if let SentState::Live(key) = sent.state
                && wanted(key)
            {
                sent.state = SentState::Recalled(key);
                self.recalled += 1;
                left -= 1;
                say(sent.task);
            }
        }
    }

    /// The latest sending of a task: any before it are ghosts.
    fn last_of(&self, task: TaskId) -> Option<usize> {
        self.sent.iter().rposition(|sent| sent.task == task)
    }

    fn uncount(&mut self, sent: Sent) {
        self.bytes -= sent.bytes as usize;
        self.live -= usize::from(sent.state != SentState::Ghost);
        self.recalled -= usize::from(matches!(sent.state, SentState::Recalled(_)));
    }

    /// Panics where the window contradicts itself.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let count = |is: fn(&Sent) -> bool| self.sent.iter().filter(|sent| is(sent)).count();
        assert_eq!(self.live, count(|sent| sent.state != SentState::Ghost));
        assert_eq!(self.recalled, count(|sent| matches!(sent.state, SentState::Recalled(_))));
        assert_eq!(self.bytes, self.sent.iter().map(|sent| sent.bytes as usize).sum::<usize>());
        let behind = self.sent.iter().skip(1);
        let waiting = behind.filter(|sent| matches!(sent.state, SentState::Live(_))).count();
        assert_eq!(self.waiting(), waiting);
        for (index, sent) in self.sent.iter().enumerate() {
            let is_last = self.last_of(sent.task) == Some(index);
            assert!(is_last || sent.state == SentState::Ghost, "a task is here twice");
        }
    }
}

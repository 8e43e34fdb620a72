//! The workers that are not gone: by number, by how long they idle, by who needs work, by what is due.
//!
//! ```text
//! change(id, …) ──► Worker ──► census, idle              at once
//!                     └──► touched ──► timers, refillable    by refresh, once for many events
//! ```
//!
//! Invariant: a worker is changed only through [`Roster::change`], so that no count needs a walk and no
//! look-up a search.
//!
//! Deliberately absent: reasons to change a worker.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::time::Duration;

use stockade_wire::WorkerId;

use super::worker::{Lifecycle, Worker};
use super::{Config, Moment, Phase};

/// Workers that are not gone.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Ordered, so that a run can be replayed.
    members: BTreeMap<WorkerId, Member>,
    census: Census,
    /// Those that idle, and since when.
    idle: BTreeSet<(Moment, WorkerId)>,
    /// What is due, of those that do not idle.
    timers: BTreeSet<(Moment, WorkerId)>,
    /// Busy ones whose windows are below their low watermark, by how many nanoseconds of work they have.
    refillable: BTreeSet<(u64, WorkerId)>,
    /// Those whose timers and windows are to be looked at again.
    touched: VecDeque<WorkerId>,
}

#[derive(Debug)]
struct Member {
    worker: Worker,
    timer: Option<Moment>,
    refill: Option<u64>,
    is_touched: bool,
}

/// How many are what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) starting: usize,
    pub(super) idle: usize,
    pub(super) busy: usize,
    pub(super) leaving: usize,
    /// Those that count against the pool's maximum.
    pub(super) active: usize,
    /// Those that run a task.
    pub(super) running: usize,
    /// Tasks that wait behind others in windows.
    pub(super) waiting: usize,
    /// Tasks that fill the windows of those whose pace is known.
    pub(super) depth: usize,
}

impl Census {
    /// Those that take, or will take, part in the pool's work.
    pub(super) fn serving(&self) -> usize {
        self.starting + self.idle + self.busy
    }

    fn add(&mut self, worker: &Worker) {
        *self.of_phase(worker) += 1;
        self.active += usize::from(worker.is_active());
        self.running += usize::from(worker.running().is_some());
        self.waiting += Self::waiting_behind(worker);
        self.depth += worker.pace.depth().unwrap_or_default();
    }

    fn subtract(&mut self, worker: &Worker) {
        *self.of_phase(worker) -= 1;
        self.active -= usize::from(worker.is_active());
        self.running -= usize::from(worker.running().is_some());
        self.waiting -= Self::waiting_behind(worker);
        self.depth -= worker.pace.depth().unwrap_or_default();
    }

    fn of_phase(&mut self, worker: &Worker) -> &mut usize {
        match worker.phase() {
            Phase::Starting => &mut self.starting,
            Phase::Idle => &mut self.idle,
            Phase::Busy => &mut self.busy,
            Phase::Closing | Phase::Dying => &mut self.leaving,
        }
    }

    fn waiting_behind(worker: &Worker) -> usize {
        if matches!(worker.state, Lifecycle::Busy(_)) { worker.window.waiting() } else { 0 }
    }
}

impl Roster {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether all are gone.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many are what.
    pub(super) fn census(&self) -> Census {
        self.census
    }

    /// Everybody, in the order of their start.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (WorkerId, &Worker)> {
        self.members.iter().map(|(&id, member)| (id, &member.worker))
    }

    /// One that is not gone.
    pub(super) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.members.get(&id).map(|member| &member.worker)
    }

    /// One more.
    pub(super) fn insert(&mut self, id: WorkerId, worker: Worker) {
        self.census.add(&worker);
        let member = Member { worker, timer: None, refill: None, is_touched: true };
        self.members.insert(id, member);
        self.touched.push_back(id);
    }

    /// One is gone.
    pub(super) fn remove(&mut self, id: WorkerId) -> Option<Worker> {
        let Member { worker, timer, refill, .. } = self.members.remove(&id)?;
        self.census.subtract(&worker);
        if let Lifecycle::Idle { since } = worker.state {
            self.idle.remove(&(since, id));
        }
        timer.map(|timer| self.timers.remove(&(timer, id)));
        refill.map(|load| self.refillable.remove(&(load, id)));
        Some(worker)
    }

    /// Changes one that is not gone.
    pub(super) fn change<T>(
        &mut self,
        id: WorkerId,
        change: impl FnOnce(&mut Worker) -> T,
    ) -> Option<T> {
        let member = self.members.get_mut(&id)?;
        self.census.subtract(&member.worker);
        if let Lifecycle::Idle { since } = member.worker.state {
            self.idle.remove(&(since, id));
        }
        let answer = change(&mut member.worker);
        self.census.add(&member.worker);
        if let Lifecycle::Idle { since } = member.worker.state {
            self.idle.insert((since, id));
        }
        if !member.is_touched {
            member.is_touched = true;
            self.touched.push_back(id);
        }
        Some(answer)
    }

    /// The next of those that were changed and not asked for here since.
    pub(super) fn next_touched(&mut self) -> Option<WorkerId> {
        while let Some(id) = self.touched.pop_front() {
            if let Some(member) = self.members.get_mut(&id) {
                member.is_touched = false;
                return Some(id);
            }
        }
        None
    }

    /// Brings one's timer, and whether its window is to be refilled, in line with its state.
    pub(super) fn refresh(&mut self, id: WorkerId, config: &Config) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let worker = &member.worker;
        let timer = worker.deadline(config);
        let refill = worker.refill(config).map(|_| worker.pace.load(worker.window.live()));
        replace(&mut self.timers, &mut member.timer, timer, id);
        replace(&mut self.refillable, &mut member.refill, refill, id);
    }

    /// The one that has been idle for the shortest time: its caches are warm, and the others' idle
    /// timeouts go on.
    pub(super) fn last_idle(&self) -> Option<WorkerId> {
        self.idle.last().map(|(_, id)| *id)
    }

    /// The busy one that has the least to do, if it may get more.
    pub(super) fn first_refillable(&self) -> Option<WorkerId> {
        self.refillable.first().map(|(_, id)| *id)
    }

    /// The busy one behind whose first task the most others wait, and how many, if any do. Looks at every
    /// worker.
    pub(super) fn longest_window(&self) -> Option<(WorkerId, usize)> {
        let windows = self.iter().map(|(id, worker)| (id, Census::waiting_behind(worker)));
        windows.rev().max_by_key(|(_, waiting)| *waiting).filter(|(_, waiting)| *waiting > 0)
    }

    /// When the first of them is due.
    pub(super) fn next_due(&self, idle_timeout: Option<Duration>) -> Option<Moment> {
        let timer = self.timers.first().map(|(timer, _)| *timer);
        timer.into_iter().chain(self.next_idle_due(idle_timeout)).min()
    }

    /// One that is due, once, unless it is touched again.
    pub(super) fn pop_due(&mut self, now: Moment) -> Option<WorkerId> {
        let &(timer, id) = self.timers.first().filter(|(timer, _)| *timer <= now)?;
        self.timers.remove(&(timer, id));
        if let Some(member) = self.members.get_mut(&id) {
            member.timer = None;
            if !member.is_touched {
                member.is_touched = true;
                self.touched.push_back(id);
            }
        }
        Some(id)
    }

    /// One that has been idle for too long.
    pub(super) fn idle_due(&self, now: Moment, timeout: Option<Duration>) -> Option<WorkerId> {
        let due = self.next_idle_due(timeout)? <= now;
        self.idle.first().filter(|_| due).map(|(_, id)| *id)
    }

    fn next_idle_due(&self, timeout: Option<Duration>) -> Option<Moment> {
        let (since, _) = self.idle.first()?;
        timeout.map(|timeout| since.saturating_add(timeout))
    }

    /// Panics where what is kept differs from what a walk finds.
    #[cfg(test)]
    pub(super) fn check_invariants(&self, config: &Config) {
        let mut census = Census::default();
        let (mut idle, mut timers, mut refillable) = (0, 0, 0);
        for (id, worker) in self.iter() {
            census.add(worker);
            if let Lifecycle::Idle { since } = worker.state {
                idle += 1;
                assert!(self.idle.contains(&(since, id)), "worker {id} idles unknown");
            }
            if let Some(timer) = worker.deadline(config) {
                timers += 1;
                assert!(self.timers.contains(&(timer, id)), "worker {id} has another deadline");
            }
            if worker.refill(config).is_some() {
                refillable += 1;
                let load = worker.pace.load(worker.window.live());
                assert!(self.refillable.contains(&(load, id)), "worker {id} needs work");
            }
        }
        assert_eq!(self.census, census, "everybody is counted as they are");
        let kept = (self.idle.len(), self.timers.len(), self.refillable.len());
        assert_eq!(kept, (idle, timers, refillable), "nobody else is known");
        assert!(self.touched.is_empty(), "everybody was looked at");
    }
}

/// Lets `kept` and the set that it is the key of become `new`.
fn replace<T: Copy + Ord>(
    set: &mut BTreeSet<(T, WorkerId)>,
    kept: &mut Option<T>,
    new: Option<T>,
    id: WorkerId,
) {
    if *kept == new {
        return;
    }
    kept.map(|old| set.remove(&(old, id)));
    new.map(|new| set.insert((new, id)));
    *kept = new;
}

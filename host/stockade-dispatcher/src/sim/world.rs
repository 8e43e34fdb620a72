//! What surrounds the dispatcher: time, chance, faults, and what is going to happen.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use stockade_wire::{ModuleId, TaskId, TaskRange, WorkerId};

use super::super::{Event, Moment, Submission};
use super::coverage::Coverage;
use super::rng::Rng;

/// What is going to happen.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// The dispatcher hears of this.
    Tell(Event),
    /// A caller wants to submit.
    Ask(Submission),
    /// A caller wants those of its tasks cancelled that have not started.
    Cancel(TaskRange),
    /// A caller wants its task cancelled, even if it runs.
    CancelEvenRunning(TaskId),
    /// A process comes to the end of what it was at, unless something else came first.
    Wake(WorkerId, u64),
    /// A process tells what it has finished.
    Ring(WorkerId),
    /// A kill reaches its process.
    KillLands(WorkerId),
}

/// What is going to happen when; at the same moment, in the order of its planning.
#[derive(Default)]
pub(super) struct Agenda {
    order: BinaryHeap<Reverse<(Moment, usize)>>,
    happenings: Vec<Option<Happening>>,
}

impl Agenda {
    pub(super) fn insert(&mut self, moment: Moment, happening: Happening) {
        self.order.push(Reverse((moment, self.happenings.len())));
        self.happenings.push(Some(happening));
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.order.peek().map(|Reverse((moment, _))| *moment)
    }

    pub(super) fn pop(&mut self) -> Option<Happening> {
        let Reverse((_, index)) = self.order.pop()?;
        self.happenings[index].take()
    }
}

/// Everything around a process.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now: Moment,
    pub(super) agenda: Agenda,
    pub(super) fault_percent: u64,
    /// For every module, how often one of its tasks ends its worker.
    pub(super) crash_percents: Vec<u64>,
    /// How long tasks usually take at most.
    pub(super) task_millis_max: u64,
    /// How many take much longer.
    pub(super) slow_percent: u64,
    pub(super) tasks: u64,
    /// Tasks whose callers know that they will never start, whether or not the dispatcher has heard of it.
    pub(super) revoked: BTreeSet<TaskId>,
    pub(super) coverage: Coverage,
}

impl World {
    pub(super) fn at(&mut self, moment: Moment, happening: Happening) {
        self.agenda.insert(moment, happening);
    }

    /// Lets the dispatcher hear of something in a moment.
    pub(super) fn tell_soon(&mut self, event: Event) {
        let at = self.now + self.rng.millis(0, 2);
        self.at(at, Happening::Tell(event));
    }

    pub(super) fn fault(&mut self) -> bool {
        self.rng.chance(self.fault_percent)
    }

    pub(super) fn crashes(&mut self, module: ModuleId) -> bool {
        let percent = self.crash_percents[module.0 as usize];
        self.rng.chance(percent)
    }

    /// Nothing goes wrong any more.
    pub(super) fn end_faults(&mut self) {
        self.fault_percent = 0;
        self.crash_percents.fill(0);
    }

    /// A span that means nothing.
    pub(super) fn any_time(&mut self) -> Duration {
        [Duration::ZERO, Duration::MAX, Duration::from_millis(1)][self.rng.below(3) as usize]
    }

    /// Tasks that may or may not exist, and often one alone.
    pub(super) fn any_tasks(&mut self, percent_of_several: u64) -> TaskRange {
        let several = self.rng.chance(percent_of_several);
        let count = if several { self.rng.between(1, 9) as u32 } else { 1 };
        TaskRange::new(self.any_task(), count).unwrap()
    }

    /// A task that may or may not exist.
    pub(super) fn any_task(&mut self) -> TaskId {
        TaskId(self.rng.below(self.tasks + 3))
    }
}

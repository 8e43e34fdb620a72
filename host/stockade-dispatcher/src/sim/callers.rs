//! The callers as the simulator plays them, with what the driver knows of their tasks: they hold a
//! permit to submit, wait in line for one, and cancel what they submitted.
//!
//! A caller that cancels looks at that moment: a task that has not started is taken back there and
//! then, in the queue or in the process that holds it, and the dispatcher hears of it later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use stockade_wire::{TaskId, TaskRange, WorkerId};

use super::super::{Action, EntryKey, Event, Submission};
use super::process::{Process, Revocation};
use super::world::{Happening, World};

/// Where the driver holds a task to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    Queue,
    /// The queue again, after it was started.
    QueueOfLost,
    Worker(WorkerId),
    /// Nobody: it has ended.
    Ended,
}

pub(super) struct Callers {
    permits_max: usize,
    permits_free: usize,
    /// Batches with a permit, and those of their tasks that have neither started nor ended.
    unstarted: BTreeMap<EntryKey, BTreeSet<TaskId>>,
    line: VecDeque<Submission>,
    /// Whether the pool takes no more tasks.
    closed: bool,
    holders: BTreeMap<TaskId, Holder>,
    /// What the dispatcher has still to hear of: tasks that were taken back, by the first.
    untold: BTreeMap<TaskId, TaskRange>,
}

impl Callers {
    pub(super) fn new(permits_max: usize) -> Self {
        Self {
            permits_max,
            permits_free: permits_max,
            unstarted: BTreeMap::new(),
            line: VecDeque::new(),
            closed: false,
            holders: BTreeMap::new(),
            untold: BTreeMap::new(),
        }
    }

    /// Somebody wants to submit: at once, in line, or not at all.
    pub(super) fn ask(&mut self, submission: Submission, world: &mut World) {
        // One that has just looked does not know yet that the pool is closed.
        if self.closed && (self.permits_free == 0 || world.rng.chance(50)) {
            world.coverage.see("situation: a caller was sent away");
        } else if self.permits_free == 0 {
            world.coverage.see("situation: a caller waited in line");
            self.line.push_back(submission);
        } else {
            self.admit(submission, world);
        }
    }

    fn admit(&mut self, submission: Submission, world: &mut World) {
        self.permits_free -= 1;
        self.unstarted.insert(submission.entry, submission.tasks.iter().collect());
        world.tell_soon(Event::Submit(submission));
    }

    /// The dispatcher is about to hear of something.
    pub(super) fn hear(
        &mut self,
        event: &Event,
        processes: &BTreeMap<WorkerId, Process>,
        world: &mut World,
    ) {
        match event {
            Event::Submit(submission) => {
                self.holders.extend(submission.tasks.iter().map(|task| (task, Holder::Queue)));
            }
            Event::Cancel(tasks) => {
                self.untold.remove(&tasks.first());
                self.queue_revoked(processes);
            }
            Event::TakenBack { .. } => self.queue_revoked(processes),
            Event::Shutdown(_) => self.close(world),
            _ => {}
        }
    }

    /// What pages say never to start there waits again.
    fn queue_revoked(&mut self, processes: &BTreeMap<WorkerId, Process>) {
        for (task, holder) in &mut self.holders {
            if let Holder::Worker(id) = *holder
                && processes.get(&id).is_some_and(|process| process.has_revoked(*task))
            {
                *holder = Holder::Queue;
            }
        }
    }

    /// The driver is about to do something.
    pub(super) fn act(&mut self, action: &Action, world: &mut World) {
        match *action {
            Action::Start(entry, task) => self.return_permit(entry, task.into(), world),
            Action::Resolve(entry, tasks, _) => {
                self.holders.extend(tasks.iter().map(|task| (task, Holder::Ended)));
                self.return_permit(entry, tasks, world);
            }
            Action::Broken(_) => self.close(world),
            _ => {}
        }
    }

    fn return_permit(&mut self, entry: EntryKey, tasks: TaskRange, world: &mut World) {
        let Some(unstarted) = self.unstarted.get_mut(&entry) else { return };
        unstarted.retain(|task| !tasks.contains(*task));
        if unstarted.is_empty() {
            self.unstarted.remove(&entry);
            self.permits_free += 1;
            if let Some(next) = self.line.pop_front() {
                self.admit(next, world);
            }
        }
    }

    fn close(&mut self, world: &mut World) {
        self.closed = true;
        if !self.line.is_empty() {
            world.coverage.see("situation: a line was sent away");
        }
        self.line.clear();
    }

    /// A task goes to a worker.
    pub(super) fn send(&mut self, worker: WorkerId, task: TaskId, world: &mut World) {
        self.holders.insert(task, Holder::Worker(worker));
        // The races are about the moments before and after the start.
        if world.rng.chance(8) {
            let at = world.now + world.rng.millis(0, 8);
            let cancel = match world.rng.below(2) {
                0 => Happening::CancelEvenRunning(task),
                _ => {
                    Happening::Cancel(TaskRange::new(task, world.rng.between(1, 3) as u32).unwrap())
                }
            };
            world.at(at, cancel);
        }
    }

    /// A worker is gone: what it held and nobody else got waits again.
    pub(super) fn bury(&mut self, worker: WorkerId, process: Option<&Process>) {
        for (task, holder) in &mut self.holders {
            if *holder == Holder::Worker(worker) {
                let started = process.is_some_and(|process| process.starts.contains(task));
                *holder = if started { Holder::QueueOfLost } else { Holder::Queue };
            }
        }
    }

    /// A caller wants its task cancelled, even if it runs.
    pub(super) fn cancel_even_running(
        &mut self,
        task: TaskId,
        processes: &mut BTreeMap<WorkerId, Process>,
        world: &mut World,
    ) {
        let is_lost = self.holders.get(&task) == Some(&Holder::QueueOfLost);
        if is_lost || !self.take_back(task, processes, world) {
            return world.tell_soon(Event::CancelRunning(task));
        }
        self.tell_taken(task.into(), world);
    }

    /// A caller wants those of these tasks cancelled that have not started.
    pub(super) fn cancel(
        &mut self,
        tasks: TaskRange,
        processes: &mut BTreeMap<WorkerId, Process>,
        world: &mut World,
    ) {
        // Tasks that have ended may be named along with others.
        let mut taken: Option<TaskRange> = None;
        let mut has_ended_among = false;
        for task in tasks.iter() {
            if self.take_back(task, processes, world) {
                let first = taken.map_or(task, TaskRange::first);
                taken = TaskRange::between(first, task);
                if has_ended_among && first != task {
                    world.coverage.see("situation: a cancel passed over tasks that had ended");
                }
            } else if self.holders.get(&task) == Some(&Holder::Ended) {
                has_ended_among |= taken.is_some();
            } else if let Some(taken) = taken.take() {
                has_ended_among = false;
                self.tell_taken(taken, world);
            }
        }
        if let Some(taken) = taken {
            self.tell_taken(taken, world);
        }
    }

    /// The dispatcher is to hear of tasks that were taken back, some of which may have ended before.
    fn tell_taken(&mut self, tasks: TaskRange, world: &mut World) {
        if tasks.count() > 1 {
            world.coverage.see("situation: several tasks were cancelled at once");
        }
        self.untold.insert(tasks.first(), tasks);
        world.tell_soon(Event::Cancel(tasks));
        if world.rng.chance(20) {
            let at = world.now + world.rng.millis(0, 6);
            world.at(at, Happening::CancelEvenRunning(tasks.first()));
        }
    }

    /// Whether a task was taken back just now: it never starts, whether or not the dispatcher has heard of it.
    fn take_back(
        &self,
        task: TaskId,
        processes: &mut BTreeMap<WorkerId, Process>,
        world: &mut World,
    ) -> bool {
        let is_taken = !world.revoked.contains(&task)
            && match self.holders.get(&task) {
                // Still in line, or not submitted at all: the caller is mistaken.
                None | Some(Holder::Ended) => false,
                Some(Holder::Queue | Holder::QueueOfLost) => true,
                Some(Holder::Worker(worker)) => processes.get_mut(worker).is_some_and(|process| {
                    process.has_revoked(task) || process.revoke(task) != Revocation::TooLate
                }),
            };
        if is_taken {
            world.revoked.insert(task);
        }
        is_taken
    }

    /// What the dispatcher has to hear first of where this task is handed back.
    pub(super) fn overtaken_by(&self, task: TaskId) -> Option<TaskRange> {
        self.untold.values().find(|tasks| tasks.contains(task)).copied()
    }

    /// Panics if more batches wait than callers were allowed to submit.
    pub(super) fn check(&self, unstarted: usize) {
        assert!(unstarted <= self.permits_max, "more batches wait than there are permits");
        assert!(self.line.is_empty() || self.permits_free == 0, "a caller waits for nothing");
    }

    /// Panics if a permit is lost or somebody still waits for one.
    pub(super) fn check_settled(&self) {
        assert!(self.line.is_empty(), "a caller is left waiting");
        assert_eq!(self.permits_free, self.permits_max, "a permit is lost");
    }
}

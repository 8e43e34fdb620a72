//! The callers as the simulator plays them, with what the driver knows of their tasks: they hold a
//! permit to submit, wait in line for one, and cancel what they submitted.
//!
//! A caller that cancels looks at that moment: a task that has not started is taken back there and
//! then, in the queue or in the process that holds it, and the dispatcher hears of it later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use stockade_wire::{TaskId, WorkerId};

use super::super::{Action, Event, Submission};
use super::process::{Process, Revocation};
use super::world::{Happening, World};

/// Where the driver holds a task to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Queued,
    /// In the queue again after it was started.
    Lost,
    Sent(WorkerId),
    Ended,
}

pub(super) struct Callers {
    permits_max: usize,
    permits_free: usize,
    holders: BTreeSet<TaskId>,
    line: VecDeque<Submission>,
    /// Whether the pool takes no more tasks.
    closed: bool,
    places: BTreeMap<TaskId, Place>,
    /// Tasks of which the dispatcher has heard that they were taken back.
    told: BTreeSet<TaskId>,
}

impl Callers {
    pub(super) fn new(permits_max: usize) -> Self {
        Self {
            permits_max,
            permits_free: permits_max,
            holders: BTreeSet::new(),
            line: VecDeque::new(),
            closed: false,
            places: BTreeMap::new(),
            told: BTreeSet::new(),
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
        self.holders.insert(submission.task);
        world.tell_soon(Event::Submit(submission));
    }

    /// The dispatcher is about to hear of something.
    pub(super) fn hear(&mut self, event: &Event, world: &mut World) {
        match event {
            Event::Submit(submission) => {
                self.places.insert(submission.task, Place::Queued);
            }
            Event::Cancel(task) => {
                self.told.insert(*task);
            }
            Event::TakenBack { task, .. } => {
                self.places.insert(*task, Place::Queued);
            }
            Event::Shutdown(_) => self.close(world),
            _ => {}
        }
    }

    /// The driver is about to do something.
    pub(super) fn act(&mut self, action: &Action, world: &mut World) {
        match *action {
            Action::Start(task) => self.return_permit(task, world),
            Action::Resolve(task, _) => {
                self.places.insert(task, Place::Ended);
                self.return_permit(task, world);
            }
            Action::Broken(_) => self.close(world),
            _ => {}
        }
    }

    fn return_permit(&mut self, task: TaskId, world: &mut World) {
        if self.holders.remove(&task) {
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

    /// Whether a task goes to the worker that it is meant for.
    pub(super) fn send(&mut self, worker: WorkerId, task: TaskId, world: &mut World) -> bool {
        if world.revoked.contains(&task) {
            return false;
        }
        self.places.insert(task, Place::Sent(worker));
        // The races are about the moments before and after the start.
        if world.rng.chance(8) {
            let at = world.now + world.rng.millis(0, 8);
            let even_running = world.rng.chance(50);
            world.at(at, Happening::Look { task, even_running });
        }
        true
    }

    /// A worker is gone: what it held and nobody else got waits again.
    pub(super) fn bury(&mut self, worker: WorkerId, process: Option<&Process>) {
        for (task, place) in &mut self.places {
            if *place == Place::Sent(worker) {
                let started = process.is_some_and(|process| process.starts.contains(task));
                *place = if started { Place::Lost } else { Place::Queued };
            }
        }
    }

    /// A caller wants its task cancelled.
    pub(super) fn look(
        &mut self,
        task: TaskId,
        even_running: bool,
        processes: &mut BTreeMap<WorkerId, Process>,
        world: &mut World,
    ) {
        let taken_back = match self.places.get(&task) {
            // Still in line, or nobody's: whoever says so is mistaken.
            None => false,
            Some(_) if world.revoked.contains(&task) => false,
            Some(Place::Queued) => true,
            Some(Place::Lost) => !even_running,
            Some(Place::Sent(worker)) => {
                let process = processes.get_mut(worker);
                process.is_some_and(|process| process.revoke(task) == Revocation::Done)
            }
            Some(Place::Ended) => false,
        };
        if taken_back {
            world.revoked.insert(task);
            world.tell_soon(Event::Cancel(task));
            if world.rng.chance(20) {
                let at = world.now + world.rng.millis(0, 6);
                world.at(at, Happening::Look { task, even_running: true });
            }
        } else if even_running {
            world.tell_soon(Event::CancelRunning(task));
        }
    }

    /// Whether the dispatcher has to hear first that a task was taken back.
    pub(super) fn is_overtaken(&self, task: TaskId, world: &World) -> bool {
        world.revoked.contains(&task) && !self.told.contains(&task)
    }

    /// Panics if more tasks wait than callers were allowed to submit.
    pub(super) fn check(&self, unstarted: usize) {
        assert!(unstarted <= self.permits_max, "more tasks wait than there are permits");
        assert!(self.line.is_empty() || self.permits_free == 0, "a caller waits for nothing");
    }

    /// Panics if a permit is lost or somebody still waits for one.
    pub(super) fn check_settled(&self) {
        assert!(self.line.is_empty(), "a caller waits for ever");
        assert_eq!(self.permits_free, self.permits_max, "a permit is lost");
    }
}

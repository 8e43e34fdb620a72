//! What follows from the state, whatever events led to it: tasks go to idle workers, workers without
//! a purpose close, workers that are missing start, windows below their low watermark are filled, and the
//! end is announced.
//!
//! Invariant: after [`Dispatcher::settle`] no worker is idle while a task waits, workers start only
//! for tasks that no other worker is about to take or because somebody asked for them, and a window
//! grows only while every worker there may be is busy.
//!
//! Deliberately absent: the reasons. Nothing here looks at an event.

use stockade_wire::WorkerId;

use super::queue::{Portion, Room};
use super::window::First;
use super::worker::{Front, Lifecycle, Worker};
use super::{Action, CancelReason, Dispatcher, Moment, Place, Resolution};

/// The snapshot that has to be made before the first worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preparation {
    /// Not before somebody wants a worker.
    Needed,
    /// The driver is at it.
    Running,
    /// Made, or never needed.
    Done,
}

impl Preparation {
    /// Where a pool begins.
    pub(super) fn new(needed: bool) -> Self {
        if needed { Self::Needed } else { Self::Done }
    }

    /// The driver has made the snapshot.
    pub(super) fn succeeded(&mut self) {
        if *self == Self::Running {
            *self = Self::Done;
        }
    }
}

impl Dispatcher {
    /// Brings everything in line with the state, once for all events since the last time.
    pub(super) fn settle(&mut self) {
        let now = self.now;
        if self.start_fronts(now) {
            // What is recalled for that goes out before what was submitted later.
            self.is_unsettled = true;
            return;
        }
        self.assign(now);
        self.close_superfluous(now);
        self.deepen(now);
        self.answer_requests();
        self.announce_end();
        self.watch_idle(now);
    }

    /// Workers that count against the maximum.
    pub(super) fn workers_active(&self) -> usize {
        self.workers.census().active
    }

    /// When the next worker starts, if one is missing and nothing but the restart budget is against
    /// it.
    pub(super) fn next_spawn(&self) -> Option<Moment> {
        let missing = self.preparation == Preparation::Done && self.misses_worker();
        missing.then(|| self.budget.paused_until())
    }

    /// Starts what has become first in the windows of the workers that were changed, and brings their
    /// timers up to date. Returns whether a task is to be stopped as its turn comes.
    fn start_fronts(&mut self, now: Moment) -> bool {
        let mut stops = false;
        while let Some(id) = self.workers.next_touched() {
            let worker = self.workers.get(id);
            if worker.is_some_and(|worker| matches!(worker.state, Lifecycle::Busy(Front::New))) {
                stops |= self.start_front(now, id);
            }
            self.workers.refresh(id, &self.config);
        }
        stops
    }

    /// Tasks go to idle workers, a batch each.
    fn assign(&mut self, now: Moment) {
        while !self.queue.is_empty()
            && let Some(id) = self.workers.last_idle()
        {
            self.give(id, Portion::First);
            self.start_front(now, id);
        }
    }

    /// Workers that are missing start; then windows below their low watermark are filled, the emptiest
    /// first, while no other worker could run the tasks any sooner. When few are left, every worker gets a
    /// share.
    fn deepen(&mut self, now: Moment) {
        let window = Room {
            tasks: self.config.window_tasks_max,
            batches: self.config.window_batches_max,
            bytes: self.config.window_bytes_max,
        };
        loop {
            // In every round, too: a worker that is given its last tasks makes room for another.
            self.spawn(now);
            self.start_fronts(now);
            let census = self.workers.census();
            if self.queue.is_empty() || census.idle + census.starting > 0 {
                return;
            }
            let Some(id) = self.workers.first_refillable() else { return };
            let Some(worker) = self.workers.get(id) else { return };
            let share = self.queue.tasks().div_ceil(census.active.max(1));
            let tasks = worker.refill(&self.config).unwrap_or_default().min(share);
            if self.is_overdue(now, worker) || self.give(id, Portion::More { tasks, window }) == 0 {
                self.workers.change(id, |worker| worker.is_full = true);
            }
        }
    }

    /// Moves batches from the queue to a window. Returns how many.
    fn give(&mut self, id: WorkerId, portion: Portion) -> usize {
        let Self { workers, queue, batches, config, actions, .. } = self;
        let given = workers.change(id, |worker| {
            let mut given = 0;
            queue.take(batches, portion, worker.room(config), |key, batch| {
                batch.place = Place::Window(id);
                worker.window.push(key, batch.tasks, batch.task_bytes);
                worker.assigned += batch.count() as u64;
                actions.push_back(Action::Run(id, batch.entry, batch.tasks));
                given += 1;
            });
            worker.is_retired |= config.tasks_per_worker_max == Some(worker.assigned);
            if matches!(worker.state, Lifecycle::Idle { .. }) && given > 0 {
                worker.state = Lifecycle::Busy(Front::New);
            }
            given
        });
        given.unwrap_or_default()
    }

    /// The clock of what stands first in a window begins to run. Returns whether it is to be stopped
    /// instead.
    fn start_front(&mut self, now: Moment, id: WorkerId) -> bool {
        let Some(first) = self.workers.get(id).and_then(|worker| worker.window.first()) else {
            return false;
        };
        let span = match first {
            First::Revoked(_) => Some(self.config.recall_timeout),
            First::Live(_, task) if self.stopped.contains(&task) => {
                let stopped = Resolution::CancelledRunning(CancelReason::Asked);
                self.stop_running(now, id, stopped);
                return true;
            }
            First::Live(key, task) => {
                let batch = &self.batches[key];
                self.actions.push_back(Action::Start(batch.entry, task));
                batch.wall_time()
            }
        };
        let deadline = span.map(|span| now.saturating_add(span));
        self.workers.change(id, |worker| {
            worker.state = Lifecycle::Busy(Front::Known { since: now, deadline });
            worker.is_full = false;
        });
        false
    }

    fn close_superfluous(&mut self, now: Moment) {
        if self.is_open() && !self.joining {
            return;
        }
        while let Some(id) = self.workers.last_idle() {
            self.close(now, id);
        }
    }

    fn spawn(&mut self, now: Moment) {
        while self.misses_worker() {
            match self.preparation {
                Preparation::Needed => {
                    self.preparation = Preparation::Running;
                    return self.actions.push_back(Action::Prepare);
                }
                Preparation::Running => return,
                Preparation::Done if now < self.budget.paused_until() => return,
                Preparation::Done => self.spawn_one(now),
            }
        }
    }

    fn spawn_one(&mut self, now: Moment) {
        self.workers_spawned += 1;
        self.requests.spawned();
        let id = WorkerId(self.workers_spawned);
        let deadline = now.saturating_add(self.config.start_timeout);
        self.workers.insert(id, Worker::new(deadline, &self.config));
        self.actions.push_back(Action::Spawn(id));
    }

    /// Whether a worker should start, and may as far as numbers go. A pool that takes no more tasks
    /// has an empty queue and no request.
    fn misses_worker(&self) -> bool {
        let census = self.workers.census();
        let wanted = self.requests.unspawned() > 0
            || self.workers_with_work() > census.starting + census.idle;
        wanted
            && census.active < self.config.workers_max
            && self.workers.len() < self.config.workers_max.saturating_mul(2)
    }

    /// How many workers have something to do in the queue: one for each batch, and more where a batch has
    /// more tasks than one may get.
    fn workers_with_work(&self) -> usize {
        let limit = self.config.tasks_per_worker_max.unwrap_or(u64::MAX);
        let by_tasks = self.queue.tasks().div_ceil(usize::try_from(limit).unwrap_or(usize::MAX));
        by_tasks.max(self.queue.batches())
    }

    fn answer_requests(&mut self) {
        while let Some((request, workers)) = self.requests.poll_answer() {
            self.actions.push_back(Action::Spawned(request, workers));
        }
    }

    fn announce_end(&mut self) {
        let wanted = self.requests.unspawned() > 0;
        if !self.batches.is_empty() || !self.workers.is_empty() || wanted {
            return;
        }
        let preparing = self.preparation == Preparation::Running && self.is_open();
        if self.joining && !preparing {
            self.joining = false;
            self.actions.push_back(Action::Joined);
        }
        if self.shutdown.is_some() && !self.terminated {
            self.terminated = true;
            self.actions.push_back(Action::Terminated);
        }
    }
}

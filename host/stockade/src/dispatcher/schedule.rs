//! What follows from the state, whatever event led to it: tasks go to idle workers, workers without
//! a purpose close, workers that are missing start, and the end is announced.
//!
//! Invariant: after [`Dispatcher::schedule`] no worker is idle while a task waits, and workers start
//! only for tasks that no other worker is about to take, or because somebody asked for them.
//!
//! Deliberately absent: the reasons. Nothing here looks at an event.

use stockade_wire::WorkerId;

use super::task::Withdrawal;
use super::worker::{State, Worker};
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
    /// Brings everything in line with the state. Ends every event and every timeout.
    pub(super) fn schedule(&mut self, now: Moment) {
        self.assign(now);
        self.close_superfluous(now);
        self.spawn(now);
        self.answer_requests();
        self.announce_end();
    }

    /// A worker's first task left its window: the next one starts, or the worker is free or done.
    pub(super) fn advance(&mut self, now: Moment, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if !matches!(worker.state, State::Busy { .. }) {
            return;
        }
        if worker.front().is_some() {
            return self.start_front(now, id);
        }
        if worker.tasks_left(self.config.tasks_per_worker_max) == 0 {
            return self.close(now, id);
        }
        worker.state = State::Idle { since: now };
    }

    /// Workers that count against the maximum.
    pub(super) fn workers_active(&self) -> usize {
        let tasks_max = self.config.tasks_per_worker_max;
        self.workers.values().filter(|worker| worker.is_active(tasks_max)).count()
    }

    /// When the next worker starts, if one is missing and nothing but the restart budget is against
    /// it.
    pub(super) fn next_spawn(&self) -> Option<Moment> {
        let missing = self.preparation == Preparation::Done && self.misses_worker();
        missing.then(|| self.budget.paused_until())
    }

    fn assign(&mut self, now: Moment) {
        while !self.queue.is_empty()
            && let Some(id) = self.last_idle()
            && let Some(worker) = self.workers.get_mut(&id)
        {
            let tasks_left = worker.tasks_left(self.config.tasks_per_worker_max);
            let tasks_max = self.config.window_tasks_max.min(tasks_left);
            let batch = self.queue.take_batch(tasks_max, self.config.window_bytes_max);
            for task in &batch {
                if let Some(task) = self.tasks.get_mut(task) {
                    task.place = Place::Window(id);
                }
            }
            worker.assigned += batch.len() as u64;
            worker.state = State::Busy { window: batch.iter().copied().collect(), deadline: None };
            self.actions.push_back(Action::Run(id, batch));
            self.start_front(now, id);
        }
    }

    /// The clock of a window's first task begins to run.
    fn start_front(&mut self, now: Moment, id: WorkerId) {
        if let Some(Worker { state: State::Busy { window, deadline }, .. }) =
            self.workers.get_mut(&id)
            && let Some(&front) = window.front()
            && let Some(task) = self.tasks.get(&front)
        {
            *deadline = task.deadline(now, self.config.recall_timeout);
            match task.withdrawal {
                None | Some(Withdrawal::Recalled(_)) => {
                    self.actions.push_back(Action::Start(front))
                }
                Some(Withdrawal::Revoked) => {}
                Some(Withdrawal::Stopped) => {
                    self.stop_running(id, Resolution::CancelledRunning(CancelReason::Asked));
                }
            }
        }
    }

    /// The worker that has been idle for the shortest time: its caches are warm, and the others'
    /// idle timeouts go on.
    fn last_idle(&self) -> Option<WorkerId> {
        let idle = self.workers.iter().filter_map(|(&id, worker)| match worker.state {
            State::Idle { since } => Some((since, id)),
            _ => None,
        });
        idle.max().map(|(_, id)| id)
    }

    fn close_superfluous(&mut self, now: Moment) {
        if self.is_open() && !self.joining {
            return;
        }
        while let Some(id) = self.last_idle() {
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
        self.workers.insert(id, Worker::new(deadline));
        self.actions.push_back(Action::Spawn(id));
    }

    /// Whether a worker should start, and may as far as numbers go. A pool that takes no more tasks
    /// has an empty queue and no request.
    fn misses_worker(&self) -> bool {
        let counts = self.counts();
        let wanted =
            self.requests.unspawned() > 0 || self.queue.batches() > counts.starting + counts.free;
        wanted
            && self.workers_active() < self.config.workers_max
            && counts.workers < self.config.workers_max.saturating_mul(2)
    }

    fn answer_requests(&mut self) {
        while let Some((request, workers)) = self.requests.poll_answer() {
            self.actions.push_back(Action::Spawned(request, workers));
        }
    }

    fn announce_end(&mut self) {
        let wanted = self.requests.unspawned() > 0;
        if !self.tasks.is_empty() || !self.workers.is_empty() || wanted {
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

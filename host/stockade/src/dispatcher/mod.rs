//! The dispatcher: which worker runs which task, and when workers come and go.
//!
//! ```text
//!            Submit                    Run                      Finished
//! driver ─────────────► Queue ──────────────────► Worker ────────────────────► Resolve
//!                         ▲                       window
//!                         └── not started, or retried ──┘ Exited
//!
//! handle_event(now, Event) ──►┌────────────┐──► poll_action() -> Option<Action>
//! handle_timeout(now) ───────►│ Dispatcher │──► poll_timeout() -> Option<Moment>
//!                             └────────────┘
//! ```
//!
//! The driver feeds it every event as it happens, wakes it at [`Dispatcher::poll_timeout`], and
//! after either performs every [`Action`]. A worker gets a batch only when it has nothing else, so a
//! slow task holds back nobody but the rest of its own chunk. A killed worker keeps its window until
//! it is gone: only then can its status page tell the task that it had started, which is lost, from
//! those behind it, which another worker runs.
//!
//! Invariant: a task is in the queue, in one window, or resolved; and it is resolved once. Whatever
//! a worker sends, in whatever state, costs at most that worker and its window.
//!
//! Deliberately absent: clocks, threads, processes, payloads. This module never reads the time and
//! never waits; it is tested whole, by the simulator in `sim`.

mod budget;
mod event;
mod queue;
mod schedule;
mod task;
mod worker;

#[cfg(test)]
mod invariants;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use stockade_wire::{TaskId, WorkerId};

pub(crate) use event::{
    Action, BrokenCause, CancelReason, ChunkId, Config, Counts, Event, Hook, Moment, Resolution,
    ShutdownMode, Submission,
};

use budget::Budget;
use queue::Queue;
use schedule::Preparation;
use task::{Fate, Place, Task, Withdrawal};
use worker::{State, Verdict, Worker};

/// Decides everything about a pool's tasks and workers; performs nothing.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    config: Config,
    /// Those that are not resolved. Ordered, as are the workers, so that a run can be replayed.
    tasks: BTreeMap<TaskId, Task>,
    queue: Queue,
    /// Those that are not gone.
    workers: BTreeMap<WorkerId, Worker>,
    workers_spawned: u64,
    /// Workers to start even if no task waits for them.
    workers_requested: usize,
    preparation: Preparation,
    budget: Budget,
    broken: bool,
    joining: bool,
    shutdown: Option<ShutdownMode>,
    terminated: bool,
    actions: VecDeque<Action>,
}

impl Dispatcher {
    /// A dispatcher without tasks and workers.
    pub(crate) fn new(config: Config) -> Self {
        debug_assert!(config.workers_max > 0 && config.window_tasks_max > 0);
        debug_assert!(config.tasks_per_worker_max != Some(0));
        Self {
            tasks: BTreeMap::new(),
            queue: Queue::default(),
            workers: BTreeMap::new(),
            workers_spawned: 0,
            workers_requested: 0,
            preparation: Preparation::new(config.needs_preparation),
            budget: Budget::new(&config),
            broken: false,
            joining: false,
            shutdown: None,
            terminated: false,
            actions: VecDeque::new(),
            config,
        }
    }

    /// Takes note of something that happened.
    pub(crate) fn handle_event(&mut self, now: Moment, event: Event) {
        match event {
            Event::Submit(submission) => self.submit(&submission),
            Event::Cancel(task) => self.cancel(task, false),
            Event::CancelRunning(task) => self.cancel(task, true),
            Event::SpawnWorkers(count) => self.request_workers(count),
            Event::Prepared => self.preparation.succeeded(),
            Event::PreparationFailed => self.preparation_failed(),
            Event::Ready(worker) => self.ready(now, worker),
            Event::Finished { worker, task, recalled } => {
                self.finished(now, worker, task, recalled)
            }
            Event::Withheld { worker, task } => self.withheld(now, worker, task),
            Event::HookFailed { worker, hook } => self.hook_failed(worker, hook),
            Event::Closed(worker) => self.closed(worker),
            Event::Misbehaved(worker) => self.misbehaved(worker),
            Event::Exited { worker, started } => self.exited(now, worker, started),
            Event::SpawnFailed(worker) => self.exited(now, worker, None),
            Event::SetIdleTimeout(timeout) => self.config.idle_timeout = timeout,
            Event::Join => self.joining = true,
            Event::JoinGivenUp => self.joining = false,
            Event::Shutdown(mode) => self.shut_down(mode),
        }
        self.schedule(now);
    }

    /// Acts on every deadline that has passed. Afterwards [`poll_timeout`](Self::poll_timeout) is
    /// later than `now`, unless a time limit is zero.
    pub(crate) fn handle_timeout(&mut self, now: Moment) {
        let is_due = |worker: &Worker| {
            worker.deadline(self.config.idle_timeout).is_some_and(|deadline| deadline <= now)
        };
        let due: Vec<_> =
            self.workers.iter().filter(|(_, worker)| is_due(worker)).map(|(&id, _)| id).collect();
        for id in due {
            self.expire(now, id);
        }
        self.schedule(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due, if no event comes first.
    pub(crate) fn poll_timeout(&self) -> Option<Moment> {
        let idle_timeout = self.config.idle_timeout;
        let deadlines = self.workers.values().filter_map(|worker| worker.deadline(idle_timeout));
        deadlines.chain(self.next_spawn()).min()
    }

    /// The next thing to do, if anything is left to do.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// How much there is of everything.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts { workers: self.workers.len(), ..Counts::default() };
        for worker in self.workers.values() {
            match worker.state {
                State::Starting { .. } => counts.starting += 1,
                State::Busy { .. } => counts.busy += 1,
                State::Idle { .. } => counts.free += 1,
                State::Closing { .. } | State::Dying { .. } => counts.leaving += 1,
            }
        }
        counts.pending_tasks = self.tasks.len() - counts.busy;
        counts
    }

    fn submit(&mut self, submission: &Submission) {
        let task = submission.task;
        let refusal = self.shutdown.map(|_| CancelReason::Shutdown).or(self.refusal());
        if let Some(reason) = refusal {
            return self.resolve(task, Resolution::Cancelled(reason));
        }
        let position = self.queue.push_back(Task::entry_of(submission));
        self.tasks.insert(task, Task::new(submission, position, self.config.requeues_max));
    }

    fn cancel(&mut self, task: TaskId, even_running: bool) {
        match self.tasks.get(&task).map(|task| task.place) {
            None => {}
            Some(Place::Queued(position)) => {
                self.queue.remove(position);
                self.resolve(task, Resolution::Cancelled(CancelReason::Asked));
            }
            Some(Place::Window(worker)) => {
                let withdrawal = Withdrawal { reason: CancelReason::Asked, even_running };
                self.withdraw(worker, task, withdrawal);
            }
        }
    }

    /// Takes a task back from a worker, as far as that is still possible.
    fn withdraw(&mut self, id: WorkerId, task: TaskId, withdrawal: Withdrawal) {
        let Some(worker) = self.workers.get(&id) else { return };
        let Some(entry) = self.tasks.get_mut(&task) else { return };
        let runs = matches!(worker.state, State::Busy { .. }) && worker.front() == Some(task);
        match worker.state {
            State::Busy { .. } if runs && withdrawal.even_running => {
                self.stop_running(id, Resolution::CancelledRunning(withdrawal.reason));
            }
            State::Busy { .. } if runs => {}
            State::Busy { .. } => {
                if entry.withdraw(withdrawal) {
                    self.actions.push_back(Action::Recall(id, task));
                }
            }
            _ => {
                entry.withdraw(withdrawal);
            }
        }
    }

    fn request_workers(&mut self, count: usize) {
        if self.is_open() {
            let room = self.config.workers_max.saturating_sub(self.workers_active());
            self.workers_requested = self.workers_requested.saturating_add(count).min(room);
        }
    }

    fn preparation_failed(&mut self) {
        if self.preparation == Preparation::Running {
            self.break_pool(BrokenCause::Preparation);
        }
    }

    fn ready(&mut self, now: Moment, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if !matches!(worker.state, State::Starting { .. }) {
            return self.misbehaved(id);
        }
        worker.state = State::Idle { since: now };
        self.budget.started();
    }

    fn finished(&mut self, now: Moment, id: WorkerId, task: TaskId, recalled: bool) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let withdrawal = self.tasks.get(&task).and_then(|task| task.withdrawal);
        let resolution = match withdrawal {
            _ if !recalled => Resolution::Finished,
            Some(withdrawal) => Resolution::Cancelled(withdrawal.reason),
            None => return self.misbehaved(id),
        };
        if worker.front() != Some(task) {
            return self.misbehaved(id);
        }
        worker.forget(task);
        if !recalled {
            worker.finished += 1;
            self.budget.finished();
        }
        self.resolve(task, resolution);
        self.advance(now, id);
    }

    fn withheld(&mut self, now: Moment, id: WorkerId, task: TaskId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let was_front = worker.front() == Some(task);
        let held = worker.window().any(|sent| sent == task);
        if held {
            worker.forget(task);
            self.resolve(task, Resolution::Cancelled(CancelReason::Asked));
        }
        if was_front {
            self.advance(now, id);
        }
    }

    fn hook_failed(&mut self, id: WorkerId, hook: Hook) {
        let Some(worker) = self.workers.get(&id) else { return };
        match (hook, &worker.state) {
            (_, State::Dying { .. }) => {}
            (Hook::Finalizer, State::Closing { .. }) => {
                self.kill(id, Verdict::Excused);
                self.break_pool(BrokenCause::Finalizer);
            }
            (Hook::Finalizer, _) => self.misbehaved(id),
            (Hook::Initializer, _) => {
                self.kill(id, Verdict::Excused);
                self.break_pool(BrokenCause::Initializer);
            }
        }
    }

    fn closed(&mut self, id: WorkerId) {
        if self.workers.get(&id).is_some_and(Worker::is_serving) {
            self.misbehaved(id);
        }
    }

    /// Ends a worker that broke the protocol. One that is dying may say what it likes.
    fn misbehaved(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get(&id)
            && !matches!(worker.state, State::Dying { .. })
        {
            self.kill(id, worker.verdict());
        }
    }

    fn exited(&mut self, now: Moment, id: WorkerId, started: Option<TaskId>) {
        let Some(worker) = self.workers.remove(&id) else { return };
        let verdict = worker.verdict();
        match verdict {
            Verdict::NeverReady => self.start_failed(now),
            Verdict::AtFault if worker.finished == 0 => self.budget.failed(now),
            Verdict::AtFault | Verdict::Excused => {}
        }
        self.reclaim(&worker, started, verdict);
    }

    fn start_failed(&mut self, now: Moment) {
        self.budget.start_failed(now);
        // While another worker starts or serves, not every worker fails to start.
        let exhausted = self.budget.starts_failed() >= self.config.start_failures_max;
        if exhausted && !self.workers.values().any(Worker::is_serving) {
            self.break_pool(BrokenCause::WorkersCannotStart);
        }
    }

    fn shut_down(&mut self, mode: ShutdownMode) {
        if self.shutdown >= Some(mode) {
            return;
        }
        self.shutdown = Some(mode);
        self.workers_requested = 0;
        match mode {
            ShutdownMode::Drain => {}
            ShutdownMode::Cancel => self.cancel_pending(CancelReason::Shutdown),
            ShutdownMode::Kill => self.kill_everything(),
        }
    }

    /// Does what a worker's deadline is for.
    fn expire(&mut self, now: Moment, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else { return };
        match worker.state {
            State::Starting { .. } | State::Closing { .. } => self.kill(id, worker.verdict()),
            State::Idle { .. } => self.close(now, id),
            State::Busy { .. } => {
                let task = worker.front().and_then(|task| self.tasks.get(&task));
                self.stop_running(id, task.map_or(Resolution::DeadlinePassed, Task::overdue));
            }
            State::Dying { .. } => {}
        }
    }

    /// Ends a worker's first task and, since that is the only way, the worker.
    fn stop_running(&mut self, id: WorkerId, resolution: Resolution) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some(front) = worker.front() else { return };
        worker.forget(front);
        self.kill(id, Verdict::Excused);
        self.resolve(front, resolution);
    }

    /// Decides what becomes of the tasks of a worker that is gone. Answers come before the exit, so
    /// whatever stands before the task that it had started is as lost as that one.
    fn reclaim(&mut self, worker: &Worker, started: Option<TaskId>, verdict: Verdict) {
        let refusal = self.refusal();
        let last_lost = worker.window().position(|task| Some(task) == started);
        let mut again = Vec::new();
        for (index, id) in worker.window().enumerate() {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            let suspect = index == 0 && verdict == Verdict::AtFault;
            let fate = match last_lost {
                Some(last) if index <= last => task.lost(refusal),
                _ => task.returned(suspect && last_lost.is_none(), refusal),
            };
            match fate {
                Fate::Again => again.push(id),
                Fate::Ends(resolution) => self.resolve(id, resolution),
            }
        }
        for id in again.into_iter().rev() {
            if let Some(task) = self.tasks.get_mut(&id) {
                task.place = Place::Queued(self.queue.push_front(task.entry()));
            }
        }
    }

    fn break_pool(&mut self, cause: BrokenCause) {
        if self.broken || self.terminated {
            return;
        }
        self.broken = true;
        self.workers_requested = 0;
        self.actions.push_back(Action::Broken(cause));
        self.cancel_pending(CancelReason::Broken);
    }

    /// Cancels what waits in the queue and takes back what waits in windows.
    fn cancel_pending(&mut self, reason: CancelReason) {
        for task in self.queue.drain() {
            self.resolve(task, Resolution::Cancelled(reason));
        }
        let sent: Vec<_> = self
            .workers
            .iter()
            .flat_map(|(&id, worker)| worker.window().map(move |task| (id, task)))
            .collect();
        for (id, task) in sent {
            self.withdraw(id, task, Withdrawal { reason, even_running: false });
        }
    }

    /// Kills every worker; what stands behind a window's first task is resolved when it is gone.
    fn kill_everything(&mut self) {
        let running = Resolution::CancelledRunning(CancelReason::Shutdown);
        let alive: Vec<_> = self.workers.keys().copied().collect();
        for id in alive {
            match self.workers[&id].state {
                State::Dying { .. } => {}
                State::Busy { .. } => self.stop_running(id, running),
                _ => self.kill(id, Verdict::Excused),
            }
        }
        self.cancel_pending(CancelReason::Shutdown);
    }

    fn kill(&mut self, id: WorkerId, verdict: Verdict) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.die(verdict);
            self.actions.push_back(Action::Kill(id));
        }
    }

    fn close(&mut self, now: Moment, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            let deadline = now.saturating_add(self.config.close_timeout);
            worker.state = State::Closing { deadline };
            self.actions.push_back(Action::Close(id));
        }
    }

    fn resolve(&mut self, task: TaskId, resolution: Resolution) {
        self.tasks.remove(&task);
        self.actions.push_back(Action::Resolve(task, resolution));
    }

    /// Why a task may not wait for a worker, if so.
    fn refusal(&self) -> Option<CancelReason> {
        if self.shutdown >= Some(ShutdownMode::Cancel) {
            return Some(CancelReason::Shutdown);
        }
        self.broken.then_some(CancelReason::Broken)
    }

    fn is_open(&self) -> bool {
        self.shutdown.is_none() && !self.broken
    }
}

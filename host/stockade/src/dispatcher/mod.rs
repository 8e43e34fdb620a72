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
//! A task that its caller takes back on that page never starts, wherever it stands: what is left to
//! do is to have it handed back. A module whose tasks cost one worker after the other is quarantined.
//!
//! Invariant: a task is in the queue, in one window, or resolved; and it is resolved once. Whatever
//! a worker sends, in whatever state, costs at most that worker and its window.
//!
//! Deliberately absent: clocks, threads, processes, payloads. This module never reads the time and
//! never waits; it is tested whole, by the simulator in `sim`.

mod budget;
mod deaths;
mod event;
mod losses;
mod queue;
mod requests;
mod schedule;
mod stops;
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
    Action, BrokenCause, CancelReason, Config, Counts, Event, Hook, Moment, Phase, RequestId,
    Resolution, ShutdownMode, Submission,
};

use budget::Budget;
use losses::Losses;
use queue::Queue;
use requests::Requests;
use schedule::Preparation;
use task::{Place, Task, Withdrawal};
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
    requests: Requests,
    preparation: Preparation,
    budget: Budget,
    losses: Losses,
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
        debug_assert!(config.losses_in_a_row_max != Some(0));
        Self {
            tasks: BTreeMap::new(),
            queue: Queue::default(),
            workers: BTreeMap::new(),
            workers_spawned: 0,
            requests: Requests::default(),
            preparation: Preparation::new(config.needs_preparation),
            budget: Budget::new(&config),
            losses: Losses::new(config.losses_in_a_row_max),
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
            Event::Cancel(task) => self.cancel(now, task),
            Event::CancelRunning(task) => self.cancel_running(task),
            Event::SpawnWorkers { request, count } => self.request_workers(request, count),
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
        for (_, phase) in self.phases() {
            match phase {
                Phase::Starting => counts.starting += 1,
                Phase::Busy => counts.busy += 1,
                Phase::Idle => counts.free += 1,
                Phase::Closing | Phase::Dying => counts.leaving += 1,
            }
        }
        counts.pending_tasks = self.tasks.len() - counts.busy;
        counts
    }

    /// Where every worker is in its life.
    pub(crate) fn phases(&self) -> impl Iterator<Item = (WorkerId, Phase)> {
        self.workers.iter().map(|(&id, worker)| (id, worker.phase()))
    }

    fn submit(&mut self, submission: &Submission) {
        let &Submission { task, module, .. } = submission;
        let refusal = self.shutdown.map(|_| CancelReason::Shutdown).or(self.refusal(module));
        if let Some(reason) = refusal {
            return self.resolve(task, Resolution::Cancelled(reason));
        }
        let position = self.queue.push_back(Task::entry_of(submission));
        self.tasks.insert(task, Task::new(submission, position, self.config.requeues_max));
    }

    /// Ends a task that never starts, at once or when its worker hands it back.
    fn cancel(&mut self, now: Moment, task: TaskId) {
        let Some(id) = self.cancel_queued(task) else { return };
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some(entry) = self.tasks.get_mut(&task) else { return };
        entry.withdraw(Withdrawal::Revoked);
        if worker.runs(task) {
            worker.hurry(now.saturating_add(self.config.recall_timeout));
        }
    }

    /// Ends a task that has started, at once or, if another one's answer is on its way, after that.
    fn cancel_running(&mut self, task: TaskId) {
        let Some(id) = self.cancel_queued(task) else { return };
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some(entry) = self.tasks.get_mut(&task) else { return };
        if worker.runs(task) && !entry.is_revoked() {
            self.stop_running(id, Resolution::CancelledRunning(CancelReason::Asked));
        } else {
            entry.withdraw(Withdrawal::Stopped);
        }
    }

    /// Ends a task that waits in the queue. Returns the worker of one that was sent.
    fn cancel_queued(&mut self, task: TaskId) -> Option<WorkerId> {
        match self.tasks.get(&task)?.place {
            Place::Queued(position) => {
                self.queue.remove(position);
                self.resolve(task, Resolution::Cancelled(CancelReason::Asked));
                None
            }
            Place::Window(worker) => Some(worker),
        }
    }

    /// Grants somebody workers.
    fn request_workers(&mut self, request: RequestId, count: Option<usize>) {
        let counts = self.counts();
        let requested = self.requests.unspawned();
        // Those that were asked for before will be free, if nothing else comes for them.
        let free = counts.starting + counts.free + requested;
        let wanted = count.unwrap_or(counts.pending_tasks.saturating_sub(free));
        let alive = self.workers_active() + requested;
        let room = if self.is_open() { self.config.workers_max.saturating_sub(alive) } else { 0 };
        self.requests.add(request, wanted.min(room));
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
        let Some(entry) = self.tasks.get(&task) else { return self.misbehaved(id) };
        let resolution = match entry.withdrawal {
            Some(Withdrawal::Revoked) if !recalled => return self.misbehaved(id),
            _ if !recalled => Resolution::Finished,
            Some(withdrawal) => Resolution::Cancelled(withdrawal.reason()),
            None => return self.misbehaved(id),
        };
        if worker.front() != Some(task) {
            return self.misbehaved(id);
        }
        worker.forget(task);
        if !recalled {
            worker.finished += 1;
            self.budget.finished();
            self.losses.finished(entry.module);
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

    /// Does what a worker's deadline is for.
    fn expire(&mut self, now: Moment, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else { return };
        match worker.state {
            State::Starting { .. } | State::Closing { .. } => self.kill(id, worker.verdict()),
            State::Idle { .. } => self.close(now, id),
            State::Busy { .. } => self.stop_running(id, Resolution::DeadlinePassed),
            State::Dying { .. } => {}
        }
    }

    /// Ends a worker's first task and, since that is the only way, the worker. Where the task's
    /// caller knows it for cancelled, that is how it ends.
    fn stop_running(&mut self, id: WorkerId, resolution: Resolution) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some(front) = worker.front() else { return };
        worker.forget(front);
        self.kill(id, Verdict::Excused);
        let revoked = self.tasks.get(&front).is_some_and(Task::is_revoked);
        let cancelled = Resolution::Cancelled(CancelReason::Asked);
        self.resolve(front, if revoked { cancelled } else { resolution });
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
}

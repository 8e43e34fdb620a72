//! The dispatcher: decides which worker runs which task, and when workers start and stop.
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
//! The driver feeds it events as they happen, any number at a time, wakes it at
//! [`Dispatcher::poll_timeout`], and after either performs every [`Action`]. Events are only
//! recorded; decisions are made when the next action is polled.
//!
//! The unit is a batch: tasks whose numbers follow each other and which have everything in common. It is
//! split wherever a part of it goes another way, by a cancel, a recall or a death.
//!
//! A worker without work gets a batch. Once every worker has something to do, windows are deepened to
//! [`Config::window_time`] of work, so that no worker waits for the host. What waits behind a slow task is
//! recalled after [`Config::patience`], and so is half of the longest window if a worker idles (work
//! stealing). What waits behind a task that is to be stopped is recalled at once, since the stop ends its
//! worker: not before the driver says that nothing behind it has started. A worker that is lost otherwise
//! keeps its window until it is gone: only then can its status page tell the task that it had started,
//! which is lost, from those behind it, which another worker runs.
//!
//! Tasks that are revoked on that page never start, wherever they stand: they end or are queued again at
//! once, and their worker owes one answer for the rest of their batch. A module whose tasks cost one worker
//! after the other is quarantined.
//!
//! Invariant: a task is in the queue, in one window, or resolved; and it is resolved once. Whatever
//! a worker sends, in any state, costs at most that worker and its window.
//!
//! Deliberately absent: clocks, threads, processes, payloads. This crate never reads the time and
//! never waits, which the compiler checks: it is built without the standard library. It is tested whole,
//! by the simulator in `sim`.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod batch;
mod batches;
mod budget;
mod deaths;
mod event;
mod losses;
mod pace;
mod queue;
mod recalls;
mod requests;
mod roster;
mod schedule;
mod stops;
mod window;
mod worker;

#[cfg(test)]
mod invariants;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeSet, VecDeque};
use core::time::Duration;

use stockade_wire::{TaskId, TaskRange, WorkerId};

pub use event::{
    Action, BrokenCause, CancelReason, Config, Counts, EntryKey, Event, Hook, Moment, Phase,
    RequestId, Resolution, ShutdownMode, Submission,
};

use batch::{Batch, Place};
use batches::{Batches, Key};
use budget::Budget;
use losses::Losses;
use queue::Queue;
use requests::Requests;
use roster::Roster;
use schedule::Preparation;
use window::First;
use worker::{Front, Lifecycle, Verdict, Worker};

/// Decides everything about a pool's tasks and workers; performs nothing.
#[derive(Debug)]
pub struct Dispatcher {
    config: Config,
    /// Of the latest event or timeout.
    now: Moment,
    /// Whether something was noted and nothing has followed from it.
    is_unsettled: bool,
    batches: Batches,
    /// Tasks that have started, as far as their callers know, and that these want ended.
    stopped: BTreeSet<TaskId>,
    queue: Queue,
    workers: Roster,
    workers_spawned: u64,
    requests: Requests,
    preparation: Preparation,
    budget: Budget,
    losses: Losses,
    broken: bool,
    joining: bool,
    shutdown: Option<ShutdownMode>,
    terminated: bool,
    /// Since when a worker has been idle while tasks waited in another's window.
    uneven_since: Option<Moment>,
    actions: VecDeque<Action>,
}

impl Dispatcher {
    /// A dispatcher without tasks and workers.
    pub fn new(config: Config) -> Self {
        debug_assert!(config.workers_max > 0);
        debug_assert!(config.window_tasks_max > 0 && config.window_batches_max > 0);
        debug_assert!(config.tasks_per_worker_max != Some(0));
        debug_assert!(config.losses_in_a_row_max != Some(0));
        debug_assert!(!config.patience.is_zero());
        Self {
            now: Moment::ZERO,
            is_unsettled: false,
            batches: Batches::default(),
            stopped: BTreeSet::new(),
            queue: Queue::default(),
            workers: Roster::default(),
            workers_spawned: 0,
            requests: Requests::default(),
            preparation: Preparation::new(config.needs_preparation),
            budget: Budget::new(&config),
            losses: Losses::new(config.losses_in_a_row_max),
            broken: false,
            joining: false,
            shutdown: None,
            terminated: false,
            uneven_since: None,
            actions: VecDeque::new(),
            config,
        }
    }

    /// Takes note of something that happened.
    pub fn handle_event(&mut self, now: Moment, event: Event) {
        self.note(now);
        match event {
            Event::Submit(submission) => self.submit(&submission),
            Event::Cancel(tasks) => self.cancel(now, tasks),
            Event::CancelRunning(task) => self.cancel_running(now, task),
            Event::SpawnWorkers { request, count } => self.request_workers(request, count),
            Event::Prepared => self.preparation.succeeded(),
            Event::PreparationFailed => self.preparation_failed(),
            Event::Ready(worker) => self.ready(now, worker),
            Event::Finished { worker, tasks, wall_time } => {
                self.finished(now, worker, tasks, wall_time)
            }
            Event::TakenBack { worker, task } => self.taken_back(now, worker, task),
            Event::HandedBack { worker, task } => self.handed_back(now, worker, task),
            Event::Withheld { worker, tasks } => self.withheld(now, worker, tasks),
            Event::Stoppable { worker, task } => self.stoppable(worker, task),
            Event::HookFailed { worker, hook } => self.hook_failed(worker, hook),
            Event::Closed(worker) => self.closed(worker),
            Event::Misbehaved(worker) => self.misbehaved(worker),
            Event::Exited { worker, started } => self.exited(now, worker, started),
            Event::EndedFromOutside(worker) => self.ended_from_outside(worker),
            Event::SpawnFailed(worker) => self.exited(now, worker, None),
            Event::SetIdleTimeout(timeout) => self.config.idle_timeout = timeout,
            Event::Join => self.joining = true,
            Event::JoinGivenUp => self.joining = false,
            Event::Shutdown(mode) => self.shut_down(mode),
        }
    }

    /// Acts on every deadline that has passed; before that, what workers have said is told. Once
    /// every action is polled, [`poll_timeout`](Self::poll_timeout) is later than `now`, unless a time
    /// limit is zero.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.note(now);
        while let Some(id) = self.workers.pop_due(now) {
            self.expire(now, id);
        }
        while let Some(id) = self.workers.idle_due(now, self.config.idle_timeout) {
            self.close(now, id);
        }
        self.steal_work(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due, if no event comes first. Meant for when
    /// every action is polled.
    pub fn poll_timeout(&self) -> Option<Moment> {
        debug_assert!(!self.is_unsettled, "something is still to follow from an event");
        let due = self.workers.next_due(self.config.idle_timeout);
        due.into_iter().chain(self.next_steal()).chain(self.next_spawn()).min()
    }

    /// The next thing to do, if anything is left to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        // Not earlier: what is taken back is given away all at once, in its old order.
        if self.is_unsettled && self.actions.is_empty() {
            self.is_unsettled = false;
            self.settle();
        }
        self.actions.pop_front()
    }

    /// How much there is of everything.
    pub fn counts(&self) -> Counts {
        let census = self.workers.census();
        Counts {
            workers: self.workers.len(),
            starting: census.starting,
            busy: census.busy,
            free: census.idle,
            leaving: census.leaving,
            pending_tasks: self.batches.tasks() - census.running,
            window_tasks: census.depth,
        }
    }

    /// Whether another task, with any priority, would only wait: others do already, and every
    /// worker that there may be is there. Meant for when every action is polled.
    pub fn is_saturated(&self) -> bool {
        !self.queue.is_empty() && self.workers_active() >= self.config.workers_max
    }

    /// Where every worker is in its life.
    pub fn phases(&self) -> impl Iterator<Item = (WorkerId, Phase)> {
        self.workers.iter().map(|(id, worker)| (id, worker.phase()))
    }

    fn note(&mut self, now: Moment) {
        self.now = now;
        self.is_unsettled = true;
    }

    fn submit(&mut self, submission: &Submission) {
        let &Submission { tasks, entry, module, .. } = submission;
        let refusal = self.shutdown.map(|_| CancelReason::Shutdown).or(self.refusal(module));
        if let Some(reason) = refusal {
            let cancelled = Resolution::Cancelled(reason);
            return self.actions.push_back(Action::Resolve(entry, tasks, cancelled));
        }
        let key = self.batches.insert(Batch::new(submission, self.config.requeues_max));
        self.queue.push_back(&mut self.batches, key);
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
        let Some(worker) = self.workers.get(id) else { return };
        if !matches!(worker.state, Lifecycle::Starting { .. }) {
            return self.misbehaved(id);
        }
        self.workers.change(id, |worker| worker.state = Lifecycle::Idle { since: now });
        self.budget.started();
    }

    /// A worker has run tasks, of one batch or of several that stand behind each other in its window. Those
    /// that do not follow are not believed, and cost the worker.
    fn finished(&mut self, now: Moment, id: WorkerId, tasks: TaskRange, wall_time: Duration) {
        let Self { workers, batches, stopped, losses, actions, .. } = self;
        let answered = workers.change(id, |worker| {
            let (mut left, mut done) = (Some(tasks), 0);
            while let Some(tasks) = left
                && let Some((key, part)) = worker.window.pop(tasks)
            {
                let batch = &batches[key];
                losses.finished(batch.module);
                actions.push_back(Action::Resolve(batch.entry, part, Resolution::Finished));
                batches.remove_first(key, part.count());
                forget_stopped(stopped, part);
                done += part.count();
                (_, left) = tasks.split_at(part.count());
            }
            if done == 0 {
                return None;
            }
            worker.finished += u64::from(done);
            // What all of them took on average, if not all of them are believed.
            let believed = (wall_time / tasks.count()).saturating_mul(done);
            worker.pace.note(if left.is_some() { believed } else { wall_time }, done);
            Some((left.is_none(), worker.advance(now)))
        });
        let Some(answered) = answered else { return };
        let Some((were_due, is_done)) = answered else { return self.misbehaved(id) };
        self.budget.finished();
        if !were_due {
            self.misbehaved(id);
        } else if is_done {
            self.close(now, id);
        }
    }

    fn hook_failed(&mut self, id: WorkerId, hook: Hook) {
        let Some(worker) = self.workers.get(id) else { return };
        match (hook, worker.state) {
            (_, Lifecycle::Dying { .. }) => {}
            (Hook::Finalizer, Lifecycle::Closing { .. }) => {
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
        if self.workers.get(id).is_some_and(Worker::is_serving) {
            self.misbehaved(id);
        }
    }

    /// Ends a worker that broke the protocol. One that is dying may say what it likes.
    fn misbehaved(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get(id)
            && !matches!(worker.state, Lifecycle::Dying { .. })
        {
            self.kill(id, worker.verdict());
        }
    }

    /// Does what a worker's deadline is for.
    fn expire(&mut self, now: Moment, id: WorkerId) {
        let Some(worker) = self.workers.get(id) else { return };
        match worker.state {
            Lifecycle::Starting { .. } | Lifecycle::Closing { .. } => {
                self.kill(id, worker.verdict())
            }
            Lifecycle::Busy(Front::Known { deadline, .. })
                if deadline.is_some_and(|at| at <= now) =>
            {
                self.stop_running(now, id, Resolution::DeadlinePassed);
            }
            Lifecycle::Busy(Front::Stopping { resolution, deadline }) if deadline <= now => {
                self.end_running(id, resolution);
            }
            // It waits behind a slow task.
            Lifecycle::Busy(_) => self.recall(id, usize::MAX, |_| true),
            Lifecycle::Idle { .. } | Lifecycle::Dying { .. } => {}
        }
    }

    /// Has what stands first in a window end and, since that is the only way, the worker: as soon as
    /// nothing behind it can be hurt by that. What waits there need not wait for the worker's end too.
    fn stop_running(&mut self, now: Moment, id: WorkerId, resolution: Resolution) {
        let state = self.workers.get(id).map(|worker| worker.state);
        if matches!(state, Some(Lifecycle::Busy(Front::Stopping { .. }))) {
            return;
        }
        let deadline = now.saturating_add(self.config.recall_timeout);
        self.recall(id, usize::MAX, |_| true);
        let first = self.workers.change(id, |worker| {
            worker.state = Lifecycle::Busy(Front::Stopping { resolution, deadline });
            worker.is_full = true;
            worker.window.first()
        });
        if let Some(first) = first.flatten() {
            self.actions.push_back(Action::Stop(id, first.task()));
        }
    }

    fn stoppable(&mut self, id: WorkerId, task: TaskId) {
        if let Some(worker) = self.workers.get(id)
            && let Lifecycle::Busy(Front::Stopping { resolution, .. }) = worker.state
            && worker.window.first().is_some_and(|first| first.task() == task)
        {
            self.end_running(id, resolution);
        }
    }

    /// Ends the task that stands first in a window, with the worker. Where the rest of a batch is to be
    /// handed back, those tasks have ended already.
    fn end_running(&mut self, id: WorkerId, resolution: Resolution) {
        self.recall(id, usize::MAX, |_| true);
        let ended = self.workers.change(id, |worker| match worker.window.first()? {
            First::Live(_, task) => worker.window.pop(task.into()),
            First::Revoked(_) => {
                worker.window.pop_revoked();
                None
            }
        });
        self.kill(id, Verdict::Excused);
        if let Some((key, task)) = ended.flatten() {
            self.resolve_first(key, task, resolution);
        }
    }

    /// Its window waits for its end.
    fn kill(&mut self, id: WorkerId, verdict: Verdict) {
        self.workers.change(id, |worker| worker.state = Lifecycle::Dying { verdict });
        self.actions.push_back(Action::Kill(id));
    }

    fn close(&mut self, now: Moment, id: WorkerId) {
        let deadline = now.saturating_add(self.config.close_timeout);
        self.workers.change(id, |worker| worker.state = Lifecycle::Closing { deadline });
        self.actions.push_back(Action::Close(id));
    }

    /// All tasks of a batch end. It has no place any more.
    fn resolve(&mut self, key: Key, resolution: Resolution) {
        self.resolve_first(key, self.batches[key].tasks, resolution);
    }

    /// The first tasks of a batch end. They have no place any more.
    fn resolve_first(&mut self, key: Key, tasks: TaskRange, resolution: Resolution) {
        let entry = self.batches[key].entry;
        self.actions.push_back(Action::Resolve(entry, tasks, resolution));
        self.batches.remove_first(key, tasks.count());
        forget_stopped(&mut self.stopped, tasks);
    }
}

/// Tasks have ended, so nobody wants them ended any more.
fn forget_stopped(stopped: &mut BTreeSet<TaskId>, tasks: TaskRange) {
    while let Some(&task) = first_of(stopped, tasks) {
        stopped.remove(&task);
    }
}

/// The first of these tasks that is in the set.
fn first_of(set: &BTreeSet<TaskId>, tasks: TaskRange) -> Option<&TaskId> {
    set.range(tasks.first()..=tasks.last()).next()
}

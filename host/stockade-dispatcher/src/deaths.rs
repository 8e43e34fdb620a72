//! What a worker's end costs: the pool a pause, a module a loss, and the tasks of its window another
//! attempt or their end.
//!
//! Invariant: a death costs only tasks that the worker held, and only those that it may have started.
//!
//! Deliberately absent: the decision to end a worker. By the time of its exit that is long past, and
//! the [`Verdict`] says whose fault it was.

use alloc::vec::Vec;

use stockade_wire::{TaskId, WorkerId};

use super::task::Fate;
use super::worker::{State, Verdict, Worker};
use super::{BrokenCause, Dispatcher, Moment};

impl Dispatcher {
    /// A worker is gone; its page claims that `started` was started last.
    pub(super) fn exited(&mut self, now: Moment, id: WorkerId, started: Option<TaskId>) {
        let Some(worker) = self.workers.remove(id) else { return };
        let verdict = worker.verdict();
        match verdict {
            Verdict::NeverReady if worker.ended_from_outside => self.start_ended(now),
            Verdict::NeverReady => self.start_failed(now),
            Verdict::AtFault => {
                if worker.finished == 0 {
                    self.budget.failed(now);
                }
                // Before its tasks are told whether they may run again.
                self.blame(&worker, started);
            }
            Verdict::Excused => {}
        }
        self.reclaim(&worker, started, verdict);
    }

    /// Something outside of the pool is to blame for the end that a worker comes to. One that was to end
    /// anyhow, or was ready, is judged as ever.
    pub(super) fn ended_from_outside(&mut self, id: WorkerId) {
        if self.workers.get(id).is_some_and(|worker| matches!(worker.state, State::Starting { .. }))
        {
            self.workers.change(id, |worker| worker.ended_from_outside = true);
        }
    }

    /// A start was ended from outside. What does that may stop, so it is tried for longer than a worker
    /// that fails by itself.
    fn start_ended(&mut self, now: Moment) {
        let tried_for = self.budget.start_ended(now);
        let exhausted = self.config.start_patience.is_some_and(|patience| tried_for >= patience);
        if exhausted && self.workers.census().serving() == 0 {
            self.break_pool(BrokenCause::WorkersCannotStart);
        }
    }

    fn start_failed(&mut self, now: Moment) {
        self.budget.start_failed(now);
        // While another worker starts or serves, not every worker fails to start.
        let exhausted = self.budget.starts_failed() >= self.config.start_failures_max;
        if exhausted && self.workers.census().serving() == 0 {
            self.break_pool(BrokenCause::WorkersCannotStart);
        }
    }

    /// Holds a death against the module of the task that the worker had started, or else was about
    /// to. A worker that had no task has only itself to blame.
    fn blame(&mut self, worker: &Worker, started: Option<TaskId>) {
        let mut tasks = worker.window.tasks();
        let first = tasks.next();
        let named = first.into_iter().chain(tasks).find(|(task, _)| Some(*task) == started);
        if let Some((_, key)) = named.or(first) {
            let module = self.tasks[key].module;
            if self.losses.lost(module) {
                self.quarantine(module);
            }
        }
    }

    /// Decides what becomes of the tasks of a worker that is gone; its ghosts are forgotten. Answers
    /// come before the exit, so whatever stands before the task that it had started is as lost as that
    /// one.
    fn reclaim(&mut self, worker: &Worker, started: Option<TaskId>, verdict: Verdict) {
        let last_lost = worker.window.tasks().position(|(task, _)| Some(task) == started);
        let mut again = Vec::new();
        for (index, (_, key)) in worker.window.tasks().enumerate() {
            let refusal = self.refusal(self.tasks[key].module);
            let task = &mut self.tasks[key];
            let fate = match last_lost {
                Some(last) if index <= last => task.lost(refusal),
                _ if index == 0 && verdict == Verdict::AtFault => task.suspected(refusal),
                _ => task.returned(refusal),
            };
            match fate {
                Fate::Again => again.push(key),
                Fate::Ends(resolution) => self.resolve(key, resolution),
            }
        }
        for key in again.into_iter().rev() {
            self.queue.push_front(&mut self.tasks, key);
        }
    }
}

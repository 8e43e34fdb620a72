//! Consequences of a worker's end: a pause for the pool, a loss for a module, and a retry or the
//! end for the tasks of its window.
//!
//! Invariant: a death costs only tasks that the worker held, and only those that it may have started.
//!
//! Deliberately absent: the decision to end a worker. By the time of its exit that is long past, and
//! the [`Verdict`] says whose fault it was.

use alloc::vec::Vec;

use stockade_wire::{TaskId, WorkerId};

use super::recalls::Left;
use super::window::Live;
use super::worker::{Lifecycle, Verdict, Worker};
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
    /// anyhow, or was ready, is judged as usual.
    pub(super) fn ended_from_outside(&mut self, id: WorkerId) {
        if self
            .workers
            .get(id)
            .is_some_and(|worker| matches!(worker.state, Lifecycle::Starting { .. }))
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
        let has_started = |live: &Live| started.is_some_and(|task| live.tasks.contains(task));
        let named = worker.window.lives().find(has_started);
        if let Some(live) = named.or(worker.window.lives().next()) {
            let module = self.batches[live.key].module;
            if self.losses.lost(module) {
                self.quarantine(module);
            }
        }
    }

    /// Decides what becomes of the tasks of a worker that is gone; what it was to hand back is forgotten.
    /// Answers come before the exit, so the tasks before the one that it had started are lost too.
    fn reclaim(&mut self, worker: &Worker, started: Option<TaskId>, verdict: Verdict) {
        let lives: Vec<_> = worker.window.lives().collect();
        let holder = started.and_then(|task| {
            let index = lives.iter().position(|live| live.tasks.contains(task))?;
            Some((index, task))
        });
        let mut again = Vec::new();
        for (index, live) in lives.into_iter().enumerate() {
            // How its first tasks were left, and the last of these; those behind are unstarted.
            let (left, last) = match holder {
                Some((last, _)) if index < last => (Left::Lost, live.tasks.last()),
                Some((last, task)) if index == last => (Left::Lost, task),
                None if index == 0 && verdict == Verdict::AtFault => {
                    (Left::Suspected, live.tasks.first())
                }
                _ => (Left::Unstarted, live.tasks.last()),
            };
            let behind = self.batches.split_behind(live.key, last.into());
            self.leave_window(live.key, left, &mut again);
            if let Some(behind) = behind {
                self.leave_window(behind, Left::Unstarted, &mut again);
            }
        }
        self.queue_again(again);
    }
}

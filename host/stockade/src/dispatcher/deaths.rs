//! What a worker's end costs: the pool a pause, a module a loss, and the tasks of its window another
//! attempt or their end.
//!
//! Invariant: a death costs only tasks that the worker held, and only those that it may have started.
//!
//! Deliberately absent: the decision to end a worker. By the time of its exit that is long past, and
//! the [`Verdict`] says whose fault it was.

use stockade_wire::{TaskId, WorkerId};

use super::task::Fate;
use super::worker::{Verdict, Worker};
use super::{BrokenCause, Dispatcher, Moment, Place};

impl Dispatcher {
    /// A worker is gone; its page claims that `started` was started last.
    pub(super) fn exited(&mut self, now: Moment, id: WorkerId, started: Option<TaskId>) {
        let Some(worker) = self.workers.remove(&id) else { return };
        let verdict = worker.verdict();
        match verdict {
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

    fn start_failed(&mut self, now: Moment) {
        self.budget.start_failed(now);
        // While another worker starts or serves, not every worker fails to start.
        let exhausted = self.budget.starts_failed() >= self.config.start_failures_max;
        if exhausted && !self.workers.values().any(Worker::is_serving) {
            self.break_pool(BrokenCause::WorkersCannotStart);
        }
    }

    /// Holds a death against the module of the task that the worker had started, or else was about
    /// to. A worker that had no task has only itself to blame.
    fn blame(&mut self, worker: &Worker, started: Option<TaskId>) {
        let culprit = worker.window().find(|task| Some(*task) == started).or(worker.front());
        if let Some(task) = culprit.and_then(|task| self.tasks.get(&task)) {
            let module = task.module;
            if self.losses.lost(module) {
                self.quarantine(module);
            }
        }
    }

    /// Decides what becomes of the tasks of a worker that is gone. Answers come before the exit, so
    /// whatever stands before the task that it had started is as lost as that one.
    fn reclaim(&mut self, worker: &Worker, started: Option<TaskId>, verdict: Verdict) {
        let last_lost = worker.window().position(|task| Some(task) == started);
        let mut again = Vec::new();
        for (index, id) in worker.window().enumerate() {
            let Some(module) = self.tasks.get(&id).map(|task| task.module) else { continue };
            let refusal = self.refusal(module);
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            let suspect = index == 0 && verdict == Verdict::AtFault;
            let fate = match last_lost {
                Some(last) if index <= last => task.lost(refusal),
                _ => task.returned(suspect, refusal),
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
}

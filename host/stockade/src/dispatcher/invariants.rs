//! What is true of a dispatcher between any two events; checked by the simulator after each.

use super::{Dispatcher, Place, ShutdownMode, State};

impl Dispatcher {
    /// Panics where the dispatcher contradicts itself.
    pub(super) fn check_invariants(&self) {
        self.check_places();
        self.check_workers();
        self.check_ends();
    }

    /// As many places as tasks, and every task at its own: so no place is empty or taken twice.
    fn check_places(&self) {
        self.queue.check_invariants();
        let mut places = self.queue.len();
        for worker in self.workers.values() {
            places += worker.window().count();
        }
        assert_eq!(places, self.tasks.len(), "as many places as tasks");
        for (&id, task) in &self.tasks {
            let there = match task.place {
                Place::Queued(position) => self.queue.at(position) == Some(id),
                Place::Window(worker) => self.workers[&worker].window().any(|task| task == id),
            };
            assert!(there, "task {id} is elsewhere");
            let queued = matches!(task.place, Place::Queued(_));
            assert!(!queued || task.withdrawal.is_none(), "task {id} waits and is wanted back");
            let refused = self.refusal(task.module).is_some();
            assert!(!queued || !refused, "task {id} waits for nothing");
        }
    }

    fn check_workers(&self) {
        let Self { config, .. } = self;
        for (id, worker) in &self.workers {
            let window = worker.window().count();
            assert!(window <= config.window_tasks_max, "worker {id} holds too much");
            if let State::Busy { .. } = worker.state {
                assert!(window > 0, "worker {id} is busy with nothing");
            }
            assert!(config.tasks_per_worker_max.is_none_or(|max| worker.assigned <= max));
            assert!(worker.finished <= worker.assigned);
        }
        let wanted = self.workers_active() + self.requests.unspawned();
        assert!(wanted <= config.workers_max, "more workers than allowed");
        assert!(self.workers.len() <= 2 * config.workers_max, "more processes than allowed");
        let counts = self.counts();
        assert_eq!(
            counts.workers,
            counts.starting + counts.busy + counts.free + counts.leaving,
            "every worker is counted once"
        );
        assert!(counts.free == 0 || self.queue.is_empty(), "a worker idles while a task waits");
        assert!(counts.free == 0 || (self.is_open() && !self.joining), "a worker idles to no end");
    }

    fn check_ends(&self) {
        if self.broken || self.shutdown >= Some(ShutdownMode::Cancel) {
            assert!(self.queue.is_empty(), "tasks wait for a pool that has stopped");
            assert_eq!(
                self.requests.unspawned(),
                0,
                "workers are wanted for a pool that has stopped"
            );
        }
        let empty = self.tasks.is_empty() && self.workers.is_empty();
        assert!(!self.terminated || (empty && self.shutdown.is_some()), "ended too early");
    }
}

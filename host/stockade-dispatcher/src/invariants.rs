//! What is true of a dispatcher once its actions are polled; checked by the simulator after each step.

use super::{Dispatcher, Lifecycle, Place, ShutdownMode};

impl Dispatcher {
    /// Panics where the dispatcher contradicts itself.
    pub(super) fn check_invariants(&self) {
        self.check_places();
        self.check_workers();
        self.check_ends();
    }

    /// As many places as tasks, and every batch at its own: so no place is empty or taken twice.
    fn check_places(&self) {
        self.batches.check_invariants();
        self.queue.check_invariants(&self.batches);
        let mut places = self.queue.tasks();
        for (id, worker) in self.workers.iter() {
            worker.window.check_invariants();
            places += worker.window.live();
            for live in worker.window.lives() {
                let batch = &self.batches[live.key];
                assert_eq!(batch.tasks, live.tasks, "a window knows its batches");
                assert_eq!(batch.place, Place::Window(id), "tasks {} are elsewhere", batch.tasks);
            }
        }
        assert_eq!(places, self.batches.tasks(), "as many places as tasks");
        for key in self.queue.iter(&self.batches) {
            let batch = &self.batches[key];
            let is_queued = matches!(batch.place, Place::Queued { .. });
            assert!(is_queued, "tasks {} are elsewhere", batch.tasks);
            assert!(self.refusal(batch.module).is_none(), "{} wait for nothing", batch.tasks);
        }
        for task in &self.stopped {
            let place = self.batches.find(*task).map(|key| self.batches[key].place);
            assert!(matches!(place, Some(Place::Window(_))), "task {task} has not started");
        }
    }

    fn check_workers(&self) {
        let Self { config, workers, .. } = self;
        workers.check_invariants(config);
        for (id, worker) in workers.iter() {
            let window = &worker.window;
            assert!(window.held() <= config.window_tasks_max, "worker {id} holds too much");
            let is_busy = matches!(worker.state, Lifecycle::Busy(_));
            let may_hold = is_busy || matches!(worker.state, Lifecycle::Dying { .. });
            assert!(!is_busy || !window.is_empty(), "worker {id} is busy with nothing");
            assert!(may_hold || window.is_empty(), "worker {id} holds what it does not run");
            assert!(config.tasks_per_worker_max.is_none_or(|max| worker.assigned <= max));
            assert!(worker.finished <= worker.assigned);
        }
        let census = workers.census();
        let wanted = census.active + self.requests.unspawned();
        assert!(wanted <= config.workers_max, "more workers than allowed");
        assert!(workers.len() <= 2 * config.workers_max, "more processes than allowed");
        let counts = self.counts();
        assert_eq!(
            counts.workers,
            counts.starting + counts.busy + counts.free + counts.leaving,
            "every worker is counted once"
        );
        assert!(counts.free == 0 || self.queue.is_empty(), "a worker idles while a task waits");
        assert!(counts.free == 0 || (self.is_open() && !self.joining), "a worker idles to no end");
        let is_uneven = census.idle > 0 && census.waiting > 0;
        assert_eq!(self.uneven_since.is_some(), is_uneven, "somebody idles beside a full window");
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
        let empty = self.batches.is_empty() && self.workers.is_empty();
        assert!(!self.terminated || (empty && self.shutdown.is_some()), "ended too early");
    }
}

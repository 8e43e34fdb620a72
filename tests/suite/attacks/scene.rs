//! A scene of an attack: a pool of two workers with a hostile module, and a neighbour whose task runs
//! in the other worker all the while.
//!
//! ```text
//! worker ── neighbour's task, waits at a gate ───────────────────────────► its result
//! worker ── attack ─► next task of an innocent module, here or in its successor ─► its result
//! ```
//!
//! Invariant: however an attack ends, the neighbour's task ends well, at its first attempt.

use std::time::Duration;

use stockade::{
    Arguments, Bytes, Limits, Pool, PoolBuilder, Status, TaskError, TaskHandle, TaskOptions,
    TaskResult, WorkerId,
};
use stockade_tests::{Gate, PATIENCE, eventually, int, until_running, wat_file};

/// The name of the innocent module, which the [`Gate`] gives it.
const INNOCENT: &str = "test";
const HOSTILE: &str = "hostile";

/// See above.
pub(super) struct Scene {
    gate: Gate,
    pool: Pool,
    neighbour: TaskHandle<Vec<u8>>,
}

impl Scene {
    /// A scene with the module that `hostile` holds in the text format.
    pub(super) fn of(hostile: &str) -> Self {
        Self::with(hostile, Limits::default())
    }

    /// As [`of`](Self::of), under these limits.
    pub(super) fn with(hostile: &str, limits: Limits) -> Self {
        Self::start(|builder| builder.module_as(HOSTILE, wat_file(hostile)).limits(limits))
    }

    /// A scene with a module in the binary format.
    pub(super) fn of_bytes(hostile: Vec<u8>, limits: Limits) -> Self {
        Self::start(|builder| builder.module_bytes(HOSTILE, hostile).limits(limits))
    }

    fn start(add: impl FnOnce(PoolBuilder) -> PoolBuilder) -> Self {
        let gate = Gate::new();
        let builder = add(gate.tasks().max_workers(2).idle_timeout(None));
        let pool = builder.build().unwrap();
        let neighbour = pool.submit((INNOCENT, "wait"), int(0)).unwrap();
        until_running(&neighbour);
        Self { gate, pool, neighbour }
    }

    /// What becomes of an attack whose worker survives it: the next task runs in the same process.
    #[track_caller]
    pub(super) fn survived<T: TaskResult>(
        &self,
        function: &str,
        arguments: impl Arguments,
    ) -> Result<T, TaskError> {
        self.survived_within(None, function, arguments)
    }

    /// As [`survived`](Self::survived), with so much time for the attack; the neighbour has more.
    #[track_caller]
    pub(super) fn survived_within<T: TaskResult>(
        &self,
        time: impl Into<Option<Duration>>,
        function: &str,
        arguments: impl Arguments,
    ) -> Result<T, TaskError> {
        let (worker, result) = self.attack(time.into(), function, arguments);
        assert_eq!(self.worker_of_next_task(), worker, "{function}: its worker was lost");
        result
    }

    /// How an attack with so much time ends that its worker does not survive: another one runs the
    /// next task.
    #[track_caller]
    pub(super) fn killed_within(
        &self,
        time: Duration,
        function: &str,
        arguments: impl Arguments,
    ) -> TaskError {
        let (worker, result) = self.attack::<()>(Some(time), function, arguments);
        assert_ne!(self.worker_of_next_task(), worker, "{function}: its worker lives");
        eventually("the killed worker to be gone", || {
            self.pool.workers().iter().all(|info| info.id != worker)
        });
        result.expect_err("a task that is killed has no result")
    }

    #[track_caller]
    fn attack<T: TaskResult>(
        &self,
        time: Option<Duration>,
        function: &str,
        arguments: impl Arguments,
    ) -> (WorkerId, Result<T, TaskError>) {
        let mut limits = self.pool.limits().clone();
        limits.wall_time = time.or(limits.wall_time);
        let options = TaskOptions::default().limits(limits);
        let attack = self.pool.submit_with((HOSTILE, function), arguments, options).unwrap();
        let result = attack.result();
        let worker = attack.report().worker.expect("the attack ran");
        (worker, result)
    }

    #[track_caller]
    fn worker_of_next_task(&self) -> WorkerId {
        let bytes: Vec<u8> = (0..=255).collect();
        let next = self.pool.submit::<Vec<u8>>((INNOCENT, "echo"), Bytes(bytes.clone())).unwrap();
        assert_eq!(next.result().unwrap(), bytes, "another task's bytes");
        next.report().worker.expect("it ran")
    }
}

impl Drop for Scene {
    /// Lets the neighbour's task end, and sees that it ends well.
    fn drop(&mut self) {
        self.gate.open();
        let ended = self.neighbour.wait(PATIENCE);
        if std::thread::panicking() {
            return;
        }
        assert!(ended, "the neighbour's task does not end");
        assert_eq!(self.neighbour.result().unwrap(), 1_i32.to_le_bytes());
        let report = self.neighbour.report();
        assert_eq!((report.status, report.attempt), (Status::Completed, 1));
        assert!(self.pool.check().is_ok(), "the pool broke");
    }
}

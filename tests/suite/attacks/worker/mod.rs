//! 61–79: attacks by native code in a compromised worker or compiler.
//!
//! ```text
//! deaths   62–66        how processes end: aborted, killed, stopped, starved, orphaned
//! wire     67–72        what a worker says to its host, through the socket and the page
//! artefact 73           what a worker is given to run
//! pool     75, 76, 78   what a pool makes of it all
//! floods   88, 89       how much a worker may say
//! ```
//!
//! Lying workers are the program `hostile-worker`; the pool's name selects the lie.

mod artefact;
mod deaths;
mod floods;
mod pool;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use stockade::{
    Coredumps, Limits, Lockdown, Pool, PoolBuilder, TaskError, TaskHandle, TaskReport, TaskResult,
    WorkerProgram,
};
use stockade_tests::{
    Gate, HOSTILE_BATCH, PATIENCE, eventually, name_for_a_pool, numbers, processes_named,
    threads_named,
};

/// How often each of some tasks was told as ended.
struct Ends(Arc<Vec<AtomicUsize>>);

impl Ends {
    /// Counts from now on.
    fn of<'a, T: TaskResult + 'a>(handles: impl IntoIterator<Item = &'a TaskHandle<T>>) -> Self {
        let handles: Vec<_> = handles.into_iter().collect();
        let counts: Arc<Vec<_>> = Arc::new(handles.iter().map(|_| AtomicUsize::new(0)).collect());
        for (index, handle) in handles.into_iter().enumerate() {
            let counts = counts.clone();
            handle.on_done(move |_| {
                counts[index].fetch_add(1, Ordering::Relaxed);
            });
        }
        Self(counts)
    }

    /// Every task ended once. Call it again when nothing more can come.
    #[track_caller]
    fn assert_once(&self) {
        let counts =
            || self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
        eventually("every end to be told", || counts().iter().all(|count| *count > 0));
        assert!(counts().iter().all(|count| *count == 1), "{:?}", counts());
    }
}

/// A pool of one worker over functions of numbers, whose first worker does `evil` when it holds ten
/// tasks, and whose workers become ready when the gate is open.
fn hostile(evil: &str, gate: &Gate) -> PoolBuilder {
    let program = WorkerProgram::Path(env!("CARGO_BIN_EXE_hostile-worker").into());
    let builder = numbers().name(format!("{evil}.{}", name_for_a_pool()));
    let dumps = evil.starts_with("dump-") && evil != "dump-unasked";
    let builder = builder.coredumps(dumps.then(|| Coredumps::default().bytes_max(1 << 20)));
    // Its stderr is nobody's, as in production.
    builder.worker_program(program).lockdown(Lockdown::default()).grants(gate.grants())
}

/// Submits ten tasks that go to a worker together, where none is ready before the pool knows of all.
fn ten(pool: &Pool) -> Vec<TaskHandle<i32>> {
    let items = (0..HOSTILE_BATCH as i32).map(|number| (number, 1));
    pool.submit_together("add", items).into_iter().map(Result::unwrap).collect()
}

/// Lets workers become ready once the pool knows of so many tasks.
#[track_caller]
fn open(gate: &Gate, pool: &Pool, tasks: usize) {
    eventually("the tasks to be queued", || pool.count_pending_tasks() == tasks);
    gate.open();
}

/// What it cost ten tasks that the first worker of their pool did an evil.
struct Cost {
    /// How those ended that have no result; all others have their own.
    errors: Vec<TaskError>,
    /// Of all ten.
    reports: Vec<TaskReport>,
    /// Whether that worker went on.
    survived: bool,
}

/// Runs ten tasks in a pool whose first worker does `evil`, and looks at what it cost, and at whether
/// the pool goes on, lost nobody else's task, told each end once and left nothing behind.
#[track_caller]
fn cost_of(evil: &str) -> Cost {
    cost_within(evil, PATIENCE)
}

/// As [`cost_of`], with so much time for each task.
#[track_caller]
fn cost_within(evil: &str, wall_time: Duration) -> Cost {
    let limits = Limits::default().wall_time(wall_time).output_bytes(100_000);
    let gate = Gate::new();
    let pool = hostile(evil, &gate).limits(limits).build().unwrap();
    let handles = ten(&pool);
    open(&gate, &pool, handles.len());
    let ends = Ends::of(&handles);
    let mut errors = Vec::new();
    for handle in &handles {
        match handle.result() {
            Ok(sum) => assert_eq!(sum, 7, "{evil}"),
            Err(error) => errors.push(error),
        }
    }
    ends.assert_once();
    assert!(pool.check().is_ok(), "{evil} broke the pool: {:?}", pool.broken());
    let next = pool.submit::<i32>("add", (1, 1)).unwrap();
    assert_eq!(next.result().unwrap(), 7, "{evil}");
    assert!(pool.shutdown());
    assert!(!pool.is_broken(), "{evil} broke the pool: {:?}", pool.broken());
    assert!(processes_named(pool.name()).is_empty(), "{evil}");
    eventually("no thread", || threads_named(pool.name()) == 0);
    ends.assert_once();
    let reports = handles.iter().map(TaskHandle::report).collect();
    let survived = next.report().worker.map(|worker| worker.0) == Some(1);
    Cost { errors, reports, survived }
}

/// Every one of `evils` costs its worker and one task, which is reported as lost.
#[track_caller]
fn assert_each_costs_its_worker_and_one_task(evils: &[&str]) {
    for evil in evils {
        let cost = cost_of(evil);
        assert!(matches!(cost.errors[..], [TaskError::WorkerLost(_)]), "{evil}: {:?}", cost.errors);
        assert!(!cost.survived, "{evil}");
    }
}

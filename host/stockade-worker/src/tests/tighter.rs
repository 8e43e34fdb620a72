//! Limits that a task brings are the ones that hold, in every kind of instance.
//!
//! Each test sets its worker up with limits that the task would keep, and runs it under tighter
//! ones that it breaks.

use std::time::Duration;

use stockade_wire::{
    Captured, ChunkId, Failure, Finished, HostMessage, Invocation, Limits, Outcome, Scalar,
};

use super::support::{Worker, guest, task, worker, written};
use crate::session::SessionError;

/// One page and one element at first; every export takes what its parameter says.
fn taker() -> String {
    guest(
        r#"(table 1 funcref)
           (func (export "nothing"))
           (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
           (func (export "grow_or_trap") (param i32)
            (if (i32.eq (memory.grow (local.get 0)) (i32.const -1)) (then unreachable)))
           (func (export "grow_table") (param i32) (result i32)
            (table.grow 0 (ref.null func) (local.get 0)))
           (func (export "write") (param i32) (call $output_write (i32.const 0) (local.get 0)))
           (func (export "emit") (param i32) (call $emit (i32.const 0) (local.get 0)))
           (func (export "print") (param i32) (result i32)
            (i32.store (i32.const 0) (i32.const 0))
            (i32.store (i32.const 4) (local.get 0))
            (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
           (func (export "log") (param i32)
            (call $log (i32.const 3) (i32.const 100) (local.get 0)))
           (func (export "left") (result i64) (call $remaining_ns))
           (func (export "forever") (loop $l (br $l)))
           (func (export "sleep_5_s") (result i32)
            (i32.store (i32.const 16) (i32.const 1))
            (i64.store (i32.const 24) (i64.const 5000000000))
            (call $poll_oneoff (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)))"#,
    )
}

fn call(export: &str, args: &[Scalar]) -> Invocation {
    Invocation::Scalar { export: export.into(), args: args.to_vec() }
}

fn take(export: &str, amount: i32) -> Invocation {
    call(export, &[Scalar::I32(amount)])
}

fn number(number: i32) -> Outcome {
    Outcome::Scalars(vec![Scalar::I32(number)])
}

/// A worker and the chunk that its tasks are of.
struct Case {
    worker: Worker,
    chunk: Option<ChunkId>,
}

impl Case {
    fn run_under(&mut self, limits: &Limits, invocation: Invocation) -> Finished {
        let mut run = self.worker.next_run(limits.clone(), invocation);
        run.share = self.chunk;
        self.worker.offer(run, &[]);
        self.worker.finished()
    }

    fn outcome(&mut self, limits: &Limits, invocation: Invocation) -> Outcome {
        self.run_under(limits, invocation).outcome
    }
}

/// Workers set up with `limits` whose next task runs in an instance of its own, in one that lives
/// with its chunk, and in one that lives with its worker.
fn cases(limits: &Limits) -> [Case; 3] {
    let fresh = worker().limits(limits.clone());
    let shared = worker().limits(limits.clone());
    let living = worker().limits(limits.clone()).per_worker();
    [(fresh, None), (shared, Some(ChunkId(1))), (living, None)].map(|(builder, chunk)| {
        let mut case = Case { worker: builder.start_with(&taker()), chunk };
        assert_eq!(case.outcome(limits, call("nothing", &[])), Outcome::Scalars(Vec::new()));
        case
    })
}

/// Those of [`cases`] whose instance outlives its tasks.
fn living(limits: &Limits) -> [Case; 2] {
    let [_, shared, living] = cases(limits);
    [shared, living]
}

#[test]
fn a_tasks_own_memory_limit_holds() {
    let loose = Limits::default().memory_bytes(8 << 16);
    let tight = loose.clone().memory_bytes(3 << 16);
    for mut case in cases(&loose) {
        assert_eq!(case.outcome(&tight, take("grow", 3)), number(-1));
        let failed = case.outcome(&tight, take("grow_or_trap", 3));
        let expected = Failure::Memory { limit: 3 << 16, wanted: 4 << 16 };
        assert_eq!(failed, Outcome::Failed(expected));
        assert_eq!(case.outcome(&tight, take("grow", 2)), number(1));
    }
}

#[test]
fn a_tasks_own_limit_on_table_elements_holds() {
    let loose = Limits::default().table_elements(100);
    let tight = loose.clone().table_elements(10);
    for mut case in cases(&loose) {
        assert_eq!(case.outcome(&tight, take("grow_table", 10)), number(-1));
        assert_eq!(case.outcome(&tight, take("grow_table", 9)), number(1));
    }
}

#[test]
fn a_tasks_own_output_limit_holds() {
    let loose = Limits::default().output_bytes(1000);
    let tight = loose.clone().output_bytes(100);
    for mut case in cases(&loose) {
        for taken in [take("write", 101), take("emit", 69)] {
            let failed = case.outcome(&tight, taken);
            assert_eq!(failed, Outcome::Failed(Failure::Output { limit: 100 }));
        }
        assert_eq!(case.outcome(&tight, take("write", 100)), Outcome::Scalars(Vec::new()));
    }
}

#[test]
fn what_one_task_wrote_takes_no_room_from_the_next() {
    let limits = Limits::default().output_bytes(100).stdio_bytes(108);
    for mut case in cases(&limits) {
        for _ in 0..2 {
            assert_eq!(case.outcome(&limits, take("write", 100)), Outcome::Scalars(Vec::new()));
            assert_eq!(written(&case.run_under(&limits, take("print", 108))).stdout.dropped, 0);
            let logged = case.run_under(&limits, take("log", 100));
            assert_eq!(
                (
                    written(&logged).log.lines().count(),
                    written(&logged).log_dropped,
                    written(&logged).stdout.bytes.len()
                ),
                (1, 0, 0)
            );
        }
    }
}

#[test]
fn a_tasks_own_limit_on_captured_output_and_log_holds() {
    let loose = Limits::default().stdio_bytes(1000);
    let tight = loose.clone().stdio_bytes(100);
    for mut case in cases(&loose) {
        // The stream is built at the first call, under the looser limits.
        assert_eq!(written(&case.run_under(&loose, take("print", 1000))).stdout.dropped, 0);
        let Captured { bytes, dropped } =
            written(&case.run_under(&tight, take("print", 101))).stdout;
        assert_eq!((bytes.len(), dropped), (100, 1));
        assert_eq!(written(&case.run_under(&tight, take("print", 100))).stdout.dropped, 0);
        assert_eq!(written(&case.run_under(&tight, take("log", 100))).log_dropped, 1);
        assert_eq!(written(&case.run_under(&tight, take("log", 92))).log_dropped, 0);
    }
}

#[test]
fn a_tasks_own_fuel_limit_holds() {
    let loose = Limits::default().fuel(100_000_000);
    let tight = loose.clone().fuel(1000);
    for mut case in cases(&loose) {
        let finished = case.run_under(&tight, call("forever", &[]));
        assert_eq!(finished.outcome, Outcome::Failed(Failure::Fuel { limit: 1000 }));
        assert_eq!(finished.metrics.fuel, Some(1000));
    }
}

#[test]
fn what_one_task_burnt_is_not_missing_for_the_next() {
    let limits = Limits::default().fuel(1000);
    for mut case in cases(&limits) {
        let used = case.run_under(&limits, take("grow", 0)).metrics.fuel.unwrap();
        assert!(used > 1);
        // Enough for one such task and not for two.
        let enough = limits.clone().fuel(used + 1);
        for _ in 0..3 {
            assert_eq!(case.outcome(&enough, take("grow", 0)), number(1));
        }
    }
}

#[test]
fn a_tasks_own_deadline_holds() {
    // Where the deadline did not hold, the fuel would end the loop and the hour begin the sleep.
    let loose = Limits::default()
        .interruptible(true)
        .wall_time(Duration::from_secs(3600))
        .fuel(3_000_000_000);
    let tight = loose.clone().wall_time(Duration::from_millis(1));
    for mut case in cases(&loose) {
        for export in ["forever", "sleep_5_s"] {
            let failed = case.outcome(&tight, call(export, &[]));
            assert!(matches!(failed, Outcome::Failed(Failure::Deadline { .. })), "{failed:?}");
            // The instance is a fresh one now; let it live before the next task.
            assert_eq!(case.outcome(&loose, call("nothing", &[])), Outcome::Scalars(Vec::new()));
        }
        let minute = loose.clone().wall_time(Duration::from_secs(60));
        let Outcome::Scalars(left) = case.outcome(&minute, call("left", &[])) else {
            panic!("no answer")
        };
        assert!(matches!(left[..], [Scalar::I64(ns)] if ns <= 60_000_000_000), "{left:?}");
    }
}

#[test]
fn an_instance_larger_than_a_tasks_limit_stays_as_it_is_and_cannot_grow() {
    let loose = Limits::default().memory_bytes(8 << 16).table_elements(100);
    let tight = loose.clone().memory_bytes(2 << 16).table_elements(10);
    for mut case in living(&loose) {
        assert_eq!(case.outcome(&loose, take("grow", 3)), number(1));
        assert_eq!(case.outcome(&loose, take("grow_table", 49)), number(1));

        let finished = case.run_under(&tight, take("grow", 0));
        assert_eq!(finished.outcome, number(4));
        assert_eq!(finished.metrics.memory_peak_bytes, 4 << 16);
        assert_eq!(case.outcome(&tight, take("grow", 1)), number(-1));
        assert_eq!(case.outcome(&tight, take("grow_table", 1)), number(-1));
        // It is the same instance, and what the next task may have is its own affair.
        assert_eq!(case.outcome(&loose, take("grow", 1)), number(4));

        let failed = case.outcome(&tight, take("grow_or_trap", 1));
        let expected = Failure::Memory { limit: 2 << 16, wanted: 6 << 16 };
        assert_eq!(failed, Outcome::Failed(expected));
        assert_eq!(case.outcome(&tight, take("grow", 1)), number(1));
    }
}

#[test]
fn limits_for_which_no_checks_were_compiled_in_end_the_session() {
    for unheard_of in [Limits::default().fuel(10), Limits::default().interruptible(true)] {
        let mut worker = worker().start_with(&taker());
        worker.submit_under(unheard_of, task("nothing", b""), &[]);
        assert_eq!(worker.receive(), None);
        assert!(matches!(worker.end(), Err(SessionError::Protocol(_))));
    }
    let limits = Limits::default().fuel(10).interruptible(true);
    let mut worker = worker().limits(limits).start_with(&taker());
    let run = worker.next_run(Limits::default(), call("nothing", &[]));
    worker.page.offer(run.slot, run.tasks);
    worker.send(&HostMessage::Run(run), &[]);
    assert_eq!(worker.finished().outcome, Outcome::Scalars(Vec::new()));
}

//! Initializers and finalizers that fail: nothing half done is used, and nothing done is lost.

use std::time::Duration;

use stockade::{
    BrokenError, Instances, Limits, Pool, PoolBuilder, RunError, SubmitError, TaskError, TrapKind,
};
use stockade_tests::{Gate, PATIENCE, eventually, int, processes_named, tasks, wat};

use crate::attacks::seen;

const BOTH: [Instances; 2] = [Instances::PerTask, Instances::PerWorker];

/// An initializer that traps half-way, once it has changed a global and a page of memory, as long as
/// there is `trap` in its folder. A task tells how often it began and how often it came to its end,
/// and the bytes it left.
const HALF: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_filestat_get"
        (func $stat (param i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (data (i32.const 0) "trap")
    (global $begun (mut i32) (i32.const 0))
    (global $ended (mut i32) (i32.const 0))
    (func (export "initialize")
        (global.set $begun (i32.add (global.get $begun) (i32.const 1)))
        (memory.fill (i32.const 65536) (global.get $begun) (i32.const 65536))
        (if (i32.eqz (call $stat
                (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 64)))
            (then unreachable))
        (global.set $ended (i32.add (global.get $ended) (i32.const 1))))
    (func (export "state") (result i32 i32 i32)
        (global.get $begun) (global.get $ended) (i32.load8_u (i32.const 131071)))
    (func (export "trap") unreachable))"#;

/// What `state` says where the initializer ran once and wholly.
const WHOLE: (u32, u32, u32) = (1, 1, 1);

fn half(gate: &Gate, instances: Instances) -> Pool {
    let builder = wat(HALF).grants(gate.grants()).initializer("initialize", ());
    builder.instances(instances).build().unwrap()
}

fn is_broken_by_trap(result: Result<(u32, u32, u32), RunError>) -> bool {
    let cause = match result {
        Err(RunError::Task(TaskError::Broken(cause))) => cause,
        Err(RunError::Submit(SubmitError::Broken(cause))) => cause,
        other => panic!("expected a broken pool, got {other:?}"),
    };
    matches!(&*cause, BrokenError::Initializer(TaskError::Trap { kind: TrapKind::Unreachable, .. }))
}

#[test]
fn a19_what_an_initializer_left_half_done_is_never_used() {
    for instances in BOTH {
        let gate = Gate::new();
        let trap = gate.path().join("trap");
        std::fs::create_dir(&trap).unwrap();
        let pool = half(&gate, instances);
        // Every task of the pool, now and later, is refused with the trap.
        for _ in 0..3 {
            assert!(is_broken_by_trap(pool.run("state", ())), "{instances:?}");
        }
        assert!(pool.shutdown());
        assert!(processes_named(pool.name()).is_empty(), "a process is left");
        // Another try, of another pool, begins at the beginning.
        std::fs::remove_dir(&trap).unwrap();
        let pool = half(&gate, instances);
        for _ in 0..3 {
            assert_eq!(pool.run::<(u32, u32, u32)>("state", ()).unwrap(), WHOLE, "{instances:?}");
        }
        // Where a trap ends an instance that lives on, its successor is initialised anew: once
        // more wholly, and then half-way.
        assert!(pool.run::<()>("trap", ()).is_err());
        assert_eq!(pool.run::<(u32, u32, u32)>("state", ()).unwrap(), WHOLE, "{instances:?}");
        std::fs::create_dir(&trap).unwrap();
        assert!(pool.run::<()>("trap", ()).is_err());
        for _ in 0..3 {
            match instances {
                Instances::PerTask => {
                    assert_eq!(pool.run::<(u32, u32, u32)>("state", ()).unwrap(), WHOLE);
                }
                Instances::PerWorker => assert!(is_broken_by_trap(pool.run("state", ()))),
            }
        }
    }
    seen(19, "the pool is broken with the trap as its cause, no task runs; a new pool begins anew");
}

/// Tasks of a pool with that finalizer, done; then its end. What became of the pool.
#[track_caller]
fn finalized(builder: PoolBuilder) -> Option<std::sync::Arc<BrokenError>> {
    let pool = builder.max_workers(2).build().unwrap();
    let done: Vec<_> = (0..50).map(|i| pool.submit::<Vec<u8>>("echo", int(i)).unwrap()).collect();
    let unread = pool.submit::<Vec<u8>>("emit_bytes", int(10)).unwrap();
    for (number, handle) in done.iter().enumerate() {
        assert_eq!(handle.result().unwrap(), (number as i32).to_le_bytes());
    }
    unread.wait(PATIENCE);
    assert!(pool.shutdown());
    assert!(processes_named(pool.name()).is_empty(), "a process is left");
    // Also what nobody had looked at before.
    unread.result().unwrap();
    assert_eq!(unread.emitted::<Vec<u8>>().count(), 10);
    for (number, handle) in done.iter().enumerate() {
        assert_eq!(handle.result().unwrap(), (number as i32).to_le_bytes());
    }
    pool.broken()
}

#[test]
fn a20_results_stay_delivered_whatever_a_finalizer_does() {
    let limits = |time: Option<Duration>| Limits::default().wall_time(time);
    const SHORT: Duration = Duration::from_millis(300);
    for instances in BOTH {
        let with = |finalizer| tasks().instances(instances).finalizer(finalizer, int(3));
        for finalizer in ["trap", "exit", "panic"] {
            let cause = finalized(with(finalizer)).expect(finalizer);
            let failed = matches!(&*cause, BrokenError::Finalizer(_));
            assert!(failed, "{finalizer}: {cause:?}");
        }
        // One that loops: ended by its own deadline, or by the shutdown's.
        let interruptible = limits(Some(SHORT)).interruptible(true);
        let cause = finalized(with("spin").limits(interruptible)).expect("a deadline");
        let ended = matches!(&*cause, BrokenError::Finalizer(TaskError::Deadline { .. }));
        assert!(ended, "{cause:?}");
        for time in [None, Some(SHORT)] {
            finalized(with("spin").limits(limits(time)).shutdown_grace_period(SHORT));
        }
        // While the pool goes on, a worker that closes breaks it, and takes nothing along.
        let gate = Gate::new();
        let builder = with("trap").grants(gate.grants()).max_workers(2).max_tasks_per_worker(1);
        let pool = builder.build().unwrap();
        let running = gate.occupy(&pool);
        let handle = pool.submit::<Vec<u8>>("echo", int(7)).unwrap();
        assert_eq!(handle.result().unwrap(), 7_i32.to_le_bytes());
        eventually("the pool to break", || pool.is_broken());
        assert!(running.is_running());
        gate.open();
        running.result().unwrap();
    }
    seen(
        20,
        "trap, exit: the pool says so and ends; loop: ended at its deadline or the shutdown's; all \
         results stay",
    );
}

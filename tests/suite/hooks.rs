//! Initializers and finalizers: once for all tasks, or once for each worker; and what becomes of a
//! pool in which one fails.

use std::error::Error;
use std::time::Duration;

use stockade::{
    BrokenError, Instances, Limits, Pool, PoolBuilder, RefusedReason, RunError, Status,
    SubmitError, TaskError, TrapKind,
};
use stockade_tests::{
    Folder, Gate, PATIENCE, eventually, guest_pool, int, numbers, processes_named, tasks,
    threads_named, wat,
};

const SHORT: Duration = Duration::from_millis(200);

fn number(pool: &Pool, task: &str) -> i32 {
    let bytes: Vec<u8> = pool.run(task, int(0)).unwrap();
    i32::from_le_bytes(bytes.try_into().unwrap())
}

/// Runs `first` in a pool that breaks over it; gives what broke the pool.
#[track_caller]
fn broken_by(builder: PoolBuilder, first: &str) -> std::sync::Arc<BrokenError> {
    let pool = builder.build().unwrap();
    assert!(pool.check().is_ok() && !pool.is_broken());
    let handles: Vec<_> = (0..3).map(|_| pool.submit::<Vec<u8>>(first, int(0)).unwrap()).collect();
    let mut causes = Vec::new();
    for handle in &handles {
        match handle.result() {
            Err(TaskError::Broken(cause)) => causes.push(cause),
            other => panic!("expected a broken pool, got {other:?}"),
        }
        assert_eq!(handle.status(), Status::Cancelled);
    }
    let cause = pool.broken().expect("a broken pool");
    assert!(matches!(pool.check(), Err(SubmitError::Broken(_))));
    assert!(matches!(pool.submit::<Vec<u8>>(first, int(0)).unwrap_err(), SubmitError::Broken(_)));
    assert!(matches!(
        pool.run::<Vec<u8>>(first, int(0)).unwrap_err(),
        RunError::Submit(SubmitError::Broken(_))
    ));
    // The cause is the source of each error.
    let source = pool.check().unwrap_err();
    assert_eq!(source.source().unwrap().to_string(), cause.to_string());
    assert!(causes.iter().all(|other| other.to_string() == cause.to_string()));
    assert!(cause.source().is_some() || matches!(*cause, BrokenError::WorkersCannotStart(_)));
    // Closed wins over broken, and broken stays.
    assert!(pool.shutdown());
    assert!(pool.is_broken() && pool.is_terminated());
    assert!(matches!(pool.check(), Err(SubmitError::Closed)));
    assert!(processes_named(pool.name()).is_empty());
    cause
}

#[test]
fn what_an_initializer_did_every_task_finds_and_none_changes() {
    let pool = tasks().initializer("start_counting_at", int(100)).build().unwrap();
    for _ in 0..5 {
        assert_eq!(number(&pool, "count"), 101);
        assert_eq!(number(&pool, "sum_of_page"), 100 * 65_536);
    }
    assert!(pool.run::<()>("count_then_trap", int(0)).is_err());
    assert_eq!(number(&pool, "count"), 101);
}

#[test]
fn an_initializers_effect_outlives_its_workers() {
    let builder = tasks().initializer("start_counting_at", int(7)).max_tasks_per_worker(1);
    let pool = builder.build().unwrap();
    for expected in 1..=3 {
        let handle = pool.submit::<Vec<u8>>("count", int(0)).unwrap();
        assert_eq!(handle.result().unwrap(), 8_i32.to_le_bytes());
        assert_eq!(handle.report().worker.unwrap().0, expected);
    }
}

#[test]
fn an_initializer_in_rust_may_allocate_what_it_likes() {
    let words: Vec<String> = (0..20_000).map(|i| format!("word {i}")).collect();
    let pool = guest_pool("probe").initializer("remember", (words.clone(), 9_u64)).build().unwrap();
    assert_eq!(pool.run::<Vec<String>>("remembered", ()).unwrap(), words);
    assert_eq!(pool.run::<u64>("count", ()).unwrap(), 10);
    assert_eq!(pool.run::<u64>("count", ()).unwrap(), 10);
    // A task that adds to it adds to its own.
    pool.run::<()>("remember", (vec!["more"], 0_u64)).unwrap();
    assert_eq!(pool.run::<Vec<String>>("remembered", ()).unwrap().len(), 20_000);
}

#[test]
fn a_plain_function_may_be_the_initializer() {
    let pool = numbers().initializer("preset", ()).build().unwrap();
    assert_eq!(pool.run::<i32>("next", ()).unwrap(), 42);
    assert_eq!(pool.run::<i32>("next", ()).unwrap(), 42);
    let builder = numbers().initializer("preset", ()).instances(Instances::PerWorker);
    let pool = builder.build().unwrap();
    assert_eq!(pool.run::<i32>("next", ()).unwrap(), 42);
    assert_eq!(pool.run::<i32>("next", ()).unwrap(), 43);
}

#[test]
fn a_reactor_is_initialised_once_and_before_its_initializer() {
    let module = r#"(module
        (global $n (mut i32) (i32.const 1))
        (func (export "_initialize") (global.set $n (i32.add (global.get $n) (i32.const 1))))
        (func (export "double") (global.set $n (i32.mul (global.get $n) (i32.const 10))))
        (func (export "n") (result i32) (global.get $n)))"#;
    for instances in [Instances::PerTask, Instances::PerWorker] {
        let pool = wat(module).initializer("double", ()).instances(instances).build().unwrap();
        assert_eq!(pool.run::<i32>("n", ()).unwrap(), 20, "{instances:?}");
        assert_eq!(pool.run::<i32>("n", ()).unwrap(), 20, "{instances:?}");
    }
}

#[test]
fn with_an_instance_per_worker_the_initializer_runs_again_for_each_and_after_a_trap() {
    let builder = tasks().initializer("start_counting_at", int(10));
    let pool = builder.instances(Instances::PerWorker).max_tasks_per_worker(4).build().unwrap();
    assert_eq!([number(&pool, "count"), number(&pool, "count")], [11, 12]);
    assert!(pool.run::<()>("count_then_trap", int(0)).is_err());
    assert_eq!(number(&pool, "count"), 11);
    // The fifth task comes to the second worker.
    assert_eq!([number(&pool, "count"), number(&pool, "count")], [11, 12]);
}

#[test]
fn an_initializer_that_traps_breaks_the_pool_with_the_trap() {
    for instances in [Instances::PerTask, Instances::PerWorker] {
        let builder = tasks().initializer("trap", int(0)).instances(instances);
        let cause = broken_by(builder, "count");
        let BrokenError::Initializer(TaskError::Trap { kind, .. }) = &*cause else {
            panic!("{instances:?}: {cause:?}")
        };
        assert_eq!(*kind, TrapKind::Unreachable);
    }
}

#[test]
fn an_initializer_that_fails_breaks_the_pool_with_its_words() {
    for instances in [Instances::PerTask, Instances::PerWorker] {
        let builder = tasks().initializer("fail", int(0)).instances(instances);
        let cause = broken_by(builder, "count");
        let BrokenError::Initializer(TaskError::Guest(error)) = &*cause else {
            panic!("{instances:?}: {cause:?}")
        };
        assert_eq!(error.message, "it did not work");
    }
}

#[test]
fn an_initializer_that_panics_or_exits_breaks_the_pool() {
    let cause = broken_by(tasks().initializer("panic", int(0)), "count");
    let panicked = matches!(&*cause, BrokenError::Initializer(TaskError::Panic { .. }));
    assert!(panicked, "{cause:?}");
    let cause = broken_by(tasks().initializer("exit", int(3)), "count");
    let exited = matches!(&*cause, BrokenError::Initializer(TaskError::Exited(3)));
    assert!(exited, "{cause:?}");
}

#[test]
fn an_initializer_that_loops_ends_at_the_deadline_and_breaks_the_pool() {
    for instances in [Instances::PerTask, Instances::PerWorker] {
        let limits = Limits::default().wall_time(SHORT).interruptible(true);
        let builder = tasks().limits(limits).initializer("spin", int(0)).instances(instances);
        let cause = broken_by(builder, "count");
        let expired = matches!(&*cause, BrokenError::Initializer(TaskError::Deadline { .. }));
        assert!(expired, "{instances:?}: {cause:?}");
    }
}

#[test]
fn an_initializer_ends_at_its_deadline_also_where_tasks_are_not_interruptible() {
    let limits = Limits::default().wall_time(SHORT);
    let cause = broken_by(tasks().limits(limits).initializer("spin", int(0)), "count");
    let expired = matches!(&*cause, BrokenError::Initializer(TaskError::Deadline { .. }));
    assert!(expired, "{cause:?}");
}

#[test]
fn an_initializer_beyond_the_memory_limit_breaks_the_pool() {
    let limits = Limits::default().memory_bytes(8 << 20);
    let builder = guest_pool("probe").limits(limits).initializer("allocate", (64_usize << 20,));
    let pool = builder.build().unwrap();
    let error = pool.submit::<u64>("count", ()).unwrap().result().unwrap_err();
    let TaskError::Broken(cause) = error else { panic!("{error:?}") };
    let reason = matches!(&*cause, BrokenError::Initializer(TaskError::Memory { .. }));
    assert!(reason, "{cause:?}");
}

#[test]
fn an_initializer_that_runs_before_the_first_task_runs_only_for_one() {
    // One that would fail, in a pool that nobody uses.
    let pool = tasks().initializer("trap", int(0)).build().unwrap();
    assert!(pool.check().is_ok());
    assert!(pool.shutdown());
    assert!(!pool.is_broken());
}

#[test]
fn a_wall_time_beyond_any_clock_is_none() {
    let limits = || Limits::default().wall_time(Duration::MAX);
    for instances in [Instances::PerTask, Instances::PerWorker] {
        let builder = tasks().limits(limits()).initializer("start_counting_at", int(1));
        let pool = builder.instances(instances).build().unwrap();
        assert_eq!(number(&pool, "count"), 2);
        assert!(pool.shutdown());
    }
}

#[test]
fn what_a_hook_emits_goes_nowhere() {
    for instances in [Instances::PerTask, Instances::PerWorker] {
        let builder = tasks().initializer("emit_bytes", int(3)).finalizer("emit_bytes", int(3));
        let pool = builder.instances(instances).build().unwrap();
        let handle = pool.submit::<Vec<u8>>("count", int(0)).unwrap();
        assert_eq!(handle.result().unwrap(), 1_i32.to_le_bytes(), "{instances:?}");
        assert_eq!(handle.emitted::<Vec<u8>>().count(), 0);
        assert!(pool.shutdown());
        assert!(!pool.is_broken(), "{instances:?}: {:?}", pool.broken());
    }
}

#[test]
fn a_module_whose_state_cannot_be_kept_is_refused_with_the_reason() {
    let growing = r#"(module
        (table $table 2 funcref)
        (func (export "grow") (drop (table.grow $table (ref.null func) (i32.const 1)))))"#;
    let pool = wat(growing).initializer("grow", ()).build().unwrap();
    let error = pool.submit::<()>("grow", ()).unwrap().result().unwrap_err();
    let TaskError::Broken(cause) = error else { panic!("{error:?}") };
    let refused = matches!(&*cause, BrokenError::Preparation(RefusedReason::Snapshot(_)));
    assert!(refused, "{cause:?}");
    // With an instance per worker no state is kept.
    let pool = wat(growing).initializer("grow", ()).instances(Instances::PerWorker);
    pool.build().unwrap().run::<()>("grow", ()).unwrap();
}

#[test]
fn an_idle_pool_can_be_initialised_ahead() {
    let pool = tasks().initializer("start_counting_at", int(1)).build().unwrap();
    assert_eq!(pool.spawn_workers(1).unwrap(), 1);
    let pool = tasks().initializer("trap", int(0)).build().unwrap();
    assert!(matches!(pool.spawn_workers(1), Err(SubmitError::Broken(_))));
    assert!(pool.is_broken());
}

#[test]
fn an_initializer_of_the_manifest_gets_its_model_and_tasks_find_it() {
    let folder = stockade_tests::repository().join("examples-wasm/classify/data");
    let model = std::fs::read_to_string(folder.join("model.json")).unwrap();
    let pool = guest_pool("classify").initializer("load", (model,)).build().unwrap();
    let row = serde_json::json!({
        "bill_length_mm": 39.1, "bill_depth_mm": 18.7,
        "flipper_length_mm": 181.0, "body_mass_g": 3750.0,
    });
    let json = stockade::Json::new().arg(row);
    let prediction: serde_json::Value = pool.run("classify", json).unwrap();
    assert_eq!(prediction["species"], "Adelie");
    // A finalizer of the manifest needs nothing, so it runs by itself, and well.
    assert!(pool.shutdown());
    assert!(!pool.is_broken());
    let broken = guest_pool("classify").initializer("load", ("{",)).build().unwrap();
    let error = broken.run::<()>("classify", stockade::Json::new().arg(serde_json::json!({})));
    assert!(matches!(error, Err(RunError::Task(TaskError::Broken(_)))), "{error:?}");
}

/// A module whose finalizer leaves a trace in the first granted directory.
const TRACING: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_create_directory"
        (func $mkdir (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_filestat_get"
        (func $stat (param i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "finalized-a")
    (global $n (mut i32) (i32.const 0))
    (func (export "count") (result i32)
        (global.set $n (i32.add (global.get $n) (i32.const 1)))
        (global.get $n))
    ;; Makes `finalized-a`, or -b where that is there, and so on.
    (func (export "trace")
        (loop $again
            (if (call $mkdir (i32.const 3) (i32.const 0) (i32.const 11))
                (then
                    (i32.store8 (i32.const 10)
                        (i32.add (i32.load8_u (i32.const 10)) (i32.const 1)))
                    (br $again))))))"#;

fn traces(folder: &Folder) -> usize {
    std::fs::read_dir(folder.path()).unwrap().count()
}

fn traced(folder: &Folder) -> PoolBuilder {
    let grants = stockade::Grants::none().write_dir(folder.path(), "/trace");
    wat(TRACING).grants(grants).finalizer("trace", ())
}

#[test]
fn a_finalizer_runs_when_a_worker_closes_in_any_orderly_way() {
    type End = fn(&Pool);
    let ends: [(&str, End); 5] = [
        ("shutdown", |pool| assert!(pool.shutdown())),
        ("shutdown in time", |pool| assert!(pool.shutdown_timeout(PATIENCE))),
        ("drain", |pool| assert!(pool.drain())),
        ("join", |pool| pool.join(None).unwrap()),
        ("idleness", |pool| {
            pool.set_idle_timeout(Some(Duration::ZERO)).unwrap();
            eventually("no worker", || pool.count_workers() == 0);
        }),
    ];
    for instances in [Instances::PerTask, Instances::PerWorker] {
        for (name, end) in ends {
            let folder = Folder::new();
            let pool = traced(&folder).instances(instances).build().unwrap();
            pool.run::<i32>("count", ()).unwrap();
            assert_eq!(traces(&folder), 0);
            end(&pool);
            assert_eq!(traces(&folder), 1, "{name}, {instances:?}");
            assert!(!pool.is_broken());
        }
    }
    let folder = Folder::new();
    let pool = traced(&folder).build().unwrap();
    pool.run::<i32>("count", ()).unwrap();
    drop(pool);
    assert_eq!(traces(&folder), 1, "drop");
}

#[test]
fn a_finalizer_runs_once_for_each_worker() {
    let folder = Folder::new();
    let pool = traced(&folder).max_tasks_per_worker(1).build().unwrap();
    for _ in 0..3 {
        pool.run::<i32>("count", ()).unwrap();
    }
    pool.join(None).unwrap();
    assert_eq!(traces(&folder), 3);
}

#[test]
fn a_finalizer_does_not_run_in_a_pool_that_is_killed() {
    let folder = Folder::new();
    let pool = traced(&folder).build().unwrap();
    pool.run::<i32>("count", ()).unwrap();
    assert!(pool.kill());
    assert_eq!(traces(&folder), 0);
}

#[test]
fn a_finalizer_that_fails_breaks_the_pool_and_takes_back_no_result() {
    let pool = tasks().finalizer("fail", int(0)).build().unwrap();
    let done: Vec<_> = (0..5).map(|_| pool.submit::<Vec<u8>>("count", int(0)).unwrap()).collect();
    for handle in &done {
        assert_eq!(handle.result().unwrap(), 1_i32.to_le_bytes());
    }
    pool.join(None).unwrap();
    let cause = pool.broken().expect("a broken pool");
    let BrokenError::Finalizer(TaskError::Guest(error)) = &*cause else { panic!("{cause:?}") };
    assert_eq!(error.message, "it did not work");
    assert!(matches!(pool.check(), Err(SubmitError::Broken(_))));
    assert!(done.iter().all(|handle| handle.result().is_ok()));
    assert!(pool.shutdown());
    assert!(pool.is_broken());
}

#[test]
fn a_pool_can_be_shut_down_while_its_initializer_runs() {
    for kill in [false, true] {
        let gate = Gate::new();
        let builder = tasks().grants(gate.grants()).initializer("wait", int(0));
        let pool = builder.build().unwrap();
        let handle = pool.submit::<Vec<u8>>("count", int(0)).unwrap();
        gate.until_somebody_waits();
        assert!(!processes_named(pool.name()).is_empty());
        assert!(if kill { pool.kill() } else { pool.shutdown() });
        assert!(matches!(handle.result(), Err(TaskError::Cancelled(_))));
        assert!(processes_named(pool.name()).is_empty(), "a process is left");
        assert_eq!(threads_named(pool.name()), 0);
    }
}

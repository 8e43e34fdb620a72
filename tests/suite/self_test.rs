//! The pool's test of itself: it passes on every kind of pool that works, and says what does not.

use std::error::Error;
use std::time::Duration;

use stockade::{BrokenError, Instances, Limits, Pool, SubmitError, TestPath};
use stockade_tests::{
    Gate, eventually, guest_pool, int, numbers, processes_named, tasks, threads_named,
};

#[track_caller]
fn assert_passes(what: &str, pool: &Pool) {
    pool.test().unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert!(pool.check().is_ok() && pool.count_pending_tasks() == 0);
    let second = format!("{}-test", pool.name());
    assert!(processes_named(&second).is_empty(), "{what}: a process is left");
    eventually("no thread", || threads_named(&second) == 0);
}

#[test]
fn it_passes_on_pools_with_every_kind_of_instance_and_hook() {
    for instances in [Instances::PerTask, Instances::PerWorker] {
        let pool = tasks().instances(instances).build().unwrap();
        assert_passes(&format!("{instances:?}"), &pool);
        let builder = tasks().instances(instances).max_workers(2);
        let builder = builder.initializer("start_counting_at", int(7)).finalizer("echo", int(1));
        assert_passes(&format!("{instances:?}, with hooks"), &builder.build().unwrap());
    }
}

#[test]
fn it_passes_under_limits_of_every_kind() {
    let tight = Limits::default()
        .memory_bytes(256 << 10)
        .table_elements(2)
        .output_bytes(0)
        .stdio_bytes(0)
        .wall_time(Duration::from_secs(5));
    for (what, limits) in [
        ("tight", tight),
        ("fuel", Limits::default().fuel(100_000)),
        ("interruptible", Limits::default().interruptible(true)),
        ("both", Limits::default().interruptible(true).fuel(100_000)),
        ("none", Limits::default().wall_time(None)),
    ] {
        assert_passes(what, &tasks().limits(limits).build().unwrap());
    }
}

#[test]
fn it_passes_with_workers_and_room_for_almost_nothing() {
    let builder = numbers().max_workers(2).max_pending_tasks(1);
    assert_passes("room", &builder.when_full(stockade::WhenFull::Fail).build().unwrap());
    assert_passes("one task each", &numbers().max_tasks_per_worker(1).build().unwrap());
    assert_passes("no idleness", &numbers().idle_timeout(Duration::ZERO).build().unwrap());
    assert_passes("a guest of the SDK", &guest_pool("wordcount").build().unwrap());
}

#[test]
fn it_leaves_the_pools_own_tasks_alone() {
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    let running = gate.occupy(&pool);
    pool.test().unwrap();
    assert!(running.is_running());
    assert_eq!(pool.count_workers(), 1);
    gate.open();
    running.result().unwrap();
}

#[test]
fn it_says_that_the_initializer_fails() {
    let pool = tasks().initializer("trap", int(0)).build().unwrap();
    let error = pool.test().unwrap_err();
    assert_eq!(error.path, TestPath::Workers);
    assert!(error.to_string().contains("workers do not start"), "{error}");
    let source = error.source().unwrap().to_string();
    assert!(source.contains("broken"), "{source}");
    // It was the second pool that broke; this one has started nothing yet.
    assert!(!pool.is_broken());
    let builder = tasks().initializer("trap", int(0)).instances(Instances::PerWorker);
    let error = builder.build().unwrap().test().unwrap_err();
    // A worker is started before it is initialised, and what comes next may come first.
    assert!(matches!(error.path, TestPath::Workers | TestPath::Run), "{error:?}");
}

#[test]
fn it_says_that_the_finalizer_fails() {
    for instances in [Instances::PerTask, Instances::PerWorker] {
        let builder = tasks().finalizer("fail", int(0)).instances(instances);
        let error = builder.build().unwrap().test().unwrap_err();
        assert_eq!(error.path, TestPath::Join, "{instances:?}: {error:?}");
    }
}

#[test]
fn it_says_that_the_pool_is_closed_or_broken() {
    let pool = numbers().build().unwrap();
    assert!(pool.shutdown());
    let error = pool.test().unwrap_err();
    assert_eq!(error.path, TestPath::Check);
    assert!(matches!(error.source.downcast_ref(), Some(SubmitError::Closed)), "{error:?}");
    let pool = tasks().initializer("fail", int(0)).build().unwrap();
    assert!(pool.spawn_workers(1).is_err());
    let error = pool.test().unwrap_err();
    assert_eq!(error.path, TestPath::Check);
    let Some(SubmitError::Broken(cause)) = error.source.downcast_ref() else { panic!("{error:?}") };
    assert!(matches!(&**cause, BrokenError::Initializer(_)), "{cause:?}");
}

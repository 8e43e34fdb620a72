//! What can be asked of a pool: what it was built with, its workers, and what it has cancelled.

use std::time::Duration;

use stockade::{
    CancelledTask, Codec, GivenArguments, Limits, Pool, TaskError, TaskOptions, WorkerProgram,
    WorkerState,
};
use stockade_tests::{
    Folder, Gate, eventually, int, is_alive, numbers, script, tasks, two_ints, until_running,
    worker_program, workers_that_fail_when_released,
};

#[test]
fn a_pool_tells_what_it_was_built_with() {
    let pool = tasks()
        .max_workers(3)
        .idle_timeout(Duration::from_secs(7))
        .max_tasks_per_worker(11)
        .max_pending_tasks(13)
        .initializer("start_counting_at", int(5))
        .finalizer("echo", int(6))
        .worker_program(WorkerProgram::Path(worker_program()))
        .build()
        .unwrap();
    assert_eq!((pool.max_workers(), pool.max_tasks_per_worker()), (3, Some(11)));
    assert_eq!(pool.idle_timeout(), Some(Duration::from_secs(7)));
    assert_eq!(pool.max_pending_tasks(), Some(13));
    assert_eq!(pool.worker_program(), worker_program());
    let raw = |number: i32| GivenArguments::Encoded {
        codec: Codec::Raw,
        bytes: number.to_le_bytes().to_vec(),
    };
    let initializer = pool.initializer().unwrap();
    assert_eq!(initializer.target, ("test".into(), "start_counting_at".into()));
    assert_eq!(initializer.arguments, raw(5));
    let finalizer = pool.finalizer().unwrap();
    assert_eq!(finalizer.target, ("test".into(), "echo".into()));
    assert_eq!(finalizer.arguments, raw(6));

    let plain = numbers().initializer("preset", ()).build().unwrap();
    assert_eq!(plain.initializer().unwrap().arguments, GivenArguments::Scalars(Vec::new()));
    let bare = numbers().build().unwrap();
    assert!(bare.initializer().is_none() && bare.finalizer().is_none());
    assert_eq!((bare.max_tasks_per_worker(), bare.max_pending_tasks()), (None, None));
    assert_eq!(bare.idle_timeout(), Some(Duration::from_secs(60)));
    bare.set_idle_timeout(None).unwrap();
    assert_eq!(bare.idle_timeout(), None);
}

fn states(pool: &Pool) -> Vec<WorkerState> {
    pool.workers().iter().map(|worker| worker.state).collect()
}

#[test]
fn workers_tell_what_they_are_doing() {
    let gate = Gate::new();
    let pool = gate.tasks().max_workers(2).finalizer("wait", int(0)).build().unwrap();
    assert!(pool.workers().is_empty());
    assert_eq!(pool.spawn_max_workers().unwrap(), 2);
    eventually("two idle workers", || states(&pool) == [WorkerState::Idle; 2]);
    let endless = pool.submit::<()>("spin", int(0)).unwrap();
    until_running(&endless);
    let mut now = states(&pool);
    now.sort_by_key(|state| *state == WorkerState::Busy);
    assert_eq!(now, [WorkerState::Idle, WorkerState::Busy]);
    let workers = pool.workers();
    for worker in &workers {
        assert!(is_alive(worker.pid));
        assert!(worker.memory_bytes.is_some_and(|bytes| bytes > 4096), "{worker:?}");
        assert!(worker.name.starts_with(pool.name()));
        assert_eq!(worker.tasks_done, 0);
    }
    assert!(workers[0].since <= workers[1].since && workers[0].id < workers[1].id);
    endless.cancel_running();
    assert!(endless.result().is_err());
    // Its finalizer waits at the gate.
    pool.set_idle_timeout(Duration::ZERO).unwrap();
    eventually("a worker that closes", || states(&pool).contains(&WorkerState::Closing));
    gate.open();
    eventually("no worker", || pool.workers().is_empty());
}

#[test]
fn a_worker_that_is_not_ready_is_starting() {
    let folder = Folder::new();
    let compiler = format!(
        "case \"$1\" in *compiler) exec {} \"$1\";; esac\nexec sleep 1000",
        worker_program().display()
    );
    let program = WorkerProgram::Path(script(&folder, &compiler));
    let pool = numbers().worker_program(program).build().unwrap();
    assert_eq!(pool.spawn_workers(1).unwrap(), 1);
    assert_eq!(states(&pool), [WorkerState::Starting]);
    assert_eq!((pool.count_workers(), pool.count_free_workers()), (1, 0));
    assert!(pool.kill());
    assert!(pool.workers().is_empty());
}

#[test]
fn without_a_number_as_many_workers_start_as_tasks_lack_one() {
    let gate = Gate::new();
    let builder = gate.tasks().max_workers(4).limits(Limits::default().wall_time(None));
    let pool = builder.initializer("wait", int(0)).build().unwrap();
    // One chunk, for which the pool by itself starts one worker, once its module is initialised.
    let chunk = pool.submit_together::<(), _>("spin", (0..3).map(int));
    gate.until_somebody_waits();
    std::thread::scope(|scope| {
        let asked =
            [scope.spawn(|| pool.spawn_workers(None)), scope.spawn(|| pool.spawn_workers(None))];
        gate.open();
        let started = asked.map(|asked| asked.join().unwrap().unwrap());
        assert_eq!(started.iter().sum::<usize>(), 3, "what one asked for is for the other too");
    });
    chunk.iter().for_each(|task| until_running(task.as_ref().unwrap()));
    eventually("three busy workers", || {
        (pool.count_busy_workers(), pool.count_pending_tasks()) == (3, 0)
    });
    assert_eq!(pool.spawn_workers(None).unwrap(), 0);
    assert_eq!(pool.spawn_workers(100).unwrap(), 1, "up to the maximum");
    assert!(pool.kill());
}

/// Submits three tasks behind one that runs: of different priorities, kinds and labels.
fn submit_three(pool: &Pool) {
    let options = TaskOptions::default().label("second");
    pool.submit::<()>("echo", int(7)).unwrap();
    pool.submit_with::<()>("echo", int(8), options.priority(9)).unwrap();
    pool.submit::<()>("trace", two_ints(1, 2)).unwrap();
}

#[track_caller]
fn assert_the_three(tasks: &[CancelledTask]) {
    let shown: Vec<_> =
        tasks.iter().map(|task| (task.id.0, &task.target[..], task.label.as_deref())).collect();
    assert_eq!(shown, [(2, "echo", None), (3, "echo", Some("second")), (4, "trace", None)]);
    let encoded = |bytes: Vec<u8>| GivenArguments::Encoded { codec: Codec::Raw, bytes };
    assert_eq!(tasks[0].arguments, encoded(int(7).0));
    assert_eq!(tasks[1].arguments, encoded(int(8).0));
    assert_eq!(tasks[2].arguments, encoded(two_ints(1, 2).0));
}

#[test]
fn what_a_shutdown_cancels_is_listed_in_the_order_of_submission() {
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    let running = gate.occupy(&pool);
    submit_three(&pool);
    assert!(pool.cancelled_tasks().is_empty());
    let asked = pool.submit::<()>("echo", int(9)).unwrap();
    assert!(asked.cancel());
    let ender = pool.clone();
    let ending = std::thread::spawn(move || ender.shutdown());
    eventually("the list", || pool.cancelled_tasks().len() == 3);
    gate.open();
    assert!(ending.join().unwrap());
    running.result().unwrap();
    // Neither what ran nor what a handle cancelled.
    assert_the_three(&pool.cancelled_tasks());
    // All that is needed to submit them elsewhere.
    let GivenArguments::Encoded { bytes, .. } = pool.cancelled_tasks()[0].arguments.clone() else {
        panic!("other arguments")
    };
    let elsewhere = tasks().build().unwrap();
    assert_eq!(elsewhere.run::<Vec<u8>>("echo", stockade::Bytes(bytes)).unwrap(), int(7).0);
}

#[test]
fn what_a_kill_cancels_is_listed_with_what_ran() {
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    let running = gate.occupy(&pool);
    submit_three(&pool);
    assert!(pool.kill());
    let tasks = pool.cancelled_tasks();
    assert_eq!(tasks[0].id, running.task_id());
    assert_the_three(&tasks[1..]);
}

#[test]
fn what_a_break_cancels_is_listed() {
    let (folder, program) = workers_that_fail_when_released();
    let pool = tasks().worker_program(program).build().unwrap();
    let first = pool.submit::<()>("echo", int(1)).unwrap();
    submit_three(&pool);
    folder.file("release", "");
    assert!(matches!(first.result(), Err(TaskError::Broken(_))));
    pool.join(None).unwrap();
    let listed = pool.cancelled_tasks();
    assert_eq!(listed[0].id, first.task_id());
    assert_the_three(&listed[1..]);
    assert!(pool.shutdown());
    assert_eq!(pool.cancelled_tasks(), listed, "kept until the pool is dropped");
}

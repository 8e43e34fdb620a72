//! Workers: when they start and close, how many there are, and what becomes of a pool whose workers
//! die.

use std::time::Duration;

use stockade::{
    BrokenError, Bytes, Layer, Lockdown, MachineFault, PoolBuilder, RunError, SubmitError,
    TaskError, WorkerProgram,
};
use stockade_tests::{
    Folder, Gate, continue_process, eventually, int, is_alive, is_gone, kill, numbers,
    processes_named, stop_process, tasks, two_ints, until_running,
};

#[test]
fn workers_start_on_demand_and_never_more_than_the_maximum() {
    let gate = Gate::new();
    let pool = tasks().grants(gate.grants()).max_workers(2).build().unwrap();
    assert_eq!(pool.count_workers(), 0);
    let first = pool.submit::<Vec<u8>>("wait", int(0)).unwrap();
    until_running(&first);
    assert_eq!((pool.count_workers(), processes_named(pool.name()).len()), (1, 1));
    let others: Vec<_> = (0..10).map(|_| pool.submit::<Vec<u8>>("wait", int(0)).unwrap()).collect();
    eventually("a second task to run", || pool.count_busy_workers() == 2);
    assert_eq!(pool.count_pending_tasks(), 9);
    assert_eq!((pool.count_workers(), processes_named(pool.name()).len()), (2, 2));
    gate.open();
    for handle in [first].iter().chain(&others) {
        handle.result().unwrap();
    }
    assert_eq!(processes_named(pool.name()).len(), 2);
    eventually("all to be free", || pool.count_free_workers() == 2);
    assert_eq!((pool.count_busy_workers(), pool.count_pending_tasks()), (0, 0));
}

#[test]
fn workers_can_be_started_ahead_to_the_maximum_and_no_further() {
    let pool = numbers().max_workers(2).build().unwrap();
    pool.spawn_workers(1).unwrap();
    eventually("one worker", || pool.count_free_workers() == 1);
    pool.spawn_workers(100).unwrap();
    eventually("two workers", || pool.count_free_workers() == 2);
    assert_eq!(processes_named(pool.name()).len(), 2);
    let workers = pool.workers();
    let names: Vec<_> = workers.iter().map(|worker| worker.name.clone()).collect();
    let name = pool.name();
    assert_eq!(names, [format!("{name}-worker-1"), format!("{name}-worker-2")]);
    assert!(workers.iter().all(|worker| is_alive(worker.pid) && worker.tasks_done == 0));
}

#[test]
fn an_idle_pool_shrinks_to_nothing_and_grows_again() {
    let pool = numbers().idle_timeout(Duration::ZERO).build().unwrap();
    for _ in 0..3 {
        assert_eq!(pool.run::<i32>("add", (1, 2)).unwrap(), 3);
        eventually("no worker", || pool.count_workers() == 0);
        assert!(processes_named(pool.name()).is_empty());
    }
}

#[test]
fn a_change_of_the_idle_timeout_reaches_workers_that_idle_already() {
    let pool = numbers().idle_timeout(None).max_workers(2).build().unwrap();
    pool.spawn_workers(2).unwrap();
    eventually("two idle workers", || pool.count_free_workers() == 2);
    pool.set_idle_timeout(Some(Duration::ZERO)).unwrap();
    eventually("no worker", || pool.count_workers() == 0);
    pool.set_idle_timeout(None).unwrap();
    pool.run::<()>("nothing", ()).unwrap();
    assert_eq!(pool.count_workers(), 1);
}

#[test]
fn a_worker_runs_exactly_as_many_tasks_as_it_may() {
    for limit in [1, 3] {
        let pool = numbers().max_tasks_per_worker(limit).build().unwrap();
        let handles: Vec<_> = (0..12).map(|i| pool.submit::<i32>("add", (i, 0)).unwrap()).collect();
        for (number, handle) in handles.iter().enumerate() {
            assert_eq!(handle.result().unwrap(), number as i32);
            let worker = handle.report().worker.unwrap().0;
            assert_eq!(worker, 1 + number as u64 / limit, "task {number} of {limit}");
        }
        // Without work there is no replacement.
        eventually("no worker", || pool.count_workers() == 0);
    }
}

#[test]
fn a_worker_that_failed_tasks_counts_them_too() {
    let pool = numbers().max_tasks_per_worker(2).build().unwrap();
    assert!(pool.run::<()>("unreachable", ()).is_err());
    assert!(pool.run::<()>("unreachable", ()).is_err());
    let third = pool.submit::<i32>("add", (1, 1)).unwrap();
    assert_eq!(third.report().worker.unwrap().0, 2);
}

#[test]
fn a_killed_idle_worker_is_replaced_when_there_is_work() {
    let pool = numbers().build().unwrap();
    for round in 1..=5 {
        let handle = pool.submit::<i32>("add", (round, 1)).unwrap();
        assert_eq!(handle.result().unwrap(), round + 1);
        let pid = pool.workers()[0].pid;
        kill(pid);
        eventually("the worker to be gone", || is_gone(pid));
    }
    assert!(pool.check().is_ok());
}

#[test]
fn a_worker_killed_at_the_very_moment_of_a_submission_costs_nothing() {
    let pool = numbers().build().unwrap();
    for round in 0..20 {
        pool.run::<()>("nothing", ()).unwrap();
        // Not waited for: the pool may or may not know when it sends the next task.
        kill(pool.workers()[0].pid);
        let handle = pool.submit::<i32>("add", (round, 1)).unwrap();
        match handle.result() {
            Ok(sum) => assert_eq!(sum, round + 1),
            Err(error) => panic!("round {round}: {error:?}"),
        }
    }
}

/// Maps 10,000 numbers, kills the worker in the middle of number 5,000, and looks at what is left.
fn map_with_a_death(chunk_size: usize) {
    const ITEMS: i32 = 10_000;
    const VICTIM: i32 = 5_000;
    let gate = Gate::new();
    let pool = tasks().grants(gate.grants()).build().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            gate.until_somebody_waits();
            kill(pool.workers()[0].pid);
            // Whoever waits there again must not: the lost task is not tried again.
            gate.open();
        });
        let mut map = pool
            .starmap::<Vec<u8>, _, _>("square", (0..ITEMS).map(|i| two_ints(i, VICTIM)))
            .chunk_size(chunk_size);
        let mut lost = Vec::new();
        for expected in 0..ITEMS {
            let (index, handle) = map.next_task().expect("an end too early");
            assert_eq!(index as i32, expected);
            match handle.unwrap().result() {
                Ok(bytes) => assert_eq!(bytes, expected.wrapping_mul(expected).to_le_bytes()),
                Err(TaskError::WorkerLost(_)) => lost.push(expected),
                Err(other) => panic!("item {expected}: {other:?}"),
            }
        }
        assert!(map.next_task().is_none());
        assert_eq!(lost, [VICTIM]);
    });
    assert_eq!(pool.workers()[0].id.0, 2);
}

#[test]
fn a_worker_killed_in_the_middle_of_a_map_costs_one_item() {
    map_with_a_death(1);
}

#[test]
fn a_worker_killed_in_the_middle_of_a_chunk_costs_one_item() {
    map_with_a_death(64);
}

#[test]
fn workers_killed_again_and_again_cost_at_most_one_item_each() {
    const ITEMS: i32 = 10_000;
    let pool = tasks().max_workers(2).build().unwrap();
    let mut map = pool
        .starmap::<Vec<u8>, _, _>("square", (0..ITEMS).map(|i| two_ints(i, -1)))
        .chunk_size(16)
        .unordered();
    let mut seen = vec![false; ITEMS as usize];
    let (mut lost, mut kills) = (0, 0);
    while let Some((index, handle)) = map.next_task() {
        assert!(!std::mem::replace(&mut seen[index], true), "item {index} twice");
        let expected = (index as i32).wrapping_mul(index as i32);
        match handle.unwrap().result() {
            Ok(bytes) => assert_eq!(bytes, expected.to_le_bytes()),
            Err(TaskError::WorkerLost(_)) => lost += 1,
            Err(other) => panic!("item {index}: {other:?}"),
        }
        if index % 997 == 500
            && let Some(worker) = pool.workers().last()
        {
            kill(worker.pid);
            kills += 1;
        }
    }
    assert!(seen.iter().all(|seen| *seen));
    assert!(kills > 0 && lost <= kills, "{lost} lost by {kills} kills");
    assert!(pool.check().is_ok());
}

#[test]
fn a_worker_that_was_stopped_for_a_while_goes_on() {
    let gate = Gate::new();
    let pool = tasks().grants(gate.grants()).build().unwrap();
    let handle = pool.submit::<Vec<u8>>("wait", int(0)).unwrap();
    until_running(&handle);
    let pid = pool.workers()[0].pid;
    stop_process(pid);
    let behind = pool.submit::<Vec<u8>>("echo", Bytes(vec![7])).unwrap();
    gate.open();
    continue_process(pid);
    assert_eq!(handle.result().unwrap(), 1_i32.to_le_bytes());
    assert_eq!(behind.result().unwrap(), [7]);
    assert_eq!(pool.workers()[0].pid, pid);
}

#[test]
fn an_idle_worker_that_is_stopped_does_not_hold_up_the_shutdown() {
    let pool = numbers().shutdown_grace_period(Duration::from_millis(200)).build().unwrap();
    pool.run::<()>("nothing", ()).unwrap();
    let pid = pool.workers()[0].pid;
    stop_process(pid);
    assert!(pool.shutdown());
    assert!(is_gone(pid));
}

/// A pool whose compilers are real and whose workers run this script instead.
fn workers_that(worker: &str) -> (Folder, PoolBuilder) {
    workers_of(numbers(), worker)
}

fn workers_of(builder: PoolBuilder, worker: &str) -> (Folder, PoolBuilder) {
    let folder = Folder::new();
    let real = stockade_tests::worker_program();
    let compiler = format!("case \"$1\" in *compiler) exec {} \"$1\";; esac", real.display());
    let path = stockade_tests::script(&folder, &format!("{compiler}\n{worker}"));
    // In a process namespace of its own nothing that a shell does to itself would end it.
    let lockdown = Lockdown::default().without(Layer::Namespaces);
    let builder = builder.lockdown(lockdown).worker_program(WorkerProgram::Path(path));
    (folder, builder)
}

#[test]
fn workers_that_cannot_start_break_the_pool_and_the_error_says_why() {
    for (script, word) in [
        ("exit 3", "code 3"),
        ("kill -TERM $$", "SIGTERM"),
        ("printf 'hello hello hello hello' >&3; sleep 1000", ""),
        ("head -c 100000 /dev/urandom >&3", ""),
        ("exec 3>&-; sleep 1000", ""),
    ] {
        let (_folder, builder) = workers_that(script);
        // Long enough for several: one of these is ended by a signal.
        let builder = builder.max_workers(2).start_patience(Duration::from_millis(50));
        let pool = builder.build().unwrap();
        let handles: Vec<_> = (0..3).map(|i| pool.submit::<i32>("add", (i, 1)).unwrap()).collect();
        for handle in &handles {
            let error = handle.result().unwrap_err();
            let TaskError::Broken(cause) = &error else { panic!("{script}: {error:?}") };
            let BrokenError::WorkersCannotStart(why) = &**cause else { panic!("{cause:?}") };
            assert!(why.to_string().contains(word), "{script}: {why}");
        }
        assert!(matches!(pool.check(), Err(SubmitError::Broken(_))));
        assert!(matches!(
            pool.run::<i32>("add", (1, 1)),
            Err(RunError::Submit(SubmitError::Broken(_)))
        ));
        assert!(pool.shutdown());
        assert!(processes_named(pool.name()).is_empty(), "{script}");
    }
}

#[test]
fn an_initializers_worker_that_is_ended_or_fails_before_it_runs_is_no_modules_fault() {
    for (script, signal) in
        [("kill -KILL $$", Some(9)), ("kill -TERM $$", Some(15)), ("exit 3", None)]
    {
        let builder = tasks().initializer("start_counting_at", int(1));
        let (_folder, builder) = workers_of(builder, script);
        let pool = builder.build().unwrap();
        let error = pool.submit::<()>("count", int(0)).unwrap().result().unwrap_err();
        let TaskError::Broken(cause) = &error else { panic!("{error:?}") };
        let BrokenError::Machine(error) = &**cause else { panic!("{script}: {cause:?}") };
        match (signal, &error.fault) {
            (Some(sent), MachineFault::Killed { signal, .. }) => assert_eq!(*signal, sent),
            (None, MachineFault::Process(why)) => assert!(why.contains("code 3"), "{why}"),
            (_, other) => panic!("{script}: {other:?}"),
        }
    }
}

/// More than may fail by themselves.
const ENDED_FROM_OUTSIDE: usize = 8;

#[test]
fn a_pool_goes_on_trying_while_its_starts_are_ended_from_outside() {
    let folder = Folder::new();
    let (starts, real) = (folder.path().join("starts"), stockade_tests::worker_program());
    let (starts_file, most) = (starts.display(), ENDED_FROM_OUTSIDE);
    let (_folder, builder) = workers_that(&format!(
        "echo start >> {starts_file}\n\
         [ $(wc -l < {starts_file}) -gt {most} ] || kill -KILL $$\n\
         exec {} \"$1\"",
        real.display()
    ));
    let pool = builder.max_workers(1).build().unwrap();
    assert_eq!(pool.run::<i32>("add", (40, 2)).unwrap(), 42);
    let started = std::fs::read_to_string(&starts).unwrap().lines().count();
    // A spare may have started meanwhile.
    assert!(started > ENDED_FROM_OUTSIDE, "{started}");
}

#[test]
fn workers_that_never_answer_can_be_shut_down() {
    let (_folder, builder) = workers_that("exec sleep 1000");
    let pool = builder.build().unwrap();
    let handle = pool.submit::<i32>("add", (1, 1)).unwrap();
    eventually("a worker", || pool.workers().len() == 1);
    let pid = pool.workers()[0].pid;
    assert!(!handle.wait(Duration::ZERO));
    assert!(pool.shutdown_timeout(Duration::from_millis(100)));
    assert!(matches!(handle.result(), Err(TaskError::Cancelled(_))));
    assert!(is_gone(pid));
}

#[test]
fn a_worker_program_that_vanishes_breaks_the_pool() {
    let (folder, builder) = workers_that("exit 0");
    let pool = builder.build().unwrap();
    drop(folder);
    let error = pool.submit::<i32>("add", (1, 1)).unwrap().result().unwrap_err();
    let TaskError::Broken(cause) = &error else { panic!("{error:?}") };
    assert!(matches!(&**cause, BrokenError::WorkersCannotStart(_)), "{cause:?}");
}

#[test]
fn a_granted_directory_that_vanishes_breaks_the_pool_and_is_named() {
    let folder = Folder::new();
    let grants = stockade::Grants::none().read_dir(folder.path(), "/data");
    let pool = tasks().grants(grants).build().unwrap();
    let path = folder.path().display().to_string();
    drop(folder);
    let error = pool.submit::<()>("echo", int(1)).unwrap().result().unwrap_err();
    let TaskError::Broken(cause) = &error else { panic!("{error:?}") };
    let BrokenError::WorkersCannotStart(why) = &**cause else { panic!("{cause:?}") };
    assert!(why.to_string().contains(&path), "{why}");
}

#[test]
fn a_grown_and_shrinking_pool_loses_nothing_on_the_way() {
    let builder = numbers().max_workers(2).idle_timeout(Duration::ZERO).max_tasks_per_worker(7);
    let pool = builder.build().unwrap();
    for chunk_size in [1, 10] {
        let map = pool.starmap::<i32, _, _>("add", (0..500).map(|i| (i, 0))).chunk_size(chunk_size);
        let sums: Vec<_> = map.collect::<Result<_, _>>().unwrap();
        assert_eq!(sums, (0..500).collect::<Vec<_>>());
    }
    assert!(pool.check().is_ok());
}

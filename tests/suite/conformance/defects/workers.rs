//! Defects about workers: how many there are, and what their deaths cost.

use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::Duration;

use stockade::{Limits, Pool, PoolBuilder, TaskError};
use stockade_tests::{
    Gate, TASKS, eventually, int, is_alive, is_gone, kill, name_for_a_pool, numbers,
    processes_named, tasks, threads_named, until_running, wat_file, worker_program,
};

use super::comes_back;

#[test]
fn d01_test_works_on_every_sized_pool() {
    let sizes: [(usize, fn() -> PoolBuilder); 4] =
        [(1, Pool::single), (2, Pool::dual), (3, Pool::triple), (4, Pool::quad)];
    for (workers, builder) in sizes {
        let pool = builder().name(name_for_a_pool()).module(wat_file(TASKS)).build().unwrap();
        assert_eq!(pool.max_workers(), workers);
        pool.test().unwrap_or_else(|error| panic!("{workers}: {error:?}"));
    }
}

#[test]
fn d02_a_workers_death_ends_its_task() {
    let gate = Gate::new();
    let pool = gate.tasks().build().unwrap();
    let running = gate.occupy(&pool);
    let behind = pool.submit::<Vec<u8>>("echo", int(5)).unwrap();
    let pid = pool.workers()[0].pid;
    kill(pid);
    let lost = running.clone();
    let error = comes_back("the task's end", move || lost.result()).unwrap_err();
    let TaskError::WorkerLost(exit) = error else { panic!("{error:?}") };
    assert_eq!((exit.pid, exit.signal), (pid, Some(9)));
    assert!(running.is_failed() && running.exception().is_some());
    assert_eq!(comes_back("the next", move || behind.result()).unwrap(), 5_i32.to_le_bytes());
}

#[test]
fn d03_killing_an_idle_worker_hangs_nothing() {
    let pool = numbers().max_workers(2).build().unwrap();
    assert_eq!(pool.spawn_max_workers().unwrap(), 2);
    eventually("two idle workers", || pool.count_free_workers() == 2);
    let pids: Vec<_> = pool.workers().iter().map(|worker| worker.pid).collect();
    pids.iter().copied().for_each(kill);
    let caller = pool.clone();
    let sum = comes_back("a task after it", move || caller.run::<i32>("add", (1, 2)));
    assert_eq!(sum.unwrap(), 3);
    eventually("an idle worker", || pool.count_free_workers() == 1);
    kill(pool.workers()[0].pid);
    let caller = pool.clone();
    assert!(comes_back("the shutdown", move || caller.shutdown()));
    assert!(pool.is_terminated() && processes_named(pool.name()).is_empty());
    assert!(pids.iter().all(|pid| is_gone(*pid)));
}

/// A program with a pool whose workers are busy forever, which goes on or ends as `mode` says, and
/// its workers' process numbers.
fn host(mode: &str) -> (Child, Vec<u32>) {
    let mut host = Command::new(env!("CARGO_BIN_EXE_host"))
        .arg(mode)
        .arg(wat_file(TASKS))
        .env("STOCKADE_WORKER", worker_program())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = std::io::BufReader::new(host.stdout.take().unwrap());
    let lines = std::io::BufRead::lines(stdout).take(2);
    let pids: Vec<u32> = lines.map(|line| line.unwrap().parse().unwrap()).collect();
    assert_eq!(pids.len(), 2, "{mode}");
    (host, pids)
}

#[test]
fn d13_dropped_pools_and_dead_hosts_leave_nothing() {
    let gate = Gate::new();
    let pool = gate.tasks().max_workers(2).build().unwrap();
    pool.spawn_max_workers().unwrap();
    let handle = pool.submit::<Vec<u8>>("echo", int(1)).unwrap();
    handle.result().unwrap();
    let pids: Vec<_> = pool.workers().iter().map(|worker| worker.pid).collect();
    let name = pool.name().to_string();
    // The handle stays and does not keep the pool.
    comes_back("the drop", move || drop(pool));
    assert!(handle.pool().is_none());
    assert!(processes_named(&name).is_empty());
    assert!(pids.iter().all(|pid| is_gone(*pid)), "a zombie is left");
    eventually("no thread", || threads_named(&name) == 0);

    let (mut host, pids) = host("busy");
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    host.kill().unwrap();
    host.wait().unwrap();
    for pid in pids {
        eventually("no orphan", || !is_alive(pid));
    }
}

#[test]
fn d14_exit_does_not_wait_for_an_endless_task() {
    for (mode, code) in [("return", 0), ("drop", 0), ("exit", 7)] {
        let (mut host, pids) = host(mode);
        let mut status = None;
        eventually(mode, || {
            status = host.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.and_then(|status| status.code()), Some(code), "{mode}");
        for pid in pids {
            eventually("no orphan", || !is_alive(pid));
        }
    }
}

#[test]
fn d18_an_idle_timeout_set_later_reaches_living_workers() {
    let pool = numbers().max_workers(2).idle_timeout(None).build().unwrap();
    pool.spawn_max_workers().unwrap();
    eventually("two idle workers", || pool.count_free_workers() == 2);
    assert_eq!(pool.idle_timeout(), None);
    pool.set_idle_timeout(Duration::from_millis(1)).unwrap();
    assert_eq!(pool.idle_timeout(), Some(Duration::from_millis(1)));
    eventually("no worker", || pool.count_workers() == 0);
    // And one that is busy meanwhile.
    let limits = Limits::default().wall_time(None);
    let pool = tasks().limits(limits).idle_timeout(None).build().unwrap();
    let endless = pool.submit::<()>("spin", int(0)).unwrap();
    until_running(&endless);
    pool.set_idle_timeout(Duration::ZERO).unwrap();
    assert_eq!(pool.count_workers(), 1, "it is not idle");
    endless.cancel_running();
    pool.run::<Vec<u8>>("echo", int(1)).unwrap();
    eventually("no worker", || pool.count_workers() == 0);
}

#[test]
fn d19_spawn_workers_never_exceeds_the_maximum() {
    const MOST: usize = 3;
    const CALLERS: usize = 8;
    let pool = numbers().max_workers(MOST).build().unwrap();
    let barrier = Barrier::new(CALLERS);
    let started: usize = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (pool, barrier) = (&pool, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let started = match caller % 3 {
                        0 => pool.spawn_workers(100),
                        1 => pool.spawn_workers(2),
                        _ => pool.spawn_max_workers(),
                    };
                    assert!(pool.count_workers() <= MOST);
                    started.unwrap()
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    });
    assert_eq!(started, MOST, "what the calls say adds up");
    eventually("all to be ready", || pool.count_free_workers() == MOST);
    assert_eq!((pool.count_workers(), processes_named(pool.name()).len()), (MOST, MOST));
    assert_eq!(pool.spawn_max_workers().unwrap(), 0);
}

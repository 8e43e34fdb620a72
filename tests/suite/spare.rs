//! Spares: a worker that is lost has its successor ready, and nobody sees one that was not lost yet.

use stockade::{Instances, Pool, TaskError, TaskOptions};
use stockade_tests::{
    eventually, int, is_alive, is_gone, kill, numbers, processes_named, tasks, template_of,
};

/// A pool of so many workers of which one was just replaced, and the process that is to replace the
/// next.
fn with_a_spare(workers: usize) -> (Pool, u32) {
    let pool = numbers().max_workers(workers).build().unwrap();
    let all_there = || pool.count_free_workers() == workers;
    pool.spawn_workers(workers).unwrap();
    eventually("its workers", all_there);
    assert_eq!(processes_named(pool.name()).len(), workers, "nothing was lost yet");
    // It bears a clone's name while it makes one.
    let template = template_of(pool.name());
    end_by_deadline(&pool);
    pool.spawn_workers(workers).unwrap();
    eventually("its workers again", || all_there() && pool.workers().len() == workers);
    let mut spares = Vec::new();
    eventually("a spare", || {
        let serving: Vec<_> = pool.workers().iter().map(|worker| worker.pid).collect();
        spares = processes_named(pool.name());
        spares.retain(|pid| !serving.contains(pid) && Some(*pid) != template);
        !spares.is_empty()
    });
    assert_eq!((spares.len(), pool.count_workers()), (1, workers), "a spare is no worker yet");
    (pool, spares[0])
}

fn end_by_deadline(pool: &Pool) {
    let limits = pool.limits().clone().wall_time(std::time::Duration::from_millis(20));
    let spin = pool.submit_with::<()>("spin", (), TaskOptions::default().limits(limits)).unwrap();
    assert!(matches!(spin.result(), Err(TaskError::Deadline { .. })));
}

#[test]
fn a_spare_takes_the_place_of_a_worker_that_is_killed() {
    let (pool, spare) = with_a_spare(1);
    end_by_deadline(&pool);
    assert_eq!(pool.run::<i32>("add", (1, 2)).unwrap(), 3);
    eventually("the end of the one before", || pool.workers().len() == 1);
    let worker = &pool.workers()[0];
    assert_eq!((worker.pid, worker.id.0), (spare, 3));
    assert!(pool.shutdown());
    assert!(processes_named(pool.name()).is_empty());
}

#[test]
fn a_pool_that_was_joined_has_no_spare() {
    let (pool, spare) = with_a_spare(1);
    end_by_deadline(&pool);
    pool.join(None).unwrap();
    assert!(is_gone(spare) && processes_named(pool.name()).is_empty());
    assert_eq!(pool.run::<i32>("add", (1, 2)).unwrap(), 3);
}

#[test]
fn a_spare_that_is_gone_is_not_missed() {
    let (pool, spare) = with_a_spare(1);
    kill(spare);
    eventually("its end", || !is_alive(spare));
    end_by_deadline(&pool);
    assert_eq!(pool.run::<i32>("add", (1, 2)).unwrap(), 3);
    assert_ne!(pool.workers()[0].pid, spare);
    assert!(pool.shutdown());
}

#[test]
fn after_a_crash_the_spare_is_not_used() {
    let (pool, spare) = with_a_spare(2);
    kill(pool.workers()[0].pid);
    eventually("its end", || pool.count_workers() == 1);
    pool.spawn_workers(2).unwrap();
    eventually("two workers", || pool.count_free_workers() == 2);
    assert!(pool.workers().iter().all(|worker| worker.pid != spare));
    assert!(is_gone(spare));
}

#[test]
fn a_worker_whose_start_its_guest_sees_is_not_started_ahead() {
    let pool = tasks()
        .instances(Instances::PerWorker)
        .initializer("start_counting_at", int(0))
        .max_workers(1)
        .build()
        .unwrap();
    for _ in 0..3 {
        pool.run::<Vec<u8>>("count", int(0)).unwrap();
        let pid = pool.workers()[0].pid;
        kill(pid);
        eventually("its end", || pool.workers().iter().all(|worker| worker.pid != pid));
    }
    pool.run::<Vec<u8>>("count", int(0)).unwrap();
    assert_eq!(processes_named(pool.name()).len(), 1);
}

//! Pools made and ended besides the one that is watched, each in another way.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use stockade::{Bytes, Instances, TaskHandle};
use stockade_tests::{RELIABILITY, Random, wat};

use crate::load::{input, is_right};

/// Makes pools, one after the other, for about `time`; returns how many.
pub(crate) fn make_and_drop(seed: u64, time: Duration) -> Result<u64> {
    let started = Instant::now();
    let mut random = Random::of_part(seed, 7);
    let mut pools = 0;
    while started.elapsed() < time {
        one(&mut random)?;
        pools += 1;
        std::thread::sleep(random.millis(100, 1000));
    }
    Ok(pools)
}

fn one(random: &mut Random) -> Result<()> {
    let base = random.number() | 1;
    let instances = random.one_of(&[Instances::PerTask, Instances::PerWorker]);
    let pool = wat(RELIABILITY)
        .name("beside")
        .max_workers(2)
        .instances(instances)
        .initializer("begin", Bytes(base.to_le_bytes().to_vec()))
        .finalizer("end", Bytes(vec![0; 8]))
        .build()?;
    let numbers = 0..random.between(0, 20);
    let handles = numbers.map(|number| Ok((number, pool.submit("nap", input(number, 1_000_000))?)));
    let handles = handles.collect::<Result<Vec<(u64, TaskHandle<Bytes>)>>>()?;
    let way = random.below(4);
    if way == 0 {
        for (number, handle) in &handles {
            ensure!(is_right(*number, base, &handle.result()), "task {number} beside");
        }
    }
    match way {
        0 => drop(pool),
        1 => ensure!(pool.drain(), "a pool beside did not drain"),
        2 => ensure!(pool.shutdown(), "a pool beside did not shut down"),
        _ => ensure!(pool.kill(), "a pool beside was not killed"),
    }
    for (number, handle) in &handles {
        ensure!(handle.is_done(), "task {number} outlives its pool");
        if way == 1 {
            ensure!(is_right(*number, base, &handle.result()), "task {number} beside");
        }
    }
    Ok(())
}

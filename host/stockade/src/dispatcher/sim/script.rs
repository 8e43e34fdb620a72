//! What a seed decides beforehand: the pool's configuration, and what its users do and when.

use std::collections::BTreeMap;
use std::time::Duration;

use stockade_wire::TaskId;

use super::super::{ChunkId, Config, Event, Moment, ShutdownMode, Submission};
use super::coverage::Coverage;
use super::process::{Agenda, Happening, World};
use super::rng::Rng;

const TASKS_MAX: u64 = 20;

pub(super) struct Script {
    pub(super) config: Config,
    /// With everything that users will do on its agenda.
    pub(super) world: World,
    /// Steps before faults stop.
    pub(super) faulty_steps: u64,
}

impl Script {
    pub(super) fn new(seed: u64, coverage: Coverage) -> Self {
        let mut rng = Rng::new(seed);
        let config = config(&mut rng);
        let fault_percent = if rng.chance(25) { 0 } else { rng.between(1, 40) };
        let faulty_steps = rng.between(20, 200);
        let mut world = World {
            rng,
            now: Moment::ZERO,
            agenda: Agenda::default(),
            fault_percent,
            tasks: 0,
            cancelled_from: BTreeMap::new(),
            coverage,
        };
        // A pool with little to do gets into corners that a busy one never sees.
        let tasks_max = if world.rng.chance(20) { 2 } else { TASKS_MAX };
        let tasks = world.rng.between(1, tasks_max);
        while world.tasks < tasks {
            plan_group(&mut world);
        }
        plan_pool_calls(&mut world);
        Self { config, world, faulty_steps }
    }
}

fn config(rng: &mut Rng) -> Config {
    let backoff_min = rng.millis(1, 8);
    Config {
        workers_max: rng.between(1, 4) as usize,
        tasks_per_worker_max: rng.chance(40).then(|| rng.between(1, 5)),
        idle_timeout: idle_timeout(rng),
        start_timeout: Duration::from_millis(30),
        close_timeout: Duration::from_millis(15),
        recall_timeout: Duration::from_millis(4),
        window_tasks_max: rng.between(1, 6) as usize,
        window_bytes_max: rng.between(30, 120) as usize,
        needs_preparation: rng.chance(30),
        start_failures_max: rng.between(1, 5) as u32,
        backoff_min,
        backoff_max: backoff_min * rng.between(1, 8) as u32,
        requeues_max: rng.below(3) as u32,
    }
}

fn idle_timeout(rng: &mut Rng) -> Option<Duration> {
    match rng.below(3) {
        0 => None,
        1 => Some(Duration::ZERO),
        _ => Some(rng.millis(1, 40)),
    }
}

/// Plans a few tasks that are submitted together, perhaps as a chunk, and perhaps cancelled.
fn plan_group(world: &mut World) {
    let at = world.rng.millis(0, 100);
    let chunk = world.rng.chance(60).then_some(ChunkId(world.tasks));
    let wall_time = world.rng.chance(60).then(|| world.rng.millis(4, 30));
    let retries = if world.rng.chance(30) { world.rng.between(1, 3) as u32 } else { 0 };
    let most = if world.rng.chance(30) { 1 } else { 7 };
    for _ in 0..world.rng.between(1, most) {
        world.tasks += 1;
        let task = TaskId(world.tasks);
        let inline_bytes = world.rng.below(50) as usize;
        let submission = Submission { task, chunk, inline_bytes, wall_time, retries };
        world.at(at, Happening::Tell(Event::Submit(submission)));
        if world.rng.chance(20) {
            let at = at + world.rng.millis(0, 40);
            world.cancelled_from.insert(task, at);
            let told = at + world.rng.millis(0, 2);
            world.at(told, Happening::Tell(Event::Cancel(task)));
        }
        if world.rng.chance(12) {
            let at = at + world.rng.millis(0, 40);
            world.at(at, Happening::Tell(Event::CancelRunning(task)));
        }
    }
}

fn plan_pool_calls(world: &mut World) {
    for _ in 0..world.rng.below(5) {
        let at = world.rng.millis(0, 150);
        let call = match world.rng.below(8) {
            0 | 1 => Event::SpawnWorkers(world.rng.below(6) as usize),
            2 => Event::SetIdleTimeout(idle_timeout(&mut world.rng)),
            3 | 7 => Event::Join,
            4 => Event::JoinGivenUp,
            5 => Event::Cancel(world.any_task()),
            _ => Event::CancelRunning(world.any_task()),
        };
        world.at(at, Happening::Tell(call));
    }
    if world.rng.chance(40) {
        for _ in 0..world.rng.between(1, 3) {
            let at = world.rng.millis(10, 200);
            let modes = [ShutdownMode::Drain, ShutdownMode::Cancel, ShutdownMode::Kill];
            let mode = modes[world.rng.below(3) as usize];
            world.at(at, Happening::Tell(Event::Shutdown(mode)));
        }
    }
}

//! What a seed decides beforehand: the pool's configuration, and what its users do and when.

use std::collections::BTreeSet;
use std::time::Duration;

use stockade_wire::{ModuleId, TaskId, TaskRange};

use super::super::{Config, EntryKey, Event, Moment, RequestId, ShutdownMode, Submission};
use super::coverage::Coverage;
use super::rng::Rng;
use super::world::{Agenda, Happening, World};

const TASKS_MAX: u64 = 36;
/// What a task has in line at most.
const TASK_BYTES_MAX: u64 = 49;
const BATCH_TASKS_MAX: u64 = 12;

pub(super) struct Script {
    pub(super) config: Config,
    /// With everything that users will do on its agenda.
    pub(super) world: World,
    /// How many tasks may be submitted and not started.
    pub(super) permits: usize,
    /// Steps before faults stop.
    pub(super) faulty_steps: u64,
    /// Whether everything has to settle before somebody shuts the pool down.
    pub(super) settles_open: bool,
}

impl Script {
    pub(super) fn new(seed: u64, coverage: Coverage) -> Self {
        let mut rng = Rng::new(seed);
        let config = config(&mut rng);
        let fault_percent = if rng.chance(25) { 0 } else { rng.between(1, 40) };
        let faulty_steps = rng.between(20, 200);
        let permits = if rng.chance(50) { TASKS_MAX } else { rng.between(1, 6) } as usize;
        let settles_open = rng.chance(50);
        let crash_percents = crash_percents(&mut rng, fault_percent);
        let task_millis_max = [0, 1, 3, 12, 12][rng.below(5) as usize];
        let slow_percent = [0, 0, 5, 20][rng.below(4) as usize];
        let mut world = World {
            rng,
            task_millis_max,
            slow_percent,
            now: Moment::ZERO,
            agenda: Agenda::default(),
            fault_percent,
            crash_percents,
            tasks: 0,
            revoked: BTreeSet::new(),
            coverage,
        };
        // A pool with little to do gets into corners that a busy one never sees.
        let tasks_max = if world.rng.chance(20) { 2 } else { TASKS_MAX };
        let tasks = world.rng.between(1, tasks_max);
        while world.tasks < tasks {
            plan_group(&mut world);
        }
        plan_pool_calls(&mut world);
        Self { config, world, permits, faulty_steps, settles_open }
    }
}

fn config(rng: &mut Rng) -> Config {
    let backoff_min = rng.millis(1, 8);
    Config {
        workers_max: rng.between(1, 4) as usize,
        tasks_per_worker_max: rng.chance(40).then(|| rng.between(1, 12)),
        idle_timeout: idle_timeout(rng),
        start_timeout: Duration::from_millis(30),
        close_timeout: Duration::from_millis(15),
        recall_timeout: rng.millis(2, 10),
        window_time: rng.millis(1, 60),
        window_tasks_max: rng.between(1, 14) as usize,
        window_batches_max: rng.between(1, 6) as usize,
        window_bytes_max: if rng.chance(50) { 10_000 } else { rng.between(30, 250) as usize },
        patience: rng.millis(1, 20),
        needs_preparation: rng.chance(30),
        start_failures_max: rng.between(1, 5) as u32,
        start_patience: rng.chance(70).then(|| rng.millis(0, 60)),
        backoff_min,
        backoff_max: backoff_min * rng.between(1, 8) as u32,
        requeues_max: rng.below(3) as u32,
        losses_in_a_row_max: rng.chance(60).then(|| rng.between(1, 3) as u32),
    }
}

/// One to three modules, of which some end their workers often.
fn crash_percents(rng: &mut Rng, fault_percent: u64) -> Vec<u64> {
    let modules = rng.between(1, 3);
    let mut crash_percent = || if rng.chance(60) { 0 } else { rng.between(20, 90) };
    (0..modules).map(|_| if fault_percent == 0 { 0 } else { crash_percent() }).collect()
}

fn idle_timeout(rng: &mut Rng) -> Option<Duration> {
    match rng.below(3) {
        0 => None,
        1 => Some(Duration::ZERO),
        _ => Some(rng.millis(1, 40)),
    }
}

/// Plans a few batches that are submitted together, and perhaps cancelled.
fn plan_group(world: &mut World) {
    let at = world.rng.millis(0, 100);
    let group_first = world.tasks + 1;
    let (batches, tasks_max) = match world.rng.below(5) {
        0 => (1, 1),
        1 => (world.rng.between(1, 7), 1),
        2 => (world.rng.between(1, 4), 3),
        _ => (1, BATCH_TASKS_MAX),
    };
    let (mut module, mut priority) = (any_module(world), any_priority(world));
    for _ in 0..batches {
        if world.rng.chance(15) {
            (module, priority) = (any_module(world), any_priority(world));
        }
        let first = TaskId(world.tasks + 1);
        let count = world.rng.between(1, tasks_max) as u32;
        let tasks = TaskRange::new(first, count).unwrap();
        let submission = Submission {
            tasks,
            entry: EntryKey(1_000 + first.0 as u32),
            module,
            priority,
            task_bytes: world.rng.between(1, TASK_BYTES_MAX) as usize,
            wall_time: world.rng.chance(60).then(|| world.rng.millis(2, 30)),
            retries: if world.rng.chance(30) { world.rng.between(1, 3) as u32 } else { 0 },
        };
        world.tasks = tasks.last().0;
        world.at(at, Happening::Ask(submission));
        for task in tasks.iter() {
            if world.rng.chance(20 / u64::from(count.min(4))) {
                let at = at + world.rng.millis(0, 40);
                world.at(at, Happening::Cancel(task.into()));
            }
            if world.rng.chance(15 / u64::from(count.min(4))) {
                let at = at + world.rng.millis(0, 40);
                world.at(at, Happening::CancelEvenRunning(task));
            }
        }
        plan_part_cancel(world, at, tasks);
    }
    if world.rng.chance(10) {
        // As a map does with everything that has not started.
        let group = TaskRange::between(TaskId(group_first), TaskId(world.tasks)).unwrap();
        let at = at + world.rng.millis(0, 40);
        world.at(at, Happening::Cancel(group));
    }
}

/// Perhaps some tasks of a batch are cancelled together.
fn plan_part_cancel(world: &mut World, at: Moment, tasks: TaskRange) {
    if tasks.count() > 1 && world.rng.chance(20) {
        let first = world.rng.below(u64::from(tasks.count())) as u32;
        let (_, rest) = tasks.split_at(first);
        let rest = rest.unwrap();
        let count = world.rng.between(1, u64::from(rest.count())) as u32;
        let (part, _) = rest.split_at(count);
        let at = at + world.rng.millis(0, 40);
        world.at(at, Happening::Cancel(part.unwrap()));
    }
}

fn any_module(world: &mut World) -> ModuleId {
    ModuleId(world.rng.below(world.crash_percents.len() as u64) as u32)
}

fn any_priority(world: &mut World) -> i32 {
    [0, 0, 0, -1, 1, i32::MIN, i32::MAX][world.rng.below(7) as usize]
}

fn plan_pool_calls(world: &mut World) {
    let mut at = Duration::ZERO;
    for number in 0..world.rng.below(7) {
        // Several at a time, too.
        if world.rng.chance(80) {
            at = world.rng.millis(0, 150);
        }
        let call = match world.rng.below(9) {
            0..3 => {
                let count = world.rng.chance(60).then(|| world.rng.below(6) as usize);
                Happening::Tell(Event::SpawnWorkers { request: RequestId(number), count })
            }
            3 => Happening::Tell(Event::SetIdleTimeout(idle_timeout(&mut world.rng))),
            4 | 5 => Happening::Tell(Event::Join),
            6 => Happening::Tell(Event::JoinGivenUp),
            7 => Happening::CancelEvenRunning(world.any_task()),
            _ => Happening::Cancel(world.any_tasks(40)),
        };
        world.at(at, call);
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

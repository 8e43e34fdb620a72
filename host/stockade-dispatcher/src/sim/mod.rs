//! The simulator: a pool's whole life on a virtual clock, decided by one seed.
//!
//! ```text
//!  Script ───┐                  ┌──────────► Oracle: was that allowed? is anything forgotten?
//!  Callers ──┼─ Event ► Dispatcher ─ Action ─┼► Callers: get their permits back, and submit more
//!  Process ──┘                               └► Process: works, crashes, hangs, lies
//! ```
//!
//! First safety under faults: after every step the oracle, which follows the dispatcher with naive
//! means of its own, finds nothing wrong. Then liveness without them: faults stop, every task ends,
//! often before the pool is shut down, and everything settles within [`SETTLE_STEPS_MAX`] steps.
//!
//! `STOCKADE_SEEDS=n` sets how many seeds are run; `STOCKADE_SEED=n` runs one and shows its course.

mod callers;
mod coverage;
mod oracle;
mod process;
mod rng;
mod script;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use stockade_wire::{TaskRange, WorkerId};

use super::{Action, Dispatcher, Event, ShutdownMode};
use callers::Callers;
use coverage::Coverage;
use oracle::Oracle;
use process::{Process, Revocation};
use script::Script;
use world::{Happening, World};

const SEEDS_DEFAULT: u64 = 10_000;
/// Fewer seeds than this need not have seen everything.
const SEEDS_FOR_COVERAGE: u64 = 10_000;
const SETTLE_STEPS_MAX: usize = 2_000;

struct Simulation {
    world: World,
    dispatcher: Dispatcher,
    oracle: Oracle,
    processes: BTreeMap<WorkerId, Process>,
    callers: Callers,
    faulty_steps: u64,
    settles_open: bool,
    /// What happened so far, if somebody wants to read it.
    course: Option<Vec<String>>,
}

impl Simulation {
    fn new(seed: u64, with_course: bool) -> Self {
        let blind = seed >= SEEDS_FOR_COVERAGE;
        let coverage = if blind { Coverage::Blind } else { Coverage::Seen(BTreeSet::new()) };
        let Script { config, world, permits, faulty_steps, settles_open } =
            Script::new(seed, coverage);
        Self {
            oracle: Oracle::new(config.clone()),
            course: with_course.then(|| vec![format!("{config:?}")]),
            dispatcher: Dispatcher::new(config),
            world,
            processes: BTreeMap::new(),
            callers: Callers::new(permits),
            faulty_steps,
            settles_open,
        }
    }

    /// Runs the whole life.
    fn run(&mut self) {
        for _ in 0..self.faulty_steps {
            self.step();
        }
        self.world.end_faults();
        if self.settles_open {
            self.settle();
            self.oracle.check_quiet();
        }
        if !self.oracle.is_shut_down() {
            let modes = [ShutdownMode::Drain, ShutdownMode::Cancel, ShutdownMode::Kill];
            let mode = modes[self.world.rng.below(3) as usize];
            self.tell(Event::Shutdown(mode));
        }
        self.settle();
        self.oracle.check_settled(self.processes.values());
    }

    /// Lets happen everything that is ever going to.
    fn settle(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < SETTLE_STEPS_MAX, "does not settle");
        }
        self.callers.check_settled();
    }

    /// Lets happen what is due next; false if nothing is.
    fn step(&mut self) -> bool {
        let next_event = self.world.agenda.next();
        let next_timeout = self.dispatcher.poll_timeout();
        let timeout_first = match (next_event, next_timeout) {
            (None, None) => return false,
            (Some(event), Some(timeout)) if event == timeout => self.world.rng.chance(50),
            (Some(event), Some(timeout)) => timeout < event,
            (event, _) => event.is_none(),
        };
        let next = if timeout_first { next_timeout } else { next_event };
        self.world.now = self.world.now.max(next.unwrap_or_default());
        if timeout_first {
            self.time_out();
            return true;
        }
        let mut events = 0;
        while self.world.agenda.next() == next
            && let Some(happening) = self.world.agenda.pop()
        {
            events += usize::from(matches!(happening, Happening::Tell(_)));
            self.happen(happening);
            // A driver may tell everything that has happened, and ask once what follows.
            if self.world.rng.chance(60) {
                break;
            }
        }
        if events > 1 {
            self.world.coverage.see("situation: several events were told at once");
        }
        if events > 0 {
            self.perform();
        }
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tell(event) => self.tell_in_order(event),
            Happening::Ask(submission) => self.callers.ask(submission, &mut self.world),
            Happening::Cancel(tasks) => {
                self.callers.cancel(tasks, &mut self.processes, &mut self.world);
            }
            Happening::CancelEvenRunning(task) => {
                self.callers.cancel_even_running(task, &mut self.processes, &mut self.world);
            }
            Happening::Ring(id) => {
                if let Some(process) = self.processes.get_mut(&id) {
                    process.ring(&mut self.world);
                }
            }
            Happening::Wake(id, epoch) => {
                if let Some(process) = self.processes.get_mut(&id) {
                    process.wake(epoch, &mut self.world);
                }
            }
            Happening::KillLands(id) => {
                if let Some(process) = self.processes.get_mut(&id) {
                    process.kill(&mut self.world);
                }
            }
        }
    }

    /// Tells what happened, as the driver does: a hand-back never overtakes its cancel, and what a
    /// dead worker held is known to wait again.
    fn tell_in_order(&mut self, event: Event) {
        match event {
            Event::HandedBack { task, .. } => {
                if let Some(cancelled) = self.callers.overtaken_by(task) {
                    self.world.coverage.see("situation: a hand-back overtook its cancel");
                    self.hear(Event::Cancel(cancelled));
                }
                self.hear(event);
            }
            Event::Exited { worker, .. } => {
                self.hear(event);
                if self.processes.get(&worker).is_some_and(|process| !process.lied) {
                    self.oracle.check_exit();
                }
                self.callers.bury(worker, self.processes.get(&worker));
            }
            event => self.hear(event),
        }
    }

    fn tell(&mut self, event: Event) {
        self.hear(event);
        self.perform();
    }

    /// Passes an event on, while actions may still wait to be performed.
    fn hear(&mut self, event: Event) {
        let now = self.world.now;
        self.note(|| format!("{event:?}"));
        self.world.coverage.event(&event);
        self.callers.hear(&event, &self.processes, &mut self.world);
        self.oracle.may_unretire = self.dispatcher.workers_missing();
        self.oracle.event(now, &event, &mut self.world.coverage);
        self.dispatcher.handle_event(now, event);
        // What it has decided at once is judged before the next event; what it does with the rest,
        // once it is asked.
        while let Some(action) = self.dispatcher.actions.pop_front() {
            self.act(action);
        }
    }

    fn time_out(&mut self) {
        let now = self.world.now;
        self.note(|| "timeout".to_owned());
        self.oracle.timeout(now);
        self.dispatcher.handle_timeout(now);
        self.perform();
        let next = self.dispatcher.poll_timeout();
        assert!(next.is_none_or(|next| next > now), "a timeout is still due");
    }

    fn perform(&mut self) {
        while let Some(action) = self.dispatcher.poll_action() {
            self.act(action);
        }
        self.oracle.check_step(self.world.now, &self.dispatcher);
        self.callers.check(self.oracle.unstarted());
        self.dispatcher.check_invariants();
    }

    fn act(&mut self, action: Action) {
        self.note(|| format!("    {action:?}"));
        self.world.coverage.action(&action);
        self.oracle.action(self.world.now, &action, &mut self.world.coverage);
        self.callers.act(&action, &mut self.world);
        let Self { world, processes, .. } = self;
        let now = world.now;
        match action {
            Action::Prepare => {
                let answer = if world.fault() { Event::PreparationFailed } else { Event::Prepared };
                let at = now + world.rng.millis(0, 60);
                world.at(at, Happening::Tell(answer));
            }
            Action::Spawn(id) => {
                processes.insert(id, Process::spawn(id, world));
            }
            Action::Run(id, _, tasks) => self.send(id, tasks),
            Action::Recall(worker, _, first) => {
                match processes.get_mut(&worker).unwrap().revoke_rest(first) {
                    Revocation::Done(task) => {
                        if task != first {
                            world.coverage.see("situation: a recall came too late for some");
                        }
                        self.hear(Event::TakenBack { worker, task });
                    }
                    // A caller has done so, and the dispatcher will hear of that too.
                    Revocation::DoneBefore(task) if world.rng.chance(50) => {
                        self.hear(Event::TakenBack { worker, task });
                    }
                    Revocation::DoneBefore(_) => {
                        world.coverage.see("situation: a caller took back what the pool wanted");
                    }
                    Revocation::TooLate => {
                        world.coverage.see("situation: a recall came too late");
                    }
                }
            }
            Action::Stop(worker, task) => {
                let process = processes.get_mut(&worker).unwrap();
                let behind = self.oracle.behind(worker, task);
                if behind.is_some_and(|behind| process.has_started(&behind, world)) {
                    world.coverage.see("situation: a stop came too late");
                    self.oracle.stop_is_late(now, worker);
                } else {
                    self.hear(Event::Stoppable { worker, task });
                }
            }
            Action::Close(id) => processes.get_mut(&id).unwrap().close(world),
            Action::Kill(id) => {
                let at = now + world.rng.millis(0, 2);
                world.at(at, Happening::KillLands(id));
            }
            Action::Start(..)
            | Action::Resolve(..)
            | Action::Broken(_)
            | Action::Quarantine(_)
            | Action::Spawned(..)
            | Action::Joined
            | Action::Terminated => {}
        }
    }

    /// Sends a batch but for those tasks whose callers have taken them back: in parts, or whole with its
    /// rest revoked.
    fn send(&mut self, id: WorkerId, tasks: TaskRange) {
        let Self { world, callers, oracle, processes, .. } = self;
        let process = processes.get_mut(&id).unwrap();
        let is_withheld: Vec<_> = tasks.iter().map(|task| world.revoked.contains(&task)).collect();
        let parts = is_withheld.chunk_by(|first, second| first == second);
        let mut withheld = Vec::new();
        let first = is_withheld.iter().position(|withheld| *withheld);
        // The oracle does not know of what is decided already, and so not whether a worker has retired.
        if let Some(limit) = first
            && !oracle.retires_workers()
            && world.rng.chance(25)
        {
            world.coverage.see("situation: a batch was sent with its rest revoked");
            tasks.iter().for_each(|task| callers.send(id, task, world));
            process.run(tasks.iter().map(|task| oracle.job(task)).collect(), limit, world);
            let (_, rest) = tasks.split_at(limit as u32);
            let taken = is_withheld[limit..].iter().take_while(|withheld| **withheld).count();
            let (taken, _) = rest.unwrap().split_at(taken as u32);
            let taken = taken.unwrap();
            oracle.sent_revoked(taken);
            return self.hear(Event::Cancel(taken));
        }
        let mut left = Some(tasks);
        for part in parts {
            let (tasks, rest) = left.unwrap().split_at(part.len() as u32);
            let tasks = tasks.unwrap();
            left = rest;
            if part[0] {
                withheld.push(tasks);
            } else {
                tasks.iter().for_each(|task| callers.send(id, task, world));
                let jobs: Vec<_> = tasks.iter().map(|task| oracle.job(task)).collect();
                process.run(jobs, tasks.count() as usize, world);
            }
        }
        for tasks in withheld {
            self.hear(Event::Withheld { worker: id, tasks });
        }
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(course) = &mut self.course {
            course.push(format!("{:>4} ms  {}", self.world.now.as_millis(), what()));
        }
    }
}

/// Runs one seed; what is wrong, if anything is.
fn simulate(seed: u64, with_course: bool) -> Result<Coverage, String> {
    let mut simulation = Simulation::new(seed, with_course);
    if let Err(cause) = catch_unwind(AssertUnwindSafe(|| simulation.run())) {
        let cause = cause
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| cause.downcast_ref::<&str>().copied())
            .unwrap_or("panicked");
        let course = simulation.course.map(|course| course.join("\n")).unwrap_or_default();
        return Err(format!("{course}\n{cause}\nreplay with STOCKADE_SEED={seed}"));
    }
    Ok(simulation.world.coverage)
}

fn number_from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number of seeds, or one seed"))
}

/// Runs seeds from a counter shared with other threads until there are no more, or one fails.
fn simulate_many(next: &AtomicU64, seeds: u64) -> Result<Coverage, (u64, String)> {
    let mut coverage = Coverage::Seen(BTreeSet::new());
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds {
            return Ok(coverage);
        }
        match simulate(seed, false) {
            Ok(seen) => coverage.merge(seen),
            Err(cause) => {
                next.store(seeds, Ordering::Relaxed);
                return Err((seed, cause));
            }
        }
    }
}

#[test]
fn no_seed_finds_a_fault() {
    if let Some(seed) = number_from_environment("STOCKADE_SEED") {
        return drop(simulate(seed, true).unwrap_or_else(|cause| panic!("{cause}")));
    }
    let seeds = number_from_environment("STOCKADE_SEEDS").unwrap_or(SEEDS_DEFAULT);
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let outcomes: Vec<_> = thread::scope(|scope| {
        let spawn = |_| scope.spawn(|| simulate_many(&next, seeds));
        let threads: Vec<_> = (0..threads).map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut coverage = Coverage::Seen(BTreeSet::new());
    let mut failures = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(seen) => coverage.merge(seen),
            Err(failure) => failures.push(failure),
        }
    }
    if let Some((_, cause)) = failures.into_iter().min() {
        panic!("{cause}");
    }
    if seeds >= SEEDS_FOR_COVERAGE {
        coverage.check();
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..20 {
        let [first, second] = [(); 2].map(|()| {
            let mut simulation = Simulation::new(seed, true);
            simulation.run();
            simulation.course
        });
        assert_eq!(first, second);
    }
}

//! Chaos: very many short tasks in one pool, while its workers are killed, stopped, starved and
//! turned into liars.
//!
//! ```text
//! calm ──► storm ───────────────────────────────────────────► calm ──► the end
//!          Load: submits, settles ──► Ledger ◄── harms        every task must give its result
//!          Weather: signals, limits ──► workers ◄── chaos-worker's own mischief
//! ```
//!
//! `chaos [TASKS] [SEED] [SECONDS]`, each of which may be empty. Prints what happened and exits with 1 if anything did that
//! must not: a task without an end, with a result that is not its own, or with an error that nothing
//! explains; a pool that does not work afterwards; processes, threads, descriptors or memory left.
//!
//! The seed decides the orders, the disturbances and how many tasks end between them: a machine that is
//! busy with something else takes longer, and does the same. Which task meets which
//! disturbance is decided by the machine as well, so a seed makes a run alike, not the same.

mod ledger;
mod load;
mod orders;
mod table;
mod weather;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use stockade::{Bytes, Layer, Limits, Lockdown, Pool, WorkerId, WorkerProgram};
use stockade_tests::{
    Census, Mischief, PATIENCE, RELIABILITY, Storm, pool_name, processes_named,
    resident_peak_bytes, seed_of_now, threads_named, wat,
};

use ledger::Ledger;
use load::Load;
use orders::{Kind, Order};
use table::{Figures, Watch};
use weather::{Disturbance, Weather};

/// Threads that submit.
const SUBMITTERS: u64 = 4;

/// Tasks before the storm, so that everything that is made once is there, and after it.
const CALM_TASKS: u64 = 10_000;

/// How much more memory the host may have at the end than while the storm was young: what the
/// allocator keeps for itself in its arenas, and the ends kept for a second look, but not a
/// kilobyte for each of thousands of workers and none for each task.
const GROWTH_BYTES_MAX: u64 = 32 << 20;

/// After so many disturbances every kind must be among them: the rarest is one in fifty.
const ENOUGH_DISTURBANCES: usize = 1000;

fn main() -> Result<ExitCode> {
    let run = Run::from_arguments()?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "chaos: {} tasks, seed {}. The seed decides what is done and about when; which task it \
         meets, the machine decides as well.",
        run.tasks, run.seed
    )?;
    // Not kept locked: a run without hope ends from within.
    drop(out);
    let (figures, violations) = run.play()?;
    let mut out = std::io::stdout().lock();
    table::print(&mut out, &figures)?;
    if violations.is_empty() {
        writeln!(out, "\nNothing happened that must not. Seed {}", run.seed)?;
        return Ok(ExitCode::SUCCESS);
    }
    table::list(&mut out, &violations)?;
    writeln!(out, "Seed {}", run.seed)?;
    Ok(ExitCode::FAILURE)
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
struct Run {
    tasks: u64,
    seed: u32,
    time_max: Option<Duration>,
}

impl Run {
    fn from_arguments() -> Result<Self> {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let number = |index: usize, what: &str| {
            let text = arguments.get(index).filter(|text| !text.is_empty());
            text.map(|text| text.parse::<u64>().with_context(|| format!("{what} is a number")))
                .transpose()
        };
        let seed = number(1, "SEED")?.map(u32::try_from).transpose().context("SEED has 32 bits")?;
        Ok(Self {
            tasks: number(0, "TASKS")?.unwrap_or(1_000_000),
            seed: seed.unwrap_or_else(seed_of_now),
            time_max: number(2, "SECONDS")?.map(Duration::from_secs),
        })
    }

    fn play(self) -> Result<(Figures, Vec<String>)> {
        let before = Census::take();
        let storm = Storm::create(&pool_name(self.seed))?;
        let pool = self.pool()?;
        let ledger = Ledger::default();
        let mut figures = Figures::default();

        calm(&pool, &ledger);
        self.end_without_hope(&ledger);
        let calm_before = Census::take();

        storm.set_rages(true)?;
        let watch = Watch::new(self.tasks);
        let outside = self.rage(&pool, &ledger, watch, &mut figures);
        storm.set_rages(false)?;
        leave_nothing(&pool, &ledger, "after the storm");
        self.end_without_hope(&ledger);

        calm(&pool, &ledger);
        self.end_without_hope(&ledger);
        let calm_after = Census::take();
        let inside = storm.noted()?;
        self.explain(&ledger, &outside, &inside, &mut figures);
        compare(&ledger, calm_before, calm_after, "in the calm after the storm");

        end(&pool, &ledger);
        drop(pool);
        storm.remove()?;
        let after = Census::take();
        compare(&ledger, before, after, "after the pool");
        ledger.demand(after.children == 0, || format!("{} processes are left", after.children));

        figures.resident_final_bytes = calm_after.resident_bytes;
        // The system's own high-water mark lags a little behind.
        figures.resident_peak_bytes = resident_peak_bytes().max(calm_after.resident_bytes);
        let grown = calm_after.resident_bytes.saturating_sub(figures.resident_warm_bytes);
        ledger.demand(grown <= GROWTH_BYTES_MAX, || format!("memory grew by {grown} bytes"));
        figures.before = before;
        figures.after = after;
        Ok((figures, ledger.violations()))
    }

    fn pool(self) -> Result<Pool> {
        let limits = Limits::default().wall_time(Duration::from_millis(1500));
        // The limits of a process of another user are not this one's to lower. A system call that is
        // refused is a violation here, so it is named.
        let lockdown = Lockdown::default().without(Layer::Privileges).explain_violations(true);
        let pool = wat(RELIABILITY)
            .name(pool_name(self.seed))
            .max_workers(4)
            .limits(limits)
            .shutdown_grace_period(Duration::from_secs(5))
            .lockdown(lockdown)
            .worker_program(WorkerProgram::Path(beside_this_program("chaos-worker")?));
        Ok(pool.build()?)
    }

    /// Everything at once. Says what was done to the workers from outside.
    fn rage(
        self,
        pool: &Pool,
        ledger: &Ledger,
        mut watch: Watch,
        figures: &mut Figures,
    ) -> Vec<(WorkerId, Disturbance)> {
        let started = Instant::now();
        let load = Load {
            pool,
            ledger,
            seed: self.seed,
            tasks: self.tasks,
            until: self.time_max.and_then(|time| started.checked_add(time)),
            next: AtomicU64::new(0),
        };
        let (over, disturbances) = (AtomicBool::new(false), AtomicU64::new(0));
        let weather = Weather::new(pool, self.seed);
        let outside = std::thread::scope(|scope| {
            let weather = scope.spawn(|| weather.rage(&over, || ledger.settled(), &disturbances));
            let load = &load;
            let submitters: Vec<_> =
                (0..SUBMITTERS).map(|number| scope.spawn(move || load.submit(number))).collect();
            while !submitters.iter().all(|submitter| submitter.is_finished()) {
                std::thread::sleep(Duration::from_millis(100));
                let settled = ledger.settled();
                let share = self.share_done(settled, started.elapsed());
                if share < 0.2 {
                    let resident = Census::take().resident_bytes;
                    figures.resident_warm_bytes = figures.resident_warm_bytes.max(resident);
                }
                watch.show(settled, disturbances.load(Ordering::Relaxed), ledger);
                self.end_without_hope(ledger);
            }
            over.store(true, Ordering::Relaxed);
            weather.join()
        });
        watch.finish();
        figures.time = started.elapsed();
        figures.tasks = ledger.settled();
        outside.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Ends the program where threads wait for what will not come: there is no other way out.
    fn end_without_hope(self, ledger: &Ledger) {
        if ledger.gave_up() {
            // Nobody may be reading.
            let _ = table::list(&mut std::io::stdout(), &ledger.violations());
            let _ = writeln!(std::io::stdout(), "The run was given up. Seed {}", self.seed);
            std::process::exit(1);
        }
    }

    /// How much of the storm is over, as far as tasks and time tell.
    fn share_done(self, settled: u64, time: Duration) -> f64 {
        let of_tasks = settled as f64 / self.tasks.max(1) as f64;
        let of_time = self.time_max.map_or(0.0, |max| time.as_secs_f64() / max.as_secs_f64());
        of_tasks.max(of_time)
    }

    fn explain(
        self,
        ledger: &Ledger,
        outside: &[(WorkerId, Disturbance)],
        inside: &[(WorkerId, Mischief)],
        figures: &mut Figures,
    ) {
        figures.late = ledger.close(&weather::harms(outside, inside));
        figures.ends = ledger::End::ALL.map(|end| (end.name(), ledger.ended_as(end))).to_vec();
        figures.words = ledger.words();
        figures.repeated = ledger.repeated();
        figures.workers = ledger.workers();
        for kind in Disturbance::ALL {
            let count = outside.iter().filter(|(_, done)| *done == kind).count();
            figures.outside.push((kind.name(), count as u64));
        }
        for kind in Mischief::ALL {
            let count = inside.iter().filter(|(_, done)| *done == kind).count();
            figures.inside.push((kind.name(), count as u64));
        }
        // A kind that stopped happening would make the run prove less than it says.
        let sides = [(&figures.outside, outside.len()), (&figures.inside, inside.len())];
        for (counts, all) in sides.into_iter().filter(|(_, all)| *all >= ENOUGH_DISTURBANCES) {
            for (name, _) in counts.iter().filter(|(_, count)| *count == 0) {
                ledger.violation(format!("of {all} disturbances not one was: {name}"));
            }
        }
        let quick = self.time_max.is_some() || self.tasks < 100_000;
        ledger.demand(quick || !inside.is_empty(), || "no worker made any mischief".into());
    }
}

/// Tasks that nothing disturbs: each must give its result.
fn calm(pool: &Pool, ledger: &Ledger) {
    // Numbers that no order of the storm has.
    let orders = (0..CALM_TASKS).map(|index| Order { number: (1 << 50) + index, kind: Kind::Mix });
    let mut map = pool.starmap::<Bytes, _, _>("mix", orders.clone().map(Order::input));
    map = map.chunk_size(16).timeout(2 * PATIENCE);
    let results: Vec<_> = map.collect();
    ledger.demand(results.len() as u64 == CALM_TASKS, || {
        format!("{} results of {CALM_TASKS} tasks in the calm", results.len())
    });
    for (order, result) in orders.zip(&results) {
        let right = matches!(result, Ok(bytes) if order.is_own_end(&Ok(bytes.clone())));
        ledger.demand(right, || format!("{order:?} in the calm ended as {result:?}"));
    }
    leave_nothing(pool, ledger, "in the calm");
}

/// Waits until the pool is empty, which it then must be.
fn leave_nothing(pool: &Pool, ledger: &Ledger, when: &str) {
    if let Err(error) = pool.join(Some(2 * PATIENCE)) {
        let pending = pool.count_pending_tasks();
        ledger.violation(format!("{when}: {error}; {pending} tasks are pending"));
        ledger.give_up();
    }
    let counts = [
        pool.count_pending_tasks(),
        pool.count_workers(),
        pool.count_busy_workers(),
        pool.count_free_workers(),
        pool.workers().len(),
    ];
    ledger.demand(counts == [0; 5], || {
        format!("{when} pending tasks, workers, busy, free and listed ones are {counts:?}")
    });
    let processes = processes_named(pool.name());
    ledger.demand(processes.is_empty(), || format!("{when} the processes {processes:?} are left"));
    // The one that waits for bells and the one that keeps processes stay.
    let threads = threads_named(pool.name());
    ledger.demand(threads == 2, || format!("{when} the pool has {threads} threads"));
}

fn compare(ledger: &Ledger, before: Census, after: Census, when: &str) {
    let holdings = |census: Census| (census.descriptors, census.threads, census.children);
    let same = holdings(before) == holdings(after);
    ledger.demand(same, || format!("{when} this process has {after:?}, and had {before:?}"));
}

/// Ends the pool as its owner would.
fn end(pool: &Pool, ledger: &Ledger) {
    let checked = pool.check();
    ledger.demand(checked.is_ok(), || format!("the pool says {checked:?}: {:?}", pool.broken()));
    let first = pool.shutdown();
    ledger.demand(first && pool.is_terminated(), || "the pool did not shut down".into());
    let threads = threads_named(pool.name());
    ledger.demand(threads == 0, || format!("{threads} threads of the pool are left"));
}

fn beside_this_program(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let path = this.with_file_name(name);
    anyhow::ensure!(path.exists(), "{} is not built", path.display());
    Ok(path)
}

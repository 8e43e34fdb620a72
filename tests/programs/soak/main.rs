//! Soak: a pool under rising and falling load for a long time, with nothing in its way.
//!
//! ```text
//! each wave:  Load rises from nothing to hundreds of tasks in flight, and falls again
//!             Guests: pools made and dropped next to it
//!             trough: nothing in flight ──► the pool shrinks to no worker ──► Census, compared
//! ```
//!
//! `soak [MINUTES] [SEED]`. Every task must give its result, and in every trough the process must
//! hold what it held in the first: no worker, no more descriptors and threads, and no more memory
//! beyond an allowance. Exits with 1 where that does not hold. Writes a sample every half second to
//! `target/soak/samples.jsonl`, and draws them in `target/soak/soak.svg`.

mod beside;
mod load;
mod plot;
mod sample;

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use stockade::{Bytes, Limits, Pool};
use stockade_tests::{
    Census, PATIENCE, RELIABILITY, Random, processes_named, resident_peak_bytes, seed_of_now,
    threads_named, wat,
};

use load::{Counts, Load};
use sample::{Sample, Sampler};

/// From one trough to the next, besides the time in which the pool shrinks.
const WAVE: Duration = Duration::from_secs(24);

/// How long a pool stays without workers, so that samples show it.
const REST: Duration = Duration::from_secs(3);

/// Tasks in flight on the crest.
const CREST_TASKS: f64 = 400.0;

/// Waves before memory counts: caches and the allocator's arenas fill.
const WARM_WAVES: usize = 2;

/// How much more memory a trough may have than those of the warm-up: what the allocator keeps in
/// its arenas varies with which thread freed what. A leak of a kilobyte a task would be many times
/// as much within minutes.
const GROWTH_BYTES_MAX: u64 = 16 << 20;

fn main() -> Result<ExitCode> {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|one| !one.is_empty()).collect();
    let minutes = arguments.first().map_or(Ok(10.0), |text| text.parse::<f64>());
    let minutes = minutes.context("MINUTES is a number")?;
    let seed = arguments.get(1).map_or(Ok(seed_of_now()), |text| text.parse::<u32>());
    let seed = seed.context("SEED is a number of 32 bits")?;

    let mut out = std::io::stdout().lock();
    writeln!(out, "soak: {minutes} minutes, seed {seed}")?;
    let soak = Soak::begin(seed)?;
    let (waves, samples, violations) = soak.run(Duration::from_secs_f64(minutes * 60.0));
    let files = sample::write(&samples)?;
    std::fs::write(&files.plot, plot::svg(&samples))?;
    report(&mut out, &waves)?;
    writeln!(out, "samples in {}, drawn in {}", files.samples.display(), files.plot.display())?;
    if violations.is_empty() {
        writeln!(out, "Nothing was lost, and nothing grew. Seed {seed}")?;
        return Ok(ExitCode::SUCCESS);
    }
    for violation in &violations {
        writeln!(out, "- {violation}")?;
    }
    writeln!(out, "{} violations. Seed {seed}", violations.len())?;
    Ok(ExitCode::FAILURE)
}

/// What was found in one trough.
#[derive(Clone, Copy, Debug)]
struct Wave {
    time: Duration,
    counts: Counts,
    /// The highest number of a worker.
    workers: u64,
    pools: u64,
    census: Census,
}

struct Soak {
    pool: Pool,
    random: Random,
    before: Census,
    started: Instant,
}

impl Soak {
    fn begin(seed: u32) -> Result<Self> {
        let before = Census::take();
        let pool = wat(RELIABILITY)
            .name(format!("soak{}", std::process::id()))
            .max_workers(4)
            .idle_timeout(Duration::from_millis(700))
            .max_tasks_per_worker(150)
            .limits(Limits::default().wall_time(PATIENCE))
            .initializer("begin", Bytes(load::BASE.to_le_bytes().to_vec()))
            .finalizer("end", Bytes(vec![0; 8]))
            .build()?;
        Ok(Self { pool, random: Random::new(seed.into()), before, started: Instant::now() })
    }

    fn run(mut self, time: Duration) -> (Vec<Wave>, Vec<Sample>, Vec<String>) {
        let load = Load::new(&self.pool);
        let sampler = Sampler::start(self.started);
        let mut waves: Vec<Wave> = Vec::new();
        let mut pools = 0;
        while self.started.elapsed() < time && !load.gave_up() {
            let seed = self.random.number();
            let beside = std::thread::scope(|scope| {
                let beside = scope.spawn(|| beside::make_and_drop(seed, WAVE / 2));
                load.wave(&sampler, seed, WAVE, CREST_TASKS);
                beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            match beside {
                Ok(made) => pools += made,
                Err(error) => load.violation(format!("a pool beside: {error:?}")),
            }
            let workers = load.workers.load(Ordering::Relaxed);
            let joins = waves.len() % 3 == 2;
            self.settle(&load, &sampler, joins);
            let census = Census::take();
            let wave = Wave {
                time: self.started.elapsed(),
                counts: load.counts(),
                workers,
                pools,
                census,
            };
            compare(&load, &waves, wave);
            tell(wave);
            waves.push(wave);
        }
        let samples = sampler.end();
        let mut violations = load.violations();
        drop(load);
        violations.extend(self.end());
        (waves, samples, violations)
    }

    /// A trough: the pool shrinks by itself, or where `joins` because it is joined.
    fn settle(&self, load: &Load<'_>, sampler: &Sampler, joins: bool) {
        let trough = Instant::now();
        if joins {
            let joined = self.pool.join(Some(2 * PATIENCE));
            load.demand(joined.is_ok(), || format!("in a trough: {joined:?}"));
        }
        while self.pool.count_workers() > 0 && trough.elapsed() < 2 * PATIENCE {
            sampler.note(0, self.pool.count_workers());
            std::thread::sleep(Duration::from_millis(20));
        }
        // The processes are waited for before they no longer count.
        let left = [
            self.pool.count_workers(),
            self.pool.count_pending_tasks(),
            processes_named(self.pool.name()).len(),
            // The driver stays.
            threads_named(self.pool.name()) - 2,
        ];
        load.demand(left == [0; 4], || {
            format!("in a trough there are workers, tasks, processes and threads: {left:?}")
        });
        sampler.note(0, 0);
        std::thread::sleep(REST);
    }

    fn end(self) -> Vec<String> {
        let mut violations = Vec::new();
        if let Err(error) = self.pool.check() {
            violations.push(format!("the pool says {error}: {:?}", self.pool.broken()));
        }
        let before = self.before;
        drop(self);
        let after = Census::take();
        let holdings = |census: Census| (census.descriptors, census.threads, census.children);
        if holdings(before) != holdings(after) {
            violations.push(format!("before there was {before:?}, and after {after:?}"));
        }
        violations
    }
}

/// Compares a trough with those before it.
fn compare(load: &Load<'_>, waves: &[Wave], wave: Wave) {
    let Some(first) = waves.first() else { return };
    let holdings = |wave: &Wave| {
        let Census { descriptors, threads, children, .. } = wave.census;
        (descriptors, threads, children)
    };
    load.demand(holdings(first) == holdings(&wave), || {
        format!("at {:?} this process has {:?}, and had {:?}", wave.time, wave.census, first.census)
    });
    if waves.len() >= WARM_WAVES {
        let warm = waves.iter().take(WARM_WAVES).map(|wave| wave.census.resident_bytes).max();
        let grown = wave.census.resident_bytes.saturating_sub(warm.unwrap_or_default());
        load.demand(grown <= GROWTH_BYTES_MAX, || format!("memory grew by {grown} bytes"));
    }
    load.demand(wave.workers > first.workers, || "no worker was replaced".into());
}

fn tell(wave: Wave) {
    let Wave { time, counts, workers, pools, census } = wave;
    // Nobody may be reading.
    let _ = writeln!(
        std::io::stderr(),
        "{:.0} s: {} tasks, {workers} workers, {pools} pools beside; in the trough {:.1} MiB, \
         {} descriptors, {} threads",
        time.as_secs_f64(),
        counts.all(),
        census.resident_bytes as f64 / f64::from(1 << 20),
        census.descriptors,
        census.threads
    );
}

fn report(out: &mut impl Write, waves: &[Wave]) -> Result<()> {
    let (Some(first), Some(last)) = (waves.first(), waves.last()) else { return Ok(()) };
    let mut row = |name: &str, value: String| writeln!(out, "{name:<44} {value:>12}");
    row("minutes", format!("{:.1}", last.time.as_secs_f64() / 60.0))?;
    row("waves", waves.len().to_string())?;
    row("workers used", last.workers.to_string())?;
    row("pools made and ended beside", last.pools.to_string())?;
    for (name, count) in last.counts.rows() {
        row(name, count.to_string())?;
    }
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    row("memory in the first trough", mib(first.census.resident_bytes))?;
    row("memory in the last trough", mib(last.census.resident_bytes))?;
    let worst = waves.iter().map(|wave| wave.census.resident_bytes).max().unwrap_or_default();
    row("memory in the worst trough", mib(worst))?;
    // The system's own high-water mark lags a little behind.
    row("memory at most", mib(resident_peak_bytes().max(worst)))?;
    for (name, of) in [
        ("descriptors", (|census| census.descriptors) as fn(Census) -> usize),
        ("threads", |census| census.threads),
        ("processes", |census| census.children),
    ] {
        let ends = format!("{}, {}", of(first.census), of(last.census));
        row(&format!("{name} in the first and the last trough"), ends)?;
    }
    Ok(())
}

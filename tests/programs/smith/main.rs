//! Smith: very many modules that wasm-smith makes, each compiled and called in a real pool.
//!
//! ```text
//! Forge: number ─► Made ─► admission here ─ refused ─► a pool of its own must refuse it alike
//!                                │
//!                                ├─ admitted ─► 64 to a pool ─► calls ─► Tally
//!                                └─ admitted ─► compare: reset instances and fresh ones
//! ```
//!
//! `smith [compare] [MODULES] [SEED] [FIRST]`, each of which may be empty; with `compare` no pool is
//! made, and modules are only compared, ten times as many in a second. Prints what became of the modules and
//! their calls, and exits with 1 if anything did that must not: a module that is refused here and not
//! there, an instance that is not as the engine makes it, a compiler or a worker that died, a task without an end, processes, threads, descriptors or
//! memory left. Findings are kept in `target/smith/SEED-NUMBER.wasm`.
//!
//! A seed and a number always make the same module and the same calls: `smith 1 SEED NUMBER` tries
//! one again.

mod compare;
mod make;
#[path = "../../fuzz/src/rules.rs"]
mod rules;
mod tally;
mod trial;

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use stockade_tests::{Census, seed_of_now};

use make::Forge;
use tally::Tally;

/// What a module may have of memory and of tables.
const MEMORY_BYTES: u64 = 16 << 20;
const TABLE_ELEMENTS: u64 = 10_000;

/// Modules of one pool. Each is compiled by a process of its own, but they share a worker.
const POOL_MODULES: u64 = 64;

/// How much more memory there may be at the end than after the first pools: what the allocator keeps
/// in its arenas, in which modules are compiled on each thread, and nothing for each of a million modules.
const GROWTH_BYTES_MAX: u64 = 160 << 20;

fn main() -> Result<ExitCode> {
    let mut arguments: Vec<_> = std::env::args().skip(1).collect();
    let only_compare = arguments.first().is_some_and(|first| first == "compare");
    if only_compare {
        arguments.remove(0);
    }
    let number = |index: usize, what: &str| {
        let text = arguments.get(index).filter(|text| !text.is_empty());
        text.map(|text| text.parse::<u64>().with_context(|| format!("{what} is a number")))
            .transpose()
    };
    let modules = number(0, "MODULES")?.unwrap_or(10_000);
    let seed = number(1, "SEED")?.map(u32::try_from).transpose().context("SEED has 32 bits")?;
    let seed = seed.unwrap_or_else(seed_of_now);
    let first = number(2, "FIRST")?.unwrap_or(0);

    let mut out = std::io::stdout().lock();
    writeln!(out, "smith: {modules} modules from number {first}, seed {seed}")?;
    let tally = Tally::new(seed, modules);
    let work = Work { forge: Forge::new(seed), seed, only_compare, end: first + modules };
    work.try_all(first, &tally);
    let findings = tally.print(&mut out)?;
    if findings.is_empty() {
        writeln!(out, "\nNothing happened that must not. Seed {seed}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "\n{} findings:", findings.len())?;
    findings.iter().try_for_each(|finding| writeln!(out, "- {finding}"))?;
    writeln!(out, "Seed {seed}")?;
    Ok(ExitCode::FAILURE)
}

/// What is tried, and how.
struct Work {
    forge: Forge,
    seed: u32,
    only_compare: bool,
    /// The number behind the last module's.
    end: u64,
}

impl Work {
    /// Tries the modules from number `first` on, in several pools at a time.
    fn try_all(&self, first: u64, tally: &Tally) {
        let next = AtomicU64::new(first);
        // What is made once is made by the first pool.
        self.try_next(&next, tally);
        let before = Census::take();
        // One more than processors: a pool waits for its compilers while another makes its modules.
        let threads = std::thread::available_parallelism().map_or(2, |count| count.get() + 1);
        std::thread::scope(|scope| {
            let work = || while self.try_next(&next, tally) {};
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            // The scope by itself waits for their work, and not until they are gone.
            let ended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            if let Some(panic) = ended.into_iter().find_map(Result::err) {
                std::panic::resume_unwind(panic);
            }
        });
        let after = Census::take();
        let holdings = |census: Census| (census.descriptors, census.threads, census.children);
        if holdings(before) != holdings(after) {
            tally.finding(format!("before there was {before:?}, and after {after:?}"));
        }
        let grown = after.resident_bytes.saturating_sub(before.resident_bytes);
        if grown > GROWTH_BYTES_MAX {
            tally.finding(format!("memory grew by {grown} bytes"));
        }
    }

    /// Tries the next pool's modules; false where there are none.
    fn try_next(&self, next: &AtomicU64, tally: &Tally) -> bool {
        let from = next.fetch_add(POOL_MODULES, Ordering::Relaxed);
        if from >= self.end || tally.has_enough() {
            return false;
        }
        let numbers = from..self.end.min(from + POOL_MODULES);
        let modules = numbers.map(|number| self.forge.make(number)).collect();
        if self.only_compare {
            trial::compare_all(modules, self.seed, tally);
        } else {
            trial::run(modules, self.seed, tally);
        }
        true
    }
}

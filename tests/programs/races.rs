//! Races: what tasks leave and others look for while the kernel moves pages, for a long time.
//!
//! `races [SECONDS]` runs every race of `stockade_tests::races` side by side, with compaction where this
//! user may have it, and exits with 1 where anything was found.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use stockade_tests::races::{Found, Mover, Race};

/// The findings that are shown of each race.
const SHOWN: usize = 10;

fn main() -> Result<ExitCode> {
    let seconds = std::env::args().nth(1).map_or(Ok(60), |text| text.parse::<u64>());
    let time = Duration::from_secs(seconds.context("SECONDS is a number")?);
    let mut out = std::io::stdout().lock();
    let mover = Mover::start();
    if let Err(error) = &mover {
        writeln!(out, "no compaction: {error}; pages move only when the kernel likes")?;
    }
    let races = [("memory", Race::memory()), ("state", Race::state()), ("across", Race::across())];
    let started = Instant::now();
    let found: Vec<(&str, Found)> = std::thread::scope(|scope| {
        let run = |race: &Race| race.run(|_| started.elapsed() >= time);
        let threads: Vec<_> =
            races.iter().map(|(name, race)| (*name, scope.spawn(move || run(race)))).collect();
        let ended = threads.into_iter();
        ended.map(|(name, thread)| (name, thread.join().expect("a race ends"))).collect()
    });
    let mut is_well = true;
    for (name, found) in &found {
        writeln!(out, "{name}: {} pairs, {} findings", found.pairs, found.findings.len())?;
        found.findings.iter().take(SHOWN).try_for_each(|one| writeln!(out, "  {one}"))?;
        is_well &= found.findings.is_empty();
    }
    let times = mover.map_or(0, |mover| mover.times());
    writeln!(out, "{:.0?}, memory compacted {times} times", started.elapsed())?;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

//! What the lockdown costs: the same tasks and the same starts with every layer and with none, in
//! turns. And each layer's share of a start.
//!
//! Turns are short and many, there and back again, so that a machine that slows down for a second slows
//! both alike.

use std::io::Write;

use anyhow::Result;
use stockade::{Layer, Lockdown, Pool};

use crate::figure::median;
use crate::pools::{self, WORKERS};
use crate::turns::progress;

/// Tasks of a turn: some tenths of a second at the most.
const TASKS: usize = 5_000;

/// Starts of a turn.
const STARTS: usize = 5;

/// Every layer that can be left off, left off.
fn without_any() -> Lockdown {
    Layer::ALL.into_iter().fold(Lockdown::default(), Lockdown::without)
}

fn pool(lockdown: &Lockdown) -> Result<Pool> {
    let pool = pools::realistic()?.max_workers(WORKERS).lockdown(lockdown.clone()).build()?;
    pool.spawn_max_workers()?;
    Ok(pool)
}

/// A pool whose workers do one task each.
fn starting(lockdown: &Lockdown) -> Result<Pool> {
    let builder = pools::realistic()?.max_workers(1).max_tasks_per_worker(1);
    Ok(builder.lockdown(lockdown.clone()).build()?)
}

/// What was measured of two, in turns.
struct Compared {
    value: f64,
    reference: f64,
    ratio: f64,
    difference: f64,
}

/// Measures `value` and `reference` so often: there, and back again.
fn compare(
    turns: usize,
    mut value: impl FnMut() -> Result<f64>,
    mut reference: impl FnMut() -> Result<f64>,
) -> Result<Compared> {
    let (mut values, mut references) = (Vec::new(), Vec::new());
    // Both are warm before either counts.
    value()?;
    reference()?;
    for turn in 0..turns {
        if turn % 2 == 0 {
            values.push(value()?);
            references.push(reference()?);
        } else {
            references.push(reference()?);
            values.push(value()?);
        }
    }
    let pairs = || values.iter().zip(&references);
    let ratio = median(&mut pairs().map(|(one, other)| one / other).collect::<Vec<_>>());
    let difference = median(&mut pairs().map(|(one, other)| one - other).collect::<Vec<_>>());
    Ok(Compared {
        ratio,
        difference,
        value: median(&mut values),
        reference: median(&mut references),
    })
}

fn tasks_per_second(pool: &Pool, chunk: usize) -> Result<f64> {
    let started = std::time::Instant::now();
    pools::map(pool, pools::Shape { chunk, ..Default::default() }, TASKS)?;
    Ok(TASKS as f64 / started.elapsed().as_secs_f64())
}

/// Measures, in so many turns each, and prints a table.
///
/// # Errors
/// If a pool cannot be built, a task fails, or `out` does.
pub(crate) fn measure(out: &mut impl Write, turns: usize) -> Result<()> {
    let (on, off) = (Lockdown::default(), without_any());
    let (locked, open) = (pool(&on)?, pool(&off)?);
    let (starts_locked, starts_open) = (starting(&on)?, starting(&off)?);
    writeln!(out, "{:36} {:>12} {:>14} {:>8}", "figure", "locked down", "without any", "ratio")?;
    let mut line = |name: &str, unit: &str, compared: &Compared| {
        let Compared { value, reference, ratio, .. } = compared;
        writeln!(out, "{name:36} {value:12.0} {reference:14.0} {ratio:8.3}  {unit}")
    };
    for (name, chunk) in [("fresh tasks, chunk_size(1)", 1), ("fresh tasks, chunk_size(64)", 64)] {
        progress(name);
        let one = || tasks_per_second(&locked, chunk);
        let compared = compare(turns, one, || tasks_per_second(&open, chunk))?;
        line(name, "tasks/s", &compared)?;
    }
    progress("starts");
    let first = |pool: &Pool| pools::first_task_micros(pool, "handle", STARTS);
    let starts = compare(turns, || first(&starts_locked), || first(&starts_open))?;
    line("first task of a new worker, median", "µs", &starts)?;
    writeln!(out, "\na start costs {:.0} µs more than without any layer", starts.difference)?;
    for layer in Layer::ALL.into_iter().filter(|layer| *layer != Layer::Inheritance) {
        progress(layer.name());
        let less = starting(&Lockdown::default().without(layer))?;
        let compared = compare(turns, || first(&starts_locked), || first(&less))?;
        writeln!(out, "  {:18} {:8.0} µs", layer.name(), compared.difference)?;
    }
    Ok(())
}

//! Stockade beside bare references, measured in turns.
//!
//! Usage: `stockade-bench MODULE FIGURES [ROUNDS]`, where MODULE is the example guest `wordcount`.
//! Prints a table and writes a JSON line for each figure to FIGURES. `stockade-bench queries` measures
//! how long a pool's owner waits for answers while very many tasks are queued, and
//! `stockade-bench lockdown MODULE [ROUNDS]` what the lockdown costs.
//!
//! Each round measures a figure and its reference one after the other, so that a machine whose speed
//! drifts moves both; what counts is the median of the rounds' ratios.

mod figure;
mod lockdown;
mod queries;
mod reference;

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use stockade::{Pool, PoolBuilder};

use figure::{Figure, median};

const WORKERS: usize = 2;
const TASKS: usize = 20_000;
const ROUND_TRIPS: usize = 2_000;
const STARTS: usize = 20;
const LINE: &str = "the quick brown fox jumps over the lazy dog and sleeps";

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from).peekable();
    if args.next_if(|first| first.as_os_str() == "queries").is_some() {
        return queries::measure(&mut std::io::stdout().lock());
    }
    if args.next_if(|first| first.as_os_str() == "lockdown").is_some() {
        let module = args.next().context("usage: stockade-bench lockdown MODULE [ROUNDS]")?;
        return lockdown::measure(&mut std::io::stdout().lock(), &module, rounds(args.next())?);
    }
    let module = args.next().context("usage: stockade-bench MODULE FIGURES [ROUNDS]")?;
    let figures_file = args.next().context("usage: stockade-bench MODULE FIGURES [ROUNDS]")?;
    let rounds = rounds(args.next())?;

    let pool = Pool::builder().module(&module).max_workers(WORKERS).build()?;
    pool.run::<u64>("word_count", (LINE,))?;

    let figures = [
        Figure::measure(
            "map, one task a message",
            "tasks/s",
            "processes started and ended a second",
            rounds,
            || tasks_per_second(&pool, 1),
            reference::processes_per_second,
        )?,
        Figure::measure(
            "map, 64 tasks a message",
            "tasks/s",
            "processes started and ended a second",
            rounds,
            || tasks_per_second(&pool, 64),
            reference::processes_per_second,
        )?,
        Figure::measure(
            "run, one at a time, median",
            "µs",
            "round trip over two pipes, median",
            rounds,
            || run_micros(&pool),
            || reference::pipe_round_trip_micros(ROUND_TRIPS),
        )?,
        Figure::measure(
            "first task of a new worker, median",
            "µs",
            "process started and ended, median",
            rounds,
            || first_task_micros(Pool::builder().module(&module)),
            || Ok(1e6 / reference::processes_per_second()?),
        )?,
    ];

    let mut out = std::io::stdout().lock();
    figure::print(&mut out, &figures)?;
    let lines: Vec<_> = figures.iter().map(|figure| figure.json().to_string() + "\n").collect();
    std::fs::write(&figures_file, lines.concat())
        .with_context(|| format!("cannot write {}", figures_file.display()))?;
    writeln!(out, "\n{WORKERS} workers, {rounds} rounds; written to {}", figures_file.display())?;
    Ok(())
}

fn rounds(given: Option<PathBuf>) -> Result<usize> {
    match given {
        Some(rounds) => rounds.to_string_lossy().parse().context("ROUNDS is a number"),
        None => Ok(5),
    }
}

/// Tasks a second through `map`, each in a fresh instance.
fn tasks_per_second(pool: &Pool, chunk_size: usize) -> Result<f64> {
    let lines = std::iter::repeat_n(LINE, TASKS);
    let started = Instant::now();
    for count in pool.map::<u64, _, _>("word_count", lines).chunk_size(chunk_size) {
        count?;
    }
    Ok(TASKS as f64 / started.elapsed().as_secs_f64())
}

/// Median time of a task that is waited for before the next is submitted.
fn run_micros(pool: &Pool) -> Result<f64> {
    let mut micros = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let started = Instant::now();
        pool.run::<u64>("word_count", (LINE,))?;
        micros.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(&mut micros))
}

/// Median time from a submission to its result in a pool that has no worker yet.
fn first_task_micros(builder: PoolBuilder) -> Result<f64> {
    let pool = builder.max_tasks_per_worker(1).max_workers(1).build()?;
    let mut micros = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let started = Instant::now();
        pool.run::<u64>("word_count", (LINE,))?;
        micros.push(started.elapsed().as_secs_f64() * 1e6);
        pool.join(None)?;
    }
    Ok(median(&mut micros))
}

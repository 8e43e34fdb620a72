//! How long a pool's owner waits for an answer while very many tasks are queued: counters, queries and
//! cancels must not depend on the queue's length.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use stockade::{Pool, TaskHandle};

/// Tasks in the queue.
const QUEUED: usize = 100_000;

/// Calls of each kind.
const CALLS: usize = 20_000;

/// One kind of call: its name, and what it took, sorted.
struct Latencies {
    name: &'static str,
    took: Vec<Duration>,
}

/// Measures every kind of call in a pool with a long queue and prints a table.
pub(crate) fn measure(out: &mut impl Write, module: &Path) -> Result<()> {
    let pool = Pool::builder().module(module).max_workers(2).build()?;
    let text = "the quick brown fox jumps over the lazy dog ".repeat(100);
    // As many again, so that the queue is long to the end.
    let handles = (0..2 * QUEUED)
        .map(|_| pool.submit::<u64>("word_count", (&text,)))
        .collect::<Result<Vec<_>, _>>()?;
    let (queued, cancelled) = handles.split_at(QUEUED);
    let at = |call: usize| &queued[call * 7919 % queued.len()];
    let all = [
        timed("counters", |_| {
            pool.count_pending_tasks() + pool.count_busy_workers() + pool.count_workers()
        }),
        timed("workers()", |_| pool.workers().len()),
        timed("handle: status, duration, progress", |call| {
            (at(call).status(), at(call).duration(), at(call).progress())
        }),
        timed("submit", |_| pool.submit::<u64>("word_count", ("a b",)).is_ok()),
        timed("cancel of a queued task", |call| cancelled[cancelled.len() - 1 - call].cancel()),
        timed("wait for nothing", |call| at(call).wait(Duration::ZERO)),
    ];
    let pending = pool.count_pending_tasks();
    anyhow::ensure!(pending >= QUEUED, "only {pending} tasks were left in the queue");
    writeln!(out, "{:<36} {:>10} {:>10} {:>10}", "call", "median", "p99", "most")?;
    for Latencies { name, took } in &all {
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
        writeln!(out, "{name:<36} {:>10.1?} {:>10.1?} {:>10.1?}", at(0.5), at(0.99), at(1.0))?;
    }
    writeln!(out, "\n{CALLS} calls of each kind while {pending} tasks and more were queued")?;
    let taken = cancelled.iter().rev().take(CALLS).filter(|handle| handle.is_cancelled()).count();
    anyhow::ensure!(taken == CALLS, "only {taken} of {CALLS} were cancelled");
    pool.kill();
    handles.iter().try_for_each(ended)
}

fn ended(handle: &TaskHandle<u64>) -> Result<()> {
    anyhow::ensure!(handle.is_done(), "task {} has not ended with its pool", handle.task_id());
    Ok(())
}

fn timed<T>(name: &'static str, mut call: impl FnMut(usize) -> T) -> Latencies {
    let mut took: Vec<_> = (0..CALLS)
        .map(|number| {
            let started = Instant::now();
            std::hint::black_box(call(number));
            started.elapsed()
        })
        .collect();
    took.sort_unstable();
    Latencies { name, took }
}

/// The command line: `stockade-bench queries MODULE`.
pub(crate) fn main(mut args: impl Iterator<Item = std::path::PathBuf>) -> Result<()> {
    let module = args.next().context("usage: stockade-bench queries MODULE")?;
    measure(&mut std::io::stdout().lock(), &module)
}

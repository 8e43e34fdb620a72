//! How long a pool's owner waits for an answer while very many tasks are queued: counters, queries and
//! cancels must not depend on the queue's length.

use std::io::Write;
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

/// A function that takes about a millisecond: the queue is worked off, and stays long.
const MODULE: &str = r#"(module (func (export "work") (param i32) (result i32)
  (loop $again
    (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
    (br_if $again (local.get 0)))
  (local.get 0)))"#;
const ROUNDS: i32 = 2_000_000;

/// Measures every kind of call in a pool with a long queue and prints a table.
pub(crate) fn measure(out: &mut impl Write) -> Result<()> {
    let file = std::env::temp_dir().join(format!("stockade-queries-{}.wat", std::process::id()));
    std::fs::write(&file, MODULE).with_context(|| format!("cannot write {}", file.display()))?;
    let built = Pool::builder().module(&file).max_workers(2).build();
    std::fs::remove_file(&file)?;
    let pool = built?;
    // Beyond what is to be queued: those that are cancelled, and those that are done meanwhile.
    let handles = (0..QUEUED + 2 * CALLS)
        .map(|_| pool.submit::<i32>("work", (ROUNDS,)))
        .collect::<Result<Vec<_>, _>>()?;
    let (queued, cancelled) = handles.split_at(QUEUED + CALLS);
    while pool.count_pending_tasks() < QUEUED + CALLS {
        // The driver has not seen them all.
        std::thread::yield_now();
    }
    let at = |call: usize| &queued[call * 7919 % queued.len()];
    let all = [
        timed("counters", |_| {
            pool.count_pending_tasks() + pool.count_busy_workers() + pool.count_workers()
        }),
        timed("workers()", |_| pool.workers().len()),
        timed("handle: status, duration, progress", |call| {
            (at(call).status(), at(call).duration(), at(call).progress())
        }),
        timed("submit", |_| pool.submit::<i32>("work", (ROUNDS,)).is_ok()),
        timed("cancel of a queued task", |call| cancelled[call].cancel()),
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
    let taken = cancelled.iter().filter(|handle| handle.is_cancelled()).count();
    anyhow::ensure!(taken == CALLS, "only {taken} of {CALLS} were cancelled");
    pool.kill();
    handles.iter().try_for_each(ended)
}

fn ended(handle: &TaskHandle<i32>) -> Result<()> {
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

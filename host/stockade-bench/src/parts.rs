//! Parts of the benchmark that need a process of their own, because they are about all of it: what an
//! idle pool uses, and what a queue weighs. And the other ends of a pipe and of a futex, and a worker's
//! runtime without messages.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail, ensure};
use stockade::{Bytes, Features, Pool};
use stockade_reference::{guests, serve};
use stockade_wire::{Call, Codec, CommandCall, Invocation, Outcome, Stdin, StdioSink};
use stockade_worker::Alone;

use crate::pools;
use crate::system::usage::{self, Usage};
use crate::system::{futex, pipe};

/// Runs the part `name` until its stdin ends.
///
/// # Errors
/// If there is none of this name, or it fails.
pub(crate) fn run(name: &str) -> Result<()> {
    match name {
        "pipe" => pipe::echo(),
        "futex" => futex::echo(),
        "worker" => worker(),
        "idle" => idle(),
        "host" => host(),
        "queue" => Ok(serve::serve(|word, amount| match word {
            "bytes-a-task" => queued_bytes(amount as usize, |pool, tasks| {
                let submit = |_| pool.submit::<Bytes>("noop", pools::payload());
                (0..tasks).map(submit).collect::<std::result::Result<Vec<_>, _>>()
            }),
            "bytes-an-item" => queued_bytes(amount as usize, |pool, tasks| {
                let items = std::iter::repeat_with(pools::payload).take(tasks);
                Ok::<_, Error>(pool.starmap::<Bytes, _, _>("noop", items).submit_all())
            }),
            _ => bail!("no question is called `{word}`"),
        })?),
        _ => bail!("no part is called `{name}`"),
    }
}

/// Answers about fresh instances in a worker's runtime, as `stockade-reference` does about the engine's.
fn worker() -> Result<()> {
    let mut runtimes: BTreeMap<String, Alone> = BTreeMap::new();
    serve::serve(|word, amount| {
        let (module, invocation) = match guests::script(word) {
            Some(source) => ("quickjs", script(source)),
            None => (word, handle()),
        };
        if !runtimes.contains_key(module) {
            let wasm = match guests::named(module) {
                Some(text) => wat::parse_str(text)?,
                None => std::fs::read(guests::quickjs()?).context("QuickJS is not built")?,
            };
            let limits = stockade_wire::Limits::default();
            let runtime = Alone::new(&wasm, &limits, Features::default()).map_err(Error::msg)?;
            runtimes.insert(module.to_owned(), runtime);
        }
        let runtime = runtimes.get_mut(module).context("it was just made")?;
        let tasks = (amount as usize).max(1);
        let started = Instant::now();
        for _ in 0..tasks {
            let finished = runtime.run(invocation.clone(), Vec::new()).map_err(Error::msg)?;
            let is_right = match &finished.outcome {
                Outcome::Returned(bytes) => bytes.len() == guests::PAYLOAD_BYTES,
                outcome => *outcome == Outcome::Exited(0),
            };
            ensure!(is_right, "the guest gave something else: {:?}", finished.outcome);
        }
        Ok(started.elapsed().as_secs_f64() * 1e6 / tasks as f64)
    })?;
    Ok(())
}

fn handle() -> Invocation {
    let input = vec![7; guests::PAYLOAD_BYTES];
    Invocation::Task(Call { export: "handle".into(), codec: Codec::Raw, input })
}

fn script(source: &str) -> Invocation {
    let call = CommandCall {
        args: ["qjs", "-e", source].map(String::from).into(),
        env: Vec::new(),
        stdin: Stdin::Bytes(Vec::new()),
        stdout: StdioSink::Captured,
        stderr: StdioSink::Captured,
    };
    Invocation::Command { entry: "_start".into(), call }
}

/// Answers what this process uses for an item of a map, its workers aside, in microseconds.
fn host() -> Result<()> {
    let pool = pools::realistic()?.build()?;
    pool.spawn_max_workers()?;
    pools::map(&pool, pools::Shape::default(), 10_000)?;
    serve::serve(|word, amount| match word {
        "map" => {
            let used = || Usage::of([std::process::id()], None);
            let (before, items) = (used()?, amount as usize);
            pools::map(&pool, pools::Shape::default(), items)?;
            Ok(used()?.since(before).cpu_seconds * 1e6 / amount)
        }
        _ => bail!("no question is called `{word}`"),
    })?;
    Ok(())
}

/// Answers about a pool whose workers have worked and rest now.
fn idle() -> Result<()> {
    let pool = pools::realistic()?.build()?;
    pool.spawn_max_workers()?;
    pools::map(&pool, pools::Shape::default(), 10_000)?;
    serve::serve(|word, amount| match word {
        "memory" => {
            let workers = pool.workers();
            let bytes = workers.iter().map(|worker| worker.memory_bytes);
            let bytes = bytes.collect::<Option<Vec<_>>>().context("the system does not tell")?;
            let most = bytes.into_iter().max().context("there is no worker")?;
            Ok(most as f64 / f64::from(1 << 20))
        }
        "wake-ups" => Ok(idle_usage(&pool, amount)?.wake_ups as f64 / amount),
        "cpu" => Ok(idle_usage(&pool, amount)?.cpu_seconds * 1e6 / amount),
        _ => bail!("no question is called `{word}`"),
    })?;
    Ok(())
}

/// What the pool's threads and workers use in so many seconds, in which nobody asks them for anything.
fn idle_usage(pool: &Pool, seconds: f64) -> Result<Usage> {
    let pids: Vec<u32> = pool.workers().iter().map(|worker| worker.pid).collect();
    ensure!(pids.len() == pools::WORKERS, "workers are missing");
    let pids = || pids.iter().copied().chain([std::process::id()]);
    // This thread sleeps and is woken: the pool has no part in it.
    let this = rustix::thread::gettid().as_raw_nonzero().get();
    let before = Usage::of(pids(), Some(this))?;
    std::thread::sleep(Duration::from_secs_f64(seconds));
    Ok(Usage::of(pids(), Some(this))?.since(before))
}

/// Blocks until a count of the pool's, for which there is no event, is as it should be. Not timed.
///
/// # Errors
/// If the pool breaks, and it never will be.
fn wait_until(pool: &Pool, holds: impl Fn() -> bool) -> Result<()> {
    while !holds() {
        ensure!(!pool.is_broken(), "the pool broke");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// What each of so many queued tasks weighs in this process beyond its payload, with whatever `submit`
/// returns for them.
fn queued_bytes<T, E>(
    tasks: usize,
    submit: impl FnOnce(&Pool, usize) -> std::result::Result<T, E>,
) -> Result<f64>
where
    Error: From<E>,
{
    let limits = stockade::Limits::default().wall_time(None);
    let pool = pools::holding()?.limits(limits).build()?;
    for _ in 0..pools::WORKERS {
        pool.submit::<Bytes>("hold", Bytes(Vec::new()))?;
    }
    wait_until(&pool, || pool.count_busy_workers() == pools::WORKERS)?;
    let before = usage::resident_bytes()?;
    let submitted = submit(&pool, tasks)?;
    // Once the driver has seen them all.
    wait_until(&pool, || pool.count_pending_tasks() == tasks)?;
    let bytes = usage::resident_bytes()? - before;
    pool.kill();
    drop(submitted);
    Ok(bytes / tasks as f64 - guests::PAYLOAD_BYTES as f64)
}

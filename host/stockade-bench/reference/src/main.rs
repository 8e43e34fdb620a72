//! The guests without Stockade: in a bare engine, in this process.
//!
//! `stockade-reference serve` answers questions, see `serve`:
//!
//! | question | answer |
//! |---|---|
//! | `tasks SECONDS` | tasks a second, one after the other, each in a fresh instance |
//! | `threads SECONDS` | the same on two threads of this process: the better of one engine for both and one for each |
//! | `latency TASKS` | the median time of one task, in microseconds |
//! | `fresh TASKS` | the time of one task in a fresh instance with limits, in microseconds |
//! | `growing TASKS`, `interpreter TASKS` | the same of these guests |
//! | `script TASKS`, `empty TASKS` | the same of QuickJS, which evaluates a small script, or nothing |
//! | `numbers ITEMS` | the time of a call for each of so many numbers, in a loop, in milliseconds |
//! | `compute ROUNDS` | the time of so many rounds without any check compiled in, in milliseconds |
//!
//! `stockade-reference compile FILE` writes an artefact, and `stockade-reference once FILE` loads it,
//! runs one task and ends: one process a task.
//!
//! Two of these side by side are the most that two cores can do: no call leaves its process.

mod bare;
mod script;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stockade_reference::{guests, serve};
use wasmtime::error::Context;
use wasmtime::{Engine, Instance, Module, Result, Store, bail};

use bare::{Allocation, Bare};
use script::Script;

/// Threads of the question `threads`.
const THREADS: usize = 2;

/// Tasks between two looks at the clock.
const BATCH: u64 = 16;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => serve_all(),
        ["compile", file] => {
            let engine = bare::engine(Allocation::OnDemand)?;
            let artefact = engine.precompile_module(&wat::parse_str(guests::realistic())?)?;
            std::fs::write(file, artefact).with_context(|| format!("cannot write {file}"))
        }
        ["once", file] => once(Path::new(file)),
        _ => bail!("usage: stockade-reference serve | compile FILE | once FILE"),
    }
}

fn serve_all() -> Result<()> {
    let wasm = wat::parse_str(guests::realistic())?;
    let shared = Bare::compile(&wasm)?;
    // An engine each; the first is the shared one.
    let own = (1..THREADS).map(|_| Bare::compile(&wasm)).collect::<Result<Vec<_>>>()?;
    let mut compute = Called::new(guests::COMPUTE)?;
    let mut numbers = Called::new(guests::NUMBERS)?;
    let mut fresh = Fresh::default();
    serve::serve(|word, amount| match word {
        "tasks" => tasks_per_second(&[&shared], amount),
        "threads" => {
            let one_engine = tasks_per_second(&[&shared; THREADS], amount / 2.0)?;
            let each: Vec<_> = std::iter::once(&shared).chain(&own).collect();
            Ok(one_engine.max(tasks_per_second(&each, amount / 2.0)?))
        }
        "latency" => latency_micros(&shared, amount as usize),
        "compute" => compute.millis(amount as i32),
        "numbers" => numbers.call_each(amount as i64),
        "fresh" | "growing" | "interpreter" | "script" | "empty" => {
            fresh.micros(word, amount as usize)
        }
        _ => bail!("no question is called `{word}`"),
    })?;
    Ok(())
}

/// Tasks a second on as many threads as there are `engines`, for so many seconds.
fn tasks_per_second(engines: &[&Bare], seconds: f64) -> Result<f64> {
    let done = AtomicU64::new(0);
    let until = Duration::from_secs_f64(seconds);
    let started = Instant::now();
    let work = |engine: &Bare| {
        while started.elapsed() < until {
            for _ in 0..BATCH {
                engine.task()?;
            }
            done.fetch_add(BATCH, Ordering::Relaxed);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            engines.iter().skip(1).map(|engine| scope.spawn(|| work(engine))).collect();
        let first: Result<()> = work(engines[0]);
        let ended = threads.into_iter().map(|thread| match thread.join() {
            Ok(ended) => ended,
            Err(_) => bail!("a thread panicked"),
        });
        std::iter::once(first).chain(ended).collect::<Result<()>>()
    })?;
    Ok(done.into_inner() as f64 / started.elapsed().as_secs_f64())
}

fn latency_micros(engine: &Bare, tasks: usize) -> Result<f64> {
    let mut micros = Vec::with_capacity(tasks);
    for _ in 0..tasks.max(1) {
        let started = Instant::now();
        engine.task()?;
        micros.push(started.elapsed().as_secs_f64() * 1e6);
    }
    micros.sort_unstable_by(f64::total_cmp);
    Ok(micros[micros.len() / 2])
}

/// What answers about fresh instances, each made for its first question.
#[derive(Default)]
struct Fresh {
    guests: BTreeMap<String, Bare>,
    script: Option<Script>,
}

impl Fresh {
    fn micros(&mut self, word: &str, tasks: usize) -> Result<f64> {
        if let Some(source) = guests::script(word) {
            let script = match &mut self.script {
                Some(script) => script,
                none => none.insert(Script::new()?),
            };
            return micros(tasks, || script.run(source));
        }
        if !self.guests.contains_key(word) {
            let wasm = wat::parse_str(guests::named(word).context("no guest of that name")?)?;
            self.guests.insert(word.to_owned(), Bare::compile(&wasm)?.limited());
        }
        let guest = self.guests.get(word).context("it was just made")?;
        micros(tasks, || guest.task())
    }
}

/// The time of one task, of so many.
fn micros(tasks: usize, mut task: impl FnMut() -> Result<()>) -> Result<f64> {
    let tasks = tasks.max(1);
    let started = Instant::now();
    for _ in 0..tasks {
        task()?;
    }
    Ok(started.elapsed().as_secs_f64() * 1e6 / tasks as f64)
}

/// A guest that is called for its numbers, instantiated.
struct Called {
    store: Store<()>,
    instance: Instance,
}

impl Called {
    fn new(source: &str) -> Result<Self> {
        let engine = Engine::new(&bare::config())?;
        let module = Module::from_binary(&engine, &wat::parse_str(source)?)?;
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[])?;
        Ok(Self { store, instance })
    }

    fn millis(&mut self, rounds: i32) -> Result<f64> {
        let function = self.instance.get_typed_func::<i32, i64>(&mut self.store, "compute")?;
        let started = Instant::now();
        std::hint::black_box(function.call(&mut self.store, rounds)?);
        Ok(started.elapsed().as_secs_f64() * 1e3)
    }

    /// One call an item, from a slice into a vector.
    fn call_each(&mut self, items: i64) -> Result<f64> {
        let items: Vec<i64> = (0..items).collect();
        let function = self.instance.get_typed_func::<i64, i64>(&mut self.store, "next")?;
        let started = Instant::now();
        let mut results = Vec::with_capacity(items.len());
        for item in std::hint::black_box(&items) {
            results.push(function.call(&mut self.store, *item)?);
        }
        let millis = started.elapsed().as_secs_f64() * 1e3;
        std::hint::black_box(results);
        Ok(millis)
    }
}

/// A process for one task.
#[allow(unsafe_code)]
fn once(file: &Path) -> Result<()> {
    let engine = bare::engine(Allocation::OnDemand)?;
    // SAFETY: the benchmark has this program write the file, into a folder of its own, and nobody
    // changes it while the benchmark runs.
    let module = unsafe { Module::deserialize_file(&engine, file) }?;
    Bare::new(&module)?.task()
}

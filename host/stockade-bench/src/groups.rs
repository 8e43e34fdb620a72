//! The groups of figures: what is measured in turns with what, and the rows that come of it.
//!
//! | group | its figures |
//! |---|---|
//! | `throughput` | tasks a second, compared with bare processes and threads and other pools |
//! | `scaling` | tasks a second of two workers, compared with one |
//! | `command` | lines a second of `stockade map`, compared with the library's map |
//! | `latency` | one task at a time, compared with the engine alone, a pipe and a futex |
//! | `payload` | 16 MiB to a task and back, copied and lent, compared with two copies |
//! | `start` | a worker's first task, and a killed worker's replacement, compared with `/bin/true` |
//! | `compute` | guest code at work, compared with the engine without any check |
//! | `numbers` | many numbers through one function, compared with the engine in a loop |
//! | `cpu` | processor time of a task, compared with extism |
//! | `fresh` | a task in a fresh instance without its messages, compared with the engine's own pooling |
//! | `idle` | what a pool uses that has nothing to do, and what a queue weighs |
//!
//! Targets are those of the project; the reasons are in `docs/performance.md`.

use std::cell::RefCell;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use stockade_reference::guests;

use crate::figure::{Figure, median};
use crate::lines::{self, Lines};
use crate::pools::{self, Pace, Shape, WORKERS};
use crate::remote::{Remote, ask_all, beside, part};
use crate::system::copies::Copies;
use crate::system::futex::Futex;
use crate::system::pipe::Pipe;
use crate::system::processes;
use crate::system::usage::Usage;
use crate::turns::{Row, Turns, progress};
use crate::{peers, rows};

/// A group: its name, and what measures it in so many rounds.
type Group = (&'static str, fn(usize) -> Result<Vec<Figure>>);

/// Every group, in the order of the table.
pub(crate) const ALL: [Group; 11] = [
    ("throughput", throughput),
    ("scaling", scaling),
    ("command", command),
    ("latency", latency),
    ("payload", payload),
    ("start", start),
    ("compute", compute),
    ("numbers", numbers),
    ("cpu", cpu),
    ("fresh", fresh),
    ("idle", idle),
];

/// Seconds that a reference works for one answer.
const REFERENCE_SECONDS: f64 = 0.4;

/// Items of a map in a Python pool: chunks of one, and of 64.
const PYTHON_ITEMS: f64 = 4_000.0;
const PYTHON_ITEMS_IN_CHUNKS: f64 = 100_000.0;

/// Tasks that are waited for, one after the other, for one median.
const ROUND_TRIPS: usize = 2_000;

/// The payload of the group `payload`.
const PAYLOAD_BYTES: usize = 16 << 20;

/// Processes that are started for one median.
const STARTS: usize = 25;

/// Rounds of the computing guest: some hundredths of a second.
const COMPUTE_ROUNDS: i32 = 40_000_000;

/// Numbers of the group `numbers`.
const NUMBERS: i64 = 1_000_000;

/// Seconds for which an idle pool is watched.
const IDLE_SECONDS: f64 = 10.0;

/// Guests of the group `fresh`: the question that is asked of both sides, tasks for one answer, and what
/// the engine's answer is called.
const FRESH: [(&str, f64, &str); 5] = [
    ("fresh", 10_000.0, "bare fresh"),
    ("growing", 10_000.0, "bare growing"),
    ("interpreter", 500.0, "bare interpreter"),
    ("script", 200.0, "bare script"),
    ("empty", 200.0, "bare empty"),
];

/// Items of a map for which the host's processor time is asked.
const HOST_ITEMS: f64 = 200_000.0;

/// Tasks that are queued at once.
const QUEUED: f64 = 1e6;

fn reference() -> Result<Remote> {
    let mut command = beside("stockade-reference")?;
    command.arg("serve");
    Remote::start(command)
}

fn figures(turns: Turns<'_>, rows: &[Row], topic: &str, rounds: usize) -> Vec<Figure> {
    let results = turns.take(topic, rounds);
    rows.iter().map(|row| results.figure(row)).collect()
}

fn throughput(rounds: usize) -> Result<Vec<Figure>> {
    let pool = pools::realistic()?.build()?;
    pool.spawn_max_workers()?;
    let chunks = Shape { chunk: 64, shared: true, buffer: 0 };
    let (mut each, mut single, mut chunked) = <(Pace, Pace, Pace)>::default();
    let program = std::env::current_exe()?.with_file_name("stockade-reference");
    let artefact = program.with_file_name("stockade-reference.artefact");
    let mut turns = Turns::default();
    turns.add("map", || each.measure(|tasks| pools::map(&pool, Shape::default(), tasks)));
    let one_by_one = Shape { chunk: 1, ..Shape::default() };
    turns.add("map, one by one", || single.measure(|tasks| pools::map(&pool, one_by_one, tasks)));
    turns.add("submit", || pools::submitted_per_second(&pool));
    turns.add("map, chunks", || chunked.measure(|tasks| pools::map(&pool, chunks, tasks)));
    let two: Result<Vec<Remote>> = (0..WORKERS).map(|_| reference()).collect();
    turns.add_if("two processes", two, |two| ask_all(two, "tasks", REFERENCE_SECONDS));
    turns.add_if("threads", reference(), |one| one.ask("threads", 2.0 * REFERENCE_SECONDS));
    for name in ["asyncpal", "concurrent.futures", "multiprocessing.Pool", "pebble", "loky"] {
        turns.add_if(name, peers::python(name), |peer| peer.ask("map1", PYTHON_ITEMS));
    }
    turns.add_if("multiprocessing.Pool, chunks", peers::python("multiprocessing.Pool"), |peer| {
        peer.ask("map64", PYTHON_ITEMS_IN_CHUNKS)
    });
    turns.add_if("procspawn", peers::rust("procspawn"), |peer| peer.ask("window", 5_000.0));
    let compiled = beside("stockade-reference").and_then(|mut command| {
        command.arg("compile").arg(&artefact).status().context("it did not compile")
    });
    turns.add_if("process per task", compiled, |_| {
        processes::one_a_task(&program, &artefact, WORKERS, STARTS)
    });
    Ok(figures(turns, &rows::THROUGHPUT, "throughput", rounds))
}

fn scaling(rounds: usize) -> Result<Vec<Figure>> {
    let one = pools::realistic()?.max_workers(1).build()?;
    let two = pools::realistic()?.build()?;
    let few = Shape { buffer: 4, ..Shape::default() };
    let mut paces = [Pace::default(); 4];
    let mut turns = Turns::default();
    let [of_one, of_two, few_of_one, few_of_two] = &mut paces;
    for pool in [&one, &two] {
        pool.spawn_max_workers()?;
    }
    turns.add("one worker", || of_one.measure(|tasks| pools::map(&one, Shape::default(), tasks)));
    turns.add("two workers", || of_two.measure(|tasks| pools::map(&two, Shape::default(), tasks)));
    turns.add("one worker, 4 under way", || {
        few_of_one.measure(|tasks| pools::map(&one, few, tasks))
    });
    turns.add("two workers, 4 under way", || {
        few_of_two.measure(|tasks| pools::map(&two, few, tasks))
    });
    Ok(figures(turns, &rows::SCALING, "scaling", rounds))
}

fn command(rounds: usize) -> Result<Vec<Figure>> {
    let pool = lines::pool()?;
    pool.spawn_max_workers()?;
    let (mut of_command, mut of_library) = <(Pace, Pace)>::default();
    let mut turns = Turns::default();
    let started = beside("stockade").and_then(Lines::start);
    turns.add_if("stockade map", started, |command| of_command.measure(|lines| command.map(lines)));
    turns.add("map of lines", || of_library.measure(|count| lines::map(&pool, count)));
    Ok(figures(turns, &rows::COMMAND, "command", rounds))
}

fn latency(rounds: usize) -> Result<Vec<Figure>> {
    let realistic = pools::realistic()?.build()?;
    let noop = pools::pool_of(guests::NOOP)?.build()?;
    let p50 = |mut micros: Vec<f64>| median(&mut micros);
    let mut turns = Turns::default();
    turns.add("run", || Ok(p50(pools::runs(&realistic, "handle", ROUND_TRIPS)?)));
    turns.add_if("in process", reference(), |one| one.ask("latency", ROUND_TRIPS as f64));
    turns.add("noop", || Ok(p50(pools::runs(&noop, "noop", ROUND_TRIPS)?)));
    turns.add_if("pipe", part("pipe").and_then(Pipe::start), move |pipe| {
        Ok(p50(pipe.round_trips(ROUND_TRIPS)?))
    });
    turns.add_if("futex", part("futex").and_then(Futex::start), move |futex| {
        Ok(p50(futex.round_trips(ROUND_TRIPS)?))
    });
    Ok(figures(turns, &rows::LATENCY, "latency", rounds))
}

fn payload(rounds: usize) -> Result<Vec<Figure>> {
    let pool = pools::echoing()?;
    let mut copies = Copies::new(PAYLOAD_BYTES);
    let mut turns = Turns::default();
    turns.add("vec", || Ok(pools::echo_micros(&pool, PAYLOAD_BYTES, 9)? / 1e3));
    turns.add("copies", || {
        Ok(median(&mut (0..9).map(|_| copies.two_micros()).collect::<Vec<_>>()) / 1e3)
    });
    turns.add("shared buffer", || Ok(pools::buffer_micros(&pool, PAYLOAD_BYTES, 9)? / 1e3));
    Ok(figures(turns, &rows::PAYLOAD, "payload", rounds))
}

fn start(rounds: usize) -> Result<Vec<Figure>> {
    let builder = || pools::pool_of(guests::NOOP);
    let starting = builder()?.max_workers(1).max_tasks_per_worker(1).build()?;
    let replacing = pools::holding()?.max_workers(1).build()?;
    let mut turns = Turns::default();
    turns.add("first task", || pools::first_task_micros(&starting, "noop", STARTS));
    turns.add("true", || processes::true_micros(STARTS));
    turns.add("replacement", || pools::replacement_micros(&replacing, STARTS));
    Ok(figures(turns, &rows::START, "start", rounds))
}

fn compute(rounds: usize) -> Result<Vec<Figure>> {
    let pool = pools::pool_of(guests::COMPUTE)?.max_workers(1).build()?;
    let mut turns = Turns::default();
    turns.add("compute", || {
        let started = Instant::now();
        pool.run::<i64>("compute", (COMPUTE_ROUNDS,))?;
        Ok(f64::from(COMPUTE_ROUNDS) / started.elapsed().as_secs_f64() / 1e6)
    });
    turns.add_if("bare compute", reference(), |one| {
        let millis = one.ask("compute", f64::from(COMPUTE_ROUNDS))?;
        Ok(f64::from(COMPUTE_ROUNDS) / millis / 1e3)
    });
    // Each takes hundredths of a second, and the target is near to 1.
    Ok(figures(turns, &rows::COMPUTE, "compute", rounds * 3))
}

fn numbers(rounds: usize) -> Result<Vec<Figure>> {
    let pool = pools::pool_of(guests::NUMBERS)?.build()?;
    pool.spawn_max_workers()?;
    let next = pool.function::<i64>("next")?;
    let items: Vec<i64> = (0..NUMBERS).collect();
    let mut turns = Turns::default();
    turns.add("map_slice", || {
        let started = Instant::now();
        let results = next.map_slice(&items)?;
        let seconds = started.elapsed().as_secs_f64();
        ensure!(results.len() == items.len(), "some of the numbers were lost");
        Ok(NUMBERS as f64 / seconds / 1e6)
    });
    turns.add_if("bare loop", reference(), |one| {
        Ok(NUMBERS as f64 / one.ask("numbers", NUMBERS as f64)? / 1e3)
    });
    // Each takes hundredths of a second.
    Ok(figures(turns, &rows::NUMBERS, "numbers", rounds * 3))
}

fn cpu(rounds: usize) -> Result<Vec<Figure>> {
    let pool = pools::realistic()?.build()?;
    pool.spawn_max_workers()?;
    let mut pace = Pace::default();
    let mut turns = Turns::default();
    turns.add("task", || {
        let pids: Vec<u32> = pool.workers().iter().map(|worker| worker.pid).collect();
        let used = || Usage::of(pids.iter().copied().chain([std::process::id()]), None);
        let (before, mut count) = (used()?, 0);
        pace.measure(|tasks| {
            count = tasks;
            pools::map(&pool, Shape::default(), tasks)
        })?;
        Ok(used()?.since(before).cpu_seconds * 1e6 / count as f64)
    });
    let mut host = Remote::start(part("host")?)?;
    turns.add("host", move || host.ask("map", HOST_ITEMS));
    turns.add_if("extism", peers::rust("extism"), |peer| peer.ask("cpu", 1_000.0));
    Ok(figures(turns, &rows::CPU, "cpu", rounds))
}

fn fresh(rounds: usize) -> Result<Vec<Figure>> {
    let worker = RefCell::new(Remote::start(part("worker")?)?);
    let bare = RefCell::new(reference()?);
    let mut turns = Turns::default();
    for (question, tasks, beside) in FRESH {
        let is_there = || match guests::script(question) {
            Some(_) => guests::quickjs().and_then(|path| path.metadata()).map(|_| ()),
            None => Ok(()),
        };
        let (worker, bare) = (&worker, &bare);
        turns.add_if(question, is_there().context("just languages"), move |()| {
            worker.borrow_mut().ask(question, tasks)
        });
        turns.add_if(beside, is_there().context("just languages"), move |()| {
            bare.borrow_mut().ask(question, tasks)
        });
    }
    Ok(figures(turns, &rows::FRESH, "fresh", rounds))
}

fn idle(rounds: usize) -> Result<Vec<Figure>> {
    // Watching takes long and says the same each time.
    let rounds = rounds.clamp(1, 3);
    let idle = RefCell::new(Remote::start(part("idle")?)?);
    let mut turns = Turns::default();
    progress(&format!("idle: {IDLE_SECONDS:.0} s twice a round"));
    turns.add("memory", || idle.borrow_mut().ask("memory", 0.0));
    turns.add("wake-ups", || idle.borrow_mut().ask("wake-ups", IDLE_SECONDS));
    turns.add("cpu", || idle.borrow_mut().ask("cpu", IDLE_SECONDS));
    turns.add("queue", || Remote::start(part("queue")?)?.ask("bytes-a-task", QUEUED));
    turns.add("queued items", || Remote::start(part("queue")?)?.ask("bytes-an-item", QUEUED));
    Ok(figures(turns, &rows::IDLE, "idle", rounds))
}

/// The group `name`.
pub(crate) fn find(name: &str) -> Option<&'static Group> {
    ALL.iter().find(|(found, _)| *found == name)
}

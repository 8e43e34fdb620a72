//! `stockade bench`: what a function takes on this machine, one call at a time and many at once.
//!
//! ```text
//! latency     submit ─► result ─► submit ─► …       one worker, each call timed from outside
//! throughput  submit together, as many under way as keep every worker busy, counted at the end
//! ```
//!
//! Both are what a caller sees: arguments encoded, the task handed over, its result back. Nothing is
//! left out of a measurement but what came before it, some calls that start the workers.

mod histogram;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::styling::Style;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use stockade::{Json, Pool, SubmitError, TaskHandle, TaskOptions};

use crate::args::PoolArgs;
use crate::error::Error;
use crate::exit::{self, Exit};
use crate::observe::Observer;
use crate::table::{Align, table};
use crate::target::{self, Shape};
use crate::times::Times;
use crate::values::{Named, WallTime, whole};
use crate::{arguments, json, report, setup, streams};

use histogram::Histogram;

/// Calls before a measurement, at most, and for how long at most.
const WARM_UP_CALLS: usize = 100;
const WARM_UP_TIME: Duration = Duration::from_millis(500);

/// The most calls of a measurement.
const CALLS_MAX: usize = 10_000_000;

const EXAMPLES: &str = "\
Examples:
  stockade bench scalar.wat add 2 3
  stockade bench tasks.wasm top_words @book.txt 10 --time 10s
  stockade bench tasks.wasm score '{\"x\": 1}' --chunk 100 --workers 4

Latency is measured with one call at a time, from the submission to the result; throughput with
enough at once to keep every worker busy. Close other programs, and compare only figures that were
measured one right after the other, since a machine's speed changes.
";

/// Measure how long a function takes here, one call at a time and many at once
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n{}", exit::HELP))]
pub(crate) struct BenchArgs {
    /// The module: a .wasm file, or a .wat file in the text format
    module: PathBuf,

    /// The function to call
    function: String,

    /// Arguments by position, written as for `run`
    #[arg(value_name = "ARG", allow_negative_numbers = true)]
    args: Vec<String>,

    /// An argument by name; the value is written as an ARG is
    #[arg(long = "arg", value_name = "NAME=VALUE")]
    named: Vec<Named>,

    /// How long each of the two measurements takes
    #[arg(long, value_name = "TIME", default_value = "3s")]
    time: WallTime,

    /// Workers for the throughput [default: the processors]
    #[arg(long, value_name = "N", value_parser = whole(1..=1024))]
    workers: Option<u64>,

    /// For the throughput, send N calls to a worker together
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole(1..=10_000))]
    chunk: u64,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pool: PoolArgs,
}

/// The number of calls and their time.
#[derive(Clone, Copy, Debug)]
struct Throughput {
    calls: u64,
    elapsed: Duration,
    workers: usize,
}

impl Throughput {
    fn per_second(&self) -> f64 {
        self.calls as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Measures a function as the command line asks.
///
/// # Errors
/// If the function cannot be called, or a call fails, since a failed call takes another time.
pub(crate) fn run(args: &BenchArgs) -> Result<Exit, Error> {
    let Some(time) = args.time.0 else {
        return Err(Error::new(Exit::Usage, "`--time` is how long to measure, as in 3s"));
    };
    setup::check(&args.module, &args.pool)?;
    arguments::check_files(args.args.iter().map(String::as_str))?;
    arguments::check_files(args.named.iter().map(|named| named.value.as_str()))?;
    let workers = args.workers.map(|workers| workers as usize);
    let pool = setup::pool(&args.module, &args.pool, workers, &Observer::default())?;
    let measured = measure(&pool, args, time);
    let closed = setup::close(&pool);
    let (latency, throughput) = measured?;
    closed?;
    let stdout = &mut Vec::new();
    let written = match args.json {
        true => writeln!(stdout, "{}", json::text(&as_json(args, &latency, throughput))),
        false => show(stdout, args, &latency, throughput),
    };
    let printed = written.map_err(|error| streams::failed(&error));
    printed.and_then(|()| streams::print(|to| to.write_all(stdout))).map(|()| Exit::Success)
}

fn measure(pool: &Pool, args: &BenchArgs, time: Duration) -> Result<(Times, Throughput), Error> {
    let call = call(pool, args)?;
    let warm_until = Instant::now() + WARM_UP_TIME;
    for _ in 0..WARM_UP_CALLS {
        one(pool, args, call.clone())?;
        if Instant::now() > warm_until {
            break;
        }
    }
    let latency = latency(pool, args, &call, time)?;
    Ok((latency, throughput(pool, args, &call, time)?))
}

/// The arguments of every call.
fn call(pool: &Pool, args: &BenchArgs) -> Result<Json, Error> {
    let targets = pool.modules().next().map(|(_, module)| target::targets(module));
    let targets = targets.unwrap_or_default();
    let found = targets.iter().find(|target| target.name == args.function);
    if found.is_some_and(|target| target.shape == Shape::Command) {
        return Err(Error::new(
            Exit::Call,
            "only functions are measured, and the module is run as a program",
        )
        .help("`stockade run MODULE --report -- ARGV...` tells how long a program took"));
    }
    let Some(target) = found else {
        // The library knows best what was meant.
        return Ok(pool.submit::<()>(args.function.as_str(), Json::new()).map(|_| Json::new())?);
    };
    arguments::read(&args.args, &args.named, target.params())
}

fn one(pool: &Pool, args: &BenchArgs, call: Json) -> Result<(), Error> {
    let options = TaskOptions::default().retries(args.pool.retries);
    let handle = pool.submit_with::<IgnoredAny>(args.function.as_str(), call, options)?;
    handle.output().map(|_| ()).map_err(|error| Error::from(&error))
}

fn latency(pool: &Pool, args: &BenchArgs, call: &Json, time: Duration) -> Result<Times, Error> {
    let began = Instant::now();
    let mut times = Times::default();
    // At least one, however long it takes.
    while times.count() == 0 || (began.elapsed() < time && times.count() < CALLS_MAX as u64) {
        let call = call.clone();
        let started = Instant::now();
        one(pool, args, call)?;
        times.add(started.elapsed());
    }
    Ok(times)
}

fn throughput(
    pool: &Pool,
    args: &BenchArgs,
    call: &Json,
    time: Duration,
) -> Result<Throughput, Error> {
    type Handle = Result<TaskHandle<IgnoredAny>, SubmitError>;
    let options = TaskOptions::default().retries(args.pool.retries);
    let under_way_max = (4 * pool.max_workers()).max(16) * args.chunk as usize;
    let mut under_way: VecDeque<Handle> = VecDeque::new();
    let began = Instant::now();
    let (mut calls, mut submitted) = (0, 0);
    loop {
        let goes_on = began.elapsed() < time && submitted < CALLS_MAX;
        while goes_on && under_way.len() < under_way_max {
            let chunk = (0..args.chunk).map(|_| call.clone());
            submitted += args.chunk as usize;
            under_way.extend(pool.submit_together_with(args.function.as_str(), chunk, &options));
        }
        let Some(handle) = under_way.pop_front() else { break };
        handle?.output().map_err(|error| Error::from(&error))?;
        calls += 1;
    }
    Ok(Throughput { calls, elapsed: began.elapsed(), workers: pool.count_workers() })
}

fn show(
    to: &mut dyn Write,
    args: &BenchArgs,
    latency: &Times,
    throughput: Throughput,
) -> io::Result<()> {
    let bold = Style::new().bold();
    writeln!(to, "{bold}latency{bold:#}  {} calls, one at a time", latency.count())?;
    let histogram = Histogram(latency);
    let percentiles = histogram
        .percentiles()
        .map(|(name, time)| [format!("  {name}"), report::duration(time), String::new()]);
    write!(to, "{}", table([Align::Left, Align::Right, Align::Left], percentiles))?;
    writeln!(to)?;
    for bar in histogram.bars() {
        writeln!(to, "  {bar}")?;
    }
    let Throughput { calls, elapsed, workers } = throughput;
    let (plural, rate) = (if workers == 1 { "" } else { "s" }, throughput.per_second());
    writeln!(to, "\n{bold}throughput{bold:#}  {rate:.0} calls a second")?;
    let elapsed = report::duration(elapsed);
    writeln!(
        to,
        "  {calls} calls in {elapsed}, {workers} worker{plural}, {} together",
        args.chunk
    )?;
    if cfg!(debug_assertions) {
        writeln!(to, "\nThis command is a development build: one with --release is faster.")?;
    }
    Ok(())
}

fn as_json(args: &BenchArgs, latency: &Times, throughput: Throughput) -> Value {
    json!({
        "function": args.function,
        "latency": Histogram(latency).to_json(),
        "throughput": {
            "calls": throughput.calls,
            "seconds": throughput.elapsed.as_secs_f64(),
            "calls_per_second": throughput.per_second(),
            "workers": throughput.workers,
            "chunk": args.chunk,
        },
        "development_build": cfg!(debug_assertions),
    })
}

//! The plots of `docs/performance.md`: what is measured for them.
//!
//! Deliberately absent: how they are drawn, which is `chart`'s affair.

use std::path::Path;

use anyhow::Result;
use stockade_reference::guests;

use crate::chart::{Chart, Line, Scale};
use crate::pools::{self, Pace, Shape, WORKERS};
use crate::remote::part;
use crate::system::copies::Copies;
use crate::system::futex::Futex;
use crate::system::pipe::Pipe;
use crate::system::usage::Usage;
use crate::turns::progress;

/// Tasks that are waited for, one after the other.
const ROUND_TRIPS: usize = 10_000;

/// Measures and draws all of them into `folder`.
///
/// # Errors
/// If a task fails, or the folder cannot be written.
pub(crate) fn draw(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    progress("plot: tasks a second by window");
    windows()?.draw(&folder.join("window.svg"))?;
    progress("plot: latencies");
    latencies()?.draw(&folder.join("latency.svg"))?;
    progress("plot: payloads");
    payloads()?.draw(&folder.join("payload.svg"))?;
    progress("plot: numbers of workers");
    workers(folder)
}

/// The median of three measurements.
fn of_three(mut measure: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut values = [measure()?, measure()?, measure()?];
    Ok(crate::figure::median(&mut values))
}

/// Tasks a second by how many are under way, for one, two and four workers.
fn windows() -> Result<Chart> {
    let mut lines = Vec::new();
    for count in [1, WORKERS, 2 * WORKERS] {
        let pool = pools::realistic()?.max_workers(count).build()?;
        pool.spawn_max_workers()?;
        let mut pace = Pace::default();
        let mut points = Vec::new();
        for power in 0..=12 {
            let shape = Shape { buffer: 1 << power, ..Shape::default() };
            let rate = of_three(|| pace.measure(|tasks| pools::map(&pool, shape, tasks)))?;
            points.push((f64::from(1 << power), rate / 1e3));
        }
        let plural = if count == 1 { "" } else { "s" };
        lines.push(Line { name: format!("{count} worker{plural}"), points });
    }
    Ok(Chart {
        title: "Tasks a second by window",
        x: ("tasks under way (buffer_size)", Scale::Powers),
        y: ("thousand tasks/s", Scale::Even),
        lines,
    })
}

/// How large a share of the round trips took no longer than so long.
fn latencies() -> Result<Chart> {
    let realistic = pools::realistic()?.build()?;
    let noop = pools::pool_of(guests::NOOP)?.build()?;
    let mut pipe = Pipe::start(part("pipe")?)?;
    let mut futex = Futex::start(part("futex")?)?;
    // Once around, so that everything is warm.
    pools::runs(&realistic, "handle", 100)?;
    pools::runs(&noop, "noop", 100)?;
    let all = [
        ("run, realistic guest", pools::runs(&realistic, "handle", ROUND_TRIPS)?),
        ("run, no-op", pools::runs(&noop, "noop", ROUND_TRIPS)?),
        ("pipe", pipe.round_trips(ROUND_TRIPS)?),
        ("futex", futex.round_trips(ROUND_TRIPS)?),
    ];
    let lines = all.into_iter().map(|(name, mut micros)| {
        micros.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| micros[((micros.len() - 1) as f64 * share) as usize];
        let shares = (0..=100).map(|percent| f64::from(percent) / 100.0).chain([0.999]);
        let mut points: Vec<_> = shares.map(|share| (at(share), 100.0 * share)).collect();
        points.sort_unstable_by(|one, other| one.1.total_cmp(&other.1));
        // The longest of all says more about the machine than about what was measured.
        points.retain(|(_, percent)| *percent < 100.0);
        Line { name: name.into(), points }
    });
    Ok(Chart {
        title: "Round trips that take no longer than …",
        x: ("µs", Scale::Powers),
        y: ("% of round trips", Scale::Even),
        lines: lines.collect(),
    })
}

/// Bytes a second to a task and back, by the payload's size, compared with two copies within a process.
fn payloads() -> Result<Chart> {
    let pool = pools::echoing()?;
    let (mut echoed, mut copied) = (Vec::new(), Vec::new());
    for power in (6..=26).step_by(2) {
        let bytes = 1_usize << power;
        let times = ((64 << 20) / bytes).clamp(5, 500);
        let mut copies = Copies::new(bytes);
        // There and back.
        let rate = |micros: f64| 2.0 * bytes as f64 / micros / 1e3;
        echoed.push((bytes as f64, rate(of_three(|| pools::echo_micros(&pool, bytes, times))?)));
        let two = of_three(|| Ok((0..times).map(|_| copies.two_micros()).sum::<f64>()))?;
        copied.push((bytes as f64, rate(two / times as f64)));
    }
    Ok(Chart {
        title: "Payloads to a task and back",
        x: ("bytes each way", Scale::Bytes),
        y: ("GB/s", Scale::Powers),
        lines: vec![
            Line { name: "echo, Vec".into(), points: echoed },
            Line { name: "two memcpys".into(), points: copied },
        ],
    })
}

/// What a task costs, and how many are done, by the number of workers.
fn workers(folder: &Path) -> Result<()> {
    let (mut costs, mut rates) = (Vec::new(), Vec::new());
    for power in 0..=6 {
        let count = 1 << power;
        let pool = pools::realistic()?.max_workers(count).build()?;
        pool.spawn_max_workers()?;
        let mut pace = Pace::default();
        pace.measure(|tasks| pools::map(&pool, Shape::default(), tasks))?;
        let pids: Vec<u32> = pool.workers().iter().map(|worker| worker.pid).collect();
        let used = || Usage::of(pids.iter().copied().chain([std::process::id()]), None);
        let (before, mut done, mut rate) = (used()?, 0, 0.0);
        for _ in 0..3 {
            rate += pace.measure(|tasks| {
                done += tasks;
                pools::map(&pool, Shape::default(), tasks)
            })? / 3.0;
        }
        let seconds = used()?.since(before).cpu_seconds;
        costs.push((count as f64, seconds * 1e6 / done as f64));
        rates.push((count as f64, rate / 1e3));
    }
    Chart {
        title: "Processor time of a task by the number of workers",
        x: ("workers", Scale::Powers),
        y: ("µs a task", Scale::Even),
        lines: vec![Line { name: "host and workers together".into(), points: costs }],
    }
    .draw(&folder.join("cost.svg"))?;
    Chart {
        title: "Tasks a second by the number of workers",
        x: ("workers", Scale::Powers),
        y: ("thousand tasks/s", Scale::Even),
        lines: vec![Line { name: "map".into(), points: rates }],
    }
    .draw(&folder.join("workers.svg"))
}

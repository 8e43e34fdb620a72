//! What the lockdown costs: the same tasks and the same starts with every layer and with none, in
//! turns. And each layer's share of a start.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use stockade::{Layer, Lockdown, Pool, PoolBuilder};

use crate::figure::{self, Figure};
use crate::{WORKERS, first_task_micros, tasks_per_second};

/// Every layer that can be left off, left off.
fn without_any() -> Lockdown {
    Layer::ALL.into_iter().fold(Lockdown::default(), Lockdown::without)
}

/// Measures, `rounds` times each, and prints a table.
pub(crate) fn measure(out: &mut impl Write, module: &Path, rounds: usize) -> Result<()> {
    let builder = |lockdown: &Lockdown| -> PoolBuilder {
        Pool::builder().module(module).max_workers(WORKERS).lockdown(lockdown.clone())
    };
    let (on, off) = (Lockdown::default(), without_any());
    let (locked, open) = (builder(&on).build()?, builder(&off).build()?);
    // Both are warm before either is measured.
    tasks_per_second(&locked, 1)?;
    tasks_per_second(&open, 1)?;
    let figures = [
        Figure::measure(
            "fresh tasks, one a message",
            "tasks/s",
            "without any layer",
            rounds,
            || tasks_per_second(&locked, 1),
            || tasks_per_second(&open, 1),
        )?,
        Figure::measure(
            "fresh tasks, 64 a message",
            "tasks/s",
            "without any layer",
            rounds,
            || tasks_per_second(&locked, 64),
            || tasks_per_second(&open, 64),
        )?,
        Figure::measure(
            "first task of a new worker, median",
            "µs",
            "without any layer",
            rounds,
            || first_task_micros(builder(&on)),
            || first_task_micros(builder(&off)),
        )?,
    ];
    figure::print(out, &figures)?;
    writeln!(out, "\na start costs {:.0} µs more than without any layer", figures[2].difference())?;
    for layer in Layer::ALL.into_iter().filter(|layer| *layer != Layer::Inheritance) {
        let less = Lockdown::default().without(layer);
        let figure = Figure::measure(
            layer.name(),
            "µs",
            "",
            rounds,
            || first_task_micros(builder(&on)),
            || first_task_micros(builder(&less)),
        )?;
        writeln!(out, "  {:18} {:8.0} µs", layer.name(), figure.difference())?;
    }
    Ok(())
}

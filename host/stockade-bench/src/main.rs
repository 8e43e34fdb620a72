//! What a task costs, compared with bare references and other pools, measured in turns.
//!
//! | command | does |
//! |---|---|
//! | `stockade-bench [WHAT] [ROUNDS]` | measures the group WHAT of figures, or `all`, and draws the plots with `all` |
//! | `stockade-bench plots` | draws the plots alone |
//! | `stockade-bench page PAGE [ROUNDS]` | as `all`, and puts table and plots into the documentation |
//! | `stockade-bench lockdown [ROUNDS]` | what the lockdown costs |
//! | `stockade-bench queries` | how long counters, queries and cancels take behind a long queue |
//!
//! ```text
//! groups ─► turns ─► pools            Stockade, through its public interface
//!             │  ├─► remote, peers    programs that answer with numbers: bare engines, other pools
//!             │  └─► system           pipes, futexes, processes, copies, /proc
//!             └─► figure ─► table     and chart ◄─ plots
//! ```
//!
//! Figures go to `bench.jsonl` in the target directory, a JSON object a line, and plots to its folder
//! `bench`. Every value is measured close to its reference, see `turns`, so a machine whose speed
//! drifts moves both. A round waits until the machine has little else to do, and what ran at the same time as other
//! work all the same is told; no figure is a test.

mod figure;
mod groups;
mod rows;
mod turns;

mod lines;
mod pools;

mod parts;
mod peers;
mod remote;
mod system;

mod chart;
mod plots;
mod table;

mod lockdown;
mod queries;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use turns::progress;

/// Rounds, unless others are asked for.
const ROUNDS: usize = 7;

/// Turns of the lockdown's figures, which are short.
const LOCKDOWN_TURNS: usize = 30;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["part", name] => parts::run(name),
        ["queries"] => queries::measure(&mut std::io::stdout().lock()),
        ["lockdown", ref rest @ ..] => {
            lockdown::measure(&mut std::io::stdout().lock(), number(rest, LOCKDOWN_TURNS)?)
        }
        ["plots"] => plots::draw(&target()?.join("bench")),
        ["page", page, ref rest @ ..] => all(number(rest, ROUNDS)?, Some(Path::new(page))),
        [] => all(ROUNDS, None),
        ["all", ref rest @ ..] => all(number(rest, ROUNDS)?, None),
        [what, ref rest @ ..] => {
            let Some((_, measure)) = groups::find(what) else {
                let names: Vec<_> = groups::ALL.iter().map(|(name, _)| *name).collect();
                bail!("no group is called `{what}`: all, {}, plots, lockdown", names.join(", "));
            };
            let rounds = number(rest, ROUNDS)?;
            report(&measure(rounds)?, rounds)
        }
    }
}

fn number(args: &[&str], otherwise: usize) -> Result<usize> {
    match args {
        [] => Ok(otherwise),
        [number] => number.parse().ok().filter(|number| *number > 0).context("ROUNDS is a number"),
        _ => bail!("too many arguments"),
    }
}

/// The folder that everything is built in.
fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(2).context("this program is in no folder")?.to_owned())
}

/// Every group, and the plots; into the documentation too where there is a `page`.
fn all(rounds: usize, page: Option<&Path>) -> Result<()> {
    let mut figures = Vec::new();
    for (_, measure) in &groups::ALL {
        figures.append(&mut measure(rounds)?);
    }
    report(&figures, rounds)?;
    let plots = match page {
        Some(page) => {
            let remark = system::quiet::remark().map(|remark| format!(" {remark}."));
            let machine = system::usage::machine();
            let whence = format!("{rounds} rounds on {machine}.{}", remark.unwrap_or_default());
            table::write_page(page, &figures, &whence)?;
            page.parent().context("the page is in no folder")?.join("performance")
        }
        None => target()?.join("bench"),
    };
    plots::draw(&plots)?;
    progress(&format!("plots are in {}", plots.display()));
    Ok(())
}

fn report(figures: &[figure::Figure], rounds: usize) -> Result<()> {
    let file = target()?.join("bench.jsonl");
    table::write_lines(&file, figures)?;
    let mut out = std::io::stdout().lock();
    table::print(&mut out, figures)?;
    let machine = system::usage::machine();
    writeln!(out, "{rounds} rounds on {machine}; written to {}", file.display())?;
    if let Some(remark) = system::quiet::remark() {
        writeln!(out, "{remark}")?;
    }
    Ok(())
}

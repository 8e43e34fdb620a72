//! Programs that others made and publish: each is fetched, run by the command, and held against what
//! it did under wasmtime.
//!
//! ```text
//! packages.jsonl ─► Fetcher ─► target/real-programs/PACKAGE, or why it is not there
//!                                  │
//! programs.jsonl ─► chains ─► Trials, as many threads as processors ─► Trial ─► Report
//! ```
//!
//! `real-programs [all | small | NAME ...] [--program STOCKADE]`. NAME is a program's, its chain's or
//! its package's. Prints each program as it ends and all of them in a table, and exits with 1 if one
//! does anything else than is recorded. A package that cannot be fetched is left out, and that is said;
//! one whose hash is another is an error before anything runs.
//!
//! A program runs as a user would run it: `stockade run`, with the inputs as `/in` and a folder of its
//! own as `/made`. Compiled modules are kept in `target/real-programs/cache`.
//!
//! Deliberately absent: how what is recorded was recorded (`reference.py`).

mod adapter;
mod fetch;
#[cfg(test)]
mod page;
mod report;
mod table;
mod trial;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use fetch::{Fetched, Fetcher};
use report::{Ended, Report};
use table::{Package, Program, packages, programs, repository};
use trial::Trial;

/// A module above this size is compiled alone among those of its kind: two at once may need more memory
/// than there is.
const LARGE_BYTES: u64 = 20 << 20;

/// What is to be run, and by what.
struct Options {
    names: Vec<String>,
    only_small: bool,
    stockade: PathBuf,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse(std::env::args().skip(1))?;
    let packages = packages();
    let programs = programs();
    let chosen: Vec<_> =
        programs.iter().filter(|program| options.wants(program, &packages)).collect();
    ensure!(!chosen.is_empty(), "there is no program {}", options.names.join(", "));

    let home = repository().join("target/real-programs");
    let folders = fetch_all(&Fetcher::new(&home), &packages, &chosen)?;
    let mut report = Report::new(chosen.len());
    let (ended, endings) = mpsc::channel();
    let chains = Mutex::new(chains_of(&chosen));
    let large = Mutex::new(());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (ended, chains, large) = (ended.clone(), &chains, &large);
            let (folders, home, stockade) = (&folders, &home, &options.stockade);
            scope.spawn(move || {
                // Taken in a statement of its own, so that the lock is not held while a chain runs.
                let next = || chains.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                while let Some(chain) = next() {
                    run_chain(&chain, folders, home, stockade, large, &ended);
                }
            });
        }
        drop(ended);
        for (program, ending) in endings {
            report.add(program, ending);
        }
    });
    let left_out = programs.len() - chosen.len();
    report.finish(&programs, left_out);
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut names = Vec::new();
        let mut only_small = false;
        let mut stockade = repository().join("target/debug/stockade");
        let mut arguments = arguments.filter(|argument| !argument.is_empty());
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "all" => {}
                "small" => only_small = true,
                "--program" => {
                    stockade =
                        arguments.next().context("--program needs the path of stockade")?.into();
                }
                option if option.starts_with('-') => bail!("there is no option {option}"),
                _ => names.push(argument),
            }
        }
        let stockade = stockade
            .canonicalize()
            .with_context(|| format!("no command {}: `just build` makes it", stockade.display()))?;
        Ok(Self { names, only_small, stockade })
    }

    fn wants(&self, program: &Program, packages: &[Package]) -> bool {
        let package = packages.iter().find(|package| package.name == program.package);
        let is_named = self.names.is_empty()
            || self.names.iter().any(|name| {
                *name == program.name
                    || *name == program.package
                    || program.chain.as_ref() == Some(name)
            });
        is_named && (!self.only_small || package.is_some_and(|package| package.small))
    }
}

/// The folder of each package that a chosen program is in, or why there is none.
fn fetch_all<'a>(
    fetcher: &Fetcher,
    packages: &'a [Package],
    chosen: &[&Program],
) -> Result<BTreeMap<&'a str, Fetched>> {
    let mut folders = BTreeMap::new();
    for package in packages {
        if chosen.iter().any(|program| program.package == package.name) {
            folders.insert(package.name.as_str(), fetcher.fetch(package)?);
        }
    }
    Ok(folders)
}

/// Programs that have to run after each other, those with the most to do first.
fn chains_of<'a>(chosen: &[&'a Program]) -> VecDeque<Vec<&'a Program>> {
    let mut chains: VecDeque<Vec<&Program>> = VecDeque::new();
    for program in chosen {
        let known = chains.iter_mut().find(|chain| {
            program.chain.is_some()
                && chain.first().is_some_and(|first| first.chain == program.chain)
        });
        match known {
            Some(chain) => chain.push(program),
            None => chains.push_back(vec![program]),
        }
    }
    // The table has the packages with large modules last.
    chains.into_iter().rev().collect()
}

fn run_chain<'a>(
    chain: &[&'a Program],
    folders: &BTreeMap<&str, Fetched>,
    home: &Path,
    stockade: &Path,
    large: &Mutex<()>,
    ended: &mpsc::Sender<(&'a Program, Ended)>,
) {
    let name = chain[0].chain.as_ref().unwrap_or(&chain[0].name);
    let work = home.join("work").join(name);
    let mut broken: Option<&str> = None;
    for (index, program) in chain.iter().enumerate() {
        let ending = match (&folders[program.package.as_str()], broken) {
            (Fetched::Not(why), _) => Ended::LeftOut(why.clone()),
            (_, Some(before)) => Ended::LeftOut(format!("it takes what {before} makes")),
            (Fetched::At(package), None) => {
                let trial = Trial { program, package, work: &work, home, stockade };
                let is_large = trial.module_bytes() > LARGE_BYTES;
                let turn = is_large.then(|| large.lock().unwrap_or_else(PoisonError::into_inner));
                let ending = trial.run(index == 0);
                drop(turn);
                ending
            }
        };
        if !matches!(ending, Ended::AsRecorded { .. }) {
            broken = Some(&program.name);
        }
        // The receiver is there until all senders are gone.
        let _ = ended.send((program, ending));
    }
}

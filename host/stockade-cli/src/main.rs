//! The `stockade` command: functions of untrusted WebAssembly modules, run in a pool of
//! processes of their own.
//!
//! ```text
//! args ──► setup ──► Pool ──► run ──────► output ──► stdout, FILE
//!                    │        ├ command ► pipes ───► stdout, stderr
//!                    │        └ map ────► records ─► stdout
//!                    └──────► Error ────► stderr, Exit
//! ```
//!
//! This one file is both the command and the program of its own workers: its `main` begins by
//! asking which of them it is.
//!
//! Invariant: whatever a guest says reaches a terminal with its control characters escaped.
//!
//! Deliberately absent: anything that decides about tasks or workers, which is the library's to do.
#![forbid(unsafe_code)]

mod args;
mod settings;
mod values;

mod setup;
mod target;

mod arguments;
mod bench;
mod build;
mod cache;
mod command;
mod doctor;
mod inspect;
mod map;
mod new;
mod pages;
mod replay;
mod run;

mod located;
mod observe;
mod output;
mod report;
mod table;
mod warnings;

mod escape;
mod json;
mod machine;

mod advice;
mod error;
mod exit;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use args::{Cli, Subcommand};
use map::identity::Said;

fn main() -> ExitCode {
    stockade_worker::run_if_worker();
    warnings::show();
    let ended = parsed().and_then(|command| match command {
        Subcommand::New(args) => new::run(&args),
        Subcommand::Build(args) => build::run(&args),
        Subcommand::Run(args) => run::run(&args),
        Subcommand::Map(args) => map::run(&args),
        Subcommand::Replay(args) => replay::run(&args),
        Subcommand::Inspect(args) => inspect::run(&args),
        Subcommand::Bench(args) => bench::run(&args),
        Subcommand::Doctor(args) => doctor::run(&args),
        Subcommand::Cache(args) => cache::run(&args),
        Subcommand::Completions(args) => pages::completions(&args),
        Subcommand::Man(args) => pages::man(&args),
    });
    let exit = ended.unwrap_or_else(|error| {
        error.print();
        error.exit()
    });
    ExitCode::from(exit.code())
}

/// What the command line asks for, with what is said elsewhere. Ends the process where that is help,
/// or no command.
fn parsed() -> Result<Subcommand, error::Error> {
    let words: Vec<_> = std::env::args_os().collect();
    let command = settings::apply(Cli::command(), &words)?;
    let matches = command.clone().get_matches_from(words);
    let mut parsed = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()).command;
    if let (Subcommand::Map(args), Some((name, matches))) = (&mut parsed, matches.subcommand())
        && let Some(command) = command.find_subcommand(name)
    {
        args.said = Said::of(command, matches);
    }
    Ok(parsed)
}

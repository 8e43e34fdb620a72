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
//! Invariant: text of a guest reaches a terminal only with its control characters escaped.
//!
//! Deliberately absent: anything that decides about tasks or workers, which is the library's to do.

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
mod times;
mod warnings;

mod aside;
mod inputs;
mod streams;

mod escape;
mod json;
mod machine;

mod advice;
mod error;
mod exit;
mod floats;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches};

use args::{Cli, Subcommand};
use error::Error;
use exit::Exit;
use map::identity::Said;

fn main() -> ExitCode {
    stockade_worker::run_if_worker();
    // A write beyond the limit on files (`ulimit -f`) is an error then, and not the end of this process.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    warnings::show();
    let ended = parsed().and_then(|parsed| match parsed {
        Err(told) => Ok(told),
        Ok(command) => run(command),
    });
    let exit = ended.unwrap_or_else(|error| {
        error.print();
        error.exit()
    });
    ExitCode::from(exit.code())
}

fn run(command: Subcommand) -> Result<Exit, Error> {
    // These two may write elsewhere, and the manual is no answer.
    if !matches!(command, Subcommand::Run(_) | Subcommand::Map(_) | Subcommand::Man(_)) {
        streams::check_stdout()?;
    }
    match command {
        Subcommand::New(args) => new::run(&args),
        Subcommand::Build(args) => build::run(&args),
        Subcommand::Run(args) => run::run(&args),
        Subcommand::Map(args) => map::run(args),
        Subcommand::Replay(args) => replay::run(&args),
        Subcommand::Inspect(args) => inspect::run(&args),
        Subcommand::Bench(args) => bench::run(&args),
        Subcommand::Doctor(args) => doctor::run(&args),
        Subcommand::Cache(args) => cache::run(&args),
        Subcommand::Completions(args) => pages::completions(&args),
        Subcommand::Man(args) => pages::man(&args),
    }
}

/// What the command line asks for, with what is said elsewhere; or how the command ends where that is
/// help, or makes no sense, and has been told.
///
/// # Errors
/// Settings that cannot be used, and help that cannot be written.
fn parsed() -> Result<Result<Subcommand, Exit>, Error> {
    let words: Vec<_> = std::env::args_os().collect();
    let command = settings::apply(Cli::command(), &words)?;
    let parsed = command.clone().try_get_matches_from(words);
    match parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?.command, matches))) {
        Ok((mut parsed, matches)) => {
            if let (Subcommand::Map(args), Some((name, matches))) =
                (&mut parsed, matches.subcommand())
                && let Some(command) = command.find_subcommand(name)
            {
                args.said = Said::of(command, matches);
            }
            Ok(Ok(parsed))
        }
        Err(error) if error.use_stderr() => {
            streams::say(|to| write!(to, "{}", error.render().ansi()));
            Ok(Err(Exit::Usage))
        }
        Err(help) => {
            streams::print(|to| write!(to, "{}", help.render().ansi()))?;
            Ok(Err(Exit::Success))
        }
    }
}

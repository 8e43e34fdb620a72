//! `stockade completions` and `stockade man`: the command line as shells and manuals want it.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::Error;
use crate::exit::{self, Exit};
use crate::output;

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  stockade completions bash > ~/.local/share/bash-completion/completions/stockade
  stockade completions zsh > ~/.zfunc/_stockade           with fpath+=~/.zfunc before compinit
  stockade completions fish > ~/.config/fish/completions/stockade.fish
";

/// Print completions of this command for a shell
#[derive(Debug, Args)]
#[command(after_help = format!("{COMPLETIONS_EXAMPLES}\n{}", exit::HELP))]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

const MAN_EXAMPLES: &str = "\
Examples:
  stockade man ~/.local/share/man/man1 && man stockade-map
";

/// Write the pages of the manual, one for each command
#[derive(Debug, Args)]
#[command(after_help = format!("{MAN_EXAMPLES}\n{}", exit::HELP))]
pub(crate) struct ManArgs {
    /// The directory to write to, which is made where there is none
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Prints completions.
///
/// # Errors
/// A stdout that cannot be written.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<Exit, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "stockade", &mut script);
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(&script).and_then(|()| stdout.flush());
    written.map_err(|error| output::failed(&error)).map(|()| Exit::Success)
}

/// Writes the manual.
///
/// # Errors
/// A directory that cannot be written.
pub(crate) fn man(args: &ManArgs) -> Result<Exit, Error> {
    let directory = &args.directory;
    let written = fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory));
    written.map_err(|error| {
        Error::new(Exit::Output, format!("cannot write to {}", directory.display())).cause(&error)
    })?;
    let shown = format!(
        "wrote the manual to {}: man -l {}\n",
        directory.display(),
        directory.join("stockade.1").display()
    );
    let written = std::io::stdout().lock().write_all(shown.as_bytes());
    written.map_err(|error| output::failed(&error)).map(|()| Exit::Success)
}

//! `stockade completions` and `stockade man`: the command line as shells and manuals want it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::Error;
use crate::exit::{self, Exit};
use crate::{aside, streams};

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
    /// The directory to write to, which is created if missing
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
    streams::print(|to| to.write_all(&script)).map(|()| Exit::Success)
}

/// Writes the manual.
///
/// # Errors
/// A directory that cannot be written.
pub(crate) fn man(args: &ManArgs) -> Result<Exit, Error> {
    let directory = &args.directory;
    let written = fs::create_dir_all(directory).and_then(|()| {
        // Built, as for `--help`: else subcommands lack what they inherit.
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        pages(&command, directory)
    });
    written.map_err(|error| {
        Error::new(Exit::Output, format!("cannot write to {}", directory.display())).cause(&error)
    })?;
    let shown = format!(
        "wrote the manual to {}: man -l {}\n",
        directory.display(),
        directory.join("stockade.1").display()
    );
    streams::print(|to| to.write_all(shown.as_bytes())).map(|()| Exit::Success)
}

/// Writes the pages of a command and of all below it.
fn pages(command: &Command, directory: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        pages(below, directory)?;
    }
    let page = clap_mangen::Man::new(command.clone());
    let mut text = Vec::new();
    page.render(&mut text)?;
    aside::write(&directory.join(page.get_filename()), &text)
}

//! Settings: options that stand in the environment or in a file rather than on the command line.
//!
//! ```text
//! STOCKADE_MEMORY=1GiB ──────────────────╮ first
//! stockade.toml, [map], memory = "1GiB" ─┤        Setting ──► checked ──► the option's default
//! stockade.toml, memory = "512MiB" ──────╯ last                             │
//!                                             what the command line says ───┴──► the option's value
//! ```
//!
//! A setting becomes the default of its option, so that the command line outweighs it, help shows it,
//! and nothing behind the parser can tell the difference.
//!
//! Invariant: a file that was found, not named, grants nothing and says nothing of where to write: it
//! may have come with the very folder whose module is not trusted.

mod file;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};

use crate::error::Error;
use crate::exit::Exit;

use file::File;

/// What every help says of it.
pub(crate) const HELP: &str = "\
Settings:
  Every option can also be set in the environment, as in STOCKADE_WALL_TIME=5s, or in the nearest
  stockade.toml upwards from here: wall-time = \"5s\" for every command that has the option, or
  below [map] for that one. The command line comes before the environment, and that before the
  file. Several values are a list in the file, and lines in the environment. --config or
  STOCKADE_CONFIG name a file. A file that is only found may not grant anything, nor name files to
  read or write, since it may have come with the module.
";

/// What the names of settings in the environment begin with.
const PREFIX: &str = "STOCKADE_";

/// How alike two names are that one is a misspelling of the other, where 1 is the same name.
const NEAR: f64 = 0.6;

/// Variables that are no options: the file of settings, the library's worker program, and what tests
/// are told.
const OTHERS: [&str; 7] = [
    "STOCKADE_CONFIG",
    "STOCKADE_LANGUAGES",
    "STOCKADE_SCHEDULES",
    "STOCKADE_SEED",
    "STOCKADE_SEEDS",
    "STOCKADE_UPDATE",
    "STOCKADE_WORKER",
];

/// Options that a file which was only found may set: what confines a task, and how input is read and
/// output shown. Not what is granted, nor any name of a file; one that is new here is refused.
const HARMLESS: &[&str] = &[
    "args",
    "cache",
    "chunk",
    "compile-memory",
    "compile-threads",
    "compile-time",
    "compile-wall-time",
    "compiled-size",
    "csv-text",
    "deterministic",
    "delimiter",
    "entry",
    "extension",
    "files",
    "fuel",
    "input",
    "instances",
    "interruptible",
    "item",
    "json",
    "memory",
    "module-size",
    "ok-codes",
    "on-error",
    "output-limit",
    "placeholder",
    "plain",
    "program",
    "report",
    "require",
    "retries",
    "seed",
    "stdio-limit",
    "stdout",
    "summary",
    "table-elements",
    "time",
    "top",
    "unknown-imports",
    "unordered",
    "wall-time",
    "workers",
];

/// One option's values, and where they were said.
#[derive(Clone, Debug, PartialEq)]
struct Setting {
    origin: String,
    values: Vec<String>,
}

/// `command` with the settings of the subcommand that `words` name as defaults.
///
/// # Errors
/// A file that cannot be read or holds something else than settings, and values that the option would
/// not take.
pub(crate) fn apply(command: Command, words: &[OsString]) -> Result<Command, Error> {
    let before = words.iter().take_while(|word| *word != "--");
    let asks_help =
        |word: &OsString| ["-h", "--help", "-V", "--version"].map(OsStr::new).contains(&&**word);
    let is_subcommand = |word: &&OsString| command.find_subcommand(word).is_some();
    let Some(name) = before.clone().skip(1).find(is_subcommand).and_then(|word| word.to_str())
    else {
        return Ok(command);
    };
    // Help must work with a file that is wrong, because it says how to write one.
    if before.clone().any(asks_help) {
        return Ok(command);
    }
    let (path, named) = match named_file(before.cloned()) {
        Some(path) => (Some(path), true),
        None => (file::find()?, false),
    };
    // Set once: a process has one command line.
    let path = path.inspect(|path| _ = USED.set(path.clone()));
    let file = path.map(|path| File::read(path, named, &command)).transpose()?;
    warn_of_misspelt(&command);
    let subcommand = command.find_subcommand(name).cloned().unwrap_or_default();
    let mut defaults = Vec::new();
    for arg in subcommand.get_arguments().filter(|arg| is_settable(arg)) {
        let Some(long) = arg.get_long() else { continue };
        let in_file = || file.as_ref().and_then(|file| file.setting(name, long));
        let Some(setting) = from_environment(arg, long).or_else(in_file) else { continue };
        let values = check(&command, name, arg, long, &setting)?;
        defaults.push((arg.get_id().clone(), values));
    }
    Ok(command.mut_subcommand(name, |mut subcommand| {
        for (id, values) in defaults {
            // clap keeps defaults as long as the program runs, and so does this.
            let values = values.into_iter().map(|value| &*Box::leak(value.into_boxed_str()));
            let values: Vec<&'static str> = values.collect();
            subcommand = subcommand.mut_arg(id, |arg| arg.default_values(values));
        }
        subcommand
    }))
}

/// The file whose settings were taken.
static USED: OnceLock<PathBuf> = OnceLock::new();

/// The file whose settings count in this run, if there is one.
pub(crate) fn used() -> Option<&'static Path> {
    USED.get().map(PathBuf::as_path)
}

/// The file whose settings count where none is named, if there is one.
pub(crate) fn found() -> Option<PathBuf> {
    file::find().ok().flatten()
}

/// Whether an option may be set anywhere else than on the command line.
fn is_settable(arg: &Arg) -> bool {
    arg.get_long().is_some_and(|long| !["help", "version", "config"].contains(&long))
}

/// The file that the command line or the environment names.
fn named_file(words: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let mut words = words.skip(1);
    while let Some(word) = words.next() {
        if word == "--config" {
            return words.next().map(PathBuf::from);
        }
        if let Some(path) = word.to_str().and_then(|word| word.strip_prefix("--config=")) {
            return Some(path.into());
        }
    }
    std::env::var_os("STOCKADE_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The variable that an option is set by.
fn variable(long: &str) -> String {
    format!("{PREFIX}{}", long.replace('-', "_").to_uppercase())
}

/// Says which variables are misspelt settings: a limit whose name is misspelt does not hold.
fn warn_of_misspelt(command: &Command) {
    let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for (name, nearest) in misspelt(command, variables) {
        tracing::warn!("{name} is not a setting, and is ignored; did you mean {nearest}?");
    }
}

/// Variables that name no option of any command, and nearly do, with that option's. What is like none
/// is for other programs.
fn misspelt(command: &Command, variables: impl Iterator<Item = String>) -> Vec<(String, String)> {
    let commands = command.get_subcommands();
    let options = commands.flat_map(Command::get_arguments).filter(|arg| is_settable(arg));
    let mut known: Vec<_> = options.filter_map(|arg| arg.get_long()).map(variable).collect();
    known.extend(OTHERS.map(String::from));
    let is_meant = |name: &String| name.to_uppercase().starts_with(PREFIX) && !known.contains(name);
    let mut unknown: Vec<_> = variables.filter(is_meant).collect();
    unknown.sort_unstable();
    let own = |name: &str| name.to_uppercase()[PREFIX.len()..].to_string();
    let nearest = |name: String| {
        let score = |known: &str| strsim::normalized_damerau_levenshtein(&own(known), &own(&name));
        let scored = known.iter().map(|known| (score(known), known));
        let best = scored.max_by(|(one, _), (other, _)| one.total_cmp(other));
        let near = best.filter(|(score, _)| *score > NEAR).map(|(_, known)| known.clone());
        near.map(|known| (name, known))
    };
    unknown.into_iter().filter_map(nearest).collect()
}

fn from_environment(arg: &Arg, long: &str) -> Option<Setting> {
    let name = variable(long);
    let text = std::env::var_os(&name)?.to_string_lossy().into_owned();
    let values = match arg.get_action() {
        ArgAction::Append => text.lines().map(str::to_string).collect(),
        _ => vec![text],
    };
    // An empty variable is as good as none: some shells cannot unset one.
    let is_empty = values.iter().all(String::is_empty);
    (!is_empty).then_some(Setting { origin: name, values })
}

/// The values as the option takes them.
///
/// # Errors
/// One that it would not take.
fn check(
    command: &Command,
    name: &str,
    arg: &Arg,
    long: &str,
    setting: &Setting,
) -> Result<Vec<String>, Error> {
    let refused = |cause: String| {
        let message = format!("{}: cannot use `{long}`", setting.origin);
        Err(Error::new(Exit::Usage, message).because(cause))
    };
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match setting.values.as_slice() {
            [value] => match value.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Ok(vec!["true".into()]),
                "false" | "0" | "no" | "off" => Ok(vec!["false".into()]),
                _ => refused(format!("it must be true or false, not {value:?}")),
            },
            _ => refused("it must be true or false".into()),
        };
    }
    if !matches!(arg.get_action(), ArgAction::Append) && setting.values.len() != 1 {
        return refused("it takes one value, not a list".into());
    }
    for value in &setting.values {
        let words = [command.get_name(), name, &format!("--{long}={value}")].map(String::from);
        match command.clone().try_get_matches_from(words) {
            Err(error) if concerns_value(error.kind()) => {
                let text = error.render().to_string();
                let text = text.split("\n\nFor more").next().unwrap_or(&text);
                return refused(text.trim_start_matches("error: ").to_string());
            }
            // What else is missing is not this setting's affair.
            _ => {}
        }
    }
    Ok(setting.values.clone())
}

fn concerns_value(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::InvalidValue
            | ErrorKind::ValueValidation
            | ErrorKind::InvalidUtf8
            | ErrorKind::WrongNumberOfValues
            | ErrorKind::TooManyValues
            | ErrorKind::TooFewValues
    )
}

/// Whether a file that was found may set this option.
fn is_harmless(long: &str) -> bool {
    HARMLESS.contains(&long)
}

/// A path in a file, which is relative to where the file is.
fn beside(file: &Path, path: &str) -> String {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        Some(folder) if path != "-" => folder.join(path).to_string_lossy().into_owned(),
        _ => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn misspelt_variables_are_told_with_the_option_that_was_meant() {
        let names = [
            "STOCKADE_WALL_TIME",
            "STOCKADE_WORKER",
            "STOCKADE_GRANT_DIR",
            "HOME",
            "STOCKADE_MEMMORY",
            "STOCKADE_WALLTIME",
            "STOCKADE_wall_time",
            "STOCKADE_ZZZ",
        ];
        let found = misspelt(&Cli::command(), names.map(String::from).into_iter());
        let found: Vec<_> =
            found.iter().map(|(name, near)| (name.as_str(), near.as_str())).collect();
        assert_eq!(
            found,
            [
                ("STOCKADE_MEMMORY", "STOCKADE_MEMORY"),
                ("STOCKADE_WALLTIME", "STOCKADE_WALL_TIME"),
                ("STOCKADE_wall_time", "STOCKADE_WALL_TIME"),
            ]
        );
    }
}

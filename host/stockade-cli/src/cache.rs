//! `stockade cache`: what `--cache` has kept, whether it would be used, and its end.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use stockade::{BuildError, Cache, CacheEntry, CacheError};

use crate::error::Error;
use crate::exit::{self, Exit};
use crate::table::{Align, table};
use crate::{escape, json, report, streams};

const EXAMPLES: &str = "\
Examples:
  stockade cache list --cache ~/.cache/stockade
  stockade cache verify --cache ~/.cache/stockade || stockade cache clear --cache ~/.cache/stockade

If a stockade.toml or STOCKADE_CACHE names the directory, `--cache` is not needed. A damaged
entry is never used: its module is compiled again.
";

/// List, verify or remove the compiled modules that `--cache` keeps
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n{}", exit::HELP))]
pub(crate) struct CacheArgs {
    /// What to do
    #[arg(value_enum, value_name = "ACTION")]
    action: Action,

    /// The directory of the cache
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Show every entry, the last used one at the end
    List,
    /// Read every entry, and fail if one is damaged
    Verify,
    /// Remove every entry
    Clear,
}

/// Runs `stockade cache`.
///
/// # Errors
/// If the directory is missing or not safe, and with `verify` if an entry is damaged.
pub(crate) fn run(args: &CacheArgs) -> Result<Exit, Error> {
    let Some(directory) = &args.cache else {
        return Err(Error::new(Exit::Usage, "no cache is named").help(
            "name its directory: --cache DIR, STOCKADE_CACHE, or `cache` in a stockade.toml",
        ));
    };
    if !directory.is_dir() {
        let message = format!("there is no cache in {}", directory.display());
        return Err(Error::new(Exit::Missing, message)
            .help("`stockade run --cache DIR` makes one, and keeps its compiled module there"));
    }
    let cache = Cache::in_directory(directory);
    let stdout = &mut Vec::new();
    let (written, exit) = match args.action {
        Action::List => {
            let entries = cache.entries().map_err(unusable)?;
            (list(stdout, args, directory, &entries), Exit::Success)
        }
        Action::Verify => {
            let checks = cache.verify().map_err(unusable)?;
            let checks: Vec<_> =
                checks.into_iter().map(|check| (check.entry, check.problem)).collect();
            let wrong = checks.iter().any(|(_, problem)| problem.is_some());
            let exit = if wrong { Exit::SomeFailed } else { Exit::Success };
            (verified(stdout, args, directory, &checks), exit)
        }
        Action::Clear => {
            let removed = cache.clear().map_err(unusable)?;
            let written = match args.json {
                true => writeln!(stdout, "{}", json!({ "removed": removed })),
                false => writeln!(stdout, "removed {}", entries_of(removed)),
            };
            (written, Exit::Success)
        }
    };
    let printed = written.map_err(|error| streams::failed(&error));
    printed.and_then(|()| streams::print(|to| to.write_all(stdout))).map(|()| exit)
}

fn unusable(error: CacheError) -> Error {
    BuildError::Cache(error).into()
}

fn list(
    to: &mut dyn Write,
    args: &CacheArgs,
    directory: &Path,
    entries: &[CacheEntry],
) -> io::Result<()> {
    if args.json {
        let entries: Vec<_> = entries.iter().map(entry_json).collect();
        let value = json!({ "directory": directory, "entries": entries });
        return writeln!(to, "{}", json::text(&value));
    }
    let rows = entries.iter().map(|entry| row(entry, ""));
    write!(to, "{}", table([Align::Left, Align::Right, Align::Left, Align::Left], rows))?;
    writeln!(to, "{}", total(directory, entries.iter()))
}

fn verified(
    to: &mut dyn Write,
    args: &CacheArgs,
    directory: &Path,
    checks: &[(CacheEntry, Option<String>)],
) -> io::Result<()> {
    if args.json {
        let entries = checks.iter().map(|(entry, problem)| {
            let mut value = entry_json(entry);
            value["problem"] = json!(problem);
            value
        });
        let value = json!({ "directory": directory, "entries": entries.collect::<Vec<_>>() });
        return writeln!(to, "{}", json::text(&value));
    }
    let rows = checks.iter().map(|(entry, problem)| row(entry, problem.as_deref().unwrap_or("ok")));
    write!(to, "{}", table([Align::Left, Align::Right, Align::Left, Align::Left], rows))?;
    writeln!(to, "{}", total(directory, checks.iter().map(|(entry, _)| entry)))?;
    match checks.iter().filter(|(_, problem)| problem.is_some()).count() {
        0 => Ok(()),
        wrong => writeln!(
            to,
            "{} not used, and replaced when its module is next built",
            entries_of(wrong)
        ),
    }
}

fn row(entry: &CacheEntry, more: &str) -> [String; 4] {
    let name = escape::line(&entry.name);
    [name, report::size(entry.bytes), ago(entry.last_used), escape::line(more)]
}

fn total<'a>(directory: &Path, entries: impl Iterator<Item = &'a CacheEntry>) -> String {
    let (mut count, mut bytes) = (0, 0);
    for entry in entries {
        count += 1;
        bytes += entry.bytes;
    }
    format!("{} in {}, {}", entries_of(count), directory.display(), report::size(bytes))
}

fn entries_of(count: usize) -> String {
    format!("{count} {}", if count == 1 { "entry" } else { "entries" })
}

fn entry_json(entry: &CacheEntry) -> Value {
    let since = entry.last_used.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    json!({ "name": entry.name, "bytes": entry.bytes, "last_used_unix": since.as_secs() })
}

fn ago(time: SystemTime) -> String {
    written_ago(time.elapsed().unwrap_or_default())
}

fn written_ago(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match seconds {
        0..60 => "just now".into(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_ago_is_told_in_the_unit_that_suits_it() {
        let told = [59, 60, 7200, 200_000].map(|secs| written_ago(Duration::from_secs(secs)));
        assert_eq!(told, ["just now", "1 min ago", "2 h ago", "2 days ago"]);
    }
}

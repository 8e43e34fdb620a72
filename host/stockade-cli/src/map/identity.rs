//! Identity: everything of a map that affects its results, so that one output never holds the
//! results of two maps.
//!
//! ```text
//! command line, environment, stockade.toml ─► Said ─┐
//! what options name: files, variables, folders ─────┼─► of ─► a line of the state ─► differences
//! module, function, input ──────────────────────────┘
//! ```
//!
//! Invariant: a new option affects results, unless it is in [`SHAPES_NOTHING`].
//!
//! Deliberately absent: the contents of granted directories, which may be too much to read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command};
use serde_json::{Map, Value, json};

use super::program::Plan;
use crate::args::MapArgs;
use crate::error::Error;
use crate::exit::Exit;
use crate::values::Given;

/// Options of `map` that do not affect results: about speed, other outputs, and resuming.
const SHAPES_NOTHING: &[&str] = &[
    "anew",
    "cache",
    "chunk",
    "compile-memory",
    "compile-threads",
    "compile-time",
    "compile-wall-time",
    "compiled-size",
    "config",
    "coredump",
    "help",
    "json",
    "module-size",
    "require",
    "resume",
    "retries",
    "stdio-limit",
    "summary",
    "top",
    "trace",
    "version",
    "workers",
];

/// Options of programs. The [`Plan`] has their effect, if a program is run.
const OF_PROGRAMS: &[&str] =
    &["entry", "item", "ok-codes", "placeholder", "program", "stdin", "stdout"];

/// Longer values are stored as digests.
const SHOWN_BYTES_MAX: usize = 100;

/// The value of each option, from any source, by the option's name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said(BTreeMap<String, Vec<String>>);

impl Said {
    /// The options of `command` in `matches` that affect results.
    pub(crate) fn of(command: &Command, matches: &ArgMatches) -> Self {
        let said = command.get_arguments().filter_map(|arg| {
            let long = arg.get_long().filter(|long| !SHAPES_NOTHING.contains(long))?;
            let values = matches.try_get_raw(arg.get_id().as_str()).ok().flatten()?;
            let values = values.map(|value| value.to_string_lossy().into_owned()).collect();
            Some((long.to_string(), values))
        });
        Self(said.collect())
    }
}

/// Identifies this map: a run that continues it must ask for the same.
///
/// # Errors
/// An input that cannot be read.
pub(crate) fn of(args: &MapArgs, program: Option<&Plan>) -> Result<Value, Error> {
    let input = match args.shape.files {
        true => json!({ "files": args.inputs.len(), "blake3": list_digest(&args.inputs) }),
        false => {
            let path = args.inputs.first().map_or(Path::new("-"), PathBuf::as_path);
            let (bytes, digest) = digest(path).map_err(|error| {
                let message = format!("cannot read the input {}", path.display());
                Error::new(Exit::Missing, message).cause(&error)
            })?;
            json!({ "bytes": bytes, "blake3": digest })
        }
    };
    // Building the pool reports the unreadable one.
    let module = digest(&args.module).map(|(_, digest)| digest).unwrap_or_default();
    Ok(json!({
        "stockade": "map",
        "version": VERSION,
        "function": args.function,
        "module": module,
        "input": input,
        "options": options(args, program),
    }))
}

/// The version of a state's lines.
const VERSION: u64 = 2;

/// Whether `found` begins a state of a map, and one of this version.
pub(crate) fn is_state(found: &Value) -> (bool, bool) {
    (found["stockade"] == "map", found["stockade"] == "map" && found["version"] == VERSION)
}

/// The differences between `wanted` and `found`, a sentence each.
pub(crate) fn differences(found: &Value, wanted: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    if found["input"] != wanted["input"] {
        let size = |input: &Value| match (input["bytes"].as_u64(), input["files"].as_u64()) {
            (Some(bytes), _) => format!("{bytes} bytes"),
            (None, Some(files)) => format!("{files} files"),
            (None, None) => "something else".into(),
        };
        let (was, is) = (size(&found["input"]), size(&wanted["input"]));
        let how = if was == is { "other contents".into() } else { format!("{was}, and has {is}") };
        differences.push(format!("the input has changed: it had {how}"));
    }
    if found["function"] != wanted["function"] {
        let called = |of: &Value| match of["function"].as_str() {
            Some(name) => format!("the function `{name}`"),
            None => "the program".into(),
        };
        let (was, is) = (called(found), called(wanted));
        differences.push(format!("{was} was called for each item, and now {is} is"));
    }
    if found["module"] != wanted["module"] {
        differences.push("the module has changed".into());
    }
    let empty = Map::new();
    let options = |of: &'_ Value| of["options"].as_object().cloned().unwrap_or(empty.clone());
    let (found, wanted) = (options(found), options(wanted));
    let mut names: Vec<_> = found.keys().chain(wanted.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (was, is) = (found.get(name), wanted.get(name));
        if was != is {
            let was = was.map_or("not given".into(), shown);
            let is = is.map_or("not given".into(), shown);
            let name = if name == "ARGV" { name.clone() } else { format!("`--{name}`") };
            differences.push(format!("{name} was {was}, and is {is}"));
        }
    }
    differences
}

fn shown(values: &Value) -> String {
    let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
    let values: Vec<_> = values.iter().filter_map(Value::as_str).map(word).collect();
    values.join(", ")
}

/// A value, in quotes if it looks like none or like several.
fn word(text: &str) -> String {
    let is_plain =
        !text.is_empty() && !text.contains(|c: char| c == ',' || c == '"' || c.is_control());
    if is_plain { text.into() } else { format!("{text:?}") }
}

/// Each option's values in a canonical form: a time in any notation, a file by its content, a
/// variable by a digest of its value.
fn options(args: &MapArgs, program: Option<&Plan>) -> Value {
    let pool = &args.pool;
    let mut options = args.said.0.clone();
    options.retain(|name, _| !OF_PROGRAMS.contains(&name.as_str()));
    let mut set = |name: &str, values: Vec<String>| {
        if let Some(said) = options.get_mut(name) {
            *said = values;
        }
    };
    set("wall-time", vec![pool.wall_time.0.map_or("none".into(), |time| format!("{time:?}"))]);
    // How the module is chosen does not matter.
    set("input", vec![format!("{:?}", args.format).to_lowercase()]);
    set("memory", vec![format!("{} bytes", pool.memory.0)]);
    set("output-limit", vec![format!("{} bytes", pool.output_limit.0)]);
    let directories = pool.grant_dir.iter().map(|grant| {
        let host = grant.host.canonicalize().unwrap_or_else(|_| grant.host.clone());
        let access = if grant.writable { "rw" } else { "ro" };
        format!("{}::{}:{access}", host.display(), grant.guest)
    });
    set("grant-dir", directories.collect());
    let variables = pool.grant_env.iter();
    let variables =
        variables.map(|grant| format!("{} ({})", grant.name, short(grant.value.as_bytes())));
    set("grant-env", variables.collect());
    let init_args = pool.init_arg.iter().map(|given| match given {
        Given::Position(text) => argument(text),
        Given::Name(named) => format!("{}={}", named.name, argument(&named.value)),
    });
    set("init-arg", init_args.collect());
    // The recordings' directory does not affect results, but recording makes tasks deterministic.
    set("record", vec!["true".into()]);
    for (name, values) in program.map(|program| program.identity(&args.program)).unwrap_or_default()
    {
        if !values.is_empty() {
            options.insert(name.into(), values.iter().map(|text| bounded(text)).collect());
        }
    }
    json!(options)
}

/// An argument, with the content of its file.
fn argument(text: &str) -> String {
    match text.strip_prefix('@') {
        Some(path) => {
            let known = digest(Path::new(path));
            let known = known.map_or("unreadable".into(), |(_, digest)| digest[..16].to_string());
            format!("@{path} ({known})")
        }
        None => bounded(text),
    }
}

/// A text as it is, or by its digest.
fn bounded(text: &str) -> String {
    match text.len() > SHOWN_BYTES_MAX {
        true => format!("({})", short(text.as_bytes())),
        false => text.into(),
    }
}

fn short(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_string()
}

fn digest(path: &Path) -> io::Result<(u64, String)> {
    let mut hasher = blake3::Hasher::new();
    let bytes = io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok((bytes, hasher.finalize().to_hex().to_string()))
}

/// Files by their metadata, since reading them all twice would take too long. It includes ctime,
/// which cannot be set back.
fn list_digest(paths: &[PathBuf]) -> String {
    let mut hasher = blake3::Hasher::new();
    for path in paths {
        let name = path.as_os_str().as_bytes();
        let known = path.metadata().map_or([0; 5], |data| {
            let times = [data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec()];
            let [mtime, mtime_nsec, ctime, ctime_nsec] = times.map(|time| time as u64);
            [data.len(), mtime, mtime_nsec, ctime, ctime_nsec]
        });
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name);
        known.iter().for_each(|number| _ = hasher.update(&number.to_le_bytes()));
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;
    use crate::args::{Cli, Subcommand};

    #[test]
    fn what_shapes_nothing_is_an_option_of_map() {
        let command = Cli::command();
        let map = command.find_subcommand("map").unwrap();
        let known: Vec<_> = map.get_arguments().filter_map(|arg| arg.get_long()).collect();
        for name in
            SHAPES_NOTHING.iter().filter(|name| !["config", "help", "version"].contains(name))
        {
            assert!(known.contains(name), "{name}");
        }
    }

    #[test]
    fn every_difference_is_named_and_none_is_made_up() {
        let options_of = |more: &[&str]| {
            let words = ["stockade", "map", "m.wat", "f", "in"].iter().chain(more);
            let command = Cli::command();
            let matches = command.clone().get_matches_from(words);
            let Subcommand::Map(mut args) = Cli::from_arg_matches(&matches).unwrap().command else {
                panic!("a map")
            };
            let map = command.find_subcommand("map").unwrap();
            args.said = Said::of(map, matches.subcommand_matches("map").unwrap());
            let args = args.settled();
            let program = Plan::new(&args).unwrap();
            json!({ "options": options(&args, program.as_ref()) })
        };
        let differences =
            |was: &[&str], is: &[&str]| differences(&options_of(was), &options_of(is));
        let none: [String; 0] = [];
        assert_eq!(differences(&[], &["--wall-time", "60s", "--memory", "256M"]), none);
        assert_eq!(differences(&["--workers", "1"], &["--chunk", "2", "--summary"]), none);
        assert_eq!(differences(&["--record", "a"], &["--record", "b"]), none);
        assert_eq!(differences(&["--init", "a"], &["--init", "b"]), ["`--init` was a, and is b"]);
        assert_eq!(differences(&["--init", "a"], &[]), ["`--init` was a, and is not given"]);
        for (option, value) in [
            ("--init-arg", "n=1"),
            ("--wall-time", "2s"),
            ("--memory", "1MiB"),
            ("--fuel", "5"),
            ("--output-limit", "1MiB"),
            ("--seed", "1"),
            ("--instances", "per-worker"),
            ("--grant-dir", "/::/"),
            ("--grant-env", "A=1"),
            ("--on-error", "skip"),
            ("--input", "csv"),
            ("--features", "gc"),
            ("--unknown-imports", "trap"),
            ("--table-elements", "7"),
            ("--delimiter", ";"),
            ("--output", "other"),
            ("--record", "dir"),
        ] {
            let found = differences(&[], &[option, value]);
            assert_eq!(found.len(), 1, "{option}: {found:?}");
            assert!(found[0].starts_with(&format!("`{option}` was ")), "{found:?}");
        }
        for same in [
            ["--module-size", "1GiB"],
            ["--compile-time", "9m"],
            ["--compile-threads", "2"],
            ["--compile-wall-time", "9m"],
            ["--compile-memory", "1GiB"],
            ["--compiled-size", "2GiB"],
            ["--entry", "of-the-settings"],
        ] {
            assert_eq!(differences(&[], &same), none, "{same:?}");
        }
        for flag in ["--deterministic", "--interruptible", "--plain", "--unordered", "--csv-text"] {
            assert_eq!(differences(&[], &[flag]).len(), 1, "{flag}");
        }
        let secret = differences(&["--grant-env", "A=hush"], &["--grant-env", "A=other"]).join("");
        assert!(!secret.contains("hush") && secret.contains("--grant-env"), "{secret}");
        let two = differences(&["--init-arg", "1"], &["--init-arg", "2", "--seed", "1"]);
        assert_eq!(two.len(), 2);

        let program = |more: &[&'static str]| -> Vec<&str> {
            [&["--program", "--item", "arg"], more].concat()
        };
        let was = program(&["--", "-e", "{}"]);
        for same in [
            &["--", "-e", "{}"][..],
            &["--program", "--", "-e", "{}"],
            &["--item", "arg", "--", "-e"],
            &["--input", "text", "--ok-codes", "0", "--stdout", "text", "--", "-e", "{}"],
            &["--placeholder", "{}", "--stdio-limit", "64KiB", "--", "-e", "{}"],
        ] {
            assert_eq!(differences(&was, same), none, "{same:?}");
        }
        for (other, said) in [
            (program(&["--", "-c", "{}"]), "ARGV was -e, {}, and is -c, {}"),
            (
                program(&["--", "-e", "{}", "a, b", ""]),
                "ARGV was -e, {}, and is -e, {}, \"a, b\", \"\"",
            ),
            (program(&["--entry", "run", "--", "-e", "{}"]), "`--entry` was not given, and is run"),
            (
                program(&["--ok-codes", "2,1", "--", "-e", "{}"]),
                "`--ok-codes` was not given, and is 1, 2",
            ),
            (program(&["--stdout", "json", "--", "-e", "{}"]), "`--stdout` was text, and is json"),
            (program(&["--input", "json", "--", "-e", "{}"]), "`--input` was text, and is json"),
            (
                program(&["--stdio-limit", "1KiB", "--", "-e", "{}"]),
                "`--stdio-limit` was 65536 bytes, and is 1024 bytes",
            ),
            (
                program(&["--stdin", "Cargo.toml", "--", "-e", "{}"]),
                "`--stdin` was not given, and is Cargo.toml (",
            ),
        ] {
            let found = differences(&was, &other);
            assert!(found.len() == 1 && found[0].starts_with(said), "{other:?}: {found:?}");
        }
        let placeholder = ["--placeholder", "%", "--", "-e", "%"];
        assert_eq!(differences(&was, &placeholder).len(), 2);
        let stdin = differences(&was, &["--item", "stdin", "--", "-e", "{}"]);
        assert!(stdin.iter().any(|said| said == "`--item` was arg, and is stdin"), "{stdin:?}");
    }
}

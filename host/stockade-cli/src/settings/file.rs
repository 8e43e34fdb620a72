//! `stockade.toml`: read with the line of everything in it, so that what is wrong is named by it.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::builder::ValueParser;
use clap::{Arg, Command, ValueHint};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Setting, beside, is_harmless, is_settable};
use crate::error::Error;
use crate::exit::Exit;
use crate::streams;

const NAME: &str = "stockade.toml";

/// The most bytes of such a file: many times what all options have.
const BYTES_MAX: u64 = 1 << 20;

/// The permission bit of others to write. The group's is often set where everybody has one.
const OTHERS_WRITE: u32 = 0o002;

/// Settings by their subcommand, none where they are for all, and their option.
pub(super) struct File(Vec<(Option<String>, String, Setting)>);

/// The nearest file upwards from the current directory. One that others than this user could have
/// written is passed over, with a warning.
///
/// # Errors
/// If the current directory is gone.
pub(super) fn find() -> Result<Option<PathBuf>, Error> {
    let Ok(here) = std::env::current_dir() else { return Ok(None) };
    let Some(path) = here.ancestors().map(|folder| folder.join(NAME)).find(|path| path.is_file())
    else {
        return Ok(None);
    };
    let data = path.metadata().map_err(|error| unreadable(&path, &error))?;
    let own = [0, rustix::process::geteuid().as_raw()];
    if !own.contains(&data.uid()) || data.mode() & OTHERS_WRITE != 0 {
        tracing::warn!(file = %path.display(), "ignored settings that others could have written");
        return Ok(None);
    }
    // As a person would write it.
    let shown = path.strip_prefix(&here).map(Path::to_path_buf);
    Ok(Some(shown.unwrap_or(path)))
}

impl File {
    /// Reads the file `path`, which was `named` or only found, with settings for `command`.
    ///
    /// # Errors
    /// A file that is unreadable, is not valid TOML, or contains an unknown or forbidden key.
    pub(super) fn read(path: PathBuf, named: bool, command: &Command) -> Result<Self, Error> {
        streams::check_named(&path).map_err(|error| unreadable(&path, &error))?;
        let length = path.metadata().map_err(|error| unreadable(&path, &error))?.len();
        if length > BYTES_MAX {
            return Err(Error::new(Exit::Usage, format!("{} is too long", path.display())));
        }
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        let reader = Reader { path: &path, text: &text, named, command };
        let table = DeTable::parse(&text).map_err(|error| {
            let place = reader.place(error.span().unwrap_or_default());
            Error::new(Exit::Usage, format!("{place}: {}", error.message()))
        })?;
        let mut settings = Vec::new();
        for (key, value) in table.get_ref() {
            match (command.find_subcommand(key.get_ref().as_ref()), value.get_ref()) {
                (Some(subcommand), DeValue::Table(table)) => {
                    for (key, value) in table {
                        let name = Some(subcommand.get_name());
                        settings.push(reader.setting(name, key.span(), key.get_ref(), value)?);
                    }
                }
                _ => settings.push(reader.setting(None, key.span(), key.get_ref(), value)?),
            }
        }
        Ok(Self(settings))
    }

    /// What is said of the option `long` of the subcommand `name`: below its own heading, or else for
    /// all.
    pub(super) fn setting(&self, name: &str, long: &str) -> Option<Setting> {
        let of = |wanted: Option<&str>| {
            let mut settings = self.0.iter();
            settings.find(|(name, option, _)| name.as_deref() == wanted && option == long)
        };
        of(Some(name)).or_else(|| of(None)).map(|(_, _, setting)| setting.clone())
    }
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    named: bool,
    command: &'a Command,
}

impl Reader<'_> {
    /// Where in the file, as editors and terminals know to open it.
    fn place(&self, span: Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or_default();
        format!("{}:{}", self.path.display(), before.matches('\n').count() + 1)
    }

    fn setting(
        &self,
        subcommand: Option<&str>,
        span: Range<usize>,
        long: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(Option<String>, String, Setting), Error> {
        let origin = self.place(span);
        let commands = self.command.get_subcommands();
        let commands =
            commands.filter(|command| subcommand.is_none_or(|name| command.get_name() == name));
        let mut args = commands.flat_map(Command::get_arguments).filter(|arg| is_settable(arg));
        let Some(arg) = args.find(|arg| arg.get_long() == Some(long)) else {
            let (of, help) = match subcommand {
                Some(name) => (format!("`stockade {name}`"), format!("stockade {name} --help")),
                None => ("any command".into(), "stockade help COMMAND".into()),
            };
            return Err(Error::new(
                Exit::Usage,
                format!("{origin}: `{long}` is not an option of {of}"),
            )
            .help(format!("`{help}` lists them; in the file they are written without --")));
        };
        if !self.named && !is_harmless(long) {
            let message =
                format!("{origin}: `{long}` is allowed only in a settings file that is named");
            return Err(Error::new(Exit::Usage, message)
                .because(
                    "a folder's file could let its own module read your files, or write over them",
                )
                .help(format!("if you trust it, name it: --config {}", self.path.display())));
        }
        let refused = |problem: &str| {
            Error::new(Exit::Usage, format!("{}: `{long}` {problem}", self.place(value.span())))
        };
        let values = match value.get_ref() {
            DeValue::Array(list) => {
                let values = list.iter().map(|value| scalar(value.get_ref()));
                values
                    .collect::<Option<Vec<_>>>()
                    .ok_or_else(|| refused("is a list of something else than texts and numbers"))?
            }
            other => vec![
                scalar(other)
                    .ok_or_else(|| refused("is a text, a number, true, false or a list"))?,
            ],
        };
        let values = values.into_iter().map(|value| self.resolved(arg, value)).collect();
        Ok((subcommand.map(String::from), long.to_string(), Setting { origin, values }))
    }

    /// A value that names a file, as seen from here.
    fn resolved(&self, arg: &Arg, value: String) -> String {
        let parser: &ValueParser = arg.get_value_parser();
        let is_path = parser.type_id() == ValueParser::path_buf().type_id()
            || !matches!(arg.get_value_hint(), ValueHint::Unknown | ValueHint::Other);
        if is_path { beside(self.path, &value) } else { value }
    }
}

/// A single value as it would stand on the command line.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    Some(match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().into(),
        DeValue::Float(number) => number.as_str().into(),
        DeValue::Boolean(value) => value.to_string(),
        _ => return None,
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    let message = format!("cannot read the settings in {}", path.display());
    Error::new(Exit::Missing, message).cause(error)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    fn read(text: &str, named: bool) -> Result<File, String> {
        let name =
            format!("stockade-settings-{}-{:?}", std::process::id(), std::thread::current().id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(NAME);
        fs::write(&path, text).unwrap();
        let file = File::read(path, named, &Cli::command());
        fs::remove_dir_all(&folder).unwrap();
        file.map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn what_is_said_for_one_command_outweighs_what_is_said_for_all() {
        let file = read("memory = \"1GiB\"\nfuel = 1_000\n\n[map]\nmemory = \"2GiB\"\n", false);
        let file = file.unwrap_or_else(|error| panic!("{error}"));
        let values = |name, long| file.setting(name, long).map(|setting| setting.values.join(" "));
        assert_eq!(values("run", "memory").as_deref(), Some("1GiB"));
        assert_eq!(values("map", "memory").as_deref(), Some("2GiB"));
        assert_eq!(values("map", "fuel").as_deref(), Some("1000"));
        assert_eq!(values("map", "wall-time"), None);
        let origin = file.setting("map", "memory").unwrap().origin;
        assert!(origin.ends_with("stockade.toml:5"), "{origin}");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        for (text, named) in [
            ("\nmemory = = 1", "stockade.toml:2: "),
            ("\n\nmemmory = 1", "stockade.toml:3: `memmory` is not an option of any command"),
            (
                "[map]\nreport = true",
                "stockade.toml:2: `report` is not an option of `stockade map`",
            ),
            ("memory = { x = 1 }", "stockade.toml:1: `memory` is a text, a number"),
            ("require = [1, [2]]", "stockade.toml:1: `require` is a list of something else"),
        ] {
            let error = read(text, true).err().unwrap();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn a_file_that_was_only_found_grants_nothing_and_names_no_files() {
        for text in [
            "grant-dir = \"/::/\"",
            "grant-env = [\"HOME\"]",
            "[run]\noutput = \"x\"",
            "[run]\nallow-terminal-control = true",
            "init-arg = \"@secret\"",
            "record = \"failed\"",
            "coredump = \"dumps\"",
            "[map]\ntrace = \"x\"",
        ] {
            assert!(read(text, false).err().unwrap().contains("--config"), "{text}");
            assert!(read(text, true).is_ok(), "{text}");
        }
    }

    #[test]
    fn paths_are_seen_from_where_the_file_is() {
        let file = read("cache = \"kept\"", false).unwrap_or_else(|error| panic!("{error}"));
        let value = &file.setting("run", "cache").unwrap().values[0];
        assert!(value.ends_with("/kept") && Path::new(value).is_absolute(), "{value}");
    }
}

//! The template: an item's content becomes one run of the program.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stockade::Command;

use super::super::call;
use super::super::item::Content;
use super::options::ItemAs;
use crate::args::{InputFormat, MapArgs};
use crate::arguments;
use crate::error::Error;
use crate::exit::Exit;

/// How items become runs of the program.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// The entry, if it is not the program's own.
    pub(super) entry: Option<Arc<str>>,
    /// The program's `argv[0]`.
    name: String,
    pub(super) argv: Vec<String>,
    pub(super) placeholder: String,
    pub(super) item: ItemAs,
    /// Whether a line is a JSON value rather than the item itself.
    from_json: bool,
    pub(super) stdin: Arc<[u8]>,
    /// The granted directories: their paths on the host and in the guest.
    directories: Vec<(PathBuf, String)>,
}

/// One run of the program.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProgramCall {
    /// The item's path, if the program opens it.
    file: Option<PathBuf>,
    entry: Option<Arc<str>>,
    name: String,
    args: Vec<String>,
    stdin: Vec<u8>,
}

impl ProgramCall {
    /// The file that is its item, by its whole path.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// As the pool takes it.
    pub(crate) fn command(self) -> Command {
        let command = Command::new(self.name).args(self.args).stdin(self.stdin);
        self.entry.iter().fold(command, |command, entry| command.entry(&**entry))
    }
}

impl Template {
    /// From the command line.
    ///
    /// # Errors
    /// If options conflict, or a file cannot be read.
    pub(super) fn new(args: &MapArgs) -> Result<Self, Error> {
        let usage = |message: &str| Error::new(Exit::Usage, message);
        if args.args {
            return Err(usage("`--args` is for functions, and the module is run as a program")
                .help("a program's arguments stand behind --, and {} stands for the item"));
        }
        if args.format == InputFormat::Csv {
            return Err(usage(
                "`--input csv` is for functions, and the module is run as a program",
            )
            .help("with `--input text` a line is the item as it stands"));
        }
        let program = &args.program;
        let placeholder = program.placeholder.clone().unwrap_or_default().0;
        let is_in_argv = program.argv.iter().any(|text| text.contains(&placeholder));
        let item = args.item();
        if let Some(path) = program.stdin.as_ref().filter(|_| item == ItemAs::Stdin) {
            let message = format!("stdin is each item, and cannot be {} too", path.display());
            return Err(
                usage(&message).help("`--item arg` or {} in ARGV makes the item an argument")
            );
        }
        let from_stdin = args.inputs.iter().any(|path| is_dash(path));
        let reads_stdin = from_stdin || (args.inputs.is_empty() && !args.shape.files);
        if program.stdin.as_deref().is_some_and(is_dash) && reads_stdin {
            return Err(usage("stdin holds the items, and cannot be every run's stdin too")
                .help("name the items' FILE behind MODULE"));
        }
        let directories = match item {
            ItemAs::File => directories(args, is_in_argv)?,
            _ => Vec::new(),
        };
        let mut argv = program.argv.clone();
        if item != ItemAs::Stdin && !is_in_argv {
            argv.push(placeholder.clone());
        }
        let stdin = match &program.stdin {
            Some(path) => arguments::read_file(path)?.into(),
            None => Arc::from([]),
        };
        let name = args.module.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let from_json = args.format == InputFormat::Json && !args.shape.files;
        let entry = program.entry.as_deref().map(Arc::from);
        Ok(Self { entry, name, argv, placeholder, item, from_json, stdin, directories })
    }

    /// The run of the item `content`; `None` for a blank line of JSON input.
    ///
    /// # Errors
    /// The reason, in words.
    pub(crate) fn call(&self, content: Content) -> Result<Option<ProgramCall>, String> {
        let bytes = match content {
            Content::Text(text) if self.from_json => match text_of(&text)? {
                Some(text) => text.into_bytes(),
                None => return Ok(None),
            },
            Content::Text(text) => text.into_bytes(),
            Content::Bytes(bytes) => bytes,
            Content::Row(_) => return Err("a row cannot be an item of a program".into()),
        };
        let (entry, name) = (self.entry.clone(), self.name.clone());
        if self.item == ItemAs::Stdin {
            return Ok(Some(ProgramCall {
                file: None,
                entry,
                name,
                args: self.argv.clone(),
                stdin: bytes,
            }));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to() + 1;
            format!("it is not UTF-8 text, from its byte {at}, and so cannot be an argument")
        })?;
        let (file, text) = match self.item {
            ItemAs::File => {
                let (file, seen) = self.seen_by_guest(Path::new(&text))?;
                (Some(file), seen)
            }
            _ => (None, text),
        };
        let args = self.argv.iter().map(|arg| arg.replace(&self.placeholder, &text)).collect();
        Ok(Some(ProgramCall { file, entry, name, args, stdin: self.stdin.to_vec() }))
    }

    /// The path of the file on the host, and in the guest.
    fn seen_by_guest(&self, path: &Path) -> Result<(PathBuf, String), String> {
        let found =
            path.canonicalize().map_err(|error| format!("cannot find the file: {error}"))?;
        if found.is_dir() {
            return Err("it is a directory".into());
        }
        let granted = self.directories.iter().filter_map(|(host, guest)| {
            Some((host.as_os_str().len(), guest, found.strip_prefix(host).ok()?))
        });
        // The innermost, where one is granted within another.
        let (_, guest, rest) = granted
            .max_by_key(|(length, ..)| *length)
            .ok_or("it is in no directory that is granted, see `--grant-dir`")?;
        let rest =
            rest.to_str().ok_or("its name is not UTF-8 text, and so cannot be an argument")?;
        let seen = format!("{}/{rest}", guest.trim_end_matches('/'));
        Ok((found, seen))
    }
}

/// The item of a line of JSON: a string's text, or else the line itself. `None` for a blank line.
fn text_of(line: &str) -> Result<Option<String>, String> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(None);
    }
    let refused = |error| call::describe(&error, line);
    if line.starts_with('"') {
        return serde_json::from_str(line).map(Some).map_err(refused);
    }
    serde_json::from_str::<serde::de::IgnoredAny>(line).map_err(refused)?;
    Ok(Some(line.into()))
}

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn directories(args: &MapArgs, is_in_argv: bool) -> Result<Vec<(PathBuf, String)>, Error> {
    if args.pool.grant_dir.is_empty() {
        let message = "an item is the path of a file, and no directory is granted to the program";
        let error = Error::new(Exit::Usage, message)
            .help("`--grant-dir DIR` lets the program read DIR, where the files are");
        let other = if is_in_argv { "`--item arg` puts a file's text there" } else { "" };
        let error = if is_in_argv && args.shape.files { error.help(other) } else { error };
        return Err(error.help("`--item stdin` gives a file's bytes as stdin"));
    }
    // Building the pool reports a missing one.
    let granted = args.pool.grant_dir.iter();
    Ok(granted
        .filter_map(|grant| Some((grant.host.canonicalize().ok()?, grant.guest.clone())))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_json_is_its_text_or_itself() {
        let item = |line| text_of(line).ok().flatten();
        assert_eq!(item("\"a\\nb\"").as_deref(), Some("a\nb"));
        assert_eq!(item(" 12345678901234567890123 ").as_deref(), Some("12345678901234567890123"));
        assert_eq!(item("{\"b\": 1, \"a\": -0}").as_deref(), Some("{\"b\": 1, \"a\": -0}"));
        assert_eq!(text_of(" \t"), Ok(None));
        assert!(text_of("one").is_err() && text_of("\"one").is_err());
    }
}

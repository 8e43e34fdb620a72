//! Programs: what an item is to one, and what its exit code and its streams come to.
//!
//! ```text
//! Content ──► Template ──► ProgramCall ──► Command ──► Pool
//!     exit code, stdout, stderr ──► Ending ──► result and what is beside it, or Problem
//! ```
//!
//! Invariant: nothing of a result is changed or left out in silence. Stdout that is no text, no JSON,
//! or more than its limit is an error of its item, and stderr says how much of it was dropped.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use clap::{Args, ValueEnum};
use serde_json::Value;
use stockade::{Captured, Command, Output, TaskError, TaskReport};

use super::item::Content;
use super::record::{Beside, Problem};
use crate::args::{InputFormat, MapArgs};
use crate::arguments::{self, Kind};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{self, Written};
use crate::target::OWN_ENTRIES;
use crate::values::Size;
use crate::{escape, report};

/// The most bytes of a program's stdout, which a worker keeps until the program's end.
const STDOUT_BYTES_MAX: u64 = 16 << 20;

/// How the module is run as a program.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ProgramArgs {
    /// For a program: its arguments; {} stands for the item
    #[arg(last = true, value_name = "ARGV")]
    pub(crate) argv: Vec<String>,

    /// Run the module as a program, from its `_start`, the export "", or --entry: what follows MODULE
    /// are then FILEs. Said as well by ARGV, or by naming no FUNCTION
    #[arg(long, help_heading = "Programs")]
    pub(crate) program: bool,

    /// Begin in the export NAME, a function that takes nothing, rather than in the program's own
    /// entry; the module's `_initialize` runs before it
    #[arg(long, value_name = "NAME", help_heading = "Programs")]
    pub(crate) entry: Option<String>,

    /// What an item is to the program [default: arg where {} stands in ARGV, with --files file; stdin
    /// where it does not]
    #[arg(long, value_enum, value_name = "WHAT", help_heading = "Programs")]
    pub(crate) item: Option<ItemAs>,

    /// What stands for the item in ARGV [default: {}]
    #[arg(long, value_name = "TEXT", help_heading = "Programs")]
    pub(crate) placeholder: Option<Placeholder>,

    /// What the result is made of the program's stdout [default: text]
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Programs")]
    pub(crate) stdout: Option<StdoutFormat>,

    /// Exit codes that are no errors, beside 0: 1, or 1,2, or all [default: none]
    #[arg(long, value_name = "CODES", help_heading = "Programs", allow_negative_numbers = true)]
    pub(crate) ok_codes: Option<Codes>,

    /// Give every run the bytes of FILE as stdin, which is empty otherwise
    #[arg(long, value_name = "FILE", help_heading = "Programs")]
    pub(crate) stdin: Option<PathBuf>,
}

/// What an item is to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ItemAs {
    /// The item's text is an argument: where {} stands in ARGV, or else behind it
    Arg,
    /// The item's bytes are the program's stdin, and nothing is added
    Stdin,
    /// The item is the path of a file in a granted directory; {} is where the program finds it
    File,
}

/// What stands for the item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placeholder(String);

impl Default for Placeholder {
    fn default() -> Self {
        Self("{}".into())
    }
}

impl FromStr for Placeholder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("nothing cannot stand for the item".into()),
            text => Ok(Self(text.into())),
        }
    }
}

/// What a program writes to stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum StdoutFormat {
    /// Text in UTF-8: the result is a string, line ends included
    #[default]
    Text,
    /// One JSON value: the result is that value
    Json,
    /// Any bytes: the result is a string in base64, or with --output-dir a file of those bytes
    Bytes,
}

/// Exit codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Codes {
    /// Each there is.
    All,
    /// These.
    These(Vec<i32>),
}

impl Default for Codes {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

impl Codes {
    fn has(&self, code: i32) -> bool {
        match self {
            Self::All => true,
            Self::These(codes) => codes.contains(&code),
        }
    }
}

impl FromStr for Codes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let codes = text.split(',').map(|code| code.trim().parse());
        let codes: Result<_, _> = codes.collect();
        codes.map(Self::These).map_err(|_| "write numbers, as in 1 or 1,2, or `all`".into())
    }
}

impl ProgramArgs {
    /// Refuses what only a program can be told.
    ///
    /// # Errors
    /// The first option of them.
    fn check_for_function(&self) -> Result<(), Error> {
        let given = [
            (self.item.is_some(), "--item"),
            (self.placeholder.is_some(), "--placeholder"),
            (self.stdout.is_some(), "--stdout"),
            (self.ok_codes.is_some(), "--ok-codes"),
            (self.stdin.is_some(), "--stdin"),
        ];
        match given.iter().find(|(is_given, _)| *is_given) {
            Some((_, option)) => {
                let message = format!("`{option}` is for programs, and a function is called");
                Err(Error::new(Exit::Usage, message)
                    .help("`--program` runs the module as a program"))
            }
            None => Ok(()),
        }
    }
}

/// What a map over a program's runs works with.
pub(crate) struct Plan {
    pub(crate) template: Template,
    pub(crate) ending: Ending,
}

impl Plan {
    /// From what the command line says; `None` where a function is called.
    ///
    /// # Errors
    /// Options that mean nothing together, and a file that cannot be read.
    pub(crate) fn new(args: &MapArgs) -> Result<Option<Self>, Error> {
        if !args.program.program {
            return args.program.check_for_function().map(|()| None);
        }
        Ok(Some(Self { template: Template::new(args)?, ending: Ending::new(args)? }))
    }

    /// What shapes results of how the program is run, by the names of options, and `ARGV`.
    pub(crate) fn identity(&self, args: &ProgramArgs) -> Vec<(&'static str, Vec<String>)> {
        let Template { entry, argv, placeholder, item, stdin, .. } = &self.template;
        let Ending { stdout, ok_codes, stdout_bytes_max, stderr_bytes_max } = &self.ending;
        let word = |word: &dyn fmt::Debug| format!("{word:?}").to_lowercase();
        let ok_codes = match ok_codes {
            Codes::All => vec!["all".into()],
            Codes::These(codes) => {
                let codes: BTreeSet<_> = codes.iter().filter(|code| **code != 0).collect();
                codes.iter().map(ToString::to_string).collect()
            }
        };
        // Where nothing is put in for it, it is a text as others.
        let stands = Some(placeholder).filter(|_| *item != ItemAs::Stdin);
        let file = args.stdin.iter().map(|path| {
            let digest = blake3::hash(stdin).to_hex();
            format!("{} ({})", path.display(), &digest[..16])
        });
        vec![
            ("ARGV", argv.clone()),
            ("entry", entry.iter().map(ToString::to_string).collect()),
            ("item", vec![word(item)]),
            ("ok-codes", ok_codes),
            ("output-limit", vec![format!("{stdout_bytes_max} bytes")]),
            ("placeholder", stands.map(|text| vec![text.clone()]).unwrap_or_default()),
            ("stdin", file.collect()),
            ("stdio-limit", vec![format!("{stderr_bytes_max} bytes")]),
            ("stdout", vec![word(stdout)]),
        ]
    }
}

/// How items become runs of the program.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// Where the program begins, where that is not its own entry.
    entry: Option<Arc<str>>,
    /// What the program is told that it is called.
    name: String,
    argv: Vec<String>,
    placeholder: String,
    item: ItemAs,
    /// Whether a line is a JSON value rather than the item itself.
    from_json: bool,
    stdin: Arc<[u8]>,
    /// The granted directories: where they are, and as what the program finds them.
    directories: Vec<(PathBuf, String)>,
}

/// One run of the program.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProgramCall {
    /// Where the item is, if it is a file that the program opens.
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
    fn new(args: &MapArgs) -> Result<Self, Error> {
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

    /// The run that `content` asks for; `None` for a blank line of JSON input.
    ///
    /// # Errors
    /// In words, why there is none.
    pub(crate) fn call(&self, content: Content) -> Result<Option<ProgramCall>, String> {
        let bytes = match content {
            Content::Text(text) if self.from_json => match text_of(&text)? {
                Some(text) => text.into_bytes(),
                None => return Ok(None),
            },
            Content::Text(text) => text.into_bytes(),
            Content::Bytes(bytes) => bytes,
            Content::Row(_) => return Err("a row is no item of a program".into()),
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
            format!("it is no UTF-8 text, from its byte {at}, and so no argument")
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

    /// Where the file `path` is, and where the program finds it.
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
        let rest = rest.to_str().ok_or("its name is no UTF-8 text, and so no argument")?;
        let seen = format!("{}/{rest}", guest.trim_end_matches('/'));
        Ok((found, seen))
    }
}

/// The item that a line of JSON is: a string is its text, anything else what the line says. `None`
/// for a blank line.
fn text_of(line: &str) -> Result<Option<String>, String> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(None);
    }
    let refused = |error| super::call::describe(&error, line);
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
    // One that is not there is told of when the pool is built.
    let granted = args.pool.grant_dir.iter();
    Ok(granted
        .filter_map(|grant| Some((grant.host.canonicalize().ok()?, grant.guest.clone())))
        .collect())
}

impl MapArgs {
    /// What an item is to the program.
    pub(crate) fn item(&self) -> ItemAs {
        let ProgramArgs { argv, item, placeholder, .. } = &self.program;
        let placeholder = placeholder.clone().unwrap_or_default().0;
        let is_in_argv = argv.iter().any(|text| text.contains(&placeholder));
        item.unwrap_or(match (is_in_argv, self.shape.files) {
            (true, false) => ItemAs::Arg,
            (true, true) => ItemAs::File,
            (false, _) => ItemAs::Stdin,
        })
    }

    /// The same with what follows from what was said: whether the module is run as a program, which
    /// word is a FILE then, and what the input holds.
    #[must_use]
    pub(crate) fn settled(mut self) -> Self {
        let names_entry = self.function.as_deref().is_some_and(|name| OWN_ENTRIES.contains(&name));
        let program = &mut self.program;
        program.program |= names_entry || !program.argv.is_empty() || self.function.is_none();
        if program.program
            && let Some(file) = self.function.take().filter(|_| !names_entry)
        {
            self.inputs.insert(0, file.into());
        }
        if self.format == InputFormat::Auto {
            self.format = if program.program { InputFormat::Text } else { InputFormat::Json };
        }
        if program.program {
            // Stdout is the result, and captured as stderr is: the worker keeps as much of both, and
            // `Ending` no more of either than it may have.
            let Size(stdio) = self.pool.stdio_limit;
            self.program_limits = Some((self.pool.output_limit, self.pool.stdio_limit));
            self.pool.stdio_limit = Size(stdio.max(self.pool.output_limit.0.min(STDOUT_BYTES_MAX)));
        }
        self
    }
}

/// What the end of a program comes to.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    stdout: StdoutFormat,
    ok_codes: Codes,
    stdout_bytes_max: u64,
    stderr_bytes_max: u64,
}

/// Why an item has no result.
#[derive(Debug)]
pub(crate) struct Failed {
    /// What is told of the item.
    pub(crate) problem: Problem,
    /// The error of a map that is to end for it.
    pub(crate) error: Error,
}

/// Why a program that exited has no result.
struct Mistake {
    kind: &'static str,
    fault: &'static str,
    exit: Exit,
    message: String,
    help: String,
}

impl Ending {
    fn new(args: &MapArgs) -> Result<Self, Error> {
        let limits = args.program_limits.unwrap_or((args.pool.output_limit, args.pool.stdio_limit));
        let (Size(stdout_bytes_max), Size(stderr_bytes_max)) = limits;
        if stdout_bytes_max > STDOUT_BYTES_MAX {
            let allowed = report::size(STDOUT_BYTES_MAX);
            let message = format!("`--output-limit` of a program's stdout is {allowed} at most");
            return Err(Error::new(Exit::Usage, message)
                .help("what writes more can write to a file: `--grant-dir DIR:rw`"));
        }
        let stdout = args.program.stdout.unwrap_or_default();
        let ok_codes = args.program.ok_codes.clone().unwrap_or_default();
        Ok(Self { stdout, ok_codes, stdout_bytes_max, stderr_bytes_max })
    }

    /// What results are in files and in records.
    pub(crate) fn kind(&self) -> Kind {
        match self.stdout {
            StdoutFormat::Text => Kind::Text { optional: false },
            StdoutFormat::Json => Kind::Any,
            StdoutFormat::Bytes => Kind::Bytes,
        }
    }

    /// The result of a program that has ended, and what is beside it.
    ///
    /// # Errors
    /// A task that failed, an exit code that is an error, and stdout that is more than it may be or
    /// not what it should be.
    pub(crate) fn outcome(
        &self,
        ended: Result<Output, TaskError>,
        report: TaskReport,
    ) -> Result<(Written, Beside), Box<Failed>> {
        let TaskReport { stdout, stderr, .. } = report;
        let (stderr, stderr_dropped) = self.stderr(&stderr);
        let (problem, error, code) = match ended {
            Ok(Output::Exited(code)) => match self.result(code, &stdout) {
                Ok(written) => {
                    return Ok((written, Beside { exit_code: code, stderr, stderr_dropped }));
                }
                Err(Mistake { kind, fault, exit, message, help }) => {
                    let problem = Problem::new(kind, fault, message.clone());
                    (problem, Error::new(exit, message).help(help), Some(code))
                }
            },
            ended => {
                let no_program = || TaskError::Decode("the task was no program".into());
                let error = ended.map_or_else(|error| error, |_| no_program());
                (Problem::of_task(&error), Error::from(&error), None)
            }
        };
        let problem = problem.with(self.details(code, &stdout, (&stderr, stderr_dropped)));
        Err(Box::new(Failed { problem, error: wrote(error, &stderr) }))
    }

    /// The result of a program that exited with `code` and wrote `stdout`.
    fn result(&self, code: i32, stdout: &Captured) -> Result<Written, Mistake> {
        if code != 0 && !self.ok_codes.has(code) {
            return Err(Mistake {
                kind: "exited",
                fault: "guest",
                exit: Exit::Failed,
                message: format!("the program exited with code {code}"),
                help: format!("`--ok-codes {code}` takes that for a result"),
            });
        }
        let (written, allowed) =
            (stdout.bytes.len() as u64 + stdout.dropped, self.stdout_bytes_max);
        if written > allowed {
            return Err(Mistake {
                kind: "output",
                fault: "limit",
                exit: Exit::Limit,
                message: format!(
                    "the program wrote {written} bytes to stdout, where {allowed} are allowed"
                ),
                help: "allow more with `--output-limit`, up to 16MiB".into(),
            });
        }
        let undecodable = |message| Mistake {
            kind: "undecodable",
            fault: "guest",
            exit: Exit::Failed,
            message,
            help: "`--stdout bytes` takes it as it is".into(),
        };
        match self.stdout {
            StdoutFormat::Bytes => Ok(Written::Bytes(stdout.bytes.clone())),
            StdoutFormat::Text => match std::str::from_utf8(&stdout.bytes) {
                Ok(_) => Ok(Written::Bytes(stdout.bytes.clone())),
                Err(error) => {
                    let at = error.valid_up_to() + 1;
                    Err(undecodable(format!("stdout is no UTF-8 text, from its byte {at}")))
                }
            },
            StdoutFormat::Json => match output::json_line(&stdout.bytes) {
                Ok(line) => Ok(Written::Line(line)),
                Err(TaskError::Decode(problem)) => {
                    Err(undecodable(format!("stdout is no JSON value: {problem}")))
                }
                Err(error) => Err(undecodable(error.to_string())),
            },
        }
    }

    /// What is told of stderr, and how many bytes of it are not.
    fn stderr(&self, captured: &Captured) -> (String, u64) {
        let (kept, dropped) = kept(captured, self.stderr_bytes_max);
        (String::from_utf8_lossy(kept).into_owned(), dropped)
    }

    /// What is told of a program that failed, beside why.
    fn details(
        &self,
        code: Option<i32>,
        stdout: &Captured,
        (stderr, stderr_dropped): (&str, u64),
    ) -> Vec<(&'static str, Value)> {
        let mut details = Vec::new();
        if let Some(code) = code {
            details.push(("exit_code", code.into()));
        }
        // To find the cause, as stderr is: a result is told whole.
        let (kept, dropped) = kept(stdout, self.stdout_bytes_max.min(self.stderr_bytes_max));
        match std::str::from_utf8(kept) {
            Ok("") => {}
            Ok(text) if self.stdout != StdoutFormat::Bytes => details.push(("stdout", text.into())),
            _ => {
                let text = base64::engine::general_purpose::STANDARD.encode(kept);
                details.push(("stdout_base64", text.into()));
            }
        }
        if dropped > 0 {
            details.push(("stdout_dropped", dropped.into()));
        }
        if !stderr.is_empty() {
            details.push(("stderr", stderr.into()));
        }
        if stderr_dropped > 0 {
            details.push(("stderr_dropped", stderr_dropped.into()));
        }
        details
    }
}

/// What of a stream a record may hold, and how many bytes of it are left out.
fn kept(captured: &Captured, bytes_max: u64) -> (&[u8], u64) {
    let kept = captured.bytes.len().min(usize::try_from(bytes_max).unwrap_or(usize::MAX));
    let (kept, rest) = captured.bytes.split_at(kept);
    (kept, rest.len() as u64 + captured.dropped)
}

/// The error with what the program wrote to stderr.
fn wrote(error: Error, stderr: &str) -> Error {
    match stderr.trim_end() {
        "" => error,
        text => error.because(format!("it wrote to stderr\n{}", escape::bounded(text, 2000))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(stdout: StdoutFormat, ok_codes: &str) -> Ending {
        let ok_codes = ok_codes.parse().unwrap_or_default();
        Ending { stdout, ok_codes, stdout_bytes_max: 8, stderr_bytes_max: 4 }
    }

    fn captured(bytes: &[u8], dropped: u64) -> Captured {
        Captured { bytes: bytes.to_vec(), dropped }
    }

    fn mistake(ending: &Ending, code: i32, stdout: &Captured) -> Option<&'static str> {
        ending.result(code, stdout).err().map(|mistake| mistake.kind)
    }

    #[test]
    fn a_result_is_what_was_written_and_all_of_it() {
        let text = ending(StdoutFormat::Text, "");
        assert_eq!(mistake(&text, 0, &captured(b"12345678", 0)), None);
        assert_eq!(mistake(&text, 0, &captured(b"12345678", 1)), Some("output"));
        assert_eq!(mistake(&text, 0, &captured(b"123456789", 0)), Some("output"));
        assert_eq!(mistake(&text, 0, &captured(b"\xff", 0)), Some("undecodable"));
        assert_eq!(mistake(&ending(StdoutFormat::Bytes, ""), 0, &captured(b"\xff", 0)), None);
        let json = ending(StdoutFormat::Json, "");
        assert_eq!(mistake(&json, 0, &captured(b"[1]\n", 0)), None);
        for wrong in [&b"1 2"[..], b"1\n2\n", b"x", b"\xff"] {
            assert_eq!(mistake(&json, 0, &captured(wrong, 0)), Some("undecodable"), "{wrong:?}");
        }
    }

    #[test]
    fn exit_codes_are_errors_but_for_those_that_are_named() {
        let fails = |codes: &str, code| {
            mistake(&ending(StdoutFormat::Text, codes), code, &captured(b"", 0)).is_some()
        };
        assert!(!fails("", 0) && fails("", 1) && fails("", -1));
        assert!(!fails("1", 0) && !fails("1, 3", 3) && fails("1,3", 2));
        assert!(!fails("all", 255) && !fails("all", i32::MIN));
        for text in ["", "x", "1,", "1;2", "all,1"] {
            assert!(text.parse::<Codes>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_told_of_streams_is_bounded_and_says_what_is_missing() {
        let text = ending(StdoutFormat::Text, "");
        assert_eq!(text.stderr(&captured(b"12345", 2)), ("1234".into(), 3));
        let details = text.details(Some(1), &captured(b"12345", 0), ("e", 0));
        let told: Vec<_> = details.iter().map(|(name, value)| (*name, value.to_string())).collect();
        let expected = [
            ("exit_code", "1"),
            ("stdout", "\"1234\""),
            ("stdout_dropped", "1"),
            ("stderr", "\"e\""),
        ];
        assert_eq!(told, expected.map(|(name, value)| (name, value.to_string())));
        assert!(text.details(None, &captured(b"", 0), ("", 0)).is_empty());
    }

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

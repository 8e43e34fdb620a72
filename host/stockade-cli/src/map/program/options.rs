//! Options of programs.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use super::ending::STDOUT_BYTES_MAX;
use crate::args::{InputFormat, MapArgs};
use crate::error::Error;
use crate::exit::Exit;
use crate::target::OWN_ENTRIES;
use crate::values::Size;

/// How the module is run as a program.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ProgramArgs {
    /// For a program: its arguments; {} stands for the item
    #[arg(last = true, value_name = "ARGV")]
    pub(crate) argv: Vec<String>,

    /// Run the module as a program, from its `_start`, the export "", or --entry: the words after
    /// MODULE are then FILEs. ARGV, or no FUNCTION, means the same
    #[arg(long, help_heading = "Programs")]
    pub(crate) program: bool,

    /// Start at the export NAME, a function without parameters, instead of the program's entry; the
    /// module's `_initialize` runs before it
    #[arg(long, value_name = "NAME", help_heading = "Programs")]
    pub(crate) entry: Option<String>,

    /// How the program gets an item [default: with {} in ARGV arg, or with --files file; else
    /// stdin]
    #[arg(long, value_enum, value_name = "WHAT", help_heading = "Programs")]
    pub(crate) item: Option<ItemAs>,

    /// The placeholder of the item in ARGV [default: {}]
    #[arg(long, value_name = "TEXT", help_heading = "Programs")]
    pub(crate) placeholder: Option<Placeholder>,

    /// Format of the program's stdout, which becomes the result [default: text]
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Programs")]
    pub(crate) stdout: Option<StdoutFormat>,

    /// Exit codes that are not errors, in addition to 0: 1, or 1,2, or all [default: none]
    #[arg(long, value_name = "CODES", help_heading = "Programs", allow_negative_numbers = true)]
    pub(crate) ok_codes: Option<Codes>,

    /// Give every run the bytes of FILE as stdin, which is empty otherwise
    #[arg(long, value_name = "FILE", help_heading = "Programs")]
    pub(crate) stdin: Option<PathBuf>,
}

/// How a program gets an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ItemAs {
    /// The item's text is an argument: at {} in ARGV, or else the last one
    Arg,
    /// The item's bytes are the program's stdin, and nothing is added
    Stdin,
    /// The item is the path of a file in a granted directory; {} is where the program finds it
    File,
}

/// The placeholder of the item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placeholder(pub(super) String);

impl Default for Placeholder {
    fn default() -> Self {
        Self("{}".into())
    }
}

impl FromStr for Placeholder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("the placeholder must not be empty".into()),
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
    /// All exit codes.
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
    /// Whether a code is one of them.
    pub(super) fn has(&self, code: i32) -> bool {
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
    /// Refuses options that are only for programs.
    ///
    /// # Errors
    /// The first option of them.
    pub(super) fn check_for_function(&self) -> Result<(), Error> {
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

impl MapArgs {
    /// How the program gets an item.
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

    /// The same with what follows from the options: whether the module runs as a program, which
    /// word is then a FILE, and the format of the input.
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

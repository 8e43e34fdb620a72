//! Options of `map` about its input and its output.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};

/// What items are.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ShapeArgs {
    /// Each FILE is one task: its bytes are the argument of a function that takes bytes or a text,
    /// and JSON for any other
    #[arg(long, conflicts_with_all = ["format", "args"], help_heading = "Input")]
    pub(crate) files: bool,

    /// The delimiter of CSV input: one character, or `tab`
    #[arg(long, value_name = "CHAR", help_heading = "Input")]
    pub(crate) delimiter: Option<Delimiter>,

    /// Take cells of CSV input as texts, even if they look like numbers, unless their parameter is
    /// declared as something else
    #[arg(long, help_heading = "Input")]
    pub(crate) csv_text: bool,
}

/// The delimiter of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delimiter(pub(crate) u8);

impl FromStr for Delimiter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            b"tab" | b"\\t" => Ok(Self(b'\t')),
            b"\"" | b"\n" | b"\r" => Err("this character has a special meaning in CSV".into()),
            [byte] if byte.is_ascii() => Ok(Self(*byte)),
            _ => Err("write one ASCII character, as in ';', or `tab`".into()),
        }
    }
}

/// Where results go, and how errors are handled.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SinkArgs {
    /// Write results to FILE rather than to stdout
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(crate) output: Option<PathBuf>,

    /// Write each result to a file of its own in DIR: LINE.json, or the input file's name with .json
    /// appended; if a function of `--files`, or a program, returns bytes or a text, LINE or the
    /// input file's name
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "plain"], help_heading = "Output")]
    pub(crate) output_dir: Option<PathBuf>,

    /// With --output-dir: the extension of the written files
    #[arg(long, value_name = "EXT", requires = "output_dir", help_heading = "Output")]
    pub(crate) extension: Option<Extension>,

    /// What an error of one item does: it ends the map, is skipped, or is written in place of the result
    #[arg(long, value_enum, value_name = "WHAT", default_value_t, help_heading = "Output")]
    pub(crate) on_error: OnError,

    /// Keep the map's progress in STATE, and continue from there if it exists: after Ctrl-C, a
    /// crash or a kill, the same command neither repeats nor loses an item of the output. Refused
    /// if the module, the input or an option that affects results has changed
    #[arg(long, value_name = "STATE", help_heading = "Output")]
    pub(crate) resume: Option<PathBuf>,

    /// With --resume: start over in any case, and overwrite the output
    #[arg(long, requires = "resume", help_heading = "Output")]
    pub(crate) anew: bool,

    /// Show a summary table on stderr at the end, even if that is not a terminal
    #[arg(long, help_heading = "Output")]
    pub(crate) summary: bool,

    /// Write the summary to stderr as one JSON object at the end
    #[arg(long, conflicts_with = "summary", help_heading = "Output")]
    pub(crate) json: bool,
}

/// The extension of a file's name, without the dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extension(String);

impl FromStr for Extension {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('.').unwrap_or(text);
        match text.is_empty() || text.contains(['/', '\0']) {
            true => Err("write an ending such as png".into()),
            false => Ok(Self(text.into())),
        }
    }
}

impl SinkArgs {
    /// The name of the result file of the item `name`, with bytes or JSON.
    pub(crate) fn file_of(&self, name: &Path, as_bytes: bool) -> PathBuf {
        match &self.extension {
            Some(extension) => name.with_extension(&extension.0),
            None if as_bytes => name.into(),
            None => {
                let mut name = name.as_os_str().to_owned();
                name.push(".json");
                name.into()
            }
        }
    }
}

/// How an item's error is handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnError {
    /// The map ends with this error: no more items are started
    Stop,
    /// The item is skipped, and counted
    Skip,
    /// The error is written where the result would be
    #[default]
    Report,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_and_endings_are_checked_at_the_door() {
        assert_eq!(";".parse(), Ok(Delimiter(b';')));
        assert_eq!("tab".parse(), Ok(Delimiter(b'\t')));
        for text in ["", "\"", ";;", "€"] {
            assert!(text.parse::<Delimiter>().is_err(), "{text}");
        }
        assert_eq!(".png".parse(), Ok(Extension("png".into())));
        assert!("a/b".parse::<Extension>().is_err());
    }

    #[test]
    fn a_result_of_bytes_keeps_the_name_of_what_it_was_made_of() {
        let named = |as_bytes, extension: Option<&str>| {
            let extension = extension.map(|text| text.parse().unwrap());
            let args = SinkArgs { extension, ..Default::default() };
            args.file_of(Path::new("cat.jpg"), as_bytes)
        };
        assert_eq!(named(true, None), Path::new("cat.jpg"));
        assert_eq!(named(false, None), Path::new("cat.jpg.json"));
        assert_eq!(named(true, Some("png")), Path::new("cat.png"));
    }
}

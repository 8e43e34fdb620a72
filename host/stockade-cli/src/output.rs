//! Where results go: stdout or a file, and never binary data to a terminal by accident.

use std::io::Write;
use std::path::Path;

use base64::Engine as _;
use stockade::{Codec, Output, TaskError};

use crate::error::Error;
use crate::exit::Exit;
use crate::{aside, escape, json, streams};

/// What to do about a stdout that cannot be written.
pub(crate) const ELSEWHERE: &str = "write the result to a file with `--output FILE`";

/// What a run writes: one line of JSON, or bytes as they are.
#[derive(Debug, PartialEq)]
pub(crate) enum Written {
    Line(String),
    Bytes(Vec<u8>),
}

impl Written {
    /// What a task gave, as it is written.
    ///
    /// # Errors
    /// [`TaskError::Decode`] where a result that should be JSON is not.
    pub(crate) fn from_output(output: Output) -> Result<Self, TaskError> {
        match output {
            Output::Encoded { codec: Codec::Raw, bytes } => Ok(Self::Bytes(bytes)),
            Output::Encoded { bytes, .. } => owned_json_line(bytes).map(Self::Line),
            // The command lends no task anything.
            Output::InPlace => Err(TaskError::Decode("the result is nowhere".into())),
            Output::Scalars(scalars) => Ok(Self::Line(json::scalars(&scalars))),
            Output::Exited(code) => Ok(Self::Line(code.to_string())),
        }
    }
}

/// As [`json_line`]; most results need no change, and so no copy.
fn owned_json_line(bytes: Vec<u8>) -> Result<String, TaskError> {
    match String::from_utf8(bytes) {
        Ok(text) if !text.is_empty() => {
            json::into_compact(text).map_err(|error| TaskError::Decode(error.to_string().into()))
        }
        Ok(_) => json_line(&[]),
        Err(error) => json_line(error.as_bytes()),
    }
}

/// A result that should be JSON, on one line. A guest that wrote nothing gave nothing.
pub(crate) fn json_line(bytes: &[u8]) -> Result<String, TaskError> {
    if bytes.is_empty() {
        return Ok("null".into());
    }
    let text =
        std::str::from_utf8(bytes).map_err(|error| TaskError::Decode(error.to_string().into()))?;
    json::compact(text).map_err(|error| TaskError::Decode(error.to_string().into()))
}

/// An item that a raw or a scalar call emitted, as JSON: its own where it is some, else a string,
/// in base64 where it is not text.
pub(crate) fn item_line(bytes: &[u8]) -> String {
    if let Ok(line) = json_line(bytes) {
        return line;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => base64::engine::general_purpose::STANDARD.encode(bytes),
    };
    json::text(&text.into())
}

/// Writes a result to `file`, or to stdout where there is none or it is `-`.
///
/// # Errors
/// What the system refuses, and bytes that a terminal would not just show.
pub(crate) fn write(written: Written, file: Option<&Path>) -> Result<(), Error> {
    let bytes = match written {
        Written::Line(mut line) => {
            line.push('\n');
            line.into_bytes()
        }
        Written::Bytes(bytes) => bytes,
    };
    match file {
        Some(path) if path.as_os_str() != "-" => aside::write(path, &bytes).map_err(|error| {
            Error::new(Exit::Output, format!("cannot write {}", path.display()))
                .cause(&error)
                .help_with_directory(path)
        }),
        forced => {
            let is_seen = forced.is_none() && streams::stdout_is_terminal();
            if is_seen && !is_showable(&bytes) {
                return Err(Error::new(
                    Exit::Output,
                    "the result is binary, and stdout a terminal",
                )
                .help("write it to a file with `--output FILE`; `--output -` forces it here"));
            }
            // For a person, so that the next prompt begins a line; a pipe gets the bytes as they are.
            let line_end: &[u8] = if is_seen && !bytes.ends_with(b"\n") { b"\n" } else { b"" };
            let mut stdout = streams::stdout();
            let written = stdout.write_all(&bytes).and_then(|()| stdout.write_all(line_end));
            written.map_err(|error| streams::failed(&error))
        }
    }
}

fn is_showable(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(escape::is_text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stockade::Scalar;

    #[test]
    fn a_result_is_a_line_of_json_or_the_bytes_it_is() {
        let encoded = |codec, bytes: &[u8]| {
            Written::from_output(Output::Encoded { codec, bytes: bytes.to_vec() })
        };
        assert_eq!(encoded(Codec::Json, b"[1,\n 2]").unwrap(), Written::Line("[1,2]".into()));
        assert_eq!(encoded(Codec::Json, b"").unwrap(), Written::Line("null".into()));
        assert_eq!(encoded(Codec::Raw, b"\xff[").unwrap(), Written::Bytes(b"\xff[".to_vec()));
        assert!(matches!(encoded(Codec::Json, b"\xff"), Err(TaskError::Decode(_))));
        assert!(matches!(encoded(Codec::Json, b"nope"), Err(TaskError::Decode(_))));
        let scalars = Written::from_output(Output::Scalars(vec![Scalar::I32(1)]));
        assert_eq!(scalars.unwrap(), Written::Line("1".into()));
    }

    #[test]
    fn an_item_is_json_whatever_it_is() {
        assert_eq!(item_line(b"{\"a\": 1}"), "{\"a\":1}");
        assert_eq!(item_line(b"to be"), "\"to be\"");
        assert_eq!(item_line(b"\xff\x00"), "\"/wA=\"");
    }

    #[test]
    fn only_text_without_control_characters_is_for_a_terminal() {
        assert!(is_showable("grün\n\t✓".as_bytes()));
        assert!(!is_showable(b"\x1b[2J"));
        assert!(!is_showable(b"\x89PNG"));
    }
}

//! The ending: exit code, stdout and stderr of a program become a result, or the error of an item.

use base64::Engine as _;
use serde_json::Value;
use stockade::{Captured, Output, TaskError, TaskReport};

use super::super::record::{Beside, Problem};
use super::options::{Codes, StdoutFormat};
use crate::args::MapArgs;
use crate::arguments::Kind;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{self, Written};
use crate::values::Size;
use crate::{escape, report};

/// The most bytes of a program's stdout, which a worker keeps until the program's end.
pub(super) const STDOUT_BYTES_MAX: u64 = 16 << 20;

/// Settings that turn a program's end into a result or an error.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(super) stdout: StdoutFormat,
    pub(super) ok_codes: Codes,
    pub(super) stdout_bytes_max: u64,
    pub(super) stderr_bytes_max: u64,
}

/// Why an item has no result.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The item's error.
    pub(crate) problem: Problem,
    /// The map's error, if it ends for this item.
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
    /// From the command line.
    ///
    /// # Errors
    /// If the limit of stdout is more than a worker can hold.
    pub(super) fn new(args: &MapArgs) -> Result<Self, Error> {
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

    /// The form of results in files and in records.
    pub(crate) fn kind(&self) -> Kind {
        match self.stdout {
            StdoutFormat::Text => Kind::Text { optional: false },
            StdoutFormat::Json => Kind::Any,
            StdoutFormat::Bytes => Kind::Bytes,
        }
    }

    /// The result of a program that has ended, and its further fields.
    ///
    /// # Errors
    /// If the task failed, the exit code is an error, or stdout is too long or not of the right
    /// form.
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
                let no_program = || TaskError::Decode("the task was not a program".into());
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
                    "the program wrote {written} bytes to stdout, but only {allowed} are allowed"
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
                    Err(undecodable(format!("stdout is not UTF-8 text, from its byte {at}")))
                }
            },
            StdoutFormat::Json => match output::json_line(&stdout.bytes) {
                Ok(line) => Ok(Written::Line(line)),
                Err(TaskError::Decode(problem)) => {
                    Err(undecodable(format!("stdout is not a JSON value: {problem}")))
                }
                Err(error) => Err(undecodable(error.to_string())),
            },
        }
    }

    /// The part of stderr in the record, and the number of dropped bytes.
    fn stderr(&self, captured: &Captured) -> (String, u64) {
        let (kept, dropped) = kept(captured, self.stderr_bytes_max);
        (String::from_utf8_lossy(kept).into_owned(), dropped)
    }

    /// The further fields of a failed program.
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
        // For debugging, like stderr; a result is never truncated.
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

/// The part of a stream that a record may hold, and the number of dropped bytes.
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
}

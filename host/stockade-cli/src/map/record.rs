//! Records: the output of one item.

use std::path::PathBuf;

use base64::Engine as _;
use serde_json::{Value, json};
use stockade::{Fault, SubmitError, TaskError};

use super::item::Name;
use super::options::SinkArgs;
use super::program::Ending;
use crate::advice::words;
use crate::arguments::Kind;
use crate::output::{self, Written};
use crate::{escape, json};

/// Why an item has no result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    /// The kind, for scripts.
    pub(crate) kind: &'static str,
    fault: &'static str,
    message: String,
    /// Further data, if any, as JSON text of the guest.
    details: Vec<(&'static str, String)>,
}

/// A program's output in addition to its result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Beside {
    pub(crate) exit_code: i32,
    pub(crate) stderr: String,
    /// Dropped bytes of stderr.
    pub(crate) stderr_dropped: u64,
}

impl Beside {
    /// As further fields of a record.
    fn fields(&self) -> String {
        let mut fields = format!(",\"exit_code\":{}", self.exit_code);
        if !self.stderr.is_empty() {
            fields.push_str(&format!(",\"stderr\":{}", json::text(&json!(self.stderr))));
        }
        if self.stderr_dropped > 0 {
            fields.push_str(&format!(",\"stderr_dropped\":{}", self.stderr_dropped));
        }
        fields
    }

    /// On one line, for people; empty if there is none.
    fn line(&self, name: &Name) -> Option<String> {
        let text = escape::line(&escape::bounded(self.stderr.trim_end(), 1000));
        (!text.is_empty()).then(|| format!("{name}: stderr: {text}"))
    }
}

impl Problem {
    /// One of this kind.
    pub(crate) fn new(kind: &'static str, fault: &'static str, message: String) -> Self {
        Self { kind, fault, message, details: Vec::new() }
    }

    /// The same, and more of it.
    #[must_use]
    pub(crate) fn with(mut self, details: Vec<(&'static str, Value)>) -> Self {
        self.details.extend(details.into_iter().map(|(name, value)| (name, json::text(&value))));
        self
    }

    /// An item that holds no arguments.
    pub(crate) fn unread(name: &Name, message: String) -> Self {
        let kind = if matches!(name, Name::Line(_)) { "bad-line" } else { "bad-file" };
        Self { kind, fault: "caller", message, details: Vec::new() }
    }

    /// An item whose arguments do not fit the function.
    pub(crate) fn refused(error: &SubmitError) -> Self {
        let message = error.to_string();
        Self { kind: "wrong-arguments", fault: "caller", message, details: Vec::new() }
    }

    /// A task that failed.
    pub(crate) fn of_task(error: &TaskError) -> Self {
        let mut details = Vec::new();
        if let TaskError::Guest(guest)
        | TaskError::BadArguments(guest)
        | TaskError::Panic { error: guest, .. } = error
        {
            if let Some(location) = &guest.location {
                details.push(("location", json::text(&json!(location))));
            }
            if let Some(data) = &guest.data {
                details.push(("data", output::item_line(data.as_bytes())));
            }
        }
        if let TaskError::Trap { message, .. } = error {
            details.push(("trap", json::text(&json!(message))));
        }
        if !error.backtrace().is_empty() {
            let functions: Vec<_> =
                error.backtrace().iter().map(|frame| &*frame.function).collect();
            details.push(("backtrace", json::text(&json!(functions))));
        }
        let (kind, fault) = (kind(error), fault(error.fault()));
        Self { kind, fault, message: words(error), details }
    }
}

fn kind(error: &TaskError) -> &'static str {
    match error {
        TaskError::Guest(_) => "error",
        TaskError::Panic { .. } => "panic",
        TaskError::BadArguments(_) => "bad-arguments",
        TaskError::Trap { .. } => "trap",
        TaskError::Deadline { .. } => "deadline",
        TaskError::Fuel { .. } => "fuel",
        TaskError::Memory { .. } => "memory",
        TaskError::Output { .. } => "output",
        TaskError::Exited(_) => "exited",
        TaskError::Abi(_) => "abi",
        TaskError::WorkerLost(_) => "worker-lost",
        TaskError::Decode(_) => "undecodable",
        TaskError::Cancelled(_) => "cancelled",
        TaskError::Broken(_) => "pool-broken",
        TaskError::Quarantined(_) => "quarantined",
        _ => "other",
    }
}

fn fault(fault: Fault) -> &'static str {
    match fault {
        Fault::Guest => "guest",
        Fault::Limit => "limit",
        Fault::Caller => "caller",
        Fault::Worker => "worker",
        Fault::Pool => "pool",
        _ => "other",
    }
}

/// The output of one item.
#[derive(Debug, PartialEq)]
pub(crate) struct Record {
    /// The item's place in the input.
    pub(crate) ordinal: u64,
    /// What goes to the output.
    pub(crate) output: Output,
    /// What goes to stderr.
    pub(crate) aside: Option<String>,
    /// The kind of its error, where it failed.
    pub(crate) failed: Option<&'static str>,
}

/// An item's output.
#[derive(Debug, PartialEq)]
pub(crate) enum Output {
    Nothing,
    /// A line.
    Line(String),
    /// A file, and an outdated one to remove.
    File {
        name: PathBuf,
        bytes: Vec<u8>,
        obsolete: PathBuf,
    },
}

impl Output {
    /// Bytes of memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Line(line) => line.len(),
            Self::File { bytes, .. } => bytes.len(),
        }
    }
}

/// How records are written.
#[derive(Clone, Debug)]
pub(crate) struct Writing {
    /// A line is the bare result.
    pub(crate) plain: bool,
    /// A failed item has no output.
    pub(crate) skips_errors: bool,
    /// Each result has a file with such a name.
    pub(crate) files: Option<SinkArgs>,
    /// The kind of a function's or program's raw result.
    pub(crate) result: Kind,
    /// For a program: how its end becomes a result.
    pub(crate) program: Option<Ending>,
}

impl Writing {
    /// The record of an item; a program's has further fields.
    pub(crate) fn record(
        &self,
        ordinal: u64,
        name: &Name,
        outcome: Result<(Written, Option<Beside>), Problem>,
    ) -> Record {
        let failed = outcome.as_ref().err().map(|problem| problem.kind);
        let (output, aside) = match (&self.files, outcome) {
            (_, Err(_)) if self.skips_errors => (Output::Nothing, None),
            (None, Ok((written, beside))) => {
                let result = self.line(written);
                if self.plain {
                    let told = beside.and_then(|beside| beside.line(name));
                    (Output::Line(result), told)
                } else {
                    let beside = beside.map_or_else(String::new, |beside| beside.fields());
                    let mut line = String::with_capacity(result.len() + beside.len() + 48);
                    line.push('{');
                    name.push_field(&mut line);
                    line.push_str(",\"result\":");
                    line.push_str(&result);
                    line.push_str(&beside);
                    line.push('}');
                    (Output::Line(line), None)
                }
            }
            (None, Err(problem)) if self.plain => {
                (Output::Line("null".into()), Some(problem.line(name)))
            }
            (None, Err(problem)) => (Output::Line(problem.record(name)), None),
            (Some(files), Ok((written, beside))) => {
                let (as_bytes, bytes) = match written {
                    Written::Line(line) => (false, line.into_bytes()),
                    Written::Bytes(bytes) => (self.gives_bytes(), bytes),
                };
                let mut bytes = bytes;
                if !as_bytes {
                    bytes.push(b'\n');
                }
                let file = Output::File {
                    name: files.file_of(&base(name), as_bytes),
                    bytes,
                    obsolete: error_file(name),
                };
                (file, beside.and_then(|beside| beside.line(name)))
            }
            (Some(files), Err(problem)) => {
                let mut bytes = problem.record(name).into_bytes();
                bytes.push(b'\n');
                let obsolete = files.file_of(&base(name), self.gives_bytes());
                let file = Output::File { name: error_file(name), bytes, obsolete };
                (file, Some(problem.line(name)))
            }
        };
        Record { ordinal, output, aside, failed }
    }

    /// Whether a raw result is bytes or a text rather than JSON.
    pub(crate) fn gives_bytes(&self) -> bool {
        !matches!(self.result, Kind::Any | Kind::Json)
    }

    /// A result as JSON text on one line.
    fn line(&self, written: Written) -> String {
        match (written, self.result) {
            (Written::Line(line), _) => line,
            (Written::Bytes(bytes), Kind::Any | Kind::Json) => output::item_line(&bytes),
            (Written::Bytes(bytes), Kind::Bytes) => {
                format!("\"{}\"", base64::engine::general_purpose::STANDARD.encode(bytes))
            }
            (Written::Bytes(bytes), Kind::Text { .. }) => {
                json::text(&json!(String::from_utf8_lossy(&bytes)))
            }
        }
    }
}

/// The base name of an item's files.
fn base(name: &Name) -> PathBuf {
    match name {
        Name::Line(number) => number.to_string().into(),
        Name::File(path) => path.file_name().unwrap_or_default().into(),
    }
}

fn error_file(name: &Name) -> PathBuf {
    let mut name = base(name).into_os_string();
    name.push(".error.json");
    name.into()
}

impl Problem {
    /// What happened.
    pub(crate) fn message(&self) -> String {
        self.message.clone()
    }

    /// In one line, for people.
    pub(crate) fn line(&self, name: &Name) -> String {
        let message = escape::line(&escape::bounded(&self.message, 1000));
        let stderr = self.details.iter().find(|(name, _)| *name == "stderr");
        let stderr = stderr.and_then(|(_, text)| serde_json::from_str::<String>(text).ok());
        match stderr.as_deref().and_then(|text| text.trim_end().lines().next_back()) {
            Some(last) => {
                let last = escape::line(&escape::bounded(last, 1000));
                format!("{name}: {}: {message}: {last}", self.kind)
            }
            None => format!("{name}: {}: {message}", self.kind),
        }
    }

    /// As JSON text.
    pub(crate) fn to_json(&self) -> String {
        error_json(self)
    }

    fn record(&self, name: &Name) -> String {
        let mut line = String::from("{");
        name.push_field(&mut line);
        line.push_str(",\"error\":");
        line.push_str(&self.to_json());
        line.push('}');
        line
    }
}

/// By hand, so that the kind comes first.
fn error_json(problem: &Problem) -> String {
    let Problem { kind, fault, message, details } = problem;
    let mut text = format!(
        "{{\"kind\":\"{kind}\",\"fault\":\"{fault}\",\"message\":{}",
        json::text(&json!(message))
    );
    for (name, value) in details {
        text.push_str(&format!(",\"{name}\":{value}"));
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use stockade::GuestError;

    fn failed() -> Result<(Written, Option<Beside>), Problem> {
        let guest = GuestError {
            message: "no \u{9b}words\n".into(),
            location: None,
            data: Some("{\"b\":1}".into()),
        };
        Err(Problem::of_task(&TaskError::Guest(guest)))
    }

    fn done(text: &str) -> Result<(Written, Option<Beside>), Problem> {
        Ok((Written::Line(text.into()), None))
    }

    fn writing() -> Writing {
        Writing { plain: false, skips_errors: false, files: None, result: Kind::Any, program: None }
    }

    fn line(record: &Record) -> &str {
        match &record.output {
            Output::Line(line) => line,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_record_is_one_line_of_json_with_its_number() {
        let record = writing().record(1, &Name::Line(7), done("[1,2]"));
        assert_eq!(line(&record), r#"{"line":7,"result":[1,2]}"#);

        let record = writing().record(1, &Name::Line(8), failed());
        assert_eq!(
            line(&record),
            r#"{"line":8,"error":{"kind":"error","fault":"guest","message":"the task failed: no \u009bwords\n","data":{"b":1}}}"#
        );
        serde_json::from_str::<Value>(line(&record)).unwrap();
        assert_eq!((record.aside, record.failed), (None, Some("error")));
    }

    #[test]
    fn what_an_error_tells_is_told_in_its_own_words() {
        let data = Some("{\"n\": 18446744073709551616, \"n\": 1.10}".into());
        let guest = GuestError { message: "no".into(), location: None, data };
        let problem = Problem::of_task(&TaskError::Guest(guest));
        let told = problem.to_json();
        assert!(told.ends_with(r#""data":{"n":18446744073709551616,"n":1.10}}"#), "{told}");
    }

    #[test]
    fn a_plain_record_is_the_bare_result_or_null() {
        let plain = Writing { plain: true, ..writing() };
        assert_eq!(line(&plain.record(1, &Name::Line(7), done("3"))), "3");
        let record = plain.record(1, &Name::Line(8), failed());
        assert_eq!(line(&record), "null");
        let expected = "line 8: error: the task failed: no \\u{9b}words\\n";
        assert_eq!(record.aside.as_deref(), Some(expected));
    }

    #[test]
    fn nothing_is_written_of_an_error_that_is_skipped() {
        let skipping = Writing { skips_errors: true, ..writing() };
        let record = skipping.record(1, &Name::Line(7), failed());
        assert_eq!((record.output, record.aside), (Output::Nothing, None));
    }

    #[test]
    fn a_raw_result_is_json_or_stands_in_it_as_its_type_says() {
        let shown = |result, bytes: &[u8]| {
            let writing = Writing { result, ..writing() };
            let name = Name::File(std::path::Path::new("a/b\"c").into());
            line(&writing.record(1, &name, Ok((Written::Bytes(bytes.to_vec()), None)))).to_string()
        };
        let record = |result: &str| format!(r#"{{"file":"a/b\"c","result":{result}}}"#);
        assert_eq!(shown(Kind::Any, b"{\"x\": 1}"), record(r#"{"x":1}"#));
        assert_eq!(shown(Kind::Bytes, b"1"), record(r#""MQ==""#));
        assert_eq!(shown(Kind::Text { optional: false }, b"1"), record(r#""1""#));
    }

    #[test]
    fn a_file_is_the_result_or_its_error_and_never_both() {
        let files = Some(SinkArgs::default());
        let writing = Writing { files, result: Kind::Bytes, ..writing() };
        let name = Name::File(std::path::Path::new("in/cat.png").into());
        let file = |name: &str, bytes: &[u8], obsolete: &str| Output::File {
            name: name.into(),
            bytes: bytes.to_vec(),
            obsolete: obsolete.into(),
        };
        let record = writing.record(1, &name, Ok((Written::Bytes(b"\xff".to_vec()), None)));
        assert_eq!(record.output, file("cat.png", b"\xff", "cat.png.error.json"));
        let record = writing.record(1, &name, failed());
        let Output::File { name, obsolete, .. } = &record.output else { panic!("{record:?}") };
        assert_eq!(
            (name.to_str(), obsolete.to_str()),
            (Some("cat.png.error.json"), Some("cat.png"))
        );
        let record = writing.record(2, &Name::Line(2), done("[1]"));
        assert_eq!(record.output, file("2.json", b"[1]\n", "2.error.json"));
    }
}

//! Records: what is written of one line of the input.

use serde_json::{Value, json};
use stockade::{Fault, SubmitError, TaskError};

use crate::advice::words;
use crate::{escape, json};

/// Why a line has no result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    /// What a script matches on.
    pub(crate) kind: &'static str,
    fault: &'static str,
    message: String,
    /// More, where there is more: for people and scripts.
    details: Vec<(&'static str, Value)>,
}

impl Problem {
    /// A line that holds no arguments.
    pub(crate) fn bad_line(message: String) -> Self {
        Self { kind: "bad-line", fault: "caller", message, details: Vec::new() }
    }

    /// A line whose arguments do not fit the function.
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
                details.push(("location", location.as_str().into()));
            }
            if let Some(data) = &guest.data {
                details.push(("data", serde_json::from_str(data).unwrap_or(data.as_str().into())));
            }
        }
        if let TaskError::Trap { message, .. } = error {
            details.push(("trap", message.as_str().into()));
        }
        if !error.backtrace().is_empty() {
            let functions: Vec<_> =
                error.backtrace().iter().map(|frame| &*frame.function).collect();
            details.push(("backtrace", functions.into()));
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

/// What is written of one line: to stdout, and to stderr where errors go there.
#[derive(Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) stdout: String,
    pub(crate) stderr: Option<String>,
}

impl Record {
    /// The record of the line `number`, whose result is JSON text. A `plain` one is the bare result.
    pub(crate) fn new(number: u64, outcome: &Result<String, Problem>, plain: bool) -> Self {
        match outcome {
            Ok(result) if plain => Self { stdout: result.clone(), stderr: None },
            Ok(result) => {
                let stdout = format!("{{\"line\":{number},\"result\":{result}}}");
                Self { stdout, stderr: None }
            }
            Err(problem) if plain => {
                let Problem { kind, message, .. } = problem;
                let message = escape::line(&escape::bounded(message, 1000));
                let stderr = Some(format!("line {number}: {kind}: {message}"));
                Self { stdout: "null".into(), stderr }
            }
            Err(problem) => {
                let error = error_json(problem);
                Self { stdout: format!("{{\"line\":{number},\"error\":{error}}}"), stderr: None }
            }
        }
    }
}

/// By hand, so that what tells errors apart comes first.
fn error_json(problem: &Problem) -> String {
    let Problem { kind, fault, message, details } = problem;
    let mut text = format!(
        "{{\"kind\":\"{kind}\",\"fault\":\"{fault}\",\"message\":{}",
        json::text(&json!(message))
    );
    for (name, value) in details {
        text.push_str(&format!(",\"{name}\":{}", json::text(value)));
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use stockade::GuestError;

    fn failed() -> Result<String, Problem> {
        let guest = GuestError {
            message: "no \u{9b}words\n".into(),
            location: None,
            data: Some("{\"b\":1}".into()),
        };
        Err(Problem::of_task(&TaskError::Guest(guest)))
    }

    #[test]
    fn a_record_is_one_line_of_json_with_its_number() {
        let done = Record::new(7, &Ok("[1,2]".into()), false);
        assert_eq!(done.stdout, r#"{"line":7,"result":[1,2]}"#);

        let record = Record::new(8, &failed(), false);
        assert_eq!(
            record.stdout,
            r#"{"line":8,"error":{"kind":"error","fault":"guest","message":"the task failed: no \u009bwords\n","data":{"b":1}}}"#
        );
        serde_json::from_str::<Value>(&record.stdout).unwrap();
        assert_eq!(record.stderr, None);
    }

    #[test]
    fn a_plain_record_is_the_bare_result_or_null() {
        assert_eq!(
            Record::new(7, &Ok("3".into()), true),
            Record { stdout: "3".into(), stderr: None }
        );
        let record = Record::new(8, &failed(), true);
        assert_eq!(record.stdout, "null");
        let expected = "line 8: error: the task failed: no \\u{9b}words\\n";
        assert_eq!(record.stderr.as_deref(), Some(expected));
    }
}

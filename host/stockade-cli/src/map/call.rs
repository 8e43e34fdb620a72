//! What an item asks for: the arguments of one call.

use std::sync::Arc;

use serde_json::Value;
use stockade::{Bytes, Json, Pool, RecordError, Recording};

use super::item::Content;
use super::program::{ProgramCall, Template};
use super::rows::Header;

/// How items are read.
#[derive(Clone, Debug)]
pub(crate) enum Reading {
    /// A line is one argument, as JSON.
    Json,
    /// A line holds all arguments, as JSON.
    AllArguments,
    /// A line is one argument, a text.
    Text,
    /// A row of a table.
    Rows(Header),
    /// A file's bytes are the input as it is.
    Raw,
    /// What is in a file is one argument, as JSON.
    JsonFile,
    /// An item is what one run of a program is given.
    Program(Arc<Template>),
}

/// The arguments of a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Json(Json),
    Raw(Bytes),
    Program(ProgramCall),
}

impl Call {
    /// What it takes to make this call of `function` again.
    ///
    /// # Errors
    /// As [`Pool::record`].
    pub(crate) fn record(self, pool: &Pool, function: &str) -> Result<Recording, RecordError> {
        match self {
            Self::Json(arguments) => pool.record(function, arguments),
            Self::Raw(bytes) => pool.record(function, bytes),
            Self::Program(call) => pool.record(function, call.command()),
        }
    }
}

impl Reading {
    /// The arguments in `content`; `None` for a blank line of JSON input.
    ///
    /// # Errors
    /// In words, why there are none.
    pub(crate) fn call(&self, content: Content) -> Result<Option<Call>, String> {
        let text = match (self, content) {
            (Self::Program(template), content) => {
                return Ok(template.call(content)?.map(Call::Program));
            }
            (Self::Rows(header), Content::Row(cells)) => {
                return Ok(Some(Call::Json(header.arguments(cells)?)));
            }
            (Self::Raw, Content::Bytes(bytes)) => return Ok(Some(Call::Raw(Bytes(bytes)))),
            (_, Content::Text(text)) => text,
            (_, Content::Bytes(bytes)) => {
                String::from_utf8(bytes).map_err(|_| "the file is no UTF-8 text".to_string())?
            }
            (_, Content::Row(_)) => return Err("the row has no header".into()),
        };
        let arguments = match self {
            Self::Text => Json::new().arg(text.into()),
            Self::JsonFile => Json::new().arg(
                serde_json::from_str(&text)
                    .map_err(|error| format!("the file is no JSON: {error}"))?,
            ),
            _ if text.trim().is_empty() => return Ok(None),
            _ => {
                let value = serde_json::from_str(&text).map_err(|error| describe(&error))?;
                match self {
                    Self::AllArguments => all(value)?,
                    _ => Json::new().arg(value),
                }
            }
        };
        Ok(Some(Call::Json(arguments)))
    }
}

/// The error without its line, which is 1 whatever the line of the input is.
pub(super) fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let what = text.strip_suffix(&place).unwrap_or(&text);
    format!("the line is no JSON: {what} (at its byte {})", error.column())
}

fn all(value: Value) -> Result<Json, String> {
    let refused = || {
        "the line holds no arguments: with `--args` it is [...], or {\"args\": [...], \"kwargs\": {...}}"
            .to_string()
    };
    let mut object = match value {
        Value::Array(args) => return Ok(by_position(args)),
        Value::Object(object) => object,
        _ => return Err(refused()),
    };
    let args = match object.remove("args") {
        None => Vec::new(),
        Some(Value::Array(args)) => args,
        Some(_) => return Err(refused()),
    };
    let kwargs = match object.remove("kwargs") {
        None => Default::default(),
        Some(Value::Object(kwargs)) => kwargs,
        Some(_) => return Err(refused()),
    };
    if !object.is_empty() {
        return Err(refused());
    }
    Ok(kwargs.into_iter().fold(by_position(args), |json, (name, value)| json.named(name, value)))
}

fn by_position(args: Vec<Value>) -> Json {
    args.into_iter().fold(Json::new(), Json::arg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(reading: Reading, line: &str) -> Result<Option<Call>, String> {
        reading.call(Content::Text(line.into()))
    }

    #[test]
    fn a_line_is_one_argument_or_all_of_them() {
        let one = |value| Ok(Some(Call::Json(Json::new().arg(value))));
        assert_eq!(read(Reading::Json, "[1, 2]"), one(json!([1, 2])));
        assert_eq!(read(Reading::Text, "[1, 2]"), one(json!("[1, 2]")));

        let two = Json::new().arg(json!(1)).arg(json!(2));
        assert_eq!(read(Reading::AllArguments, "[1, 2]"), Ok(Some(Call::Json(two))));
        let both = Json::new().arg(json!(1)).named("b", json!(2));
        let line = r#"{"args": [1], "kwargs": {"b": 2}}"#;
        assert_eq!(read(Reading::AllArguments, line), Ok(Some(Call::Json(both))));
    }

    #[test]
    fn blank_lines_are_nothing_in_json_and_empty_texts_in_text() {
        assert_eq!(read(Reading::Json, " \t"), Ok(None));
        let empty = Call::Json(Json::new().arg(json!("")));
        assert_eq!(read(Reading::Text, ""), Ok(Some(empty)));
    }

    #[test]
    fn a_file_is_its_bytes_or_the_json_in_it() {
        let file = |reading: Reading, bytes: &[u8]| reading.call(Content::Bytes(bytes.to_vec()));
        assert_eq!(file(Reading::Raw, b"\xff"), Ok(Some(Call::Raw(Bytes(b"\xff".to_vec())))));
        let one = Call::Json(Json::new().arg(json!([1])));
        assert_eq!(file(Reading::JsonFile, b"[1]\n"), Ok(Some(one)));
        assert!(file(Reading::JsonFile, b"\xff").unwrap_err().contains("UTF-8"));
        assert!(file(Reading::JsonFile, b"").unwrap_err().contains("no JSON"));
    }

    #[test]
    fn a_line_that_is_wrong_says_where() {
        let refused = read(Reading::Json, "[1, x]").unwrap_err();
        assert_eq!(refused, "the line is no JSON: expected value (at its byte 5)");
        for line in ["1", "{\"args\": 1}", "{\"kwargs\": []}", "{\"arg\": [1]}"] {
            assert!(read(Reading::AllArguments, line).unwrap_err().contains("--args"), "{line}");
        }
    }
}

//! What a line asks for: the arguments of one call.

use serde_json::Value;
use stockade::Json;

use crate::args::InputFormat;

/// How lines are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) format: InputFormat,
    /// Whether a line holds all arguments.
    pub(crate) whole: bool,
}

impl Reading {
    /// The arguments in `line`; `None` for a blank line of JSON input.
    ///
    /// # Errors
    /// In words, why the line has none.
    pub(crate) fn arguments(self, line: &str) -> Result<Option<Json>, String> {
        if self.format == InputFormat::Text {
            return Ok(Some(Json::new().arg(line.into())));
        }
        if line.trim().is_empty() {
            return Ok(None);
        }
        let value = serde_json::from_str(line).map_err(|error| describe(&error))?;
        match self.whole {
            true => all(value).map(Some),
            false => Ok(Some(Json::new().arg(value))),
        }
    }
}

/// The error without its line, which is 1 whatever the line of the input is.
fn describe(error: &serde_json::Error) -> String {
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

    fn read(format: InputFormat, whole: bool, line: &str) -> Result<Option<Json>, String> {
        Reading { format, whole }.arguments(line)
    }

    #[test]
    fn a_line_is_one_argument_or_all_of_them() {
        let one = |value| Ok(Some(Json::new().arg(value)));
        assert_eq!(read(InputFormat::Json, false, "[1, 2]"), one(json!([1, 2])));
        assert_eq!(read(InputFormat::Text, false, "[1, 2]"), one(json!("[1, 2]")));

        let two = Json::new().arg(json!(1)).arg(json!(2));
        assert_eq!(read(InputFormat::Json, true, "[1, 2]"), Ok(Some(two)));
        let both = Json::new().arg(json!(1)).named("b", json!(2));
        let line = r#"{"args": [1], "kwargs": {"b": 2}}"#;
        assert_eq!(read(InputFormat::Json, true, line), Ok(Some(both)));
    }

    #[test]
    fn blank_lines_are_nothing_in_json_and_empty_texts_in_text() {
        assert_eq!(read(InputFormat::Json, false, " \t"), Ok(None));
        assert_eq!(read(InputFormat::Text, false, ""), Ok(Some(Json::new().arg(json!("")))));
    }

    #[test]
    fn a_line_that_is_wrong_says_where() {
        let refused = read(InputFormat::Json, false, "[1, x]").unwrap_err();
        assert_eq!(refused, "the line is no JSON: expected value (at its byte 5)");
        for line in ["1", "{\"args\": 1}", "{\"kwargs\": []}", "{\"arg\": [1]}"] {
            assert!(read(InputFormat::Json, true, line).unwrap_err().contains("--args"), "{line}");
        }
    }
}

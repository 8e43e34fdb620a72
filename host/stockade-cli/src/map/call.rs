//! Items become the arguments of calls.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use stockade::{Bytes, Json, Pool, RecordError, Recording};

use super::item::Content;
use super::program::{ProgramCall, Template};
use super::rows::Header;
use crate::floats::Floats;

/// How items are read.
#[derive(Clone, Debug)]
pub(crate) enum Reading {
    /// A line is one argument, as JSON.
    Json(Floats),
    /// A line holds all arguments, as JSON.
    AllArguments(Floats),
    /// A line is one argument, a text.
    Text,
    /// A row of a table.
    Rows(Header),
    /// A file's bytes are the input.
    Raw,
    /// A file's content is one argument, as JSON.
    JsonFile(Floats),
    /// An item is the input of one run of a program.
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
    /// A recording of this call of `function`.
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
                return Ok(Some(Call::Json(header.arguments(&cells)?)));
            }
            (Self::Raw, Content::Bytes(bytes)) => return Ok(Some(Call::Raw(Bytes(bytes)))),
            (_, Content::Text(text)) => text,
            (_, Content::Bytes(bytes)) => {
                String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_string())?
            }
            (_, Content::Row(_)) => return Err("the row has no header".into()),
        };
        let arguments = match self {
            Self::Text => Json::new().arg(Value::String(text)),
            Self::JsonFile(floats) => {
                let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
                floats.check_at(0, text)?;
                let file = Json::new().arg_json(text);
                file.map_err(|error| format!("the file is not JSON: {error}"))?
            }
            _ if text.trim().is_empty() => return Ok(None),
            Self::AllArguments(floats) => all(&text, floats)?,
            Self::Json(floats) => {
                floats.check_at(0, &text)?;
                // Unchanged, so that the guest reads all digits and every key.
                Json::new().arg_json(&*text).map_err(|error| describe(&error, &text))?
            }
            Self::Rows(_) | Self::Raw | Self::Program(_) => {
                return Err("a line is not an item of this kind".into());
            }
        };
        Ok(Some(Call::Json(arguments)))
    }
}

/// The error without its line number, which counts within this text and not in the input.
pub(super) fn describe(error: &serde_json::Error, text: &str) -> String {
    let shown = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let what = shown.strip_suffix(&place).unwrap_or(&shown);
    let hint = match text.contains('\r') {
        true => "; lines end in a line feed, and in this one there is a carriage return",
        false => "",
    };
    format!("the line is not JSON: {what} (at its byte {}){hint}", error.column())
}

/// The members of an object in their order, each as often as it stands there.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

/// All arguments of a call: a list of them, or those by position and those by name.
fn all(text: &str, floats: &Floats) -> Result<Json, String> {
    let refused = || {
        "the line holds no arguments: with `--args` it is [...], or {\"args\": [...], \"kwargs\": \
         {...}}"
            .to_string()
    };
    let whole: &RawValue = serde_json::from_str(text).map_err(|error| describe(&error, text))?;
    let members = match whole.get().as_bytes() {
        [b'[', ..] => return by_position(whole, floats),
        [b'{', ..] => serde_json::from_str::<Members<'_>>(whole.get()).map_err(|_| refused())?.0,
        _ => return Err(refused()),
    };
    let (mut args, mut kwargs) = (None, None);
    for (name, value) in members {
        let member = match (&*name, value.get().as_bytes()) {
            ("args", [b'[', ..]) => &mut args,
            ("kwargs", [b'{', ..]) => &mut kwargs,
            _ => return Err(refused()),
        };
        if member.replace(value).is_some() {
            return Err(format!("the line has `{name}` twice"));
        }
    }
    let mut arguments = args.map_or(Ok(Json::new()), |args| by_position(args, floats))?;
    let mut names = HashSet::new();
    let named = kwargs.map(|kwargs| serde_json::from_str::<Members<'_>>(kwargs.get()));
    let named = named.transpose().map_err(|error| describe(&error, text))?;
    for (name, value) in named.into_iter().flat_map(|members| members.0) {
        if !names.insert(name.clone()) {
            return Err(format!("the line has the argument `{name}` twice"));
        }
        floats.check_named(&name, value.get())?;
        arguments =
            arguments.named_json(name, value.get()).map_err(|error| describe(&error, text))?;
    }
    Ok(arguments)
}

fn by_position(list: &RawValue, floats: &Floats) -> Result<Json, String> {
    let unfit = |error: serde_json::Error| describe(&error, list.get());
    let args: Vec<&RawValue> = serde_json::from_str(list.get()).map_err(unfit)?;
    for (position, arg) in args.iter().enumerate() {
        floats.check_at(position, arg.get())?;
    }
    args.into_iter().try_fold(Json::new(), |json, value| json.arg_json(value.get())).map_err(unfit)
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
        assert_eq!(read(Reading::Json(Floats::default()), "[1,2]"), one(json!([1, 2])));
        assert_eq!(read(Reading::Text, "[1, 2]"), one(json!("[1, 2]")));

        let two = Json::new().arg(json!(1)).arg(json!(2));
        assert_eq!(
            read(Reading::AllArguments(Floats::default()), "[1, 2]"),
            Ok(Some(Call::Json(two)))
        );
        let both = Json::new().arg(json!(1)).named("b", json!(2));
        let line = r#"{"args": [1], "kwargs": {"b": 2}}"#;
        assert_eq!(
            read(Reading::AllArguments(Floats::default()), line),
            Ok(Some(Call::Json(both)))
        );
    }

    #[test]
    fn the_text_of_an_argument_is_passed_on_as_it_stands() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        for text in ["18446744073709551616", "-0", "1e400", "{\"a\": 1, \"a\": 2}", &deep] {
            let one = || Json::new().arg_json(text).unwrap();
            assert_eq!(read(Reading::Json(Floats::default()), text), Ok(Some(Call::Json(one()))));
            let list = format!("[{text}]");
            assert_eq!(
                read(Reading::AllArguments(Floats::default()), &list),
                Ok(Some(Call::Json(one())))
            );
            let object = format!("{{\"kwargs\": {{\"b\": {text}}}, \"args\": [{text}]}}");
            let both = one().named_json("b", text).unwrap();
            assert_eq!(
                read(Reading::AllArguments(Floats::default()), &object),
                Ok(Some(Call::Json(both)))
            );
        }
    }

    #[test]
    fn blank_lines_are_nothing_in_json_and_empty_texts_in_text() {
        assert_eq!(read(Reading::Json(Floats::default()), " \t"), Ok(None));
        let empty = Call::Json(Json::new().arg(json!("")));
        assert_eq!(read(Reading::Text, ""), Ok(Some(empty)));
    }

    #[test]
    fn a_file_is_its_bytes_or_the_json_in_it() {
        let file = |reading: Reading, bytes: &[u8]| reading.call(Content::Bytes(bytes.to_vec()));
        assert_eq!(file(Reading::Raw, b"\xff"), Ok(Some(Call::Raw(Bytes(b"\xff".to_vec())))));
        let one = Call::Json(Json::new().arg(json!([1])));
        assert_eq!(file(Reading::JsonFile(Floats::default()), b"[1]\n"), Ok(Some(one)));
        assert!(file(Reading::JsonFile(Floats::default()), b"\xff").unwrap_err().contains("UTF-8"));
        assert!(file(Reading::JsonFile(Floats::default()), b"").unwrap_err().contains("not JSON"));
    }

    #[test]
    fn a_line_that_is_wrong_says_where() {
        let refused = read(Reading::Json(Floats::default()), "[1, x]").unwrap_err();
        assert_eq!(refused, "the line is not JSON: expected value (at its byte 5)");
        let mac = read(Reading::Json(Floats::default()), "1\r2").unwrap_err();
        assert!(mac.contains("carriage return"), "{mac}");
        for line in [
            r#"{"args": [1], "args": [2]}"#,
            r#"{"kwargs": {"b": 1, "b": 2}}"#,
            r#"{"kwargs": {"b": 1, "\u0062": 2}}"#,
        ] {
            assert!(
                read(Reading::AllArguments(Floats::default()), line).unwrap_err().contains("twice"),
                "{line}"
            );
        }
        for line in ["1", "{\"args\": 1}", "{\"kwargs\": []}", "{\"arg\": [1]}"] {
            assert!(
                read(Reading::AllArguments(Floats::default()), line)
                    .unwrap_err()
                    .contains("--args"),
                "{line}"
            );
        }
    }
}

//! Arguments from the command line: JSON, text for a text parameter, or a file's content.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use serde::de::IgnoredAny;
use stockade::{Json, Parameter};

use crate::error::Error;
use crate::exit::Exit;
use crate::floats::Floats;
use crate::json;
use crate::streams;
use crate::values::Named;

/// The maximum bytes of a file that is an argument: that of all arguments of a task.
const FILE_BYTES_MAX: u64 = 128 << 20;

/// The kind of values that a parameter takes, if its type is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any JSON: the type is the guest's own, or not known.
    Any,
    /// Any JSON except a text: a number, true or false, a list, a tuple, a map, or null if it is
    /// optional.
    Json,
    /// A text, or nothing where `optional`.
    Text { optional: bool },
    /// Bytes, in base64.
    Bytes,
}

/// Reads the arguments of a call; `params` where the manifest declares them.
///
/// # Errors
/// If an argument should be JSON and is not, is given by name twice, or its file cannot be read.
pub(crate) fn read<'a>(
    by_position: impl IntoIterator<Item = &'a String>,
    by_name: impl IntoIterator<Item = &'a Named>,
    params: Option<&[Parameter]>,
) -> Result<Json, Error> {
    let params = params.unwrap_or_default();
    let floats = Floats::of(params);
    let unfit = |what: &str, problem| Error::new(Exit::Call, format!("{what}: {problem}"));
    let mut arguments = Json::new();
    for (index, text) in by_position.into_iter().enumerate() {
        let what = format!("argument {}", index + 1);
        let json = value(text, &what, kind_of(params.get(index)))?;
        floats.check_at(index, &json).map_err(|problem| unfit(&what, problem))?;
        arguments = arguments.arg_json(json).map_err(|error| no_json(&what, &error))?;
    }
    let mut names = HashSet::new();
    for Named { name, value: text } in by_name {
        let what = format!("argument `{name}`");
        if !names.insert(name) {
            return Err(Error::new(Exit::Call, format!("{what} is given twice")));
        }
        let kind = kind_of(params.iter().find(|param| param.name == *name));
        let json = value(text, &what, kind)?;
        floats.check_named(name, &json).map_err(|problem| unfit(&what, problem))?;
        arguments = arguments.named_json(name, json).map_err(|error| no_json(&what, &error))?;
    }
    Ok(arguments)
}

/// Checks that the files of arguments can be read, without reading them: one may be a pipe.
///
/// # Errors
/// The first file that cannot be read.
pub(crate) fn check_files<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
    let paths = texts.into_iter().filter_map(|text| text.strip_prefix('@'));
    paths.filter(|path| *path != "-").map(Path::new).try_for_each(check_file)
}

/// Refuses a file that cannot be read, without reading it.
///
/// # Errors
/// Why it cannot.
pub(crate) fn check_file(path: &Path) -> Result<(), Error> {
    let data = path.metadata().map_err(|error| unreadable(path, &error))?;
    if data.is_dir() {
        return Err(unreadable(path, &std::io::ErrorKind::IsADirectory.into()));
    }
    streams::check_named(path).map_err(|error| unreadable(path, &error))?;
    if data.is_file() {
        File::open(path).map_err(|error| unreadable(path, &error))?;
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    let what = match path.as_os_str() == "-" {
        true => "stdin".into(),
        false => format!("the file {}", path.display()),
    };
    let refused = Error::new(Exit::Missing, format!("cannot read {what}")).cause(error);
    match path.as_os_str().is_empty() {
        true => refused.help(
            "@ stands before a file's name, or before - for stdin; the text itself is '\"@\"'",
        ),
        false => refused,
    }
}

/// The content of a file, or of stdin if it is `-`.
///
/// # Errors
/// A file that cannot be read, or is too large.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    let shown = path.display();
    let failed = |error: std::io::Error| unreadable(path, &error);
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        streams::stdin().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        streams::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
    }
    .map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!("the file {shown} has more than {} MiB", FILE_BYTES_MAX >> 20);
        return Err(Error::new(Exit::Call, message)
            .help("grant its directory with `--grant-dir`, and let the guest read it"));
    }
    Ok(bytes)
}

/// The kind of a parameter; any JSON if its type is not known.
pub(crate) fn kind_of(param: Option<&Parameter>) -> Kind {
    let Some(param) = param else { return Kind::Any };
    let name = param.type_name.trim();
    let inside = name
        .strip_prefix("Option")
        .and_then(|rest| rest.trim_start().strip_prefix('<')?.strip_suffix('>'));
    let plain = base_type(inside.unwrap_or(name));
    match (plain.as_str(), inside.is_some()) {
        ("str" | "String" | "char" | "Box<str>", optional) => Kind::Text { optional },
        (name, optional) if name.starts_with("Cow<") && name.ends_with("str>") => {
            Kind::Text { optional }
        }
        ("Bytes" | "Vec<u8>" | "[u8]", false) => Kind::Bytes,
        (name, _) if is_no_text(name) => Kind::Json,
        _ => Kind::Any,
    }
}

/// Whether a type that the ABI names is a number, true or false, or made of others.
fn is_no_text(name: &str) -> bool {
    const NUMBERS: [&str; 14] = [
        "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize",
        "f32", "f64",
    ];
    const MADE_OF_OTHERS: [&str; 5] = ["Vec<", "[", "(", "HashMap<", "BTreeMap<"];
    name == "bool"
        || NUMBERS.contains(&name)
        || MADE_OF_OTHERS.iter().any(|begin| name.starts_with(begin))
}

/// The type of a function's result; for a `Result` that of `Ok`.
pub(crate) fn result_kind(type_name: &str) -> Kind {
    let plain: String = type_name.split_whitespace().collect();
    let plain = plain.rsplit("::").next().filter(|_| !plain.contains('<')).unwrap_or(&plain);
    let inside = plain.strip_prefix("Result<").and_then(|rest| rest.strip_suffix('>'));
    let ok = inside.map_or(plain, |inside| {
        let mut depth = 0;
        let end = inside.find(|c| {
            depth += i32::from(c == '<' || c == '(') - i32::from(c == '>' || c == ')');
            c == ',' && depth == 0
        });
        &inside[..end.unwrap_or(inside.len())]
    });
    match kind_of(Some(&Parameter { name: String::new(), type_name: ok.into() })) {
        // `()` has no bytes: its result is JSON.
        Kind::Text { optional: true } | Kind::Json => Kind::Any,
        kind => kind,
    }
}

/// A type without its path, reference, lifetime and white space: `str` for `& 'a str`.
pub(crate) fn base_type(name: &str) -> String {
    let mut name = name.trim();
    if let Some(referred) = name.strip_prefix('&') {
        name = referred.trim_start();
        if name.starts_with('\'') {
            name = name.split_once(char::is_whitespace).map_or(name, |(_, rest)| rest);
        }
    }
    let plain: String = name.split_whitespace().collect();
    let outer_end = plain.find('<').unwrap_or(plain.len());
    let path_end = plain[..outer_end].rfind("::").map_or(0, |at| at + 2);
    plain[path_end..].to_string()
}

/// The JSON of an argument.
fn value(text: &str, what: &str, kind: Kind) -> Result<String, Error> {
    match (text.strip_prefix('@'), kind) {
        (Some(path), _) => file_value(path, what, kind),
        (None, Kind::Text { optional }) => Ok(text_value(text, optional)),
        (None, Kind::Any | Kind::Json | Kind::Bytes) => {
            json_value(text, what).map_err(|refused| refused.help(how_written(text, kind)))
        }
    }
}

fn file_value(path: &str, what: &str, kind: Kind) -> Result<String, Error> {
    let bytes = read_file(Path::new(path))?;
    if kind == Kind::Bytes {
        return Ok(json::string(&base64::engine::general_purpose::STANDARD.encode(bytes)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to() + 1;
        Error::new(Exit::Call, format!("{what}: the file {path} is not UTF-8 text, from byte {at}"))
            .help("a function of one byte parameter takes any file with `--bytes FILE`")
    })?;
    // The byte order mark of some editors is not part of the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    match kind {
        Kind::Text { .. } => Ok(json::string(text)),
        Kind::Any | Kind::Json | Kind::Bytes => {
            json_value(text, &format!("{what}, the file {path},"))
                .map_err(|refused| refused.help("the file holds one JSON value"))
        }
    }
}

/// The JSON of a text argument: a JSON string as it is, anything else as a string.
fn text_value(text: &str, optional: bool) -> String {
    match text.trim_matches([' ', '\t', '\n', '\r']) {
        said if said.starts_with('"') && json::checked(said).is_some() => said.into(),
        "null" if optional => "null".into(),
        _ => json::string(text),
    }
}

fn json_value(text: &str, what: &str) -> Result<String, Error> {
    // Only checked, so that the guest reads the original text: all digits, duplicate keys.
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err(no_json(what, &error)
            .because(format!("here\n{}", excerpt(text, error.line(), error.column())))),
    }
}

/// A hint how to write the likely meaning of `text` for a parameter of this kind.
fn how_written(text: &str, kind: Kind) -> String {
    let is_number = || {
        let digits = text.trim().trim_start_matches(['+', '-']);
        digits.starts_with(|c: char| c == '.' || c.is_ascii_digit())
            || ["nan", "inf", "infinity"].contains(&digits.to_lowercase().as_str())
    };
    if is_number() {
        return "a number is written in decimal digits, as in 7, -2.5 or 1e9".into();
    }
    let looks_like_text = text.starts_with(|c: char| c.is_alphabetic()) && !text.contains('\'');
    match kind {
        Kind::Json if text.is_empty() || looks_like_text => {
            "it takes a number, true, false, a list or an object: 7, true, '[1, 2]'".into()
        }
        _ if looks_like_text => {
            let quoted = json::string(&text.chars().take(40).collect::<String>());
            format!("a text is written with both kinds of quotes: '{quoted}'")
        }
        _ if text.is_empty() => "an empty text is written with both kinds of quotes: '\"\"'".into(),
        _ => "quote it for the shell with single quotes: '[1, 2]', '{\"x\": \"y\"}'".into(),
    }
}

fn no_json(what: &str, error: &serde_json::Error) -> Error {
    Error::new(Exit::Call, format!("{what} is not JSON: {error}"))
}

/// The line of `text` with the JSON error, and a mark below the place.
fn excerpt(text: &str, line: usize, column: usize) -> String {
    const BEFORE: usize = 40;
    const AFTER: usize = 20;
    let shown = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    // serde_json counts bytes from 1; its end of input is one beyond the last.
    let place = shown.floor_char_boundary(column.saturating_sub(1));
    let (before, after) = shown.split_at(place);
    let count = before.chars().count();
    let before: String = before.chars().skip(count.saturating_sub(BEFORE)).collect();
    let after: String = after.chars().take(AFTER).collect();
    let before = crate::escape::line(&before);
    let mark = " ".repeat(before.chars().count());
    format!("{before}{}\n{mark}^", crate::escape::line(&after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const TEXT: Kind = Kind::Text { optional: false };

    fn kind(type_name: &str) -> Kind {
        kind_of(Some(&Parameter { name: "x".into(), type_name: type_name.into() }))
    }

    #[test]
    fn text_types_are_known_however_they_are_written() {
        for name in ["String", "& str", "&'a str", "&'static str", "std::string::String", "char"] {
            assert_eq!(kind(name), TEXT, "{name}");
        }
        for name in ["Cow<'_, str>", "std::borrow::Cow<'a, str>", "Box<str>"] {
            assert_eq!(kind(name), TEXT, "{name}");
        }
        assert_eq!(kind("Option<String>"), Kind::Text { optional: true });
        for name in ["Bytes", "Vec<u8>", "Vec < u8 >", "&[u8]", "stockade_guest::Bytes"] {
            assert_eq!(kind(name), Kind::Bytes, "{name}");
        }
        for name in ["MyString", "Result<String, E>", "Option<Point>", "serde_json::Value", ""] {
            assert_eq!(kind(name), Kind::Any, "{name}");
        }
        for name in ["u64", "i128", "Option<f32>", "bool", "Vec<String>", "(u8, String)", "[u8; 3]"]
        {
            assert_eq!(kind(name), Kind::Json, "{name}");
        }
        for name in ["std::collections::HashMap<String, u8>", "&[f64]", "Option<Vec<u8>>"] {
            assert_eq!(kind(name), Kind::Json, "{name}");
        }
        assert_eq!(kind_of(None), Kind::Any);
    }

    #[test]
    fn a_result_is_what_ok_is() {
        for (type_name, kind) in [
            ("Result<Bytes, ThumbnailError>", Kind::Bytes),
            ("Result < Vec < u8 > , Box<dyn Error> >", Kind::Bytes),
            ("Result<String, (u8, u8)>", TEXT),
            ("Result<Vec<(String, u64)>, E>", Kind::Any),
            ("String", TEXT),
            ("Option<String>", Kind::Any),
            ("", Kind::Any),
        ] {
            assert_eq!(result_kind(type_name), kind, "{type_name}");
        }
    }

    #[test]
    fn a_text_parameter_takes_words_and_json_strings() {
        let read = |text| value(text, "x", TEXT).unwrap();
        assert_eq!(read("to be"), "\"to be\"");
        assert_eq!(read("\"to be\""), "\"to be\"");
        assert_eq!(read("42"), "\"42\"");
        assert_eq!(read("null"), "\"null\"");
        assert_eq!(read("\"unfinished"), "\"\\\"unfinished\"");
        assert_eq!(read("\"@home\""), "\"@home\"");
        assert_eq!(value("null", "x", Kind::Text { optional: true }).unwrap(), "null");
    }

    #[test]
    fn any_other_parameter_takes_json_as_it_stands_and_says_where_it_is_none() {
        for kind in [Kind::Any, Kind::Json] {
            for text in ["[1, 2]", "18446744073709551616", "-0", "1e400", "{\"a\":1,\"a\":2}"] {
                assert_eq!(value(text, "x", kind).unwrap(), text);
            }
        }
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert_eq!(value(&deep, "x", Kind::Any).unwrap(), deep);
        let refused = value("[1, two]", "argument 1", Kind::Any).unwrap_err();
        assert_eq!(refused.exit(), Exit::Call);
        let shown = format!("{refused:?}");
        assert!(shown.contains("argument 1 is not JSON"), "{shown}");
        assert!(shown.contains("here\\n[1, two]\\n     ^"), "{shown}");
    }

    #[test]
    fn an_argument_is_given_by_name_once() {
        let named = |name: &str| Named { name: name.into(), value: "1".into() };
        assert!(read([], [&named("a"), &named("b")], None).is_ok());
        let refused = read([], [&named("a"), &named("a")], None).unwrap_err();
        assert!(format!("{refused:?}").contains("argument `a` is given twice"), "{refused:?}");
    }

    #[test]
    fn a_place_far_into_a_long_text_is_shown_with_what_surrounds_it() {
        let text = format!("[{}x]", "1,".repeat(1000));
        let error = serde_json::from_str::<Value>(&text).unwrap_err();
        let shown = excerpt(&text, error.line(), error.column());
        assert!(shown.len() < 120, "{shown}");
        let (line, mark) = shown.split_once('\n').unwrap();
        assert_eq!(line.as_bytes()[mark.len() - 1], b'x', "{shown}");
    }

    #[test]
    fn the_end_of_a_text_can_be_where_it_goes_wrong() {
        for text in ["", "[1", "{\"a\": \"€", "\n\n"] {
            let error = serde_json::from_str::<Value>(text).unwrap_err();
            assert!(excerpt(text, error.line(), error.column()).ends_with('^'), "{text:?}");
        }
    }

    #[test]
    fn a_file_is_read_as_its_parameter_takes_it() {
        let path = std::env::temp_dir().join(format!("stockade-argument-{}", std::process::id()));
        let given = format!("@{}", path.display());
        std::fs::write(&path, "[1, 2]\n").unwrap();
        assert_eq!(value(&given, "x", TEXT).unwrap(), "\"[1, 2]\\n\"");
        assert_eq!(value(&given, "x", Kind::Any).unwrap(), "[1, 2]\n");
        assert_eq!(value(&given, "x", Kind::Bytes).unwrap(), "\"WzEsIDJdCg==\"");
        std::fs::write(&path, "\u{feff}[1]").unwrap();
        assert_eq!(value(&given, "x", Kind::Json).unwrap(), "[1]");
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(value(&given, "x", TEXT).unwrap_err().exit(), Exit::Call);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(value(&given, "x", TEXT).unwrap_err().exit(), Exit::Missing);
    }
}

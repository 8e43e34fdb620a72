//! JSON text: guests' results, passed on in their own words on one line.
//!
//! A result is checked and rewritten rather than parsed and printed, so that the order of its keys
//! and all digits of its numbers survive.

use std::fmt::Write;

use serde::de::IgnoredAny;
use serde_json::Value;
use stockade::Scalar;
use stockade_wire::Visibility;

/// JSON text without the white space between its tokens, and harmless for a terminal.
///
/// # Errors
/// If `text` is not JSON.
pub(crate) fn compact(text: &str) -> Result<String, serde_json::Error> {
    serde_json::from_str::<IgnoredAny>(text)?;
    Ok(if is_compact(text) { text.to_string() } else { compacted(text) })
}

/// As [`compact`], in place where nothing changes.
///
/// # Errors
/// Where `text` is no JSON.
pub(crate) fn into_compact(text: String) -> Result<String, serde_json::Error> {
    serde_json::from_str::<IgnoredAny>(&text)?;
    Ok(if is_compact(&text) { text } else { compacted(&text) })
}

/// Whether there is nothing to leave out, and nothing to escape, as in most results.
fn is_compact(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn compacted(text: &str) -> String {
    let mut compacted = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in text.chars() {
        match c {
            '"' if !escaped => in_string = !in_string,
            ' ' | '\t' | '\n' | '\r' if !in_string => continue,
            _ => {}
        }
        escaped = in_string && c == '\\' && !escaped;
        push(c, &mut compacted);
    }
    compacted
}

/// `text` as it is, where it is one JSON value, without white space around it.
pub(crate) fn checked(text: &str) -> Option<String> {
    let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
    is_json.then(|| text.trim_matches([' ', '\t', '\n', '\r']).to_string())
}

/// The JSON of a text.
pub(crate) fn string(text: &str) -> String {
    Value::from(text).to_string()
}

/// A value as JSON text, harmless for a terminal.
pub(crate) fn text(value: &Value) -> String {
    let text = value.to_string();
    let mut safe = String::with_capacity(text.len());
    text.chars().for_each(|c| push(c, &mut safe));
    safe
}

/// The results of a scalar function: null, a number, or an array of them. The floats that JSON has
/// no number for become the strings `"NaN"`, `"Infinity"` and `"-Infinity"`.
pub(crate) fn scalars(scalars: &[Scalar]) -> String {
    let numbers: Vec<Value> = scalars.iter().map(scalar).collect();
    match numbers.as_slice() {
        [] => "null".into(),
        [one] => one.to_string(),
        many => Value::from(many).to_string(),
    }
}

fn scalar(scalar: &Scalar) -> Value {
    match *scalar {
        Scalar::I32(value) => value.into(),
        Scalar::I64(value) => value.into(),
        Scalar::F32(bits) => float(f64::from(f32::from_bits(bits)), || {
            // By its own digits: 0.1 is not 0.10000000149011612.
            serde_json::from_str(&f32::from_bits(bits).to_string()).unwrap_or(Value::Null)
        }),
        Scalar::F64(bits) => float(f64::from_bits(bits), || f64::from_bits(bits).into()),
    }
}

fn float(value: f64, finite: impl FnOnce() -> Value) -> Value {
    if value.is_finite() {
        finite()
    } else if value.is_nan() {
        "NaN".into()
    } else if value > 0.0 {
        "Infinity".into()
    } else {
        "-Infinity".into()
    }
}

/// Outside strings JSON has no character that needs this, and inside it may be written so. Joiners stay, as
/// in all text.
fn push(c: char, out: &mut String) {
    match Visibility::of(c) {
        Visibility::Visible | Visibility::Joiner => out.push(c),
        Visibility::Hidden => {
            // JSON has no other escape for what two units of UTF-16 stand for.
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_keeps_its_keys_order_and_its_numbers_digits() {
        let given = "{ \"z\" : 1,\n \"a\": [ 123456789012345678901234567890, 1.10 ] }";
        let expected = r#"{"z":1,"a":[123456789012345678901234567890,1.10]}"#;
        assert_eq!(compact(given).unwrap(), expected);
    }

    #[test]
    fn space_inside_strings_stays() {
        for text in [r#""a b""#, r#""a \" b""#, r#"["\\","\" ]"]"#] {
            assert_eq!(compact(text).unwrap(), text);
        }
        assert_eq!(compact("[\"\\\\\" , 1]").unwrap(), r#"["\\",1]"#);
    }

    #[test]
    fn what_drives_a_terminal_is_escaped_and_the_value_stays() {
        let given = "\"\u{9b}31m\u{202e}\u{7f}\"";
        let safe = compact(given).unwrap();
        assert_eq!(safe, r#""\u009b31m\u202e\u007f""#);
        let (before, after): (Value, Value) =
            (serde_json::from_str(given).unwrap(), serde_json::from_str(&safe).unwrap());
        assert_eq!(before, after);
    }

    #[test]
    fn a_text_of_any_character_is_written_visibly_and_means_the_same() {
        for c in '\0'..=char::MAX {
            let given = Value::from(c.to_string());
            for written in [text(&given), compact(&given.to_string()).unwrap()] {
                assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), given, "{written}");
                let is_hidden = |c| Visibility::of(c) == Visibility::Hidden;
                assert!(!written.contains(is_hidden), "{written}");
            }
        }
        assert_eq!(text(&"\u{e0041}\u{200b}".into()), r#""\udb40\udc41\u200b""#);
        assert_eq!(text(&"👨\u{200d}👩".into()), "\"👨\u{200d}👩\"");
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "nul", "[1,]", "{\"a\"}", "\"\x1b\"", "1 2"] {
            assert!(compact(text).is_err(), "{text}");
        }
    }

    #[test]
    fn scalars_are_numbers_and_the_odd_floats_are_named() {
        assert_eq!(scalars(&[]), "null");
        assert_eq!(scalars(&[Scalar::I64(i64::MIN)]), "-9223372036854775808");
        assert_eq!(scalars(&[Scalar::F32(0.1f32.to_bits()), Scalar::I32(2)]), "[0.1,2]");
        assert_eq!(scalars(&[Scalar::F64(f64::NAN.to_bits())]), "\"NaN\"");
        assert_eq!(scalars(&[Scalar::F64(f64::NEG_INFINITY.to_bits())]), "\"-Infinity\"");
        assert_eq!(scalars(&[Scalar::F64(2.0f64.to_bits())]), "2.0");
    }
}

//! What a caller gets from a task: its result, its error or its panic, and what it told meanwhile.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;
use stockade_guest::serde::Serialize;
use stockade_guest::testing::{Call, ErrorRecord, Export, LogLevel, Status, export_of};
use stockade_guest::{Bytes, emit, emit_bytes, finalizer, initializer, task};

#[derive(Debug, Serialize)]
#[serde(crate = "stockade_guest::serde")]
enum DivideError {
    ByZero { dividend: i64 },
}

impl fmt::Display for DivideError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::ByZero { dividend } = self;
        write!(f, "{dividend} cannot be divided by zero")
    }
}

type Divided<T> = Result<T, DivideError>;

#[task]
fn divide(dividend: i64, divisor: i64) -> Divided<i64> {
    dividend.checked_div(divisor).ok_or(DivideError::ByZero { dividend })
}

/// An error with a text, causes in its alternate form, and no serialised form.
struct Opaque;

impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if f.alternate() { "no model: no file" } else { "no model" })
    }
}

#[initializer]
fn load(present: bool) -> Result<(), Opaque> {
    present.then_some(()).ok_or(Opaque)
}

#[finalizer]
fn unload() {
    stockade_guest::info!("done after {} rows", 7);
}

#[task]
fn bytes() -> Bytes {
    Bytes::from([0, 255])
}

#[task]
fn list() -> Vec<u8> {
    vec![0, 255]
}

#[task]
fn text() -> &'static str {
    "ä"
}

#[task]
fn maybe(found: bool) -> Option<Vec<u16>> {
    found.then(|| vec![1, 300])
}

#[task]
fn keyed_by_pairs() -> HashMap<(u8, u8), u8> {
    HashMap::from([((1, 2), 3)])
}

#[task]
fn index(list: Vec<u8>, at: usize) -> u8 {
    list[at]
}

#[task]
fn stream(items: Vec<u32>) -> Result<u64, stockade_guest::EmitError> {
    let total = items.len() as u64;
    for (item, done) in items.into_iter().zip(1..) {
        emit(&item)?;
        stockade_guest::progress(done, total);
    }
    emit_bytes(b"end")?;
    stockade_guest::warn!("{total} items");
    Ok(total)
}

#[task]
fn circumstances() -> (u64, Option<Duration>) {
    (stockade_guest::task_id(), stockade_guest::remaining())
}

fn error_of(call: Call, export: Export) -> ErrorRecord {
    let outcome = call.run(export);
    assert_eq!(outcome.status, Status::Error);
    assert!(outcome.output.is_empty());
    outcome.error.expect("an error record")
}

#[test]
fn result_is_taken_apart_behind_an_alias() {
    let outcome = Call::bincode(&(7_i64, 2_i64)).run(export_of!(divide));
    assert_eq!(outcome.result_bincode::<i64>(), 3);

    let error = error_of(Call::bincode(&(7_i64, 0_i64)), export_of!(divide));
    assert_eq!(error.message, "7 cannot be divided by zero");
    assert_eq!(error.data.as_deref(), Some(r#"{"ByZero":{"dividend":7}}"#));
    assert!(!error.panic);
}

#[test]
fn error_without_a_serialised_form_tells_its_causes() {
    let error = error_of(Call::json(r#"{"args": [false]}"#), export_of!(load));
    assert_eq!((error.message.as_str(), error.data), ("no model: no file", None));

    assert_eq!(Call::json(r#"{"args": [true]}"#).run(export_of!(load)).status, Status::Success);
}

#[test]
fn bytes_and_text_go_out_as_they_are_where_they_can() {
    let exports: [Export; 2] = [export_of!(bytes), export_of!(list)];
    for export in exports {
        assert_eq!(Call::raw([]).run(export).output, [0, 255]);
        assert_eq!(Call::bincode(&()).run(export).output, [2, 0, 0, 0, 0, 0, 0, 0, 0, 255]);
        assert_eq!(Call::json("{}").run(export).output, br#""AP8=""#);
    }
    assert_eq!(Call::raw([]).run(export_of!(text)).output, "ä".as_bytes());
    assert_eq!(Call::bincode(&()).run(export_of!(text)).result_bincode::<String>(), "ä");
    assert_eq!(Call::json("{}").run(export_of!(text)).result_json::<String>(), "ä");
}

#[test]
fn other_results_go_through_serde() {
    let found = Call::bincode(&(true,)).run(export_of!(maybe));
    assert_eq!(found.result_bincode::<Option<Vec<u16>>>(), Some(vec![1, 300]));
    assert_eq!(Call::json(r#"{"args": [true]}"#).run(export_of!(maybe)).output, b"[1,300]");
    assert_eq!(Call::json(r#"{"args": [false]}"#).run(export_of!(maybe)).output, b"null");
}

#[test]
fn result_without_a_form_in_the_codec_is_an_error() {
    let error = error_of(Call::json("{}"), export_of!(keyed_by_pairs));
    assert_eq!(error.message, "the result cannot be encoded: key must be a string");

    let pairs = Call::bincode(&()).run(export_of!(keyed_by_pairs));
    assert_eq!(pairs.result_bincode::<HashMap<(u8, u8), u8>>()[&(1, 2)], 3);
}

#[test]
fn panic_tells_its_message_and_place() {
    let error = error_of(Call::json(r#"{"args": [[1], 1]}"#), export_of!(index));

    assert!(error.panic);
    assert_eq!(error.message, "index out of bounds: the len is 1 but the index is 1");
    let location = error.location.expect("a location");
    let mut parts = location.rsplitn(3, ':');
    assert!(parts.by_ref().take(2).all(|number| number.parse::<u32>().is_ok()), "{location}");
    assert!(parts.next().is_some_and(|file| file.ends_with("results.rs")), "{location}");
}

#[test]
fn items_are_emitted_in_the_codec_of_the_call() {
    let outcome = Call::json(r#"{"args": [[1, 300]]}"#).run(export_of!(stream));
    assert_eq!(outcome.emitted, [b"1".to_vec(), b"300".to_vec(), br#""ZW5k""#.to_vec()]);
    assert_eq!(outcome.progress, [(1, 2), (2, 2)]);
    assert_eq!(outcome.log, [(LogLevel::Warn, "2 items".to_owned())]);

    let outcome = Call::bincode(&(vec![1_u32, 300],)).run(export_of!(stream));
    let end = b"\x03\0\0\0\0\0\0\0end".to_vec();
    assert_eq!(outcome.emitted, [vec![1, 0, 0, 0], vec![44, 1, 0, 0], end]);
}

#[test]
fn task_knows_its_number_and_its_time() {
    let outcome = Call::json("{}").task_id(9).run(export_of!(circumstances));
    assert_eq!(outcome.result_json::<(u64, Option<Duration>)>(), (9, None));

    let minute = Duration::from_secs(60);
    let outcome = Call::json("{}").time(minute).run(export_of!(circumstances));
    let (_, remaining) = outcome.result_json::<(u64, Option<Duration>)>();
    assert!(remaining.is_some_and(|left| !left.is_zero() && left <= minute), "{remaining:?}");

    let outcome = Call::json("{}").time(Duration::ZERO).run(export_of!(circumstances));
    assert_eq!(outcome.result_json::<(u64, Option<Duration>)>().1, Some(Duration::ZERO));
}

#[test]
fn outside_a_call_nobody_listens() {
    assert_eq!(circumstances(), (0, None));
    assert!(matches!(stream(vec![1]), Ok(1)));
    unload();
}

#[task]
fn invert(pixels: &mut [u8]) {
    for pixel in pixels {
        *pixel = !*pixel;
    }
}

#[task]
fn invert_some(pixels: &mut [u8]) -> Result<(), String> {
    match pixels {
        [] => Err("there are none".to_owned()),
        pixels => {
            invert(pixels);
            Ok(())
        }
    }
}

#[test]
fn bytes_that_are_changed_in_place_are_the_result_in_every_codec() {
    let outcome = Call::raw([0, 1, 255]).run(export_of!(invert));
    assert_eq!(outcome.output, [255, 254, 0]);
    let outcome = Call::bincode(&(Bytes::from([0, 1]),)).run(export_of!(invert_some));
    assert_eq!(outcome.result_bincode::<Bytes>(), Bytes::from([255, 254]));
    let outcome = Call::json(r#"{"args": ["AAE="]}"#).run(export_of!(invert));
    assert_eq!(outcome.result_json::<String>(), "//4=");
    let outcome = Call::raw([]).run(export_of!(invert_some));
    assert_eq!(outcome.error_message(), "there are none");
}

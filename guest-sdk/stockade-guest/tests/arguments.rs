//! How arguments reach a task, in each codec, and what a caller reads when they do not.
#![allow(missing_docs, clippy::unwrap_used)]

use stockade_guest::serde::{Deserialize, Serialize};
use stockade_guest::testing::{Call, Export, Outcome, Status, export_of};
use stockade_guest::{Bytes, task};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "stockade_guest::serde")]
struct Point {
    x: f64,
    y: f64,
}

#[task]
fn repeat(text: String, times: usize) -> String {
    text.repeat(times)
}

#[task]
fn scale(points: &[Point], factor: Option<f64>) -> Vec<Point> {
    let factor = factor.unwrap_or(2.0);
    points.iter().map(|p| Point { x: p.x * factor, y: p.y * factor }).collect()
}

#[task]
fn measure_bytes(data: Bytes) -> usize {
    data.len()
}

#[task]
fn measure_list(data: Vec<u8>) -> usize {
    data.len()
}

#[task]
fn measure_slice(data: &[u8]) -> usize {
    data.len()
}

/// The three ways to say that a whole parameter is bytes.
const MEASURES: [Export; 3] =
    [export_of!(measure_bytes), export_of!(measure_list), export_of!(measure_slice)];

#[task]
fn measure_text(text: &str) -> usize {
    text.len()
}

#[task]
fn shout(mut r#type: String) -> String {
    r#type.make_ascii_uppercase();
    r#type
}

#[task]
fn nothing() {}

#[task]
fn double(number: u64) -> u64 {
    number * 2
}

#[track_caller]
fn assert_bad(outcome: Outcome, message: &str) {
    assert_eq!(outcome.status, Status::BadArguments, "{outcome:?}");
    assert_eq!(outcome.error_message(), message);
    assert!(outcome.output.is_empty());
}

#[test]
fn task_is_still_a_function() {
    assert_eq!(repeat("ab".to_owned(), 2), "abab");
    assert_eq!(measure_text("ab"), 2);
}

#[test]
fn bincode_is_read_by_position() {
    let outcome = Call::bincode(&("ab", 3_usize)).run(export_of!(repeat));
    assert_eq!(outcome.result_bincode::<String>(), "ababab");

    let points = vec![Point { x: 1.0, y: -1.0 }];
    let outcome = Call::bincode(&(points, Some(0.5))).run(export_of!(scale));
    assert_eq!(outcome.result_bincode::<Vec<Point>>(), [Point { x: 0.5, y: -0.5 }]);
}

#[test]
fn bincode_that_ends_early_names_the_argument() {
    assert_bad(
        Call::bincode(&("ab",)).run(export_of!(repeat)),
        "missing argument `times`: expected 2 arguments, and the input ends after 1",
    );
    let cut = Call::bincode(&(1000_u64,)).run(export_of!(measure_text));
    assert_eq!(cut.status, Status::BadArguments);
    assert!(cut.error_message().starts_with("argument 1 `text`: "), "{}", cut.error_message());
}

#[test]
fn bincode_of_an_integer_of_another_width_is_refused() {
    // With variable widths a signed 1 is read as an unsigned 2.
    let short = Call::bincode(&("ab", 1_i32)).run(export_of!(repeat));
    assert_eq!(short.status, Status::BadArguments);
    assert!(short.error_message().starts_with("argument 2 `times`: "), "{}", short.error_message());
    assert_bad(
        Call::bincode(&("ab", 1_i128)).run(export_of!(repeat)),
        "too many arguments: 8 bytes left after 2 arguments",
    );
}

#[test]
fn bincode_that_goes_on_is_refused() {
    assert_bad(
        Call::bincode(&("ab", 3_usize, 7_u8)).run(export_of!(repeat)),
        "too many arguments: 1 byte left after 2 arguments",
    );
    assert_bad(
        Call::bincode(&(1_u8,)).run(export_of!(nothing)),
        "too many arguments: 1 byte left after 0 arguments",
    );
}

#[test]
fn json_is_read_by_position_and_by_name() {
    for arguments in [
        r#"{"args": ["ab", 2]}"#,
        r#"{"args": ["ab"], "kwargs": {"times": 2}}"#,
        r#"{"kwargs": {"times": 2, "text": "ab"}}"#,
        r#"{"kwargs": {"t\u0069mes": 2, "text": "\u0061b"}}"#,
    ] {
        let outcome = Call::json(arguments).run(export_of!(repeat));
        assert_eq!(outcome.result_json::<String>(), "abab", "{arguments}");
    }
}

#[test]
fn json_may_leave_out_an_option() {
    let outcome = Call::json(r#"{"args": [[{"x": 1, "y": 2}]]}"#).run(export_of!(scale));
    assert_eq!(outcome.result_json::<Vec<Point>>(), [Point { x: 2.0, y: 4.0 }]);

    let outcome = Call::json("{}").run(export_of!(nothing));
    assert_eq!(outcome.output, b"null");
}

#[test]
fn json_mistakes_are_told_apart() {
    for (arguments, message) in [
        (r#"{"args": ["ab"]}"#, "argument 2 `times`: missing"),
        (r#"{"kwargs": {"times": 1}}"#, "argument 1 `text`: missing"),
        (
            r#"{"args": ["ab", 2], "kwargs": {"count": 1}}"#,
            "unknown argument `count`: expected `text`, `times`",
        ),
        (
            r#"{"args": ["ab"], "kwargs": {"text": "c", "times": 2}}"#,
            "argument `text` is given both by position and by name",
        ),
        (
            r#"{"kwargs": {"text": "c", "times": 2, "t\u0065xt": "d"}}"#,
            "argument `text` is given twice",
        ),
        (r#"{"args": ["ab", 2, 3]}"#, "too many arguments: expected 2, got 3"),
        (
            r#"{"args": ["ab", "x"]}"#,
            "argument 2 `times`: invalid type: string \"x\", expected usize at line 1 column 3",
        ),
        (
            r#"{"args": ["ab", -1]}"#,
            "argument 2 `times`: invalid value: integer `-1`, expected usize at line 1 column 2",
        ),
    ] {
        assert_bad(Call::json(arguments).run(export_of!(repeat)), message);
    }
    assert_bad(
        Call::json(r#"{"kwargs": {"x": 1}}"#).run(export_of!(nothing)),
        "unknown argument `x`: expected none",
    );
}

#[test]
fn json_that_is_no_call_is_refused() {
    for input in ["", "[1]", "{", r#"{"arguments": []}"#, r#"{"args": 1}"#, "\u{feff}{}"] {
        let outcome = Call::json(input).run(export_of!(repeat));
        assert_eq!(outcome.status, Status::BadArguments, "{input}");
        assert!(outcome.error_message().starts_with("the input is not `{\"args\""), "{outcome:?}");
    }
}

#[test]
fn raw_input_is_the_only_argument() {
    let bytes = [0, 159, 255];
    for export in MEASURES {
        assert_eq!(Call::raw(bytes).run(export).output, b"3");
    }
    assert_eq!(Call::raw("äb").run(export_of!(measure_text)).output, b"3");
    assert_eq!(Call::raw([]).run(export_of!(measure_text)).output, b"0");
    assert_eq!(Call::raw([]).run(export_of!(nothing)).output, b"null");
}

#[test]
fn raw_input_that_is_not_text_is_refused() {
    assert_bad(
        Call::raw([b'a', 255]).run(export_of!(measure_text)),
        "argument 1 `text`: invalid utf-8 sequence of 1 bytes from index 1",
    );
}

#[test]
fn raw_input_needs_one_byte_parameter() {
    let refusal = "raw bytes are an input only for a task with one parameter of a byte or text \
                   type; this one takes ";
    let tasks: [(Export, &str); 3] = [
        (export_of!(repeat), "`text`, `times`"),
        (export_of!(double), "`number`"),
        (export_of!(nothing), "none"),
    ];
    for (export, takes) in tasks {
        assert_bad(Call::raw("x").run(export), &format!("{refusal}{takes}: pass JSON or bincode"));
    }
}

#[test]
fn whole_byte_parameters_read_every_form_of_bytes() {
    for export in MEASURES {
        assert_eq!(Call::json(r#"{"args": ["AAEC"]}"#).run(export).output, b"3");
        assert_eq!(Call::json(r#"{"args": [[0, 1, 2]]}"#).run(export).output, b"3");
        assert_eq!(Call::bincode(&(vec![0_u8, 1, 2],)).run(export).result_bincode::<usize>(), 3);
        assert_eq!(Call::bincode(&(Bytes::from([0, 1]),)).run(export).result_bincode::<usize>(), 2);
    }
}

#[test]
fn raw_identifiers_are_called_by_their_name() {
    let outcome = Call::json(r#"{"kwargs": {"type": "ab"}}"#).run(export_of!(shout));
    assert_eq!(outcome.result_json::<String>(), "AB");
}

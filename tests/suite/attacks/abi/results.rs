//! Malformed results. They are decoded in the caller's process.

use std::collections::HashMap;
use std::fmt::Debug;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use stockade::{Arguments, Bytes, Fault, Json, Pool, RunError, SubmitError, TaskError};
use stockade_tests::{numbers, wat};

use super::super::seen;
use super::{assert_first_worker, failed, guest};

/// A pool whose tasks answer with these bytes, whatever they are asked; each also emits them.
fn answering(answers: &[(&str, &[u8])]) -> Pool {
    let mut body = String::new();
    let mut at = 0;
    for (name, bytes) in answers {
        let escaped: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let length = bytes.len();
        body.push_str(&format!(
            r#"(data (i32.const {at}) "{escaped}")
               (func (export "{name}") (result i32)
                (call $emit (i32.const {at}) (i32.const {length}))
                (call $output_write (i32.const {at}) (i32.const {length})) (i32.const 0))"#
        ));
        at += length;
    }
    wat(&guest(1 + at as u32 / 65_536, &body)).build().unwrap()
}

fn raw() -> Bytes {
    Bytes(Vec::new())
}

#[track_caller]
fn assert_undecodable<T: DeserializeOwned + Debug>(
    pool: &Pool,
    name: &str,
    arguments: impl Arguments,
) {
    let handle = pool.submit::<T>(name, arguments).unwrap();
    let error = handle.result().unwrap_err();
    assert!(matches!(error, TaskError::Decode(_)), "{name}: {error:?}");
    assert_eq!(error.fault(), Fault::Guest, "{name}: {error:?}");
}

#[test]
fn a36_a_result_that_is_not_what_it_should_be_fails_its_decoding_and_nothing_else() {
    let length = |length: u64, rest: &[u8]| [&length.to_le_bytes()[..], rest].concat();
    let pool = answering(&[
        ("not_utf8", b"caf\xff\xfe"),
        ("half_a_character", b"\xe2\x82"),
        ("surrogate", b"\"\\ud800\""),
        ("half_json", b"{\"a\": [1, 2"),
        ("more_than_json", b"1 1"),
        ("no_json", b"nonsense"),
        ("huge_number", b"1e999999999"),
        ("nul", b"\0"),
        ("empty", b""),
        ("length_of_all_there_is", &length(u64::MAX, b"abc")),
        ("length_of_a_terabyte", &length(1 << 40, b"abc")),
        ("length_too_short", &length(1, b"abc")),
        ("text_not_utf8", &length(2, b"\xff\xff")),
        ("no_flag", &[2]),
    ]);
    // Raw, JSON and bincode, each as a type for which the bytes are none.
    for name in ["not_utf8", "half_a_character"] {
        assert_undecodable::<String>(&pool, name, raw());
        assert_undecodable::<String>(&pool, name, Json::new());
        assert_undecodable::<String>(&pool, name, ());
    }
    for name in ["surrogate", "half_json", "more_than_json", "no_json", "huge_number", "nul"] {
        assert_undecodable::<HashMap<String, u64>>(&pool, name, raw());
        assert_undecodable::<Value>(&pool, name, Json::new());
        assert_undecodable::<Vec<String>>(&pool, name, ());
    }
    assert_undecodable::<u64>(&pool, "empty", ());
    assert_undecodable::<u64>(&pool, "empty", Json::new());
    for name in ["length_of_all_there_is", "length_of_a_terabyte", "length_too_short"] {
        assert_undecodable::<String>(&pool, name, ());
        assert_undecodable::<Vec<u8>>(&pool, name, ());
        assert_undecodable::<Vec<u64>>(&pool, name, ());
        assert_undecodable::<Vec<()>>(&pool, name, ());
        assert_undecodable::<HashMap<String, String>>(&pool, name, ());
    }
    assert_undecodable::<String>(&pool, "text_not_utf8", ());
    assert_undecodable::<bool>(&pool, "no_flag", ());
    assert_undecodable::<Option<u8>>(&pool, "no_flag", ());
    // Items fail one by one.
    let handle = pool.submit::<Vec<u8>>("no_json", raw()).unwrap();
    let items: Vec<_> = handle.emitted::<HashMap<String, u64>>().collect();
    assert!(matches!(items[..], [Err(TaskError::Decode(_))]), "{items:?}");
    // What is well is well, and raw bytes are bytes whatever they are.
    assert_eq!(pool.run::<Vec<u8>>("not_utf8", raw()).unwrap(), b"caf\xff\xfe");
    assert_first_worker(&pool);
    seen(
        36,
        "14 answers that are no text, JSON or bincode are `Decode` in every codec, also lengths of \
         2^64 - 1; items fail one by one; the bytes can still be had",
    );
}

#[derive(Debug, Deserialize)]
struct Boxes {
    #[allow(dead_code)]
    inner: Option<Box<Boxes>>,
}

#[derive(Debug, Deserialize)]
struct Lists(#[allow(dead_code)] Vec<Lists>);

#[derive(Debug, Deserialize)]
enum Chain {
    #[allow(dead_code)]
    Link(Box<Chain>),
    End,
}

#[test]
fn a37_a_deeply_nested_result_ends_at_the_depth_limit_and_not_the_callers_stack() {
    // Each a million levels: `[`, an option that holds one, a list of one list, a variant of one.
    let pool = wat(&guest(
        160,
        r#"(func $repeat (param $unit i64) (param $bytes i32) (local $at i32)
            (loop $more
                (i64.store (local.get $at) (local.get $unit))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br_if $more (i32.lt_u (local.get $at) (local.get $bytes))))
            (call $emit (i32.const 0) (local.get $bytes))
            (call $output_write (i32.const 0) (local.get $bytes)))
           (func (export "brackets") (result i32)
            (call $repeat (i64.const 0x5b5b5b5b5b5b5b5b) (i32.const 1000000)) (i32.const 0))
           (func (export "objects") (result i32)
            (call $repeat (i64.const 0x3a2261616161227b) (i32.const 8000000)) (i32.const 0))
           (func (export "options") (result i32)
            (call $repeat (i64.const 0x0101010101010101) (i32.const 1000000)) (i32.const 0))
           (func (export "lists") (result i32)
            (call $repeat (i64.const 1) (i32.const 8000000)) (i32.const 0))
           (func (export "links") (result i32)
            (call $repeat (i64.const 0) (i32.const 4000000)) (i32.const 0))
           (func (export "error") (result i32)
            (memory.fill (i32.const 0) (i32.const 0x5b) (i32.const 65536))
            (i64.store (i32.const 0) (i64.const 0x3a2265726f6d227b))
            (call $error_write (i32.const 0) (i32.const 65536)) (i32.const 1))"#,
    ));
    let limits = stockade::Limits::default().output_bytes(32 << 20);
    let pool = pool.limits(limits).build().unwrap();
    for name in ["brackets", "objects"] {
        assert_undecodable::<Value>(&pool, name, Json::new());
        assert_undecodable::<Value>(&pool, name, raw());
        assert_undecodable::<Lists>(&pool, name, Json::new());
        assert_undecodable::<HashMap<String, Value>>(&pool, name, raw());
    }
    assert_undecodable::<Boxes>(&pool, "options", ());
    assert_undecodable::<Lists>(&pool, "lists", ());
    assert_undecodable::<Chain>(&pool, "links", ());
    let handle = pool.submit::<Vec<u8>>("brackets", raw()).unwrap();
    let items: Vec<_> = handle.emitted::<Value>().collect();
    assert!(matches!(items[..], [Err(TaskError::Decode(_))]));
    // An error that claims to be a record is read in the worker.
    let TaskError::Guest(error) = failed(pool.run::<()>("error", raw())) else { panic!() };
    assert_eq!(error.message.len(), 65_536);
    assert_first_worker(&pool);
    seen(
        37,
        "a million levels of JSON arrays and objects, and of bincode's options, lists and variants, \
         are `Decode`; an error record of 64 KiB of brackets is its own text",
    );
}

#[test]
fn a38_arguments_that_do_not_fit_are_refused_before_anything_runs() {
    let pool = numbers().build().unwrap();
    let refusals = [
        pool.run::<i32>("add", ()),
        pool.run::<i32>("add", (1,)),
        pool.run::<i32>("add", (1, 2, 3)),
        pool.run::<i32>("add", (1, "2")),
        pool.run::<i32>("add", (1, 2.0)),
        pool.run::<i32>("add", ((1, 2),)),
        pool.run::<i32>("add", ((), 1, 2)),
        pool.run::<i32>("add", (1, i64::from(u32::MAX) + 1)),
        pool.run::<i32>("add", (1, i64::from(i32::MIN) - 1)),
        pool.run::<i32>("same_i64", (i128::from(u64::MAX) + 1,)),
        pool.run::<i32>("same_i64", (i128::from(i64::MIN) - 1,)),
        pool.run::<i32>("same_f32", (1e39,)),
        pool.run::<i32>("nothing", (1,)),
        pool.run::<i32>("add", Bytes(vec![1, 2])),
        pool.run::<i32>("add", Json::new().arg(json!(1)).arg(json!(4_294_967_296_u64))),
        pool.run::<i32>("add", Json::new().arg(json!(1)).arg(json!([2]))),
    ];
    let count = refusals.len();
    for (number, refusal) in refusals.into_iter().enumerate() {
        let Err(RunError::Submit(error)) = refusal else { panic!("{number}: {refusal:?}") };
        assert!(matches!(error, SubmitError::Signature { .. }), "{number}: {error:?}");
    }
    assert_eq!(pool.count_workers(), 0, "a worker was started for nothing");
    // Both sides of the ranges.
    assert_eq!(pool.run::<u32>("same_i32", (u32::MAX,)).unwrap(), u32::MAX);
    assert_eq!(pool.run::<i32>("same_i32", (i64::from(i32::MIN),)).unwrap(), i32::MIN);
    assert_first_worker(&pool);
    seen(38, &format!("{count} wrong calls are `Signature`, and no worker was even started"));
}

//! Tasks: the SDK's and those of other hands, in every codec, and every way in which one fails.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::json;
use stockade::{
    Bytes, Codec, Fault, Json, LogLine, Output, Pool, RunError, SubmitError, TaskError, TrapKind,
};
use stockade_tests::{guest_pool, int, tasks};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    number: i64,
    ratio: f64,
    text: String,
    maybe: Option<bool>,
    list: Vec<u16>,
    by_name: HashMap<String, (u8, char)>,
    choice: Choice,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Choice {
    Nothing,
    One(u32),
    Named { left: String, right: Vec<Choice> },
}

fn everything() -> Everything {
    Everything {
        number: i64::MIN,
        ratio: -0.1,
        text: "žluťoučký \0 kůň 🐎".into(),
        maybe: Some(false),
        list: vec![0, 1, u16::MAX],
        by_name: HashMap::from([("é".into(), (255, 'ß'))]),
        choice: Choice::Named {
            left: String::new(),
            right: vec![Choice::Nothing, Choice::One(u32::MAX)],
        },
    }
}

/// One pool for every test that needs nothing else of it: compiling the guest takes longer than all
/// that they do.
fn probe() -> &'static Pool {
    static POOL: LazyLock<Pool> = LazyLock::new(|| guest_pool("probe").build().unwrap());
    &POOL
}

#[track_caller]
fn failed<T>(result: Result<T, RunError>) -> TaskError {
    match result {
        Err(RunError::Task(error)) => error,
        Err(other) => panic!("expected a failure, got {other:?}"),
        Ok(_) => panic!("expected a failure, got a result"),
    }
}

#[test]
fn values_of_every_shape_survive_the_way_there_and_back() {
    let pool = probe();
    let value = everything();
    assert_eq!(pool.run::<Everything>("same", (&value,)).unwrap(), value);
    let given = serde_json::to_value(&value).unwrap();
    assert_eq!(pool.run::<Everything>("same", Json::new().arg(given.clone())).unwrap(), value);
    let named = Json::new().named("value", given.clone());
    assert_eq!(pool.run::<serde_json::Value>("same", named).unwrap(), given);
}

#[test]
fn numbers_of_128_bits_and_json_texts_reach_a_task_as_they_are() {
    type Wide = (u128, Option<i128>);
    let pool = probe();
    let wide: Wide = (u128::MAX, Some(i128::MIN));
    assert_eq!(pool.run::<Wide>("same_wide", wide).unwrap(), wide);
    let json = Json::new().arg_json(u128::MAX.to_string()).unwrap();
    let json = json.named_json("whole", i128::MIN.to_string()).unwrap();
    assert_eq!(pool.run::<Wide>("same_wide", json).unwrap(), wide);
    let beyond = Json::new().arg_json(format!("{}0", u128::MAX)).unwrap();
    let refused = failed(pool.run::<Wide>("same_wide", beyond));
    assert!(matches!(refused, TaskError::BadArguments(_)), "{refused:?}");
}

#[test]
fn bytes_pass_unchanged_in_every_codec() {
    let pool = probe();
    // Below and above what travels within a message, and around a page.
    for length in [0, 1, 4095, 65_535, 65_536, 65_537, 1 << 20] {
        let bytes: Vec<u8> = (0..length).map(|i: usize| (i * 31 % 251) as u8).collect();
        let raw: Vec<u8> = pool.run("same_bytes", Bytes(bytes.clone())).unwrap();
        assert!(raw == bytes, "raw, {length}");
        let bincode: Bytes = pool.run("same_bytes", (Bytes(bytes.clone()),)).unwrap();
        assert!(bincode.0 == bytes, "bincode, {length}");
    }
    let given = Bytes(vec![0, 255, 10]);
    let text = serde_json::to_value(&given).unwrap();
    let json: Bytes = pool.run("same_bytes", Json::new().arg(text)).unwrap();
    assert_eq!(json, given);
}

#[test]
fn json_arguments_go_by_position_by_name_and_optional_ones_by_null() {
    let pool = probe();
    let greet = |arguments| pool.run::<String>("greet", arguments);
    let by_position = Json::new().arg(json!("you")).arg(json!(2)).arg(json!("?"));
    assert_eq!(greet(by_position).unwrap(), "hello you? hello you?");
    let by_name =
        Json::new().named("mark", json!(null)).named("times", json!(1)).named("name", json!("me"));
    assert_eq!(greet(by_name).unwrap(), "hello me!");
    let mixed = Json::new().arg(json!("us")).named("mark", json!(".")).named("times", json!(1));
    assert_eq!(greet(mixed).unwrap(), "hello us.");
}

#[test]
fn an_optional_parameter_may_be_left_out_in_json() {
    let pool = probe();
    let arguments = Json::new().arg(json!("you")).arg(json!(1));
    assert_eq!(pool.run::<String>("greet", arguments).unwrap(), "hello you!");
}

#[test]
fn a_wrong_number_of_arguments_is_refused_before_it_runs() {
    let pool = guest_pool("probe").build().unwrap();
    let refusals = [
        pool.run::<String>("greet", ("you",)),
        pool.run::<String>("greet", ("you", 1, Some('!'), 2)),
        pool.run::<String>("greet", Bytes(b"you".to_vec())),
        pool.run::<String>("greet", Json::new().arg(json!("you")).named("tiems", json!(1))),
        pool.run::<String>("greet", Json::new().arg(json!("you")).named("name", json!("me"))),
    ];
    for (number, refusal) in refusals.into_iter().enumerate() {
        let Err(RunError::Submit(SubmitError::Signature { signature, .. })) = refusal else {
            panic!("{number}: {refusal:?}")
        };
        assert!(signature.contains("name: String"), "{signature}");
    }
    assert_eq!(pool.count_workers(), 0);
}

#[test]
fn arguments_of_a_wrong_type_are_refused_by_the_task_with_their_place() {
    let pool = probe();
    let arguments = Json::new().arg(json!("you")).arg(json!("twice")).arg(json!(null));
    let TaskError::BadArguments(error) = failed(pool.run::<String>("greet", arguments)) else {
        panic!("expected bad arguments")
    };
    assert!(error.message.contains("times"), "{error:?}");
    let bincode = failed(pool.run::<Everything>("same", (1u8,)));
    assert!(matches!(bincode, TaskError::BadArguments(_)), "{bincode:?}");
    assert_eq!(bincode.fault(), Fault::Caller);
    assert_eq!(pool.run::<u64>("count", ()).unwrap(), 1);
}

#[test]
fn an_error_arrives_with_its_words_and_its_data() {
    let pool = probe();
    let error = failed(pool.run::<()>("fail", (7u32,)));
    assert_eq!(error.fault(), Fault::Guest);
    let TaskError::Guest(error) = error else { panic!("{error:?}") };
    assert_eq!(error.message, "trouble number 7");
    let data: serde_json::Value = serde_json::from_str(&error.data.unwrap()).unwrap();
    assert_eq!(data, json!({ "Code": 7 }));
}

#[test]
fn a_panic_arrives_with_its_words_its_place_and_a_backtrace() {
    let pool = probe();
    let error = failed(pool.run::<()>("panic_with", ("out of tea",)));
    let TaskError::Panic { error, backtrace } = error else { panic!("{error:?}") };
    assert_eq!(error.message, "out of tea");
    let location = error.location.unwrap();
    assert!(location.contains("probe/src/lib.rs:"), "{location}");
    assert!(backtrace.iter().any(|frame| frame.function.contains("panic_with")), "{backtrace:?}");
    assert_eq!(pool.run::<u64>("count", ()).unwrap(), 1);
}

#[test]
fn a_stack_overflow_in_rust_is_one_trap_of_one_task() {
    let pool = probe();
    let error = failed(pool.run::<u64>("recurse", (1u64,)));
    // Its own stack lies in its memory and may end before the engine's does.
    let expected = [TrapKind::StackOverflow, TrapKind::MemoryOutOfBounds];
    assert!(matches!(&error, TaskError::Trap { kind, .. } if expected.contains(kind)), "{error:?}");
    assert_eq!(pool.run::<u64>("count", ()).unwrap(), 1);
}

#[test]
fn a_guest_without_the_sdk_fails_in_its_own_ways() {
    let pool = tasks().build().unwrap();
    let run = |name: &str| failed(pool.run::<()>(name, int(0)));
    let TaskError::Guest(error) = run("fail") else { panic!() };
    assert_eq!((&error.message[..], error.data), ("it did not work", None));
    let TaskError::Guest(error) = run("fail_silently") else { panic!() };
    assert!(!error.message.is_empty());
    let TaskError::BadArguments(error) = run("refuse") else { panic!() };
    assert_eq!(error.message, "it did not work");
    let TaskError::Panic { error, .. } = run("panic") else { panic!() };
    assert_eq!(
        (&error.message[..], error.location.as_deref()),
        ("at the wall", Some("maze.c:3:1"))
    );
    assert!(matches!(run("trap"), TaskError::Trap { kind: TrapKind::Unreachable, .. }));
    for code in [0, 1, 42, 126, 255, -1, i32::MAX] {
        let error = failed(pool.run::<()>("exit", int(code)));
        assert!(matches!(error, TaskError::Exited(exited) if exited == code), "{error:?}");
        assert_eq!(error.fault(), Fault::Guest);
    }
    assert_eq!(pool.workers()[0].id.0, 1, "a worker was lost");
}

#[test]
fn a_result_that_is_not_the_callers_type_can_still_be_had_as_bytes() {
    let pool = tasks().build().unwrap();
    let handle = pool.submit::<String>("echo", Bytes(vec![0xff, 0xfe])).unwrap();
    assert!(matches!(handle.result(), Err(TaskError::Decode(_))));
    let expected = Output::Encoded { codec: Codec::Raw, bytes: vec![0xff, 0xfe] };
    assert_eq!(handle.output().unwrap(), expected);
}

#[test]
fn a_task_learns_the_number_that_its_caller_knows() {
    let pool = tasks().build().unwrap();
    for expected in 1..=3 {
        let handle = pool.submit::<Vec<u8>>("own_id", int(0)).unwrap();
        assert_eq!(handle.task_id().0, expected);
        assert_eq!(handle.result().unwrap(), i32::to_le_bytes(expected as i32));
    }
}

#[test]
fn what_a_task_says_stands_in_its_report_alone() {
    let pool = probe();
    let first = pool.submit::<()>("say", ("one",)).unwrap();
    let second = pool.submit::<()>("say", ("two\u{1b}[31m\0",)).unwrap();
    let report = first.report();
    assert_eq!(report.stdout.bytes, b"one\n");
    assert_eq!(report.stderr.bytes, b"one?\n");
    assert_eq!(report.log, [LogLine { level: 3, message: "one!".into() }]);
    let report = second.report();
    assert_eq!(report.stdout.bytes, b"two\x1b[31m\0\n");
    assert_eq!(report.log.len(), 1);
}

#[test]
fn examples_do_their_jobs() {
    let pool = guest_pool("wordcount").build().unwrap();
    let text = "the cat and the hat";
    let top: Vec<(String, u64)> = pool.run("top_words", (text, 1usize)).unwrap();
    assert_eq!(top, [("the".to_string(), 2)]);
    let error = failed(pool.run::<u64>("words_in_line", ("  ",)));
    assert!(matches!(error, TaskError::Guest(_)));
    let words: u64 = pool.run("word_count", Bytes(text.as_bytes().to_vec())).unwrap();
    assert_eq!(words, 5);

    let pool = guest_pool("thumbnail").build().unwrap();
    let picture =
        std::fs::read(stockade_tests::repository().join("examples-wasm/thumbnail/data/cat.png"));
    let small: Vec<u8> = pool.run("preview", Bytes(picture.unwrap())).unwrap();
    assert!(small.starts_with(b"\x89PNG"));
    let error = failed(pool.run::<Vec<u8>>("preview", Bytes(b"no picture".to_vec())));
    assert!(matches!(error, TaskError::Guest(_)), "{error:?}");
}

#[test]
fn arguments_are_encoded_when_submitted() {
    let pool = guest_pool("wordcount").build().unwrap();
    let mut text = String::from("one two three");
    let handle = pool.submit::<u64>("word_count", (&text,)).unwrap();
    text.clear();
    assert_eq!(handle.result().unwrap(), 3);
}

#[test]
fn arguments_that_serde_cannot_encode_are_refused() {
    struct Unencodable;

    impl Serialize for Unencodable {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }

    let pool = guest_pool("wordcount").build().unwrap();
    let refused = pool.submit::<u64>("word_count", (Unencodable,)).unwrap_err();
    assert!(matches!(&refused, SubmitError::Encode { reason, .. } if reason.contains("not today")));
}

#[test]
fn arguments_beyond_what_a_message_may_hold_are_refused() {
    let pool = tasks().build().unwrap();
    let refused = pool.submit::<()>("trap", Bytes(vec![0; 256 << 20])).unwrap_err();
    assert!(matches!(refused, SubmitError::Encode { .. }), "{refused:?}");
    assert_eq!(pool.count_workers(), 0);
}

#[test]
fn many_large_arguments_may_be_on_their_way_at_once() {
    let pool = tasks().max_workers(2).build().unwrap();
    // On both sides of what travels within a message.
    let inputs: Vec<_> = (0..300).map(|i| Bytes(vec![i as u8; 50_000 + 100 * i])).collect();
    let handles: Vec<_> =
        inputs.iter().map(|input| pool.submit::<Vec<u8>>("echo", input.clone()).unwrap()).collect();
    for (input, handle) in inputs.iter().zip(&handles) {
        let Output::Encoded { bytes, .. } = handle.output().unwrap() else { panic!("no bytes") };
        assert!(bytes == input.0);
    }
}

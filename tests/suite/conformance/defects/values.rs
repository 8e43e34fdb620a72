//! Defects about arguments and results.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;
use stockade::{Bytes, Json, RunError, SubmitError, TaskError};
use stockade_tests::{Gate, guest, guest_pool, int, numbers};

use super::comes_back;

/// What can be neither written nor read.
#[derive(Debug)]
struct Stubborn {
    panics: bool,
}

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        assert!(!self.panics, "on purpose");
        Err(S::Error::custom("it will not be written"))
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("it will not be read"))
    }
}

/// Panics when it is read.
#[derive(Debug)]
struct Mine;

impl<'de> Deserialize<'de> for Mine {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("on purpose")
    }
}

#[test]
fn d04_what_cannot_be_encoded_or_decoded_fails_by_itself() {
    let pool = guest_pool("probe").build().unwrap();
    let before = pool.submit::<u64>("count", ()).unwrap();
    let error = pool.submit::<u64>("same", (Stubborn { panics: false },)).unwrap_err();
    assert!(matches!(error, SubmitError::Encode { .. }), "{error:?}");
    assert!(error.to_string().contains("it will not be written"), "{error}");
    let submit = || pool.submit::<u64>("same", (Stubborn { panics: true },)).map(drop);
    assert!(catch_unwind(AssertUnwindSafe(submit)).is_err(), "its panic is its caller's");

    let unread = pool.submit::<Stubborn>("count", ()).unwrap();
    let undecoded = unread.clone();
    let error = comes_back("the error", move || undecoded.result()).unwrap_err();
    assert!(matches!(&error, TaskError::Decode(why) if why.contains("not be read")), "{error:?}");
    let mine = pool.submit::<Mine>("count", ()).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| mine.result().map(drop))).is_err());
    assert!(unread.is_done() && mine.is_done());

    let bytes = [Bytes(vec![1]), Bytes(vec![2])];
    let results: Vec<_> = pool.map::<Stubborn, _, _>("same_bytes", bytes).unordered().collect();
    assert_eq!(results.len(), 2);
    let decode =
        |result: &Result<_, _>| matches!(result, Err(RunError::Task(TaskError::Decode(_))));
    assert!(results.iter().all(decode), "{results:?}");
    // Neither the tasks around it nor the worker were touched.
    assert_eq!(before.result().unwrap(), 1);
    let after = pool.submit::<u64>("count", ()).unwrap();
    assert_eq!(after.result().unwrap(), 1);
    assert_eq!(after.report().worker, before.report().worker);
    let shut = pool.clone();
    assert!(comes_back("the shutdown", move || shut.shutdown()));
}

#[test]
fn d10_names_of_arguments_never_collide() {
    type Collided = (String, u32, f64, Vec<u32>, HashMap<String, u32>, bool);
    let pool = guest_pool("probe").build().unwrap();
    let kwargs = HashMap::from([("target".to_string(), 9)]);
    let expected: Collided = ("submit".into(), 2, 0.5, vec![1, 2], kwargs, true);
    let named = Json::new()
        .named("target", json!("submit"))
        .named("self_", json!(2))
        .named("timeout", json!(0.5))
        .named("args", json!([1, 2]))
        .named("kwargs", json!({ "target": 9 }))
        .named("input", json!(true));
    assert_eq!(pool.run::<Collided>("collide", named.clone()).unwrap(), expected);
    assert_eq!(pool.run::<Collided>("collide", expected.clone()).unwrap(), expected);
    let mapped: Vec<Collided> =
        pool.starmap("collide", [named]).collect::<Result<_, RunError>>().unwrap();
    assert_eq!(mapped, [expected]);
}

#[test]
fn d15_arguments_are_taken_when_submitted() {
    let gate = Gate::new();
    let pool = gate.tasks().module(guest("wordcount")).build().unwrap();
    let running = pool.submit::<Vec<u8>>(("test", "wait"), int(0)).unwrap();
    stockade_tests::until_running(&running);
    let text = RefCell::new("to be or not".to_string());
    let submitted = pool.submit::<u64>(("wordcount", "word_count"), (&text,)).unwrap();
    text.borrow_mut().push_str(" to be");
    let changed = pool.submit::<u64>(("wordcount", "word_count"), (&text,)).unwrap();
    text.borrow_mut().clear();
    assert!(submitted.is_pending() && changed.is_pending());
    gate.open();
    assert_eq!((submitted.result().unwrap(), changed.result().unwrap()), (4, 6));
}

#[test]
fn d20_a_failing_item_costs_nothing_but_itself() {
    const ITEMS: i32 = 60;
    let pool = numbers().max_workers(2).build().unwrap();
    for chunk_size in [1, 7, 60] {
        let items = || (0..ITEMS).map(|i| (100, i % 10));
        let map = || pool.starmap::<i32, _, _>("divide", items()).chunk_size(chunk_size);
        let ordered: [Vec<_>; 2] = [map().collect(), map().submit_all().collect()];
        for results in ordered {
            assert_eq!(results.len(), ITEMS as usize);
            for (index, result) in (0..ITEMS).zip(results) {
                match result {
                    Ok(quotient) => assert_eq!(quotient, 100 / (index % 10)),
                    Err(RunError::Task(TaskError::Trap { .. })) => assert_eq!(index % 10, 0),
                    Err(other) => panic!("{index}: {other:?}"),
                }
            }
        }
        assert_eq!(map().unordered().filter(Result::is_err).count(), 6);
    }
    // One that is refused rather than fails.
    let items = [json!(1), json!("two"), json!(3)];
    let results: Vec<_> = pool.map::<i64, _, _>("same_i32", items).chunk_size(3).collect();
    assert!(results[0].is_ok() && results[1].is_err() && results[2].is_ok(), "{results:?}");
    assert_eq!(pool.run::<i32>("add", (1, 2)).unwrap(), 3);
}

//! Calling functions over numbers: every kind, to the last bit; and what is refused before it runs.

use stockade::{Fault, Json, RunError, SubmitError, TaskError};
use stockade_tests::{guest, numbers, wat};

use serde_json::json;

#[track_caller]
fn refused(error: RunError) -> SubmitError {
    match error {
        RunError::Submit(error) => error,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[track_caller]
fn failed(error: RunError) -> TaskError {
    match error {
        RunError::Task(error) => error,
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[test]
fn numbers_of_every_kind_come_back_as_they_went() {
    let pool = numbers().build().unwrap();
    for value in [0, 1, -1, i32::MIN, i32::MAX] {
        assert_eq!(pool.run::<i32>("same_i32", (value,)).unwrap(), value);
    }
    for value in [0, -1, i64::MIN, i64::MAX] {
        assert_eq!(pool.run::<i64>("same_i64", (value,)).unwrap(), value);
    }
    for value in [0.0, -0.0, f32::MIN_POSITIVE / 2.0, f32::MAX, f32::INFINITY] {
        let back = pool.run::<f32>("same_f32", (value,)).unwrap();
        assert_eq!(back.to_bits(), value.to_bits());
    }
    for value in [0.0, -0.0, f64::MIN_POSITIVE / 2.0, f64::MAX, f64::NEG_INFINITY] {
        let back = pool.run::<f64>("same_f64", (value,)).unwrap();
        assert_eq!(back.to_bits(), value.to_bits());
    }
    assert_eq!(pool.run::<u32>("same_i32", (u32::MAX,)).unwrap(), u32::MAX);
    assert_eq!(pool.run::<u64>("same_i64", (u64::MAX,)).unwrap(), u64::MAX);
    let all = pool.run::<(i32, i64, f32, f64)>("all", (1, 2, 0.5, 0.25)).unwrap();
    assert_eq!(all, (1, 2, 0.5, 0.25));
    pool.run::<()>("nothing", ()).unwrap();
}

#[test]
fn json_numbers_are_taken_where_they_fit() {
    let pool = numbers().build().unwrap();
    let sum = pool.run::<i32>("add", Json::new().arg(json!(2)).arg(json!(40))).unwrap();
    assert_eq!(sum, 42);
    assert_eq!(pool.run::<f64>("same_f64", Json::new().arg(json!(7))).unwrap(), 7.0);
    for arguments in [
        Json::new(),
        Json::new().arg(json!(1)),
        Json::new().arg(json!(1)).arg(json!("2")),
        Json::new().arg(json!(1)).arg(json!(2.5)),
        Json::new().arg(json!(1)).arg(json!(null)),
        Json::new().arg(json!(null)).arg(json!(1)).arg(json!(2)),
        Json::new().arg(json!([1, 2])),
        Json::new().arg(json!(1)).arg(json!([2])),
        Json::new().arg(json!(1)).arg(json!(4_294_967_296_u64)),
        Json::new().arg(json!(1)).named("b", json!(2)),
    ] {
        let error = refused(pool.run::<i32>("add", arguments.clone()).unwrap_err());
        assert!(matches!(error, SubmitError::Signature { .. }), "{arguments:?}: {error:?}");
    }
}

#[test]
fn a_result_of_another_type_than_the_callers_fails_that_task_alone() {
    let pool = numbers().build().unwrap();
    let error = failed(pool.run::<String>("add", (1, 2)).unwrap_err());
    assert!(matches!(error, TaskError::Decode(_)));
    assert_eq!(error.fault(), Fault::Caller);
    assert!(pool.run::<(i32, i32)>("add", (1, 2)).is_err());
    assert!(pool.run::<u8>("add", (1, 299)).is_err());
    assert_eq!(pool.run::<i32>("add", (1, 299)).unwrap(), 300);
}

#[test]
fn an_unknown_function_is_answered_with_the_nearest_name() {
    let pool = numbers().build().unwrap();
    let error = refused(pool.run::<i32>("same_i23", (1,)).unwrap_err());
    let SubmitError::UnknownFunction { suggestion, available, .. } = error else { panic!() };
    assert!(suggestion.is_some_and(|name| name.starts_with("same_i")));
    assert!(available.contains(&"add".to_string()));
    let error = refused(pool.run::<i32>("nothing_like_it", ()).unwrap_err());
    assert!(matches!(error, SubmitError::UnknownFunction { suggestion: None, .. }));
    // What takes vectors is no function that can be called, nor is memory.
    for name in ["vector", "memory", ""] {
        let error = refused(pool.run::<i32>(name, ()).unwrap_err());
        assert!(matches!(error, SubmitError::UnknownFunction { .. }), "{name}");
    }
}

#[test]
fn with_several_modules_a_target_names_its_own() {
    let other = r#"(module (func (export "add") (param i32 i32) (result i32) (i32.const -1)))"#;
    let pool = numbers()
        .module_as("other", stockade_tests::wat_file(other))
        .module(guest("wordcount"))
        .build()
        .unwrap();
    assert_eq!(pool.run::<i32>(("test", "add"), (1, 2)).unwrap(), 3);
    assert_eq!(pool.run::<i32>(("other", "add"), (1, 2)).unwrap(), -1);
    assert_eq!(pool.run::<u64>(("wordcount", "word_count"), ("a b c",)).unwrap(), 3);
    let error = refused(pool.run::<i32>("add", (1, 2)).unwrap_err());
    assert!(matches!(error, SubmitError::ModuleNeeded { available } if available.len() == 3));
    let error = refused(pool.run::<i32>(("nobody", "add"), (1, 2)).unwrap_err());
    assert!(matches!(error, SubmitError::UnknownModule { available, .. } if available.len() == 3));
    let error = refused(pool.run::<i32>(("other", "next"), ()).unwrap_err());
    assert!(matches!(error, SubmitError::UnknownFunction { .. }));
}

#[test]
fn a_reactor_is_initialised_before_its_function_is_called() {
    let pool = wat(r#"(module
            (global $n (mut i32) (i32.const 0))
            (func (export "_initialize") (global.set $n (i32.add (global.get $n) (i32.const 5))))
            (func (export "n") (result i32) (global.get $n)))"#);
    let pool = pool.build().unwrap();
    for _ in 0..3 {
        assert_eq!(pool.run::<i32>("n", ()).unwrap(), 5);
    }
    let error = refused(pool.run::<()>("_initialize", ()).unwrap_err());
    assert!(matches!(error, SubmitError::UnknownFunction { .. }));
}

//! Traps: each has its own kind, and the worker goes on.

use stockade::{Fault, Limits, TaskError, TaskResult, TrapKind};

use crate::attacks::scene::Scene;
use crate::attacks::seen;

/// The kind of the trap in which `function` ends.
#[track_caller]
fn trap<T: TaskResult + std::fmt::Debug>(
    scene: &Scene,
    function: &str,
    arguments: impl stockade::Arguments,
) -> TrapKind {
    let error = scene.survived::<T>(function, arguments).expect_err("a trap");
    let TaskError::Trap { kind, .. } = error else { panic!("{function}: {error:?}") };
    assert_eq!(error.fault(), Fault::Guest);
    kind
}

#[test]
fn a03_trap_in_the_start_function_is_the_tasks() {
    for body in ["unreachable", "(drop (i32.div_u (i32.const 1) (i32.const 0)))"] {
        let expected = match body {
            "unreachable" => TrapKind::Unreachable,
            _ => TrapKind::DivisionByZero,
        };
        for begin in ["(start $s)", r#"(export "_initialize" (func $s))"#] {
            let hostile = format!(r#"(module (func $s {body}) {begin} (func (export "f")))"#);
            let scene = Scene::of(&hostile);
            for _ in 0..3 {
                assert_eq!(trap::<()>(&scene, "f", ()), expected, "{begin} {body}");
            }
        }
    }
    seen(3, "trap of its own kind in every task, same worker");
}

/// Recursion in three shapes: frames as small as can be, large ones, and some that call the host.
const DEEP: &str = r#"(module
    (import "stockade" "progress" (func $progress (param i64 i64)))
    (type $nothing (func))
    (table 1 funcref)
    (elem (i32.const 0) $through)
    (func $small (export "small") (call $small))
    (func $large (export "large") (param i64 i64 i64 i64 i64 i64 i64 i64)
        (result i64 i64 i64 i64 i64 i64 i64 i64)
        (call $large
            (i64.add (local.get 0) (local.get 1)) (i64.add (local.get 1) (local.get 2))
            (i64.add (local.get 2) (local.get 3)) (i64.add (local.get 3) (local.get 4))
            (i64.add (local.get 4) (local.get 5)) (i64.add (local.get 5) (local.get 6))
            (i64.add (local.get 6) (local.get 7)) (i64.add (local.get 7) (local.get 0)))
        (call $large))
    (func (export "with_large_frames")
        (call $large (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4)
            (i64.const 5) (i64.const 6) (i64.const 7) (i64.const 8))
        (drop) (drop) (drop) (drop) (drop) (drop) (drop) (drop))
    (func $calling (export "calling_the_host")
        (call $progress (i64.const 1) (i64.const 2))
        (call $calling)
        (call $progress (i64.const 1) (i64.const 2)))
    (func $through (export "through_a_table") (call_indirect (type $nothing) (i32.const 0))))"#;

#[test]
fn a05_recursion_until_the_stack_is_full_is_a_trap() {
    let names = ["small", "with_large_frames", "calling_the_host"];
    for limits in [Limits::default(), Limits::default().interruptible(true)] {
        let scene = Scene::with(DEEP, limits);
        for function in names {
            assert_eq!(trap::<()>(&scene, function, ()), TrapKind::StackOverflow, "{function}");
        }
        let error = scene.survived::<()>("small", ()).unwrap_err();
        assert!(error.backtrace().len() <= 32, "{}", error.backtrace().len());
    }
    let what = format!("{}, same worker; its backtrace is cut", TrapKind::StackOverflow);
    seen(5, &what);
}

#[test]
fn a06_recursion_through_a_table_is_a_trap() {
    let scene = Scene::of(DEEP);
    for _ in 0..3 {
        let kind = trap::<()>(&scene, "through_a_table", ());
        assert_eq!(kind, TrapKind::StackOverflow);
    }
    seen(6, &format!("{}, same worker", TrapKind::StackOverflow));
}

#[test]
fn a07_traps_are_told_apart() {
    let scene = Scene::of(include_str!("../../../fixtures/numbers.wat"));
    let kinds = [
        trap::<()>(&scene, "unreachable", ()),
        trap::<i32>(&scene, "load", (65_533,)),
        trap::<i32>(&scene, "divide", (1, 0)),
        trap::<i32>(&scene, "divide", (i32::MIN, -1)),
        trap::<()>(&scene, "call", (1,)),
        trap::<()>(&scene, "call", (2,)),
        trap::<()>(&scene, "call_as_other", ()),
        trap::<i32>(&scene, "truncate", (f64::NAN,)),
    ];
    let expected = [
        TrapKind::Unreachable,
        TrapKind::MemoryOutOfBounds,
        TrapKind::DivisionByZero,
        TrapKind::IntegerOverflow,
        TrapKind::NullCall,
        TrapKind::TableOutOfBounds,
        TrapKind::WrongCallType,
        TrapKind::BadConversion,
    ];
    assert_eq!(kinds, expected);
    let error = scene.survived::<()>("unreachable", ()).unwrap_err();
    assert!(!error.backtrace().is_empty(), "{error:?}");
    // At the boundary of each: no trap.
    scene.survived::<()>("call", (0,)).unwrap();
    assert_eq!(scene.survived::<i32>("load", (65_532,)).unwrap(), 0);
    assert_eq!(scene.survived::<i32>("divide", (7, 2)).unwrap(), 3);
    let words: Vec<_> = kinds.iter().map(TrapKind::to_string).collect();
    seen(7, &format!("same worker; {}", words.join(", ")));
}

/// Every way to place a segment outside: right behind the end, across it, and at the last address.
#[test]
fn a13_data_segment_out_of_bounds_is_a_trap_of_the_task() {
    for segment in [
        r#"(memory 1) (data (i32.const 65536) "x")"#,
        r#"(memory 1) (data (i32.const 65535) "xy")"#,
        r#"(memory 1) (data (i32.const -1) "xyz")"#,
        r#"(memory 0) (data (i32.const 0) "x")"#,
        r#"(memory 1) (data (i32.const 0) "good") (data (i32.const 0x7fffffff) "bad")"#,
        r#"(memory 1) (data $d "x") (func $s
            (memory.init $d (i32.const 65536) (i32.const 0) (i32.const 1))) (start $s)"#,
        r#"(memory 1) (data $d "x") (func $s
            (memory.init $d (i32.const 0) (i32.const 0) (i32.const -1))) (start $s)"#,
    ] {
        let scene = Scene::of(&format!(r#"(module {segment} (func (export "f")))"#));
        assert_eq!(trap::<()>(&scene, "f", ()), TrapKind::MemoryOutOfBounds, "{segment}");
    }
    let within = r#"(module (memory 1) (data (i32.const 65535) "x") (func (export "f")))"#;
    Scene::of(within).survived::<()>("f", ()).unwrap();
    seen(13, &format!("{} in every task, same worker", TrapKind::MemoryOutOfBounds));
}

#[test]
fn a14_element_segment_out_of_bounds_is_a_trap_of_the_task() {
    for segment in [
        "(table 1 funcref) (elem (i32.const 1) $g)",
        "(table 1 funcref) (elem (i32.const 0) $g $g)",
        "(table 1 funcref) (elem (i32.const -1) $g $g)",
        "(table 0 funcref) (elem (i32.const 0) $g)",
        "(table 1 funcref) (elem $e func $g) (func $s
            (table.init $e (i32.const 1) (i32.const 0) (i32.const 1))) (start $s)",
        "(table 1 funcref) (elem $e func $g) (func $s
            (table.init $e (i32.const 0) (i32.const 0) (i32.const -1))) (start $s)",
    ] {
        let hostile = format!(r#"(module (func $g) {segment} (func (export "f")))"#);
        let scene = Scene::of(&hostile);
        assert_eq!(trap::<()>(&scene, "f", ()), TrapKind::TableOutOfBounds, "{segment}");
    }
    let within = r#"(module (func $g) (table 1 funcref) (elem (i32.const 0) $g)
        (func (export "f")))"#;
    Scene::of(within).survived::<()>("f", ()).unwrap();
    seen(14, &format!("{} in every task, same worker", TrapKind::TableOutOfBounds));
}

//! Endless code, under both kinds of deadline: one that kills the worker, and one that traps.

use std::time::Duration;

use stockade::{Limits, TaskError};

use crate::attacks::scene::Scene;
use crate::attacks::seen;

const SHORT: Duration = Duration::from_millis(300);

/// Runs `function` of `hostile` twice, once under each kind of deadline. Both end it there; says so.
#[track_caller]
fn ends_at_its_deadline(hostile: &str, function: &str) -> String {
    let scene = Scene::of(hostile);
    let killed = scene.killed_within(SHORT, function, ());
    let TaskError::Deadline { limit: SHORT, backtrace } = &killed else { panic!("{killed:?}") };
    assert!(backtrace.is_empty(), "nobody asked a killed worker where it was: {backtrace:?}");

    let interruptible = Limits::default().interruptible(true);
    let scene = Scene::with(hostile, interruptible);
    let trapped = scene.survived_within::<()>(SHORT, function, ()).unwrap_err();
    let TaskError::Deadline { limit: SHORT, backtrace } = &trapped else { panic!("{trapped:?}") };
    let frames = backtrace.len();
    assert!(frames > 0, "an interrupted guest knows where it was");
    format!(
        "deadline after {SHORT:?}: worker killed and replaced; interruptible: trap with a backtrace \
         of {frames}, same worker"
    )
}

#[test]
fn a01_loop_without_end_ends_at_its_deadline() {
    let hostile = r#"(module
        (func (export "spin") (loop $again (br $again)))
        (func (export "spin_in_steps")
            (local $step i64)
            (loop $again
                (local.set $step (i64.add (local.get $step) (i64.const 1)))
                (br_if $again (i64.ne (local.get $step) (i64.const -1)))))
        (func $a (param i64) (if (i64.ne (local.get 0) (i64.const 0))
            (then (call $a (i64.sub (local.get 0) (i64.const 1)))
                  (call $a (i64.sub (local.get 0) (i64.const 1))))))
        ;; 2^60 calls, 60 deep.
        (func (export "branch_out") (call $a (i64.const 60))))"#;
    ends_at_its_deadline(hostile, "spin_in_steps");
    ends_at_its_deadline(hostile, "branch_out");
    let what = ends_at_its_deadline(hostile, "spin");
    seen(1, &what);
}

#[test]
fn a02_loop_in_the_start_function_ends_at_the_tasks_deadline() {
    let hostile = r#"(module (func $s (loop $l (br $l))) (start $s) (func (export "f")))"#;
    let what = ends_at_its_deadline(hostile, "f");
    // A reactor's beginning is as good a place.
    let reactor = r#"(module
        (func (export "_initialize") (loop $l (br $l)))
        (func (export "f")))"#;
    assert_eq!(ends_at_its_deadline(reactor, "f"), what);
    seen(2, &what);
}

#[test]
fn a04_filling_memory_in_a_loop_ends_at_its_deadline() {
    // Each fill is one instruction to the guest, and 64 MiB to the machine.
    let hostile = r#"(module
        (memory 1024)
        (func (export "fill")
            (loop $again
                (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x4000000))
                (br $again)))
        (func (export "copy")
            (loop $again
                (memory.copy (i32.const 0) (i32.const 1) (i32.const 0x3ffffff))
                (br $again))))"#;
    let what = ends_at_its_deadline(hostile, "fill");
    assert_eq!(ends_at_its_deadline(hostile, "copy"), what);
    seen(4, &what);
}

//! Hostile pointers and lengths: every one is refused, and the next task runs as if nothing were.

use stockade_wire::{Failure, Limits, Outcome, TrapKind};

use super::support::{guest, worker};

/// Passes the pointer and length in its input to the host call that its name says.
fn pointers() -> String {
    let calls = [
        ("output", "(call $output_write (local.get $p) (local.get $n))"),
        ("error", "(call $error_write (local.get $p) (local.get $n))"),
        ("emit", "(call $emit (local.get $p) (local.get $n))"),
        ("log", "(call $log (i32.const 1) (local.get $p) (local.get $n))"),
        ("input", "(call $input_read (local.get $p) (i32.const 0) (local.get $n))"),
    ];
    let functions: String = calls
        .iter()
        .map(|(name, call)| {
            format!(
                r#"(func (export "{name}") (result i32) (local $p i32) (local $n i32)
                    (call $input_read (i32.const 0) (i32.const 0) (i32.const 8))
                    (local.set $p (i32.load (i32.const 0)))
                    (local.set $n (i32.load (i32.const 4)))
                    {call}
                    (i32.const 0))"#
            )
        })
        .collect();
    guest(&functions)
}

fn input(pointer: u32, length: u32) -> Vec<u8> {
    [pointer.to_le_bytes(), length.to_le_bytes()].concat()
}

#[test]
fn pointers_outside_the_memory_trap_whichever_call_they_are_passed_to() {
    let mut worker = worker().start_with(&pointers());
    let beyond = [
        (65_536, 1),
        (65_535, 2),
        (0, 65_537),
        (u32::MAX, 1),
        (u32::MAX, u32::MAX),
        (1, u32::MAX),
        (0, u32::MAX),
        (65_537, 0),
    ];
    for export in ["output", "error", "emit", "log", "input"] {
        for (pointer, length) in beyond {
            let outcome = worker.task(export, &input(pointer, length)).outcome;
            let trapped = matches!(
                outcome,
                Outcome::Failed(Failure::Trap { kind: TrapKind::MemoryOutOfBounds, .. })
            );
            assert!(trapped, "{export}({pointer}, {length}): {outcome:?}");
        }
    }
}

#[test]
fn pointers_at_the_very_end_of_the_memory_are_good() {
    let mut worker = worker().start_with(&pointers());
    assert_eq!(worker.result("output", &input(65_535, 1)), [0]);
    assert_eq!(worker.result("output", &input(65_536, 0)), b"");
    assert_eq!(worker.result("output", &input(1, 65_535)).len(), 65_535);
}

#[test]
fn input_is_read_to_its_end_and_no_further() {
    let mut worker = worker().start_with(&pointers());
    assert_eq!(worker.result("input", &input(100, 8)), b"");
    let outcome = worker.task("input", &input(100, 9)).outcome;
    assert!(matches!(outcome, Outcome::Failed(Failure::Guest(_))), "{outcome:?}");
}

#[test]
fn a_memory_that_grew_between_two_calls_is_seen_whole() {
    let mut worker = worker().start_with(&guest(
        r#"(func (export "grow") (result i32)
            (call $output_write (i32.const 0) (i32.const 1))
            (drop (memory.grow (i32.const 1)))
            (i32.store8 (i32.const 131071) (i32.const 7))
            (call $output_write (i32.const 131071) (i32.const 1))
            (i32.const 0))"#,
    ));
    assert_eq!(worker.result("grow", b""), [0, 7]);
}

#[test]
fn a_guest_without_a_memory_cannot_pass_pointers() {
    for memory in ["", "(memory 1)", "(memory (export \"other\") 1)", "(func (export \"memory\"))"]
    {
        let mut worker = worker().start_with(&format!(
            r#"(module
                (import "stockade" "output_write" (func $w (param i32 i32)))
                (import "wasi_snapshot_preview1" "random_get" (func $r (param i32 i32) (result i32)))
                {memory}
                (func (export "host") (result i32) (call $w (i32.const 0) (i32.const 0)) (i32.const 0))
                (func (export "wasi") (result i32) (call $r (i32.const 0) (i32.const 1))))"#
        ));
        assert!(matches!(worker.failure("host"), Failure::Guest(why) if why.contains("`memory`")));
        assert!(matches!(worker.failure("wasi"), Failure::Guest(_)));
    }
}

#[test]
fn error_text_is_cut_at_its_limit() {
    let mut worker = worker().start_with(&guest(
        r#"(func (export "f") (result i32) (local $i i32)
            (loop $more
                (call $error_write (i32.const 0) (i32.const 65536))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $i) (i32.const 100))))
            (i32.const 1))"#,
    ));
    let Failure::Error(error) = worker.failure("f") else { panic!("expected an error") };
    assert_eq!(error.message.len(), stockade_abi::ERROR_BYTES_MAX);
}

#[test]
fn an_error_record_nested_beyond_reason_is_plain_text() {
    let mut worker = worker().start_with(&guest(
        r#"(func (export "f") (result i32)
            (memory.fill (i32.const 0) (i32.const 91) (i32.const 60000))
            (call $error_write (i32.const 0) (i32.const 60000))
            (i32.const 1))"#,
    ));
    assert!(matches!(worker.failure("f"), Failure::Error(error) if error.message.len() == 60_000));
}

#[test]
fn names_in_a_backtrace_are_bounded() {
    let name = "n".repeat(100_000);
    let mut worker = worker()
        .limits(Limits::default())
        .start_with(&format!(r#"(module (func ${name} (export "f") (result i32) unreachable))"#));
    let Failure::Trap { backtrace, .. } = worker.failure("f") else { panic!("expected a trap") };
    assert!(backtrace[0].function.len() < 300);
}

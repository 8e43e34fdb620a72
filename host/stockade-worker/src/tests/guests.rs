//! What a guest can be and say: results, errors, scalars, traps, and what the host sees meanwhile.

use stockade_wire::{
    Call, Codec, Failure, GuestError, Invocation, Outcome, Scalar, TaskId, TrapKind, WorkerMessage,
};

use super::support::{guest, task, worker, written};

#[test]
fn a_task_reads_its_input_and_returns_its_result() {
    let mut worker = worker().start_with(&guest(
        r#"(func (export "upper") (result i32) (local $i i32)
            (call $input_read (i32.const 64) (i32.const 1) (i32.const 2))
            (i32.store8 (i32.const 64) (i32.sub (i32.load8_u (i32.const 64)) (i32.const 32)))
            (call $output_write (i32.const 64) (i32.const 1))
            (call $output_write (i32.const 65) (i32.const 1))
            (i32.const 0))"#,
    ));
    let finished = worker.task("upper", b"abc");
    assert_eq!(finished.outcome, Outcome::Returned(b"Bc".to_vec()));
    assert_eq!(finished.metrics.memory_peak_bytes, 64 << 10);
    assert_eq!(finished.metrics.fuel, None);
}

#[test]
fn a_task_learns_its_codec_its_number_and_its_time() {
    let mut worker = worker().start_with(&guest(
        r#"(func (export "ask") (result i32)
            (i32.store (i32.const 0) (call $input_codec))
            (i64.store (i32.const 8) (call $task_id))
            (i64.store (i32.const 16) (call $remaining_ns))
            (call $output_write (i32.const 0) (i32.const 24))
            (i32.const 0))"#,
    ));
    for (codec, number) in [(Codec::Raw, 0), (Codec::Bincode, 1), (Codec::Json, 2)] {
        let call = Call { export: "ask".into(), codec, input: Vec::new() };
        let finished = worker.run(Invocation::Task(call));
        let Outcome::Returned(bytes) = finished.outcome else { panic!("expected a result") };
        assert_eq!(bytes[0], number);
        assert_eq!(bytes[8..16], finished.task.0.to_le_bytes());
        let left = i64::from_le_bytes(*bytes[16..].first_chunk().unwrap());
        assert!(left > 0 && left <= 60_000_000_000);
    }
}

#[test]
fn every_task_begins_with_the_same_memory_globals_and_table() {
    let mut worker = worker().start_with(&guest(
        r#"(global $calls (mut i32) (i32.const 0))
           (table $t 1 funcref)
           (data (i32.const 100) "fresh")
           (func $f)
           (elem declare func $f)
           (func (export "spoil") (result i32)
            (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (i32.store8 (i32.const 105) (global.get $calls))
            (i32.store8 (i32.const 106) (i32.eqz (ref.is_null (table.get $t (i32.const 0)))))
            (i32.store8 (i32.const 107) (memory.size))
            (i32.store8 (i32.const 108) (i32.load8_u (i32.const 200)))
            (call $output_write (i32.const 100) (i32.const 9))
            (table.set $t (i32.const 0) (ref.func $f))
            (i32.store8 (i32.const 200) (i32.const 255))
            (memory.fill (i32.const 100) (i32.const 120) (i32.const 5))
            (drop (memory.grow (i32.const 3)))
            (i32.const 0))"#,
    ));
    for _ in 0..5 {
        assert_eq!(worker.result("spoil", b""), b"fresh\x01\x00\x01\x00");
    }
}

#[test]
fn scalars_of_every_kind_pass_through_with_all_their_bits() {
    let mut worker = worker().start_with(
        r#"(module
            (func (export "all") (param i32 i64 f32 f64) (result i32 i64 f32 f64)
                (local.get 0) (local.get 1) (local.get 2) (local.get 3))
            (func (export "none")))"#,
    );
    let args = [
        Scalar::I32(i32::MIN),
        Scalar::I64(i64::MIN),
        Scalar::F32(0x7fa0_1234), // signalling NaNs with a payload
        Scalar::F64(0xfff4_0000_dead_beef),
    ];
    assert_eq!(worker.scalar("all", &args), Outcome::Scalars(args.to_vec()));
    assert_eq!(worker.scalar("none", &[]), Outcome::Scalars(Vec::new()));
}

#[test]
fn scalars_of_the_wrong_count_or_kind_are_refused_before_the_call() {
    let mut worker = worker().start_with(
        r#"(module
            (func (export "f") (param i32) unreachable)
            (func (export "v") (result v128) (v128.const i64x2 0 0))
            (global (export "g") i32 (i32.const 0)))"#,
    );
    for (export, args) in [
        ("f", vec![]),
        ("f", vec![Scalar::I64(1)]),
        ("f", vec![Scalar::I32(1), Scalar::I32(1)]),
        ("v", vec![]),
        ("g", vec![]),
        ("missing", vec![]),
    ] {
        let outcome = worker.scalar(export, &args);
        assert!(matches!(outcome, Outcome::Failed(Failure::Guest(_))), "{export}: {outcome:?}");
    }
}

#[test]
fn an_error_is_text_or_a_record() {
    let mut worker = worker().start_with(&guest(
        r#"(data (i32.const 0) "{\"message\":\"no\",\"data\":\"7\"}")
           (data (i32.const 100) "plain")
           (func (export "record") (result i32)
            (call $error_write (i32.const 0) (i32.const 27)) (i32.const 1))
           (func (export "text") (result i32)
            (call $output_write (i32.const 0) (i32.const 5))
            (call $error_write (i32.const 100) (i32.const 5)) (i32.const -9))
           (func (export "silent") (result i32) (i32.const 77))
           (func (export "arguments") (result i32)
            (call $error_write (i32.const 100) (i32.const 5)) (i32.const 2))"#,
    ));
    let error = |message: &str, data: Option<&str>| GuestError {
        message: message.into(),
        location: None,
        data: data.map(Into::into),
    };
    assert_eq!(worker.failure("record"), Failure::Error(Box::new(error("no", Some("7")))));
    assert_eq!(worker.failure("text"), Failure::Error(Box::new(error("plain", None))));
    assert!(
        matches!(worker.failure("silent"), Failure::Error(error) if error.message.contains("77"))
    );
    assert_eq!(worker.failure("arguments"), Failure::BadArguments(Box::new(error("plain", None))));
}

#[test]
fn a_panic_is_told_from_a_plain_trap_by_its_record() {
    let record = r#"{\"message\":\"boom\",\"location\":\"a.rs:1:2\",\"panic\":true}"#;
    let length = record.replace('\\', "").len();
    let mut worker = worker().start_with(&guest(&format!(
        r#"(data (i32.const 0) "{record}")
           (func $inner unreachable)
           (func $panics (export "panics") (result i32)
            (call $error_write (i32.const 0) (i32.const {length}))
            (call $inner) (i32.const 0))
           (func (export "returns") (result i32)
            (call $error_write (i32.const 0) (i32.const {length}))
            (i32.const 1))"#
    )));
    let error =
        GuestError { message: "boom".into(), location: Some("a.rs:1:2".into()), data: None };
    let Failure::Panic(said, backtrace) = worker.failure("panics") else { panic!("no panic") };
    assert_eq!(*said, error);
    let functions: Vec<_> = backtrace.iter().map(|frame| frame.function.as_str()).collect();
    assert_eq!(functions, ["inner", "panics"]);
    // A module without debug information has no use for places.
    assert!(backtrace.iter().all(|frame| frame.offset.is_none()));
    assert_eq!(worker.failure("returns"), Failure::Error(Box::new(error)));
}

#[test]
fn traps_are_told_apart() {
    let mut worker = worker().start_with(
        r#"(module
            (memory (export "memory") 1)
            (table 2 funcref)
            (type $none (func))
            (type $one (func (param i32)))
            (func $f)
            (elem (i32.const 0) $f)
            (func (export "unreachable") (result i32) unreachable)
            (func $deep (export "deep") (result i32) (call $deep))
            (func (export "memory_oob") (result i32) (i32.load (i32.const -4)))
            (func (export "table_oob") (result i32)
                (call_indirect (type $none) (i32.const 2)) (i32.const 0))
            (func (export "null") (result i32)
                (call_indirect (type $none) (i32.const 1)) (i32.const 0))
            (func (export "type") (result i32)
                (call_indirect (type $one) (i32.const 0) (i32.const 0)) (i32.const 0))
            (func (export "zero") (result i32) (i32.div_s (i32.const 1) (i32.const 0)))
            (func (export "overflow") (result i32)
                (i32.div_s (i32.const 0x80000000) (i32.const -1)))
            (func (export "conversion") (result i32) (i32.trunc_f32_s (f32.const nan))))"#,
    );
    for (export, expected) in [
        ("unreachable", TrapKind::Unreachable),
        ("deep", TrapKind::StackOverflow),
        ("memory_oob", TrapKind::MemoryOutOfBounds),
        ("table_oob", TrapKind::TableOutOfBounds),
        ("null", TrapKind::NullCall),
        ("type", TrapKind::WrongCallType),
        ("zero", TrapKind::DivisionByZero),
        ("overflow", TrapKind::IntegerOverflow),
        ("conversion", TrapKind::BadConversion),
    ] {
        let Failure::Trap { kind, message, backtrace } = worker.failure(export) else {
            panic!("{export} did not trap")
        };
        assert_eq!(kind, expected, "{export}");
        assert!(!message.is_empty());
        if expected == TrapKind::MemoryOutOfBounds {
            assert!(message.starts_with("memory fault at wasm address 0x"), "{message}");
        }
        assert!(!backtrace.is_empty() && backtrace.len() <= crate::engine::BACKTRACE_FRAMES_MAX);
    }
}

#[test]
fn a_trap_or_a_bad_segment_at_the_start_fails_the_task_and_not_the_worker() {
    for (source, expected) in [
        ("(func $s unreachable) (start $s)", TrapKind::Unreachable),
        ("(data (i32.const 65536) \"x\")", TrapKind::MemoryOutOfBounds),
        ("(table 1 funcref) (func $g) (elem (i32.const 1) $g)", TrapKind::TableOutOfBounds),
    ] {
        let mut worker = worker().start_with(&format!(
            r#"(module (memory (export "memory") 1) {source}
                (func (export "f") (result i32) (i32.const 0)))"#
        ));
        for _ in 0..2 {
            let failure = worker.failure("f");
            let as_expected = matches!(failure, Failure::Trap { kind, .. } if kind == expected);
            assert!(as_expected, "{source}: {failure:?}");
        }
    }
}

#[test]
fn a_start_function_may_make_host_calls_of_the_pending_task() {
    let mut worker = worker().start_with(&guest(
        r#"(func $start
            (call $input_read (i32.const 0) (i32.const 0) (call $input_len))
            (call $output_write (i32.const 0) (call $input_len)))
           (start $start)
           (func (export "f") (result i32) (call $output_write (i32.const 0) (i32.const 1)) (i32.const 0))"#,
    ));
    assert_eq!(worker.result("f", b"ab"), b"aba");
}

#[test]
fn a_reactor_is_initialised_once_before_its_task() {
    let mut worker = worker().start_with(&guest(
        r#"(global $n (mut i32) (i32.const 0))
           (func (export "_initialize") (global.set $n (i32.add (global.get $n) (i32.const 1))))
           (func (export "n") (result i32) (global.get $n))"#,
    ));
    assert_eq!(worker.scalar("n", &[]), Outcome::Scalars(vec![Scalar::I32(1)]));
    assert_eq!(worker.scalar("n", &[]), Outcome::Scalars(vec![Scalar::I32(1)]));
}

#[test]
fn an_export_that_is_no_task_is_a_clear_failure() {
    let mut worker = worker().start_with("(module (func (export \"f\")))");
    for export in ["f", "g"] {
        let failure = worker.failure(export);
        assert!(matches!(failure, Failure::Guest(why) if why.contains(&format!("`{export}`"))));
    }
}

#[test]
fn proc_exit_ends_a_task_with_its_code_whatever_it_is() {
    let mut worker = worker().start_with(&guest(
        r#"(func (export "exit") (result i32)
            (call $input_read (i32.const 0) (i32.const 0) (i32.const 4))
            (call $proc_exit (i32.load (i32.const 0)))
            unreachable)"#,
    ));
    for code in [0, 42, 126, -1] {
        let finished = worker.task("exit", &i32::to_le_bytes(code));
        assert_eq!(finished.outcome, Outcome::Failed(Failure::Exited(code)));
    }
}

#[test]
fn progress_stands_on_the_page_and_items_arrive_before_the_end() {
    let mut worker = worker().start_with(&guest(
        r#"(data (i32.const 0) "one")
           (func (export "stream") (result i32)
            (call $progress (i64.const 3) (i64.const 10))
            (call $emit (i32.const 0) (i32.const 3))
            (call $emit (i32.const 0) (i32.const 0))
            (call $log (i32.const 2) (i32.const 0) (i32.const 3))
            (i32.const 0))"#,
    ));
    let number = worker.submit(task("stream", b""), &[]);
    assert_eq!(worker.receive(), Some(WorkerMessage::Emitted(number, b"one".to_vec())));
    assert_eq!(worker.receive(), Some(WorkerMessage::Emitted(number, Vec::new())));
    let finished = worker.finished();
    let log: Vec<_> =
        written(&finished).log.lines().map(|line| (line.level, line.message)).collect();
    assert_eq!(log, [(2, "one".to_owned())]);
    assert_eq!(worker.page.progress_of(number), Some((3, 10)));
    assert_eq!(worker.page.progress_of(TaskId(99)), None);
}

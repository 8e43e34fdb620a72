//! Core dumps as a worker sends them: what is in them, when there is none, and how long they get.

use std::time::Duration;

use stockade_wire::{
    COREDUMP_PIECE_BYTES, Coredumps, Failure, Finished, Invocation, Limits, Outcome, Scalar,
    TrapKind, WorkerMessage,
};
use wasmparser::{DataKind, KnownCustom, Operator, Parser, Payload, Validator};

use super::support::{Worker, task, worker};

/// Traps where its name says, with a memory and globals that nobody exports.
const GUEST: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory 4)
    (global $pointer (mut i32) (i32.const 1024))
    (global $limit i64 (i64.const -7))
    (func $inner (param i32)
        (global.set $pointer (local.get 0))
        (i32.store (i32.const 200000) (i32.const 0x04030201))
        (drop (i32.div_u (i32.const 1) (i32.sub (local.get 0) (local.get 0)))))
    (func (export "divide") (result i32) (call $inner (i32.const 77)) (i32.const 0))
    (func (export "fill") (param i32) (result i32)
        (memory.fill (i32.const 0) (i32.const 9) (local.get 0)) unreachable)
    (func (export "spin") (result i32) (loop $l (br $l)) (i32.const 0))
    (func (export "exit") (result i32) (call $exit (i32.const 3)) (i32.const 0))
    (func (export "fail") (result i32) (i32.const 1))
    (func (export "return") (result i32) (i32.const 0)))"#;

/// What a task left, with its dump where there is one, and how much is left out of that.
fn ended(worker: &mut Worker, invocation: Invocation) -> (Finished, Option<(Vec<u8>, u64)>) {
    let number = worker.submit(invocation, &[]);
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut left = 0;
    loop {
        match worker.receive() {
            Some(WorkerMessage::Dumped { task, piece, left_out }) => {
                assert_eq!(task, number);
                assert!(pieces.last().is_none_or(|last| last.len() == COREDUMP_PIECE_BYTES));
                assert!((1..=COREDUMP_PIECE_BYTES).contains(&piece.len()));
                left = left_out;
                pieces.push(piece);
            }
            Some(WorkerMessage::Finished(finished)) => {
                let dump = (!pieces.is_empty()).then(|| (pieces.concat(), left));
                return (finished, dump);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What a valid dump holds.
#[derive(Default)]
struct Read {
    names: Vec<String>,
    frames: Vec<(u32, u32)>,
    globals: Vec<String>,
    pages: u64,
    memory: Vec<u8>,
}

fn read(dump: &[u8]) -> Read {
    Validator::new().validate_all(dump).unwrap();
    let mut read = Read::default();
    for payload in Parser::new(0).parse_all(dump).map(Result::unwrap) {
        match payload {
            Payload::MemorySection(memories) => {
                read.pages = memories.into_iter().next().unwrap().unwrap().initial;
                read.memory = vec![0; read.pages as usize * 65_536];
            }
            Payload::GlobalSection(globals) => {
                for global in globals.into_iter().map(Result::unwrap) {
                    let value = global.init_expr.get_operators_reader().read().unwrap();
                    read.globals.push(format!("{value:?} {}", global.ty.mutable));
                }
            }
            Payload::DataSection(segments) => {
                for segment in segments.into_iter().map(Result::unwrap) {
                    let DataKind::Active { offset_expr, .. } = segment.kind else { panic!() };
                    let Operator::I32Const { value } =
                        offset_expr.get_operators_reader().read().unwrap()
                    else {
                        panic!()
                    };
                    let at = value as usize;
                    read.memory[at..at + segment.data.len()].copy_from_slice(segment.data);
                }
            }
            Payload::CustomSection(section) => match section.as_known() {
                KnownCustom::CoreDump(core) => read.names.push(core.name.into()),
                KnownCustom::CoreDumpStack(stack) => {
                    let frames = stack.frames.iter();
                    read.frames = frames.map(|frame| (frame.funcidx, frame.codeoffset)).collect();
                }
                _ => {}
            },
            _ => {}
        }
    }
    read
}

#[test]
fn a_trap_leaves_its_functions_its_memory_and_its_globals_as_a_valid_module() {
    let mut worker = worker().coredumps(Coredumps::default()).start_with(GUEST);
    let (finished, dump) = ended(&mut worker, task("divide", b""));
    let Outcome::Failed(Failure::Trap { kind, backtrace, .. }) = finished.outcome else { panic!() };
    assert_eq!(kind, TrapKind::DivisionByZero);
    let (dump, left_out) = dump.unwrap();
    assert_eq!(left_out, 0);
    let read = read(&dump);
    let told: Vec<_> = backtrace.iter().map(|frame| (frame.index, frame.offset.unwrap())).collect();
    assert_eq!(read.frames, told);
    assert_eq!(read.frames.iter().map(|frame| frame.0).collect::<Vec<_>>(), [1, 2]);
    assert!(read.frames[0].1 > read.frames[1].1, "{:?}", read.frames);
    assert_eq!((read.names, read.pages), (vec!["guest".to_owned()], 4));
    assert_eq!(read.globals, ["I32Const { value: 77 } true", "I64Const { value: -7 } false"]);
    assert_eq!(read.memory[200_000..200_004], [1, 2, 3, 4]);
    assert!(read.memory.iter().filter(|byte| **byte != 0).count() == 4);
    assert!(dump.len() < 1000, "{} bytes", dump.len());
    // The next task is none the worse.
    let (finished, dump) = ended(&mut worker, task("return", b""));
    assert_eq!((finished.outcome, dump), (Outcome::Returned(Vec::new()), None));
}

#[test]
fn who_does_not_trap_leaves_no_dump_and_nobody_does_unasked() {
    let mut asked = worker().coredumps(Coredumps::default()).start_with(GUEST);
    for export in ["return", "fail", "exit"] {
        assert_eq!(ended(&mut asked, task(export, b"")).1, None, "{export}");
    }
    let mut unasked = worker().start_with(GUEST);
    let (finished, dump) = ended(&mut unasked, task("divide", b""));
    assert!(matches!(finished.outcome, Outcome::Failed(Failure::Trap { .. })));
    assert_eq!(dump, None);
}

#[test]
fn a_deadline_that_is_a_trap_leaves_a_dump() {
    let limits = Limits::default().interruptible(true).wall_time(Duration::from_millis(1));
    let mut worker = worker().limits(limits).coredumps(Coredumps::default()).start_with(GUEST);
    let (finished, dump) = ended(&mut worker, task("spin", b""));
    assert!(matches!(finished.outcome, Outcome::Failed(Failure::Deadline { .. })));
    assert_eq!(read(&dump.unwrap().0).pages, 4);
}

fn fill(bytes: i32) -> Invocation {
    Invocation::Scalar { export: "fill".into(), args: vec![Scalar::I32(bytes)] }
}

#[test]
fn a_dump_longer_than_one_message_comes_in_pieces_and_one_too_long_without_its_end() {
    for (bytes_max, left_out) in [(1 << 20, 0), (150_000, 131_072), (1000, 262_144)] {
        let coredumps = Coredumps::default().bytes_max(bytes_max);
        let mut worker = worker().coredumps(coredumps).start_with(GUEST);
        let (dump, left) = ended(&mut worker, fill(262_144)).1.unwrap();
        assert_eq!(left, left_out);
        assert!(dump.len() as u64 <= bytes_max, "{} bytes", dump.len());
        let memory = read(&dump).memory;
        let kept = memory.len() - left as usize;
        assert!(memory[..kept].iter().all(|byte| *byte == 9));
        assert!(memory[kept..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn so_many_tasks_leave_a_dump_and_no_more() {
    let mut worker = worker().coredumps(Coredumps::default().count_max(2)).start_with(GUEST);
    for expected in [true, true, false, false] {
        // What leaves none counts for none.
        assert_eq!(ended(&mut worker, task("exit", b"")).1, None);
        assert_eq!(ended(&mut worker, fill(1)).1.is_some(), expected);
    }
}

#[test]
fn a_guest_without_memory_or_with_names_of_ours_leaves_what_there_is() {
    for (state, pages) in [
        ("", 0),
        (r#"(func (export "stockade.coredump.memory")) (memory 1)"#, 0),
        (
            r#"(memory (export "memory") 3) (global (export "stockade.coredump.global.0") f32 (f32.const 1))"#,
            3,
        ),
    ] {
        let source = format!(r#"(module {state} (func (export "f") (result i32) unreachable))"#);
        let mut worker = worker().coredumps(Coredumps::default()).start_with(&source);
        let (dump, _) = ended(&mut worker, task("f", b"")).1.unwrap();
        let read = read(&dump);
        assert_eq!((read.pages, read.frames.len()), (pages, 1), "{state}");
    }
}

#[test]
fn a_trap_in_the_start_function_leaves_the_functions() {
    let source = r#"(module (memory 1) (func $s unreachable) (start $s)
        (func (export "f") (result i32) (i32.const 0)))"#;
    let mut worker = worker().coredumps(Coredumps::default()).start_with(source);
    let (dump, _) = ended(&mut worker, task("f", b"")).1.unwrap();
    assert_eq!(read(&dump).frames[0].0, 0);
}

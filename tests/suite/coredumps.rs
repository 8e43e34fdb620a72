//! Core dumps: what a task leaves that traps, in pools that ask for it.

use std::os::unix::fs::PermissionsExt;

use stockade::{BuildError, Command, Coredump, Coredumps, PoolBuilder, TaskError};
use stockade_tests::{Folder, wat};
use wasmparser::{DataKind, KnownCustom, Operator, Parser, Payload, Validator};

/// Its memory and its globals are nobody's to see.
const GUEST: &str = r#"(module
    (memory 64)
    (global $base (mut i32) (i32.const 0))
    (func (export "begin") (global.set $base (i32.const 4000)))
    (func $write (param $value i32) (i32.store (global.get $base) (local.get $value)))
    (func $fall (param $value i32) (call $write (local.get $value)) unreachable)
    (func (export "fall") (param i32) (result i32) (call $fall (local.get 0)) (i32.const 0))
    (func (export "stand") (param i32) (result i32) (local.get 0))
    (func (export "fill") (param i32) (result i32)
        (memory.fill (i32.const 0) (local.get 0) (i32.const 3000000)) unreachable)
    (func (export "_start") (call $fall (i32.const 5))))"#;

fn dumping(coredumps: Coredumps) -> PoolBuilder {
    wat(GUEST).coredumps(coredumps)
}

/// A dump's memory and its functions.
fn read(dump: &Coredump) -> (Vec<u8>, Vec<u32>) {
    let bytes: Vec<u8> = dump.pieces().flatten().copied().collect();
    assert_eq!(bytes.len() as u64, dump.bytes());
    Validator::new().validate_all(&bytes).unwrap();
    let (mut memory, mut functions) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(&bytes).map(Result::unwrap) {
        match payload {
            Payload::MemorySection(memories) => {
                let pages = memories.into_iter().next().unwrap().unwrap().initial;
                memory = vec![0; pages as usize * 65_536];
            }
            Payload::DataSection(segments) => {
                for segment in segments.into_iter().map(Result::unwrap) {
                    let DataKind::Active { offset_expr, .. } = segment.kind else { panic!() };
                    let offset = offset_expr.get_operators_reader().read().unwrap();
                    let Operator::I32Const { value } = offset else { panic!() };
                    memory[value as usize..][..segment.data.len()].copy_from_slice(segment.data);
                }
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::CoreDumpStack(stack) = section.as_known() {
                    functions = stack.frames.iter().map(|frame| frame.funcidx).collect();
                }
            }
            _ => {}
        }
    }
    (memory, functions)
}

#[test]
fn a_task_that_traps_leaves_its_memory_and_functions_and_others_leave_nothing() {
    let pool = dumping(Coredumps::default()).build().unwrap();
    let fallen = pool.submit::<i32>("fall", (0x0a0b_0c0d,)).unwrap();
    let TaskError::Trap { backtrace, .. } = fallen.result().unwrap_err() else { panic!() };
    let dump = fallen.report().coredump.unwrap();
    let (memory, functions) = read(&dump);
    assert_eq!((memory.len(), &memory[..4]), (64 << 16, &[0x0d, 0x0c, 0x0b, 0x0a][..]));
    assert_eq!(functions, backtrace.iter().map(|frame| frame.index).collect::<Vec<_>>());
    assert_eq!(functions, [2, 3]);
    assert_eq!((dump.left_out(), dump.bytes() < 1000), (0, true));

    let stood = pool.submit::<i32>("stand", (1,)).unwrap();
    assert_eq!((stood.result().unwrap(), stood.report().coredump.is_none()), (1, true));
    let program = pool.submit_command(Command::new("guest")).unwrap();
    assert!(program.result().is_err());
    assert_eq!(read(&program.report().coredump.unwrap()).0[0], 5);

    let folder = Folder::new();
    let file = folder.path().join("fall.coredump.wasm");
    dump.save(&file).unwrap();
    let kept: Vec<u8> = dump.pieces().flatten().copied().collect();
    assert_eq!(std::fs::read(&file).unwrap(), kept);
    let mode = file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "memory may hold secrets");

    let pool = wat(GUEST).build().unwrap();
    let fallen = pool.submit::<i32>("fall", (1,)).unwrap();
    assert!(fallen.result().is_err() && fallen.report().coredump.is_none(), "unasked");
}

#[test]
fn a_long_dump_comes_whole_and_one_that_is_too_long_without_its_end() {
    for (bytes_max, left_out) in [(64 << 20, 0), (1 << 20, (64 << 16) - 15 * 65_536)] {
        let pool = dumping(Coredumps::default().bytes_max(bytes_max)).build().unwrap();
        let filled = pool.submit::<i32>("fill", (7,)).unwrap();
        assert!(matches!(filled.result(), Err(TaskError::Trap { .. })));
        let dump = filled.report().coredump.unwrap();
        assert_eq!((dump.left_out(), dump.bytes() <= bytes_max), (left_out, true));
        let (memory, _) = read(&dump);
        let kept = memory.len() - left_out as usize;
        let expected = |at: usize| if at < kept.min(3_000_000) { 7 } else { 0 };
        assert!(memory.iter().enumerate().all(|(at, byte)| *byte == expected(at)));
        assert_eq!(pool.run::<i32>("stand", (2,)).unwrap(), 2);
    }
}

#[test]
fn a_pool_keeps_so_many_dumps_whatever_the_number_of_its_workers() {
    let few = Coredumps::default().count_max(3);
    let pool = dumping(few).max_workers(2).build().unwrap();
    let tasks: Vec<_> = (0..20).map(|_| pool.submit::<i32>("fall", (1,)).unwrap()).collect();
    assert!(tasks.iter().all(|task| task.result().is_err()));
    let kept = tasks.iter().filter(|task| task.report().coredump.is_some()).count();
    assert_eq!(kept, 3);
}

#[test]
fn a_dump_has_what_the_initializer_left() {
    let pool = dumping(Coredumps::default()).initializer("begin", ()).build().unwrap();
    let fallen = pool.submit::<i32>("fall", (9,)).unwrap();
    assert!(fallen.result().is_err());
    let (memory, functions) = read(&fallen.report().coredump.unwrap());
    assert_eq!((memory[4000], functions.len()), (9, 2));
}

#[test]
fn dumps_that_no_reader_takes_are_refused_with_the_setting() {
    for (coredumps, named) in [
        (Coredumps::default().bytes_max((1 << 30) + 1), "coredumps.bytes_max"),
        (Coredumps::default().bytes_max(0), "coredumps.bytes_max"),
        (Coredumps::default().count_max(0), "coredumps.count_max"),
    ] {
        let refused = dumping(coredumps).build().unwrap_err();
        assert!(matches!(refused, BuildError::Setting { setting, .. } if setting == named));
    }
}

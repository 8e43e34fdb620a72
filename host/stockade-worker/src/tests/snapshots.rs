//! From an initializer to a module that begins initialised: instrument, initialize, snapshot, run.

use std::os::fd::AsFd;

use stockade_wire::descriptor::memory_file;
use stockade_wire::{
    CompileRequest, CompileStep, EngineSettings, Failure, Features, HostMessage, Limits, Outcome,
    RefusalKind, Scalar, WorkerMessage,
};

use super::support::{MODULE, compile, compile_for, guest, hook, request, worker};

/// Its initializer fills memory, grows it and sets globals of every kind.
fn model() -> String {
    guest(
        r#"(global $i (mut i32) (i32.const 1))
           (global $l (mut i64) (i64.const 1))
           (global $f (mut f32) (f32.const 1))
           (global $d (mut f64) (f64.const 1))
           (global $v (mut v128) (v128.const i64x2 1 1))
           (global $fixed i32 (i32.const 9))
           (data (i32.const 40) "before")
           (@custom "stockade.tasks" "{\"abi\":1,\"kind\":\"finalizer\",\"name\":\"unload\",\"export\":\"unload\"}\n")
           (func $start (global.set $i (i32.add (global.get $i) (i32.const 1000))))
           (start $start)
           (func (export "_initialize") (global.set $i (i32.add (global.get $i) (i32.const 10))))
           (func (export "load") (result i32)
            (call $input_read (i32.const 100) (i32.const 0) (call $input_len))
            (global.set $i (i32.add (global.get $i) (i32.const 100)))
            (global.set $l (i64.const -2))
            (global.set $f (f32.const 0.5))
            (global.set $d (f64.const 0.25))
            (global.set $v (v128.const i64x2 3 4))
            (drop (memory.grow (i32.const 2)))
            (i32.store8 (i32.const 196607) (i32.const 7))
            (i32.const 0))
           (func (export "fails") (result i32) (i32.const 1))
           (func (export "state") (result i32)
            (i32.store (i32.const 0) (global.get $i))
            (i64.store (i32.const 4) (global.get $l))
            (f32.store (i32.const 12) (global.get $f))
            (f64.store (i32.const 16) (global.get $d))
            (v128.store (i32.const 24) (global.get $v))
            (i32.store8 (i32.const 60) (memory.size))
            (i32.store8 (i32.const 61) (i32.load8_u (i32.const 196607)))
            (call $output_write (i32.const 0) (i32.const 62))
            (call $output_write (i32.const 100) (i32.const 3))
            (global.set $i (i32.const 0))
            (i32.store8 (i32.const 100) (i32.const 33))
            (i32.const 0))
           (func (export "unload") (result i32)
            (call $emit (i32.const 100) (i32.const 3)) (i32.const 0))"#,
    )
}

/// Runs the initializer in a worker and answers with the state it leaves.
fn state_of(source: &str, export: &str, input: &[u8], bytes_max: u64) -> Result<Vec<u8>, Failure> {
    state_with(Features::default(), source, export, input, bytes_max)
}

fn state_with(
    features: Features,
    source: &str,
    export: &str,
    input: &[u8],
    bytes_max: u64,
) -> Result<Vec<u8>, Failure> {
    let limits = Limits::default();
    let engine = EngineSettings { features, ..limits.engine_settings() };
    let request = CompileRequest { engine, ..request(CompileStep::Instrument, &limits) };
    let (_, artefact) = compile_for(&request, source, None).unwrap();
    let mut worker = worker().features(features).start();
    worker.load_artefact(&artefact, None, None, false);
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(MODULE)));
    let file = memory_file("state").unwrap();
    let initialize = HostMessage::Initialize {
        module: MODULE,
        call: hook(export, input).unwrap(),
        state_bytes_max: bytes_max,
    };
    worker.send(&initialize, &[file.as_fd()]);
    match worker.receive() {
        Some(WorkerMessage::Initialized { state_bytes }) => {
            assert!(matches!(worker.close(), (Some(WorkerMessage::Closed), Ok(()))));
            let mut bytes = vec![0; usize::try_from(state_bytes).unwrap()];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
            assert_eq!(file.metadata().unwrap().len(), state_bytes);
            Ok(bytes)
        }
        Some(WorkerMessage::InitializerFailed(failure)) => {
            assert_eq!(worker.receive(), None);
            Err(failure)
        }
        other => panic!("expected a state, got {other:?}"),
    }
}

#[test]
fn every_task_begins_with_what_the_initializer_left() {
    let state = state_of(&model(), "load", b"abc", 1 << 20).unwrap();
    // Two pages that are not zero, globals and names.
    assert!(state.len() < 16 << 10);
    let limits = Limits::default();
    let (description, artefact) =
        compile(CompileStep::Snapshot, &limits, model(), Some(&state)).unwrap();
    assert_eq!(description.memory_min_bytes, 3 << 16);
    assert!(!description.has_start);
    assert_eq!(description.functions.len(), 1, "the manifest survives");

    let mut worker = worker().start();
    worker.load_artefact(&artefact, None, hook("unload", b""), true);
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(MODULE)));
    for _ in 0..3 {
        let bytes = worker.result("state", b"");
        // The start function, `_initialize` and the initializer have each run once.
        assert_eq!(bytes[..4], 1111i32.to_le_bytes());
        assert_eq!(bytes[4..12], (-2i64).to_le_bytes());
        assert_eq!(bytes[12..16], 0.5f32.to_le_bytes());
        assert_eq!(bytes[16..24], 0.25f64.to_le_bytes());
        assert_eq!(bytes[24..40], ((4u128 << 64) | 3).to_le_bytes());
        assert_eq!(&bytes[40..46], b"before");
        assert_eq!(bytes[60..62], [3, 7]);
        assert_eq!(&bytes[62..], b"abc");
    }
    worker.send(&HostMessage::Close, &[]);
    assert!(matches!(worker.receive(), Some(WorkerMessage::Emitted(_, item)) if item == b"abc"));
    assert_eq!(worker.receive(), Some(WorkerMessage::Closed));
}

#[test]
fn the_initializer_itself_stays_callable() {
    let state = state_of(&model(), "load", b"abc", 1 << 20).unwrap();
    let limits = Limits::default();
    let (_, artefact) = compile(CompileStep::Snapshot, &limits, model(), Some(&state)).unwrap();
    let mut worker = worker().start();
    worker.load_artefact(&artefact, None, None, true);
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(MODULE)));
    assert_eq!(worker.task("load", b"xyz").outcome, Outcome::Returned(Vec::new()));
}

#[test]
fn an_initializer_that_fails_leaves_no_state() {
    assert!(matches!(state_of(&model(), "fails", b"", 1 << 20), Err(Failure::Error(_))));
    let beyond = vec![0; 70_000];
    assert!(matches!(state_of(&model(), "load", &beyond, 1 << 20), Err(Failure::Trap { .. })));
}

#[test]
fn state_at_its_limit_is_written_and_one_byte_more_is_not() {
    let state = state_of(&model(), "load", b"abc", 1 << 20).unwrap();
    let bytes = state.len() as u64;
    assert_eq!(state_of(&model(), "load", b"abc", bytes).unwrap().len() as u64, bytes);
    let refused = state_of(&model(), "load", b"abc", bytes - 1);
    assert!(matches!(refused, Err(Failure::Guest(why)) if why.contains("bytes")));
}

#[test]
fn state_that_is_damaged_or_of_another_module_is_refused() {
    let limits = Limits::default();
    let good = state_of(&model(), "load", b"abc", 1 << 20).unwrap();
    let refused = |source: &str, state: &[u8]| {
        compile(CompileStep::Snapshot, &limits, source, Some(state)).unwrap_err().kind
    };
    let model = model();
    for cut in (0..good.len()).step_by(97) {
        assert_eq!(refused(&model, &good[..cut]), RefusalKind::Snapshot, "cut at {cut}");
    }
    assert_eq!(refused(&model, &[&good[..], b"x"].concat()), RefusalKind::Snapshot);
    let small =
        guest("(global (mut i32) (i32.const 0)) (func (export \"f\") (result i32) (i32.const 0))");
    let other = state_of(&small, "f", b"", 1 << 20).unwrap();
    assert_eq!(refused(&model, &other), RefusalKind::Snapshot);
    // A memory of 2 GiB, in a few bytes.
    let mut bomb = b"stkstat1".to_vec();
    bomb.extend_from_slice(&0u32.to_le_bytes());
    bomb.extend_from_slice(&1u32.to_le_bytes());
    bomb.extend_from_slice(&1u16.to_le_bytes());
    bomb.push(b'm');
    bomb.extend_from_slice(&(2u64 << 30).to_le_bytes());
    assert_eq!(refused(&model, &bomb), RefusalKind::Snapshot);
}

#[test]
fn flipped_bits_in_the_state_never_crash_the_compiler() {
    let limits = Limits::default();
    let model = model();
    let good = state_of(&model, "load", b"abc", 1 << 20).unwrap();
    for position in (0..600).step_by(7) {
        let mut bad = good.clone();
        bad[position] ^= 0x41;
        // Either a refusal, or another value that is as good as any.
        let _ = compile(CompileStep::Snapshot, &limits, &model, Some(&bad));
    }
}

#[test]
fn a_module_whose_state_cannot_be_kept_is_refused() {
    let limits = Limits::default();
    for source in [
        "(module (memory 1))",
        "(module (table 1 funcref) (func $f (export \"f\") (table.set (i32.const 0) (ref.null func))))",
        "(module (global (mut funcref) (ref.null func)) (func (export \"f\")))",
        "(module (data $d \"x\") (func (export \"f\") (data.drop $d)))",
        "(module (func (export \"__wizer_x\")))",
    ] {
        let refusal = compile(CompileStep::Instrument, &limits, source, None).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Snapshot, "{source}: {refusal}");
        compile(CompileStep::Compile, &limits, source, None).unwrap();
    }
}

/// What changes the state of tables, segments and objects, which no snapshot has.
#[test]
fn an_initializer_that_a_snapshot_cannot_follow_is_refused_by_what_it_does_before_it_runs() {
    let module = |body: &str| {
        format!(
            r#"(module (type $box (struct (field (mut i32)))) (type $list (array (mut i32)))
            (type $functions (array (mut funcref)))
            (table $t 2 funcref) (elem $e func $f) (data $d "data") (memory 1)
            (func $f (export "f"))
            (func (export "load") (result i32) {body} (i32.const 0)))"#
        )
    };
    let zeros = "(i32.const 0) (i32.const 0) (i32.const 0)";
    let list = "(array.new_default $list (i32.const 1)) (i32.const 0)";
    let by_instruction = [
        ("table.set", "(table.set $t (i32.const 0) (ref.func $f))".into()),
        ("table.grow", "(drop (table.grow $t (ref.func $f) (i32.const 1)))".into()),
        ("table.fill", "(table.fill $t (i32.const 0) (ref.func $f) (i32.const 1))".into()),
        ("table.copy", format!("(table.copy $t $t {zeros})")),
        ("table.init", format!("(table.init $t $e {zeros})")),
        ("elem.drop", "(elem.drop $e)".into()),
        ("data.drop", "(data.drop $d)".into()),
        ("struct.set", "(struct.set $box 0 (struct.new $box (i32.const 1)) (i32.const 2))".into()),
        ("array.set", format!("(array.set $list {list} (i32.const 2))")),
        ("array.fill", format!("(array.fill $list {list} (i32.const 2) (i32.const 1))")),
        ("array.copy", format!("(array.copy $list $list {list} {list} (i32.const 1))")),
        (
            "array.init_data",
            format!("(array.init_data $list $d {list} (i32.const 0) (i32.const 0))"),
        ),
        (
            "array.init_elem",
            "(array.init_elem $functions $e (array.new_default $functions (i32.const 1)) \
             (i32.const 0) (i32.const 0) (i32.const 0))"
                .into(),
        ),
    ];
    let limits = Limits::default();
    let engine = EngineSettings { features: Features::all(), ..limits.engine_settings() };
    let instrument = |source: &str| {
        let request = request(CompileStep::Instrument, &limits);
        compile_for(&CompileRequest { engine: engine.clone(), ..request }, source, None)
    };
    instrument(&module("")).unwrap();
    for (name, body) in by_instruction {
        let refusal = instrument(&module(&body)).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Snapshot, "{name}: {refusal}");
        assert!(refusal.message.contains(&format!("`{name}`")), "{name}: {refusal}");
    }
    for (ty, initial) in [
        ("funcref", "(ref.null func)"),
        ("externref", "(ref.null extern)"),
        ("exnref", "(ref.null exn)"),
        ("anyref", "(ref.i31 (i32.const 1))"),
        ("(ref null $box)", "(ref.null $box)"),
    ] {
        let source = format!(
            r#"(module (type $box (struct)) (global (mut {ty}) {initial}) (func (export "load")))"#
        );
        let refusal = instrument(&source).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Snapshot, "{ty}: {refusal}");
        assert!(refusal.message.contains("mutable global"), "{ty}: {refusal}");
    }
    let imports = r#"(module (import "m" "t" (tag)) (func (export "load")))"#;
    assert_eq!(instrument(imports).unwrap_err().kind, RefusalKind::Import);
}

#[test]
fn state_of_several_memories_is_kept_and_objects_are_made_anew() {
    let source = r#"(module (type $box (struct (field i32)))
        (tag $t (param i32))
        (memory $a (export "memory") 1) (memory $b 1) (memory $wide i64 1)
        (data (memory $b) (i32.add (i32.const 60) (i32.const 4)) "b")
        (global $fixed (ref $box) (struct.new $box (i32.const 5)))
        (global $sum (mut i32) (i32.sub (i32.const 7) (i32.const 7)))
        (table 2 (ref $box) (struct.new $box (i32.const 6)))
        (func $throws (throw $t (i32.const 20)))
        (func $add (param i32) (result i32)
            (global.set $sum (i32.add (global.get $sum) (local.get 0))) (global.get $sum))
        (func (export "load") (result i32)
            (i32.store $a (i32.const 8) (i32.const 1))
            (drop (memory.grow $b (i32.const 1)))
            (i32.store $b (i32.const 65536) (i32.const 2))
            (drop (memory.grow $wide (i64.const 2)))
            (i32.store $wide (i64.const 131072) (i32.const 3))
            (block $caught (result i32)
                (try_table (catch $t $caught) (call $throws)) (unreachable))
            (drop (call $add)) (i32.const 0))
        (func (export "state") (result i32)
            (i32.add (i32.add
                (i32.load $a (i32.const 8))
                (i32.load $b (i32.const 65536)))
            (i32.add (i32.add
                (i32.load $wide (i64.const 131072))
                (i32.load8_u $b (i32.const 64)))
            (i32.add (i32.add
                (struct.get $box 0 (global.get $fixed))
                (struct.get $box 0 (table.get (i32.const 1))))
            (call $add (i32.const 0)))))))"#;
    let features = Features::all();
    let state = state_with(features, source, "load", b"", 1 << 20).unwrap();
    let limits = Limits::default();
    let engine = EngineSettings { features, ..limits.engine_settings() };
    let request = CompileRequest { engine, ..request(CompileStep::Snapshot, &limits) };
    let (description, artefact) = compile_for(&request, source, Some(&state)).unwrap();
    assert_eq!((description.memory_min_bytes, description.memories), (6 << 16, 3));
    let mut worker = worker().features(features).start();
    worker.load_artefact(&artefact, None, None, true);
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(MODULE)));
    for _ in 0..3 {
        let sum = 1 + 2 + 3 + i32::from(b'b') + 5 + 6 + 20;
        assert_eq!(worker.scalar("state", &[]), Outcome::Scalars(vec![Scalar::I32(sum)]));
    }
}

#[test]
fn a_snapshot_larger_than_the_memory_limit_is_refused() {
    let state = state_of(&model(), "load", b"abc", 1 << 20).unwrap();
    let limits = Limits::default().memory_bytes(2 << 16);
    let refusal = compile(CompileStep::Snapshot, &limits, model(), Some(&state)).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Limit);
}

#[test]
fn a_module_without_memory_or_globals_can_be_snapshotted() {
    let source = r#"(module (func (export "load") (result i32) (i32.const 0))
        (func (export "f") (result i32) (i32.const 5)))"#;
    let state = state_of(source, "load", b"", 1 << 10).unwrap();
    let limits = Limits::default();
    let (_, artefact) = compile(CompileStep::Snapshot, &limits, source, Some(&state)).unwrap();
    let mut worker = worker().start();
    worker.load_artefact(&artefact, None, None, true);
    assert_eq!(worker.receive(), Some(WorkerMessage::Loaded(MODULE)));
    assert_eq!(worker.scalar("f", &[]), Outcome::Scalars(vec![Scalar::I32(5)]));
}

//! What WebAssembly 3.0 adds: each feature runs, is refused by its name where it is off, and stays
//! within the limits of its task.

use stockade_wire::{
    CompileRequest, CompileStep, EngineSettings, Failure, Feature, Features, Invocation, Limits,
    Outcome, RefusalKind, Scalar, TrapKind,
};

use super::support::{Worker, command, compile_for, from_start, guest, request, worker};
use crate::alone::Alone;

/// For each feature a module whose function `f` answers 42 by it.
const USES: [(Feature, &str); 10] = [
    (
        Feature::ExtendedConst,
        r#"(module (memory (export "memory") 1)
            (global $g i32 (i32.add (i32.const 40) (i32.mul (i32.const 1) (i32.const 2))))
            (table 3 funcref) (elem (i32.sub (i32.const 3) (i32.const 2)) func $a)
            (type $a (func (result i32)))
            (func $a (result i32) (i32.load8_u (i32.const 9)))
            (data (i32.add (i32.const 4) (i32.const 5)) "\2a")
            (func (export "f") (result i32)
                (if (i32.ne (global.get $g) (i32.const 42)) (then unreachable))
                (call_indirect (type $a) (i32.const 1))))"#,
    ),
    (
        Feature::TailCall,
        r#"(module
            (func $down (param i32 i32) (result i32)
                (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
                (return_call $down (i32.sub (local.get 0) (i32.const 1)) (local.get 1)))
            (func (export "f") (result i32) (return_call $down (i32.const 1000000) (i32.const 42))))"#,
    ),
    (
        Feature::MultiMemory,
        r#"(module (memory $a (export "memory") 1) (memory $b 1) (memory $c 0)
            (data (memory $b) (i32.const 65535) "\2a")
            (func (export "f") (result i32)
                (drop (memory.grow $c (i32.const 1)))
                (memory.copy $c $b (i32.const 7) (i32.const 65535) (i32.const 1))
                (memory.copy $a $c (i32.const 0) (i32.const 7) (i32.const 1))
                (i32.load8_u $a (i32.const 0))))"#,
    ),
    (
        Feature::Memory64,
        r#"(module (memory (export "memory") i64 1) (table i64 2 funcref)
            (data (i64.const 65535) "\2a")
            (func (export "f") (result i32)
                (if (i64.ne (memory.grow (i64.const 1)) (i64.const 1)) (then unreachable))
                (i64.store (i64.const 131064) (i64.const -1))
                (i32.load8_u (i64.const 65535))))"#,
    ),
    (
        Feature::RelaxedSimd,
        r#"(module (func (export "f") (result i32)
            (i32x4.extract_lane 3 (i32x4.relaxed_trunc_f32x4_s (f32x4.splat (f32.const 42.5))))))"#,
    ),
    (
        Feature::FunctionReferences,
        r#"(module (type $t (func (result i32)))
            (table $table 2 (ref $t) (ref.func $g))
            (global $held (ref $t) (ref.func $g))
            (elem declare func $g)
            (func $g (type $t) (i32.const 21))
            (func (export "f") (result i32)
                (i32.add (call_ref $t (global.get $held)) (call_ref $t (table.get (i32.const 1))))))"#,
    ),
    (
        Feature::Exceptions,
        r#"(module (tag $t (param i32 i64))
            (func $throws (param i32) (throw $t (local.get 0) (i64.const 2)))
            (func (export "f") (result i32) (local i64)
                (block $caught (result i32 i64)
                    (try_table (catch $t $caught) (call $throws (i32.const 40)))
                    unreachable)
                (local.set 0) (i32.add (i32.wrap_i64 (local.get 0)))))"#,
    ),
    (
        Feature::ExternReferences,
        r#"(module (table 2 externref) (global $g (mut externref) (ref.null extern))
            (func (export "f") (result i32)
                (table.set (i32.const 1) (global.get $g))
                (i32.mul (i32.const 42) (ref.is_null (table.get (i32.const 1))))))"#,
    ),
    (
        Feature::Gc,
        r#"(module (type $point (struct (field i32) (field (mut i32)))) (type $list (array (mut i8)))
            (global $fixed (ref $point) (struct.new $point (i32.const 2) (i32.const 0)))
            (func (export "f") (result i32) (local $p (ref $point)) (local $l (ref $list))
                (local.set $p (struct.new $point (i32.const 30) (i32.const 0)))
                (struct.set $point 1 (local.get $p) (i32.const 10))
                (local.set $l (array.new $list (i32.const 1) (i32.const 100)))
                (array.set $list (local.get $l) (i32.const 99) (i32.const 0))
                (i32.add (array.get_u $list (local.get $l) (i32.const 99))
                    (i32.add (struct.get $point 0 (global.get $fixed))
                        (i32.add (struct.get $point 0 (local.get $p))
                            (struct.get $point 1 (local.get $p)))))))"#,
    ),
    (
        Feature::Atomics,
        r#"(module (memory (export "memory") 1)
            (data (i32.const 8) "\28\00\00\00\00\00\00\00")
            (func (export "f") (result i32)
                (atomic.fence)
                (if (memory.atomic.notify (i32.const 8) (i32.const -1)) (then unreachable))
                (drop (i64.atomic.rmw.add (i32.const 8) (i64.const 1)))
                (drop (i32.atomic.rmw.cmpxchg (i32.const 8) (i32.const 41) (i32.const 42)))
                (drop (i32.atomic.rmw8.xchg_u (i32.const 65535) (i32.const 7)))
                (i32.atomic.store (i32.const 65528) (i32.atomic.load (i32.const 8)))
                (i32.load (i32.const 65528))))"#,
    ),
];

fn number(outcome: &Outcome) -> i32 {
    match outcome {
        Outcome::Scalars(values) => match values[..] {
            [Scalar::I32(number)] => number,
            _ => panic!("{values:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn request_with(features: Features, limits: &Limits) -> CompileRequest {
    let engine = EngineSettings { features, ..limits.engine_settings() };
    CompileRequest { engine, ..request(CompileStep::Compile, limits) }
}

/// A worker whose pool has all features on.
fn wide(limits: Limits, source: &str) -> Worker {
    worker().limits(limits).features(Features::all()).start_with(source)
}

#[test]
fn every_feature_runs_with_every_kind_of_check_and_is_alone_enough() {
    for (feature, source) in USES {
        let default = Limits::default();
        for limits in [
            default.clone(),
            default.clone().interruptible(true),
            default.clone().fuel(1 << 40),
            default.clone().deterministic(7),
        ] {
            let features = Features::none().with(feature);
            let mut worker = worker().limits(limits).features(features).start_with(source);
            for _ in 0..3 {
                assert_eq!(number(&worker.scalar("f", &[])), 42, "{feature}");
            }
        }
    }
}

#[test]
fn what_is_off_is_refused_by_its_name() {
    for (feature, source) in USES {
        let features = Features::all().without(feature);
        let request = request_with(features, &Limits::default());
        let refusal = compile_for(&request, source, None).unwrap_err();
        let RefusalKind::FeaturesOff(off) = refusal.kind else { panic!("{feature}: {refusal:?}") };
        assert!(off.has(feature), "{feature}: {off}");
        // Garbage collection goes with what it needs, and that need not be used.
        let words = format!("{} (`{feature}`)", feature.words());
        assert!(refusal.message.contains(&words), "{feature}: {refusal}");
        let request = request_with(features.with(feature), &Limits::default());
        compile_for(&request, source, None).unwrap();
    }
}

#[test]
fn what_no_pool_has_on_is_refused_by_its_name_too() {
    let threads = r#"(module (memory 1 1 shared)
        (func (result i32) (i32.atomic.load (i32.const 0))) (tag) (func (throw 0)))"#;
    let refusal = compile_for(&request_with(Features::none(), &Limits::default()), threads, None)
        .unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Feature);
    assert!(refusal.message.contains("threads and exceptions (`exceptions`)"), "{refusal}");
}

#[test]
fn an_instance_after_others_is_as_the_engine_makes_it() {
    for (feature, source) in USES {
        let binary = wat::parse_str(source).unwrap();
        let mut alone = Alone::new(&binary, &Limits::default(), Features::all()).unwrap();
        for _ in 0..3 {
            let f = Invocation::Scalar { export: "f".into(), args: Vec::new() };
            let finished = alone.run(f, Vec::new()).unwrap();
            assert_eq!(number(&finished.outcome), 42, "{feature}");
            assert_eq!(alone.difference(), Ok(None), "{feature}");
        }
    }
}

/// Throws, in a function of its own so that nothing is known of it.
const THROWER: &str = r#"(module (tag $t (param i64 i64)) (tag $other)
    (table $kept 100000 exnref)
    (memory (export "memory") 1)
    (func $throw (param i64) (throw $t (local.get 0) (i64.const 1)))
    (func $catch (param i64) (result exnref)
        (block $caught (result exnref)
            (try_table (catch_all_ref $caught) (call $throw (local.get 0)))
            unreachable))
    (func (export "throw") (param i64) (call $throw (local.get 0)))
    (func (export "many") (param $times i64) (result i64)
        (loop $again
            (drop (call $catch (local.get $times)))
            (br_if $again (i64.ne (i64.const 0)
                (local.tee $times (i64.sub (local.get $times) (i64.const 1))))))
        (local.get $times))
    (func (export "keep") (param $times i32) (result i32) (local $at i32)
        (loop $again
            (table.set $kept (local.get $at) (call $catch (i64.extend_i32_u (local.get $at))))
            (br_if $again (i32.lt_u
                (local.tee $at (i32.add (local.get $at) (i32.const 1))) (local.get $times))))
        (local.get $at))
    (func (export "rethrow") (param $deep i32)
        (if (i32.eqz (local.get $deep)) (then (throw $other)))
        (block $caught (result exnref)
            (try_table (catch_ref $other $caught)
                (call $deeper (i32.sub (local.get $deep) (i32.const 1))))
            unreachable)
        throw_ref)
    (func $deeper (param i32) (throw $other)))"#;

#[test]
fn an_exception_that_nothing_catches_is_a_trap_of_its_own_kind() {
    let mut worker = worker().start_with(THROWER);
    for _ in 0..3 {
        let Outcome::Failed(Failure::Trap { kind, message, .. }) =
            worker.scalar("throw", &[Scalar::I64(1)])
        else {
            panic!("no trap")
        };
        assert_eq!(kind, TrapKind::UncaughtException);
        assert!(message.contains("exception"), "{message}");
        assert_eq!(
            worker.scalar("many", &[Scalar::I64(10)]),
            Outcome::Scalars(vec![Scalar::I64(0)])
        );
    }
}

#[test]
fn exceptions_without_end_take_no_more_memory_than_there_is() {
    let limits = Limits::default().memory_bytes(2 << 20);
    let mut worker = worker().limits(limits).start_with(THROWER);
    // Some 100 bytes each.
    let outcome = worker.scalar("many", &[Scalar::I64(300_000)]);
    assert_eq!(outcome, Outcome::Scalars(vec![Scalar::I64(0)]));
}

#[test]
fn exceptions_that_are_kept_count_as_the_tasks_memory() {
    let limits = Limits::default().memory_bytes(2 << 20);
    let mut worker = worker().limits(limits).start_with(THROWER);
    let finished =
        worker.run(Invocation::Scalar { export: "keep".into(), args: vec![Scalar::I32(1000)] });
    assert_eq!(number(&finished.outcome), 1000);
    // Its memory's only page, and at least one of the heap.
    assert!(finished.metrics.memory_peak_bytes >= 2 << 16, "{:?}", finished.metrics);
    let outcome = worker.scalar("keep", &[Scalar::I32(100_000)]);
    let Outcome::Failed(Failure::Memory { limit, wanted }) = outcome else { panic!("{outcome:?}") };
    assert!(limit == 2 << 20 && wanted > limit);
    assert_eq!(number(&worker.scalar("keep", &[Scalar::I32(1000)])), 1000);
}

/// Makes lists: of garbage, of what lives, and of cycles.
const OBJECTS: &str = r#"(module
    (type $node (struct (field $next (mut (ref null $node))) (field i64)))
    (type $bytes (array (mut i8)))
    (global $kept (mut (ref null $node)) (ref.null $node))
    (memory (export "memory") 1)
    (func (export "garbage") (param $times i32) (result i32)
        (loop $again
            (drop (struct.new $node (ref.null $node) (i64.const 1)))
            (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
        (local.get $times))
    (func (export "keep") (param $times i32) (result i32)
        (loop $again
            (global.set $kept (struct.new $node (global.get $kept) (i64.const 1)))
            (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
        (local.get $times))
    (func (export "cycles") (param $times i32) (result i32) (local $node (ref null $node))
        (loop $again
            (local.set $node (struct.new $node (ref.null $node) (i64.const 1)))
            (struct.set $node $next (local.get $node) (local.get $node))
            (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
        (local.get $times))
    (func (export "array") (param $length i32) (result i32)
        (array.len (array.new_default $bytes (local.get $length)))))"#;

fn call(worker: &mut Worker, export: &str, arg: i32) -> Outcome {
    worker.scalar(export, &[Scalar::I32(arg)])
}

#[test]
fn garbage_is_collected_and_what_lives_counts_as_the_tasks_memory() {
    let mut worker = wide(Limits::default().memory_bytes(4 << 20), OBJECTS);
    assert_eq!(number(&call(&mut worker, "garbage", 1_000_000)), 0);
    assert_eq!(number(&call(&mut worker, "keep", 20_000)), 0);
    for (export, many) in [("keep", 1_000_000), ("array", 64 << 20)] {
        let outcome = call(&mut worker, export, many);
        let Outcome::Failed(Failure::Memory { limit, wanted }) = outcome else {
            panic!("{export} {many}: {outcome:?}")
        };
        assert!(limit == 4 << 20 && wanted > limit, "{export}: {wanted}");
    }
    let longest = call(&mut worker, "array", -1);
    let Outcome::Failed(Failure::Trap { kind, message, .. }) = longest else {
        panic!("{longest:?}")
    };
    assert!(kind == TrapKind::Other && message.contains("too large"), "{message}");
    assert_eq!(number(&call(&mut worker, "keep", 20_000)), 0);
}

#[test]
fn no_exception_handler_catches_a_trap_or_what_the_host_ends() {
    let source = guest(
        r#"(tag $t)
        (func $nothing)
        (func (export "trap") (result i32)
            (block $caught (try_table (catch_all $caught) (unreachable))) (i32.const 0))
        (func (export "exit") (result i32)
            (block $caught (try_table (catch_all $caught) (call $proc_exit (i32.const 7))))
            (i32.const 0))
        (func (export "outside") (result i32)
            (block $caught (try_table (catch_all $caught)
                (call $output_write (i32.const -1) (i32.const 5)))) (i32.const 0))
        (func (export "spin") (result i32)
            (block $caught (try_table (catch_all $caught) (loop $l (br $l)))) (i32.const 0))"#,
    );
    let mut worker = worker().limits(Limits::default().fuel(10_000)).start_with(&source);
    let kind = |failure: Failure| match failure {
        Failure::Trap { kind, .. } => kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(worker.failure("trap")), TrapKind::Unreachable);
    assert_eq!(worker.failure("exit"), Failure::Exited(7));
    assert_eq!(kind(worker.failure("outside")), TrapKind::MemoryOutOfBounds);
    assert_eq!(worker.failure("spin"), Failure::Fuel { limit: 10_000 });
}

#[test]
fn tail_calls_without_end_end_by_fuel_and_by_deadline() {
    let source = guest(
        r#"(func $spin (param i32) (return_call $spin (local.get 0)))
           (func (export "spin") (result i32) (call $spin (i32.const 0)) (i32.const 0))"#,
    );
    let mut worker_ = worker().limits(Limits::default().fuel(100_000)).start_with(&source);
    assert_eq!(worker_.failure("spin"), Failure::Fuel { limit: 100_000 });
    let limits =
        Limits::default().interruptible(true).wall_time(std::time::Duration::from_millis(50));
    let mut worker = worker().limits(limits).start_with(&source);
    assert!(matches!(worker.failure("spin"), Failure::Deadline { .. }));
}

#[test]
fn recursion_with_handlers_ends_as_a_stack_overflow_that_none_of_them_catches() {
    let source = guest(
        r#"(tag $t)
        (func $deep (param i32)
            (block $caught (try_table (catch_all $caught)
                (call $deep (i32.add (local.get 0) (i32.const 1))))))
        (func (export "deep") (result i32) (call $deep (i32.const 0)) (i32.const 0))
        (func $throws (param i32)
            (if (i32.eqz (local.get 0)) (then (throw $t)))
            (block $caught (result exnref)
                (try_table (catch_all_ref $caught)
                    (call $throws (i32.sub (local.get 0) (i32.const 1))))
                (return))
            throw_ref)
        (func (export "rethrown") (result i32)
            (block $caught
                (try_table (catch $t $caught) (call $throws (i32.const 2000)))
                unreachable)
            (i32.const 0))"#,
    );
    let mut worker = worker().start_with(&source);
    for _ in 0..3 {
        let failure = worker.failure("deep");
        assert!(
            matches!(failure, Failure::Trap { kind: TrapKind::StackOverflow, .. }),
            "{failure:?}"
        );
        assert_eq!(worker.result("rethrown", b""), b"");
    }
}

#[test]
fn memories_share_one_limit_and_there_are_at_most_sixteen() {
    let grow = r#"(module (memory $a (export "memory") 1) (memory $b 1)
        (func (export "grow") (param i32) (result i32) (memory.grow $b (local.get 0))))"#;
    let mut worker = worker().limits(Limits::default().memory_bytes(10 << 16)).start_with(grow);
    assert_eq!(number(&call(&mut worker, "grow", 8)), 1);
    assert_eq!(number(&call(&mut worker, "grow", 9)), -1);
    let limits = Limits::default();
    let many = |count: usize| format!("(module {})", "(memory 0)".repeat(count));
    let request = request(CompileStep::Compile, &limits);
    let (description, _) = compile_for(&request, many(16), None).unwrap();
    assert_eq!(description.memories, 16);
    let refusal = compile_for(&request, many(17), None).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Limit, "{refusal}");
}

#[test]
fn a_memory_with_wide_addresses_has_the_limits_of_any_other() {
    let source = r#"(module
        (import "stockade" "output_write" (func $output_write (param i32 i32)))
        (memory (export "memory") i64 1)
        (func (export "grow") (param i64) (result i64) (memory.grow (local.get 0)))
        (func (export "load") (param i64) (result i32) (i32.load8_u (local.get 0)))
        (func (export "task") (result i32)
            (i64.store8 (i64.const 65535) (i64.const 33))
            (call $output_write (i32.const 65535) (i32.const 1)) (i32.const 0))
        (func (export "outside") (result i32)
            (call $output_write (i32.const 65535) (i32.const 2)) (i32.const 0)))"#;
    let mut worker = worker().limits(Limits::default().memory_bytes(10 << 16)).start_with(source);
    let mut wide = |export: &str, arg: i64| worker.scalar(export, &[Scalar::I64(arg)]);
    assert_eq!(wide("grow", 9), Outcome::Scalars(vec![Scalar::I64(1)]));
    for pages in [10, 1 << 16, 1 << 48, i64::MAX, -1] {
        assert_eq!(wide("grow", pages), Outcome::Scalars(vec![Scalar::I64(-1)]), "{pages}");
    }
    for at in [65_536, 1 << 32, (1 << 32) + 5, i64::MAX, -1, -8] {
        let outcome = wide("load", at);
        let Outcome::Failed(Failure::Trap { kind, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(kind, TrapKind::MemoryOutOfBounds, "{at}");
    }
    assert_eq!(worker.result("task", b""), b"!");
    assert!(matches!(
        worker.failure("outside"),
        Failure::Trap { kind: TrapKind::MemoryOutOfBounds, .. }
    ));
    let request = request(CompileStep::Compile, &Limits::default());
    for pages in [1_u64 << 17, 1 << 40, 1 << 47] {
        let refusal =
            compile_for(&request, format!("(module (memory i64 {pages}))"), None).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Limit, "{pages}: {refusal}");
    }
}

#[test]
fn relaxed_instructions_have_their_deterministic_form_where_the_task_is_deterministic() {
    // By the specification: out of range and NaN are clamped, and the sum is not fused.
    let source = r#"(module
        (func (export "truncated") (result i32)
            (i32x4.extract_lane 0 (i32x4.relaxed_trunc_f32x4_s (f32x4.splat (f32.const nan)))))
        (func (export "large") (result i32)
            (i32x4.extract_lane 0 (i32x4.relaxed_trunc_f32x4_u (f32x4.splat (f32.const 1e30)))))
        (func (export "swizzled") (result i32)
            (i8x16.extract_lane_u 0 (i8x16.relaxed_swizzle
                (i8x16.splat (i32.const 7)) (i8x16.splat (i32.const 130)))))
        (func (export "chosen") (result i32)
            (i8x16.extract_lane_u 0 (i8x16.relaxed_laneselect
                (i8x16.splat (i32.const 255)) (i8x16.splat (i32.const 0)) (i8x16.splat (i32.const 15))))))"#;
    let limits = Limits::default().deterministic(1);
    let mut worker = worker().limits(limits).start_with(source);
    for (export, expected) in [("truncated", 0), ("large", -1), ("swizzled", 0), ("chosen", 15)] {
        assert_eq!(number(&worker.scalar(export, &[])), expected, "{export}");
    }
}

#[test]
fn an_instance_that_lives_keeps_its_objects_beside_commands_with_their_own() {
    let source = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
        (type $box (struct (field (mut i32))))
        (global $held (ref $box) (struct.new $box (i32.const 1)))
        (memory (export "memory") 1)
        (func (export "add") (param i32) (result i32)
            (struct.set $box 0 (global.get $held)
                (i32.add (local.get 0) (struct.get $box 0 (global.get $held))))
            (struct.get $box 0 (global.get $held)))
        (func (export "_start")
            (if (i32.ne (i32.const 1) (struct.get $box 0 (global.get $held)))
                (then (call $proc_exit (i32.const 9))))
            (struct.set $box 0 (global.get $held) (i32.const 77))))"#;
    let mut worker = worker().per_worker().features(Features::all()).start_with(source);
    for round in 1..5 {
        assert_eq!(number(&call(&mut worker, "add", 1)), 1 + round);
        let outcome = worker.run(from_start(command(&[], b""))).outcome;
        assert_eq!(outcome, Outcome::Exited(0));
    }
}

#[test]
fn a_reference_that_a_task_stored_is_gone_for_the_next() {
    let source = r#"(module (type $t (func (result i32)))
        (table $table 4 (ref null $t)) (global $held (mut (ref null $t)) (ref.null $t))
        (elem declare func $g)
        (func $g (type $t) (i32.const 5))
        (func (export "set") (result i32)
            (global.set $held (ref.func $g)) (table.set (i32.const 3) (ref.func $g))
            (call_ref $t (global.get $held)))
        (func (export "use") (result i32) (call_ref $t (global.get $held)))
        (func (export "look") (result i32)
            (i32.and (ref.is_null (global.get $held)) (ref.is_null (table.get (i32.const 3))))))"#;
    let mut worker = worker().start_with(source);
    for _ in 0..3 {
        assert_eq!(number(&worker.scalar("set", &[])), 5);
        assert_eq!(number(&worker.scalar("look", &[])), 1);
        let outcome = worker.scalar("use", &[]);
        let Outcome::Failed(Failure::Trap { kind, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(kind, TrapKind::NullReference);
    }
}

/// That the comparison above sees anything of references.
#[test]
fn a_comparison_tells_apart_which_function_a_reference_is_of_and_what_an_object_holds() {
    let difference = |before: &str, after: &str| {
        let source = format!(
            r#"(module (type $box (struct (field (mut i32))))
            (func $f (export "f")) (func $g (export "g"))
            (global $used (mut i32) (i32.const 0))
            (global (export "held") (mut funcref) (ref.func $f))
            (table (export "table") 2 (ref null $box) (struct.new $box (i32.const 7)))
            (elem declare func $g)
            (func (export "change") {before} {after}))"#
        );
        let binary = wat::parse_str(source).unwrap();
        let mut alone = Alone::new(&binary, &Limits::default(), Features::all()).unwrap();
        alone.difference_after(Some("change")).unwrap()
    };
    for (change, place) in [
        ("(global.set 1 (ref.func $g))", "held"),
        ("(struct.set $box 0 (table.get 0 (i32.const 1)) (i32.const 8))", "table[0]"),
        ("(table.set 0 (i32.const 1) (struct.new $box (i32.const 9)))", "table[1]"),
    ] {
        let seen = difference(change, "").expect("a difference");
        assert!(seen.contains(place), "{change}: {seen}");
    }
    assert_eq!(
        difference("(global.set 1 (ref.func $f))", "(global.set $used (i32.const 1))"),
        None
    );
}

#[test]
fn there_are_at_most_a_hundred_thousand_types_and_deep_hierarchies_load() {
    use stockade_module::TYPES_MAX;
    let many = |count: u32| format!("(module (rec {}))", "(type (struct))".repeat(count as usize));
    let request = request_with(Features::all(), &Limits::default());
    let refusal = compile_for(&request, many(TYPES_MAX + 1), None).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Limit, "{refusal}");
    assert!(refusal.message.contains("types"), "{refusal}");
    // As many as there may be with the function's, in hierarchies of 60 that differ from each other.
    let count = TYPES_MAX - 1;
    let deep = (0..count).map(|at| {
        let fields = (0..11)
            .map(|bit| if (at / 60) >> bit & 1 == 0 { "(field i32)" } else { "(field i64)" });
        let parent = if at % 60 == 0 { String::new() } else { (at - 1).to_string() };
        format!("(type (sub {parent} (struct {})))", fields.collect::<String>())
    });
    let last = count - 1;
    let source = format!(
        r#"(module {} (func (export "f") (result i32)
            (ref.test (ref {}) (struct.new_default {last}))))"#,
        deep.collect::<String>(),
        last - last % 60,
    );
    let mut worker = wide(Limits::default(), &source);
    assert_eq!(
        number(&worker.scalar("f", &[])),
        1,
        "the last of a hierarchy is one of the first's"
    );
}

#[test]
fn atomic_instructions_wait_for_nobody_and_share_nothing() {
    let source = |body: &str| {
        format!(
            r#"(module (memory (export "memory") 1)
                (func (export "f") (param $at i32) (result i32) {body}))"#
        )
    };
    let (other, beyond) = (TrapKind::Other, TrapKind::MemoryOutOfBounds);
    for (body, expected, words) in [
        // Without an end, for no time, and for one that would be long.
        (
            "(memory.atomic.wait32 (local.get $at) (i32.const 0) (i64.const -1))",
            other,
            "non-shared memory",
        ),
        (
            "(memory.atomic.wait32 (local.get $at) (i32.const 1) (i64.const 0))",
            other,
            "non-shared memory",
        ),
        (
            "(memory.atomic.wait64 (local.get $at) (i64.const 0) (i64.const 0x7fffffffffffffff))",
            other,
            "non-shared memory",
        ),
        ("(i32.atomic.load (i32.add (local.get $at) (i32.const 1)))", other, "unaligned"),
        ("(i32.atomic.rmw.add (i32.const 65536) (local.get $at))", beyond, ""),
        ("(memory.atomic.notify (i32.const 65536) (local.get $at))", beyond, ""),
    ] {
        let mut worker = wide(Limits::default(), &source(body));
        for _ in 0..2 {
            let failed = worker.scalar("f", &[Scalar::I32(8)]);
            let Outcome::Failed(Failure::Trap { kind, message, .. }) = &failed else {
                panic!("{body}: {failed:?}")
            };
            assert!(*kind == expected && message.contains(words), "{body}: {failed:?}");
        }
    }
    // A place where nobody waits wakes nobody.
    let notify = source("(memory.atomic.notify (local.get $at) (i32.const 1))");
    let mut worker = wide(Limits::default(), &notify);
    assert_eq!(worker.scalar("f", &[Scalar::I32(8)]), Outcome::Scalars(vec![Scalar::I32(0)]));
}

#[test]
fn memories_for_threads_are_refused_by_name_whatever_is_on() {
    for features in [Features::all(), Features::default(), Features::none()] {
        for shared in [
            r#"(module (memory (export "memory") 1 1 shared))"#,
            r#"(module (import "env" "memory" (memory 1 1 shared)))"#,
            "(module (memory 1 1 shared) (func (drop (i32.atomic.load (i32.const 0)))))",
        ] {
            let request = request_with(features, &Limits::default());
            let refusal = compile_for(&request, shared, None).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::Feature, "{features}: {refusal}");
            assert!(refusal.message.contains("it uses threads"), "{features}: {refusal}");
        }
    }
}

//! What of WebAssembly 3.0 a pool's modules may use: run by real workers, narrowed, and within limits.

use stockade::{
    BuildError, Feature, Features, Instances, Limits, Pool, PoolBuilder, RefusedReason, TaskError,
    TrapKind,
};
use stockade_tests::wat;

/// Throws and catches, calls by references and tails, and uses three memories.
const MODERN: &str = r#"(module
    (type $t (func (param i32) (result i32)))
    (tag $odd (param i32))
    (memory $a (export "memory") 1) (memory $b 2) (memory $wide i64 1)
    (data (memory $b) (i32.add (i32.const 60000) (i32.const 36)) "\2a")
    (table $kept 100000 exnref)
    (global $held (ref $t) (ref.func $half))
    (func $half (type $t)
        (if (i32.and (local.get 0) (i32.const 1)) (then (throw $odd (local.get 0))))
        (i32.shr_u (local.get 0) (i32.const 1)))
    (func (export "halves") (param i32) (result i32) (local $caught i32) (local $left i32)
        (local.set $left (local.get 0))
        (loop $again
            (block $done
                (block $odd (result i32)
                    (drop (try_table (result i32) (catch $odd $odd)
                        (call_ref $t (local.get $left) (global.get $held))))
                    (br $done))
                (drop)
                (local.set $caught (i32.add (local.get $caught) (i32.const 1))))
            (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (local.get $caught))
    (func (export "deep") (param i32) (result i32)
        (return_call $down (local.get 0) (i32.const 0)))
    (func $down (param i32 i32) (result i32)
        (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
        (return_call $down (i32.sub (local.get 0) (i32.const 1)) (i32.add (local.get 1) (i32.const 1))))
    (func (export "memories") (param i32) (result i32) (local $before i32)
        (local.set $before (i32.load8_u $b (i32.const 60036)))
        (memory.fill $a (i32.const 0) (local.get 0) (i32.const 65536))
        (memory.fill $b (i32.const 0) (local.get 0) (i32.const 131072))
        (drop (memory.grow $b (i32.const 3)))
        (memory.fill $b (i32.const 131072) (local.get 0) (i32.const 196608))
        (memory.fill $wide (i64.const 0) (local.get 0) (i64.const 65536))
        (i32.add (local.get $before) (i32.load8_u $wide (i64.const 7))))
    (func $caught (param i32) (result exnref)
        (block $caught (result exnref)
            (try_table (catch_all_ref $caught) (throw $odd (local.get 0)))
            unreachable))
    (func (export "keep") (param i32) (result i32) (local $at i32)
        (loop $again
            (table.set $kept (local.get $at) (call $caught (local.get $at)))
            (br_if $again (i32.lt_u
                (local.tee $at (i32.add (local.get $at) (i32.const 1))) (local.get 0))))
        (local.get $at))
    (func (export "uncaught") (throw $odd (i32.const 1))))"#;

/// A list of objects, of which the first is kept by a global from the start.
const OBJECTS: &str = r#"(module
    (type $node (struct (field $next (mut (ref null $node))) (field $number (mut i32))))
    (global $first (ref $node) (struct.new $node (ref.null $node) (i32.const 0)))
    (func (export "count") (result i32)
        (struct.set $node $number (global.get $first)
            (i32.add (i32.const 1) (struct.get $node $number (global.get $first))))
        (struct.get $node $number (global.get $first)))
    (func (export "garbage") (param i32) (result i32)
        (loop $again
            (drop (struct.new $node (ref.null $node) (i32.const 1)))
            (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (local.get 0))
    (func (export "keep") (param i32) (result i32)
        (loop $again
            (struct.set $node $next (global.get $first) (struct.new $node
                (struct.get $node $next (global.get $first)) (i32.const 1)))
            (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (local.get 0)))"#;

fn small(builder: PoolBuilder) -> PoolBuilder {
    builder.limits(Limits::default().memory_bytes(4 << 20))
}

#[track_caller]
fn call(pool: &Pool, function: &str, argument: i32) -> i32 {
    pool.run(function, (argument,)).unwrap()
}

#[test]
fn a_module_of_its_time_runs_as_it_is() {
    let pool = small(wat(MODERN)).build().unwrap();
    for _ in 0..3 {
        assert_eq!(call(&pool, "halves", 20_000), 10_000);
        assert_eq!(call(&pool, "deep", 1_000_000), 1_000_000);
        assert_eq!(call(&pool, "memories", 1), 43, "nothing is left of the task before");
        let uncaught = pool.submit::<()>("uncaught", ()).unwrap().result().unwrap_err();
        assert!(
            matches!(uncaught, TaskError::Trap { kind: TrapKind::UncaughtException, .. }),
            "{uncaught:?}"
        );
    }
    assert!(pool.check().is_ok());
}

#[test]
fn exceptions_that_live_count_as_the_tasks_memory_and_cost_nobody_else_anything() {
    let pool = small(wat(MODERN)).build().unwrap();
    assert_eq!(call(&pool, "keep", 1000), 1000);
    for _ in 0..2 {
        let full = pool.submit::<i32>("keep", (100_000,)).unwrap();
        let error = full.result().unwrap_err();
        assert!(
            matches!(error, TaskError::Memory { limit, wanted } if limit == 4 << 20 && wanted > limit),
            "{error:?}"
        );
        assert_eq!(call(&pool, "keep", 1000), 1000);
        assert_eq!(full.report().worker.map(|worker| worker.0), Some(1), "a worker was lost");
    }
}

#[test]
fn objects_are_collected_and_those_that_live_count_as_the_tasks_memory() {
    let pool = small(wat(OBJECTS)).features(Features::all()).build().unwrap();
    for _ in 0..2 {
        assert_eq!(pool.run::<i32>("count", ()).unwrap(), 1);
        assert_eq!(call(&pool, "garbage", 1_000_000), 0);
        assert_eq!(call(&pool, "keep", 10_000), 0);
        let error = pool.submit::<i32>("keep", (1_000_000,)).unwrap().result().unwrap_err();
        assert!(matches!(error, TaskError::Memory { .. }), "{error:?}");
    }
}

#[test]
fn an_instance_that_lives_keeps_its_objects() {
    let builder = small(wat(OBJECTS)).features(Features::all());
    let pool = builder.instances(Instances::PerWorker).build().unwrap();
    for round in 1..=3 {
        assert_eq!(pool.run::<i32>("count", ()).unwrap(), round);
    }
    assert!(pool.run::<i32>("keep", (1_000_000,)).is_err());
    assert_eq!(pool.run::<i32>("count", ()).unwrap(), 1, "its successor begins anew");
}

#[test]
fn what_is_off_is_refused_and_the_error_says_which() {
    let refused = |features: Features| match small(wat(MODERN)).features(features).build() {
        Err(BuildError::Refused {
            reason: RefusedReason::FeaturesOff { features, .. }, ..
        }) => features,
        other => panic!("{other:?}"),
    };
    let uses = [
        Feature::ExtendedConst,
        Feature::TailCall,
        Feature::MultiMemory,
        Feature::Memory64,
        Feature::FunctionReferences,
        Feature::Exceptions,
    ];
    for feature in uses {
        let off = refused(Features::default().without(feature));
        assert_eq!(off.iter().collect::<Vec<_>>(), [feature]);
    }
    assert_eq!(refused(Features::none()), uses.into_iter().collect());
    let pool = small(wat(MODERN)).features(uses.into_iter().collect()).build().unwrap();
    assert_eq!(call(&pool, "halves", 10), 5);
    // Whose own module uses nothing of it.
    let narrow = wat("(module (func (export \"f\")))").features(Features::none()).build().unwrap();
    narrow.test().unwrap();
}

#[test]
fn a_pool_initialises_a_module_of_its_time_once() {
    let source = MODERN.replace("(table.set $kept", "(call $set").replace(
        "(table $kept 100000 exnref)",
        "(func $set (param i32 exnref)) (func (export \"load\")
            (drop (memory.grow $b (i32.const 1)))
            (i32.store8 $b (i32.const 60036) (i32.const 9))
            (i32.store8 $b (i32.const 131072) (i32.const 9)))",
    );
    let pool = wat(&source).initializer("load", ()).build().unwrap();
    for _ in 0..2 {
        assert_eq!(call(&pool, "memories", 1), 10);
        assert_eq!(call(&pool, "halves", 10), 5);
    }
}

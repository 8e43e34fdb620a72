//! Modules that are refused when the pool is built, each with its cause.

use stockade::{
    BuildError, Command, Feature, Features, Pool, PoolBuilder, RefusedReason, RunError,
    SubmitError, TaskError,
};
use stockade_tests::bombs::{Binary, Section};
use stockade_tests::{Random, guest, numbers, wat};

use super::Bystander;
use crate::attacks::seen;

fn bytes(bytes: impl Into<Vec<u8>>) -> PoolBuilder {
    Pool::single().module_bytes("test", bytes)
}

#[test]
fn a22_features_that_are_off_are_refused_by_name() {
    // By no pool, and by one that turns off what could be on.
    const NEVER: [(&str, &str); 4] = [
        ("threads", "(module (memory 1 1 shared))"),
        ("custom page sizes", "(module (memory 1 (pagesize 1)))"),
        (
            "wide arithmetic",
            "(module (func (param i64) (result i64 i64)
                (i64.add128 (local.get 0) (local.get 0) (local.get 0) (local.get 0))))",
        ),
        ("stack switching", "(module (type $f (func)) (type $c (cont $f)))"),
    ];
    const OFF: [(Feature, &str); 10] = [
        (Feature::Memory64, "(module (memory i64 1))"),
        (Feature::MultiMemory, "(module (memory 1) (memory 1))"),
        (Feature::TailCall, "(module (func $f (return_call $f)))"),
        (Feature::Gc, "(module (type (struct (field i32))))"),
        (Feature::ExternReferences, "(module (func (param externref)))"),
        (Feature::FunctionReferences, "(module (type $t (func)) (func (param (ref $t))))"),
        (Feature::Exceptions, "(module (tag $t) (func (throw $t)))"),
        (
            Feature::RelaxedSimd,
            "(module (func (param v128 v128) (result v128)
                (i8x16.relaxed_swizzle (local.get 0) (local.get 1))))",
        ),
        (Feature::Atomics, "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))"),
        (Feature::ExtendedConst, "(module (global i32 (i32.add (i32.const 1) (i32.const 1))))"),
    ];
    let beside = Bystander::new();
    for (feature, module) in NEVER {
        let reason = beside.sees_refused(feature, wat(module).features(Features::all()));
        let RefusedReason::Feature(words) = reason else { panic!("{feature}: {reason:?}") };
        assert!(words.contains(feature), "{feature}: {words}");
    }
    for (feature, module) in OFF {
        let narrow = Features::all().without(feature);
        let reason = beside.sees_refused(feature.name(), wat(module).features(narrow));
        let RefusedReason::FeaturesOff { features, message } = reason else {
            panic!("{feature}: {reason:?}")
        };
        assert!(features.has(feature) && message.contains(feature.words()), "{message}");
        wat(module).features(Features::all()).build().unwrap();
    }
    for wanted in [Feature::Gc, Feature::Atomics] {
        let (feature, module) = OFF.into_iter().find(|(feature, _)| *feature == wanted).unwrap();
        let reason = beside.sees_refused(feature.words(), wat(module));
        assert!(matches!(reason, RefusedReason::FeaturesOff { .. }), "by default: {reason:?}");
    }
    // The text format has no words for it any more: try, catch all, end.
    let legacy = Binary::new()
        .section(Section::Type, [1, 0x60, 0, 0])
        .section(Section::Function, [1, 0])
        .section(Section::Code, [1, 6, 0, 0x06, 0x40, 0x19, 0x0b, 0x0b])
        .bytes();
    let reason = beside.sees_refused("legacy exceptions", bytes(legacy));
    let RefusedReason::Feature(words) = reason else { panic!("{reason:?}") };
    assert!(words.contains("legacy exceptions"), "{words}");
    for component in [wat("(component)"), bytes(&b"\0asm\x0d\0\x01\0"[..])] {
        let reason = beside.sees_refused("a component", component);
        let RefusedReason::Feature(words) = reason else { panic!("{reason:?}") };
        assert!(words.contains("component"), "{words}");
    }
    let never: Vec<_> = NEVER.iter().map(|(name, _)| *name).collect();
    let off: Vec<_> = OFF.iter().map(|(feature, _)| feature.words()).collect();
    seen(
        22,
        &format!(
            "refused, named as: {}, legacy exceptions, component; and where a pool has them off: {}",
            never.join(", "),
            off.join(", ")
        ),
    );
}

#[test]
fn a23_more_tables_than_are_supported_are_refused() {
    const TABLES_MAX: usize = 4;
    let beside = Bystander::new();
    let module = |tables: usize| {
        wat(&format!(r#"(module {} (func (export "f")))"#, "(table 1 funcref)".repeat(tables)))
    };
    module(TABLES_MAX).build().unwrap().run::<()>("f", ()).unwrap();
    for tables in [TABLES_MAX + 1, 100] {
        let reason = beside.sees_refused("tables", module(tables));
        assert!(matches!(reason, RefusedReason::Limit(_)), "{tables}: {reason:?}");
    }
    seen(23, &format!("{TABLES_MAX} are taken, {} refused by limit", TABLES_MAX + 1));
}

#[test]
fn a24_import_that_is_not_provided_is_refused_by_name() {
    let beside = Bystander::new();
    for (import, module) in [
        ("env.magic", r#"(module (import "env" "magic" (func)))"#),
        ("stockade.no_such_call", r#"(module (import "stockade" "no_such_call" (func)))"#),
        ("stockade.progress", r#"(module (import "stockade" "progress" (memory 1)))"#),
        ("env.memory", r#"(module (import "env" "memory" (memory 1)))"#),
        ("env.table", r#"(module (import "env" "table" (table 1 funcref)))"#),
        ("env.global", r#"(module (import "env" "global" (global i32)))"#),
        ("wasi_unstable.fd_write", r#"(module (import "wasi_unstable" "fd_write" (func)))"#),
        // Behind one that is provided.
        (
            "a.b",
            r#"(module
                (import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32)))
                (import "a" "b" (func)))"#,
        ),
        // A name that would draw on a terminal is shown, and not drawn.
        (r"\u{1b}[2J.a\nb", r#"(module (import "\1b[2J" "a\nb" (func)))"#),
    ] {
        let reason = beside.sees_refused(import, wat(module));
        let RefusedReason::Import(words) = reason else { panic!("{import}: {reason:?}") };
        assert!(words.contains(&format!("`{import}`")), "{import}: {words}");
        assert!(!words.contains(char::is_control), "{import}: {words:?}");
    }
    let long = "x".repeat(100_000);
    let reason = beside.sees_refused(
        "a long name",
        wat(&format!(r#"(module (import "{long}" "{long}" (func)))"#)),
    );
    assert!(matches!(reason, RefusedReason::Import(_)));
    assert!(reason.to_string().len() < 1000, "{}", reason.to_string().len());
    let many = r#"(import "env" "f" (func))"#.repeat(20_000);
    let reason = beside.sees_refused("many", wat(&format!("(module {many})")));
    assert!(matches!(reason, RefusedReason::Limit(_)), "{reason:?}");
    seen(24, "refused, named; control characters escaped, long names cut");
}

#[test]
fn a25_import_with_a_wrong_signature_is_refused() {
    let beside = Bystander::new();
    let wrong = [
        ("wasi_snapshot_preview1", "fd_write", "(func)"),
        ("wasi_snapshot_preview1", "fd_write", "(func (param i64))"),
        ("wasi_snapshot_preview1", "fd_write", "(func (param i32 i32 i32 i64) (result i32))"),
        ("wasi_snapshot_preview1", "fd_write", "(func (param i32 i32 i32 i32))"),
        ("wasi_snapshot_preview1", "fd_write", "(func (param i32 i32 i32 i32) (result i64))"),
        ("wasi_snapshot_preview1", "proc_exit", "(func (param i32) (result i32))"),
        ("wasi_snapshot_preview1", "fd_seek", "(func (param i32 i32 i32 i32) (result i32))"),
        ("stockade", "task_id", "(func (result i32))"),
        ("stockade", "log", "(func (param i32 i32))"),
    ];
    for (module, name, signature) in wrong {
        let source = format!(r#"(module (import "{module}" "{name}" {signature}))"#);
        let reason = beside.sees_refused(&source, wat(&source));
        let RefusedReason::Import(words) = reason else { panic!("{source}: {reason:?}") };
        assert!(words.contains(&format!("{module}.{name}")), "{words}");
    }
    seen(25, &format!("{} wrong signatures refused, each naming the function", wrong.len()));
}

/// Every truncation and every flipped bit of a module with all sections is tried within one process,
/// among the tests of `stockade-worker`.
#[test]
fn a26_module_that_is_cut_off_flipped_or_random_is_refused() {
    let beside = Bystander::new();
    let whole = std::fs::read(guest("linecount")).unwrap();
    assert!(bytes(whole.clone()).build().is_ok());
    let mut random = Random::new(26);
    let (mut cut, mut flipped, mut noise) = (0, 0, 0);
    // Eight bytes are a whole module, an empty one.
    let lengths = [0, 3, 5, 7, 9, whole.len() / 2, whole.len() - 1];
    let somewhere = (0..15).map(|_| random.between(9, whole.len() as u64 - 1) as usize);
    for length in lengths.into_iter().chain(somewhere.collect::<Vec<_>>()) {
        let reason = beside.sees_refused("cut", bytes(&whole[..length]));
        let refused = matches!(reason, RefusedReason::Malformed(_) | RefusedReason::NotWasm(_));
        // A module may end after any whole section, but one whose code is missing is none.
        assert!(refused, "{length}: {reason:?}");
        cut += 1;
    }
    for _ in 0..20 {
        let mut bad = whole.clone();
        let at = random.below(bad.len() as u64) as usize;
        bad[at] ^= 1 << random.below(8);
        // Either is right: a bit in a string is nobody's business. A compiler that dies is not.
        match bytes(bad).build() {
            Err(BuildError::Refused { .. }) | Ok(_) => flipped += 1,
            Err(other) => panic!("byte {at}: {other:?}"),
        }
        beside.goes_on();
    }
    for length in [8, 100, 10_000, 1_000_000] {
        for header in [&b""[..], b"\0asm\x01\0\0\0"] {
            let bad = [header, &random.bytes(length)].concat();
            let reason = beside.sees_refused("noise", bytes(bad));
            let refused = matches!(reason, RefusedReason::Malformed(_) | RefusedReason::NotWasm(_));
            assert!(refused, "{length}: {reason:?}");
            noise += 1;
        }
    }
    // A section that says it is 4 GiB long, and a vector of as many entries.
    let sections = [&[1, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &[1, 5, 0xff, 0xff, 0xff, 0xff, 0x0f]];
    for section in sections {
        let bad = [b"\0asm\x01\0\0\0", section].concat();
        let reason = beside.sees_refused("a length that lies", bytes(bad));
        assert!(matches!(reason, RefusedReason::Malformed(_)), "{reason:?}");
    }
    seen(
        26,
        &format!(
            "{cut} cuts and {noise} times noise refused; {flipped} flipped bits refused or harmless"
        ),
    );
}

#[test]
fn a29_missing_export_or_memory_is_refused() {
    let beside = Bystander::new();
    // Exports that are there and are not what is called.
    let module = r#"(module
        (memory (export "memory") 1)
        (table (export "table") 1 funcref)
        (global (export "global") i32 (i32.const 1))
        (func (export "f")))"#;
    let pool = wat(module).build().unwrap();
    for name in ["g", "memory", "table", "global", "F", "f ", "", "f\0", "_start"] {
        let error = pool.submit::<()>(name, ()).unwrap_err();
        let unknown = matches!(error, SubmitError::UnknownFunction { .. });
        assert!(unknown, "{name:?}: {error:?}");
    }
    let error = pool.submit_command(Command::new("f")).unwrap_err();
    assert!(matches!(error, SubmitError::UnknownFunction { .. }), "{error:?}");
    pool.run::<()>("f", ()).unwrap();
    assert_eq!(pool.workers()[0].id.0, 1);
    let hook = wat(module).initializer("g", ()).build().unwrap_err();
    assert!(matches!(hook, BuildError::Hook { .. }), "{hook:?}");
    // An export of a function that is not there is no module at all.
    let dangling = Binary::new().section(Section::Export, [1, 1, b'f', 0, 0]).bytes();
    let reason = beside.sees_refused("dangling", bytes(dangling));
    assert!(matches!(reason, RefusedReason::Malformed(_)), "{reason:?}");
    // Without a memory a module may run, and hands nothing over.
    for memory in ["", "(memory 1)", r#"(memory (export "other") 1)"#] {
        let module = format!(
            r#"(module
                (import "stockade" "output_write" (func $write (param i32 i32)))
                {memory}
                (func (export "write") (result i32)
                    (call $write (i32.const 0) (i32.const 4)) (i32.const 0))
                (func (export "f") (param i32) (result i32) (local.get 0)))"#
        );
        let pool = wat(&module).build().unwrap();
        let error = pool.run::<i32>("write", ()).unwrap_err();
        let RunError::Task(TaskError::Abi(_)) = error else { panic!("{memory}: {error:?}") };
        assert_eq!(pool.run::<i32>("f", (3,)).unwrap(), 3);
        assert_eq!(pool.workers()[0].id.0, 1);
    }
    assert!(numbers().build().is_ok());
    seen(
        29,
        "no such export: refused when submitted, before anything runs; no memory: an ABI error of \
         the task that calls the host, same worker",
    );
}

//! Modules that are small to send and expensive to compile or run.

use std::time::Duration;

use stockade::{CompileLimits, Limits, Pool, PoolBuilder, RefusedReason, RunError, TaskError};
use stockade_tests::bombs;

use super::Bystander;
use crate::attacks::seen;

fn module(bytes: &[u8]) -> PoolBuilder {
    Pool::single().module_bytes("bomb", bytes)
}

#[test]
fn a27_compile_bombs_are_held_to_the_compilers_limits() {
    let beside = Bystander::new();
    // Each is decided within a second of processor time: one way or the other, and the other pool
    // does not notice. By default they have thirty.
    let second = CompileLimits::default().cpu_time(Duration::from_secs(1));
    let beyond = [
        ("50,000 locals", bombs::locals(49_999)),
        ("diamonds", bombs::diamonds(60_000, 2000)),
        ("nested loops", bombs::loops(2000)),
        ("calls with 1000 parameters", bombs::calls(1500)),
        ("200,000 functions", bombs::many_functions(200_000)),
    ];
    for (what, bytes) in &beyond {
        let reason = beside.sees_refused(what, module(bytes).compile_limits(second.clone()));
        assert!(matches!(reason, RefusedReason::Limit(_)), "{what}: {reason:?}");
    }
    // Within what there is by default, and then they run.
    let within = [
        ("deep nesting", bombs::nesting(100_000)),
        ("br_table", bombs::br_table(60_000)),
        ("20,000 functions", bombs::many_functions(20_000)),
    ];
    for (what, bytes) in &within {
        let pool = module(bytes).build().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(pool.run::<i32>("f", (7,)).unwrap(), 7, "{what}");
        beside.goes_on();
    }
    // Two that reach the limit on memory.
    let little = CompileLimits::default().memory_bytes(64 << 20);
    for bytes in [bombs::diamonds(60_000, 2000), bombs::ifs(50_000)] {
        let builder = module(&bytes).compile_limits(little.clone());
        let reason = beside.sees_refused("memory", builder);
        let RefusedReason::Limit(words) = &reason else { panic!("{reason:?}") };
        assert!(words.contains("memory_bytes"), "{words}");
    }
    // Nested in the text format, which is read in the same process.
    let text = format!("(module (func {}{}))", "(block ".repeat(100_000), ")".repeat(100_000));
    assert!(stockade_tests::wat(&text).build().is_ok());
    beside.goes_on();
    // One function more than may be, and one local more.
    for (what, builder) in [
        ("locals", module(&bombs::locals(50_000))),
        ("functions", module(&bombs::many_functions(1_000_001))),
    ] {
        let reason = beside.sees_refused(what, builder);
        assert!(matches!(reason, RefusedReason::Limit(_)), "{what}: {reason:?}");
        assert_eq!(reason.limit(), None, "no limit of ours");
    }
    let names = |bombs: &[(&str, Vec<u8>)]| {
        bombs.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    };
    seen(
        27,
        &format!(
            "{}: refused at 1 s of processor time, or at 64 MiB of memory; {}: compiled and run; a \
             pool beside goes on",
            names(&beyond),
            names(&within)
        ),
    );
}

/// No worker has room for its instances, which without this would be seen only when one worker after
/// the other fails to load it: the end of a pool with other modules as well.
#[test]
fn records_that_no_worker_has_room_for_are_refused() {
    const BYTES_MAX: usize = 8 << 20;
    const FUNCTIONS: usize = 2000;
    let beside = Bystander::new();
    // As many as there is room for, by what a record of each takes.
    let globals = (BYTES_MAX - (64 << 10) - FUNCTIONS * 32) / 16;
    let pool = module(&bombs::records(FUNCTIONS, globals)).build().unwrap();
    assert_eq!(pool.run::<i32>("f", (7,)).unwrap(), 7);
    assert_eq!(pool.workers()[0].id.0, 1);
    for (functions, globals) in [(FUNCTIONS, globals + 1), (1, 1_000_000), (300_000, 0)] {
        let bytes = bombs::records(functions, globals);
        let reason = beside.sees_refused("records", module(&bytes));
        assert!(matches!(reason, RefusedReason::Limit(_)), "{functions}, {globals}: {reason:?}");
    }
}

#[test]
fn a28_artefact_bomb_is_refused_by_size() {
    const ARTEFACT_MAX: u64 = 1 << 20;
    let beside = Bystander::new();
    let bytes = bombs::calls(40);
    let limits = CompileLimits::default().artefact_bytes(ARTEFACT_MAX);
    let reason = beside.sees_refused("bomb", module(&bytes).compile_limits(limits));
    let RefusedReason::Limit(words) = &reason else { panic!("{reason:?}") };
    assert!(words.contains("artefact_bytes"), "{words}");
    // By default there is room for it, and it runs.
    let pool = module(&bytes).build().unwrap();
    assert_eq!(pool.run::<i32>("f", (7,)).unwrap(), 7);
    let kibibytes = bytes.len().div_ceil(1024);
    seen(
        28,
        &format!(
            "{kibibytes} KiB that become more than 1 MiB: refused by size where 1 MiB is allowed"
        ),
    );
}

#[test]
fn a30_names_without_measure_are_refused_or_cut() {
    const NAME_MAX: usize = 100_000;
    let beside = Bystander::new();
    let reason = beside.sees_refused("10 MB", module(&bombs::long_export(10 << 20)));
    assert!(matches!(reason, RefusedReason::Malformed(_)), "{reason:?}");
    assert!(reason.to_string().len() < 1000, "{}", reason.to_string().len());
    // The longest that a module may have is not shown, and what is said of it is cut.
    assert!(module(&bombs::long_export(NAME_MAX + 1)).build().is_err());
    let pool = module(&bombs::long_export(NAME_MAX)).build().unwrap();
    let (_, description) = pool.modules().next().unwrap();
    assert_eq!(description.exports.len(), 1);
    let warnings: usize = description.warnings.iter().map(String::len).sum();
    assert!((1..1000).contains(&warnings), "{warnings}");
    assert_eq!(pool.run::<i32>("f", (7,)).unwrap(), 7);
    // A million names for one function cost nothing, because names are looked up where it traps.
    let pool = module(&bombs::name_section(1_000_000)).build().unwrap();
    assert_eq!(pool.run::<i32>("f", (7,)).unwrap(), 7);
    beside.goes_on();
    // A long name in a backtrace is cut.
    let name = "n".repeat(NAME_MAX - 1);
    let deep = format!(
        r#"(module (func ${name} (export "f") (call ${name})) (func (export "g") unreachable))"#
    );
    let pool = stockade_tests::wat(&deep).limits(Limits::default()).build().unwrap();
    let error = pool.run::<()>("f", ()).unwrap_err();
    let RunError::Task(error @ TaskError::Trap { .. }) = error else { panic!("{error:?}") };
    let longest =
        error.backtrace().iter().map(|frame| frame.function.len()).max().unwrap_or_default();
    assert!((100..1000).contains(&longest), "{longest}");
    assert_eq!(pool.workers()[0].id.0, 1);
    seen(
        30,
        "an export name of 10 MB refused; a million names for functions taken and unread; names in \
         warnings and backtraces cut",
    );
}

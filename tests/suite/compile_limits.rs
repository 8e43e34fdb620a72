//! Limits of compilers: each from both sides, and by its name where it is what refuses a module.
//!
//! What real bombs do against the limits as they are by default is among the `attacks`.

use std::time::Duration;

use stockade::{
    BrokenError, BuildError, CompileLimits, Instances, MachineFault, Pool, PoolBuilder,
    RefusedReason, RunError, TaskError, WorkerProgram,
};
use stockade_tests::{
    Folder, bombs, numbers, own_children, program_beside, script, wat, worker_program,
};

use crate::cache::Fixture;

fn limits() -> CompileLimits {
    CompileLimits::default()
}

fn module(bytes: &[u8], limits: CompileLimits) -> PoolBuilder {
    Pool::single().module_bytes("test", bytes).compile_limits(limits)
}

/// `builder` is refused by the limit of this name, and no process of this thread's is left.
#[track_caller]
fn assert_refused_by(limit: &str, builder: PoolBuilder) {
    let error = builder.build().expect_err("a build that fails");
    assert!(own_children().is_empty(), "a process is left");
    let BuildError::Refused { reason: RefusedReason::Limit(words), .. } = &error else {
        panic!("expected the limit {limit}, got {error:?}")
    };
    assert!(words.contains(&format!("CompileLimits::{limit}")), "{limit}: {words}");
}

#[test]
fn a_module_of_as_many_bytes_as_allowed_is_taken_and_one_more_refused() {
    let bytes = bombs::straight(1000);
    let length = bytes.len() as u64;
    assert!(module(&bytes, limits().module_bytes(length)).build().is_ok());
    assert_refused_by("module_bytes", module(&bytes, limits().module_bytes(length - 1)));
    let endless = Pool::single().module_as("endless", "/dev/zero");
    assert_refused_by("module_bytes", endless.compile_limits(limits().module_bytes(1)));
    // More than by default.
    let large = bombs::Binary::new().custom("large", &vec![0; 257 << 20]).bytes();
    assert!(module(&large, limits().module_bytes(258 << 20)).build().is_ok());
    assert_refused_by("module_bytes", module(&large, limits()));
}

#[test]
fn what_a_module_is_compiled_to_may_be_as_large_as_allowed() {
    let bytes = bombs::calls(40);
    assert!(module(&bytes, limits().artefact_bytes(16 << 20)).build().is_ok());
    assert_refused_by("artefact_bytes", module(&bytes, limits().artefact_bytes(512 << 10)));
}

#[test]
fn a_module_that_takes_more_processor_time_than_allowed_is_refused() {
    let limits = limits().cpu_time(Duration::from_millis(1));
    assert!(module(&bombs::diamonds(100, 100), limits.clone()).build().is_ok());
    assert_refused_by("cpu_time", module(&bombs::loops(2000), limits.clone()));
    // All threads together have as much.
    let limits = limits.threads(4);
    assert!(module(&bombs::diamonds(100, 100), limits.clone()).build().is_ok());
    for bytes in [bombs::loops(2000), bombs::many_functions(200_000)] {
        assert_refused_by("cpu_time", module(&bytes, limits.clone()));
    }
}

#[test]
fn a_compiler_that_is_not_done_in_time_is_told_by_whose_fault() {
    let bytes = bombs::loops(2000);
    let builder = module(&bytes, limits().wall_time(Duration::from_millis(200)));
    let late = builder.build().expect_err("a build that fails");
    assert!(own_children().is_empty(), "a process is left");
    match &late {
        // Its compiler had no processor for half of that, as under other tests.
        BuildError::Machine(error) => {
            assert!(matches!(error.fault, MachineFault::Busy { .. }), "{error:?}");
        }
        BuildError::Refused { reason: RefusedReason::Limit(words), .. } => {
            assert!(words.contains("CompileLimits::wall_time"), "{words}");
        }
        other => panic!("expected the wall time, got {other:?}"),
    }
    let bytes = bombs::diamonds(100, 100);
    assert!(module(&bytes, limits().wall_time(Duration::from_secs(60))).build().is_ok());
}

#[test]
fn a_module_that_takes_more_memory_than_allowed_is_refused() {
    let bytes = bombs::diamonds(60_000, 2000);
    assert_refused_by("memory_bytes", module(&bytes, limits().memory_bytes(64 << 20)));
    assert_refused_by("memory_bytes", module(&bytes, limits().memory_bytes(64 << 20).threads(4)));
    // In all of them at once.
    let bytes = bombs::many_functions(200_000);
    assert_refused_by("memory_bytes", module(&bytes, limits().memory_bytes(128 << 20).threads(8)));
    let bytes = bombs::diamonds(100, 100);
    assert!(module(&bytes, limits().memory_bytes(64 << 20)).build().is_ok());
    // Their stacks come on top.
    assert!(module(&bytes, limits().memory_bytes(64 << 20).threads(64)).build().is_ok());
}

#[test]
fn what_several_threads_compile_runs_and_their_number_is_not_in_a_caches_key() {
    let bytes = bombs::many_functions(20_000);
    let fixture = Fixture::new();
    let cached = |threads: Option<u32>| {
        let pool = fixture.with(module(&bytes, limits().threads(threads))).build().unwrap();
        assert_eq!(pool.run::<i32>("f", (7,)).unwrap(), 7, "{threads:?}");
    };
    cached(Some(3));
    fixture.forbidden(|| [Some(1), Some(2), None].into_iter().for_each(cached));
}

#[test]
fn a_machine_that_has_no_thread_to_spare_compiles_in_one() {
    let folder = Folder::new();
    let (deny, worker) = (program_beside("deny"), worker_program());
    let text = format!("exec {} threads {} \"$1\"", deny.display(), worker.display());
    let program = WorkerProgram::Path(script(&folder, &text));
    let builder = module(&bombs::many_functions(1000), limits().threads(4));
    let pool = builder.worker_program(program).build().unwrap();
    assert_eq!(pool.run::<i32>("f", (7,)).unwrap(), 7);
}

#[test]
fn compilers_that_bake_an_initializers_effect_in_are_held_to_the_same_limits() {
    let module = r#"(module
        (memory (export "memory") 64)
        (func (export "fill") (memory.fill (i32.const 0) (i32.const 7) (i32.const 0x200000)))
        (func (export "last") (result i32) (i32.load8_u (i32.const 0x1fffff))))"#;
    let pool = |artefact_bytes| {
        let limits = limits().artefact_bytes(artefact_bytes);
        wat(module).compile_limits(limits).initializer("fill", ()).build().unwrap()
    };
    assert_eq!(pool(4 << 20).run::<i32>("last", ()).unwrap(), 7);
    let Err(RunError::Task(TaskError::Broken(cause))) = pool(1 << 20).run::<i32>("last", ()) else {
        panic!("expected a broken pool")
    };
    let refused = matches!(&*cause, BrokenError::Preparation(RefusedReason::Limit(_)));
    assert!(refused, "{cause:?}");
    // Where nothing is baked in, nothing is larger.
    let limits = limits().artefact_bytes(1 << 20);
    let builder = wat(module).compile_limits(limits).initializer("fill", ());
    let pool = builder.instances(Instances::PerWorker).build().unwrap();
    assert_eq!(pool.run::<i32>("last", ()).unwrap(), 7);
}

#[test]
fn limits_of_compilers_are_taken_to_their_bounds_and_refused_beyond() {
    const DAY: Duration = Duration::from_secs(86_400);
    const LITTLE: Duration = Duration::from_nanos(1);
    for allowed in [
        limits().cpu_time(LITTLE),
        limits().cpu_time(DAY),
        limits().wall_time(DAY),
        limits().memory_bytes(1 << 40),
        limits().module_bytes(1 << 40),
        limits().artefact_bytes(1 << 40),
        limits().threads(1),
        limits().threads(64),
        limits().threads(None),
    ] {
        let built = numbers().compile_limits(allowed.clone()).build();
        assert!(built.is_ok(), "{allowed:?}: {built:?}");
    }
    for (name, refused) in [
        ("compile_limits.cpu_time", limits().cpu_time(Duration::ZERO)),
        ("compile_limits.cpu_time", limits().cpu_time(DAY + LITTLE)),
        ("compile_limits.wall_time", limits().wall_time(Duration::ZERO)),
        ("compile_limits.wall_time", limits().wall_time(Duration::MAX)),
        ("compile_limits.memory_bytes", limits().memory_bytes((16 << 20) - 1)),
        ("compile_limits.memory_bytes", limits().memory_bytes((1 << 40) + 1)),
        ("compile_limits.module_bytes", limits().module_bytes(0)),
        ("compile_limits.artefact_bytes", limits().artefact_bytes(0)),
        ("compile_limits.artefact_bytes", limits().artefact_bytes(u64::MAX)),
        ("compile_limits.threads", limits().threads(0)),
        ("compile_limits.threads", limits().threads(65)),
        ("compile_limits.threads", limits().threads(u32::MAX)),
    ] {
        let error = numbers().compile_limits(refused).build().unwrap_err();
        let named = matches!(error, BuildError::Setting { setting, .. } if setting == name);
        assert!(named, "{name}: {error:?}");
    }
}

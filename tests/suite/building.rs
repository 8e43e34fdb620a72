//! Building a pool: what is refused, why, and that nothing stays behind.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use stockade::{
    BuildError, Command, CompileLimits, Grants, Instances, Layer, Limits, Lockdown, MachineFault,
    Pool, PoolBuilder, RefusedReason, SubmitError, TaskError, TaskOptions, TrapKind,
    UnknownImports, WorkerProgram,
};
use stockade_tests::{Folder, bombs, guest, name_for_a_pool, numbers, own_children, tasks, wat};

/// The error of a build that must fail, and leave no process of this thread's.
#[track_caller]
fn error_of(builder: PoolBuilder) -> BuildError {
    let error = builder.build().expect_err("a build that fails");
    assert!(own_children().is_empty(), "a process is left");
    error
}

#[track_caller]
fn refusal_of(builder: PoolBuilder) -> RefusedReason {
    match error_of(builder) {
        BuildError::Refused { reason, .. } => reason,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn bytes(bytes: impl Into<Vec<u8>>) -> PoolBuilder {
    Pool::single().module_bytes("test", bytes)
}

/// A module of the binary format with these sections.
fn binary(sections: &[u8]) -> Vec<u8> {
    [b"\0asm\x01\0\0\0", sections].concat()
}

#[test]
fn a_pool_without_a_module_is_refused() {
    assert!(matches!(error_of(Pool::builder()), BuildError::NoModule));
}

#[test]
fn a_file_that_is_not_there_is_named_with_the_cause() {
    let BuildError::ReadModule { path, source } = error_of(Pool::single().module("/no/such.wasm"))
    else {
        panic!("expected an unreadable module")
    };
    assert_eq!(path.to_str(), Some("/no/such.wasm"));
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_folder_in_a_modules_place_cannot_be_read() {
    let folder = Folder::new();
    let error = error_of(Pool::single().module(folder.path()));
    assert!(matches!(error, BuildError::ReadModule { .. }), "{error:?}");
}

#[test]
fn what_is_no_wasm_is_told_apart_from_broken_wasm() {
    let elf = fs::read("/proc/self/exe").unwrap();
    for (what, contents) in [
        ("nothing", &b""[..]),
        ("text", b"hello, world"),
        ("the text format, unasked", b"(module)"),
        ("an archive", b"PK\x03\x04rest of it"),
        ("an executable", &elf[..4096]),
        ("half of the magic number", b"\0as"),
    ] {
        let reason = refusal_of(bytes(contents));
        assert!(matches!(reason, RefusedReason::NotWasm(_)), "{what}: {reason:?}");
    }
}

#[test]
fn a_file_in_the_text_format_is_read_by_its_name_only() {
    let folder = Folder::new();
    let named = folder.file("module.wat", "(module (func (export \"f\")))");
    let unnamed = folder.file("module.wasm", "(module (func (export \"f\")))");
    let broken = folder.file("broken.wat", "(module (func");
    assert!(Pool::single().module(named).build().is_ok());
    assert!(matches!(refusal_of(Pool::single().module(unnamed)), RefusedReason::NotWasm(_)));
    let reason = refusal_of(Pool::single().module(broken));
    assert!(matches!(reason, RefusedReason::Malformed(_)), "{reason:?}");
}

#[test]
fn memory_and_tables_at_their_limits_are_taken_and_beyond_them_refused() {
    let limits = || Limits::default().memory_bytes(2 << 16).table_elements(10);
    let memory = |pages| wat(&format!("(module (memory {pages}))")).limits(limits());
    let table = |size| wat(&format!("(module (table {size} funcref))")).limits(limits());
    assert!(memory(2).build().is_ok());
    assert!(table(10).build().is_ok());
    for builder in [memory(3), table(11)] {
        let reason = refusal_of(builder);
        assert!(matches!(reason, RefusedReason::Limit(_)), "{reason:?}");
    }
}

#[test]
fn a_module_beyond_the_size_limit_is_refused_before_it_is_read_whole() {
    const BYTES_MAX: usize = 2 << 20;
    // A custom section fills the module to exactly so many bytes.
    let filled = |bytes: usize| {
        let contents = bytes - 8 - 1 - 5;
        let mut size = Vec::new();
        for shift in 0..5 {
            let more = if shift < 4 { 0x80 } else { 0 };
            size.push((contents >> (7 * shift)) as u8 & 0x7f | more);
        }
        let mut module = binary(&[&[0], &size[..]].concat());
        module.resize(bytes, 0);
        module
    };
    let limits = CompileLimits::default().module_bytes(BYTES_MAX as u64);
    assert!(bytes(filled(BYTES_MAX)).compile_limits(limits.clone()).build().is_ok());
    let reason = refusal_of(bytes(filled(BYTES_MAX + 1)).compile_limits(limits.clone()));
    assert!(matches!(reason, RefusedReason::Limit(_)), "{reason:?}");
    let endless = Pool::single().module_as("endless", "/dev/zero").compile_limits(limits);
    let reason = refusal_of(endless);
    assert!(matches!(reason, RefusedReason::Limit(_)), "{reason:?}");
}

#[test]
fn settings_are_taken_to_their_bounds_and_refused_beyond() {
    type Change = fn(PoolBuilder) -> PoolBuilder;
    let allowed: [Change; 9] = [
        |builder| builder.max_workers(1),
        |builder| builder.max_workers(1024),
        |builder| builder.max_tasks_per_worker(1),
        |builder| builder.limits(Limits::default().memory_bytes(64 << 10)),
        |builder| builder.limits(Limits::default().memory_bytes(4 << 30)),
        |builder| builder.limits(Limits::default().table_elements(10_000_000)),
        |builder| builder.limits(Limits::default().output_bytes(128 << 20)),
        |builder| builder.limits(Limits::default().stdio_bytes(16 << 20)),
        |builder| builder.limits(Limits::default().wall_time(Duration::from_nanos(1))),
    ];
    for (number, change) in allowed.into_iter().enumerate() {
        let built = change(wat("(module (func (export \"f\")))")).build();
        assert!(built.is_ok(), "{number}: {built:?}");
    }
    let refused: [(&str, Change); 9] = [
        ("max_workers", |builder| builder.max_workers(0)),
        ("max_workers", |builder| builder.max_workers(1025)),
        ("max_tasks_per_worker", |builder| builder.max_tasks_per_worker(0)),
        ("memory_bytes", |builder| builder.limits(Limits::default().memory_bytes((64 << 10) - 1))),
        ("memory_bytes", |builder| builder.limits(Limits::default().memory_bytes((4 << 30) + 1))),
        ("table_elements", |builder| builder.limits(Limits::default().table_elements(10_000_001))),
        ("output_bytes", |builder| builder.limits(Limits::default().output_bytes((128 << 20) + 1))),
        ("stdio_bytes", |builder| builder.limits(Limits::default().stdio_bytes((16 << 20) + 1))),
        ("wall_time", |builder| builder.limits(Limits::default().wall_time(Duration::ZERO))),
    ];
    for (name, change) in refused {
        let error = error_of(change(numbers()));
        assert!(
            matches!(error, BuildError::Setting { setting, .. } if setting == name),
            "{name}: {error:?}"
        );
    }
}

#[test]
fn two_modules_of_one_name_are_refused() {
    let error = error_of(numbers().module_as("test", guest("wordcount")));
    assert!(matches!(error, BuildError::Setting { setting: "module", .. }), "{error:?}");
}

#[test]
fn as_many_modules_live_in_a_worker_as_it_has_room_for() {
    const MODULES_MAX: usize = 16;
    let program = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (global $calls (mut i32) (i32.const 0))
        (func (export "next") (result i32)
            (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (global.get $calls))
        (func (export "_start") (call $exit (i32.const 3))))"#;
    let file = stockade_tests::wat_file(program);
    let pool = |modules: usize, instances| {
        let add = |builder: PoolBuilder, n: usize| builder.module_as(n.to_string(), &file);
        (0..modules).fold(Pool::single(), add).instances(instances)
    };
    let full = pool(MODULES_MAX, Instances::PerWorker).build().unwrap();
    for expected in 1..=2 {
        for module in 0..MODULES_MAX {
            let target = (&module.to_string()[..], "next");
            assert_eq!(full.run::<i32>(target, ()).unwrap(), expected, "{module}");
        }
    }
    // With all of them alive, a command has room for an instance of its own.
    let (command, options) = (Command::new("exit"), TaskOptions::default());
    let handle = full.submit_command_with(("0", "_start"), command, options).unwrap();
    assert_eq!(handle.result().unwrap().exit_code, 3);
    let error = error_of(pool(MODULES_MAX + 1, Instances::PerWorker));
    assert!(matches!(error, BuildError::Setting { setting: "module", .. }), "{error:?}");
    let many = pool(MODULES_MAX + 1, Instances::PerTask).build().unwrap();
    assert_eq!(many.run::<i32>(("16", "next"), ()).unwrap(), 1);
}

#[test]
fn one_bad_module_among_good_ones_is_the_one_named() {
    let error = error_of(numbers().module_bytes("bad", "no wasm"));
    let BuildError::Refused { name, .. } = error else { panic!("{error:?}") };
    assert_eq!(name, "bad");
}

#[test]
fn a_worker_program_that_is_not_there_is_refused_with_what_was_tried() {
    let folder = Folder::new();
    let not_executable = folder.file("worker", "");
    for path in [folder.path().join("missing"), not_executable] {
        let program = WorkerProgram::Path(path.clone());
        let BuildError::NoWorkerProgram { tried } = error_of(numbers().worker_program(program))
        else {
            panic!("expected no worker program")
        };
        assert_eq!(tried, [path]);
    }
}

#[test]
fn a_program_of_ones_own_finds_the_command_beside_it_and_on_path_or_says_where_to_get_it() {
    let (program, command, nothing) = (Folder::new(), Folder::new(), Folder::new());
    let host = program.path().join("host");
    fs::copy(env!("CARGO_BIN_EXE_host"), &host).unwrap();
    let run = |path: &Folder| {
        let mut host = std::process::Command::new(&host);
        host.arg("drop").arg(stockade_tests::wat_file(stockade_tests::TASKS));
        host.env_remove("STOCKADE_WORKER").env("PATH", path.path()).output().unwrap()
    };
    let ended = run(&nothing);
    let words = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && words.contains("cargo install"), "{words}");

    symlink(stockade_tests::worker_program(), command.path().join("stockade")).unwrap();
    let ended = run(&command);
    assert!(ended.status.success(), "on PATH: {}", String::from_utf8_lossy(&ended.stderr));
    fs::rename(command.path().join("stockade"), program.path().join("stockade")).unwrap();
    let ended = run(&nothing);
    assert!(ended.status.success(), "beside it: {}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn a_worker_program_that_is_no_worker_is_no_modules_fault() {
    for (program, code) in [("/bin/true", 0), ("/bin/false", 1), ("/bin/cat", 1)] {
        let fault = fault_of(numbers().worker_program(WorkerProgram::Path(program.into())));
        let MachineFault::Process(why) = &fault else { panic!("{program}: {fault:?}") };
        assert!(why.contains(&format!("exited with code {code}")), "{program}: {why}");
    }
    let folder = Folder::new();
    let not_a_program = folder.file("text", "no program");
    fs::set_permissions(&not_a_program, fs::Permissions::from_mode(0o755)).unwrap();
    for path in [folder.path().to_path_buf(), not_a_program] {
        let fault = fault_of(numbers().worker_program(WorkerProgram::Path(path.clone())));
        let MachineFault::Program { path: named, .. } = &fault else { panic!("{fault:?}") };
        assert_eq!(*named, path);
    }
}

#[test]
fn a_compiler_that_is_ended_from_outside_or_gets_no_processor_is_no_modules_fault() {
    let folder = Folder::new();
    // In a process namespace of its own nothing that a shell does to itself would end it.
    let lockdown = || Lockdown::default().without(Layer::Namespaces);
    let builder = |text: &str| {
        let program = WorkerProgram::Path(stockade_tests::script(&folder, text));
        numbers().lockdown(lockdown()).worker_program(program)
    };
    for (name, signal) in [("KILL", 9), ("TERM", 15)] {
        let fault = fault_of(builder(&format!("kill -{name} $$; exec sleep 1000")));
        let MachineFault::Killed { signal: found, .. } = fault else { panic!("{fault:?}") };
        assert_eq!(found, signal);
    }
    let limits = CompileLimits::default().wall_time(Duration::from_millis(200));
    let fault = fault_of(builder("exec sleep 1000").compile_limits(limits));
    assert!(matches!(fault, MachineFault::Busy { .. }), "{fault:?}");
}

/// What the machine did wrong.
#[track_caller]
fn fault_of(builder: PoolBuilder) -> MachineFault {
    match error_of(builder) {
        BuildError::Machine(error) => error.fault,
        other => panic!("expected the machine to be blamed, got {other:?}"),
    }
}

#[test]
fn a_granted_directory_must_be_there_and_be_one() {
    let folder = Folder::new();
    let file = folder.file("file", "");
    assert!(tasks().grants(Grants::none().read_dir(folder.path(), "/")).build().is_ok());
    for path in [folder.path().join("missing"), file] {
        let grants = Grants::none().read_dir(&path, "/data");
        let BuildError::Grant { path: named, .. } = error_of(tasks().grants(grants)) else {
            panic!("expected a grant to be refused")
        };
        assert_eq!(named, path);
    }
}

#[test]
fn hooks_that_cannot_be_are_refused_with_their_role() {
    let unknown = error_of(numbers().initializer("no_such_function", ()));
    let takes_numbers = error_of(numbers().finalizer("add", (1, 2)));
    let needs_more = error_of(Pool::single().module(guest("probe")).initializer("remember", ()));
    let not_named = error_of(Pool::single().module(guest("classify")));
    let hook = |error| match error {
        BuildError::Hook { role, source } => (role, source),
        other => panic!("expected a hook, got {other:?}"),
    };
    assert!(matches!(hook(unknown), ("initializer", SubmitError::UnknownFunction { .. })));
    assert!(matches!(hook(takes_numbers), ("finalizer", SubmitError::Signature { .. })));
    assert!(matches!(hook(needs_more), ("initializer", SubmitError::Signature { .. })));
    // Its manifest declares an initializer, and that needs a model.
    assert!(matches!(hook(not_named), ("initializer", SubmitError::Signature { .. })));
}

#[test]
fn a_module_can_be_inspected_without_being_run() {
    let module = stockade::inspect(guest("classify"), None).unwrap();
    let names: Vec<_> = module.functions.iter().map(|function| &function.name[..]).collect();
    for name in ["load", "classify", "classify_all", "unload"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let looping = r#"(module (func $s (loop $l (br $l))) (start $s) (func (export "f")))"#;
    let module = stockade::inspect(stockade_tests::wat_file(looping), None).unwrap();
    assert_eq!(module.exports.len(), 1);
    assert!(stockade::inspect("/no/such.wasm", None).is_err());
    assert!(own_children().is_empty(), "a process is left");
}

#[test]
fn a_module_that_is_larger_than_what_is_compiled_by_default_is_inspected() {
    use std::os::unix::fs::FileExt;

    use bombs::{Binary, Section, leb, name};

    let folder = Folder::new();
    let path = folder.path().join("large.wasm");
    let module = Binary::new().section(Section::Memory, [1, 0, 1]).bytes();
    // A custom section, of which nothing but its name is ever written.
    let (content, bytes) = (name("large"), 257 << 20);
    let beginning = [&module[..], &[Section::Custom as u8], &leb(bytes), &content].concat();
    let file = fs::File::create(&path).unwrap();
    file.write_all_at(&beginning, 0).unwrap();
    let length = beginning.len() + bytes - content.len();
    file.set_len(length as u64).unwrap();
    let described = stockade::inspect(&path, None).unwrap();
    assert_eq!((described.wasm_bytes, described.memories), (length as u64, 1));
    let reason = refusal_of(Pool::single().module(&path));
    assert!(reason.to_string().contains("module_bytes"), "{reason}");
}

#[test]
fn a_built_pool_has_no_process_until_there_is_work() {
    let name = name_for_a_pool();
    let pool = numbers().name(&name).build().unwrap();
    assert!(own_children().is_empty(), "a process is left");
    assert!(stockade_tests::processes_named(&name).is_empty());
    assert_eq!((pool.count_workers(), pool.workers().len()), (0, 0));
}

/// Calls what nobody provides in one function and something else in another, with an initializer.
const CALLS_OTHERS: &str = r#"(module
    (import "env" "print" (func $print (param i32 f64)))
    (import "env" "napi_get" (func $get (param funcref) (result i64 f32 funcref v128)))
    (global $ready (mut i32) (i32.const 0))
    (func (export "init") (global.set $ready (i32.const 5)))
    (func (export "fine") (result i32) (i32.add (global.get $ready) (i32.const 37)))
    (func (export "print") (result i32) (call $print (i32.const 1) (f64.const 2)) (i32.const 1))
    (func (export "sum") (result i64) (local $n funcref)
        (call $get (local.get $n))
        (drop (v128.any_true))
        (drop (i32.eqz (ref.is_null)))
        (drop (f32.eq (f32.const 0)))))"#;

#[test]
fn a_module_that_imports_what_nobody_provides_runs_where_that_is_allowed() {
    let refused = wat(CALLS_OTHERS).build().unwrap_err();
    let BuildError::Refused { reason: RefusedReason::Import(words), .. } = refused else {
        panic!("expected a refusal, got {refused:?}")
    };
    assert!(words.contains("`env.print`") && words.contains("`env.napi_get`"), "{words}");

    let module = || wat(CALLS_OTHERS).initializer("init", ());
    for instances in [Instances::PerTask, Instances::PerWorker] {
        let pool = module().unknown_imports(UnknownImports::Trap).instances(instances);
        let pool = pool.build().unwrap();
        assert_eq!(pool.run::<i32>("fine", ()).unwrap(), 42);
        for (function, name) in [("print", "env.print"), ("sum", "env.napi_get")] {
            let error = pool.submit::<i32>(function, ()).unwrap().result().unwrap_err();
            let TaskError::Trap { kind, message, backtrace } = error else {
                panic!("expected a trap, got {error:?}")
            };
            assert_eq!(kind, TrapKind::NotProvided);
            assert!(message.contains(&format!("`{name}`")), "{message}");
            assert_eq!(backtrace.len(), 1, "{backtrace:?}");
        }
        assert_eq!(pool.run::<i32>("fine", ()).unwrap(), 42);
        assert_eq!(pool.workers()[0].id.0, 1, "a worker was lost");

        let pool = module().unknown_imports(UnknownImports::DefaultValues).instances(instances);
        let pool = pool.build().unwrap();
        assert_eq!(pool.run::<i32>("print", ()).unwrap(), 1);
        assert_eq!(pool.run::<i64>("sum", ()).unwrap(), 0);
    }
}

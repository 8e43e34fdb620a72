//! The artefact cache: what is compiled once, and what makes a module be compiled again.
//!
//! The worker program of these pools is a script that refuses to compile while a file tells it to;
//! so a pool that is built then has taken everything from the cache. What becomes of entries that
//! somebody changed is among the attacks.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use stockade::{
    BrokenError, BuildError, Cache, CacheError, CompileLimits, Coredumps, Distrust, Feature,
    Features, Grants, Instances, Limits, LocateError, Pool, PoolBuilder, RefusedReason, TaskError,
    UnknownImports, WorkerProgram,
};
use stockade_tests::{
    Folder, guest, int, name_for_a_pool, script, tasks, warnings_of, wat_file, worker_program,
};

/// A cache of its own, and a worker program whose compilers can be forbidden.
pub(crate) struct Fixture {
    folder: Folder,
    program: PathBuf,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        let text = format!(
            "case \"$1\" in *compiler) [ ! -e {} ] || exit 9;; esac\nexec {} \"$1\"",
            folder.path().join("forbidden").display(),
            worker_program().display()
        );
        let program = script(&folder, &text);
        Self { folder, program }
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.folder.path().join("state/cache.key")
    }

    /// A path in the fixture's folder, outside the cache.
    pub(crate) fn aside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn cache(&self) -> Cache {
        Cache::in_directory(self.directory()).key_file(self.key_file())
    }

    /// The only entry.
    pub(crate) fn entry(&self) -> PathBuf {
        let entries = self.cache().entries().unwrap();
        let [entry] = &entries[..] else { panic!("expected one entry, got {entries:?}") };
        self.directory().join(&entry.name)
    }

    /// `builder` with this cache and this worker program.
    pub(crate) fn with(&self, builder: PoolBuilder) -> PoolBuilder {
        let program = WorkerProgram::Path(self.program.clone());
        builder.name(name_for_a_pool()).worker_program(program).cache(self.cache())
    }

    /// A pool over a module whose function `answer` gives `number`.
    pub(crate) fn answer(&self, number: i32) -> PoolBuilder {
        self.with(Pool::single().module_bytes("test", module(number)))
    }

    /// Runs `act` while no compiler works.
    pub(crate) fn forbidden<T>(&self, act: impl FnOnce() -> T) -> T {
        let sign = self.folder.file("forbidden", "");
        let result = act();
        fs::remove_file(sign).unwrap();
        result
    }

    /// Whether everything that `builder` needs is in the cache.
    #[track_caller]
    fn has(&self, builder: PoolBuilder) -> bool {
        match self.forbidden(|| builder.build()) {
            Ok(_) => true,
            Err(BuildError::Machine(_)) => false,
            Err(other) => panic!("expected a compiler that refuses, got {other:?}"),
        }
    }
}

/// A module in the binary format whose function `answer` gives `number`, from 0 to 63.
pub(crate) fn module(number: i32) -> Vec<u8> {
    let number = u8::try_from(number).unwrap();
    assert!(number < 64, "one byte of LEB128, of a signed number");
    let mut wasm =
        b"\0asm\x01\0\0\0\x01\x05\x01\x60\0\x01\x7f\x03\x02\x01\0\x07\x0a\x01\x06answer\0\0"
            .to_vec();
    wasm.extend([0x0a, 0x06, 0x01, 0x04, 0, 0x41, number, 0x0b]);
    wasm
}

#[track_caller]
pub(crate) fn answer_of(pool: &Pool) -> i32 {
    pool.run("answer", ()).unwrap()
}

/// What the cache warned of while `builder` was built, and the pool's answer.
#[track_caller]
pub(crate) fn build(builder: PoolBuilder) -> (i32, Vec<String>) {
    let (pool, warnings) = warnings_of("stockade::cache", || builder.build().unwrap());
    (answer_of(&pool), warnings)
}

fn count(pool: &Pool) -> i32 {
    let bytes: Vec<u8> = pool.run("count", int(0)).unwrap();
    i32::from_le_bytes(bytes.try_into().unwrap())
}

#[test]
fn a_second_pool_compiles_nothing() {
    let fixture = Fixture::new();
    assert!(!fixture.has(fixture.answer(7)));
    assert_eq!(build(fixture.answer(7)), (7, vec![]));
    fixture.forbidden(|| assert_eq!(build(fixture.answer(7)), (7, vec![])));
    // The whole way of a real guest, whose functions the description tells.
    let words = || fixture.with(Pool::single().module(guest("wordcount")));
    words().build().unwrap();
    let pool = fixture.forbidden(|| words().build().unwrap());
    assert_eq!(pool.run::<u64>("word_count", ("to be or not to be",)).unwrap(), 6);
    assert!(pool.run::<u64>("word_cuont", ("",)).is_err());
}

#[test]
fn a_pool_without_a_cache_compiles_every_time() {
    let fixture = Fixture::new();
    let plain = || {
        let program = WorkerProgram::Path(fixture.program.clone());
        Pool::single().module_bytes("test", module(7)).worker_program(program)
    };
    plain().build().unwrap();
    assert!(!fixture.has(plain()));
    assert!(!fixture.directory().exists());
}

#[test]
fn every_module_of_a_pool_is_kept() {
    let fixture = Fixture::new();
    let both = || {
        let builder = Pool::single().module_bytes("one", module(1));
        fixture.with(builder.module_bytes("two", module(2)))
    };
    both().build().unwrap();
    let pool = fixture.forbidden(|| both().build().unwrap());
    assert_eq!(pool.run::<i32>(("one", "answer"), ()).unwrap(), 1);
    assert_eq!(pool.run::<i32>(("two", "answer"), ()).unwrap(), 2);
    // Each by itself, and under any name.
    assert!(fixture.has(fixture.with(Pool::single().module_bytes("other", module(2)))));
}

#[test]
fn whatever_shapes_code_is_compiled_for_anew() {
    let fixture = Fixture::new();
    fixture.answer(7).build().unwrap();
    let with = |limits: Limits| fixture.answer(7).limits(limits);
    let other_domain = fixture.answer(7).cache(fixture.cache().domain("other"));
    let without_tail_calls =
        fixture.answer(7).features(Features::default().without(Feature::TailCall));
    for (what, builder) in [
        ("another module", fixture.answer(8)),
        ("fuel", with(Limits::default().fuel(1 << 40))),
        ("deadlines that trap", with(Limits::default().interruptible(true))),
        ("results that are the same everywhere", with(Limits::default().deterministic(1))),
        ("a feature less", without_tail_calls),
        ("core dumps", fixture.answer(7).coredumps(Coredumps::default())),
        ("another domain of trust", other_domain),
    ] {
        assert!(!fixture.has(builder), "{what}");
    }
}

#[test]
fn one_entry_serves_whatever_shapes_no_code() {
    let fixture = Fixture::new();
    let with = |limits: Limits| fixture.answer(7).limits(limits);
    let compiled = |limits: CompileLimits| fixture.answer(7).compile_limits(limits);
    let (limits, compile_limits) = (Limits::default, CompileLimits::default);
    fixture.answer(7).build().unwrap();
    for (what, builder) in [
        ("less memory", with(limits().memory_bytes(1 << 16))),
        ("more memory", with(limits().memory_bytes(4 << 30))),
        ("fewer table elements", with(limits().table_elements(0))),
        ("more table elements", with(limits().table_elements(10_000_000))),
        ("time", with(limits().wall_time(None))),
        ("output", with(limits().output_bytes(1).stdio_bytes(1))),
        ("unknown imports", fixture.answer(7).unknown_imports(UnknownImports::Trap)),
        ("their values", fixture.answer(7).unknown_imports(UnknownImports::DefaultValues)),
        ("time to compile", compiled(compile_limits().cpu_time(Duration::from_secs(1)))),
        ("waiting for it", compiled(compile_limits().wall_time(Duration::from_secs(1)))),
        ("memory to compile", compiled(compile_limits().memory_bytes(1 << 30))),
        ("the module's size", compiled(compile_limits().module_bytes(1 << 10))),
        ("its code's size", compiled(compile_limits().artefact_bytes(1 << 20))),
        ("more workers", fixture.answer(7).max_workers(2)),
        ("living instances", fixture.answer(7).instances(Instances::PerWorker)),
    ] {
        assert!(fixture.has(builder), "{what}");
    }
    // How much fuel there is, and which seed.
    with(limits().fuel(1 << 30)).build().unwrap();
    assert!(fixture.has(with(limits().fuel(u64::MAX))));
    with(limits().deterministic(1)).build().unwrap();
    assert!(fixture.has(with(limits().deterministic(2))));
    assert_eq!(fixture.cache().entries().unwrap().len(), 3);
}

/// What a module is refused for by a pool that finds its code in the cache.
#[track_caller]
fn refused(builder: PoolBuilder) -> RefusedReason {
    match builder.build() {
        Err(BuildError::Refused { reason, .. }) => reason,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn a_module_beyond_a_pools_limits_is_refused_though_its_code_is_kept() {
    let fixture = Fixture::new();
    let file = wat_file("(module (memory 2) (table 10 funcref))");
    let module = |limits: Limits| fixture.with(Pool::single().module(&file).limits(limits));
    let memory = |bytes| module(Limits::default().memory_bytes(bytes));
    let table = |elements| module(Limits::default().table_elements(elements));
    memory(4 << 30).build().unwrap();
    assert!(fixture.has(memory(2 << 16)) && fixture.has(table(10)));
    let words = |builder| match refused(builder) {
        RefusedReason::Limit(words) => words,
        other => panic!("expected a limit, got {other:?}"),
    };
    let beyond = words(memory((2 << 16) - 1));
    assert!(beyond.contains("`Limits::memory_bytes`"), "{beyond}");
    let beyond = words(table(9));
    assert!(beyond.contains("`Limits::table_elements`"), "{beyond}");
    assert!(fixture.has(memory(2 << 16)), "the entry stays");

    // Told from the entry, without a compiler.
    let limited = |limits| module(Limits::default()).compile_limits(limits);
    let artefact = limited(CompileLimits::default().artefact_bytes(1));
    let beyond = fixture.forbidden(|| words(artefact));
    assert!(beyond.contains("`CompileLimits::artefact_bytes`"), "{beyond}");
    let bytes = limited(CompileLimits::default().module_bytes(1));
    let beyond = fixture.forbidden(|| words(bytes));
    assert!(beyond.contains("`CompileLimits::module_bytes`"), "{beyond}");
}

#[test]
fn a_module_that_imports_what_nobody_provides_is_refused_though_its_code_is_kept() {
    let fixture = Fixture::new();
    let with = |imports: &str, unknown| {
        let module = Pool::single().module(wat_file(&format!("(module {imports})")));
        fixture.with(module).unknown_imports(unknown)
    };
    let is_refused = |builder| matches!(refused(builder), RefusedReason::Import(_));
    let (refuse, zeros, trap) =
        (UnknownImports::Refuse, UnknownImports::DefaultValues, UnknownImports::Trap);
    let number = r#"(import "env" "f" (func (result i32)))"#;
    with(number, trap).build().unwrap();
    assert!(fixture.has(with(number, zeros)));
    assert!(is_refused(with(number, refuse)));
    // It has no default value.
    let reference = r#"(import "env" "f" (func (result (ref func))))"#;
    with(reference, trap).build().unwrap();
    assert!(is_refused(with(reference, zeros)) && is_refused(with(reference, refuse)));
    assert!(fixture.has(with(reference, trap)));
}

#[test]
fn code_from_the_cache_is_held_to_the_limits_of_its_pool() {
    const GROWING: &str = r#"(module (memory 1) (table $table 2 funcref)
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
        (func (export "grow_table") (param i32) (result i32)
            (table.grow $table (ref.null func) (local.get 0))))"#;
    let fixture = Fixture::new();
    let file = wat_file(GROWING);
    let with = |pages: u64, elements| {
        let limits = Limits::default().memory_bytes(pages << 16).table_elements(elements);
        fixture.with(Pool::single().module(&file).limits(limits))
    };
    with(10, 100).build().unwrap();
    for (pages, elements) in [(2, 3), (20, 200), (10, 100)] {
        let pool = fixture.forbidden(|| with(pages, elements).build().unwrap());
        let grow = |name: &str, by: u64| pool.run::<i32>(name, (by as i32,)).unwrap();
        assert_eq!((grow("grow", pages - 1), grow("grow", pages)), (1, -1));
        let grown = (grow("grow_table", elements - 2), grow("grow_table", elements - 1));
        assert_eq!(grown, (2, -1));
    }
    assert_eq!(fixture.cache().entries().unwrap().len(), 1);
}

#[test]
fn a_module_is_read_once() {
    let fixture = Fixture::new();
    let pipe = fixture.aside("module");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
        .unwrap();
    let from_pipe = || fixture.with(Pool::single().module_as("test", &pipe));
    let pass = |number: i32, build: &dyn Fn() -> Pool| {
        std::thread::scope(|scope| {
            // A second open would find no writer, and would never return.
            scope.spawn(|| fs::write(&pipe, module(number)).unwrap());
            answer_of(&build())
        })
    };
    let build = || from_pipe().build().unwrap();
    assert_eq!(pass(7, &build), 7);
    fixture.forbidden(|| assert_eq!(pass(7, &build), 7));
    assert_eq!(pass(8, &build), 8);
    assert_eq!(fixture.cache().entries().unwrap().len(), 2);
}

#[test]
fn a_module_from_the_cache_is_read_again_where_its_bytes_are_needed_and_only_as_it_was() {
    let fixture = Fixture::new();
    let path = fixture.aside("located.wasm");
    let bytes = fs::read(stockade_tests::repository().join("tests/fixtures/located.wasm")).unwrap();
    fs::write(&path, &bytes).unwrap();
    let located = || fixture.with(Pool::single().module_as("located", &path));
    located().build().unwrap();
    let lines = |pool: &Pool| {
        let error = pool.submit::<i32>("percent", (1, 0)).unwrap().result().unwrap_err();
        pool.locate("located", error.backtrace()).map(|places| places[0].len())
    };
    let pools = [(); 2].map(|()| fixture.forbidden(|| located().build().unwrap()));
    assert_eq!(lines(&pools[0]).unwrap(), 2);
    // In place, so that the file which the pools have open is another now.
    fs::write(&path, [&bytes[..], b"\0\x02\x01x"].concat()).unwrap();
    assert_eq!(lines(&pools[0]).unwrap(), 2, "what was read stays");
    let error = lines(&pools[1]).unwrap_err();
    assert!(matches!(error, LocateError::Machine(_)), "{error:?}");

    // A recording has its module from the start.
    fs::write(&path, &bytes).unwrap();
    let recorded = || located().limits(Limits::default().deterministic(1));
    recorded().build().unwrap();
    let pool = fixture.forbidden(|| recorded().build().unwrap());
    fs::write(&path, b"gone").unwrap();
    pool.record("percent", (1, 4)).unwrap();
}

#[test]
fn a_module_that_changes_is_never_taken_for_what_it_was() {
    let fixture = Fixture::new();
    let path = fixture.aside("module.wasm");
    // Of one length, and within one tick of any clock.
    for number in [1, 2, 1, 2] {
        fs::write(&path, module(number)).unwrap();
        let (answer, warnings) = build(fixture.with(Pool::single().module_as("test", &path)));
        assert_eq!((answer, warnings), (number, vec![]));
    }
    assert_eq!(fixture.cache().entries().unwrap().len(), 2);
}

#[test]
fn another_worker_program_is_compiled_for_anew() {
    let mut fixture = Fixture::new();
    fixture.answer(7).build().unwrap();
    let text = fs::read_to_string(&fixture.program).unwrap();
    fixture.program = script(&fixture.folder, &format!("{text}\n# newer"));
    assert!(!fixture.has(fixture.answer(7)));
    // The same program in another place is the same.
    fixture.program = script(&fixture.folder, text.trim_start_matches("#!/bin/sh\n").trim_end());
    assert!(fixture.has(fixture.answer(7)));
}

#[test]
fn a_worker_program_that_cannot_be_read_costs_the_cache_and_not_the_pool() {
    let mut fixture = Fixture::new();
    fixture.program = fixture.aside("hidden");
    fs::copy(worker_program(), &fixture.program).unwrap();
    fs::set_permissions(&fixture.program, fs::Permissions::from_mode(0o111)).unwrap();
    let (answer, warnings) = build(fixture.answer(7));
    // The administrator reads whatever there is.
    let expected = usize::from(fs::File::open(&fixture.program).is_err());
    assert_eq!((answer, warnings.len()), (7, expected), "{warnings:?}");
    assert_eq!(fixture.cache().entries().unwrap().len(), 1 - expected);
}

#[test]
fn an_initializer_runs_in_every_pool_and_only_what_it_left_is_compiled() {
    let fixture = Fixture::new();
    let counting = |from| fixture.with(tasks().initializer("start_counting_at", int(from)));
    let pool = counting(100).build().unwrap();
    assert_eq!(count(&pool), 101);
    // The module and its instrumented form; no snapshot.
    assert_eq!(fixture.cache().entries().unwrap().len(), 2);
    assert_eq!(count(&counting(200).build().unwrap()), 201);
    assert_eq!(fixture.cache().entries().unwrap().len(), 2);
    fixture.forbidden(|| {
        let pool = counting(300).build().unwrap();
        let handle = pool.submit::<Vec<u8>>("count", int(0)).unwrap();
        let Err(TaskError::Broken(cause)) = handle.result() else { panic!("it needs a compiler") };
        assert!(matches!(*cause, BrokenError::Machine(_)), "{cause:?}");
    });
}

#[test]
fn an_initializer_of_every_worker_needs_no_compiler() {
    let fixture = Fixture::new();
    let counting = || {
        let builder = tasks().instances(Instances::PerWorker);
        fixture.with(builder.initializer("start_counting_at", int(100)))
    };
    counting().build().unwrap();
    let pool = fixture.forbidden(|| counting().build().unwrap());
    assert_eq!(count(&pool), 101);
}

#[test]
fn what_is_refused_is_refused_every_time_and_not_kept() {
    let fixture = Fixture::new();
    for _ in 0..2 {
        let broken = fixture.with(Pool::single().module_bytes("test", &module(7)[..20]));
        let refused = broken.build().unwrap_err();
        let BuildError::Refused { reason: RefusedReason::Malformed(_), .. } = refused else {
            panic!("expected a refusal, got {refused:?}")
        };
    }
    assert_eq!(fixture.cache().entries().unwrap(), []);
}

#[test]
fn a_cache_that_may_keep_nothing_keeps_nothing() {
    let fixture = Fixture::new();
    let none = || fixture.answer(7).cache(fixture.cache().bytes_max(0));
    assert_eq!(build(none()), (7, vec![]));
    assert_eq!(fixture.cache().entries().unwrap(), []);
    assert!(!fixture.has(none()));
}

#[test]
fn the_entry_used_least_lately_makes_room() {
    let fixture = Fixture::new();
    fixture.answer(1).build().unwrap();
    let bytes = fs::metadata(fixture.entry()).unwrap().len();
    fixture.answer(2).build().unwrap();
    // Room for one and a half.
    let small = fixture.cache().bytes_max(bytes * 3 / 2);
    fixture.answer(3).cache(small).build().unwrap();
    let there = [1, 2, 3].map(|number| fixture.has(fixture.answer(number)));
    assert_eq!(there, [false, false, true]);
}

#[test]
fn pools_that_are_built_at_once_share_one_cache() {
    let fixture = Fixture::new();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let fixture = &fixture;
            scope.spawn(move || {
                let number = number % 3;
                assert_eq!(build(fixture.answer(number)), (number, vec![]));
            });
        }
    });
    let names: Vec<_> = fs::read_dir(fixture.directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for number in 0..3 {
        assert!(fixture.has(fixture.answer(number)));
    }
    assert!(fixture.cache().verify().unwrap().iter().all(|check| check.problem.is_none()));
}

#[test]
fn a_new_key_makes_every_older_entry_worthless() {
    let fixture = Fixture::new();
    fixture.answer(7).build().unwrap();
    fs::remove_file(fixture.key_file()).unwrap();
    assert!(!fixture.has(fixture.answer(7)));
    let (answer, warnings) = build(fixture.answer(7));
    assert_eq!((answer, warnings.len()), (7, 1), "{warnings:?}");
    assert!(fixture.has(fixture.answer(7)));
}

#[test]
fn what_an_unfinished_write_left_is_ignored() {
    let fixture = Fixture::new();
    fixture.answer(7).build().unwrap();
    let whole = fs::read(fixture.entry()).unwrap();
    fs::write(fixture.directory().join("partial-1-1"), &whole[..whole.len() / 2]).unwrap();
    fixture.forbidden(|| assert_eq!(build(fixture.answer(7)), (7, vec![])));
    assert_eq!(fixture.cache().entries().unwrap().len(), 1);
}

#[test]
fn an_entry_that_cannot_be_written_costs_a_warning_and_not_the_pool() {
    let fixture = Fixture::new();
    fixture.answer(7).build().unwrap();
    let entry = fixture.entry();
    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    fs::write(entry.join("kept"), "").unwrap();
    for _ in 0..2 {
        let (answer, warnings) = build(fixture.answer(7));
        let [ignored, unwritten] = &warnings[..] else { panic!("two warnings: {warnings:?}") };
        assert!(ignored.starts_with("ignored a cache entry"), "{ignored}");
        assert!(unwritten.starts_with("cannot keep a module"), "{unwritten}");
        assert_eq!(answer, 7);
    }
    assert_eq!(fs::read_dir(fixture.directory()).unwrap().count(), 1, "nothing is left over");
    assert!(entry.join("kept").exists());
}

#[track_caller]
fn refusal(builder: PoolBuilder) -> CacheError {
    match builder.build() {
        Err(BuildError::Cache(error)) => error,
        other => panic!("expected a cache that is refused, got {other:?}"),
    }
}

#[track_caller]
fn distrust(builder: PoolBuilder) -> Distrust {
    match refusal(builder) {
        CacheError::Untrusted { why, .. } => why,
        other => panic!("expected distrust, got {other:?}"),
    }
}

#[test]
fn a_directory_that_is_not_ours_alone_keeps_the_pool_from_being_built() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.directory()).unwrap();
    for mode in [0o755, 0o770] {
        fs::set_permissions(fixture.directory(), fs::Permissions::from_mode(mode)).unwrap();
        let why = Distrust::Mode { found: mode, forbidden: 0o077 };
        assert_eq!(distrust(fixture.answer(7)), why);
    }
    let elsewhere = fixture.aside("elsewhere");
    fs::set_permissions(fixture.directory(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::rename(fixture.directory(), &elsewhere).unwrap();
    symlink(&elsewhere, fixture.directory()).unwrap();
    assert_eq!(distrust(fixture.answer(7)), Distrust::Link);
}

#[test]
fn a_key_that_is_not_ours_alone_keeps_the_pool_from_being_built() {
    let fixture = Fixture::new();
    fixture.answer(7).build().unwrap();
    fs::set_permissions(fixture.key_file(), fs::Permissions::from_mode(0o644)).unwrap();
    let why = Distrust::Mode { found: 0o644, forbidden: 0o077 };
    assert_eq!(distrust(fixture.answer(7)), why);
    let inside = fixture.cache().key_file(fixture.directory().join("cache.key"));
    let refused = refusal(fixture.answer(7).cache(inside));
    assert!(matches!(refused, CacheError::KeyInside { .. }), "{refused:?}");
    fs::set_permissions(fixture.key_file(), fs::Permissions::from_mode(0o600)).unwrap();
    let grants = Grants::none().read_dir(fixture.folder.path(), "/data");
    let refused = refusal(fixture.answer(7).grants(grants));
    assert!(matches!(refused, CacheError::KeyInside { .. }), "{refused:?}");
    assert!(fixture.has(fixture.answer(7)));
}

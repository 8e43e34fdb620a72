//! Lines of source for the functions of a backtrace.

use stockade::{LocateError, Pool, PoolBuilder, SourcePlace, TaskError};

/// A C program's module with its debug information; see `located.c` next to it.
fn located() -> PoolBuilder {
    let module = stockade_tests::repository().join("tests/fixtures/located.wasm");
    Pool::builder()
        .module(module)
        .max_workers(1)
        .worker_program(stockade::WorkerProgram::Path(stockade_tests::worker_program()))
}

fn trapped(pool: &Pool, args: (i32, i32)) -> TaskError {
    pool.submit::<i32>("percent", args).unwrap().result().unwrap_err()
}

fn shown(places: &[SourcePlace]) -> Vec<String> {
    let one = |place: &SourcePlace| {
        let (function, file) = (place.function.as_deref().unwrap(), place.file.as_deref().unwrap());
        format!("{function} {file}:{}:{}", place.line.unwrap(), place.column.unwrap())
    };
    places.iter().map(one).collect()
}

const DIVISION: [&str; 2] = ["ratio /guest/located.c:11:18", "share /guest/located.c:15:12"];

#[test]
fn a_trap_is_found_in_the_source_of_its_guest() {
    let pool = located().build().unwrap();
    let error = trapped(&pool, (1, 0));
    let functions: Vec<_> = error.backtrace().iter().map(ToString::to_string).collect();
    assert_eq!(functions, ["share", "percent"]);
    let places = pool.locate("located", error.backtrace()).unwrap();
    assert_eq!(shown(&places[0]), DIVISION);
    assert_eq!(shown(&places[1]), ["percent /guest/located.c:19:12"]);

    let unknown = pool.locate("other", error.backtrace()).unwrap_err();
    assert!(matches!(unknown, LocateError::UnknownModule(name) if name == "other"));
    // Whatever it is asked, and by whom.
    let mut made_up = error.backtrace().to_vec();
    (made_up[0].index, made_up[1].offset) = (u32::MAX, Some(u32::MAX));
    assert_eq!(pool.locate("located", &made_up).unwrap(), [[], []]);
}

#[test]
fn a_trap_is_found_though_its_initializer_has_changed_the_module() {
    let pool = located().initializer("prepare", ()).build().unwrap();
    assert_eq!(pool.run::<i32>("percent", (1, 4)).unwrap(), 52);
    let error = trapped(&pool, (1, 0));
    assert_eq!(shown(&pool.locate("located", error.backtrace()).unwrap()[0]), DIVISION);
}

#[test]
fn a_module_without_debug_information_has_functions_and_no_lines() {
    let pool = stockade_tests::wat(r#"(module (func (export "f") unreachable))"#).build().unwrap();
    let error = pool.submit::<()>("f", ()).unwrap().result().unwrap_err();
    let (module, description) = pool.modules().next().unwrap();
    assert!(!description.has_debug_info);
    assert_eq!(pool.locate(module, error.backtrace()).unwrap(), [[]]);
}

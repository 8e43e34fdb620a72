//! `--features`: what of WebAssembly 3.0 a module may use.

use crate::args;
use crate::support::{module, stockade};

const THROWS: &str = r#"(module (tag $t (param i32))
    (func (export "caught") (result i32)
        (block $caught (result i32)
            (try_table (catch $t $caught) (throw $t (i32.const 42)))
            unreachable))
    (func (export "uncaught") (throw $t (i32.const 1))))"#;

const BOX: &str = r#"(module (type $box (struct (field i32)))
    (func (export "held") (result i32) (struct.get $box 0 (struct.new $box (i32.const 7)))))"#;

#[test]
fn what_wasmtime_runs_by_default_runs_and_an_uncaught_exception_is_a_trap() {
    let (_folder, guest) = module(THROWS);
    stockade(args!["run", guest, "caught"]).end().gives("42\n");
    stockade(args!["run", guest, "uncaught"]).end().fails(67, &["exception"]);
}

#[test]
fn a_module_that_uses_what_is_off_is_refused_by_its_name_and_the_hint_names_the_option() {
    let (_folder, guest) = module(THROWS);
    for list in ["-exceptions", "none", "none,tail-call", "all,-exceptions"] {
        let ended = stockade(args!["run", guest, "caught", "--features", list]).end();
        ended.fails(65, &["exceptions (`exceptions`), which is off", "`--features exceptions`"]);
    }
    stockade(args!["run", guest, "caught", "--features", "none,exceptions"]).end().gives("42\n");

    let (_folder, guest) = module(BOX);
    let ended = stockade(args!["run", guest, "held"]).end();
    ended.fails(65, &["garbage-collected types (`gc`)", "`--features gc`"]);
    for list in ["gc", "all", "none,gc", "all,-tail-call,gc"] {
        stockade(args!["run", guest, "held", "--features", list]).end().gives("7\n");
    }
}

#[test]
fn a_feature_that_there_is_not_is_a_mistake_on_the_command_line() {
    let (_folder, guest) = module(BOX);
    let ended = stockade(args!["run", guest, "held", "--features", "threads"]).end();
    ended.fails(2, &["there is no feature \"threads\"", "tail-call"]);
}

#[test]
fn what_no_pool_has_on_comes_with_no_option() {
    let shared = r#"(module (memory 1 1 shared)
        (func (export "f") (drop (i32.atomic.load (i32.const 0)))))"#;
    let (_folder, guest) = module(shared);
    for list in ["default", "atomics", "all"] {
        let ended = stockade(args!["run", guest, "f", "--features", list]).end();
        ended.fails(65, &["threads", "no option turns it on"]);
    }
}

#[test]
fn atomic_instructions_are_had_by_their_option_where_nothing_is_shared() {
    let own = r#"(module (memory 1) (func (export "f") (result i32)
        (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 42)))
        (i32.atomic.load (i32.const 0))))"#;
    let (_folder, guest) = module(own);
    let ended = stockade(args!["run", guest, "f"]).end();
    ended.fails(65, &["atomic instructions (`atomics`)", "`--features atomics`"]);
    stockade(args!["run", guest, "f", "--features", "atomics"]).end().gives("42\n");
}

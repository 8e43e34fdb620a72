//! What tells why a guest failed: lines of source.

use std::path::{Path, PathBuf};

use crate::args;
use crate::support::{module, stockade};

/// A C program's module with its debug information.
fn located() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/located.wasm")
}

#[test]
fn a_trap_shows_functions_with_their_files_and_lines() {
    let ended = stockade(args!["run", located(), "percent", "1", "0"]).end();
    let backtrace = "in: the guest, innermost function first\n    \
                     ratio at /guest/located.c:11:18\n    \
                     share at /guest/located.c:15:12\n    \
                     percent at /guest/located.c:19:12\n";
    ended.fails(67, &["error: the guest trapped: division by zero", backtrace]);
}

#[test]
fn a_trap_without_debug_information_shows_functions() {
    let (_folder, guest) = module(
        r#"(module (func $inner unreachable) (func $outer (export "f") (call $inner)))"#,
    );
    let ended = stockade(args!["run", guest, "f"]).end();
    ended.fails(67, &["in: the guest, innermost function first\n    inner\n    outer\n"]);
}

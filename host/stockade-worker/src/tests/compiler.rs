//! What the compiler says of a module: a description, or why it is refused.

use stockade_wire::{
    CompileRequest, CompileStep, EngineSettings, ExportType, FunctionKind, Limits,
    ModuleDescription, Refusal, RefusalKind, UnknownImports, ValueType,
};

use super::support::{compile, guest, request};
use crate::compiler::{self, Compiled, Threads};

fn describe(source: impl AsRef<[u8]>) -> Result<ModuleDescription, Refusal> {
    compile(CompileStep::Describe, &Limits::default(), source, None).map(|(described, _)| described)
}

/// What becomes of `module` in these threads, without a state.
fn compiled(
    request: &CompileRequest,
    module: &[u8],
    threads: &Threads,
) -> Result<Compiled, Refusal> {
    compiler::compile(request, module, None, threads)
}

#[track_caller]
fn assert_refused(source: impl AsRef<[u8]>, kind: RefusalKind, words: &[&str]) {
    let refusal = describe(source).unwrap_err();
    assert_eq!(refusal.kind, kind, "{refusal}");
    for word in words {
        assert!(refusal.message.contains(word), "no {word:?} in: {refusal}");
    }
    assert!(!refusal.message.ends_with('.') && !refusal.message.contains('\n'), "{refusal}");
}

/// A manifest's record; `rest` is JSON after the export.
fn record(kind: &str, name: &str, export: &str, rest: &str) -> String {
    format!(r#"{{"abi":1,"kind":"{kind}","name":"{name}","export":"{export}"{rest}}}"#)
}

fn with_manifest(manifest: &str) -> String {
    let manifest = manifest.replace('"', "\\\"").replace('\n', "\\n");
    format!(
        r#"(module
            (@custom "stockade.tasks" "{manifest}")
            (func (export "a") (result i32) (i32.const 0))
            (func (export "b") (result i32) (i32.const 0))
            (func (export "wrong") (param i32)))"#
    )
}

#[test]
fn a_module_is_described() {
    let described = describe(
        r#"(module
            (import "stockade" "output_write" (func (param i32 i32)))
            (memory (export "memory") 2)
            (table (export "t") 3 funcref)
            (global (export "g") i32 (i32.const 0))
            (func $f (export "f") (param i32 i64 f32 f64 v128) (result f64 i32)
                (f64.const 0) (i32.const 0))
            (func $s)
            (start $s))"#,
    )
    .unwrap();
    assert_eq!(described.memory_min_bytes, 2 << 16);
    assert!(described.has_start);
    assert!(described.wasm_bytes > 50);
    let names: Vec<_> = described.exports.iter().map(|export| export.name.as_str()).collect();
    assert_eq!(names, ["memory", "t", "g", "f"]);
    use ValueType::{F32, F64, I32, I64, Other};
    let function =
        ExportType::Function { params: vec![I32, I64, F32, F64, Other], results: vec![F64, I32] };
    assert_eq!(described.exports[3].kind, function);
    assert_eq!(described.exports[0].kind, ExportType::Memory);
    assert_eq!(described.imports[0].name, "output_write");
    assert_eq!(described.imports[0].type_name, "(i32, i32) -> ()");
    assert_eq!(described.warnings, [""; 0]);
}

#[test]
fn describing_writes_no_artefact_and_compiling_does() {
    let limits = Limits::default();
    let artefact =
        |step| compiled(&request(step, &limits), b"(module)", &Threads::none()).unwrap().artefact;
    assert!(artefact(CompileStep::Describe).is_empty());
    assert!(!artefact(CompileStep::Compile).is_empty());
}

#[test]
fn an_artefact_at_its_limit_is_written_and_one_byte_more_is_refused() {
    let limits = Limits::default();
    let mut request = request(CompileStep::Compile, &limits);
    let bytes = compiled(&request, b"(module)", &Threads::none()).unwrap().artefact.len() as u64;
    request.limits.artefact_bytes = bytes;
    assert!(compiled(&request, b"(module)", &Threads::none()).is_ok());
    request.limits.artefact_bytes = bytes - 1;
    let refusal = compiled(&request, b"(module)", &Threads::none()).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Limit);
}

#[test]
fn what_is_no_wasm_is_refused_by_what_it_looks_like() {
    for (bytes, word) in [
        (&b""[..], "empty"),
        (b"\0as", "truncated"),
        (b"\x7fELF\x02\x01\x01", "ELF"),
        (b"PK\x03\x04zip", "zip"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"#!/bin/sh\n", "script"),
        (b"print('hello')", "text"),
        (b"\xde\xad\xbe\xef\x00", "de ad be ef"),
    ] {
        assert_refused(bytes, RefusalKind::NotWasm, &[word]);
    }
    let mut request = request(CompileStep::Describe, &Limits::default());
    request.text = false;
    let refusal = compiled(&request, b"(module)", &Threads::none()).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NotWasm);
    assert!(refusal.message.contains("text format"));
}

#[test]
fn text_is_read_with_its_comments_and_refused_with_line_and_column() {
    describe(";; a comment\n(; another ;)\n(module)").unwrap();
    assert_refused(
        "(module\n  (func (i32.cnst 1)))",
        RefusalKind::Malformed,
        &["line 2", "column"],
    );
    assert_refused("(module", RefusalKind::Malformed, &["line 1"]);
    assert_refused("(module (func $f) (func $f))", RefusalKind::Malformed, &["column"]);
}

#[test]
fn a_component_is_refused_as_one() {
    assert_refused(b"\0asm\x0d\0\x01\0", RefusalKind::Component, &["component", "core module"]);
    assert_refused("(component)", RefusalKind::Component, &["component"]);
}

#[test]
fn malformed_binaries_are_refused_with_the_place() {
    let good = wat::parse_str("(module (func (export \"f\") (result i32) (i32.const 1)))").unwrap();
    for cut in 4..good.len() {
        let Err(refusal) = describe(&good[..cut]) else {
            // A module may end after any whole section.
            continue;
        };
        assert_eq!(refusal.kind, RefusalKind::Malformed, "cut at {cut}: {refusal}");
    }
    assert_refused(&good[..good.len() - 1], RefusalKind::Malformed, &["offset"]);
    assert_refused(b"\0asm\x02\0\0\0", RefusalKind::Malformed, &["version 2"]);
    assert_refused("(module (func (result i32)))", RefusalKind::Malformed, &["type mismatch"]);
}

/// Those that a pool can turn on are tested with their behaviour.
#[test]
fn features_that_no_pool_has_are_named() {
    for (source, name) in [
        ("(module (memory 1 1 shared))", "threads"),
        ("(module (memory 1 (pagesize 1)))", "custom page sizes"),
        ("(module (type $f (func)) (type $c (cont $f)))", "stack switching"),
        (
            "(module (func (param i64) (result i64 i64)
                (i64.add128 (local.get 0) (local.get 0) (local.get 0) (local.get 0))))",
            "wide arithmetic",
        ),
    ] {
        assert_refused(source, RefusalKind::Feature, &[name, "off"]);
    }
    let several = "(module (memory 1 1 shared) (memory 1 (pagesize 1)) (type (struct)))";
    let words = ["threads, custom page sizes and garbage-collected types (`gc`), which is off"];
    assert_refused(several, RefusalKind::Feature, &words);
}

#[test]
fn what_toolchains_emit_is_admitted() {
    describe(
        r#"(module
            (memory 1) (table $t 1 funcref) (global $g (mut i64) (i64.const 0))
            (func (export "g") (result i32 i64) (memory.fill (i32.const 0) (i32.const 0) (i32.const 1))
                (memory.copy (i32.const 0) (i32.const 0) (i32.const 1))
                (i32.trunc_sat_f32_s (f32.const 1)) (i64.extend8_s (i64.const 1)))
            (func (result v128) (i32x4.splat (i32.const 1)))
            (func (result i32) (ref.is_null (table.get $t (i32.const 0))))
            (global (export "mutable") (mut i32) (i32.const 0)))"#,
    )
    .unwrap();
}

#[test]
fn imports_that_are_not_provided_are_named() {
    for (import, words) in [
        (r#""env" "abort" (func)"#, &["`env.abort`", "not provided"][..]),
        (r#""stockade" "alloc" (func)"#, &["`stockade.alloc`", "guest ABI"]),
        (r#""wasi_unstable" "fd_write" (func)"#, &["wasm32-wasip1"]),
        (r#""wasi:cli/run" "run" (func)"#, &["component"]),
        (r#""wasi_snapshot_preview1" "fork" (func)"#, &["preview 1"]),
        (r#""env" "memory" (memory 1)"#, &["`env.memory`", "not provided"]),
        (r#""wasi_snapshot_preview1" "fd_close" (global i32)"#, &["as a global", "function"]),
        (
            r#""wasi_snapshot_preview1" "fd_close" (func (param i64))"#,
            &["`wasi_snapshot_preview1.fd_close`", "(i64) -> ()", "(i32) -> (i32)"],
        ),
        (r#""stockade" "log" (func (param i32))"#, &["(i32, i32, i32) -> ()"]),
        (r#""\1b[2J" "a\nb" (func)"#, &["\\u{1b}", "\\n"]),
    ] {
        assert_refused(format!("(module (import {import}))"), RefusalKind::Import, words);
    }
}

#[test]
fn every_import_that_is_not_provided_is_named_once() {
    let source = r#"(module
        (import "env" "napi_create_function" (func))
        (import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32)))
        (import "env" "napi_throw" (func (param i32)))
        (import "env" "napi_throw" (func (param i32)))
        (import "env" "memory" (memory 1))
        (import "wbg" "__wbg_new_1" (func))
        (import "wasi_snapshot_preview1" "fork" (func))
        (import "wasi_snapshot_preview1" "fd_read" (func))
        (import "stockade" "log" (func))
        (import "stockade" "log" (func)))"#;
    let refusal = describe(source).unwrap_err();
    let expected = "it imports `env.napi_create_function`, `env.napi_throw`, `env.memory` as a memory \
        (Node-API: it is an addon for Node.js, and calls JavaScript); `wbg.__wbg_new_1` \
        (wasm-bindgen's JavaScript; build it without that, for wasm32-wasip1); \
        `wasi_snapshot_preview1.fork` (no function of WASI preview 1), which are not provided, and \
        `wasi_snapshot_preview1.fd_read` as () -> (), where it is (i32, i32, i32, i32) -> (i32), and \
        `stockade.log` as () -> (), where it is (i32, i32, i32) -> ()";
    assert_eq!(refusal.message, expected);

    let many: String =
        (0..1000).map(|number| format!(r#"(import "m" "function_{number}" (func))"#)).collect();
    let refusal = describe(format!("(module {many})")).unwrap_err();
    for number in 0..1000 {
        assert!(refusal.message.contains(&format!("`m.function_{number}`")), "{number}");
    }
}

/// Imports, and a word about whose host each module was made for.
#[test]
fn for_whose_host_a_module_was_made_is_told_by_all_that_it_imports() {
    for (imports, words) in [
        (r#"(import "env" "emnapi_get_x" (func))"#, "Node-API"),
        (r#"(import "emnapi" "_emnapi_x" (func))"#, "Node-API"),
        (r#"(import "env" "emscripten_resize_heap" (func))"#, "Emscripten"),
        (r#"(import "env" "_abort_js" (func)) (import "env" "exit" (func))"#, "Emscripten"),
        (r#"(import "env" "invoke_vii" (func)) (import "env" "memory" (memory 1))"#, "Emscripten"),
        (
            r#"(import "a" "b" (func)) (import "a" "c" (func))"#,
            "shortened names, most likely of Emscripten",
        ),
        (r#"(import "GOT.mem" "x" (global (mut i32)))"#, "dynamic linker"),
        (r#"(import "env" "__memory_base" (global i32))"#, "dynamic linker"),
        (r#"(import "__wbindgen_placeholder__" "x" (func))"#, "wasm-bindgen"),
        (r#"(import "./app_bg.js" "x" (func))"#, "wasm-bindgen"),
        (r#"(import "wasi_unstable" "fd_write" (func))"#, "2019"),
        (r#"(import "wasix_32v1" "thread_spawn_v2" (func))"#, "WASIX"),
        (r#"(import "wasi" "thread-spawn" (func))"#, "without threads"),
        (r#"(import "wasi_snapshot_preview1" "sock_open" (func))"#, "WasmEdge"),
        (r#"(import "wasi:cli/environment@0.2.0" "get" (func))"#, "component"),
        (r#"(import "my:package/interface" "get" (func))"#, "component"),
        (r#"(import "env" "abort" (func (param i32 i32 i32 i32)))"#, "AssemblyScript"),
        (r#"(import "env" "console.log" (func)) (import "env" "x" (func))"#, "AssemblyScript"),
        (r#"(import "gojs" "runtime.ticks" (func))"#, "GOOS=wasip1"),
        (r#"(import "go" "syscall/js.valueGet" (func))"#, "GOOS=wasip1"),
        (r#"(import "wasm:js-string" "length" (func))"#, "JavaScript's strings"),
        (r#"(import "extism:host/env" "input_length" (func))"#, "Extism"),
        (r#"(import "env" "abort" (func))"#, "no linked object defines"),
        (r#"(import "env" "invoke_callback" (func))"#, "no linked object defines"),
        (r#"(import "env" "table" (table 1 funcref))"#, "host that it was made for"),
        (r#"(import "my_app" "log" (func))"#, "host that it was made for"),
        (r#"(import "x" "a_longer_name" (func))"#, "host that it was made for"),
    ] {
        let refusal = describe(format!("(module {imports})")).unwrap_err();
        let hosts = refusal.message.matches(" (").count();
        assert!(refusal.message.contains(words), "{imports}: {}", refusal.message);
        assert_eq!(hosts, 1, "one host: {}", refusal.message);
    }
}

#[test]
fn functions_that_nobody_provides_are_admitted_where_something_stands_in_for_them() {
    let admitted = |unknown_imports, imports: &str| {
        let limits = Limits::default();
        let engine = EngineSettings { unknown_imports, ..limits.engine_settings() };
        let request = CompileRequest { engine, ..request(CompileStep::Describe, &limits) };
        let binary = wat::parse_str(format!("(module {imports})")).unwrap();
        compiled(&request, &binary, &Threads::none()).map(|_| ()).map_err(|refusal| refusal.message)
    };
    let long = "x".repeat(1025);
    let (trap, zeros) = (UnknownImports::Trap, UnknownImports::DefaultValues);
    for (imports, by_trap, by_zeros) in [
        (r#"(import "a" "b" (func (param f64 i32) (result v128 i64)))"#, None, None),
        (r#"(import "a" "b" (func (result funcref)))"#, None, None),
        (r#"(import "a" "b" (func)) (import "a" "b" (func))"#, None, None),
        (r#"(import "a" "b" (func)) (import "a" "b" (func (param i32)))"#, Some("different"), None),
        (
            r#"(import "a" "b" (func (param v128))) (import "a" "b" (func (param funcref)))"#,
            Some("different types"),
            None,
        ),
        (r#"(import "a" "b" (memory 1))"#, Some("`a.b` as a memory"), None),
        (r#"(import "a" "b" (global i32))"#, Some("`a.b` as a global"), None),
        (r#"(import "stockade" "log" (func))"#, Some("`stockade.log` as"), None),
        (r#"(import "wasi_snapshot_preview1" "fork" (func))"#, None, None),
        (&format!(r#"(import "a" "{long}" (func))"#), Some("too long"), None),
    ] {
        let expected = [(trap, by_trap), (zeros, by_zeros.or(by_trap))];
        for (unknown, words) in expected {
            match (admitted(unknown, imports), words) {
                (Ok(()), None) => {}
                (Err(message), Some(words)) if message.contains(words) => {}
                (found, _) => panic!("{imports}: {found:?}"),
            }
        }
    }
    assert!(admitted(UnknownImports::Refuse, r#"(import "a" "b" (func))"#).is_err());
    // The description of a type is bounded, whatever it has.
    let params = "i32 ".repeat(1000);
    let wide = format!(r#"(import "a" "b" (func (param {params})))"#);
    assert_eq!(admitted(trap, &wide), Ok(()));
}

#[test]
fn a_module_fits_exactly_the_settings_that_admit_it() {
    let modules = [
        "(module)",
        "(module (memory 2) (memory 1) (table 4 funcref) (table 6 funcref))",
        r#"(module (import "stockade" "input_len" (func (result i32))) (memory 1))"#,
        r#"(module (import "a" "b" (func (result i32))))"#,
        r#"(module (import "a" "b" (func (result (ref func)))) (table 3 funcref))"#,
    ];
    let unknown = [UnknownImports::Refuse, UnknownImports::DefaultValues, UnknownImports::Trap];
    for module in modules {
        let binary = wat::parse_str(module).unwrap();
        let described = |engine: &EngineSettings| {
            let limits = Limits::default();
            let request = request(CompileStep::Describe, &limits);
            let request = CompileRequest { engine: engine.clone(), ..request };
            let compiled = compiler::compile(&request, &binary, None, &Threads::none());
            compiled.map(|compiled| compiled.description)
        };
        let widest = Limits::default().memory_bytes(4 << 30).engine_settings();
        let widest = EngineSettings { unknown_imports: UnknownImports::Trap, ..widest };
        let description = described(&widest).unwrap();
        for unknown_imports in unknown {
            for memory_bytes in [0, 1 << 16, (3 << 16) - 1, 3 << 16, 4 << 30] {
                for table_elements in [0, 2, 3, 9, 10, 100] {
                    let engine = EngineSettings {
                        memory_bytes,
                        table_elements,
                        unknown_imports,
                        ..widest.clone()
                    };
                    let admitted = described(&engine);
                    assert_eq!(description.fits(&engine), admitted.is_ok(), "{module} {engine:?}");
                    if let Ok(admitted) = admitted {
                        assert_eq!(admitted, description, "a description depends on the settings");
                    }
                }
            }
        }
    }
}

#[test]
fn every_host_call_can_be_imported_as_the_abi_says() {
    describe(guest("")).unwrap();
}

#[test]
fn needs_at_the_limits_are_admitted_and_above_them_refused() {
    let limits = Limits::default().memory_bytes(2 << 16).table_elements(10);
    let refusal = |source: &str| {
        compile(CompileStep::Compile, &limits, source, None).err().map(|refusal| refusal.kind)
    };
    assert_eq!(refusal("(module (memory 2))"), None);
    assert_eq!(refusal("(module (memory 3))"), Some(RefusalKind::Limit));
    assert_eq!(refusal("(module (memory 65536))"), Some(RefusalKind::Limit));
    assert_eq!(refusal("(module (table 10 funcref))"), None);
    assert_eq!(refusal("(module (table 5 funcref) (table 6 funcref))"), Some(RefusalKind::Limit));
    let tables = |count| format!("(module {})", "(table 1 funcref)".repeat(count));
    assert_eq!(refusal(&tables(4)), None);
    assert_eq!(refusal(&tables(5)), Some(RefusalKind::Limit));
}

#[test]
fn a_manifest_lists_the_functions_that_are_there() {
    let manifest = [
        record(
            "task",
            "first",
            "a",
            r#","doc":"Counts.","params":[{"name":"text","type":"String"}],"result":"u64""#,
        ),
        record("initializer", "setup", "b", ""),
    ]
    .join("\n");
    let described = describe(with_manifest(&manifest)).unwrap();
    assert_eq!(described.warnings, [""; 0]);
    let [first, setup] = &described.functions[..] else { panic!("{:?}", described.functions) };
    assert_eq!((first.name.as_str(), first.export.as_str()), ("first", "a"));
    assert_eq!((first.doc.as_str(), first.result.as_str()), ("Counts.", "u64"));
    assert_eq!(first.params[0].type_name, "String");
    assert_eq!((first.kind, setup.kind), (FunctionKind::Task, FunctionKind::Initializer));
}

#[test]
fn what_a_manifest_claims_in_vain_is_ignored_with_a_warning() {
    for (line, why) in [
        (record("task", "x", "missing", ""), "no export"),
        (record("task", "x", "wrong", ""), "not of type"),
        (record("task", "", "a", ""), "no name"),
        (record("task", &"n".repeat(257), "a", ""), "longer"),
        (record("wizard", "x", "a", ""), "not a record"),
        (r#"{"abi":1}"#.into(), "not a record"),
        ("not json".into(), "not JSON"),
        ("[".repeat(10_000), "not JSON"),
    ] {
        let manifest = format!("{line}\n{}", record("task", "good", "a", ""));
        let described = describe(with_manifest(&manifest)).unwrap();
        assert_eq!(described.functions.len(), 1, "{line}");
        assert!(described.warnings[0].contains(why), "{:?}", described.warnings);
    }
}

#[test]
fn of_two_functions_for_one_purpose_or_name_the_first_counts() {
    let manifest = [
        record("initializer", "one", "a", ""),
        record("initializer", "two", "b", ""),
        record("task", "one", "b", ""),
    ]
    .join("\n");
    let described = describe(with_manifest(&manifest)).unwrap();
    assert_eq!(described.functions.len(), 1);
    assert_eq!(described.functions[0].export, "a");
    assert_eq!(described.warnings.len(), 2);
}

#[test]
fn another_version_of_the_abi_is_refused_whatever_else_it_says() {
    assert_refused(
        with_manifest(r#"{"abi":2,"new":"fields"}"#),
        RefusalKind::Feature,
        &["version 2"],
    );
}

#[test]
fn an_oversize_manifest_is_ignored() {
    let long = " ".repeat((1 << 20) + 1);
    let described =
        describe(with_manifest(&format!("{long}{}", record("task", "x", "a", "")))).unwrap();
    assert!(described.functions.is_empty());
    assert!(described.warnings[0].contains("ignored"));
}

#[test]
fn names_and_numbers_of_exports_are_bounded() {
    let many: String = (0..10_001).map(|n| format!("(export \"e{n}\" (func $f))")).collect();
    let described = describe(format!("(module (func $f) {many})")).unwrap();
    assert_eq!(described.exports.len(), 10_000);
    assert_eq!(described.warnings.len(), 1);
    let long = "x".repeat(50_000);
    let described =
        describe(format!("(module (func (export \"{long}\")) (func (export \"y\")))")).unwrap();
    assert_eq!(described.exports.len(), 1);
    assert!(described.warnings[0].len() < 300);
}

/// A module with a section of every kind, and names for what is in it.
const EVERY_SECTION: &str = r#"(module $all
    (type $t (func (param i32) (result i32)))
    (import "stockade" "progress" (func $progress (param i64 i64)))
    (table $table (export "t") 2 4 funcref)
    (memory (export "memory") 1 2)
    (global $g (export "g") (mut i32) (i32.const 7))
    (func $f (export "f") (type $t) (local $l v128)
        (call $progress (i64.const 1) (i64.const 2))
        (block $b (result i32)
            (br_table $b $b (local.get 0) (i32.and (local.get 0) (i32.const 1))))
        (if (result i32) (then (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))
                               (call_indirect (type $t) (i32.const 1) (i32.const 0)))
                         (else (i32.load8_u (local.get 0)))))
    (func $s)
    (start $s)
    (elem (i32.const 0) $f)
    (elem declare func $s)
    (data (i32.const 0) "active")
    (data $d "passive")
    (@custom "stockade.tasks" "{\"abi\":1,\"kind\":\"task\",\"name\":\"f\",\"export\":\"f\"}"))"#;

/// That what was made of `bytes` is an artefact, or a refusal that blames the module.
#[track_caller]
fn assert_taken_or_blamed(step: CompileStep, bytes: &[u8], what: impl std::fmt::Display) {
    match compile(step, &Limits::default(), bytes, None) {
        Ok(_) => {}
        Err(refusal) => {
            assert_ne!(refusal.kind, RefusalKind::Internal, "{what}: {refusal}");
            assert!(refusal.message.len() < 5000, "{what}");
        }
    }
}

#[test]
fn a_module_with_every_section_may_be_cut_and_flipped_anywhere() {
    let good = wat::parse_str(EVERY_SECTION).unwrap();
    assert!(compile(CompileStep::Compile, &Limits::default(), &good, None).is_ok());
    for length in 0..good.len() {
        assert_taken_or_blamed(
            CompileStep::Compile,
            &good[..length],
            format_args!("cut at {length}"),
        );
    }
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_taken_or_blamed(CompileStep::Compile, &bad, format_args!("bit {bit}"));
    }
    for byte in 0..good.len() {
        for value in [0x00, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[byte] = value;
            let what = format_args!("byte {byte} as {value:#x}");
            assert_taken_or_blamed(CompileStep::Describe, &bad, what);
        }
    }
}

/// Functions of many kinds, with lines of source, a memory with an image, and what an initializer needs.
fn many_functions() -> String {
    let function = |number: u32| {
        let next = (number + 1) % 300;
        format!(
            r#"(func $f{number} (export "f{number}") (param i32) (result i32)
                (if (i32.gt_u (local.get 0) (i32.const {number}))
                    (then (return (call $f{next} (i32.sub (local.get 0) (i32.const 1))))))
                (call_indirect (type $t) (local.get 0) (i32.rem_u (local.get 0) (i32.const 300)))
                (i32.trunc_sat_f64_s (f64.mul (f64.const {number}.5) (f64.convert_i32_u (local.get 0))))
                i32.add (i32.store offset={number} (i32.const 64) (local.get 0)))"#
        )
    };
    let (names, functions): (String, String) =
        (0..300).map(|number| (format!("$f{number} "), function(number))).unzip();
    format!(
        r#"(module (type $t (func (param i32) (result i32)))
            (memory (export "memory") 2) (global (export "g") (mut i32) (i32.const 7))
            (table 300 funcref) (elem (i32.const 0) func {names})
            (data (i32.const 70000) "an image") {functions})"#
    )
}

#[test]
fn an_artefact_is_the_same_byte_for_byte_whatever_threads_compile_it() {
    let source = many_functions();
    let limits = Limits::default();
    let [alone, two, five] = [1, 2, 5].map(Threads::start);
    for (step, exposed, limits) in [
        (CompileStep::Compile, false, limits.clone()),
        (CompileStep::Compile, true, limits.clone()),
        (CompileStep::Compile, false, limits.clone().deterministic(1).interruptible(true)),
        (CompileStep::Instrument, false, limits.clone()),
    ] {
        let request = CompileRequest { exposed, ..request(step.clone(), &limits) };
        let artefact =
            |threads: &Threads| compiled(&request, source.as_bytes(), threads).unwrap().artefact;
        let expected = artefact(&alone);
        assert!(expected.len() > 50_000, "{}", expected.len());
        for threads in [&two, &five, &five] {
            assert!(artefact(threads) == expected, "{step:?} exposed: {exposed}");
        }
    }
}

#[test]
fn a_deeply_nested_function_has_room_on_the_stack_of_a_thread() {
    let nested = format!("{}{}", "(block ".repeat(20_000), ")".repeat(20_000));
    let source = format!("(module (func {nested}) (func {nested}))");
    let request = request(CompileStep::Compile, &Limits::default());
    let binary = std::thread::Builder::new().stack_size(64 << 20);
    let binary = binary.spawn(move || wat::parse_str(source).unwrap()).unwrap().join().unwrap();
    assert!(compiled(&request, &binary, &Threads::start(2)).is_ok());
}

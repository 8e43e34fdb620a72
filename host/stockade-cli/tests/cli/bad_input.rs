//! Every kind of bad input ends with its own exit code, its cause, and what to do about it.

use serde_json::json;

use crate::args;
use crate::support::{Folder, example, module, stockade};

const SCALARS: &str = r#"(module
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "byte") (param f32) (result f32) (local.get 0))
  (func (export "trap") (unreachable))
  (func (export "deep") (call 3))
  (func (export "loop") (loop $again (br $again))))"#;

/// A task that fails as `$how` says: an error's text, a panic's record, and what it returns.
const FAILING: &str = r#"(module
  (import "stockade" "error_write" (func $error (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "out of \1b[31mpaper")
  (data (i32.const 64) "{\"message\":\"index 9\",\"location\":\"src/lib.rs:4:2\",\"panic\":true}")
  (func (export "errs") (result i32) (call $error (i32.const 0) (i32.const 17)) (i32.const 1))
  (func (export "panics") (result i32)
    (call $error (i32.const 64) (i32.const 62)) (unreachable)))"#;

#[test]
fn a_number_that_no_f32_holds_is_refused_wherever_it_stands() {
    // Takes everything, so that nothing but the command refuses a number.
    let functions = [
        ("one", json!([{"name": "x", "type": "f32"}])),
        ("many", json!([{"name": "x", "type": "Vec<f32>"}])),
        ("two", json!([{"name": "x", "type": "f32"}, {"name": "y", "type": "Option<f64>"}])),
    ];
    let records = functions.map(|(name, params)| {
        let record = json!({
            "abi": 1, "kind": "task", "name": name, "export": "f", "params": params, "result": "bool",
        });
        format!("{}\\0a", record.to_string().replace('"', "\\\""))
    });
    let records = records.concat();
    let (folder, guest) = module(&format!(
        r#"(module
          (import "stockade" "input_len" (func (result i32)))
          (import "stockade" "output_write" (func $write (param i32 i32)))
          (@custom "stockade.tasks" "{records}")
          (memory (export "memory") 1)
          (data (i32.const 0) "true")
          (func (export "f") (result i32)
            (call $write (i32.const 0) (i32.const 4)) (i32.const 0)))"#
    ));
    let run = |words: &[&str]| {
        stockade(args!["run", guest].into_iter().chain(words.iter().map(Into::into))).end()
    };
    let refused = ["1e39 does not fit an f32", "from -3.4028235e38 to 3.4028235e38"];
    run(&["one", "1e38"]).gives("true\n");
    run(&["two", "-1e38", "1e39"]).gives("true\n");
    run(&["one", "1e39"]).fails(64, &["argument 1: 1e39", refused[1]]);
    run(&["two", "--arg", "x=-1e39"]).fails(64, &["argument `x`: -1e39", refused[1]]);
    run(&["many", "[1, 1e39]"]).fails(64, &refused);
    stockade(args!["bench", guest, "one", "1e39"]).end().fails(64, &refused);

    let file = folder.file("number.json", "1e39");
    for (options, input) in [
        (args!["one"].to_vec(), "1\n1e39\n"),
        (args!["two", "--args"].to_vec(), "[1, 1e39]\n[1e39]\n"),
        (args!["two", "--args"].to_vec(), "[1]\n{\"kwargs\": {\"x\": 1e39}}\n"),
        (args!["two", "--input", "csv"].to_vec(), "x,y\n1,1e39\n1e39,1\n"),
        (args!["one", "--files", file].to_vec(), ""),
    ] {
        let of_files = input.is_empty();
        let ended = stockade(args!["map", guest].into_iter().chain(options)).input(input).end();
        assert_eq!(ended.code, Some(71), "{input}: {}", ended.stderr);
        let stdout = ended.stdout();
        let records: Vec<_> = stdout.lines().collect();
        assert_eq!(records.len(), if of_files { 1 } else { 2 }, "{stdout}");
        assert!(of_files || records[0].ends_with("\"result\":true}"), "{stdout}");
        assert!(records.last().unwrap().contains(refused[0]), "{stdout}");
    }
}

#[test]
fn a_file_that_is_missing() {
    let folder = Folder::new();
    let missing = folder.path().join("none.wasm");
    for command in ["run", "inspect"] {
        let ended = stockade(args![command, missing]).end();
        ended.fails(66, &["error: ", "none.wasm", "No such file", "help: check the path"]);
    }
    stockade(args!["map", missing, "f"]).end().fails(66, &["none.wasm", "No such file"]);
    stockade(args!["run", folder.path()]).end().fails(66, &["help: name the .wasm file"]);
}

#[test]
fn a_file_that_is_not_wasm() {
    let folder = Folder::new();
    for (name, contents) in [("text.wasm", "to be or not to be"), ("empty.wasm", "")] {
        let file = folder.file(name, contents);
        let ended = stockade(args!["run", file, "f"]).end();
        ended.fails(65, &["error: ", "is refused", "--target wasm32-wasip1"]);
    }
    let broken = folder.file("broken.wat", "(module (func (export \"f\") i32.add))");
    stockade(args!["inspect", broken]).end().fails(65, &["is refused"]);
}

#[test]
fn a_module_that_is_cut_off() {
    let whole = std::fs::read(example("wordcount")).unwrap();
    let folder = Folder::new();
    for bytes in [9, whole.len() / 2, whole.len() - 1] {
        let file = folder.file("cut.wasm", &whole[..bytes]);
        let ended = stockade(args!["run", file, "word_count", "x"]).end();
        ended.fails(65, &["is refused", "help: "]);
    }
}

#[test]
fn an_import_that_nobody_provides() {
    let (_folder, guest) = module(r#"(module (import "env" "system" (func (param i32))))"#);
    let ended = stockade(args!["run", guest, "f"]).end();
    ended.fails(65, &["imports `env.system`", "wasi_snapshot_preview1"]);
}

#[test]
fn all_imports_that_nobody_provides_with_the_option_that_runs_the_module_all_the_same() {
    let (_folder, guest) = module(
        r#"(module
            (import "a" "b" (func $b (result i32)))
            (import "env" "emscripten_notify_memory_growth" (func (param i32)))
            (func (export "_start"))
            (func (export "answer") (result i32) (i32.const 42))
            (func (export "ask") (result i32) (call $b)))"#,
    );
    let ended = stockade(args!["run", guest]).end();
    ended.fails(65, &["`a.b`", "`env.emscripten_notify_memory_growth`", "--unknown-imports trap"]);
    assert!(!ended.stderr.contains("cargo build"), "{}", ended.stderr);
    let run = |how: &str, function: &str| {
        stockade(args!["run", guest, "--unknown-imports", how, function]).end()
    };
    run("trap", "_start").gives("");
    run("trap", "answer").gives("42\n");
    run("trap", "ask").fails(67, &["trapped", "`a.b`", "not provided"]);
    run("default", "ask").gives("0\n");
    run("refuse", "answer").fails(65, &["`a.b`"]);
    let shown = stockade(args!["inspect", guest, "--unknown-imports", "trap"]).end();
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(shown.stdout().contains("a.b, env.emscripten_notify_memory_growth"));
}

#[test]
fn a_function_that_is_not_there() {
    let (_folder, guest) = module(SCALARS);
    let ended = stockade(args!["run", guest, "ad", "1", "2"]).end();
    ended.fails(64, &["no function `ad`", "did you mean `add`?", "stockade inspect"]);

    let ended = stockade(args!["map", guest, "ad"]).end();
    ended.fails(64, &["did you mean `add`?"]);

    let ended = stockade(args!["run", guest]).end();
    ended.fails(2, &["which function?", "add(i32, i32) -> i32"]);
}

#[test]
fn arguments_that_do_not_fit() {
    let (_folder, guest) = module(SCALARS);
    let add = |args: &[&str]| {
        let all = args!["run", guest, "add"].into_iter().chain(args.iter().map(Into::into));
        stockade(all).end()
    };
    add(&["1"]).fails(64, &["2 arguments, got 1", "add(i32, i32) -> i32"]);
    add(&["1", "2", "3"]).fails(64, &["2 arguments, got 3"]);
    add(&["1", "\"two\""]).fails(64, &["argument 2 is text"]);
    add(&["1", "2.5"]).fails(64, &["argument 2", "2.5"]);
    add(&["1", "4294967296"]).fails(64, &["4294967296 does not fit an i32"]);
    add(&["1", "--arg", "b=2"]).fails(64, &["`b`"]);
    add(&["-1", "4294967295"]).gives("-2\n");
    stockade(args!["run", guest, "byte", "1e300"])
        .end()
        .fails(64, &["1e300 does not fit an f32", "3.4028235e38"]);

    let guest = example("wordcount");
    let top = |args: &[&str]| {
        let all = args!["run", guest, "top_words"].into_iter().chain(args.iter().map(Into::into));
        stockade(all).end()
    };
    top(&["to be"]).fails(64, &["`limit` is missing", "top_words(text: String, limit: usize)"]);
    top(&["to be", "1", "--arg", "limt=2"]).fails(64, &["no parameter `limt`"]);
    top(&["to be", "1", "--arg", "limit=2"]).fails(64, &["by position and by name"]);
    top(&["to be", "-1"]).fails(64, &["refused its arguments", "stockade inspect"]);
    top(&["to be", "\"one\""]).fails(64, &["refused its arguments"]);
}

#[test]
fn json_that_does_not_parse() {
    let (folder, guest) = module(SCALARS);
    let ended = stockade(args!["run", guest, "add", "1", "[2,, 3]"]).end();
    ended.fails(64, &["argument 2 is not JSON", "  [2,, 3]\n     ^", "single quotes"]);

    let ended = stockade(args!["run", guest, "add", "one", "2"]).end();
    ended.fails(64, &["argument 1 is not JSON", "'\"one\"'"]);

    let file = folder.file("two.json", "\n{\"x\":\n  nul}");
    let given = format!("@{}", file.display());
    let ended = stockade(args!["run", guest, "add", "1", given]).end();
    ended.fails(64, &["two.json", "line 3", "  nul}"]);

    let ended = stockade(args!["run", guest, "add", "1", "@none.json"]).end();
    ended.fails(66, &["cannot read the file none.json"]);
}

#[test]
fn a_guest_that_traps() {
    let (_folder, guest) = module(SCALARS);
    stockade(args!["run", guest, "trap"]).end().fails(67, &["error: the guest trapped"]);
    let ended = stockade(args!["run", guest, "deep"]).end();
    ended.fails(67, &["stack", "in: the guest, innermost function first"]);
}

#[test]
fn a_guest_that_fails_or_panics_in_its_own_words() {
    let (_folder, guest) = module(FAILING);
    let ended = stockade(args!["run", guest, "errs"]).end();
    ended.fails(67, &["error: the task failed: out of \\u{1b}[31mpaper"]);
    assert!(!ended.stderr.contains('\u{1b}'), "{}", ended.stderr);

    let ended = stockade(args!["run", guest, "panics"]).end();
    ended.fails(67, &["panicked: index 9 (at src/lib.rs:4:2)"]);

    let ended = stockade(args!["run", example("wordcount"), "words_in_line", "..."]).end();
    ended.fails(67, &["error: the task failed: no words in \"...\""]);
}

#[test]
fn a_guest_that_loops() {
    let (_folder, guest) = module(SCALARS);
    let limited = |option: &[&str]| {
        let all = args!["run", guest, "loop"].into_iter().chain(option.iter().map(Into::into));
        stockade(all).end()
    };
    limited(&["--wall-time", "300ms"])
        .fails(68, &["wall time", "--wall-time 3s", "--interruptible"]);
    let ended = limited(&["--wall-time", "300ms", "--interruptible"]);
    ended.fails(68, &["in: the guest", "--wall-time 3s"]);
    limited(&["--fuel", "10000"]).fails(68, &["fuel of 10000", "--fuel 100000"]);
}

#[test]
fn a_guest_that_allocates_without_end() {
    let (_folder, guest) = module(
        r#"(module (memory 1) (func (export "grow")
          (loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
          (unreachable)))"#,
    );
    let ended = stockade(args!["run", guest, "grow", "--memory", "8MiB"]).end();
    ended.fails(68, &["bytes of memory", "8388608", "--memory 16MiB"]);

    let (_folder, guest) = module(r#"(module (memory 200) (func (export "f")))"#);
    let ended = stockade(args!["run", guest, "f", "--memory", "1MiB"]).end();
    ended.fails(65, &["memory", "`--memory`"]);
}

#[test]
fn a_guest_that_floods() {
    let (_folder, guest) = module(
        r#"(module
          (import "stockade" "emit" (func $emit (param i32 i32)))
          (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 2)
          (data (i32.const 0) "\10\00\00\00\00\80\00\00")
          (func (export "print") (param i32) (result i32)
            (memory.fill (i32.const 16) (i32.const 120) (i32.const 32768))
            (loop $again
              (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
              (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
            (i32.const 7))
          (func (export "emit") (param i32)
            (loop $again (call $emit (i32.const 16) (i32.const 32768)) (br $again))))"#,
    );
    let ended = stockade(args!["run", guest, "print", "1000", "--stdio-limit", "1KiB"]).end();
    ended.gives("7\n");
    assert!(ended.stderr.contains("31.2 MiB more, dropped; see --stdio-limit"), "{}", ended.stderr);

    let ended = stockade(args!["run", guest, "emit", "1", "--output-limit", "1MiB"]).end();
    ended.fails(68, &["output exceeds 1048576 bytes", "--output-limit 2MiB"]);
}

#[test]
fn options_that_make_no_sense() {
    let (_folder, guest) = module(SCALARS);
    let with = |option: &str, value: &str| {
        stockade(args!["run", guest, "add", "1", "2", option, value]).end()
    };
    with("--wall-time", "2").fails(2, &["--wall-time", "500ms, 2s"]);
    with("--memory", "much").fails(2, &["--memory", "64MiB"]);
    with("--memory", "1TB").fails(2, &["--memory"]);
    with("--memory", "5GiB").fails(2, &["`--memory` is 5368709120", "it may be"]);
    with("--grant-env", "STOCKADE_NOT_SET").fails(2, &["it is not set here"]);
    with("--grant-dir", "no/such/folder").fails(66, &["cannot grant the directory no/such/folder"]);
    with("--init-arg", "x=1").fails(64, &["declares no initializer", "--init NAME"]);
    with("--init", "nothing").fails(64, &["initializer", "no function `nothing`"]);
}

/// Says on every way there is what would be lines of this command's own, and clears the screen.
const FORGER: &str = r#"(module
  (import "stockade" "log" (func $log (param i32 i32 i32)))
  (import "stockade" "error_write" (func $error (param i32 i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\40\00\00\00\1e\00\00\00")
  (data (i32.const 64) "a\r\nerror: b\nhelp: c\1b[2J\00\c2\9bm\ff")
  (func (export "forge") (result i32)
    (call $log (i32.const 1) (i32.const 64) (i32.const 30))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
    (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 16)))
    (call $error (i32.const 64) (i32.const 30))
    (i32.const 1)))"#;

#[test]
fn a_guest_that_forges_lines() {
    let (_folder, guest) = module(FORGER);
    let ended = stockade(args!["run", guest, "forge"]).end();
    ended.fails(67, &["error: the task failed: a\\r\n  error: b\n  help: c\\u{1b}[2J"]);
    for line in ended.stderr.lines() {
        let own = ["error: the task failed: a", "stdout | ", "stderr | ", "log error | ", "  "];
        assert!(own.iter().any(|own| line.starts_with(own)), "{line:?}");
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    for way in ["stdout", "stderr", "log error"] {
        let shown = format!("{way} | help: c\\u{{1b}}[2J\\u{{0}}\\u{{9b}}m");
        assert!(ended.stderr.contains(&shown), "{way}: {}", ended.stderr);
    }
}

#[test]
fn a_limit_that_a_module_reaches_is_told_with_its_own_option() {
    let (_folder, guest) = module("(module (memory 2) (table 20 funcref) (func (export \"f\")))");
    let run = |option: &str, value: &str| stockade(args!["run", guest, option, value, "f"]).end();
    for (option, too_little, enough) in [
        ("--memory", "64KiB", "128KiB"),
        ("--table-elements", "19", "20"),
        ("--module-size", "10", "1KiB"),
        ("--compiled-size", "1KiB", "1MiB"),
    ] {
        run(option, too_little).fails(65, &[&format!("`{option}` raises")]);
        run(option, enough).gives("null\n");
    }
    run("--compile-memory", "1KiB").fails(2, &["`--compile-memory` is 1024"]);
    run("--compile-time", "none").fails(2, &["--compile-time"]);
    run("--compile-time", "10s").gives("null\n");
    for threads in ["1", "3", "64"] {
        run("--compile-threads", threads).gives("null\n");
    }
    for threads in ["0", "65", "all", "99999999999999999999"] {
        run("--compile-threads", threads).fails(2, &["--compile-threads"]);
    }
}

#[test]
fn a_mistake_is_told_before_a_large_module_is_compiled() {
    // Its one function is valid, and no compiler is through with it in a minute of one core.
    let function = |n: usize| {
        let body = "(local.set 0 (i64.mul (local.get 0) (i64.const 3)))".repeat(n);
        format!("(module (func (export \"f\") (param i64) (result i64) {body} (local.get 0)))")
    };
    let folder = Folder::new();
    let guest = folder.file("large.wat", function(200_000));
    let started = |more: &[&str]| {
        let run = args!["run", guest, "f"].into_iter().chain(more.iter().map(Into::into));
        stockade(run).end()
    };
    started(&[]).fails(64, &["it takes 1 argument, got 0"]);
    started(&["1", "2"]).fails(64, &["it takes 1 argument, got 2"]);
    started(&["x"]).fails(64, &["argument 1 is not JSON"]);
    started(&["@none.json"]).fails(66, &["cannot read the file none.json"]);
    started(&["1", "--init-arg", "@none"]).fails(66, &["cannot read the file none"]);
    started(&["1", "--grant-dir", "none"]).fails(66, &["cannot grant the directory none"]);
    started(&["1", "--grant-dir", ".::/a", "--grant-dir", "..::/a"])
        .fails(2, &["both granted as /a"]);
    started(&["1", "--grant-env", "A=1", "--grant-env", "A=1"]).fails(2, &["`A` is granted twice"]);
    stockade(args!["run", guest, "g"]).end().fails(64, &["no function `g`"]);
    stockade(args!["map", guest, "g"]).end().fails(64, &["no function `g`"]);
    stockade(args!["run", guest]).end().fails(2, &["which function?", "f(i64) -> i64"]);
    stockade(args!["run", guest, "--entry", "g"]).end().fails(64, &["no function `g`"]);
    stockade(args!["map", guest, "--", "{}"]).end().fails(64, &["the module is not a program"]);
    stockade(args!["map", guest, "--entry", "f", "--", "{}"])
        .end()
        .fails(64, &["not a program's entry"]);
    stockade(args!["map", guest, "f", "--args", "--input", "text"]).end().fails(2, &["--args"]);
    let table = folder.file("t.csv", "a,b\n1,2\n");
    stockade(args!["map", guest, "f", "--input", "csv", table])
        .end()
        .fails(64, &["the header has 2 columns, and the function takes 1 number"]);
}

#[test]
fn words_say_what_is_so() {
    let (folder, guest) = module(SCALARS);
    stockade(args!["run", guest, "loop", "--fuel", "0"]).end().fails(68, &["--fuel 1000000"]);
    let deep = stockade(args!["run", guest, "deep"]).end();
    deep.fails(67, &["31 more of the same", "truncated: only the innermost 32 calls are kept"]);
    let number = folder.file("n.wat", r#"(module (func (export "n") (result i32) (i32.const 1)))"#);
    stockade(args!["run", number, "n", "--init", "n"])
        .end()
        .fails(64, &["an initializer is a task or takes and returns nothing"]);
    let upper = folder.file("T.WAT", SCALARS);
    stockade(args!["run", upper, "add", "1", "2"]).end().gives("3\n");
    let misspelt =
        stockade(args!["run", guest, "add", "1", "2"]).env("STOCKADE_MEMMORY", "1").end();
    misspelt.gives("3\n");
    let hint = "STOCKADE_MEMMORY is not a setting, and is ignored; did you mean STOCKADE_MEMORY?";
    assert!(misspelt.stderr.contains(hint), "{}", misspelt.stderr);
}

#[test]
fn hints_name_only_what_can_help() {
    let (_folder, guest) = module(SCALARS);
    let add = |text: &str| stockade(args!["run", guest, "add", text, "1"]).end();
    for text in ["0x10", "+5", "007", ".5", "NaN", "inf"] {
        let refused = add(text);
        refused
            .fails(64, &["argument 1 is not JSON", "help: a number is written in decimal digits"]);
        assert!(!refused.stderr.contains("quote"), "{}", refused.stderr);
    }
    let top = |limit: &str| {
        stockade(args!["run", example("wordcount"), "top_words", "to be", limit]).end()
    };
    for text in ["ten", ""] {
        let refused = top(text);
        refused.fails(64, &["argument 2 is not JSON", "help: it takes a number"]);
        assert!(!refused.stderr.contains("both kinds of quotes"), "{}", refused.stderr);
    }
    let folder = Folder::new();
    let refused = top(&format!("@{}", folder.file("limit", "1\n2\n").display()));
    refused.fails(64, &["is not JSON", "help: the file holds one JSON value"]);
    assert!(!refused.stderr.contains("quote"), "{}", refused.stderr);
    top("@").fails(66, &["@ stands before a file's name"]);

    // What is asked for already, and what stands in for functions alone.
    let import = |kind: &str, more: &[&str]| {
        let (_folder, guest) =
            module(&format!(r#"(module (import "env" "x" {kind}) (func (export "f")))"#));
        let run = args!["run", guest, "f"].into_iter().chain(more.iter().map(Into::into));
        stockade(run).end()
    };
    import("(func)", &[]).fails(65, &["`env.x`", "--unknown-imports trap"]);
    for refused in [
        import("(memory 1)", &[]),
        import("(table 1 funcref)", &[]),
        import("(global i32)", &[]),
        import("(memory 1)", &["--unknown-imports", "trap"]),
        import("(func (result externref))", &["--unknown-imports", "default"]),
    ] {
        if refused.code != Some(0) {
            refused.fails(65, &["`env.x`"]);
            assert!(!refused.stderr.contains("--unknown-imports"), "{}", refused.stderr);
        }
    }

    // A program's entry without a name is seen, and is like no other name.
    let (_folder, program) = module(r#"(module (func (export "")) (func (export "go")))"#);
    let refused = stockade(args!["run", program, "--entry", "x"]).end();
    refused.fails(64, &["no function `x`; it has `\"\"`, `go`"]);
    let refused = stockade(args!["map", program, "--program", "--entry", "x"]).end();
    refused.fails(64, &["no function `x`"]);
    let told = refused.stderr.matches("stockade inspect").count();
    assert_eq!(told, 1, "{}", refused.stderr);

    stockade(args!["run", guest, "add", "1", "2", "--grant-env", ""])
        .end()
        .fails(2, &["write NAME or NAME=VALUE"]);
    stockade(args!["new", "."]).end().fails(2, &["it ends in no name"]);
}

//! Maps over programs: what an item is to one, what its streams and its exit code come to.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::args;
use crate::support::{Ended, Folder, example, module, stockade};

/// Writes its arguments, each with a | behind it, and then its stdin to stdout. An argument that
/// begins with ! does more: !e3 exits with 3, !t traps, !s writes to stderr, !l never ends, !b writes
/// a byte that is not text, !h writes 20 MB, !H as much to stderr.
const ECHO: &str = r#"(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 64)
  (data (i32.const 100) "|")
  (data (i32.const 110) "loud\0a\ff")
  (global $buffer i32 (i32.const 0x200000))
  (func $put (param $stream i32) (param $at i32) (param $length i32)
    (loop $more
      (if (local.get $length) (then
        (i32.store (i32.const 0) (local.get $at))
        (i32.store (i32.const 4) (local.get $length))
        (drop (call $write (local.get $stream) (i32.const 0) (i32.const 1) (i32.const 8)))
        (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
        (local.set $length (i32.sub (local.get $length) (i32.load (i32.const 8))))
        (br $more)))))
  (func $flood (param $stream i32)
    (local $left i32)
    (local.set $left (i32.const 320))
    (loop $more
      (call $put (local.get $stream) (global.get $buffer) (i32.const 65536))
      (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))
  (func $act (param $what i32) (param $how i32)
    (if (i32.eq (local.get $what) (i32.const 101))
      (then (call $exit (i32.sub (local.get $how) (i32.const 48)))))
    (if (i32.eq (local.get $what) (i32.const 116)) (then unreachable))
    (if (i32.eq (local.get $what) (i32.const 115))
      (then (call $put (i32.const 2) (i32.const 110) (i32.const 5))))
    (if (i32.eq (local.get $what) (i32.const 108)) (then (loop $again (br $again))))
    (if (i32.eq (local.get $what) (i32.const 98))
      (then (call $put (i32.const 1) (i32.const 115) (i32.const 1))))
    (if (i32.eq (local.get $what) (i32.const 104)) (then (call $flood (i32.const 1))))
    (if (i32.eq (local.get $what) (i32.const 72)) (then (call $flood (i32.const 2)))))
  (func $length (param $at i32) (result i32)
    (local $end i32)
    (local.set $end (local.get $at))
    (block $done
      (loop $more
        (br_if $done (i32.eqz (i32.load8_u (local.get $end))))
        (local.set $end (i32.add (local.get $end) (i32.const 1)))
        (br $more)))
    (i32.sub (local.get $end) (local.get $at)))
  (func (export "_start")
    (local $index i32) (local $arg i32)
    (drop (call $sizes (i32.const 16) (i32.const 20)))
    (drop (call $args (i32.const 1024) (i32.const 65536)))
    (local.set $index (i32.const 1))
    (block $done
      (loop $more
        (br_if $done (i32.ge_u (local.get $index) (i32.load (i32.const 16))))
        (local.set $arg
          (i32.load offset=1024 (i32.mul (local.get $index) (i32.const 4))))
        (call $put (i32.const 1) (local.get $arg) (call $length (local.get $arg)))
        (call $put (i32.const 1) (i32.const 100) (i32.const 1))
        (if (i32.eq (i32.load8_u (local.get $arg)) (i32.const 33))
          (then (call $act
            (i32.load8_u offset=1 (local.get $arg)) (i32.load8_u offset=2 (local.get $arg)))))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $more)))
    (block $ended
      (loop $more
        (i32.store (i32.const 0) (global.get $buffer))
        (i32.store (i32.const 4) (i32.const 65536))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br_if $ended (i32.eqz (i32.load (i32.const 8))))
        (call $put (i32.const 1) (global.get $buffer) (i32.load (i32.const 8)))
        (br $more)))))"#;

struct Program {
    folder: Folder,
    path: PathBuf,
}

impl Program {
    fn new() -> Self {
        let (folder, path) = module(ECHO);
        Self { folder, path }
    }

    /// Maps over `input` with these words behind the module.
    fn map(&self, words: &[&str], input: impl AsRef<[u8]>) -> Ended {
        let words = words.iter().map(OsString::from);
        stockade(args!["map", self.path].into_iter().chain(words)).input(input).end()
    }
}

fn records(ended: &Ended) -> Vec<Value> {
    ended.stdout().lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

/// The results of a map that has nothing but those.
#[track_caller]
fn results(ended: &Ended) -> Vec<Value> {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    records(ended).into_iter().map(|record| record["result"].clone()).collect()
}

#[test]
fn an_item_is_an_argument_where_braces_stand_in_argv_and_else_stdin() {
    let program = Program::new();
    let ended = program.map(&["--", "a", "x={}{}", "{}"], "one\r\ntwo words\n\n\"3\"");
    ended.gives(concat!(
        "{\"line\":1,\"result\":\"a|x=oneone|one|\",\"exit_code\":0}\n",
        "{\"line\":2,\"result\":\"a|x=two wordstwo words|two words|\",\"exit_code\":0}\n",
        "{\"line\":3,\"result\":\"a|x=||\",\"exit_code\":0}\n",
        "{\"line\":4,\"result\":\"a|x=\\\"3\\\"\\\"3\\\"|\\\"3\\\"|\",\"exit_code\":0}\n",
    ));
    let input = "one\n\ntwo";
    assert_eq!(results(&program.map(&["--", "a"], input)), ["a|one", "a|", "a|two"]);
    assert_eq!(results(&program.map(&["--program"], input)), ["one", "", "two"]);
    assert_eq!(results(&program.map(&["_start"], input)), ["one", "", "two"]);
    assert_eq!(results(&program.map(&[], input)), ["one", "", "two"]);
    // Said otherwise than by the look of ARGV.
    assert_eq!(results(&program.map(&["--item", "arg", "--", "a"], "b")), ["a|b|"]);
    assert_eq!(results(&program.map(&["--item", "stdin", "--", "{}"], "b")), ["{}|b"]);
    assert_eq!(results(&program.map(&["--placeholder", "%", "--", "{}%"], "b")), ["{}b|"]);
}

#[test]
fn files_stand_behind_the_module_and_every_run_may_have_the_same_stdin() {
    let program = Program::new();
    let items = program.folder.file("items", "a\nb\n").display().to_string();
    let data = program.folder.file("data", "of all").display().to_string();
    for words in [&["--program", &items][..], &[&items, "--program"], &["_start", &items]] {
        assert_eq!(results(&program.map(words, "")), ["a", "b"], "{words:?}");
    }
    let with = ["--stdin", &data, &items, "--", "{}"];
    assert_eq!(results(&program.map(&with, "")), ["a|of all", "b|of all"]);
    assert_eq!(results(&program.map(&["--stdin", "-", &items, "--", "{}"], "x")), ["a|x", "b|x"]);
    // Without, it is at its end.
    assert_eq!(results(&program.map(&[&items, "--", "{}"], "nobody's")), ["a|", "b|"]);
}

#[test]
fn a_file_is_stdin_an_argument_or_a_path_that_the_program_finds() {
    let program = Program::new();
    let folder = program.folder.path().display().to_string();
    let one = program.folder.file("one", b"\xff\0\n").display().to_string();
    let two = program.folder.file("two", "2\n2").display().to_string();
    let missing = program.folder.path().join("missing").display().to_string();

    let ended = program.map(&["--stdout", "bytes", "--files", "--program", &one, &two], "");
    assert_eq!(results(&ended), ["/wAK", "Mgoy"]);
    let ended = program.map(&["--files", "--item", "arg", &one, &two, "--", "{}"], "");
    ended.fails(71, &["2 files: 1 ok, 1 failed (1 bad-file)"]);
    assert_eq!(records(&ended)[1]["result"], "2\n2|");

    let grant = format!("{folder}::/data");
    let all = ["--grant-dir", &grant, "--files", &one, &missing, &folder, "--", "-f", "{}"];
    // Folders are refused as in any map over files.
    program.map(&all, "").fails(66, &["is a directory"]);
    let ended = program.map(&["--grant-dir", &grant, "--files", &one, &missing, "--", "{}"], "");
    ended.fails(71, &["2 files: 1 ok, 1 failed (1 bad-file)"]);
    assert_eq!(records(&ended)[0], json!({"file": one, "result": "/data/one|", "exit_code": 0}));

    // Lines may be the paths, as of `find`.
    let outside = Folder::new();
    let other = outside.file("other", "").display().to_string();
    let lines = format!("{one}\n{missing}\n{folder}\n{other}\n{two}\n");
    let ended = program.map(&["--item", "file", "--grant-dir", &grant, "--", "{}"], lines);
    ended.fails(71, &["5 lines: 2 ok, 3 failed (3 bad-line)"]);
    let told: Vec<_> = records(&ended);
    assert_eq!(
        (&told[0]["result"], &told[4]["result"]),
        (&json!("/data/one|"), &json!("/data/two|"))
    );
    for (index, words) in [(1, "cannot find the file"), (2, "directory"), (3, "--grant-dir")] {
        let message = told[index]["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
    }
    let real = stockade(args![
        "map",
        example("linecount"),
        "--files",
        "--grant-dir",
        folder,
        two,
        "--",
        "{}"
    ]);
    assert_eq!(results(&real.end()), [format!("2 {two}\n")]);
}

#[test]
fn an_exit_code_is_an_error_of_its_item_unless_it_is_said_to_be_none() {
    let program = Program::new();
    let input = "!e0\n!s!\n!e3\n!e2\n!t\n";
    let ended = program.map(&["--", "{}"], input);
    ended.fails(71, &["5 lines: 2 ok, 3 failed (2 exited, 1 trap)"]);
    let told = records(&ended);
    assert_eq!(told[0], json!({"line": 1, "result": "!e0|", "exit_code": 0}));
    assert_eq!(told[1], json!({"line": 2, "result": "!s!|", "exit_code": 0, "stderr": "loud\n"}));
    assert_eq!(
        told[2],
        json!({"line": 3, "error": {
            "kind": "exited", "fault": "guest", "message": "the program exited with code 3",
            "exit_code": 3, "stdout": "!e3|",
        }})
    );
    assert_eq!(
        (&told[4]["error"]["kind"], &told[4]["error"]["stdout"]),
        (&json!("trap"), &json!("!t|"))
    );

    let ended = program.map(&["--ok-codes", "3", "--", "{}"], input);
    ended.fails(71, &["5 lines: 3 ok, 2 failed (1 exited, 1 trap)"]);
    assert_eq!(records(&ended)[2], json!({"line": 3, "result": "!e3|", "exit_code": 3}));
    let ended = program.map(&["--ok-codes", "all", "--", "{}"], "!e3\n!e2\n");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = program.map(&["--ok-codes", "2,3", "--plain", "--", "{}"], "!e3\n!e2\n");
    ended.gives("\"!e3|\"\n\"!e2|\"\n");
}

#[test]
fn an_error_stops_the_map_or_is_skipped_as_for_functions() {
    let program = Program::new();
    let stop = ["--on-error", "stop", "--workers", "1", "--", "!s", "{}"];
    let ended = program.map(&stop, "a\n!e3\nb\n");
    ended.fails(67, &["line 2 failed", "the program exited with code 3", "loud", "--ok-codes 3"]);
    assert_eq!(records(&ended).len(), 1);
    let ended = program.map(&["--on-error", "skip", "--", "{}"], "a\n!e3\nb\n");
    ended.fails(71, &["3 lines: 2 ok, 1 failed (1 exited)"]);
    assert_eq!(ended.stdout().lines().count(), 2);
    let ended = program.map(&["--plain", "--", "!s", "{}"], "a\n!e3\n");
    ended.fails(
        71,
        &["line 1: stderr: loud\n", "line 2: exited: the program exited with code 3: loud\n"],
    );
    assert_eq!(ended.stdout(), "\"!s|a|\"\nnull\n");
}

#[test]
fn stdout_is_text_json_or_bytes_and_nothing_else_passes_for_it() {
    let program = Program::new();
    let as_format = |format: &str, input: &[u8]| {
        program.map(&["--input", "json", "--item", "stdin", "--stdout", format], input)
    };
    let input = b"[1, 2]\n{\"a\":12345678901234567890123}\n\"text\\u00e4\"\n";
    let ended = as_format("json", input);
    ended.fails(71, &["1 undecodable"]);
    let told = ended.stdout();
    assert!(told.contains("\"result\":[1,2],"), "{told}");
    assert!(told.contains("\"stdout\":\"textä\""), "{told}");
    assert_eq!(results(&as_format("text", b"\"te\\nxt\"\n")), ["te\nxt"]);
    assert_eq!(results(&as_format("bytes", b"\"a\"\n")), ["YQ=="]);

    let ended = program.map(&["--", "{}"], "!b\n");
    ended.fails(71, &["1 undecodable"]);
    let error = &records(&ended)[0]["error"];
    assert_eq!((&error["stdout_base64"], &error["exit_code"]), (&json!("IWJ8/w=="), &json!(0)));
    assert!(error["message"].as_str().unwrap().contains("not UTF-8 text, from its byte 4"));
    assert_eq!(results(&program.map(&["--stdout", "bytes", "--", "{}"], "!b\n")), ["IWJ8/w=="]);
}

#[test]
fn more_stdout_than_its_limit_is_an_error_and_more_stderr_is_said_to_be_cut() {
    let program = Program::new();
    let ended = program.map(&["--output-limit", "6", "--", "{}"], "12345\n123456\n!h\n!e1...\n");
    ended.fails(71, &["4 lines: 1 ok, 3 failed (1 exited, 2 output)"]);
    let told = records(&ended);
    assert_eq!(told[0]["result"], "12345|");
    let error = &told[1]["error"];
    assert_eq!((&error["kind"], &error["fault"]), (&json!("output"), &json!("limit")));
    assert_eq!((&error["stdout"], &error["stdout_dropped"]), (&json!("123456"), &json!(1)));
    // 320 times 64 KiB, and what stands before it.
    assert!(told[2]["error"]["message"].as_str().unwrap().contains("20971523 bytes"), "{told:?}");
    assert_eq!(told[3]["error"]["kind"], "exited");

    let ended = program.map(&["--", "{}"], "!h\n");
    ended.fails(71, &["1 output"]);
    let ended = program.map(&["--stdio-limit", "3", "--", "{}"], "!s\n!H\n");
    let told = records(&ended);
    assert_eq!((&told[0]["stderr"], &told[0]["stderr_dropped"]), (&json!("lou"), &json!(2)));
    assert_eq!(
        (&told[1]["stderr"], &told[1]["stderr_dropped"]),
        (&json!("\0\0\0"), &json!(20_971_517))
    );
    program.map(&["--output-limit", "17MiB", "--program"], "").fails(2, &["16.0 MiB at most"]);
}

#[test]
fn items_of_any_form_reach_the_program_as_they_are_or_are_errors() {
    let program = Program::new();
    let long = "x".repeat(2 << 20);
    let lines = format!("a\\nb\n\"a\\nb\"\n\"\\u0000\"\n\n\"\"\n[\"{{}}\"]\nx y\n\"{long}\"\n");
    let ended = program.map(&["--input", "json", "--", "{}"], &lines);
    ended.fails(71, &["7 lines: 3 ok, 4 failed (2 bad-line, 2 wrong-arguments), 1 blank"]);
    let told = records(&ended);
    assert_eq!(told[1]["result"], "a\nb|");
    assert!(told[2]["error"]["message"].as_str().unwrap().contains("NUL"), "{}", told[2]);
    assert_eq!((&told[3]["line"], &told[3]["result"]), (&json!(5), &json!("|")));
    assert_eq!(told[4]["result"], "[\"{}\"]|");
    assert!(told[6]["error"]["message"].as_str().unwrap().contains("1048576 are allowed"));

    let ended = program.map(&["--program"], format!("{long}\n\0\n"));
    assert_eq!(results(&ended), [json!(long), json!("\0")]);
    let ended = program.map(&["--program"], b"a\n\xff\nb\n");
    ended.fails(71, &["3 lines: 2 ok, 1 failed (1 bad-line)"]);
}

#[test]
fn a_program_that_never_ends_costs_its_own_item_alone() {
    let program = Program::new();
    let words = ["--wall-time", "300ms", "--workers", "1", "--chunk", "4", "--", "{}"];
    let ended = program.map(&words, "a\n!l\nb\n!t\nc\n");
    ended.fails(71, &["5 lines: 3 ok, 2 failed (1 deadline, 1 trap)"]);
    let ended = program.map(&["--fuel", "100000", "--", "{}"], "a\n!l\nb\n");
    ended.fails(71, &["3 lines: 2 ok, 1 failed (1 fuel)"]);
}

#[test]
fn results_have_files_of_their_own_with_the_bytes_of_stdout() {
    let program = Program::new();
    let output = program.folder.path().join("out").display().to_string();
    let read = |name: &str| fs::read(format!("{output}/{name}")).unwrap();
    let to_folder = ["--stdout", "bytes", "--output-dir", &output];
    let ended = program.map(&[&to_folder[..], &["--", "{}"]].concat(), "!b\n!e3\n!s\n");
    ended.fails(71, &["line 2: exited", "line 3: stderr: loud\n"]);
    assert_eq!((read("1"), read("3")), (b"!b|\xff".to_vec(), b"!s|".to_vec()));
    let error: Value = serde_json::from_slice(&read("2.error.json")).unwrap();
    assert_eq!((&error["line"], &error["error"]["exit_code"]), (&json!(2), &json!(3)));

    let one = program.folder.file("one.txt", "a\n").display().to_string();
    let two = program.folder.file("two.txt", "[1,\n2]").display().to_string();
    let files = ["--output-dir", &output, "--extension", "out", "--program", "--files", &one, &two];
    assert_eq!(program.map(&files, "").code, Some(0));
    assert_eq!((read("one.out"), read("two.out")), (b"a\n".to_vec(), b"[1,\n2]".to_vec()));
    let json = ["--stdout", "json", "--output-dir", &output, "--program", "--files", &two];
    assert_eq!(program.map(&json, "").code, Some(0));
    assert_eq!(read("two.txt.json"), b"[1,2]\n");
}

#[test]
fn a_map_of_programs_goes_on_only_as_it_was_begun() {
    let program = Program::new();
    let path = |name: &str| program.folder.path().join(name).display().to_string();
    let (output, state) = (path("output"), path("state"));
    let input = program.folder.file("input", "a\n!e3\nb\n").display().to_string();
    let kept = ["--output", &output, "--resume", &state, &input];
    let map = |more: &[&str]| program.map(&[&kept[..], more].concat(), "");
    map(&["--on-error", "stop", "--workers", "1", "--", "{}"]).fails(67, &["line 2 failed"]);
    assert_eq!(fs::read_to_string(&output).unwrap().lines().count(), 1);
    for (other, said) in [
        (&["--", "x", "{}"][..], "ARGV was {}, and is x, {}"),
        (&["--program"], "`--item` was arg, and is stdin"),
        (&["--entry", "run", "--", "{}"], "`--entry` was not given, and is run"),
        (&["--item", "stdin", "--", "{}"], "`--item` was arg, and is stdin"),
        (&["--ok-codes", "3", "--", "{}"], "`--ok-codes` was not given, and is 3"),
        (&["--stdout", "bytes", "--", "{}"], "`--stdout` was text, and is bytes"),
        (&["--placeholder", "%", "--", "{}%"], "`--placeholder` was {}, and is %"),
        (&["--stdin", &input, "--", "{}"], "`--stdin` was not given, and is"),
        (&["--stdio-limit", "1KiB", "--", "{}"], "`--stdio-limit` was 65536 bytes"),
        (&["--unknown-imports", "trap", "--", "{}"], "`--unknown-imports` was refuse"),
        (&["--features", "gc", "--", "{}"], "`--features` was"),
    ] {
        let ended = map(&[&["--on-error", "stop"], other].concat());
        ended.fails(2, &["belongs to another map", said]);
    }
    map(&["--on-error", "stop", "--stdin", "-", "--", "{}"]).fails(2, &["a second time"]);
    // What comes to the same, however it is said.
    let same = ["--on-error", "stop", "--program", "--item", "arg", "--stdout", "text", "--", "{}"];
    map(&same).fails(67, &["line 2 failed"]);
}

#[test]
fn a_library_is_mapped_from_the_entry_that_is_named() {
    let (folder, library) = module(
        r#"(module
        (global $ready (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $ready (i32.const 3)))
        (func (export "run") (result i32) (global.get $ready))
        (func (export "wide") (result i64) (i64.const 1)))"#,
    );
    let input = folder.file("items", "a\nb\n");
    let map = |words: &[&str]| {
        let words = words.iter().map(OsString::from);
        stockade(args!["map", library, input].into_iter().chain(words)).end()
    };
    let codes = |ended: &Ended| -> Vec<Value> {
        records(ended).into_iter().map(|record| record["exit_code"].clone()).collect()
    };
    let ended = map(&["--entry", "run", "--ok-codes", "3", "--", "{}"]);
    assert_eq!((ended.code, codes(&ended)), (Some(0), vec![json!(3), json!(3)]), "{ended:?}");
    map(&["--entry", "rum", "--program"]).fails(64, &["no function `rum`", "`run`"]);
    map(&["--entry", "wide", "--program"]).fails(64, &["not a program's entry"]);
    map(&["--program"]).fails(64, &["not a program", "--entry NAME"]);
    // Its recording begins there too.
    let failed = folder.path().join("failed").display().to_string();
    map(&["--entry", "run", "--record", &failed, "--", "{}"]).fails(71, &["2 failing tasks"]);
    for entry in fs::read_dir(&failed).unwrap() {
        assert_eq!(stockade(args!["replay", entry.unwrap().path()]).end().code, Some(0));
    }
}

#[test]
fn what_a_program_reads_is_not_written_over() {
    let program = Program::new();
    let path = program.folder.file("given", "kept").display().to_string();
    let named = ["is read, and would be overwritten"];
    program.map(&["--stdin", &path, "--output", &path, "--", "{}"], "a").fails(2, &named);
    // An item that names a file, which may still come.
    let texts = program.folder.path().join("texts");
    fs::create_dir(&texts).unwrap();
    fs::write(texts.join("1"), "one").unwrap();
    let (file, texts) = (texts.join("1").display().to_string(), texts.display().to_string());
    let words = ["--item", "file", "--grant-dir", &texts, "--output-dir", &texts, "--", "{}"];
    program.map(&words, &file).fails(2, &named);
    assert_eq!(fs::read_to_string(&file).unwrap(), "one");
    assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
}

#[test]
fn what_means_nothing_is_refused_before_anything_is_compiled() {
    let refused = |words: &[&str], named: &[&str]| {
        let words = words.iter().map(OsString::from);
        let ended = stockade(args!["map", "none.wasm"].into_iter().chain(words)).end();
        ended.fails(2, named);
    };
    refused(&["--input", "csv", "--program"], &["`--input csv` is for functions"]);
    refused(&["--args", "--program"], &["`--args` is for functions", "{}"]);
    refused(&["f", "--item", "arg"], &["`--item` is for programs", "--program"]);
    refused(&["f", "--ok-codes", "1"], &["`--ok-codes` is for programs"]);
    refused(&["--stdin", "x", "--program"], &["stdin is each item"]);
    refused(&["--stdin", "-", "--", "{}"], &["stdin holds the items"]);
    refused(
        &["--files", "x", "--", "{}"],
        &["no directory is granted", "--grant-dir", "--item arg"],
    );
    refused(&["--placeholder", "", "--", "{}"], &["must not be empty"]);
    refused(&["--ok-codes", "one", "--program"], &["1,2"]);
}

#[test]
fn a_module_that_is_no_program_or_a_function_that_is_none_is_told_with_the_way_out() {
    let words = example("wordcount");
    stockade(args!["map", words]).end().fails(2, &["which function?", "word_count(text: String)"]);
    stockade(args!["map", words, "--", "{}"]).end().fails(64, &["not a program", "inspect"]);
    let program = Program::new();
    program.map(&["items.txt"], "").fails(64, &["no function `items.txt`", "--program"]);
}

#[test]
fn a_program_that_fails_is_recorded_and_its_recording_ends_as_it_did() {
    let program = Program::new();
    let failed = program.folder.path().join("failed").display().to_string();
    let ended = program.map(&["--record", &failed, "--", "{}"], "a\n!e3\n!t\n");
    ended.fails(71, &["2 failing tasks recorded"]);
    for entry in fs::read_dir(&failed).unwrap() {
        let path = entry.unwrap().path();
        let code = stockade(args!["replay", path]).end().code;
        assert_ne!(code, Some(72), "{}", path.display());
    }
}

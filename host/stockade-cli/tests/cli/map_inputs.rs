//! What a map reads and where it writes: tables, files, one output for each item, and errors that
//! stop it, are passed over or reported.

use std::fs;

use serde_json::Value;

use crate::args;
use crate::support::{Folder, data, example, module, stockade};

const INVERSE: &str = r#"(module
  (func (export "inverse") (param i32) (result i32) (i32.div_s (i32.const 1000) (local.get 0)))
  (func (export "subtract") (param i32 i32) (result i32) (i32.sub (local.get 0) (local.get 1))))"#;

const COUNTDOWN: &str = r#"(module
  (func (export "f") (param i32) (result i32)
    (loop $again (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 0)))"#;

#[test]
fn a_rows_columns_are_arguments_by_name_whatever_their_order() {
    let folder = Folder::new();
    let table = "limit,text\n1,b a b\n2,\"a, b\n a\"\nx,a\n1\n";
    let file = folder.file("table.csv", table);
    let ended =
        stockade(args!["map", example("wordcount"), "top_words", "--input", "csv", file]).end();
    ended.fails(71, &["4 lines: 2 ok, 2 failed (1 bad-arguments, 1 bad-line)"]);
    let stdout = ended.stdout();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], "{\"line\":2,\"result\":[[\"b\",2]]}");
    assert_eq!(lines[1], "{\"line\":3,\"result\":[[\"a\",2],[\"b\",1]]}");
    assert!(lines[2].starts_with("{\"line\":5,\"error\":{\"kind\":\"bad-arguments\""));
    assert!(lines[3].contains("the row has 1 columns, the header 2"), "{}", lines[3]);

    let wrong = folder.file("wrong.csv", "text,limt\na,1\n");
    stockade(args!["map", example("wordcount"), "top_words", "--input", "csv", wrong])
        .end()
        .fails(64, &["`limt` is no parameter", "`text`, `limit`", "--delimiter"]);

    let (_folder, guest) = module(INVERSE);
    let semicolons = args!["map", guest, "subtract", "--input", "csv", "--delimiter", ";"];
    let ended = stockade(semicolons.into_iter().chain(args!["--plain"])).input("a;b\n5;3\n").end();
    ended.gives("2\n");
}

#[test]
fn a_row_is_one_argument_where_no_column_is_named_after_the_parameter() {
    let model = format!("model=@{}", data("classify/data/model.json").display());
    let classify = |format: &str, file: &str| {
        let file = data(file);
        let all = args!["map", example("classify"), "classify", file, "--input", format, "--plain"];
        stockade(all.into_iter().chain(args!["--init-arg", model])).end()
    };
    let rows = classify("json", "classify/data/penguins.jsonl");
    assert_eq!(rows.code, Some(0), "{}", rows.stderr);
    // The table has two penguins more, of whom nothing was measured.
    let columns = classify("csv", "classify/data/penguins.csv").stdout();
    let columns: Vec<&str> = columns.lines().filter(|line| *line != "null").collect();
    assert_eq!(columns, rows.stdout().lines().collect::<Vec<_>>());
}

#[test]
fn every_file_is_one_task_and_has_its_result_in_a_file() {
    let folder = Folder::new();
    let (cat, rocket) = (data("thumbnail/data/cat.png"), data("thumbnail/data/rocket.jpg"));
    let broken = folder.file("broken.png", "no picture");
    let missing = folder.path().join("missing.png");
    let (small, guest) = (folder.path().join("small"), example("thumbnail"));
    let map = |files: &[&std::path::PathBuf], more: &[&str]| {
        let base = args!["map", guest, "preview", "--files"].into_iter();
        let more = more.iter().map(Into::into);
        stockade(base.chain(files.iter().map(|file| file.as_os_str().into())).chain(more)).end()
    };
    let into = ["--output-dir", small.to_str().unwrap(), "--extension", "png"];
    let ended = map(&[&cat, &rocket, &broken, &missing], &into);
    ended.fails(71, &["4 files: 2 ok, 2 failed (1 bad-file, 1 error)", "missing.png: bad-file: "]);
    assert_eq!(ended.stdout(), "");
    let one = folder.path().join("one.png");
    stockade(args!["run", guest, "preview", "--bytes", rocket, "--output", one]).end().gives("");
    assert_eq!(fs::read(small.join("rocket.png")).unwrap(), fs::read(one).unwrap());
    let mut written: Vec<_> = fs::read_dir(&small)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    written.sort();
    let errors = ["broken.png.error.json", "missing.png.error.json"];
    assert_eq!(written, [errors[0], "cat.png", errors[1], "rocket.png"]);
    let error: Value = serde_json::from_slice(&fs::read(small.join(errors[0])).unwrap()).unwrap();
    assert_eq!(error["error"]["kind"], "error");

    let ended = map(&[&cat], &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let record: Value = serde_json::from_str(&ended.stdout()).unwrap();
    assert_eq!(record["file"], cat.to_str().unwrap());
    assert!(record["result"].as_str().unwrap().starts_with("iVBORw0KGgo"), "{record}");

    let twin = folder.file("cat.png", fs::read(&cat).unwrap());
    map(&[&cat, &twin], &into).fails(2, &["would both become cat.png"]);
    let own = ["--output-dir", folder.path().to_str().unwrap()];
    map(&[&twin], &own).fails(2, &["would be replaced by its own result"]);
    map(&[&folder.path().to_path_buf()], &[]).fails(66, &["is a directory", "name the files"]);
    map(&[], &[]).fails(2, &["at least one FILE"]);
}

#[test]
fn an_error_stops_the_map_is_passed_over_or_is_written() {
    let (folder, guest) = module(INVERSE);
    let output = folder.path().join("output");
    let input = "1\n10\n0\n\"x\"\n100\n";
    let map = |on_error: &str| {
        let base = args!["map", guest, "inverse", "-o", output, "--plain", "--on-error", on_error];
        let ended = stockade(base.into_iter().chain(args!["--workers", "1"])).input(input).end();
        (ended, fs::read_to_string(&output).unwrap())
    };
    let (ended, written) = map("skip");
    ended.fails(71, &["5 lines: 3 ok, 2 failed (1 trap, 1 wrong-arguments)"]);
    assert_eq!(written, "1000\n100\n10\n");

    let (ended, written) = map("report");
    ended.fails(71, &["line 3: trap: ", "line 4: wrong-arguments: "]);
    assert_eq!(written, "1000\n100\nnull\nnull\n10\n");

    let (ended, written) = map("stop");
    assert!(ended.stderr.contains("failed\n") && !ended.stderr.contains("panicked"), "{ended:?}");
    // Whichever of both errors was seen first.
    let code = if ended.stderr.contains("line 3 failed") { 67 } else { 64 };
    assert_eq!(ended.code, Some(code), "{}", ended.stderr);
    assert_eq!(written, "1000\n100\n");
}

#[test]
fn what_comes_before_the_error_that_stops_a_map_is_done() {
    let (folder, guest) = module(COUNTDOWN);
    let output = folder.path().join("output");
    // The last but one is refused as it is read. All but the first wait then, which takes long.
    let input = "300000000\n".to_owned() + &"1\n".repeat(20) + "\"x\"\n1\n";
    let map = args!["map", guest, "f", "-o", output, "--plain", "--on-error", "stop"];
    let map = map.into_iter().chain(args!["--workers", "1"]);
    stockade(map).input(&input).end().fails(64, &["line 22 failed"]);
    assert_eq!(fs::read_to_string(&output).unwrap(), "0\n".repeat(21));
}

#[test]
fn what_there_was_is_told_in_a_table_or_as_json() {
    let (_folder, guest) = module(INVERSE);
    let map =
        |option: &str| stockade(args!["map", guest, "inverse", option]).input("1\n0\n\n").end();
    let table = map("--summary").stderr;
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    assert_eq!(rows[..3], [["ok", "1"], ["failed", "1"], ["blank", "1"]], "{table}");
    let json: Value = serde_json::from_str(&map("--json").stderr).unwrap();
    assert_eq!(
        (&json["ok"], &json["errors"]["trap"], &json["blank"]),
        (&1.into(), &1.into(), &1.into())
    );
}

#[test]
fn what_is_read_is_never_written_over() {
    let (folder, guest) = module(INVERSE);
    let input = folder.file("input", "1\n");
    for (option, file) in [("--output", &input), ("--output", &guest), ("--resume", &input)] {
        stockade(args!["map", guest, "inverse", input, option, file])
            .end()
            .fails(2, &["would be written over"]);
    }
    assert_eq!(fs::read_to_string(&input).unwrap(), "1\n");
}

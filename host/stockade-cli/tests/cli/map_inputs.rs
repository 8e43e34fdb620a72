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
    assert!(lines[3].contains("the row has 1 column, the header 2"), "{}", lines[3]);

    let wrong = folder.file("wrong.csv", "text,limt\na,1\n");
    stockade(args!["map", example("wordcount"), "top_words", "--input", "csv", wrong])
        .end()
        .fails(64, &["`limt` is not a parameter", "`text`, `limit`", "--delimiter"]);

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
            .fails(2, &["would be overwritten"]);
    }
    assert_eq!(fs::read_to_string(&input).unwrap(), "1\n");
}

/// Records as pairs of their line and their result, or what is wrong with the line.
fn records(stdout: &str) -> Vec<(u64, String)> {
    let record = |line: &str| {
        let record: Value = serde_json::from_str(line).expect("a record");
        let told = match &record["error"]["message"] {
            Value::Null => {
                line[line.find("result").expect("a result") + 8..line.len() - 1].to_string()
            }
            message => message.as_str().expect("a text").to_string(),
        };
        (record["line"].as_u64().expect("a line"), told)
    };
    stdout.lines().map(record).collect()
}

fn csv(table: &str, function: &str, more: &[&str]) -> crate::support::Ended {
    let map = args!["map", example("probe"), function, "--input", "csv"];
    stockade(map.into_iter().chain(more.iter().map(Into::into))).input(table).end()
}

#[test]
fn a_cell_is_what_its_parameter_or_its_field_is() {
    let rows = "id,name\n1,123\n2,\"123\"\n3,1E5\n4,\n\"5\",00123\n6,1.10\n7,true\n8,ok\n";
    let ended = csv(rows, "same_row", &[]);
    ended.gives(&ended.stdout());
    let names: Vec<_> = records(&ended.stdout())
        .iter()
        .map(|(_, row)| serde_json::from_str::<Value>(row).unwrap()["name"].to_string())
        .collect();
    let expected = ["123", "123", "1E5", "", "00123", "1.10", "true", "ok"];
    assert_eq!(names, expected.map(|name| format!("\"{name}\"")));

    let codes = "code\n1E5\n1.10\n18446744073709551617\n\"7\"\n00123\n\"\"\n";
    let by_look = ["1E5", "1.10", "18446744073709551617", "\"7\"", "\"00123\"", "\"\""];
    let as_text = ["\"1E5\"", "\"1.10\"", "\"18446744073709551617\""];
    for (option, expected) in [(&[][..], &by_look[..3]), (&["--csv-text"], &as_text)] {
        let stdout = csv(codes, "same_text", &[option, &["--plain"]].concat()).stdout();
        let expected = expected.iter().chain(&by_look[3..]);
        let expected: String = expected.map(|code| format!("{{\"code\":{code}}}\n")).collect();
        assert_eq!(stdout, expected);
    }
    let wide = "natural,whole\n340282366920938463463374607431768211455,\n\"1\",-1\n";
    csv(wide, "same_wide", &["--plain"])
        .gives("[340282366920938463463374607431768211455,null]\n[1,-1]\n");
    let lines = args!["map", example("probe"), "same_text", "--csv-text"];
    stockade(lines).end().fails(2, &["`--csv-text` is for `--input csv`"]);
}

#[test]
fn line_ends_and_quotes_of_a_table_are_what_they_are_or_are_refused_with_their_place() {
    let (folder, guest) = module(INVERSE);
    let map = |table: &str, more: &[&str]| {
        let file = folder.file("table.csv", table);
        let map = args!["map", guest, "subtract", "--input", "csv", file];
        stockade(map.into_iter().chain(more.iter().map(Into::into))).end()
    };
    let done = |table: &str| records(&map(table, &[]).stdout());
    let row = |line, result: &str| (line, result.to_string());
    let whole = [row(2, "-1"), row(3, "-2"), row(4, "-3")];
    assert_eq!(done("a,b\r1,2\r3,5\r6,9"), whole);
    assert_eq!(done("a,b\r\n1,2\r\n3,5\r\n6,9\r\n"), whole);
    assert_eq!(done("\u{feff}a,b\n\"1\",2\n3,5\n6,9"), whole);
    let stray = done("a,b\n1,2\r3,5\n6,9\n");
    assert!(stray[0].1.contains("carriage return in column 2"), "{stray:?}");
    assert_eq!((stray[0].0, &stray[1..]), (2, &[row(3, "-3")][..]));

    let directory = folder.path().join("out");
    map("a,b\r1,2\r3,5\r6,9", &["--output-dir", directory.to_str().unwrap()]).gives("");
    assert_eq!(fs::read_dir(directory).unwrap().count(), 3);

    let open = map("a,b\n5,3\n1,\"2\n3,4\n5,6\n", &["--plain"]);
    open.fails(66, &["the quote that opens in line 3, column 2, is never closed"]);
    assert_eq!(open.stdout(), "2\n");
    let behind = done("a,b\n\"1\"1,2\n3,5\n");
    assert!(behind[0].1.contains("column 1 goes on behind its closing quote"), "{behind:?}");
    assert_eq!(behind[1], row(3, "-2"));
    map("a,b\n", &[]).gives("");
    map("", &[]).gives("");
}

#[test]
fn json_reaches_the_guest_as_it_was_typed() {
    let deep = "[".repeat(200) + &"]".repeat(200);
    let texts = ["18446744073709551616", "-0", "1e400", "1.10", "{\"a\":1,\"a\":2}", deep.as_str()];
    for text in texts {
        // As an item that is emitted, and as the result.
        let run = stockade(args!["run", example("probe"), "same_text", "--", text]).end();
        run.gives(&format!("{text}\n{text}\n"));
        let given = format!("value={text}");
        stockade(args!["run", example("probe"), "same_text", "--arg", given])
            .end()
            .gives(&format!("{text}\n{text}\n"));
    }
    let input: String = texts.iter().map(|text| format!("{text}\n")).collect();
    let map = |more: &[&str]| {
        let map = args!["map", example("probe"), "same_text", "--plain"];
        stockade(map.into_iter().chain(more.iter().map(Into::into)))
    };
    map(&[]).input(&input).end().gives(&input);
    let lists: String = texts.iter().map(|text| format!("[{text}]\n")).collect();
    map(&["--args"]).input(lists).end().gives(&input);

    let wide = u128::MAX.to_string();
    let run = args!["run", example("probe"), "same_wide", wide, i128::MIN.to_string()];
    stockade(run).end().gives(&format!("[{},{}]\n", u128::MAX, i128::MIN));
    let run = args!["run", example("probe"), "same_wide", format!("{wide}0")];
    stockade(run).end().fails(64, &["natural"]);

    let (_folder, guest) = module(INVERSE);
    let inverse = |text: &str| stockade(args!["run", guest, "inverse", "--", text]).end();
    inverse("18446744073709551616").fails(64, &["from -2147483648 to 4294967295"]);
    inverse("1e400").fails(64, &["1e400 does not fit an i32"]);
    inverse("-0").fails(67, &["division by zero"]);
    let twice = args!["run", guest, "subtract", "--arg", "a=1", "--arg", "a=2"];
    stockade(twice).end().fails(64, &["argument `a` is given twice"]);
}

#[test]
fn what_is_wrong_with_a_row_is_told_by_its_line_and_its_column() {
    let ended = csv("id,name\n1,a\n-1,b\n18446744073709551616,c\nx,d\n5\n", "same_row", &[]);
    assert_eq!(ended.code, Some(71), "{}", ended.stderr);
    let told = records(&ended.stdout());
    let column = |what: &str| {
        format!(
            "the task refused its arguments: argument 1 `row`: column `id`: invalid {what}, \
             expected u64"
        )
    };
    assert_eq!(told[1], (3, column("value: integer `-1`")));
    assert_eq!(told[2], (4, column("type: floating point `1.8446744073709552e+19`")));
    assert_eq!(told[3], (5, column("type: string \"x\"")));
    assert_eq!(told[4], (6, "the row has 1 column, the header 2".into()));
}

#[test]
fn a_file_with_the_longest_name_has_its_result_again_and_again() {
    let (folder, guest) = module(INVERSE);
    let name = "x".repeat(250);
    let (file, output) = (folder.file(&name, "4"), folder.path().join("out"));
    for number in ["4", "2"] {
        fs::write(&file, number).unwrap();
        let map = args!["map", guest, "inverse", "--files", file, "--output-dir", output];
        assert_eq!(stockade(map).end().code, Some(0));
    }
    let results: Vec<_> =
        fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(results, [output.join(format!("{name}.json"))]);
    assert_eq!(fs::read_to_string(&results[0]).unwrap(), "500\n");
}

#[test]
fn utf_16_is_told_as_such() {
    let wide = |text: &str, order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        text.encode_utf16().flat_map(order).collect()
    };
    let (folder, guest) = module(INVERSE);
    for order in [u16::to_le_bytes, u16::to_be_bytes] {
        for text in ["id,name\n1,a\n", "\u{feff}id,name\n1,a\n"] {
            let table = folder.file("table", wide(text, order));
            let map = args!["map", example("probe"), "same_row", "--input", "csv", table];
            stockade(map).end().fails(66, &["looks like UTF-16: write it as UTF-8"]);
        }
        let input = folder.file("input", wide("\u{feff}1\n", order));
        let ended = stockade(args!["map", guest, "inverse", input]).end();
        assert!(ended.stdout().contains("looks like UTF-16"), "{ended:?}");
    }
}

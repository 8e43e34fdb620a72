//! Maps that go well, and lines that do not.

use crate::args;
use crate::support::{Folder, data, example, module, stockade};

const SCALARS: &str = r#"(module
  (func (export "divide") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
  (func (export "inverse") (param i32) (result i32) (i32.div_s (i32.const 1000) (local.get 0)))
  ;; Takes the longer the smaller the number is.
  (func (export "slow") (param i32) (result i32)
    (local $left i32)
    (local.set $left (i32.sub (i32.const 100000) (i32.mul (local.get 0) (i32.const 100))))
    (loop $again
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again (i32.gt_s (local.get $left) (i32.const 0))))
    (local.get 0)))"#;

#[test]
fn results_come_in_the_inputs_order_with_its_line_numbers() {
    let (_folder, guest) = module(SCALARS);
    let input: String = (1..=500).map(|n| format!("{n}\n")).collect();
    let expected: String =
        (1..=500).map(|n| format!("{{\"line\":{n},\"result\":{n}}}\n")).collect();
    for chunk in ["1", "7"] {
        let ended = stockade(args!["map", guest, "slow", "--chunk", chunk]).input(&input).end();
        ended.gives(&expected);
        assert_eq!(ended.stderr, "");
    }
}

#[test]
fn unordered_every_line_comes_once() {
    let (_folder, guest) = module(SCALARS);
    let input: String = (1..=500).map(|n| format!("{n}\n")).collect();
    let ended = stockade(args!["map", guest, "slow", "--unordered"]).input(&input).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let stdout = ended.stdout();
    let mut lines: Vec<u32> = stdout
        .lines()
        .map(|line| {
            let number = line.strip_prefix("{\"line\":").unwrap().split(',').next().unwrap();
            number.parse().unwrap()
        })
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, (1..=500).collect::<Vec<_>>());
}

#[test]
fn a_line_that_fails_costs_no_other() {
    let (_folder, guest) = module(SCALARS);
    let mut input = b"1\n0\n\n \nx\n\"five\"\n".to_vec();
    input.extend(b"1.5\n4294967296\n\xff\n10\n");
    let ended = stockade(args!["map", guest, "inverse"]).input(&input).end();
    let summary = "8 lines: 2 ok, 6 failed (2 bad-line, 1 trap, 3 wrong-arguments), 2 blank";
    ended.fails(71, &[summary]);
    let stdout = ended.stdout();
    let lines: Vec<&str> = stdout.lines().collect();
    for (line, expected) in lines.iter().zip([
        "{\"line\":1,\"result\":1000}",
        "{\"line\":2,\"error\":{\"kind\":\"trap\",\"fault\":\"guest\",\"message\":\"",
        "{\"line\":5,\"error\":{\"kind\":\"bad-line\",\"fault\":\"caller\",\"message\":\"the line \
         is not JSON",
        "{\"line\":6,\"error\":{\"kind\":\"wrong-arguments\",\"fault\":\"caller\"",
        "{\"line\":7,\"error\":{\"kind\":\"wrong-arguments\"",
        "{\"line\":8,\"error\":{\"kind\":\"wrong-arguments\"",
        "{\"line\":9,\"error\":{\"kind\":\"bad-line\"",
        "{\"line\":10,\"result\":100}",
    ]) {
        assert!(line.starts_with(expected), "{line} is not {expected}");
    }
    assert_eq!(lines.len(), 8);
}

#[test]
fn plain_results_are_bare_and_errors_go_to_stderr() {
    let (_folder, guest) = module(SCALARS);
    let ended = stockade(args!["map", guest, "inverse", "--plain"]).input("1\n0\n10\n").end();
    ended.fails(71, &["line 2: trap: ", "3 lines: 2 ok, 1 failed (1 trap)"]);
    assert_eq!(ended.stdout(), "1000\nnull\n100\n");
}

#[test]
fn a_line_may_hold_all_arguments() {
    let (_folder, guest) = module(SCALARS);
    let input = "[6, 2]\n{\"args\": [9, 3]}\n[1]\n7\n";
    let ended = stockade(args!["map", guest, "divide", "--args"]).input(input).end();
    ended.fails(71, &["1 bad-line, 1 wrong-arguments"]);
    assert!(ended.stdout().starts_with("{\"line\":1,\"result\":3}\n{\"line\":2,\"result\":3}\n"));

    let ended = stockade(args!["map", guest, "divide"]).input(input).end();
    ended.fails(64, &["takes 2 arguments", "--args"]);

    let input = "{\"args\": [\"b a b\"], \"kwargs\": {\"limit\": 1}}\n";
    let ended =
        stockade(args!["map", example("wordcount"), "top_words", "--args"]).input(input).end();
    ended.gives("{\"line\":1,\"result\":[[\"b\",2]]}\n");
}

#[test]
fn a_line_of_text_is_one_argument_whatever_it_holds() {
    let guest = example("wordcount");
    let input = "to be\n\n{\"not\": 1}\r\ngrün und \u{1f600}";
    let ended = stockade(args!["map", guest, "word_count", "--input", "text", "--plain"]);
    ended.input(input).end().gives("2\n0\n2\n2\n");
    stockade(args!["map", guest, "word_count", "--input", "text", "--args"])
        .end()
        .fails(2, &["--args"]);
}

#[test]
fn an_input_comes_from_a_file_or_is_missed_at_once() {
    let (folder, guest) = module(SCALARS);
    let file = folder.file("lines", "1\n10\n");
    stockade(args!["map", guest, "inverse", file, "--plain"]).end().gives("1000\n100\n");
    stockade(args!["map", guest, "inverse", file, "--workers", "1", "--plain"])
        .end()
        .gives("1000\n100\n");
    let missing = Folder::new().path().join("none");
    stockade(args!["map", guest, "inverse", missing]).end().fails(66, &["cannot read the input"]);
    stockade(args!["map", guest, "inverse", folder.path()]).end().fails(66, &["directory"]);
    stockade(args!["map", guest, "inverse"]).end().gives("");
}

#[test]
fn a_real_data_set_is_classified_by_a_model_that_is_loaded_once() {
    let model = format!("model=@{}", data("classify/data/model.json").display());
    let rows = data("classify/data/penguins.jsonl");
    let base = args!["map", example("classify"), "classify", rows, "--init-arg", model];
    let ended = stockade(base).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout().lines().count(), 342);
    assert!(ended.stdout().starts_with("{\"line\":1,\"result\":{\"species\":\"Adelie\""));

    let ended = stockade(args!["map", example("classify"), "classify", "-"]).end();
    ended.fails(64, &["initializer", "--init-arg"]);
}

//! What `inspect` shows.

use crate::args;
use crate::support::{example, module, stockade};

#[test]
fn a_guest_of_the_sdk_is_shown_with_its_docs() {
    let ended = stockade(args!["inspect", example("classify")]).end();
    let stdout = ended.stdout();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for shown in [
        "\ntasks\n",
        "  classify(row: Measurement) -> Result<Prediction, ClassifyError>\n      Tells the species",
        "\ninitializer\n  load(model: String) -> Result<(), ModelError>\n",
        "\nfinalizer\n  unload()\n",
        "  WASI preview 1  ",
        "  Stockade        input_",
        "exported as `memory`",
    ] {
        assert!(stdout.contains(shown), "{shown:?} is not in:\n{stdout}");
    }
}

#[test]
fn numbers_programs_and_start_functions_are_told_apart() {
    let (_folder, guest) = module(
        r#"(module
          (func $first)
          (start $first)
          (func (export "_start"))
          (func (export "add") (param i32 f64) (result f64 i64) (f64.const 0) (i64.const 0))
          (func (export "none")))"#,
    );
    let stdout = stockade(args!["inspect", guest]).end().stdout();
    for shown in ["  add(i32, f64) -> (f64, i64)\n  none()\n", "\nprogram\n", "\nstart function\n"]
    {
        assert!(stdout.contains(shown), "{shown:?} is not in:\n{stdout}");
    }
}

#[test]
fn json_holds_the_same() {
    let ended = stockade(args!["inspect", example("wordcount"), "--json"]).end();
    let value: serde_json::Value = serde_json::from_str(&ended.stdout()).unwrap();
    let tasks = value["targets"].as_array().unwrap();
    let top = tasks.iter().find(|task| task["name"] == "top_words").unwrap();
    assert_eq!(top["kind"], "task");
    assert_eq!(top["params"][1], serde_json::json!({ "name": "limit", "type": "usize" }));
    assert_eq!(top["signature"], "top_words(text: String, limit: usize) -> Vec<(String, u64)>");
    assert!(value["wasm_bytes"].as_u64().unwrap() > 1000);
}

#[test]
fn what_a_module_calls_its_things_cannot_drive_the_terminal() {
    let (_folder, guest) = module(r#"(module (func (export "\1b[2J\0ahelp: rm")))"#);
    let stdout = stockade(args!["inspect", guest]).end().stdout();
    assert!(stdout.contains("\\u{1b}[2J\\nhelp: rm()"), "{stdout}");
    assert!(!stdout.contains('\u{1b}'));
}

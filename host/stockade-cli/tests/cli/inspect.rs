//! What `inspect` shows.

use serde_json::Value;

use crate::args;
use crate::support::{Folder, example, module, stockade};

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
    let value: Value = serde_json::from_str(&ended.stdout()).unwrap();
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

#[test]
fn json_says_why_a_module_is_not_shown() {
    let folder = Folder::new();
    let import = r#"(module (import "env" "system" (func (param i32))))"#;
    for (name, contents, kind, code) in [
        ("import.wat", import.as_bytes(), "import", 65),
        ("text.wasm", b"to be", "not-wasm", 65),
        ("cut.wasm", b"\0asm\x01\0\0\0\x01", "malformed", 65),
    ] {
        let file = folder.file(name, contents);
        let ended = stockade(args!["inspect", file, "--json"]).end();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(code), ""), "{ended:?}");
        let told: Value = serde_json::from_str(&ended.stdout()).unwrap();
        assert_eq!(told["error"]["kind"], kind, "{told}");
        assert!(told["error"]["message"].as_str().unwrap().contains("is refused"), "{told}");
        assert!(!told["error"]["help"].as_array().unwrap().is_empty(), "{told}");
    }
    let missing = folder.path().join("none.wasm");
    let ended = stockade(args!["inspect", missing, "--json"]).end();
    assert_eq!(ended.code, Some(66));
    assert!(ended.stdout().starts_with("{\"error\":{"), "{}", ended.stdout());
}

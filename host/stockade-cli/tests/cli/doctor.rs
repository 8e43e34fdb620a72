//! What `doctor` shows, and what `--require` refuses.

use serde_json::Value;

use crate::args;
use crate::support::{module, stockade};

const LAYERS: [&str; 11] = [
    "inheritance",
    "no-new-privs",
    "parent-death",
    "session",
    "namespaces",
    "privileges",
    "undumpable",
    "resource-limits",
    "landlock",
    "write-xor-execute",
    "seccomp",
];

#[test]
fn every_layer_of_both_roles_is_shown() {
    let ended = stockade(args!["doctor"]).end();
    let stdout = ended.stdout();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for layer in LAYERS {
        assert!(stdout.lines().any(|line| line.starts_with(layer)), "{layer}: {stdout}");
    }

    let json: Value =
        serde_json::from_str(&stockade(args!["doctor", "--json"]).end().stdout()).unwrap();
    for role in ["worker", "compiler"] {
        let shown = json[role].as_array().unwrap();
        let names: Vec<_> = shown.iter().map(|layer| layer["layer"].as_str().unwrap()).collect();
        assert_eq!(names, LAYERS);
        for layer in shown {
            let level = layer["level"].as_str().unwrap();
            assert!(["full", "partial", "none"].contains(&level), "{layer}");
            assert!(!layer["reason"].as_str().unwrap().is_empty(), "{layer}");
        }
    }
    for name in ["cache", "kernel", "engine", "stockade"] {
        assert!(json["machine"][name]["words"].is_string(), "{name}: {json}");
    }
    assert!(stdout.contains("cache: `--cache DIR` keeps"), "{stdout}");
    // Nothing is called sandboxed without its filter.
    let filtered = |role: &str| json[role][10]["level"] == "full";
    assert_eq!(json["sandboxed"], filtered("worker") && filtered("compiler"));
    assert_eq!(stdout.contains("are sandboxed"), json["sandboxed"] == true);
}

#[test]
fn a_layer_that_does_not_exist_cannot_be_required() {
    stockade(args!["doctor", "--require", "seccmp"])
        .end()
        .fails(2, &["seccmp", "write-xor-execute"]);
}

#[test]
fn what_is_required_and_there_runs() {
    let (_folder, guest) = module(
        r#"(module (func (export "double") (param i32) (result i32)
            (i32.mul (local.get 0) (i32.const 2))))"#,
    );
    // What every Linux has.
    let required = "inheritance,no-new-privs,undumpable,session";
    stockade(args!["run", "--require", required, guest, "double", "21"]).end().gives("42\n");
}

//! `bench`, `cache`, `completions` and `man`.

use std::fs;

use serde_json::Value;

use crate::args;
use crate::support::{Folder, module, stockade};

const NUMBERS: &str = r#"(module
  (func (export "double") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
  (func (export "trap") unreachable))"#;

#[test]
fn a_function_is_measured_and_one_that_fails_is_not() {
    let (_folder, guest) = module(NUMBERS);
    let bench = |more: &[&str]| {
        let base = args!["bench", guest, "--time", "50ms", "--workers", "1"];
        stockade(base.into_iter().chain(more.iter().map(Into::into))).end()
    };
    let ended = bench(&["double", "21"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for words in ["latency", "99.9 %", "█", "throughput", "1 worker,"] {
        assert!(ended.stdout().contains(words), "{words}: {}", ended.stdout());
    }
    let json: Value = serde_json::from_str(&bench(&["double", "21", "--json"]).stdout()).unwrap();
    let number = |path: &str| json.pointer(path).and_then(Value::as_f64).unwrap();
    assert!(number("/latency/p50_ns") >= number("/latency/min_ns"));
    assert!(number("/throughput/calls_per_second") > 0.0);

    bench(&["trap"]).fails(67, &["unreachable"]);
    bench(&["triple", "one"]).fails(64, &["triple", "stockade inspect"]);
    bench(&["double"]).fails(64, &["double"]);
}

#[test]
fn a_caches_entries_are_listed_verified_and_removed() {
    let (folder, guest) = module(NUMBERS);
    let (cache, state) = (folder.path().join("cache"), folder.path().join("state"));
    let with_state = |args: Vec<std::ffi::OsString>| {
        stockade(args).env("XDG_STATE_HOME", state.to_str().unwrap()).end()
    };
    let ask = |action: &str| with_state(args!["cache", action, "--cache", cache].into());
    ask("list").fails(66, &["there is no cache", "--cache DIR"]);
    stockade(args!["cache", "list"]).end().fails(2, &["no cache is named", "STOCKADE_CACHE"]);

    with_state(args!["run", guest, "double", "1", "--cache", cache].into()).gives("2\n");
    let listed = ask("list");
    assert!(listed.stdout().contains("1 entry in ") && listed.stdout().contains("just now"));
    let ended = ask("verify");
    assert_eq!(ended.code, Some(0), "{ended:?}");

    let entry = fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&entry).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&entry, bytes).unwrap();
    let ended = ask("verify");
    assert_eq!(ended.code, Some(71), "{ended:?}");
    assert!(ended.stdout().contains("1 entry not used"), "{}", ended.stdout());
    ask("clear").gives("removed 1 entry\n");
    let json = with_state(args!["cache", "list", "--json", "--cache", cache].into()).stdout();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["entries"].as_array().map(Vec::len), Some(0));
}

#[test]
fn shells_and_manuals_get_every_command() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = stockade(args!["completions", shell]).end();
        assert_eq!(script.code, Some(0), "{}", script.stderr);
        assert!(script.stdout().contains("on-error"), "{shell}");
    }
    stockade(args!["completions", "basic"]).end().fails(2, &["bash"]);

    let pages = folder.path().join("man1");
    let ended = stockade(args!["man", pages]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let page = fs::read_to_string(pages.join("stockade-map.1")).unwrap();
    assert!(page.contains("resume") && page.contains("Exit codes"), "{page}");
    let file = folder.file("file", "");
    stockade(args!["man", file]).end().fails(74, &["cannot write to"]);
}

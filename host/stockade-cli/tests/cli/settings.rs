//! Options in the environment and in `stockade.toml`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::args;
use crate::support::{module, stockade};

/// Takes more fuel the larger its number is.
const LOOP: &str = r#"(module
  (func (export "f") (param i32) (result i32)
    (loop $again
      (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
      (br_if $again (i32.gt_s (local.get 0) (i32.const 0))))
    (i32.const 7)))"#;

#[test]
fn the_command_line_outweighs_the_environment_and_that_the_file() {
    let (folder, guest) = module(LOOP);
    folder.file("stockade.toml", "fuel = 10\n\n[map]\nplain = true\n");
    let deep = folder.path().join("a/b");
    fs::create_dir_all(&deep).unwrap();
    let run = || stockade(args!["run", guest, "f", "1000"]).folder(&deep);
    run().end().fails(68, &["fuel", "10"]);
    run().env("STOCKADE_FUEL", "20").end().fails(68, &["20"]);
    run().env("STOCKADE_FUEL", "1000000").end().gives("7\n");
    let line = args!["run", guest, "f", "1000", "--fuel", "30"];
    stockade(line).folder(&deep).env("STOCKADE_FUEL", "1000000").end().fails(68, &["30"]);
    let map = stockade(args!["map", guest, "f"]).folder(&deep).env("STOCKADE_FUEL", "1000");
    map.input("1\n").end().gives("7\n");
}

#[test]
fn what_is_wrong_is_told_with_its_variable_or_its_line() {
    let (folder, guest) = module(LOOP);
    let run = || stockade(args!["run", guest, "f", "1"]).folder(folder.path());
    run()
        .env("STOCKADE_MEMORY", "much")
        .end()
        .fails(2, &["STOCKADE_MEMORY: cannot use `memory`", "write a number of bytes"]);
    run().env("STOCKADE_REPORT", "perhaps").end().fails(2, &["STOCKADE_REPORT", "true or false"]);
    let settings = folder.file("stockade.toml", "# ours\nwall-time = 5\n");
    run().end().fails(2, &["stockade.toml:2: cannot use `wall-time`", "a number and a unit"]);
    folder.file("stockade.toml", "\nmemroy = 1\n");
    run().end().fails(2, &["stockade.toml:2: `memroy` is not an option", "stockade help"]);

    folder.file("stockade.toml", "grant-dir = \"/\"\n");
    run()
        .end()
        .fails(2, &["stockade.toml:1: `grant-dir` is allowed only", "--config stockade.toml"]);
    let config = args!["run", "--config", settings, guest, "f", "1"];
    stockade(config).folder(folder.path()).end().gives("7\n");

    folder.file("stockade.toml", "fuel = 1\n");
    fs::set_permissions(&settings, fs::Permissions::from_mode(0o666)).unwrap();
    let ended = run().end();
    ended.gives("7\n");
    assert!(ended.stderr.contains("others could have written"), "{}", ended.stderr);
    // Help is there whatever the file says.
    fs::remove_file(&settings).unwrap();
    folder.file("stockade.toml", "=\n");
    run().end().fails(2, &["stockade.toml:1: "]);
    assert_eq!(stockade(args!["run", "--help"]).folder(folder.path()).end().code, Some(0));
}

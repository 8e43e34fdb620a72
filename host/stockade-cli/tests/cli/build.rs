//! `new` and `build`: from nothing to a module that runs.

use std::fs;
use std::path::Path;

use crate::args;
use crate::support::{Folder, stockade};

#[test]
fn a_new_guest_is_built_looked_at_and_run() {
    let folder = Folder::new();
    let guest = folder.path().join("my-guest");
    let ended = stockade(args!["new", guest]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let module = "target/wasm32-wasip1/release/my_guest.wasm";
    assert!(ended.stdout().contains(module), "{}", ended.stdout());

    stockade(args!["new", guest]).end().fails(74, &["cannot make", "another name"]);

    // Kept from one run of the tests to the next: what the SDK depends on takes long to compile.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-target");
    let build = |dir: &Path| {
        let command = stockade(args!["build", dir, "--debug"]);
        command.env("CARGO_TARGET_DIR", target.to_str().unwrap()).end()
    };
    let ended = build(&guest);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let stdout = ended.stdout();
    let task = "\n  greet(name: String, times: u32) -> Result<String, String>\n";
    assert!(stdout.contains(task), "{stdout}");
    let module = stdout.split_whitespace().next().unwrap();
    stockade(args!["run", module, "greet", "world", "2"])
        .end()
        .gives("\"hello, world; hello, world\"\n");

    fs::write(guest.join("src/lib.rs"), "fn broken(").unwrap();
    build(&guest).fails(65, &["does not compile"]);
}

#[test]
fn what_can_be_no_guest_is_refused_with_what_to_do() {
    let folder = Folder::new();
    stockade(args!["new", "2fast"]).folder(folder.path()).end().fails(2, &["begin with a letter"]);
    stockade(args!["new", "guest", "--sdk", "nowhere"])
        .folder(folder.path())
        .end()
        .fails(66, &["nowhere", "--sdk CLONE/guest-sdk/stockade-guest"]);
    assert!(!folder.path().join("guest").exists());
    stockade(args!["build", folder.path()])
        .end()
        .fails(66, &["no Cargo.toml", "stockade new NAME"]);
}

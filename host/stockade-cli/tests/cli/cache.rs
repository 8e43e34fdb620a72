//! `--cache`: what is compiled once is not compiled again, and what was changed is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::args;
use crate::support::{Folder, data, example, module, stockade};

const ANSWER: &str = r#"(module (func (export "answer") (result i32) (i32.const 42)))"#;

#[test]
fn an_entry_that_somebody_changed_is_warned_of_and_made_again() {
    let (folder, guest) = module(ANSWER);
    let (cache, state) = (folder.path().join("cache"), folder.path().join("state"));
    let run = || {
        let command = stockade(args!["run", guest, "answer", "--cache", cache]);
        let ended = command.env("XDG_STATE_HOME", state.to_str().expect("a plain path")).end();
        ended.gives("42\n");
        ended.stderr
    };
    assert_eq!(run(), "");
    assert!(state.join("stockade/cache.key").exists());
    assert_eq!(run(), "");
    let entry = fs::read_dir(&cache).expect("the cache").next().expect("an entry").expect("it");
    let mut bytes = fs::read(entry.path()).expect("the entry");
    *bytes.last_mut().expect("not empty") ^= 1;
    fs::write(entry.path(), bytes).expect("the entry");
    let warned = run();
    assert!(warned.starts_with("warning: ignored a cache entry"), "{warned}");
    assert_eq!(warned.lines().count(), 1, "{warned}");
    assert_eq!(run(), "");
}

#[test]
fn one_entry_serves_every_limit_on_memory_and_a_module_beyond_one_is_refused() {
    let (folder, guest) = module(
        r#"(module (memory 2) (func (export "grow") (param i32) (result i32)
            (memory.grow (local.get 0))))"#,
    );
    let cache = folder.path().join("cache");
    let run = |memory: &str| {
        let command =
            stockade(args!["run", guest, "grow", "1", "--memory", memory, "--cache", cache]);
        command.env("XDG_STATE_HOME", folder.path().to_str().expect("a plain path")).end()
    };
    run("1GiB").gives("2\n");
    run("192KiB").gives("2\n");
    run("128KiB").gives("-1\n");
    let refused = run("127KiB");
    assert_eq!(refused.code, Some(65), "{}", refused.stderr);
    assert!(refused.stderr.contains("--memory"), "{}", refused.stderr);
    run("4GiB").gives("2\n");
    assert_eq!(fs::read_dir(&cache).expect("the cache").count(), 1);
}

#[test]
fn a_map_takes_its_module_from_the_cache_too() {
    let folder = Folder::new();
    let cache = folder.path().join("cache");
    let map = || {
        let file = data("wordcount/data/alice.txt");
        let guest = example("wordcount");
        let command = stockade(args![
            "map",
            guest,
            "word_count",
            "--input",
            "text",
            file,
            "--cache",
            cache,
            "--plain"
        ]);
        command.env("XDG_STATE_HOME", folder.path().to_str().expect("a plain path")).end()
    };
    let first = map();
    assert_eq!((first.code, &*first.stderr), (Some(0), ""));
    assert_eq!(map().bytes, first.bytes);
    assert_eq!(fs::read_dir(&cache).expect("the cache").count(), 1);
}

#[test]
fn a_directory_that_others_may_enter_is_refused_with_what_to_do() {
    let (folder, guest) = module(ANSWER);
    let cache = folder.path().join("cache");
    fs::create_dir(&cache).expect("a folder");
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o755)).expect("a mode");
    let ended = stockade(args!["run", guest, "answer", "--cache", cache]).end();
    assert_eq!(ended.code, Some(66), "{}", ended.stderr);
    for words in ["cannot use the cache", "0755", "mode 0700"] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
}

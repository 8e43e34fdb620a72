//! The guide, command by command: what it shows is what is printed.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Folder, example};

/// A command and what it is to print.
struct Shown {
    command: String,
    output: Vec<String>,
}

/// What blocks of console lines in `page` show, in order.
fn shown(page: &str) -> Vec<Shown> {
    let blocks = page.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut all: Vec<Shown> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        match (line.strip_prefix("$ "), all.last_mut()) {
            (Some(command), _) => all.push(Shown { command: command.into(), output: Vec::new() }),
            (None, Some(last)) => last.output.push(line.trim_end().into()),
            (None, None) => panic!("a block begins without a command: {line}"),
        }
    }
    all
}

/// Whether these lines are as expected, where a line of `…` alone is any number of lines.
fn are_as(expected: &[String], printed: &[&str]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first == "…" => {
            (0..=printed.len()).any(|skipped| are_as(rest, &printed[skipped..]))
        }
        Some((first, rest)) => {
            let (line, others) = match printed.split_first() {
                Some((line, others)) => (*line, others),
                None => return false,
            };
            is_as(first, line) && are_as(rest, others)
        }
    }
}

/// Whether a line is as expected, where `…` is any text.
fn is_as(expected: &str, line: &str) -> bool {
    match expected.split_once('…') {
        None => expected == line,
        Some((begin, rest)) => {
            let tail = line.strip_prefix(begin);
            let at =
                |tail: &str| tail.char_indices().map(|(at, _)| at).chain([tail.len()]).collect();
            tail.is_some_and(|tail| {
                let places: Vec<usize> = at(tail);
                places.into_iter().any(|at| is_as(rest, &tail[at..]))
            })
        }
    }
}

#[test]
fn the_guide_shows_what_its_commands_print() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/guide.md")).unwrap();
    let folder = Folder::new();
    for name in ["wordcount", "linecount"] {
        fs::copy(example(name), folder.path().join(format!("{name}.wasm"))).unwrap();
    }
    let alice = root.join("examples-wasm/wordcount/data/alice.txt");
    fs::copy(alice, folder.path().join("alice.txt")).unwrap();
    let command = Path::new(env!("CARGO_BIN_EXE_stockade"));
    let path = format!("{}:/usr/bin:/bin", command.parent().unwrap().display());
    let shown = shown(&page);
    assert!(shown.len() > 10, "the guide shows commands");
    for Shown { command, output } in shown {
        let run = Command::new("bash")
            .args(["-c", &format!("exec 2>&1; {command}")])
            .current_dir(folder.path())
            .env_clear()
            .env("PATH", &path)
            .output()
            .unwrap();
        let printed = String::from_utf8(run.stdout).unwrap();
        let lines: Vec<_> = printed.lines().map(str::trim_end).collect();
        // What a block ends with may be an empty line of the page.
        assert!(are_as(&output, &lines), "$ {command}\n{printed}\nshown:\n{}", output.join("\n"));
    }
}

#[test]
fn what_differs_is_any_text_and_nothing_else_is() {
    let lines = |text: &str| text.lines().map(String::from).collect::<Vec<_>>();
    let holds = |expected: &str, printed: &str| {
        are_as(&lines(expected), &printed.lines().collect::<Vec<_>>())
    };
    assert!(holds("a … c\n…\nend", "a b c\none\ntwo\nend"));
    assert!(holds("a\n…", "a"));
    assert!(!holds("a … c", "a b d"));
    assert!(!holds("a\n…\nend", "a\none"));
    assert!(!holds("a", "a\nb"));
    assert!(!holds("a\nb", "a"));
}

//! Blocks of console lines: run as a reader would, and compared with what they show.
//!
//! A line with `$ ` is a command; lines with `> ` behind one that ends in `\` or begins a document (`<<`)
//! go on with it; the others are what it prints, `…` standing for any text, and alone for any lines.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::blocks::{Block, root};
use crate::support::{Folder, example};

/// What a session prints behind each command, and no command does.
const END: &str = "== the end of a command ==";

/// Files of the repository that lie in a reader's folder by their own names.
const FILES: [&str; 8] = [
    "examples-wasm/classify/data/model.json",
    "examples-wasm/classify/data/penguins.jsonl",
    "examples-wasm/scalar/scalar.wat",
    "examples-wasm/thumbnail/data/cat.png",
    "examples-wasm/thumbnail/data/rocket.jpg",
    "examples-wasm/wat-vectors/vectors.wat",
    "examples-wasm/wordcount/data/alice.txt",
    "tests/fixtures/located.wasm",
];

/// Guests that `just guests` builds, likewise.
const GUESTS: [&str; 5] = ["classify", "formula", "linecount", "thumbnail", "wordcount"];

/// Folders of the repository that a reader's folder has, so that it can stand for a clone.
const FOLDERS: [&str; 2] = ["examples-wasm", "target"];

/// A command and what it is to print.
pub(super) struct Shown {
    pub(super) line: usize,
    pub(super) command: String,
    pub(super) output: Vec<String>,
}

/// What the console blocks among `blocks` show, in order.
pub(super) fn shown(blocks: &[Block]) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    for block in blocks.iter().filter(|block| block.kind() == "console") {
        let first = all.len();
        for (number, line) in block.text.lines().enumerate() {
            let last = all[first..].last_mut();
            match (line.strip_prefix("$ "), last) {
                (Some(command), _) => {
                    let line = block.line + 1 + number;
                    all.push(Shown { line, command: command.into(), output: Vec::new() });
                }
                (None, Some(last)) => match continued(last, line) {
                    Some(more) => last.command.extend(["\n", more]),
                    None => last.output.push(line.trim_end().into()),
                },
                (None, None) => panic!("a block begins without a command: {line}"),
            }
        }
    }
    all
}

/// What `line` adds to the last command, where it does.
fn continued<'a>(last: &Shown, line: &'a str) -> Option<&'a str> {
    let is_open =
        last.output.is_empty() && (last.command.contains("<<") || last.command.ends_with('\\'));
    let more = line.strip_prefix("> ").or_else(|| line.strip_prefix('>').filter(|_| line == ">"));
    more.filter(|_| is_open)
}

/// Where commands of pages are run: nobody's environment, and what they compile is kept, also for the next
/// run of these tests.
pub(super) struct Session {
    home: PathBuf,
}

impl Session {
    pub(super) fn new() -> Self {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("documented");
        fs::create_dir_all(&home).expect("a folder");
        Self { home }
    }

    /// Runs what a page shows, in one shell in a folder of its own; says what it prints otherwise.
    pub(super) fn compare(&self, page: &str, shown: &[Shown]) -> Vec<String> {
        let commands: Vec<_> = shown.iter().map(|shown| &*shown.command).collect();
        let printed = self.printed(&commands, &[]);
        let wrong = shown.iter().zip(&printed).filter(|(shown, printed)| {
            let lines: Vec<_> = printed.lines().map(str::trim_end).collect();
            !are_as(&shown.output, &lines)
        });
        let mut wrong: Vec<_> = wrong
            .map(|(Shown { line, command, output }, printed)| {
                format!("{page}:{line}: $ {command}\n{printed}\nshown:\n{}", output.join("\n"))
            })
            .collect();
        if printed.len() != shown.len() {
            wrong.push(format!("{page}: the shell ended at its command {}", printed.len()));
        }
        wrong
    }

    /// What each command prints, in one shell in a folder of its own.
    pub(super) fn printed(&self, commands: &[&str], more: &[(&str, &str)]) -> Vec<String> {
        let mut script = String::from("exec 2>&1\n");
        for command in commands {
            script.extend([command, "\nprintf '%s\\n' '", END, "'\n"]);
        }
        let folder = readers_folder();
        let run = self.shell(&script, folder.path()).envs(more.iter().copied()).output();
        let printed = String::from_utf8(run.expect("bash").stdout).expect("text");
        let mut parts: Vec<_> = printed.split(&format!("{END}\n")).map(String::from).collect();
        // What is behind the last one is nothing.
        parts.pop();
        parts
    }

    /// Runs a command, which must end well.
    pub(super) fn succeeds(&self, command: &str) {
        let folder = readers_folder();
        let run = self.shell(command, folder.path()).output().expect("bash");
        let stderr = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "$ {command}\n{stderr}");
    }

    fn shell(&self, script: &str, folder: &Path) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_stockade"));
        let programs = program.parent().expect("its folder").display();
        let mut shell = Command::new("bash");
        shell.args(["-c", script]).current_dir(folder).stdin(Stdio::null());
        shell.env_clear().env("PATH", format!("{programs}:/usr/bin:/bin"));
        shell.env("HOME", &self.home);
        // Nothing that is shown depends on it, and each module is compiled once.
        shell.env("STOCKADE_CACHE", self.home.join("cache"));
        shell
    }
}

/// A folder with what pages take as there.
fn readers_folder() -> Folder {
    let (folder, root) = (Folder::new(), root());
    let link = |name: &str, to: &Path| symlink(to, folder.path().join(name)).expect("a link");
    for path in FILES {
        let name = path.rsplit('/').next().unwrap_or(path);
        fs::copy(root.join(path), folder.path().join(name)).expect(path);
    }
    for name in GUESTS {
        link(&format!("{name}.wasm"), &example(name));
    }
    for name in FOLDERS {
        link(name, &root.join(name));
    }
    folder
}

/// Whether these lines are as expected, where a line of `…` alone is any number of lines.
pub(super) fn are_as(expected: &[String], printed: &[&str]) -> bool {
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

#[test]
fn a_shell_is_the_pages_own_and_what_is_wrong_is_told_by_its_line() {
    let page = "```console\n$ word=hi\n$ cat <<end\n> $word\n>\n> there\n> end\nhi\n\nthere\n```\n\
                ```console\n$ echo $word; printf no-line-end\nhi\nsomething else\n```\n";
    let shown = shown(&super::blocks("page.md", page));
    let wrong = Session::new().compare("page.md", &shown);
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(wrong[0].starts_with("page.md:13: $ echo $word"), "{wrong:?}");
    // A command that the shell cannot read ends it, which is told too.
    let page = "```console\n$ true\n$ if\n```\n";
    let shown = super::shown(&super::blocks("page.md", page));
    assert_ne!(Session::new().compare("page.md", &shown), [""; 0]);
}

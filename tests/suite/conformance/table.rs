//! The table of conformance: which of asyncpal's tests is which of ours, and why some are none.
//!
//! ```text
//! upstream.txt, defects.txt ─► rows ─┐
//! the suite's sources ─► Tests ──────┴─► checks ─► docs/conformance.md, compared or written
//! ```
//!
//! Invariant: every row names a test that is compiled, or says why it has no meaning here.
//!
//! Deliberately absent: any judgement of whether a test of ours shows what its row says.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use stockade_tests::repository;

const UPSTREAM: &str = include_str!("upstream.txt");
const DEFECTS: &str = include_str!("defects.txt");

/// Asyncpal's files of tests, and how many each has.
const FILES: [(&str, usize); 5] = [
    ("test_processpool.py", 61),
    ("test_threadpool.py", 61),
    ("test_future.py", 56),
    ("test_misc.py", 28),
    ("test_imports.py", 1),
];

const DEFECTS_COUNT: usize = 20;

/// What stands in place of a test that has no meaning here.
const NOT_APPLICABLE: &str = "n/a";

const UPDATE: &str = "STOCKADE_UPDATE=1 cargo test -p stockade-tests conformance::table";

const INTRODUCTION: &str = "\
# Conformance with asyncpal

asyncpal is a Python library of pools of threads and processes. Stockade's pool takes its contract \
from asyncpal's process pool: the life of workers, futures, maps lazy and eager, initializers and \
finalizers. The tables below list every test of asyncpal 0.0.7 (commit 0e66667) with the test of \
ours that asserts the same of functions of wasm modules, and every defect that was reproduced in \
that version with the test that shows its absence here.

How to read them: *asyncpal* is the class and the name of their test; a number in parentheses stands \
for one that is listed by what it asserts. *Here* is the path of ours within the suite, so \
`cargo test -p stockade-tests PATH` runs it. The last column says how ours differs, or why there is \
none; it is empty where both assert the same. Where asyncpal asserts \"at most\", ours asserts \
exactly, and where it sleeps, ours opens a gate.
";

#[test]
fn docs_conformance_lists_every_upstream_test() {
    let tests = Tests::of_the_suite();
    let rows = upstream_rows();
    let mut page = INTRODUCTION.to_string();
    write!(page, "\nA test makes this page from lists beside it:\n\n```sh\n{UPDATE}\n```\n")
        .unwrap();
    render_totals(&mut page, &rows);
    for (file, count) in FILES {
        let of_file: Vec<_> = rows.iter().filter(|row| row.file == file).collect();
        assert_eq!(of_file.len(), count, "rows of {file}");
        let known: BTreeSet<_> = of_file.iter().map(|row| (row.class, row.test)).collect();
        assert_eq!(known.len(), count, "a test of {file} is listed twice");
        write!(page, "\n## {file}\n\n").unwrap();
        page.push_str("| | asyncpal | here | difference, or reason |\n|---|---|---|---|\n");
        for (number, row) in of_file.iter().enumerate() {
            let Row { class, test, note, .. } = row;
            let ours = if row.is_applicable() { tests.named(row.ours) } else { "none".into() };
            let note = if note.is_empty() { String::new() } else { format!(" {note}") };
            writeln!(page, "| {} | `{class}` {test} | {ours} |{note} |", number + 1).unwrap();
        }
    }
    render_defects(&mut page, &tests);
    compare(&repository().join("docs/conformance.md"), &page);
}

/// One of asyncpal's tests, and ours.
struct Row {
    file: &'static str,
    class: &'static str,
    test: &'static str,
    ours: &'static str,
    note: &'static str,
}

impl Row {
    fn is_applicable(&self) -> bool {
        self.ours != NOT_APPLICABLE
    }
}

/// Lines of a list, without comments and empty ones, each with its fields.
fn lines(list: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split('|').map(str::trim).collect())
}

fn upstream_rows() -> Vec<Row> {
    let row = |fields: Vec<&'static str>| {
        let [file, class, test, ours, note] = fields[..] else { panic!("no five: {fields:?}") };
        let row = Row { file, class, test, ours, note };
        assert!(!ours.is_empty(), "{class} {test} is open");
        assert!(row.is_applicable() || !note.is_empty(), "{class} {test} is none, and why?");
        assert!(FILES.iter().any(|(known, _)| *known == file), "{file} is no file of theirs");
        row
    };
    lines(UPSTREAM).map(row).collect()
}

fn render_totals(page: &mut String, rows: &[Row]) {
    page.push_str("\n| file | tests | with one of ours | without a meaning here |\n");
    page.push_str("|---|---:|---:|---:|\n");
    let mut line = |name: &str, rows: &[&Row]| {
        let ours = rows.iter().filter(|row| row.is_applicable()).count();
        let (all, none) = (rows.len(), rows.len() - ours);
        writeln!(page, "| {name} | {all} | {ours} | {none} |").unwrap();
    };
    for (file, _) in FILES {
        line(file, &rows.iter().filter(|row| row.file == file).collect::<Vec<_>>());
    }
    line("all", &rows.iter().collect::<Vec<_>>());
}

fn render_defects(page: &mut String, tests: &Tests) {
    page.push_str("\n## Defects reproduced in asyncpal 0.0.7\n\n");
    page.push_str("| | what goes wrong there | the test that it does not here |\n|---|---|---|\n");
    let mut count = 0;
    for (index, fields) in lines(DEFECTS).enumerate() {
        let [number, defect, ours] = fields[..] else { panic!("no three: {fields:?}") };
        assert_eq!(number.parse(), Ok(index + 1), "defects are numbered");
        writeln!(page, "| {number} | {defect} | {} |", tests.named(ours)).unwrap();
        count += 1;
    }
    assert_eq!(count, DEFECTS_COUNT);
}

/// Compares a page with what is there; writes it where that was asked for.
fn compare(path: &Path, page: &str) {
    if std::env::var_os("STOCKADE_UPDATE").is_some() {
        fs::create_dir_all(path.parent().expect("a folder of pages")).unwrap();
        fs::write(path, page).unwrap();
    }
    let there = fs::read_to_string(path).unwrap_or_default();
    assert!(there == page, "docs/conformance.md is not what the lists say; run: {UPDATE}");
}

/// Tests of the suite, by their paths.
struct Tests(BTreeSet<String>);

impl Tests {
    fn of_the_suite() -> Self {
        let mut tests = BTreeSet::new();
        collect(&repository().join("tests/suite"), "main.rs", "", &mut tests);
        Self(tests)
    }

    /// The test of that path, as the page shows it. A last part that is a letter and two digits
    /// stands for every test of that module whose name begins so.
    #[track_caller]
    fn named(&self, path: &str) -> String {
        let (module, name) = path.rsplit_once("::").expect("a path");
        let is_number = name.len() == 3 && name[1..].bytes().all(|byte| byte.is_ascii_digit());
        let (module, begin) = (format!("{module}::"), format!("{name}_"));
        let is_meant = |test: &&String| {
            let own_name = test.rsplit("::").next().unwrap_or_default();
            is_number && test.starts_with(&module) && own_name.starts_with(&begin)
                || test.as_str() == path
        };
        let meant: Vec<_> =
            self.0.iter().filter(is_meant).map(|test| format!("`{test}`")).collect();
        assert!(!meant.is_empty(), "there is no test {path}");
        meant.join("<br>")
    }
}

/// Adds the tests of a module and of those in it. `folder` is where its children are.
fn collect(folder: &Path, file: &str, module: &str, tests: &mut BTreeSet<String>) {
    let source = fs::read_to_string(folder.join(file)).unwrap();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if let Some(child) = line.strip_prefix("mod ").and_then(|line| line.strip_suffix(';')) {
            let path = format!("{module}{child}::");
            let inner: PathBuf = folder.join(child);
            if inner.join("mod.rs").exists() {
                collect(&inner, "mod.rs", &path, tests);
            } else {
                collect(folder, &format!("{child}.rs"), &path, tests);
            }
        }
        if let Some(function) = line.strip_prefix("fn ")
            && is_test
        {
            let name = function.split(['(', '<']).next().unwrap_or_default();
            tests.insert(format!("{module}{name}"));
        }
        is_test = line == "#[test]" || is_test && line.starts_with('#');
    }
}

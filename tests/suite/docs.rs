//! Checks that the reference pages are complete and true.
//!
//! Deliberately absent: their wording.

use std::collections::BTreeSet;
use std::time::Duration;

use stockade::{CompileLimits, Limits};
use stockade_tests::repository;

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap()
}

/// First column and the next one of the table's rows under a heading that begins so.
fn rows(page: &str, heading: &str) -> Vec<(String, String)> {
    let section = page.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("there is no section {heading}"));
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    cells.map(|cells| (cells[1].trim_matches('`').to_owned(), cells[2].to_owned())).collect()
}

/// Names that a line with this indent begins with, in the block that begins with `head`.
fn names_in(source: &str, head: &str, begin: &str) -> BTreeSet<String> {
    let block = source.split(head).nth(1).unwrap_or_else(|| panic!("there is no {head}"));
    let block = block.split("\n}").next().unwrap();
    let lines = block.lines().filter_map(|line| line.strip_prefix(begin));
    let names = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic()));
    let end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    names.map(|line| line.split(end).next().unwrap().to_owned()).collect()
}

/// Rust files below a folder of the repository.
fn sources(folder: &str) -> Vec<String> {
    let mut folders = vec![repository().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    found
}

/// Words that the library's crate exports by name.
fn exported() -> BTreeSet<String> {
    let source = read("host/stockade/src/lib.rs");
    let lists = source.split("\npub use ").skip(1).filter_map(|rest| rest.split(';').next());
    let words = lists.flat_map(|list| list.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.map(String::from).collect()
}

/// A public type of an error, with the file that declares it.
#[derive(Debug)]
struct Declared {
    name: String,
    is_enum: bool,
    source: String,
}

/// Every type that is an error and that a caller of the library can name, and enums within one.
fn errors() -> Vec<Declared> {
    const WITHIN: [&str; 3] = ["Distrust", "MachineFault", "TestPath"];
    let exported = exported();
    let mut found = Vec::new();
    let all = ["host/stockade/src", "host/stockade-wire/src"].into_iter().flat_map(sources);
    // One is generic.
    for source in all.map(|source| source.replace("<A> {", " {")) {
        let name = |declaration: &str| {
            let words = declaration.split(|c: char| !c.is_alphanumeric()).skip(2);
            words.map(String::from).next()
        };
        let is_public =
            |line: &&str| line.starts_with("pub enum ") || line.starts_with("pub struct ");
        // A derive stands above its type, and attributes may stand between them.
        let derived = source.split("thiserror::Error").skip(1).filter_map(|rest| {
            let mut items =
                rest.lines().filter(|line| !line.starts_with([')', '#', ' ', '/', ']']));
            items.find(|line| !line.is_empty() && *line != ")]").filter(is_public)
        });
        let by_hand =
            source.lines().filter_map(|line| line.strip_prefix("impl ")?.split_once("Error for "));
        let by_hand =
            by_hand.map(|(_, name)| name.trim_end_matches(" {}").trim_end_matches(" {").to_owned());
        let within = WITHIN.iter().filter(|name| source.contains(&format!("pub enum {name} {{")));
        let names = derived.filter_map(name).chain(by_hand).chain(within.map(ToString::to_string));
        for name in names.filter(|name| exported.contains(name)) {
            let is_enum = source.contains(&format!("pub enum {name} {{"));
            found.push(Declared { name, is_enum, source: source.clone() });
        }
    }
    found
}

#[test]
fn every_error_of_the_library_is_in_the_reference_with_its_variants_and_no_other() {
    let page = read("docs/errors.md");
    let errors = errors();
    for known in ["TaskError", "RecordError", "LocateError", "TestPath", "JoinTimeout"] {
        assert!(errors.iter().any(|error| error.name == known), "{known} was not found");
    }
    for Declared { name, is_enum, source } in &errors {
        assert!(page.contains(&format!("`{name}`")), "{name} is not on the page");
        if *is_enum {
            let listed = rows(&page, &format!("`{name}`"));
            let unique: BTreeSet<_> = listed.iter().map(|(variant, _)| variant.clone()).collect();
            assert_eq!(unique.len(), listed.len(), "{name} lists a variant twice");
            assert_eq!(unique, names_in(source, &format!("pub enum {name} {{"), "    "), "{name}");
        }
    }
    // Headings of types that there are no longer.
    for heading in page.lines().filter_map(|line| line.strip_prefix("## `")) {
        let name = heading.split('`').next().unwrap();
        assert!(errors.iter().any(|error| error.name == name && error.is_enum), "{name}");
    }
}

fn bytes(bytes: u64) -> String {
    match bytes.trailing_zeros() {
        30.. => format!("{} GiB", bytes >> 30),
        20.. => format!("{} MiB", bytes >> 20),
        _ => format!("{} KiB", bytes >> 10),
    }
}

fn time(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

fn or_none<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "none".into(), |value| value.to_string())
}

#[test]
fn every_limit_is_in_the_reference_with_its_default() {
    let (page, source) = (read("docs/limits.md"), read("host/stockade-wire/src/limits.rs"));
    let limits = Limits::default();
    let defaults = [
        ("wall_time", or_none(limits.wall_time.map(time))),
        ("interruptible", limits.interruptible.to_string()),
        ("memory_bytes", bytes(limits.memory_bytes)),
        ("table_elements", limits.table_elements.to_string()),
        ("fuel", or_none(limits.fuel)),
        ("output_bytes", bytes(limits.output_bytes)),
        ("stdio_bytes", bytes(limits.stdio_bytes)),
        ("deterministic", or_none(limits.deterministic)),
    ];
    let known = defaults.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(rows(&page, "Of a task"), known);
    let fields = names_in(&source, "pub struct Limits {", "    pub ");
    assert_eq!(fields, known.into_iter().map(|(name, _)| name).collect());
}

#[test]
fn every_limit_of_a_compilation_is_in_the_reference_with_its_default() {
    let (page, source) = (read("docs/limits.md"), read("host/stockade-wire/src/compile_limits.rs"));
    let limits = CompileLimits::default();
    let defaults = [
        ("cpu_time", or_none(limits.cpu_time.map(time))),
        ("wall_time", or_none(limits.wall_time.map(time))),
        ("memory_bytes", bytes(limits.memory_bytes)),
        ("module_bytes", bytes(limits.module_bytes)),
        ("artefact_bytes", bytes(limits.artefact_bytes)),
        ("threads", or_none(limits.threads)),
    ];
    let known = defaults.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(rows(&page, "Of a module's compilation"), known);
    let fields = names_in(&source, "pub struct CompileLimits {", "    pub ");
    assert_eq!(fields, known.into_iter().map(|(name, _)| name).collect());
}

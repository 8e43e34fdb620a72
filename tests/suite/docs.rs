//! Reference pages: that they list what there is, and say what is so.
//!
//! Deliberately absent: their words.

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

#[test]
fn every_variant_of_every_error_is_in_the_reference_and_no_other() {
    let (page, source) = (read("docs/errors.md"), read("host/stockade/src/error.rs"));
    for name in
        ["TaskError", "SubmitError", "RunError", "BuildError", "RefusedReason", "BrokenError"]
    {
        let listed = rows(&page, &format!("`{name}`"));
        let unique: BTreeSet<_> = listed.iter().map(|(variant, _)| variant.clone()).collect();
        assert_eq!(unique.len(), listed.len(), "{name} lists a variant twice");
        assert_eq!(unique, names_in(&source, &format!("pub enum {name} {{"), "    "), "{name}");
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
        ("cpu_time", time(limits.cpu_time)),
        ("wall_time", time(limits.wall_time)),
        ("memory_bytes", bytes(limits.memory_bytes)),
        ("module_bytes", bytes(limits.module_bytes)),
        ("artefact_bytes", bytes(limits.artefact_bytes)),
    ];
    let known = defaults.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(rows(&page, "Of a module's compilation"), known);
    let fields = names_in(&source, "pub struct CompileLimits {", "    pub ");
    assert_eq!(fields, known.into_iter().map(|(name, _)| name).collect());
}

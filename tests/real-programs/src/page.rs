//! The table: that it is whole, and that its page is made from it.
//!
//! Deliberately absent: running them, which `just real-programs` does.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::table::{Program, Recorded, Registry, packages, programs, repository};

const UPDATE: &str = "STOCKADE_UPDATE=1 cargo test -p stockade-real-programs page";

const INTRODUCTION: &str = "\
# Published programs

These modules are published by others, and not made for Stockade. They are fetched from their \
registries by name, version and hash, run by `stockade run`, and compared with wasmtime: exit \
code, output and files, byte for byte. This repository has only their inputs and digests of their \
outputs (`tests/real-programs`).

```sh
just real-programs             # all: fetches 230 MB, and needs some minutes and 4 GiB of memory
just real-programs small       # what continuous integration runs
just real-programs boolector   # one, by its name; a package's name stands for all of its programs
```

A package that cannot be fetched is skipped, and marked in the table at the end; another hash is \
an error. Compiled modules are kept below `target`, so a second run takes seconds.

Some modules are libraries whose functions take pointers into their memory, which their own hosts \
fill. An adapter adds functions that read stdin and write stdout (`tests/real-programs/adapters`), \
as `wasm-merge` of Binaryen would; the rest of the module is unchanged.
";

#[test]
fn docs_real_programs_lists_every_program() {
    let programs = programs();
    let mut page = INTRODUCTION.to_string();
    write!(page, "\nA test makes this page from the table:\n\n```sh\n{UPDATE}\n```\n").unwrap();

    let lacking: Vec<_> = programs.iter().filter(|program| program.lacks.is_some()).collect();
    let (all, not) = (programs.len(), lacking.len());
    let adapted = programs.iter().filter(|program| program.adapter.is_some()).count();
    let able = all - not;
    write!(page, "\nOf {all} modules {able} do their job, {adapted} of them with an adapter. ")
        .unwrap();
    write!(page, "{not} do not:\n\n").unwrap();
    page.push_str("| program | why not |\n|---|---|\n");
    for program in &lacking {
        let why = program.lacks.as_deref().unwrap_or_default();
        writeln!(page, "| {} | {why} |", program.name).unwrap();
    }

    for package in packages() {
        let registry = match package.registry {
            Registry::Pypi => "PyPI",
            Registry::Npm => "npm",
        };
        let small = if package.small { ", in continuous integration" } else { "" };
        write!(page, "\n## {} {} ({registry}{small})\n\n", package.name, package.version).unwrap();
        page.push_str("| program | what it does here | how it is begun, besides its arguments |\n|---|---|---|\n");
        for program in programs.iter().filter(|program| program.package == package.name) {
            let how = how_it_is_begun(program);
            let Program { name, job, .. } = program;
            let lacks = match (&program.lacks, &program.adapter) {
                (Some(_), _) => " (does not)",
                (None, Some(_)) => " (with an adapter)",
                (None, None) => "",
            };
            writeln!(page, "| {name} | {job}{lacks} |{how} |").unwrap();
        }
    }
    compare(&page);
}

/// Options that a user would have to find out, grants of its own folders aside.
fn how_it_is_begun(program: &Program) -> String {
    let entry = program.entry.iter().map(|entry| format!("--entry {entry}"));
    let unknown = program.unknown_imports.iter().map(|what| format!("--unknown-imports {what}"));
    let options = program.options.chunks(2).map(|option| option.join(" "));
    let grants = program.grants.keys().map(|guest| format!("--grant-dir …::{guest}"));
    let grants = grants.chain(program.tmp.then(|| "--grant-dir …::/tmp:rw".into()));
    let environment = program.env.iter().map(|(name, value)| format!("--grant-env {name}={value}"));
    let all = entry.chain(unknown).chain(options).chain(grants).chain(environment);
    all.map(|option| format!(" `{option}`")).collect()
}

fn compare(page: &str) {
    let path = repository().join("docs/real-programs.md");
    if std::env::var_os("STOCKADE_UPDATE").is_some() {
        std::fs::write(&path, page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/real-programs.md is not what the table says: {UPDATE}");
}

#[test]
fn every_program_has_a_package_inputs_and_what_it_has_to_do() {
    let packages = packages();
    let names: BTreeSet<_> = packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names.len(), packages.len(), "a package is listed twice");
    for package in &packages {
        let is_hash = package.sha256.len() == 64
            && package.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        assert!(is_hash, "{} has no SHA-256", package.name);
    }

    let programs = programs();
    let distinct: BTreeSet<_> = programs.iter().map(|program| &program.name).collect();
    assert_eq!(distinct.len(), programs.len(), "a program is listed twice");
    let inputs = repository().join("tests/real-programs/inputs");
    for program in &programs {
        let name = &program.name;
        assert!(names.contains(program.package.as_str()), "{name}: no package");
        let input = program.args.iter().filter_map(|argument| argument.strip_prefix("/in/"));
        let stdin = program.stdin.as_deref().filter(|stdin| !stdin.starts_with("work:"));
        for file in input.chain(stdin) {
            assert!(inputs.join(file).exists(), "{name}: no input {file}");
        }
        // A program of which nothing is compared would always be as recorded.
        let writes = program.stdout != Recorded::default() || !program.files.is_empty();
        assert!(writes || program.lacks.is_some(), "{name}: nothing is recorded");
    }
}

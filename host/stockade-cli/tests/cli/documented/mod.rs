//! Documentation, block by block: what it shows is what there is.
//!
//! ```text
//! *.md ─► Block, by its first word ─┬─ console ─► console: run in the reader's folder, and compared
//!                                   ├─ rust ────► a doctest of the library's crate compiles the page
//!                                   ├─ rs, … ───► an excerpt of the file that it names, which is built
//!                                   ├─ sh ──────► commands: recipes, packages, options that are there
//!                                   └─ text ────► a drawing, with no command in it
//!      ├► commands within sentences ──────────────► commands
//!      └► links ──────────────────────────────────► files and headings that there are
//! ```
//!
//! Invariant: a block that is none of these fails, so none can be added that nothing looks at.
//!
//! Deliberately absent: examples in Rust's own documentation, which are doctests or in the command's
//! tests, and running what installs, builds or takes minutes.

mod blocks;
mod commands;
mod console;
mod picture;

use std::fs;

use blocks::{Block, blocks, pages, read, root};
use commands::Commands;
use console::{Session, are_as, shown};

/// Pages with `rust` blocks are compiled as documentation of this file's crate.
const DOCTESTS: &str = "host/stockade/src/lib.rs";

/// Where files are that the workspace builds, or that guests are made from.
const BUILT: [&str; 4] = ["examples-wasm/", "guest-sdk/", "host/", "tests/"];

/// What says that a block is right.
#[derive(Debug, PartialEq)]
enum Cover {
    Run,
    Compiled,
    Excerpt,
    Checked,
    Drawing,
}

/// # Errors
/// Why nothing does.
fn cover(block: &Block, commands: &Commands) -> Result<Cover, String> {
    match (block.kind(), block.of()) {
        ("console", None) => Ok(Cover::Run),
        ("rust", None) => compiled(block).map(|()| Cover::Compiled),
        ("sh", None) => {
            commands.check_script(&block.text)?;
            Ok(Cover::Checked)
        }
        ("text", None) => drawing(block).map(|()| Cover::Drawing),
        (_, Some(file)) => excerpt(block, file).map(|()| Cover::Excerpt),
        ("", None) => Err("it does not say what it is".into()),
        (kind, None) => {
            Err(format!("nothing looks at blocks of `{kind}`; name its file, as in ```{kind} PATH"))
        }
    }
}

fn compiled(block: &Block) -> Result<(), String> {
    let attributes: Vec<_> = block.info.split(',').skip(1).collect();
    if attributes.iter().any(|attribute| *attribute != "no_run") {
        return Err(format!("it is not compiled: {}", block.info));
    }
    let included = format!("include_str!(\"../../../{}\")", block.page);
    match read(DOCTESTS).contains(&included) {
        true => Ok(()),
        false => Err(format!("no doctest of {DOCTESTS} compiles this page")),
    }
}

fn excerpt(block: &Block, file: &str) -> Result<(), String> {
    if !BUILT.iter().any(|folder| file.starts_with(folder)) || file.ends_with(".md") {
        return Err(format!("nothing builds {file}"));
    }
    let text = fs::read_to_string(root().join(file)).map_err(|error| format!("{file}: {error}"))?;
    let lines: Vec<_> = text.lines().collect();
    // Anything before it and after it.
    let around = |text: &str| format!("…\n{text}…");
    let expected: Vec<_> = around(&block.text).lines().map(String::from).collect();
    match are_as(&expected, &lines) {
        true => Ok(()),
        false => Err(format!("{file} has nothing like it")),
    }
}

fn drawing(block: &Block) -> Result<(), String> {
    if block.text.lines().any(|line| line.trim_start().starts_with("$ ")) {
        return Err("it has commands, so it is a `console` block".into());
    }
    match block.text.contains(['─', '►', '│']) {
        true => Ok(()),
        false => Err("it is no drawing".into()),
    }
}

#[test]
fn every_block_of_every_page_is_run_compiled_or_checked() {
    let commands = Commands::of_this_repository();
    let mut wrong = Vec::new();
    let mut covers = Vec::new();
    for block in pages().iter().flat_map(|page| blocks(page, &read(page))) {
        match cover(&block, &commands) {
            Ok(cover) => covers.push(cover),
            Err(why) => wrong.push(format!("{}:{}: {why}", block.page, block.line)),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    // Else the pages were not found, or not read as they are written.
    for kind in [Cover::Run, Cover::Compiled, Cover::Excerpt, Cover::Checked, Cover::Drawing] {
        assert!(covers.contains(&kind), "no page has a block that is {kind:?}");
    }
}

#[test]
fn every_command_within_a_sentence_is_one() {
    let commands = Commands::of_this_repository();
    let mut wrong = Vec::new();
    let mut found = 0;
    for page in pages() {
        for (line, code) in blocks::codes_within_sentences(&read(&page)) {
            let check = match code.split([' ', '=']).next() {
                Some("just" | "cargo" | "stockade") if code.contains(' ') => {
                    commands.check_script(&code)
                }
                Some(option) if option.starts_with("--") && option.len() > 2 => {
                    commands.check_option(option)
                }
                _ => continue,
            };
            found += 1;
            wrong.extend(check.err().map(|why| format!("{page}:{line}: `{code}`: {why}")));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(found > 50, "only {found} commands were found");
}

#[test]
fn every_link_within_the_repository_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut found = 0;
    for page in pages() {
        let folder = root().join(&page).parent().expect("a folder").to_path_buf();
        for (line, link) in blocks::links(&read(&page)) {
            if link.contains("://") {
                continue;
            }
            found += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target = if file.is_empty() { root().join(&page) } else { folder.join(file) };
            let leads = match anchor {
                "" => target.exists(),
                anchor => fs::read_to_string(target)
                    .is_ok_and(|text| blocks::anchors(&text).iter().any(|known| known == anchor)),
            };
            wrong.extend((!leads).then(|| format!("{page}:{line}: {link}")));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(found > 50, "only {found} links were found");
}

#[test]
fn every_page_shows_what_its_commands_print() {
    let session = Session::new();
    let mut wrong = Vec::new();
    let mut run = Vec::new();
    for page in pages() {
        let shown = shown(&blocks(&page, &read(&page)));
        if !shown.is_empty() {
            wrong.extend(session.compare(&page, &shown));
            run.push(page);
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
    for page in [
        "README.md",
        "docs/guide.md",
        "docs/recipes/images.md",
        "docs/recipes/grading.md",
        "docs/seeing-inside.md",
    ] {
        assert!(run.iter().any(|found| found == page), "{page} shows no command");
    }
}

#[test]
fn the_examples_of_the_readme_run() {
    let codes = blocks::codes_within_sentences(&read("README.md"));
    let examples = codes.into_iter().map(|(_, code)| code);
    let examples: Vec<_> = examples
        .filter(|code| code.starts_with("stockade ") && code.contains("examples-wasm/"))
        .collect();
    assert!(examples.len() >= 5, "README has examples: {examples:?}");
    let session = Session::new();
    for example in examples {
        session.succeeds(&example);
    }
}

#[test]
fn a_block_that_nothing_looks_at_is_refused() {
    let commands = Commands::of_this_repository();
    let cover_of = |fenced: &str| {
        let [block] = blocks("docs/abi.md", fenced).try_into().expect("one block");
        cover(&block, &commands)
    };
    for (fenced, cover) in [
        ("```console\n$ true\n```", Cover::Run),
        ("```sh\njust chaos 50000 7   # so many\n```", Cover::Checked),
        ("```text\n a ─► b\n```", Cover::Drawing),
        ("```rs examples-wasm/wordcount/src/lib.rs\n#[task]\nfn word_count(…\n```", Cover::Excerpt),
    ] {
        assert_eq!(cover_of(fenced), Ok(cover), "{fenced}");
    }
    for fenced in [
        "```\na ─► b\n```",
        "```json\n{}\n```",
        "```text\n$ true\n```",
        "```text\nwords\n```",
        "```rust,ignore\nfn main() {}\n```",
        // This page is none that is compiled.
        "```rust\nfn main() {}\n```",
        "```rs examples-wasm/wordcount/src/lib.rs\nfn nothing_like_it() {}\n```",
        "```rs examples-wasm/nowhere.rs\nfn word_count() {}\n```",
        "```toml deny.toml\n[advisories]\n```",
        "```sh\nrm -r target\n```",
    ] {
        assert!(cover_of(fenced).is_err(), "{fenced}");
    }
}

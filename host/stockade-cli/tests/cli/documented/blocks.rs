//! Pages and what stands in them: fenced blocks, and code within sentences.
//!
//! Deliberately absent: what a block means.

use std::fs;
use std::path::{Path, PathBuf};

/// What stands between two fences.
#[derive(Debug)]
pub(super) struct Block {
    /// The page's path in the repository.
    pub(super) page: String,
    /// The line of its first fence, from 1.
    pub(super) line: usize,
    /// What stands behind that.
    pub(super) info: String,
    /// Its lines, each with its end.
    pub(super) text: String,
}

impl Block {
    /// What it is: the first word behind its fence.
    pub(super) fn kind(&self) -> &str {
        self.info.split([' ', ',']).next().unwrap_or_default()
    }

    /// The file that it is an excerpt of: the second word.
    pub(super) fn of(&self) -> Option<&str> {
        self.info.split_once(' ').map(|(_, file)| file.trim())
    }
}

pub(super) fn root() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    path.canonicalize().expect("the repository")
}

/// A file of the repository.
pub(super) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every page of the repository, templates of pages included, in order.
pub(super) fn pages() -> Vec<String> {
    let root = root();
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let name = entry.file_name().into_string().expect("a name");
            // What is built or fetched is nobody's page here.
            let is_ours = !name.starts_with('.') && name != "target" && name != "node_modules";
            if entry.file_type().expect("its type").is_dir() {
                folders.extend(is_ours.then(|| entry.path()));
            } else if name.ends_with(".md") || name.ends_with(".md.in") {
                let path = entry.path();
                let path = path.strip_prefix(&root).expect("below the root");
                found.push(path.to_str().expect("a name").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The blocks of a page, in order.
pub(super) fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        assert!(!line.trim_start().starts_with("~~~"), "{page}: fences are ``` here: {line}");
        match (&mut open, fence) {
            (None, Some(info)) => {
                let info = info.trim().to_owned();
                let (line, text) = (number + 1, String::new());
                open = Some(Block { page: page.into(), line, info, text });
            }
            (Some(block), None) => block.text.extend([line, "\n"]),
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{page}: a block has no end: {open:?}");
    found
}

/// Where links lead that stand outside of blocks, with their lines from 1.
pub(super) fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let links = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            found.extend(links.map(|link| (number + 1, link.to_owned())));
        }
    }
    found
}

/// The names by which a page's headings can be linked to.
pub(super) fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let words = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let is_kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    words.map(|words| words.chars().filter(is_kept).collect::<String>().replace(' ', "-")).collect()
}

/// Code within sentences and tables, with its line from 1.
pub(super) fn codes_within_sentences(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let codes = line.split('`').skip(1).step_by(2);
            found.extend(codes.map(|code| (number + 1, code.to_owned())));
        }
    }
    found
}

#[test]
fn blocks_and_codes_are_found_where_they_stand() {
    let text =
        "Say `a b`:\n\n```sh\n`not this`\n```\n\n- so:\n\n  ```rs some/file.rs\n  x\n  ```\n`c`\n";
    let found = blocks("page.md", text);
    let parts: Vec<_> = found.iter().map(|b| (b.line, b.kind(), b.of(), &*b.text)).collect();
    assert_eq!(parts, [(3, "sh", None, "`not this`\n"), (9, "rs", Some("some/file.rs"), "  x\n")]);
    assert_eq!(codes_within_sentences(text), [(1, "a b".to_owned()), (12, "c".to_owned())]);
    assert_eq!(links("[a](b.md#c)\n```\n[no](x)\n```\n"), [(1, "b.md#c".to_owned())]);
    assert_eq!(anchors("# What `a_b` is: not\ntext\n## C"), ["what-a_b-is-not", "c"]);
}

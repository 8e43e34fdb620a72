//! The table: which programs there are, how each is run, and what it has to do.
//!
//! ```text
//! packages.jsonl ─► Package ─┐
//! programs.jsonl ─► Program ─┴─► the fetcher, the runner, docs/real-programs.md
//! ```
//!
//! Deliberately absent: how a package is fetched and a program is run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

const PACKAGES: &str = include_str!("../packages.jsonl");
const PROGRAMS: &str = include_str!("../programs.jsonl");

/// A package of a registry, by name, version and hash.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Package {
    /// Its name in the registry.
    pub(crate) name: String,
    /// The one version that is fetched.
    pub(crate) version: String,
    /// Where it is published.
    pub(crate) registry: Registry,
    /// The name of the file that the registry has of it.
    pub(crate) file: String,
    /// The SHA-256 of that file, in hexadecimal digits.
    pub(crate) sha256: String,
    /// Whether it is so small, and compiles so soon, that every run of continuous integration has time
    /// for it.
    pub(crate) small: bool,
}

/// Where a package is published.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Registry {
    /// Python's, whose packages are zip archives here.
    Pypi,
    /// Node's, whose packages are compressed tar archives.
    Npm,
}

/// A module of a package, with the input that it is run on and what it did with that under wasmtime.
///
/// Every program finds `tests/real-programs/inputs` as `/in`, and a folder of its own, or of its
/// chain's, as `/made`, which it may write.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Program {
    /// What it is called here.
    pub(crate) name: String,
    /// Its package.
    pub(crate) package: String,
    /// Its file, below the package's folder.
    pub(crate) module: String,
    /// What it is for, as a sentence without a subject: "draws an SVG file as PNG".
    pub(crate) job: String,
    /// Programs of one chain run after each other, in the table's order, and find each other's files.
    pub(crate) chain: Option<String>,
    /// The functions that are added to it, as a file of `tests/real-programs/adapters`, since it has
    /// none that can be called from outside.
    pub(crate) adapter: Option<String>,
    /// The export to begin in, where that is not the default one.
    pub(crate) entry: Option<String>,
    /// What `--unknown-imports` is to be.
    pub(crate) unknown_imports: Option<String>,
    /// Its arguments.
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// Its environment.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Files of its package that lie in its folder, by the names that they have there.
    #[serde(default)]
    pub(crate) copies: BTreeMap<String, String>,
    /// More folders that it may read: by the name that it finds one under, the folder in the
    /// repository, or `package:` and the folder in its package, or `work:` and that in its own.
    #[serde(default)]
    pub(crate) grants: BTreeMap<String, String>,
    /// Whether it needs a `/tmp`.
    #[serde(default)]
    pub(crate) tmp: bool,
    /// The input that is its stdin, or `work:` and a file of its folder.
    pub(crate) stdin: Option<String>,
    /// More options of `stockade run`.
    #[serde(default)]
    pub(crate) options: Vec<String>,
    /// Why it does not do its job, where it does not.
    pub(crate) lacks: Option<String>,
    /// The exit code that it ends with; 67 if it traps, 65 if it is refused.
    #[serde(default)]
    pub(crate) exit: u8,
    /// What it writes to stdout.
    #[serde(default)]
    pub(crate) stdout: Recorded,
    /// Files that it makes in its folder, and what is in them.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, Recorded>,
}

/// What is known of some bytes.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Recorded {
    /// All of them, which are a text.
    Text(String),
    /// The SHA-256 of all of them, or of so many at their end where what stands before differs from
    /// run to run.
    Digest {
        /// In hexadecimal digits.
        sha256: String,
        /// How many bytes at the end count.
        last: Option<usize>,
    },
}

impl Default for Recorded {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Recorded {
    /// Whether these are the bytes. If not, in which way they are others, as a sentence without a
    /// subject.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(), String> {
        match self {
            Self::Text(text) if bytes == text.as_bytes() => Ok(()),
            Self::Text(text) => Err(format!(
                "is {:?} rather than {text:?}",
                shortened(&String::from_utf8_lossy(bytes))
            )),
            Self::Digest { sha256, last } => {
                let counted = &bytes[bytes.len().saturating_sub(last.unwrap_or(bytes.len()))..];
                let found = sha256_of(counted);
                (found == *sha256).then_some(()).ok_or_else(|| {
                    format!(
                        "has the SHA-256 {found} rather than {sha256}, in {} bytes",
                        bytes.len()
                    )
                })
            }
        }
    }
}

/// The packages, in the order in which they are fetched.
pub(crate) fn packages() -> Vec<Package> {
    lines(PACKAGES, "packages.jsonl")
}

/// The programs, in the table's order.
pub(crate) fn programs() -> Vec<Program> {
    lines(PROGRAMS, "programs.jsonl")
}

/// The SHA-256 of some bytes, in hexadecimal digits.
pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The repository's folder.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn lines<T: serde::de::DeserializeOwned>(text: &str, file: &str) -> Vec<T> {
    let parsed = text.lines().enumerate().map(|(index, line)| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{file}:{}: {error}", index + 1))
    });
    parsed.collect()
}

fn shortened(text: &str) -> String {
    const SHOWN_MAX: usize = 200;
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_held_against_what_is_recorded() {
        let text = Recorded::Text("true\n".into());
        assert_eq!(text.check(b"true\n"), Ok(()));
        assert_eq!(text.check(b"false\n"), Err(r#"is "false\n" rather than "true\n""#.into()));
        let digest = |last| Recorded::Digest { sha256: sha256_of(b"abc"), last };
        assert_eq!(digest(None).check(b"abc"), Ok(()));
        assert!(digest(None).check(b"xabc").is_err());
        assert_eq!(digest(Some(3)).check(b"xabc"), Ok(()));
        assert!(digest(Some(3)).check(b"bc").is_err());
    }
}

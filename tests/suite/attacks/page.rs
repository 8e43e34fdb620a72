//! `docs/security.md`: its table of attacks, one line a number, made and kept by the tests.
//!
//! A test of an attack hands over what it saw. The page must already say the same, or is changed to
//! say it where that is asked for:
//!
//! ```sh
//! STOCKADE_UPDATE=1 cargo test -p stockade-tests attacks
//! ```
//!
//! Invariant: text outside the markers is written by people and never changed here.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use stockade_tests::repository;

const CATALOGUE: &str = include_str!("catalogue.txt");
const ATTACKS: usize = 90;
const BEGIN: &str = "<!-- attacks: made by tests -->";
const END: &str = "<!-- end of attacks -->";
const UPDATE: &str = "STOCKADE_UPDATE=1 cargo test -p stockade-tests attacks";

/// Hands over what was seen of the attack `number`.
///
/// # Panics
/// If the page says something else, unless it is to be changed.
#[track_caller]
pub(super) fn seen(number: usize, what: &str) {
    assert!(!what.contains(['|', '\n']), "one cell of a table: {what:?}");
    let mut page = Page::open();
    let known = page.seen(number);
    if known.as_deref() == Some(what) {
        return;
    }
    assert!(
        Page::is_to_be_changed(),
        "docs/security.md says of attack {number}: {known:?}; seen was: {what:?}; run: {UPDATE}"
    );
    page.set(number, what);
}

/// Compares what the page has between the markers of `part` with `text`, or writes it there.
///
/// # Panics
/// If the page says something else, unless it is to be changed.
pub(super) fn compare_between(part: &str, text: &str) {
    let page = Page::open();
    let (begin, end) =
        (format!("<!-- {part}: made by a test -->\n"), format!("<!-- end of {part} -->"));
    let (before, rest) = page.text.split_once(&begin).expect("the page has the first marker");
    let (there, after) = rest.split_once(&end).expect("the page has the second marker");
    if Page::is_to_be_changed() {
        fs::write(&page.path, format!("{before}{begin}{text}{end}{after}")).unwrap();
    } else {
        assert_eq!(there, text, "{part}: run: {UPDATE}");
    }
}

#[test]
fn docs_security_has_a_row_for_every_attack() {
    let mut page = Page::open();
    if Page::is_to_be_changed() {
        page.save();
    }
    let numbers: Vec<_> = attacks().map(|(number, ..)| number).collect();
    assert_eq!(numbers, (1..=ATTACKS).collect::<Vec<_>>(), "the catalogue is complete, in order");
    for number in numbers {
        assert!(page.seen(number).is_some(), "attack {number} was never seen; run: {UPDATE}");
    }
    let table = page.table();
    assert!(page.text.contains(&table), "the table is not what the catalogue says; run: {UPDATE}");
}

#[test]
fn every_attack_has_a_test_of_its_number() {
    let folder = repository().join("tests/suite/attacks");
    let mut sources = String::new();
    collect(&folder, &mut sources);
    for number in 1..=ATTACKS {
        let name = format!("fn a{number:02}_");
        let said = format!("seen({number},");
        let compact: String = sources.split_whitespace().collect::<Vec<_>>().join(" ");
        let compact = compact.replace("seen( ", "seen(");
        assert_eq!(compact.matches(&name).count(), 1, "attack {number}: one test `{name}…`");
        assert_eq!(compact.matches(&said).count(), 1, "attack {number}: one `{said} …)`");
    }
}

fn collect(folder: &std::path::Path, sources: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && path.file_name().is_some_and(|name| name != "page.rs")
        {
            sources.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// Number, attack and expectation, in order.
fn attacks() -> impl Iterator<Item = (usize, &'static str, &'static str)> {
    let lines = CATALOGUE.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '=']));
    lines.map(|line| {
        let fields: Vec<_> = line.split('|').map(str::trim).collect();
        let [number, attack, expected] = fields[..] else { panic!("no three: {line}") };
        (number.parse().expect("a number"), attack, expected)
    })
}

struct Page {
    path: PathBuf,
    text: String,
    /// What was seen, by number.
    seen: Vec<Option<String>>,
    /// Tests run at the same time, and the page is one file.
    _alone: std::sync::MutexGuard<'static, ()>,
}

impl Page {
    fn open() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let path = repository().join("docs/security.md");
        let text = fs::read_to_string(&path).expect("the page is there");
        let mut seen = vec![None; ATTACKS + 1];
        for line in text.lines() {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            if let ["", number, _, _, what, ""] = cells[..]
                && let Ok(number) = number.parse::<usize>()
                && !what.is_empty()
                && let Some(place) = seen.get_mut(number)
            {
                *place = Some(what.to_owned());
            }
        }
        Self { path, text, seen, _alone: alone }
    }

    fn is_to_be_changed() -> bool {
        std::env::var_os("STOCKADE_UPDATE").is_some()
    }

    fn seen(&self, number: usize) -> Option<String> {
        self.seen[number].clone()
    }

    fn set(&mut self, number: usize, what: &str) {
        self.seen[number] = Some(what.to_owned());
        self.save();
    }

    fn save(&mut self) {
        let (before, rest) = self.text.split_once(BEGIN).expect("the page has its first marker");
        let (_, after) = rest.split_once(END).expect("the page has its second marker");
        self.text = format!("{before}{BEGIN}\n{}{END}{after}", self.table());
        fs::write(&self.path, &self.text).expect("the page can be written");
    }

    fn table(&self) -> String {
        let mut table = String::new();
        let head = "| | attack | expected | seen |\n|---:|---|---|---|\n";
        for line in CATALOGUE.lines() {
            if let Some(title) = line.strip_prefix("= ") {
                table.push_str(&format!("\n### {title}\n\n{head}"));
            } else if let Some((number, ..)) = line.split_once(" | ")
                && let Ok(number) = number.parse::<usize>()
            {
                let (_, attack, expected) = attacks().nth(number - 1).expect("it is listed");
                let seen = self.seen[number].as_deref().unwrap_or_default();
                table.push_str(&format!("| {number} | {attack} | {expected} | {seen} |\n"));
            }
        }
        table
    }
}

//! The table of figures: for people, as lines of JSON, and for the documentation.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};

use crate::figure::{Bound, Figure};

/// Around the table in the documentation.
const BEGIN: &str = "<!-- figures: begin -->\n";
const END: &str = "<!-- figures: end -->\n";

/// What became of a target, in a word.
fn verdict(figure: &Figure) -> &'static str {
    match (figure.missing(), figure.met(), figure.stretched()) {
        (Some(_), _, _) => "not measured",
        (None, None, _) => "",
        (None, Some(false), _) => "MISSED",
        (None, Some(true), Some(true)) => "met, and more",
        (None, Some(true), _) => "met",
    }
}

/// Three digits that count, and none that do not.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.2} M", value / 1e6),
        size if size >= 1e4 => format!("{:.1} k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn optional(value: Option<f64>) -> String {
    value.map(number).unwrap_or_default()
}

fn text(bound: Option<Bound>) -> String {
    bound.map(Bound::text).unwrap_or_default()
}

/// Prints `figures` for people.
///
/// # Errors
/// If `out` fails.
pub(crate) fn print(out: &mut impl Write, figures: &[Figure]) -> io::Result<()> {
    let width = figures.iter().map(|figure| figure.name.chars().count()).max().unwrap_or_default();
    writeln!(
        out,
        "{:width$}  {:>9} {:9} {:>9} {:>8}  {:>7} {:>7}  {:13}  reference",
        "figure", "value", "", "reference", "ratio", "target", "stretch", ""
    )?;
    for figure in figures {
        let Figure { name, unit, target, stretch, .. } = figure;
        let measured = figure.measured.as_ref().ok();
        let value = optional(measured.map(|measured| measured.value));
        let reference = optional(measured.and_then(|measured| measured.reference));
        let ratio = optional(measured.and_then(|measured| measured.ratio));
        let note = figure.missing().or(figure.reference_name).unwrap_or_default();
        let (target, stretch, verdict) = (text(*target), text(*stretch), verdict(figure));
        writeln!(
            out,
            "{name:width$}  {value:>9} {unit:9} {reference:>9} {ratio:>8}  {target:>7} {stretch:>7}  \
             {verdict:13}  {note}"
        )?;
    }
    let count = |met| figures.iter().filter(|figure| figure.met() == Some(met)).count();
    let missing = figures.iter().filter(|figure| figure.missing().is_some()).count();
    writeln!(out, "\n{} met, {} missed, {missing} not measured", count(true), count(false))
}

/// Writes a line of JSON for each figure to `file`.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn write_lines(file: &Path, figures: &[Figure]) -> Result<()> {
    let lines: String = figures.iter().map(|figure| figure.json().to_string() + "\n").collect();
    std::fs::write(file, lines).with_context(|| format!("cannot write {}", file.display()))
}

/// Puts `figures` into the page `file`, between its markers, behind a line that says `whence`.
///
/// # Errors
/// If the file cannot be read or written, or has no markers.
pub(crate) fn write_page(file: &Path, figures: &[Figure], whence: &str) -> Result<()> {
    let page =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let page = with_table(&page, &format!("{whence}\n\n{}", markdown(figures)))
        .context("the page has no markers")?;
    std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))
}

fn with_table(page: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some([before, BEGIN, table, END, after].concat())
}

fn markdown(figures: &[Figure]) -> String {
    let mut out = String::from(
        "| figure | value | reference | ratio | target | stretch | |\n|---|---|---|---|---|---|---|\n",
    );
    // Writing to a string cannot fail.
    for figure in figures {
        let Figure { name, unit, target, stretch, .. } = figure;
        let measured = figure.measured.as_ref().ok();
        let value = measured.map(|measured| format!("{} {unit}", number(measured.value)));
        let value = value.unwrap_or_default();
        let mut reference = figure.reference_name.unwrap_or("–").to_owned();
        if let Some(value) = measured.and_then(|measured| measured.reference) {
            let _ = write!(reference, ": {} {unit}", number(value));
        }
        let ratio = optional(measured.and_then(|measured| measured.ratio));
        let mut verdict = verdict(figure).to_owned();
        if let Some(why) = figure.missing() {
            let _ = write!(verdict, ": {}", why.replace('|', "\\|"));
        }
        let (target, stretch) = (text(*target), text(*stretch));
        let _ = writeln!(
            out,
            "| {name} | {value} | {reference} | {ratio} | {target} | {stretch} | {verdict} |"
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Measured;

    fn figure(measured: Result<Measured, String>) -> Figure {
        Figure {
            name: "map",
            unit: "tasks/s",
            reference_name: Some("two processes"),
            target: Some(Bound::AtLeast(0.8)),
            stretch: Some(Bound::AtLeast(0.95)),
            measured,
            unreferenced: None,
        }
    }

    fn ratio(ratio: f64) -> Figure {
        let value = 1000.0 * ratio;
        figure(Ok(Measured { value, reference: Some(1000.0), ratio: Some(ratio) }))
    }

    #[test]
    fn a_verdict_tells_met_from_missed_and_from_not_measured() {
        assert_eq!(verdict(&ratio(0.79)), "MISSED");
        assert_eq!(verdict(&ratio(0.8)), "met");
        assert_eq!(verdict(&ratio(0.95)), "met, and more");
        assert_eq!(verdict(&figure(Err("no peer".into()))), "not measured");
    }

    #[test]
    fn every_figure_is_a_line_of_the_table_and_the_verdicts_are_counted() {
        let mut out = Vec::new();
        print(&mut out, &[ratio(0.5), ratio(0.9), figure(Err("no peer".into()))]).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 6);
        assert!(text.contains("no peer"));
        assert!(text.ends_with("1 met, 1 missed, 1 not measured\n"));
    }

    #[test]
    fn a_page_keeps_all_but_what_is_between_its_markers() {
        let page = format!("before\n{BEGIN}old\n{END}after\n");
        let new = with_table(&page, "new\n").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}new\n{END}after\n"));
        assert_eq!(with_table("no markers", "new\n"), None);
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        let all = [0.0, 0.0123, 1.234, 56.78, 910.1, 23_456.0, 7_890_000.0].map(number);
        assert_eq!(all, ["0.00", "0.012", "1.23", "56.8", "910", "23.5 k", "7.89 M"]);
    }
}

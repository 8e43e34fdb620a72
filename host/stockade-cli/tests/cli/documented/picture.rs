//! The picture of a run in README: made from what commands print, and compared with it.
//!
//! ```text
//! COMMANDS ─► Session, with colours ─► lines of coloured pieces ─► SVG ─► docs/run.svg
//! ```
//! `just picture` makes it; the test fails where the commands print anything else by now. So they are ones
//! whose output has no time and no size in it, but for a summary's.
//!
//! Deliberately absent: fonts, cursors and whatever else a terminal can do.

use std::fs;

use super::blocks::root;
use super::console::Session;

const PICTURE: &str = "docs/run.svg";

/// What is there before, and not shown.
const BEFORE: &str = "echo '(module (func (export \"spin\") (loop $ever (br $ever))))' > spin.wat";

/// What the picture shows.
const COMMANDS: [&str; 4] = [
    "stockade run wordcount.wasm top_words @alice.txt 5",
    "stockade map thumbnail.wasm describe --files cat.png alice.txt rocket.jpg",
    "stockade run located.wasm percent 1 0",
    "stockade run spin.wat spin --wall-time 200ms",
];

/// Characters of a line, beyond which a terminal goes on in the next one.
const COLUMNS: usize = 90;

/// Pixels of a character and of a line, and between the text and the edge.
const CHARACTER: f64 = 8.4;
const LINE: usize = 20;
const EDGE: usize = 16;

/// A piece of a line, in one style.
#[derive(Debug, Default, PartialEq)]
struct Piece {
    text: String,
    /// A number of ANSI's, from 0 to 7.
    colour: Option<u8>,
    bold: bool,
}

/// The pieces of a line with ANSI's sequences for styles in it; other sequences are none.
fn pieces(line: &str) -> Vec<Piece> {
    let mut all = vec![Piece::default()];
    for (number, part) in line.split("\u{1b}[").enumerate() {
        let (codes, text) = match (number, part.split_once('m')) {
            (0, _) => ("", part),
            (_, Some((codes, text))) => (codes, text),
            (_, None) => panic!("a sequence that is no style: {part:?}"),
        };
        let Piece { mut colour, mut bold, .. } = *all.last().expect("a piece");
        for code in codes.split(';').filter(|_| number > 0) {
            match code.parse() {
                Ok(0) | Err(_) => (colour, bold) = (None, false),
                Ok(1) => bold = true,
                Ok(code @ 30..=37) => colour = Some(code - 30),
                Ok(_) => panic!("a style that is not drawn: {code}"),
            }
        }
        all.push(Piece { text: text.into(), colour, bold });
    }
    all.retain(|piece| !piece.text.is_empty());
    all
}

/// Light on dark, as in most terminals.
fn colour(number: Option<u8>) -> &'static str {
    match number {
        None => "#d8dee9",
        Some(1) => "#ff7b86",
        Some(2) => "#8fd694",
        Some(3) => "#f2cc8f",
        Some(4 | 6) => "#88c0d0",
        Some(_) => "#c3a6ff",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A picture of these lines.
fn drawn(lines: &[Vec<Piece>]) -> String {
    let characters =
        |line: &Vec<Piece>| line.iter().map(|piece| piece.text.chars().count()).sum::<usize>();
    let widest = lines.iter().map(characters).max().unwrap_or_default();
    let width = 2 * EDGE + (widest as f64 * CHARACTER).ceil() as usize;
    let height = 2 * EDGE + lines.len() * LINE;
    let mut svg = String::new();
    let mut add = |text: &str| svg.push_str(text);
    add(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\">\n<title>stockade in a terminal</title>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#20242c\"/>\n\
         <g font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, monospace\" font-size=\"14\" \
         xml:space=\"preserve\">\n"
    ));
    for (number, line) in lines.iter().enumerate() {
        let y = EDGE + number * LINE + 14;
        add(&format!("<text x=\"{EDGE}\" y=\"{y}\">"));
        for piece in line {
            let bold = if piece.bold { " font-weight=\"bold\"" } else { "" };
            let (fill, text) = (colour(piece.colour), escaped(&piece.text));
            add(&format!("<tspan fill=\"{fill}\"{bold}>{text}</tspan>"));
        }
        add("</text>\n");
    }
    add("</g>\n</svg>\n");
    svg
}

/// A line as a terminal shows it: in as many as it needs.
fn wrapped(pieces: Vec<Piece>) -> Vec<Vec<Piece>> {
    let mut lines = vec![Vec::new()];
    let mut left = COLUMNS;
    for piece in pieces {
        let characters: Vec<char> = piece.text.chars().collect();
        let mut rest = &characters[..];
        while !rest.is_empty() {
            if left == 0 {
                lines.push(Vec::new());
                left = COLUMNS;
            }
            let (now, later) = rest.split_at(rest.len().min(left));
            let text = now.iter().collect();
            lines.last_mut().expect("a line").push(Piece { text, ..piece });
            (left, rest) = (left - now.len(), later);
        }
    }
    lines
}

/// The commands, each behind a prompt, and what they print.
fn lines() -> Vec<Vec<Piece>> {
    let commands: Vec<_> = [BEFORE].into_iter().chain(COMMANDS).collect();
    let printed = Session::new().printed(&commands, &[("CLICOLOR_FORCE", "1")]);
    assert_eq!(printed.len(), commands.len(), "{printed:?}");
    let mut lines = Vec::new();
    for (command, printed) in COMMANDS.iter().zip(&printed[1..]) {
        let prompt = Piece { text: "$ ".into(), colour: Some(4), bold: true };
        let typed = Piece { text: (*command).into(), colour: None, bold: true };
        lines.extend(wrapped(vec![prompt, typed]));
        lines.extend(printed.lines().map(pieces).flat_map(wrapped));
        lines.push(Vec::new());
    }
    lines.pop();
    lines
}

/// A line of a picture without the time that a summary ends with, which is never the same.
fn without_time(line: &str) -> String {
    match line.rsplit_once("; ") {
        Some((before, after)) if after.starts_with(|c: char| c.is_ascii_digit()) => {
            format!("{before}{}", after.trim_start_matches(|c| c != '<'))
        }
        _ => line.into(),
    }
}

#[test]
fn the_picture_shows_what_its_commands_print() {
    let made = drawn(&lines());
    let path = root().join(PICTURE);
    if std::env::var_os("STOCKADE_UPDATE").is_some() {
        fs::write(&path, &made).expect("the picture is written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let [kept, made] = [kept, made].map(|svg| svg.lines().map(without_time).collect::<Vec<_>>());
    // Line by line, so that a failure names the one that differs.
    for (kept, made) in kept.iter().zip(&made) {
        assert_eq!(kept, made, "{PICTURE} is not what is printed: run `just picture`");
    }
    assert_eq!(kept.len(), made.len(), "{PICTURE} is not what is printed: run `just picture`");
}

#[test]
fn styles_are_pieces_and_text_stays_text() {
    let piece = |text: &str, colour, bold| Piece { text: text.into(), colour, bold };
    assert_eq!(
        pieces("\u{1b}[1m\u{1b}[31merror\u{1b}[0m: a <b> & c"),
        [piece("error", Some(1), true), piece(": a <b> & c", None, false)]
    );
    assert!(pieces("").is_empty());
    let long = "x".repeat(COLUMNS - 1);
    let lines = wrapped(vec![piece(&long, None, true), piece("yz", Some(2), false)]);
    assert_eq!(lines[0], [piece(&long, None, true), piece("y", Some(2), false)]);
    assert_eq!(lines[1..], [vec![piece("z", Some(2), false)]]);
    assert_eq!(without_time("1 failed; 12.5 ms</text>"), "1 failed</text>");
    assert_eq!(without_time("no time; none</text>"), "no time; none</text>");
    let drawn = drawn(&[pieces("a <b> & c")]);
    assert!(drawn.contains(">a &lt;b&gt; &amp; c</tspan>"), "{drawn}");
}

//! Escaping: what guests say, made harmless for a terminal.
//!
//! Control characters, which move cursors, change titles and answer back, and the marks that turn
//! the direction of text are shown as escapes. Newlines and tabs stay, but in a [`line`].

use std::fmt::Write;

/// Whether a terminal would do something else with `c` than show it.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` with everything but newlines and tabs escaped that a terminal would not just show.
pub(crate) fn text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    push_text(text, &mut escaped);
    escaped
}

/// As [`text`], on one line: newlines and tabs are escaped too.
pub(crate) fn line(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    escaped
}

/// As [`text`], of bytes that should be UTF-8; those that are not become `\xNN`.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    let mut escaped = String::with_capacity(bytes.len());
    let mut escaper = Escaper::default();
    escaper.push(bytes, &mut escaped);
    escaper.finish(&mut escaped);
    escaped
}

/// The first `bytes_max` bytes of `text`, or a little less, and a mark where that is not all.
pub(crate) fn bounded(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_string();
    }
    let end = text.floor_char_boundary(bytes_max);
    format!("{}… ({} bytes more)", &text[..end], text.len() - end)
}

/// Escapes a stream whose pieces may end inside a character.
#[derive(Debug, Default)]
pub(crate) struct Escaper {
    /// The beginning of a character: at most three bytes.
    pending: Vec<u8>,
}

impl Escaper {
    /// Appends `bytes` to `out`, escaped, but for a character that is not complete yet.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut String) {
        let mut joined = std::mem::take(&mut self.pending);
        joined.extend_from_slice(bytes);
        let mut rest = &joined[..];
        loop {
            let error = match std::str::from_utf8(rest) {
                Ok(text) => return push_text(text, out),
                Err(error) => error,
            };
            let (valid, invalid) = rest.split_at(error.valid_up_to());
            push_text(&String::from_utf8_lossy(valid), out);
            let Some(length) = error.error_len() else {
                self.pending = invalid.to_vec();
                return;
            };
            push_bytes(&invalid[..length], out);
            rest = &invalid[length..];
        }
    }

    /// Appends what is left of a character that never became complete.
    pub(crate) fn finish(&mut self, out: &mut String) {
        push_bytes(&std::mem::take(&mut self.pending), out);
    }
}

fn push_text(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            _ if is_unsafe(c) => out.extend(c.escape_default()),
            _ => out.push(c),
        }
    }
}

fn push_bytes(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_terminal_is_escaped_and_what_it_shows_stays() {
        assert_eq!(text("grün\tund\nblau ✓"), "grün\tund\nblau ✓");
        assert_eq!(text("\x1b[2J\x07\r"), "\\u{1b}[2J\\u{7}\\r");
        assert_eq!(text("\u{9b}31m \u{202e}txt"), "\\u{9b}31m \\u{202e}txt");
        assert_eq!(line("one\ntwo"), "one\\ntwo");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_numbers() {
        assert_eq!(bytes(b"ok \xff\xfe \xe2\x82"), "ok \\xff\\xfe \\xe2\\x82");
    }

    #[test]
    fn a_character_in_two_pieces_stays_one() {
        let whole = "a€\u{1b}€".as_bytes();
        for cut in 0..whole.len() {
            let (mut escaper, mut out) = (Escaper::default(), String::new());
            escaper.push(&whole[..cut], &mut out);
            escaper.push(&whole[cut..], &mut out);
            escaper.finish(&mut out);
            assert_eq!(out, "a€\\u{1b}€", "cut at {cut}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters_and_marked() {
        assert_eq!(bounded("short", 5), "short");
        assert_eq!(bounded("€€€", 4), "€… (6 bytes more)");
    }
}

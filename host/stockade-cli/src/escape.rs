//! Escaping: what guests say, made harmless for a terminal.
//!
//! What would do something there, or cannot be seen, is shown as an escape: [`Visibility`] has the table.
//! Text keeps its newlines, its tabs and the joiners that some scripts and emoji need; a [`line`], which
//! often has a name, keeps none of them.

use std::fmt::Write;

use stockade_wire::Visibility;

/// Whether a text may have `c` as it is.
pub(crate) fn is_text(c: char) -> bool {
    match Visibility::of(c) {
        Visibility::Visible | Visibility::Joiner => true,
        Visibility::Hidden => c == '\n' || c == '\t',
    }
}

/// `text` with everything escaped that [`is_text`] does not allow.
pub(crate) fn text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    push_text(text, &mut escaped);
    escaped
}

/// `text` with everything escaped that is not visible, newlines, tabs and joiners too.
pub(crate) fn line(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match Visibility::of(c) {
            Visibility::Visible => escaped.push(c),
            Visibility::Joiner | Visibility::Hidden => escaped.extend(c.escape_default()),
        }
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
        if is_text(c) { out.push(c) } else { out.extend(c.escape_default()) }
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
    fn joiners_stay_in_text_and_show_in_a_name() {
        let family = "👨\u{200d}👩 ❤\u{fe0f} می\u{200c}خواهم";
        assert_eq!(text(family), family);
        assert_eq!(line("ad\u{200d}d\u{200b}"), "ad\\u{200d}d\\u{200b}");
        assert_eq!(text("tag\u{e0067}, space\u{200b}"), "tag\\u{e0067}, space\\u{200b}");
    }

    #[test]
    fn a_line_has_no_character_that_is_not_visible_and_a_text_none_that_is_hidden() {
        for c in '\0'..=char::MAX {
            let visibility = Visibility::of(c);
            let (of_line, of_text) = (line(&c.to_string()), text(&c.to_string()));
            assert_eq!(of_line == c.to_string(), visibility == Visibility::Visible, "{of_line}");
            assert!(of_line.chars().all(|c| Visibility::of(c) == Visibility::Visible), "{of_line}");
            assert_eq!(of_text == c.to_string(), is_text(c), "{of_text}");
            assert!(of_text.chars().all(is_text), "{of_text}");
            assert!(is_text(c) || visibility == Visibility::Hidden, "{of_text}");
        }
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

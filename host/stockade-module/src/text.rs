//! Bounded text that may contain a guest's text.

use std::fmt::{self, Write};

use stockade_wire::{CUT_MARK, MESSAGE_BYTES_MAX, Refusal, RefusalKind, Visibility};

/// A refusal whose message is bounded.
pub fn refusal(kind: RefusalKind, message: &str) -> Refusal {
    Refusal { kind, message: bounded(message) }
}

/// `text`, truncated to the length of a message: 4 KiB and a mark.
pub fn bounded(text: &str) -> String {
    let mut bounded = Bounded::new(MESSAGE_BYTES_MAX);
    let _ = bounded.write_str(text);
    bounded.finish()
}

/// `text`, truncated to at most this many bytes, including the mark.
pub(crate) fn bounded_to(bytes_max: usize, text: &str) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut bounded = Bounded::new(bytes_max - CUT_MARK.len_utf8());
    // The rest is truncated.
    let _ = bounded.write_str(text);
    bounded.finish()
}

/// A guest's name for a message: its first 100 characters, of which those that are not visible are escaped.
pub fn quoted(name: &str) -> String {
    const SHOWN_MAX: usize = 100;
    let mut shown = String::new();
    for c in name.chars().take(SHOWN_MAX) {
        match Visibility::of(c) {
            Visibility::Visible => shown.push(c),
            Visibility::Joiner | Visibility::Hidden => shown.extend(c.escape_default()),
        }
    }
    if name.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// Text with a limit, and a mark if it was truncated.
#[derive(Debug)]
pub struct Bounded {
    text: String,
    limit: usize,
    cut: bool,
}

impl Bounded {
    /// No text yet, and room for `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { text: String::new(), limit, cut: false }
    }

    /// The text, with an ellipsis if it was truncated.
    pub fn finish(mut self) -> String {
        if self.cut {
            self.text.push(CUT_MARK);
        }
        self.text
    }
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.limit - self.text.len();
        if text.len() <= room {
            self.text.push_str(text);
            return Ok(());
        }
        self.text.push_str(&text[..text.floor_char_boundary(room)]);
        self.cut = true;
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_at_its_limit_is_whole_and_a_longer_one_is_cut_at_a_character() {
        let whole = "a".repeat(MESSAGE_BYTES_MAX);
        assert_eq!(bounded(&whole), whole);
        assert_eq!(bounded(&format!("{whole}a")), format!("{whole}…"));
        let shown = bounded(&format!("a{}", "é".repeat(MESSAGE_BYTES_MAX / 2)));
        assert_eq!(shown, format!("a{}…", "é".repeat(MESSAGE_BYTES_MAX / 2 - 1)));
    }

    #[test]
    fn a_quoted_name_has_no_character_that_is_not_visible() {
        for c in '\0'..=char::MAX {
            let shown = quoted(&c.to_string());
            let is_visible = Visibility::of(c) == Visibility::Visible;
            assert_eq!(shown == c.to_string(), is_visible, "{shown}");
            assert!(shown.chars().all(|c| Visibility::of(c) == Visibility::Visible), "{shown}");
        }
        assert_eq!(quoted("it's \u{200b}a\r\nname"), "it's \\u{200b}a\\r\\nname");
        assert_eq!(quoted(&"é".repeat(100)), "é".repeat(100));
        assert_eq!(quoted(&"\u{200b}".repeat(101)), format!("{}…", "\\u{200b}".repeat(100)));
    }
}

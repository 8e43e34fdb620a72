//! Text that may hold a guest's words, and never more of it than fits.

use std::fmt::{self, Write};

use stockade_wire::{CUT_MARK, MESSAGE_BYTES_MAX, Refusal, RefusalKind};

/// A refusal whose message is bounded.
pub fn refusal(kind: RefusalKind, message: &str) -> Refusal {
    Refusal { kind, message: bounded(message) }
}

/// `text`, cut to the length of a message: 4 KiB and a mark.
pub fn bounded(text: &str) -> String {
    let mut bounded = Bounded::new(MESSAGE_BYTES_MAX);
    let _ = bounded.write_str(text);
    bounded.finish()
}

/// `text` in at most so many bytes, the mark that it was cut among them.
pub(crate) fn bounded_to(bytes_max: usize, text: &str) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut bounded = Bounded::new(bytes_max - CUT_MARK.len_utf8());
    // What does not fit is what is cut.
    let _ = bounded.write_str(text);
    bounded.finish()
}

/// Text that stops at a limit and says that it did.
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

    /// The text, with an ellipsis where it was cut.
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
}

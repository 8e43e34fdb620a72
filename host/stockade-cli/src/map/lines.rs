//! Lines: the input, cut and counted, no line longer than a limit.

use std::io::{self, BufRead};

use super::input::ITEM_BYTES_MAX;
use super::item::{Content, Item, Name};

/// The hint for an input in UTF-16.
pub(crate) const WIDE: &str = "; it looks like UTF-16: write it as UTF-8";

/// Whether a text begins with the mark of UTF-16.
pub(crate) fn is_wide(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff")
}

/// Why a line is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BadLine {
    /// It has more bytes than a line may have.
    TooLong,
    /// It is not UTF-8, from this byte on.
    NotUtf8 { at: usize },
    /// It is UTF-16, and so is the whole input.
    Wide,
    /// It is all of a text whose lines end in carriage returns alone.
    Returns,
}

impl std::fmt::Display for BadLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong => {
                write!(f, "the line has more than {} MiB", ITEM_BYTES_MAX >> 20)
            }
            Self::NotUtf8 { at } => write!(f, "the line is not UTF-8 text, from its byte {at}"),
            Self::Wide => write!(f, "the line is not UTF-8 text{WIDE}"),
            Self::Returns => f.write_str(
                "the input has carriage returns and no line feed, so that all of it is one line; \
                 end \
                 lines in line feeds",
            ),
        }
    }
}

/// The lines of a reader. Ends with the input, or with the first error of it.
pub(crate) struct Lines<R> {
    reader: R,
    number: u64,
    /// Bytes of the line that was read last, with its end.
    line_bytes: u64,
    ended: bool,
    /// Whether lines are texts, in which a carriage return is an ordinary character.
    are_texts: bool,
}

impl<R: BufRead> Lines<R> {
    /// Reads nothing yet.
    pub(crate) fn new(reader: R, are_texts: bool) -> Self {
        Self { reader, number: 0, line_bytes: 0, ended: false, are_texts }
    }

    /// What the lines are cut from.
    pub(crate) fn reader_mut(&mut self) -> &mut R {
        &mut self.reader
    }

    /// The bytes up to the next line end, `None` where there are none left. Those of a line that is
    /// too long are read and dropped.
    fn next_bytes(&mut self) -> io::Result<Option<Result<Vec<u8>, BadLine>>> {
        let (mut line, mut is_long, mut is_empty) = (Vec::new(), false, true);
        self.line_bytes = 0;
        loop {
            let available = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                available => available?,
            };
            if available.is_empty() {
                self.ended = true;
                break;
            }
            is_empty = false;
            let end = available.iter().position(|&byte| byte == b'\n');
            let piece = &available[..end.unwrap_or(available.len())];
            is_long |= line.len() + piece.len() > ITEM_BYTES_MAX;
            if is_long {
                line = Vec::new();
            } else {
                line.extend_from_slice(piece);
            }
            let used = piece.len() + usize::from(end.is_some());
            self.reader.consume(used);
            self.line_bytes += used as u64;
            if end.is_some() {
                break;
            }
        }
        match is_empty {
            true => Ok(None),
            false => Ok(Some(if is_long { Err(BadLine::TooLong) } else { Ok(line) })),
        }
    }

    fn text(&self, mut bytes: Vec<u8>) -> Result<String, BadLine> {
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        // The JSON parser reports it.
        if self.are_texts && self.number == 1 && self.ended && bytes.contains(&b'\r') {
            return Err(BadLine::Returns);
        }
        if self.number == 1 && is_wide(&bytes) {
            return Err(BadLine::Wide);
        }
        if self.number == 1 && bytes.starts_with("\u{feff}".as_bytes()) {
            // The byte order mark of some editors is not part of the text.
            bytes.drain(..3);
        }
        String::from_utf8(bytes)
            .map_err(|error| BadLine::NotUtf8 { at: error.utf8_error().valid_up_to() + 1 })
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.next_bytes() {
            Ok(None) => None,
            Ok(Some(bytes)) => {
                self.number += 1;
                let text = bytes.and_then(|bytes| self.text(bytes));
                let content = text.map(Content::Text).map_err(|bad| bad.to_string());
                let (ordinal, name) = (self.number, Name::Line(self.number));
                Some(Ok(Item { ordinal, name, content, weight: self.line_bytes }))
            }
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> Vec<Item> {
        // A small buffer, so that lines are cut where it ends.
        let reader = io::BufReader::with_capacity(3, input);
        Lines::new(reader, true).collect::<io::Result<_>>().unwrap()
    }

    fn text(line: &Item) -> &str {
        match &line.content {
            Ok(Content::Text(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    fn texts(input: &[u8]) -> Vec<String> {
        lines(input).iter().map(|line| text(line).to_string()).collect()
    }

    #[test]
    fn a_line_ends_at_a_newline_or_with_the_input() {
        assert_eq!(texts(b"one\ntwo\r\n\nfour"), ["one", "two", "", "four"]);
        assert_eq!(texts(b"one\n"), ["one"]);
        assert_eq!(texts(b"\n"), [""]);
        assert!(texts(b"").is_empty());
        assert_eq!(texts("\u{feff}one".as_bytes()), ["one"]);
    }

    #[test]
    fn carriage_returns_end_no_line_and_a_text_of_nothing_else_is_refused() {
        assert!(lines(b"1\r2\r3")[0].content.as_ref().unwrap_err().contains("no line feed"));
        assert!(lines(b"1\r2\r")[0].content.is_err());
        assert_eq!(texts(b"50%\r100%\nlast"), ["50%\r100%", "last"]);
        assert_eq!(texts(b"one\r"), ["one"]);
        let json: Vec<_> = Lines::new(&b"[1,\r2]"[..], false).map(Result::unwrap).collect();
        assert_eq!(text(&json[0]), "[1,\r2]");
    }

    #[test]
    fn lines_weigh_together_what_the_input_has() {
        let input = b"one\ntwo\r\n\n\xff\nfour";
        assert_eq!(lines(input).iter().map(|line| line.weight).sum::<u64>(), input.len() as u64);
    }

    #[test]
    fn a_line_that_is_no_text_costs_no_other() {
        let lines = lines(b"one\nab\xff\nthree\n");
        assert!(lines[1].content.as_ref().unwrap_err().ends_with("from its byte 3"));
        assert_eq!((lines[2].ordinal, text(&lines[2])), (3, "three"));
    }

    #[test]
    fn a_line_may_have_the_limit_and_no_more() {
        let mut input = vec![b'x'; ITEM_BYTES_MAX];
        input.push(b'\n');
        input.extend(vec![b'y'; ITEM_BYTES_MAX + 1]);
        input.extend(b"\nlast");
        let lines: Vec<_> = Lines::new(&input[..], true).map(Result::unwrap).collect();
        assert_eq!(text(&lines[0]).len(), ITEM_BYTES_MAX);
        assert!(lines[1].content.as_ref().unwrap_err().contains("more than 16 MiB"));
        assert_eq!(text(&lines[2]), "last");
    }
}

//! Lines: the input, cut and counted, no line longer than a limit.

use std::io::{self, BufRead};
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;

/// The most bytes that a line may have, its end not counted.
const LINE_BYTES_MAX: usize = 16 << 20;

/// Lines that may be read ahead of the session, at least and at most.
const AHEAD_MIN: usize = 16;
const AHEAD_MAX: usize = 1024;

/// One line of the input.
#[derive(Debug, PartialEq)]
pub(crate) struct Line {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// What it says, without its end.
    pub(crate) text: Result<String, BadLine>,
}

/// Why a line is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadLine {
    /// It has more bytes than a line may have.
    TooLong,
    /// It is no UTF-8, from this byte on.
    NotUtf8 { at: usize },
}

impl std::fmt::Display for BadLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong => {
                write!(f, "the line has more than {} MiB", LINE_BYTES_MAX >> 20)
            }
            Self::NotUtf8 { at } => write!(f, "the line is no UTF-8 text, from its byte {at}"),
        }
    }
}

/// Cuts `reader` into lines, in a thread of its own that stops where nobody takes them; a line goes
/// to the session as soon as it is complete.
pub(crate) fn spawn(
    reader: impl BufRead + Send + 'static,
    chunk: usize,
) -> io::Result<(Receiver<io::Result<Line>>, JoinHandle<()>)> {
    let (sender, receiver) = crossbeam_channel::bounded(chunk.clamp(AHEAD_MIN, AHEAD_MAX));
    let thread = std::thread::Builder::new().name("stockade-lines".into()).spawn(move || {
        // Blocks while the session has no room; fails once it takes no more.
        Lines::new(reader).try_for_each(|line| sender.send(line)).unwrap_or_default();
    })?;
    Ok((receiver, thread))
}

/// The lines of a reader. Ends with the input, or with the first error of it.
struct Lines<R> {
    reader: R,
    number: u64,
    ended: bool,
}

impl<R: BufRead> Lines<R> {
    fn new(reader: R) -> Self {
        Self { reader, number: 0, ended: false }
    }

    /// The bytes up to the next line end, `None` where there are none left. Those of a line that is
    /// too long are read and dropped.
    fn next_bytes(&mut self) -> io::Result<Option<Result<Vec<u8>, BadLine>>> {
        let (mut line, mut is_long, mut is_empty) = (Vec::new(), false, true);
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
            is_long |= line.len() + piece.len() > LINE_BYTES_MAX;
            if is_long {
                line = Vec::new();
            } else {
                line.extend_from_slice(piece);
            }
            let used = piece.len() + usize::from(end.is_some());
            self.reader.consume(used);
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
        if self.number == 1 && bytes.starts_with("\u{feff}".as_bytes()) {
            // The mark that some editors put before a text is not part of it.
            bytes.drain(..3);
        }
        String::from_utf8(bytes)
            .map_err(|error| BadLine::NotUtf8 { at: error.utf8_error().valid_up_to() + 1 })
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.next_bytes() {
            Ok(None) => None,
            Ok(Some(bytes)) => {
                self.number += 1;
                let text = bytes.and_then(|bytes| self.text(bytes));
                Some(Ok(Line { number: self.number, text }))
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

    fn lines(input: &[u8]) -> Vec<Line> {
        // A small buffer, so that lines are cut where it ends.
        let reader = io::BufReader::with_capacity(3, input);
        Lines::new(reader).collect::<io::Result<_>>().unwrap()
    }

    fn texts(input: &[u8]) -> Vec<String> {
        lines(input).into_iter().map(|line| line.text.unwrap()).collect()
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
    fn a_line_that_is_no_text_costs_no_other() {
        let lines = lines(b"one\nab\xff\nthree\n");
        assert_eq!(lines[1], Line { number: 2, text: Err(BadLine::NotUtf8 { at: 3 }) });
        assert_eq!(lines[2], Line { number: 3, text: Ok("three".into()) });
    }

    #[test]
    fn a_line_may_have_the_limit_and_no_more() {
        let mut input = vec![b'x'; LINE_BYTES_MAX];
        input.push(b'\n');
        input.extend(vec![b'y'; LINE_BYTES_MAX + 1]);
        input.extend(b"\nlast");
        let lines: Vec<_> = Lines::new(&input[..]).map(Result::unwrap).collect();
        assert_eq!(lines[0].text.as_ref().unwrap().len(), LINE_BYTES_MAX);
        assert_eq!(lines[1], Line { number: 2, text: Err(BadLine::TooLong) });
        assert_eq!(lines[2].text, Ok("last".into()));
    }
}

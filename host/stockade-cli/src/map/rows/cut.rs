//! Where rows and cells end.
//!
//! ```text
//!          ╭─── any byte ───╮        ╭─── any byte ───╮
//! Begin ───┤                ▼   "    │                ▼  "            "
//!   │      ╰────────────► Bare     Begin ──────────► Quoted ─► Closed ─► Quoted
//!   ╰── delimiter, line end: the cell, the row ◄──────────────────╯
//! ```
//!
//! A line ends in LF, in CR LF, or, where the first one does, in CR alone. What is wrong with a row
//! costs that row, and the place is named: a CR that ends no line, text behind a closing quote, no
//! UTF-8. A quote that is never closed ends the input, since the rest of it is in that cell.

use std::io::{self, BufRead};

use super::super::input::ITEM_BYTES_MAX;
use super::super::item::{Cell, Content, Item, Name};
use super::super::lines::{self, WIDE};

/// The most cells of a row: more than any table has that a person made.
const CELLS_MAX: usize = 1 << 16;

const MARK: &[u8] = "\u{feff}".as_bytes();

/// The rows of a reader. Ends with the input, or with the first error of it.
pub(crate) struct Rows<R> {
    reader: R,
    cutter: Cutter,
    /// Items given out.
    ordinal: u64,
    begun: bool,
    ended: bool,
}

/// What is known of the input from one row to the next.
struct Cutter {
    delimiter: u8,
    /// The line of the next byte.
    line: u64,
    line_end: Option<LineEnd>,
    /// Whether the last byte was a CR that ended a line, to which an LF belongs.
    after_return: bool,
}

/// What ends a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    /// LF, and CR LF.
    Feed,
    /// CR, and any other.
    Return,
}

/// Where in a cell the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Begin,
    Bare,
    Quoted,
    /// Behind a quote that closes the cell, or is the first half of one in it.
    Closed,
}

/// A row as bytes, and where it ends in each cell.
struct Row {
    bytes: Vec<u8>,
    cells: Vec<(usize, bool)>,
    place: Place,
    /// Whether the cell is quoted, and the line where that began.
    quoted: bool,
    quote_line: u64,
    /// Whether the last byte was a CR outside of quotes, of which it is not known yet what it ends.
    returned: bool,
    /// What is wrong with it, at first.
    problem: Option<String>,
    /// The line on which it begins, and bytes of the input that it takes.
    line: u64,
    weight: u64,
}

impl Row {
    fn new(line: u64) -> Self {
        Self {
            bytes: Vec::new(),
            cells: Vec::new(),
            place: Place::Begin,
            quoted: false,
            quote_line: line,
            returned: false,
            problem: None,
            line,
            weight: 0,
        }
    }

    fn is_blank(&self) -> bool {
        self.cells.is_empty() && self.place == Place::Begin && self.problem.is_none()
    }

    /// The number of the cell that is being read, from 1.
    fn column(&self) -> usize {
        self.cells.len() + 1
    }

    fn complain(&mut self, problem: impl FnOnce(usize) -> String) {
        if self.problem.is_none() {
            self.problem = Some(problem(self.column()));
            // Nothing of it is used.
            self.bytes = Vec::new();
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.problem.is_none() {
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn end_cell(&mut self) {
        if self.cells.len() == CELLS_MAX {
            self.complain(|_| format!("the row has more than {CELLS_MAX} columns"));
        }
        if self.problem.is_none() {
            self.cells.push((self.bytes.len(), self.quoted));
        }
        (self.place, self.quoted) = (Place::Begin, false);
    }

    /// A row that is too long is read to its end and dropped, unless that cannot be known.
    fn refuse_length(&mut self) -> io::Result<()> {
        if self.place == Place::Quoted {
            let (line, quote_line, column) = (self.line, self.quote_line, self.column());
            return Err(invalid(format!(
                "the row that begins in line {line} has more than {} MiB: is the quote never closed \
                 that opens in line {quote_line}, column {column}?",
                ITEM_BYTES_MAX >> 20
            )));
        }
        self.complain(|_| format!("the row has more than {} MiB", ITEM_BYTES_MAX >> 20));
        Ok(())
    }

    fn cells(&self) -> Result<Vec<Cell>, String> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        let mut begin = 0;
        let cells = self.cells.iter().zip(1..).map(|(&(end, quoted), number)| {
            let text = std::str::from_utf8(&self.bytes[begin..end]);
            begin = end;
            match text {
                Ok(text) => Ok(Cell { text: text.to_string(), quoted }),
                Err(_) => Err(format!("the row's column {number} is not UTF-8 text")),
            }
        });
        cells.collect()
    }
}

/// What a byte does.
enum Step {
    /// It is taken, and the row goes on.
    Goes,
    /// It is taken, and ends the row.
    Ends,
    /// The row ended before it.
    EndedBefore,
}

impl<R: BufRead> Rows<R> {
    /// Reads nothing yet.
    pub(crate) fn new(reader: R, delimiter: u8) -> Self {
        let cutter = Cutter { delimiter, line: 1, line_end: None, after_return: false };
        Self { reader, cutter, ordinal: 0, begun: false, ended: false }
    }

    /// What the rows are cut from.
    pub(crate) fn reader_mut(&mut self) -> &mut R {
        &mut self.reader
    }

    /// The first row: the columns' names. An input without any has none.
    ///
    /// # Errors
    /// What the system refuses, and a row that is none.
    pub(crate) fn header(&mut self) -> io::Result<Vec<String>> {
        let Some(row) = self.next_row()? else { return Ok(Vec::new()) };
        let cells = row.cells().map_err(|problem| {
            let hint = if lines::is_wide(&row.bytes) { WIDE } else { "" };
            invalid(format!("{}{hint}", problem.replace("the row", "the header")))
        })?;
        // Without its mark: a character of ASCII in two bytes.
        if matches!(row.bytes[..], [first, second, ..] if (first == 0) != (second == 0)) {
            return Err(invalid(format!("the header is not UTF-8 text{WIDE}")));
        }
        Ok(cells.into_iter().map(|cell| cell.text).collect())
    }

    fn next_row(&mut self) -> io::Result<Option<Row>> {
        let mut row = Row::new(self.cutter.line);
        if !self.begun {
            self.begun = true;
            self.skip_mark(&mut row)?;
        }
        loop {
            let available = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                available => available?,
            };
            if available.is_empty() {
                return self.cutter.end_of_input(row);
            }
            let (used, is_whole) = self.cutter.cut(&mut row, available);
            self.reader.consume(used);
            row.weight += used as u64;
            if is_whole && row.is_blank() {
                self.cutter.line += 1;
                row = Row { weight: row.weight, ..Row::new(self.cutter.line) };
            } else if is_whole {
                self.cutter.line += 1;
                row.end_cell();
                return Ok(Some(row));
            } else if row.weight > ITEM_BYTES_MAX as u64 {
                row.refuse_length()?;
            }
        }
    }

    /// The mark that some editors put before a text is not part of it.
    fn skip_mark(&mut self, row: &mut Row) -> io::Result<()> {
        for (at, &expected) in MARK.iter().enumerate() {
            let next = loop {
                match self.reader.fill_buf() {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    available => break available?.first().copied(),
                }
            };
            if next != Some(expected) {
                // Bytes that a mark begins with, and no mark.
                self.cutter.cut(row, &MARK[..at]);
                return Ok(());
            }
            self.reader.consume(1);
            row.weight += 1;
        }
        Ok(())
    }
}

impl Cutter {
    /// Takes `bytes` up to the end of the row, and tells how many these were and whether it is there.
    fn cut(&mut self, row: &mut Row, bytes: &[u8]) -> (usize, bool) {
        let delimiter = self.delimiter;
        let is_plain = |byte: u8| !matches!(byte, b'"' | b'\n' | b'\r') && byte != delimiter;
        let mut used = 0;
        while let Some(&byte) = bytes.get(used) {
            if is_plain(byte) && matches!(row.place, Place::Bare | Place::Quoted) && !row.returned {
                let rest = &bytes[used..];
                let plain = rest.iter().position(|&byte| !is_plain(byte)).unwrap_or(rest.len());
                row.push(&rest[..plain]);
                self.after_return = false;
                used += plain;
                continue;
            }
            match self.step(row, byte) {
                Step::Goes => used += 1,
                Step::Ends => return (used + 1, true),
                Step::EndedBefore => return (used, true),
            }
        }
        (used, false)
    }

    fn step(&mut self, row: &mut Row, byte: u8) -> Step {
        if std::mem::take(&mut self.after_return) && byte == b'\n' {
            return Step::Goes;
        }
        if std::mem::take(&mut row.returned) {
            match (byte, self.line_end) {
                (b'\n', _) => {
                    self.line_end = Some(self.line_end.unwrap_or(LineEnd::Feed));
                    return Step::Ends;
                }
                (_, None) => {
                    self.line_end = Some(LineEnd::Return);
                    return Step::EndedBefore;
                }
                (_, Some(_)) => row.complain(|column| {
                    format!("a carriage return in column {column} ends no line: quote the cell")
                }),
            }
        }
        match (row.place, byte) {
            (Place::Quoted, b'"') => row.place = Place::Closed,
            (Place::Quoted, byte) => {
                let counts = match self.line_end {
                    Some(LineEnd::Return) => b'\r',
                    _ => b'\n',
                };
                self.line += u64::from(byte == counts);
                row.push(&[byte]);
            }
            (_, b'\n') => {
                self.line_end = Some(self.line_end.unwrap_or(LineEnd::Feed));
                return Step::Ends;
            }
            (_, b'\r') if self.line_end == Some(LineEnd::Return) => {
                self.after_return = true;
                return Step::Ends;
            }
            (_, b'\r') => row.returned = true,
            (_, byte) if byte == self.delimiter => row.end_cell(),
            (Place::Begin, b'"') => {
                (row.place, row.quoted, row.quote_line) = (Place::Quoted, true, self.line);
            }
            (Place::Closed, b'"') => {
                row.push(b"\"");
                row.place = Place::Quoted;
            }
            (Place::Closed, byte) => {
                row.complain(|column| {
                    format!(
                        "column {column} goes on behind its closing quote: a quote in a quoted cell \
                         is written twice"
                    )
                });
                row.push(&[byte]);
                row.place = Place::Bare;
            }
            (Place::Begin | Place::Bare, byte) => {
                row.push(&[byte]);
                row.place = Place::Bare;
            }
        }
        Step::Goes
    }

    fn end_of_input(&mut self, mut row: Row) -> io::Result<Option<Row>> {
        if row.place == Place::Quoted {
            let (line, column) = (row.quote_line, row.column());
            return Err(invalid(format!(
                "the quote that opens in line {line}, column {column}, is never closed, and all \
                 that \
                 follows is in it"
            )));
        }
        if row.is_blank() {
            return Ok(None);
        }
        row.end_cell();
        Ok(Some(row))
    }
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

impl<R: BufRead> Iterator for Rows<R> {
    type Item = io::Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.next_row() {
            Ok(Some(row)) => {
                self.ordinal += 1;
                let content = row.cells().map(Content::Row);
                let name = Name::Line(row.line);
                Some(Ok(Item { ordinal: self.ordinal, name, content, weight: row.weight }))
            }
            Ok(None) => {
                self.ended = true;
                None
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

    fn cut(input: &[u8], capacity: usize) -> io::Result<(Vec<String>, Vec<Item>)> {
        let mut rows = Rows::new(io::BufReader::with_capacity(capacity, input), b',');
        let header = rows.header()?;
        Ok((header, rows.collect::<io::Result<_>>()?))
    }

    /// Cells with `|` between them, quoted ones in quotes; or what is wrong with the row.
    fn shown(item: &Item) -> (u64, String) {
        let Name::Line(line) = item.name else { panic!("{item:?}") };
        let text = match &item.content {
            Ok(Content::Row(cells)) => {
                let cell = |cell: &Cell| match cell.quoted {
                    true => format!("\"{}\"", cell.text),
                    false => cell.text.clone(),
                };
                cells.iter().map(cell).collect::<Vec<_>>().join("|")
            }
            Ok(other) => panic!("{other:?}"),
            Err(problem) => problem.clone(),
        };
        (line, text)
    }

    #[track_caller]
    fn assert_rows(input: &str, expected: &[(u64, &str)]) {
        // Cut anywhere.
        for capacity in [1, 3, 1 << 16] {
            let (header, items) = cut(input.as_bytes(), capacity).unwrap();
            assert_eq!(header, ["a", "b"], "{input:?}");
            let found: Vec<_> = items.iter().map(shown).collect();
            let found: Vec<_> = found.iter().map(|(line, text)| (*line, text.as_str())).collect();
            assert_eq!(found, expected, "{input:?}");
        }
    }

    #[test]
    fn rows_know_the_line_on_which_they_begin() {
        let input = "\u{feff}a,b\r\n1,\"x,\"\"y\"\"\nz\"\r\n\n3,\n\"\",last";
        assert_rows(input, &[(2, "1|\"x,\"y\"\nz\""), (5, "3|"), (6, "\"\"|last")]);
        assert_rows("a,b", &[]);
        assert_rows("\"a\",\"b\"\n", &[]);
        assert_rows("\n\r\n\na,b\n,\n", &[(5, "|")]);
        assert_rows("a,b\n\"1\",\"\"\n", &[(2, "\"1\"|\"\"")]);
        assert_rows("a,b\n \"1\",2\"\"\n", &[(2, " \"1\"|2\"\"")]);
        assert_rows("a,b\n1,\0\n", &[(2, "1|\0")]);
        assert_rows("a,b\n  \n1\n", &[(2, "  "), (3, "1")]);
    }

    #[test]
    fn carriage_returns_end_lines_where_the_first_one_does() {
        assert_rows("a,b\r1,2\r3,4\r5,6", &[(2, "1|2"), (3, "3|4"), (4, "5|6")]);
        assert_rows("a,b\r1,2\r\r3,4\r", &[(2, "1|2"), (4, "3|4")]);
        assert_rows("a,b\r1,2\r\n3,4\n5,6\n", &[(2, "1|2"), (3, "3|4"), (4, "5|6")]);
        assert_rows("a,b\r\"1\r1\",2\r3,4", &[(2, "\"1\r1\"|2"), (4, "3|4")]);
        assert_rows("a,b\r\n1,2\r\n3,4\r", &[(2, "1|2"), (3, "3|4")]);
    }

    #[test]
    fn a_carriage_return_alone_costs_its_row_where_lines_end_otherwise() {
        let refused = "a carriage return in column 2 ends no line: quote the cell";
        assert_rows("a,b\n1,2\r3,4\n5,6\n", &[(2, refused), (3, "5|6")]);
        assert_rows("a,b\r\n1,2\r\r\n5,6\r\n", &[(2, refused), (3, "5|6")]);
        assert_rows("a,b\n1,\"2\r3\"\n", &[(2, "1|\"2\r3\"")]);
        assert_rows("a,b\n1,\"2\"\r3\n4,5", &[(2, refused), (3, "4|5")]);
    }

    #[test]
    fn text_behind_a_closing_quote_costs_its_row() {
        let refused = "column 1 goes on behind its closing quote: a quote in a quoted cell is \
             written \
                       twice";
        assert_rows("a,b\n\"x\"y,2\n3,4\n", &[(2, refused), (3, "3|4")]);
        assert_rows("a,b\n\"x\" ,2\n3,4\n", &[(2, refused), (3, "3|4")]);
        assert_rows("a,b\n\"x\"y\"z\",2\n3,4\n", &[(2, refused), (3, "3|4")]);
    }

    #[test]
    fn a_quote_that_is_never_closed_is_named_by_its_place() {
        let refused = |input: &str| cut(input.as_bytes(), 3).unwrap_err().to_string();
        assert!(refused("a,b\n1,\"2\n3,4\n5,6\n").contains("line 2, column 2, is never closed"));
        assert!(refused("a,b\n1,\"2\n\"\"3\",\"\n").contains("line 3, column 3"));
        assert!(refused("a,\"b\n1,2\n").contains("line 1, column 2"));
        assert!(refused("a,b\r1,2\r3,\"4").contains("line 3, column 2"));
        // Rows before it are there.
        let mut rows = Rows::new(&b"a\n1\n\"2\n"[..], b',');
        rows.header().unwrap();
        assert_eq!(shown(&rows.next().unwrap().unwrap()), (2, "1".into()));
        assert!(rows.next().unwrap().is_err());
        assert!(rows.next().is_none());
    }

    #[test]
    fn a_row_that_is_no_text_costs_no_other() {
        let (_, items) = cut(b"a\n\xff\nb\n", 3).unwrap();
        assert!(items[0].content.as_ref().unwrap_err().contains("column 1"));
        assert_eq!(shown(&items[1]), (3, "b".into()));
        let wide: Vec<u8> =
            "\u{feff}a,b\n1,2\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let refused = cut(&wide, 3).unwrap_err().to_string();
        assert!(refused.contains("header") && refused.contains("UTF-16"), "{refused}");
        // The first bytes of a mark are none.
        assert_eq!(cut("\u{feee}\n".as_bytes(), 1).unwrap().0, ["\u{feee}"]);
        assert!(cut(b"\xef\xbb", 3).is_err());
    }

    #[test]
    fn a_row_that_is_too_long_costs_no_other_unless_a_quote_is_open() {
        let mut input = b"a\n".to_vec();
        input.resize(ITEM_BYTES_MAX + (1 << 20), b'x');
        input.extend(b"\nlast\n");
        let (_, items) = cut(&input, 1 << 16).unwrap();
        assert_eq!(shown(&items[0]), (2, "the row has more than 16 MiB".into()));
        assert_eq!(shown(&items[1]), (3, "last".into()));

        input[2] = b'"';
        let mut rows = Rows::new(&input[..], b',');
        rows.header().unwrap();
        let error = rows.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("quote"), "{error}");
        assert!(rows.next().is_none());

        let many = format!("a\n{}\n1\n", ",".repeat(CELLS_MAX));
        let (_, items) = cut(many.as_bytes(), 1 << 16).unwrap();
        assert!(shown(&items[0]).1.contains("more than 65536 columns"));
        assert_eq!(shown(&items[1]), (3, "1".into()));
    }

    #[test]
    fn rows_weigh_together_what_the_input_has() {
        let input = "\u{feff}a,b\r\n1,2\r\n\r\n3,4\r\nx\ry,1\r\n\n";
        let mut rows = Rows::new(input.as_bytes(), b',');
        let header = rows.next_row().unwrap().unwrap().weight;
        let weight: u64 = rows.by_ref().map(|row| row.unwrap().weight).sum();
        assert_eq!(header + weight, input.len() as u64 - 1);
    }
}

//! Rows: CSV with a header, cut by `csv-core`, no row longer than a limit.
//!
//! A row's columns become arguments by the names in the header. Where a function takes one parameter
//! that no column is named after, the row is that one argument, as an object.

use std::io::{self, BufRead, Read as _};

use csv_core::{ReadRecordResult, ReaderBuilder};
use serde_json::{Map, Value};
use stockade::Json;

use super::input::{ITEM_BYTES_MAX, Params};
use super::item::{Content, Item, Name};
use crate::arguments::{self, Kind};
use crate::error::Error;
use crate::escape;
use crate::exit::Exit;

/// The rows of a reader. Ends with the input, or with the first error of it.
pub(crate) struct Rows<R> {
    /// What was read ahead to look for a mark, and the rest.
    reader: io::Chain<io::Cursor<Vec<u8>>, R>,
    core: csv_core::Reader,
    /// Items given out, and the line on which the next row begins.
    ordinal: u64,
    line: u64,
    ended: bool,
}

/// A row as bytes, and where it ends in each cell.
struct Cells {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// The line on which it begins, and bytes of the input that it takes.
    line: u64,
    weight: u64,
}

impl Cells {
    fn texts(&self) -> Result<Vec<String>, String> {
        let mut begin = 0;
        let cells = self.ends.iter().zip(1..).map(|(&end, number)| {
            let cell = &self.bytes[begin..end];
            begin = end;
            let text = std::str::from_utf8(cell).map(str::to_string);
            text.map_err(|_| format!("the row's column {number} is no UTF-8 text"))
        });
        cells.collect()
    }
}

impl<R: BufRead> Rows<R> {
    /// Reads nothing yet.
    pub(crate) fn new(reader: R, delimiter: u8) -> Self {
        let core = ReaderBuilder::new().delimiter(delimiter).build();
        let reader = io::Cursor::new(Vec::new()).chain(reader);
        Self { reader, core, ordinal: 0, line: 1, ended: false }
    }

    /// The first row: the columns' names. An input without any has none.
    pub(crate) fn header(&mut self) -> io::Result<Vec<String>> {
        // The mark that some editors put before a text is not part of it. csv-core would take it for
        // the whole input where nothing has come behind it yet.
        let (ahead, reader) = self.reader.get_mut();
        reader.take(3).read_to_end(ahead.get_mut())?;
        if ahead.get_ref() == "\u{feff}".as_bytes() {
            ahead.get_mut().clear();
        }
        let cells = self.next_cells()?.map(|cells| cells.texts());
        cells.unwrap_or(Ok(Vec::new())).map_err(|problem| {
            io::Error::new(io::ErrorKind::InvalidData, problem.replace("row", "header"))
        })
    }

    /// Passes over blank lines, so that a row is known to begin where it does. Gives their bytes.
    fn skip_line_ends(&mut self) -> io::Result<u64> {
        let mut skipped = 0;
        loop {
            match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
                Ok([byte @ (b'\n' | b'\r'), ..]) => self.line += u64::from(*byte == b'\n'),
                Ok(_) => {
                    self.core.set_line(self.line);
                    return Ok(skipped);
                }
            }
            self.reader.consume(1);
            skipped += 1;
        }
    }

    fn next_cells(&mut self) -> io::Result<Option<Cells>> {
        let (mut bytes, mut ends) = (vec![0; 1 << 10], vec![0; 32]);
        let (mut filled, mut counted) = (0, 0);
        let mut weight = self.skip_line_ends()?;
        loop {
            let available = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                available => available?,
            };
            let (result, read, wrote, ended) =
                self.core.read_record(available, &mut bytes[filled..], &mut ends[counted..]);
            self.reader.consume(read);
            (filled, counted, weight) = (filled + wrote, counted + ended, weight + read as u64);
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => bytes.resize(bytes.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => ends.resize(ends.len() * 2, 0),
                ReadRecordResult::Record => {
                    bytes.truncate(filled);
                    ends.truncate(counted);
                    let line = std::mem::replace(&mut self.line, self.core.line());
                    return Ok(Some(Cells { bytes, ends, line, weight }));
                }
                ReadRecordResult::End => return Ok(None),
            }
            if weight > ITEM_BYTES_MAX as u64 {
                // Where a quote is never closed, that is the whole rest of the input.
                let problem = format!(
                    "the row that begins on line {} has more than {} MiB: is a quote in it not closed?",
                    self.line,
                    ITEM_BYTES_MAX >> 20
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
        }
    }
}

impl<R: BufRead> Iterator for Rows<R> {
    type Item = io::Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.next_cells() {
            Ok(Some(cells)) => {
                self.ordinal += 1;
                let content = cells.texts().map(Content::Row);
                let name = Name::Line(cells.line);
                Some(Ok(Item { ordinal: self.ordinal, name, content, weight: cells.weight }))
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

/// What the columns of a row become.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Header {
    names: Vec<String>,
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    /// Arguments by name, each as its parameter takes it.
    Named(Vec<Kind>),
    /// Arguments by position.
    Numbers,
    /// One argument, an object.
    Object,
}

impl Header {
    /// What columns of these names become for a function of these parameters.
    ///
    /// # Errors
    /// Columns that the function has no parameter for, or none for a parameter of it.
    pub(crate) fn new(names: Vec<String>, params: &Params<'_>) -> Result<Self, Error> {
        if let Some(twice) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            let message = format!("two columns of the header are called {:?}", twice.1);
            return Err(Error::new(Exit::Call, message));
        }
        let params = match params {
            Params::Named(params) => params,
            Params::Unknown => return Ok(Self { names, shape: Shape::Object }),
            Params::Numbers(count) if *count == names.len() || names.is_empty() => {
                return Ok(Self { names, shape: Shape::Numbers });
            }
            Params::Numbers(count) => {
                let message = format!(
                    "the header has {} columns, and the function takes {count} numbers",
                    names.len()
                );
                return Err(Error::new(Exit::Call, message));
            }
        };
        let of = |name: &String| params.iter().find(|param| param.name == *name);
        let takes_row = params.len() == 1 && names.iter().all(|name| of(name).is_none());
        if takes_row || names.is_empty() {
            return Ok(Self { names, shape: Shape::Object });
        }
        let quoted = |names: &[String]| names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>();
        let known: Vec<_> = params.iter().map(|param| param.name.clone()).collect();
        let missing = params
            .iter()
            .find(|param| !names.contains(&param.name) && !param.type_name.starts_with("Option<"));
        let problem = match (names.iter().find(|name| of(name).is_none()), missing) {
            (Some(name), _) => format!("the header's column `{name}` is no parameter"),
            (None, Some(param)) => {
                format!("the header has no column for the parameter `{}`", param.name)
            }
            (None, None) => {
                let kinds = names.iter().map(|name| arguments::kind_of(of(name))).collect();
                return Ok(Self { names, shape: Shape::Named(kinds) });
            }
        };
        let (known, names) = (quoted(&known).join(", "), quoted(&names).join(", "));
        Err(Error::new(Exit::Call, escape::line(&problem))
            .because(format!("the function takes {known}, the header has {names}"))
            .help("a row's columns are arguments by name; a function of one parameter takes the whole row as an object")
            .help("`--delimiter` says what stands between cells, where that is no comma"))
    }

    /// The arguments in a row.
    ///
    /// # Errors
    /// In words, why the row has none.
    pub(crate) fn arguments(&self, cells: Vec<String>) -> Result<Json, String> {
        if cells.len() != self.names.len() {
            let (has, wanted) = (cells.len(), self.names.len());
            return Err(format!("the row has {has} columns, the header {wanted}"));
        }
        let cells = self.names.iter().zip(cells);
        Ok(match &self.shape {
            Shape::Named(kinds) => {
                let cells = cells.zip(kinds);
                cells.fold(Json::new(), |json, ((name, cell), kind)| {
                    json.named(name.clone(), typed(cell, *kind))
                })
            }
            Shape::Numbers => cells.fold(Json::new(), |json, (_, cell)| json.arg(untyped(cell))),
            Shape::Object => {
                let object: Map<_, _> =
                    cells.map(|(name, cell)| (name.clone(), untyped(cell))).collect();
                Json::new().arg(object.into())
            }
        })
    }
}

/// A cell as its parameter takes it: a text is itself, whatever it looks like.
fn typed(cell: String, kind: Kind) -> Value {
    match kind {
        Kind::Text { optional: true } if cell.is_empty() => Value::Null,
        Kind::Text { .. } | Kind::Bytes => cell.into(),
        Kind::Any if cell.is_empty() => Value::Null,
        // What is no JSON may still be the text of an enumeration or a date.
        Kind::Any => serde_json::from_str(&cell).unwrap_or_else(|_| cell.into()),
    }
}

/// A cell of which nothing is known: a number, true or false is what it is, an empty one nothing,
/// and everything else a text.
fn untyped(cell: String) -> Value {
    match serde_json::from_str(&cell) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        _ if cell.is_empty() => Value::Null,
        _ => cell.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use stockade::Parameter;

    fn rows(input: &[u8]) -> (Vec<String>, Vec<Item>) {
        // A small buffer, so that rows are cut where it ends.
        let mut rows = Rows::new(io::BufReader::with_capacity(3, input), b',');
        let header = rows.header().unwrap();
        (header, rows.collect::<io::Result<_>>().unwrap())
    }

    fn params(types: &[(&str, &str)]) -> Vec<Parameter> {
        let param = |(name, kind): &(&str, &str)| Parameter {
            name: name.to_string(),
            type_name: kind.to_string(),
        };
        types.iter().map(param).collect()
    }

    fn header(names: &[&str], types: &[(&str, &str)]) -> Result<Header, Error> {
        let names = names.iter().map(|name| name.to_string()).collect();
        Header::new(names, &Params::Named(&params(types)))
    }

    fn arguments(header: &Header, cells: &[&str]) -> Result<Json, String> {
        header.arguments(cells.iter().map(|cell| cell.to_string()).collect())
    }

    #[test]
    fn rows_know_the_line_on_which_they_begin() {
        let input = "\u{feff}a,b\r\n1,\"x,\"\"y\"\"\nz\"\r\n\n3,\n\"\",last";
        let (header, items) = rows(input.as_bytes());
        assert_eq!(header, ["a", "b"]);
        let shown: Vec<_> = items
            .iter()
            .map(|item| match &item.content {
                Ok(Content::Row(cells)) => (item.ordinal, item.name.to_string(), cells.join("|")),
                other => panic!("{other:?}"),
            })
            .collect();
        let row = |ordinal, line: &str, cells: &str| (ordinal, line.into(), cells.into());
        assert_eq!(
            shown,
            [row(1, "line 2", "1|x,\"y\"\nz"), row(2, "line 5", "3|"), row(3, "line 6", "|last")]
        );
    }

    #[test]
    fn a_row_that_is_no_text_costs_no_other_and_one_without_end_ends_the_input() {
        let (_, items) = rows(b"a\n\xff\nb\n");
        assert!(items[0].content.as_ref().unwrap_err().contains("column 1"));
        assert_eq!(items[1].content, Ok(Content::Row(vec!["b".into()])));

        let mut input = b"a\n\"".to_vec();
        input.resize(ITEM_BYTES_MAX + (1 << 20), b'x');
        let mut rows = Rows::new(&input[..], b',');
        rows.header().unwrap();
        let error = rows.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("quote"), "{error}");
        assert!(rows.next().is_none());
    }

    #[test]
    fn columns_are_arguments_by_name_as_their_parameters_take_them() {
        let types = [("text", "&str"), ("limit", "usize"), ("note", "Option<String>")];
        let header = header(&["limit", "text", "note"], &types).unwrap();
        let expected = Json::new().named("limit", json!(3)).named("text", json!("7"));
        let expected = expected.named("note", Value::Null);
        assert_eq!(arguments(&header, &["3", "7", ""]), Ok(expected));
        assert!(arguments(&header, &["3", "7"]).unwrap_err().contains("2 columns, the header 3"));
    }

    #[test]
    fn one_parameter_that_no_column_is_named_after_takes_the_row() {
        let header = header(&["x", "name", "zip"], &[("row", "Measurement")]).unwrap();
        let object = json!({"x": 1.5, "name": "a", "zip": "007"});
        assert_eq!(arguments(&header, &["1.5", "a", "007"]), Ok(Json::new().arg(object)));
    }

    #[test]
    fn a_header_that_does_not_fit_is_refused_before_any_row() {
        let types = [("text", "String"), ("limit", "usize")];
        for (names, named) in [
            (&["text"][..], "no column for the parameter `limit`"),
            (&["text", "limit", "more"], "column `more` is no parameter"),
            (&["text", "text"], "two columns"),
        ] {
            let refused = header(names, &types).unwrap_err();
            assert!(format!("{refused:?}").contains(named), "{refused:?}");
            assert_eq!(refused.exit(), Exit::Call);
        }
        let numbers = |count| Header::new(vec!["a".into(), "b".into()], &Params::Numbers(count));
        assert_eq!(
            arguments(&numbers(2).unwrap(), &["1", "2"]),
            Ok(Json::new().arg(1.into()).arg(2.into()))
        );
        assert!(numbers(3).is_err());
    }
}

//! Rows: CSV with a header, cut as it comes, no row longer than a limit.
//!
//! A row's columns become arguments by the names in the header. Where a function takes one parameter
//! that no column is named after, the row is that one argument, as an object.
//!
//! Cut here rather than by the `csv` crate, which tells neither whether a cell was quoted, nor that a
//! quote is never closed, nor that a carriage return stands alone: each would be a wrong value that
//! nobody hears of.

mod cut;

use stockade::{Json, Parameter};

use super::input::Params;
use super::item::Cell;
use crate::arguments::{self, Kind};
use crate::error::Error;
use crate::escape;
use crate::exit::Exit;
use crate::floats::Floats;
use crate::json;

pub(crate) use cut::Rows;

/// What the columns of a row become.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Header {
    names: Vec<String>,
    shape: Shape,
    reading: CellReading,
}

/// How cells are read whose types no manifest says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CellReading {
    /// All are texts.
    pub(crate) as_text: bool,
    /// The guest reads them as its types take them.
    pub(crate) by_guest: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    /// Arguments by name, each as its parameter takes it.
    Named(Vec<Kind>, Floats),
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
    pub(crate) fn new(
        names: Vec<String>,
        params: &Params<'_>,
        reading: CellReading,
    ) -> Result<Self, Error> {
        if let Some(twice) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            let message = format!("two columns of the header are called {:?}", twice.1);
            return Err(Error::new(Exit::Call, message));
        }
        let header = |shape| Self { names: names.clone(), shape, reading };
        let params = match params {
            Params::Named(params) => params,
            Params::Unknown => return Ok(header(Shape::Object)),
            Params::Numbers(count) if *count == names.len() || names.is_empty() => {
                return Ok(header(Shape::Numbers));
            }
            Params::Numbers(count) => {
                let plural = |count: usize| if count == 1 { "" } else { "s" };
                let (has, more, wanted) = (names.len(), plural(names.len()), plural(*count));
                let message = format!(
                    "the header has {has} column{more}, and the function takes {count} \
                     number{wanted}"
                );
                return Err(Error::new(Exit::Call, message)
                    .help("`--delimiter` says what stands between cells, where that is no comma"));
            }
        };
        let of = |name: &String| params.iter().find(|param| param.name == *name);
        let takes_row = params.len() == 1 && names.iter().all(|name| of(name).is_none());
        // A row may be a type of the guest's own, or a map, and is not text, number or list.
        let is_plain = |param: &Parameter| {
            arguments::kind_of(Some(param)) != Kind::Any && !param.type_name.contains("Map<")
        };
        if takes_row && !params.iter().any(is_plain) || names.is_empty() {
            return Ok(header(Shape::Object));
        }
        let quoted = |names: &[String]| names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>();
        let known: Vec<_> = params.iter().map(|param| param.name.clone()).collect();
        let missing = params
            .iter()
            .find(|param| !names.contains(&param.name) && !param.type_name.starts_with("Option<"));
        let problem = match (names.iter().find(|name| of(name).is_none()), missing) {
            (Some(name), _) => format!("the header's column `{name}` is not a parameter"),
            (None, Some(param)) => {
                format!("the header has no column for the parameter `{}`", param.name)
            }
            (None, None) => {
                let kinds = names.iter().map(|name| arguments::kind_of(of(name))).collect();
                return Ok(header(Shape::Named(kinds, Floats::of(params))));
            }
        };
        let (known, names) = (quoted(&known).join(", "), quoted(&names).join(", "));
        Err(Error::new(Exit::Call, escape::line(&problem))
            .because(format!("the function takes {known}, the header has {names}"))
            .help(
                "a row's columns are arguments by name; a function of one parameter takes the \
                 whole row as an object",
            )
            .help("`--delimiter` says what stands between cells, where that is no comma"))
    }

    /// The arguments in a row.
    ///
    /// # Errors
    /// In words, why the row has none.
    pub(crate) fn arguments(&self, cells: &[Cell]) -> Result<Json, String> {
        if cells.len() != self.names.len() {
            let (has, wanted) = (cells.len(), self.names.len());
            let plural = if has == 1 { "" } else { "s" };
            return Err(format!("the row has {has} column{plural}, the header {wanted}"));
        }
        let mut cells = self.names.iter().zip(cells);
        let given = match &self.shape {
            Shape::Named(kinds, floats) => {
                let mut json = Json::new();
                for ((name, cell), kind) in cells.zip(kinds) {
                    let value = self.declared(cell, *kind);
                    floats.check_named(name, &value)?;
                    json = json.named_json(name, value).map_err(|error| error.to_string())?;
                }
                Ok(json)
            }
            Shape::Numbers => {
                cells.try_fold(Json::new(), |json, (_, cell)| json.arg_json(number(cell)))
            }
            Shape::Object => {
                let members: Vec<_> = cells
                    .map(|(name, cell)| format!("{}:{}", json::string(name), self.undeclared(cell)))
                    .collect();
                Json::new().arg_json(format!("{{{}}}", members.join(",")))
            }
        };
        let given = given.map_err(|error| error.to_string())?;
        let has_cells = self.reading.by_guest && !matches!(self.shape, Shape::Numbers);
        Ok(if has_cells { given.of_cells() } else { given })
    }

    /// The JSON of a cell as its parameter takes it, whether it is quoted or not: a text is itself,
    /// whatever it looks like.
    fn declared(&self, cell: &Cell, kind: Kind) -> String {
        match kind {
            Kind::Text { optional: true } | Kind::Json if cell.is_nothing() => "null".into(),
            Kind::Text { .. } | Kind::Bytes => json::string(&cell.text),
            // An optional number in a table whose cells are all quoted.
            Kind::Json if cell.text.is_empty() => "null".into(),
            // What is none is the function's to refuse, in its own words.
            Kind::Json => json::checked(&cell.text).unwrap_or_else(|| json::string(&cell.text)),
            // A list or an object holds commas, so that it is quoted wherever it stands.
            Kind::Any if !self.reading.as_text && !self.reading.by_guest => {
                let is_nested = cell.text.trim_start().starts_with(['[', '{']);
                let nested = json::checked(&cell.text).filter(|_| is_nested);
                nested.unwrap_or_else(|| self.undeclared(cell))
            }
            Kind::Any => self.undeclared(cell),
        }
    }

    /// The JSON of a cell of which nothing is known: where it is not quoted, a number, true or false
    /// is what it is, and an empty one nothing. Everything else is a text.
    fn undeclared(&self, cell: &Cell) -> String {
        match cell.quoted || self.reading.as_text {
            true => json::string(&cell.text),
            false if cell.text.is_empty() => "null".into(),
            false => look(&cell.text, !self.reading.by_guest)
                .map_or_else(|| json::string(&cell.text), str::to_string),
        }
    }
}

/// A cell for a parameter that is a number.
fn number(cell: &Cell) -> String {
    match cell.text.trim() {
        "" => "null".into(),
        _ => look(&cell.text, true).map_or_else(|| json::string(&cell.text), str::to_string),
    }
}

/// The number, true or false that a text looks like, in its own characters. Space around it is a part
/// of a text, and of no number.
fn look(text: &str, may_have_space: bool) -> Option<&str> {
    let trimmed = text.trim_matches([' ', '\t']);
    let is_number = || trimmed.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let is_one = matches!(trimmed, "true" | "false")
        || is_number() && serde_json::from_str::<serde::de::IgnoredAny>(trimmed).is_ok();
    let fits = may_have_space || trimmed.len() == text.len();
    (is_one && fits).then_some(trimmed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(types: &[(&str, &str)]) -> Vec<Parameter> {
        let param = |(name, kind): &(&str, &str)| Parameter {
            name: name.to_string(),
            type_name: kind.to_string(),
        };
        types.iter().map(param).collect()
    }

    fn header(names: &[&str], types: &[(&str, &str)]) -> Result<Header, Error> {
        let names = names.iter().map(|name| name.to_string()).collect();
        Header::new(names, &Params::Named(&params(types)), CellReading::default())
    }

    /// One that begins with a quote is quoted.
    fn cells(texts: &[&str]) -> Vec<Cell> {
        let cell = |text: &&str| match text.strip_prefix('"') {
            Some(text) => Cell { text: text.into(), quoted: true },
            None => Cell { text: text.to_string(), quoted: false },
        };
        texts.iter().map(cell).collect()
    }

    fn json(args: &[&str], named: &[(&str, &str)]) -> Json {
        let json = args.iter().fold(Json::new(), |json, text| json.arg_json(*text).unwrap());
        named.iter().fold(json, |json, (name, text)| json.named_json(*name, *text).unwrap())
    }

    #[test]
    fn columns_are_arguments_by_name_as_their_parameters_take_them() {
        let types = [("text", "&str"), ("limit", "usize"), ("note", "Option<String>")];
        let header = header(&["limit", "text", "note"], &types).unwrap();
        let given = |texts: &[&str]| header.arguments(&cells(texts));
        let expected =
            |limit, text, note| Ok(json(&[], &[("limit", limit), ("text", text), ("note", note)]));
        assert_eq!(given(&["3", "7", ""]), expected("3", "\"7\"", "null"));
        assert_eq!(given(&["\"3", "1E5", "\""]), expected("3", "\"1E5\"", "\"\""));
        assert_eq!(given(&[" 3", "", "null"]), expected("3", "\"\"", "\"null\""));
        assert_eq!(given(&["003", "true", "-0"]), expected("\"003\"", "\"true\"", "\"-0\""));
        assert_eq!(given(&["", "\"", "\"1"]), expected("null", "\"\"", "\"1\""));
        assert!(given(&["3", "7"]).unwrap_err().contains("2 columns, the header 3"));
    }

    #[test]
    fn what_is_declared_decides_and_else_the_look_of_what_is_not_quoted() {
        let types =
            [("list", "Vec<u64>"), ("wide", "Option<u128>"), ("flag", "bool"), ("own", "Point")];
        let header = header(&["list", "wide", "flag", "own"], &types).unwrap();
        let given = |texts: &[&str]| header.arguments(&cells(texts)).unwrap();
        let expected = |list, wide, flag, own| {
            json(&[], &[("list", list), ("wide", wide), ("flag", flag), ("own", own)])
        };
        let big = "340282366920938463463374607431768211455";
        assert_eq!(
            given(&["\"[1, 2]", big, "\"true", "\"{\"x\": 1}"]),
            expected("[1, 2]", big, "true", "{\"x\": 1}")
        );
        assert_eq!(given(&["[1]", "\"", "0", "1.10"]), expected("[1]", "null", "0", "1.10"));
        assert_eq!(given(&["", "", "", "\"1.10"]), expected("null", "null", "null", "\"1.10\""));
    }

    #[test]
    fn one_parameter_that_no_column_is_named_after_takes_the_row() {
        let header = header(&["x", "name", "zip"], &[("row", "Measurement")]).unwrap();
        let row = |texts: &[&str]| header.arguments(&cells(texts)).unwrap();
        let object =
            |x, name, zip| json(&[&format!("{{\"x\":{x},\"name\":{name},\"zip\":{zip}}}")], &[]);
        assert_eq!(row(&["1.50", "a", "007"]), object("1.50", "\"a\"", "\"007\""));
        assert_eq!(row(&["\"1.5", "", "\""]), object("\"1.5\"", "null", "\"\""));
        assert_eq!(row(&["1E5", "true", "\"true"]), object("1E5", "true", "\"true\""));
        assert_eq!(row(&[" 1", "+1", "[1]"]), object("1", "\"+1\"", "\"[1]\""));
        assert_eq!(row(&["-", "1 2", "0x1"]), object("\"-\"", "\"1 2\"", "\"0x1\""));
    }

    #[test]
    fn cells_are_texts_on_request_and_else_the_guests_to_read_where_it_can() {
        let names = || vec!["a".to_string(), "b".to_string()];
        let of = |types: &[(&str, &str)], as_text, by_guest| {
            let reading = CellReading { as_text, by_guest };
            Header::new(names(), &Params::Named(&params(types)), reading).unwrap()
        };
        let row = [("row", "Row")];
        let given = |header: Header| header.arguments(&cells(&["1E5", ""])).unwrap();
        assert_eq!(given(of(&row, true, false)), json(&["{\"a\":\"1E5\",\"b\":\"\"}"], &[]));
        let by_guest = json(&["{\"a\":1E5,\"b\":null}"], &[]).of_cells();
        assert_eq!(given(of(&row, false, true)), by_guest);
        let by_guest = json(&["{\"a\":\"1E5\",\"b\":\"\"}"], &[]).of_cells();
        assert_eq!(given(of(&row, true, true)), by_guest);
        // What the manifest says of a parameter counts all the same.
        let two = of(&[("a", "f64"), ("b", "Option<Own>")], true, false);
        assert_eq!(given(two), json(&[], &[("a", "1E5"), ("b", "\"\"")]));
        let spaced = of(&row, false, true).arguments(&cells(&[" 5", "5"])).unwrap();
        assert_eq!(spaced, json(&["{\"a\":\" 5\",\"b\":5}"], &[]).of_cells());
    }

    #[test]
    fn a_header_that_does_not_fit_is_refused_before_any_row() {
        let types = [("text", "String"), ("limit", "usize")];
        for (names, named) in [
            (&["text"][..], "no column for the parameter `limit`"),
            (&["text", "limit", "more"], "column `more` is not a parameter"),
            (&["text", "text"], "two columns"),
        ] {
            let refused = header(names, &types).unwrap_err();
            assert!(format!("{refused:?}").contains(named), "{refused:?}");
            assert_eq!(refused.exit(), Exit::Call);
        }
        // A row is not a number and no text.
        assert!(header(&["x"], &[("limit", "u64")]).is_err());
        assert!(header(&["x"], &[("text", "String")]).is_err());
        assert!(header(&["x"], &[("columns", "HashMap<String, String>")]).is_ok());
        let numbers = |count| {
            let names = vec!["a".into(), "b".into()];
            Header::new(names, &Params::Numbers(count), CellReading::default())
        };
        let given = |texts: &[&str]| numbers(2).unwrap().arguments(&cells(texts)).unwrap();
        assert_eq!(given(&["1", "\"2"]), json(&["1", "2"], &[]));
        assert_eq!(given(&[" -0 ", "x"]), json(&["-0", "\"x\""], &[]));
        assert!(numbers(3).is_err());
    }
}

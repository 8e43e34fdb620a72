//! Cells: arguments that come from a table, read as their types take them.
//!
//! A table has only texts. The caller guesses from a cell's characters whether it is a number, and
//! keeps these characters; the parameter's type decides: `1.10` may be a price or a version. So
//! here a number may be read as a text, and a text of a number as a number, also in members of
//! objects. Types that accept any value, such as `serde_json::Value` and flattened fields, get the
//! caller's guess.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess,
    Unexpected, Visitor,
};
use serde_json::value::RawValue;
use serde_json::{Error, Value};

use crate::json_call::Members;

/// Decodes an argument, which is a cell or an object of cells. What is wrong with a row names its column.
pub(crate) fn decode<T: DeserializeOwned>(argument: &RawValue) -> Result<T, String> {
    T::deserialize(Cell(argument.get())).map_err(|error| plain(&error))
}

/// The JSON of a cell, or of an object whose members are cells.
#[derive(Clone, Copy)]
struct Cell<'de>(&'de str);

impl<'de> Cell<'de> {
    fn json(&self) -> serde_json::Deserializer<serde_json::de::StrRead<'de>> {
        serde_json::Deserializer::from_str(self.0)
    }

    fn is_text(&self) -> bool {
        self.0.starts_with('"')
    }

    /// A number, `true`, `false` or `null`.
    fn is_word(&self) -> bool {
        !self.0.starts_with(['"', '[', '{'])
    }

    /// What the text in it says, where it is one and that is JSON.
    fn said(&self) -> Result<Option<Value>, Error> {
        if !self.is_text() {
            return Ok(None);
        }
        let text: String = serde_json::from_str(self.0)?;
        Ok(serde_json::from_str(&text).ok())
    }

    /// The characters of a number: those in a text, or its own.
    fn digits(&self) -> Result<String, Error> {
        match self.is_text() {
            true => serde_json::from_str::<String>(self.0).map(|text| text.trim().to_owned()),
            false => Ok(self.0.to_owned()),
        }
    }
}

/// Reads what a text says, or else what stands there.
macro_rules! read_what_is_said {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.said()? {
                Some(value @ (Value::Number(_) | Value::Bool(_))) => value.$method(visitor),
                _ => self.json().$method(visitor),
            }
        }
    )*};
}

/// Reads a text: a number is a text of its characters, and null an empty text.
macro_rules! read_texts {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.is_word() {
                true if self.0 == "null" => visitor.visit_borrowed_str(""),
                true => visitor.visit_borrowed_str(self.0),
                false => self.json().$method(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Cell<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.starts_with('{') {
            true => self.deserialize_map(visitor),
            false => self.json().deserialize_any(visitor),
        }
    }

    read_what_is_said! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32
        deserialize_f64
    }

    // A `Value` has no such numbers.
    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let digits = self.digits()?;
        let number = digits.parse().map_err(|_| unexpected(&digits, &visitor))?;
        visitor.visit_i128(number)
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let digits = self.digits()?;
        let number = digits.parse().map_err(|_| unexpected(&digits, &visitor))?;
        visitor.visit_u128(number)
    }

    read_texts! {
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
        deserialize_identifier
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            "null" => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        // serde_json's own `RawValue` is made by its own deserialiser alone.
        match name.starts_with("$serde_json::") {
            true => self.json().deserialize_newtype_struct(name, visitor),
            false => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Some(value @ Value::Object(_)) = self.said()? {
            return value.deserialize_map(visitor);
        }
        if !self.0.starts_with('{') {
            return self.json().deserialize_map(visitor);
        }
        let Members(members) = serde_json::from_str(self.0)?;
        let columns = members.into_iter().map(|(name, value)| (name.into(), value.get()));
        let columns: Vec<(String, &str)> = columns.collect();
        visitor.visit_map(Columns { columns: columns.into_iter(), value: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        // A struct may also be a list of its fields.
        match self.0.starts_with('[') {
            true => self.json().deserialize_seq(visitor),
            false => self.deserialize_map(visitor),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.said()? {
            Some(value @ Value::Array(_)) => value.deserialize_seq(visitor),
            _ => self.json().deserialize_seq(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.is_word() && self.0 != "null" {
            return visitor.visit_enum(BorrowedStrDeserializer::new(self.0));
        }
        // A variant with data is an object, which a cell holds as a text.
        match self.said()? {
            Some(value @ Value::Object(_)) => value.deserialize_enum(name, variants, visitor),
            _ => self.json().deserialize_enum(name, variants, visitor),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.json().deserialize_unit(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.json().deserialize_unit_struct(name, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

/// The cells of a row, by the names of their columns.
struct Columns<'de> {
    columns: std::vec::IntoIter<(String, &'de str)>,
    /// The one whose name was read.
    value: Option<(String, &'de str)>,
}

impl<'de> MapAccess<'de> for Columns<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((name, value)) = self.columns.next() else { return Ok(None) };
        let key = seed.deserialize(IntoDeserializer::<Error>::into_deserializer(name.clone()))?;
        self.value = Some((name, value));
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((name, value)) = self.value.take() else {
            return Err(Error::custom("a value is read before its name"));
        };
        seed.deserialize(Cell(value))
            .map_err(|error| Error::custom(format_args!("column `{name}`: {}", plain(&error))))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.columns.len())
    }
}

/// The error in a cell, without a position in the cell's generated JSON.
fn plain(error: &Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) if error.line() > 0 => what.to_owned(),
        _ => text,
    }
}

fn unexpected<'de, V: Visitor<'de>>(text: &str, visitor: &V) -> Error {
    Error::invalid_value(Unexpected::Str(text), visitor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    fn cell<T: DeserializeOwned>(json: &str) -> Result<T, String> {
        let raw: Box<RawValue> = serde_json::from_str(json).expect("JSON");
        decode(&raw)
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Code(String);

    #[derive(Debug, PartialEq, Deserialize)]
    enum Grade {
        #[serde(rename = "1")]
        First,
        Other,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Row {
        id: u64,
        name: String,
        code: Code,
        price: Option<f64>,
        note: Option<String>,
        wide: i128,
        sold: bool,
        grade: Grade,
        sizes: Vec<u8>,
        mark: char,
        rest: Value,
        absent: Option<u8>,
    }

    #[test]
    fn a_cell_is_what_its_field_takes() {
        let row = r#"{"id": "7", "name": 1E5, "code": 1.10, "price": "1.5", "note": null,
            "wide": -170141183460469231731687303715884105728, "sold": "true", "grade": 1,
            "sizes": "[1,2]", "mark": 7, "rest": 1.10, "more": 5}"#;
        let expected = Row {
            id: 7,
            name: "1E5".into(),
            code: Code("1.10".into()),
            price: Some(1.5),
            note: None,
            wide: i128::MIN,
            sold: true,
            grade: Grade::First,
            sizes: vec![1, 2],
            mark: '7',
            rest: 1.1.into(),
            absent: None,
        };
        assert_eq!(cell::<Row>(row), Ok(expected));
    }

    #[test]
    fn a_variant_with_data_is_json_in_a_cell() {
        #[derive(Debug, PartialEq, Deserialize)]
        enum Shape {
            Point,
            Circle(u32),
            Box { side: u8 },
        }
        assert_eq!(cell::<Shape>("\"Point\""), Ok(Shape::Point));
        assert_eq!(cell::<Shape>(r#""{\"Circle\": 5}""#), Ok(Shape::Circle(5)));
        assert_eq!(
            cell::<Option<Shape>>(r#""{\"Box\":{\"side\":1}}""#),
            Ok(Some(Shape::Box { side: 1 }))
        );
        assert!(cell::<Shape>("\"{Circle}\"").is_err());
    }

    #[test]
    fn what_is_wrong_with_a_cell_names_its_column_and_no_place_in_json() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Sale {
            item: String,
            count: u8,
        }
        let refused = cell::<Sale>(r#"{"item": "a", "count": 256}"#).unwrap_err();
        assert_eq!(refused, "column `count`: invalid value: integer `256`, expected u8");
        let refused = cell::<Sale>(r#"{"item": "a", "count": "x"}"#).unwrap_err();
        assert_eq!(refused, "column `count`: invalid type: string \"x\", expected u8");
        assert_eq!(cell::<Sale>(r#"{"item": "a"}"#).unwrap_err(), "missing field `count`");
        assert_eq!(cell::<u8>("256").unwrap_err(), "invalid value: integer `256`, expected u8");
        let quoting = cell::<u8>("\" at line 7\"").unwrap_err();
        assert_eq!(quoting, "invalid type: string \" at line 7\", expected u8");
    }

    #[test]
    fn nothing_is_an_empty_text_where_there_must_be_one() {
        assert_eq!(cell::<String>("null"), Ok(String::new()));
        assert_eq!(cell::<Option<String>>("null"), Ok(None));
        assert_eq!(cell::<Option<String>>("\"\""), Ok(Some(String::new())));
        assert_eq!(cell::<Option<String>>("7"), Ok(Some("7".into())));
        assert_eq!(cell::<Value>("null"), Ok(Value::Null));
        assert!(cell::<u64>("null").is_err() && cell::<Grade>("null").is_err());
    }

    #[test]
    fn texts_stay_texts_and_what_says_no_number_is_none() {
        assert_eq!(cell::<String>("\"00123\""), Ok("00123".into()));
        assert_eq!(cell::<Value>("\"123\""), Ok("123".into()));
        assert_eq!(cell::<String>("true"), Ok("true".into()));
        assert_eq!(cell::<u128>("340282366920938463463374607431768211455"), Ok(u128::MAX));
        assert_eq!(cell::<u128>("\" 5 \""), Ok(5));
        assert_eq!(cell::<Grade>("\"Other\""), Ok(Grade::Other));
        for json in ["\"00123\"", "\"x\"", "1.5", "-1", "256", "[1]"] {
            assert!(cell::<u8>(json).is_err(), "{json}");
            assert!(cell::<BTreeMap<String, u8>>(json).is_err(), "{json}");
        }
        for json in ["\"x\"", "1.5", "-1", "1e3", "340282366920938463463374607431768211456"] {
            assert!(cell::<u128>(json).is_err(), "{json}");
        }
        let columns = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        assert_eq!(cell::<BTreeMap<String, String>>(r#"{"a": 1}"#), Ok(columns));
    }
}

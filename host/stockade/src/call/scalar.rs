//! Scalars: arguments and results of functions over `i32`, `i64`, `f32` and `f64`.
//!
//! Arguments arrive as any value that serde can serialise to a tuple of numbers, and are checked
//! against the function's parameters: how many, whole or float, and in range.

use std::fmt;

use serde::Serialize;
use serde::de::value::SeqDeserializer;
use serde::de::{self, DeserializeOwned, IntoDeserializer};
use serde::ser::{self, Impossible, SerializeTuple};
use stockade_wire::{Scalar, ValueType};

use crate::call::number::Number;

/// A tuple of numbers as scalars of the types `params`.
pub(crate) fn encode<A: Serialize + ?Sized>(
    arguments: &A,
    params: &[ValueType],
) -> Result<Vec<Scalar>, String> {
    let mut numbers = Numbers::default();
    arguments.serialize(&mut numbers).map_err(|error| error.0)?;
    as_scalars(numbers.found, params, |number, param| as_scalar(*number, param))
}

/// As [`encode`], of arguments that are the texts of JSON values, each of them of any length.
pub(crate) fn encode_json<'a>(
    texts: impl Iterator<Item = &'a str>,
    params: &[ValueType],
) -> Result<Vec<Scalar>, String> {
    let numbers = texts.zip(1..).map(|(text, position)| {
        let what = match text.as_bytes() {
            [b'-' | b'0'..=b'9', ..] => return Ok(text),
            [b't' | b'f', ..] => return Ok(text),
            [b'n', ..] => "nothing",
            [b'"', ..] => "text",
            [b'[', ..] => "a list",
            _ => "a map",
        };
        Err(format!("argument {position} is {what}, where a number is needed"))
    });
    let numbers: Vec<_> = numbers.collect::<Result<_, _>>()?;
    as_scalars(numbers, params, |text, param| json_scalar(text, param))
}

fn as_scalars<N>(
    numbers: Vec<N>,
    params: &[ValueType],
    convert: impl Fn(&N, ValueType) -> Result<Scalar, String>,
) -> Result<Vec<Scalar>, String> {
    if numbers.len() != params.len() {
        return Err(format!("it takes {}, got {}", count(params.len()), numbers.len()));
    }
    let converted = numbers.iter().zip(params).enumerate().map(|(index, (number, param))| {
        convert(number, *param).map_err(|why| format!("argument {}: {why}", index + 1))
    });
    converted.collect()
}

/// A JSON number, or `true` or `false`, as a scalar.
fn json_scalar(text: &str, param: ValueType) -> Result<Scalar, String> {
    let number = match text {
        "true" => true.into(),
        "false" => false.into(),
        // As every integer, 0 has a sign only where it is a float.
        "-0" if matches!(param, ValueType::F32 | ValueType::F64) => Number::F64(-0.0),
        _ => Number::from_json(text).ok_or_else(|| beyond(text, param))?,
    };
    // An integer that only a float holds.
    let is_whole = || !text.contains(['.', 'e', 'E']);
    match (number, param) {
        (Number::F64(_), ValueType::I32 | ValueType::I64) if is_whole() => Err(beyond(text, param)),
        _ => as_scalar(number, param),
    }
}

/// What is said of a number that no type of the guest's has.
fn beyond(text: &str, param: ValueType) -> String {
    let shown = match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    };
    format!("{shown} does not fit an {param}{}", range(param))
}

/// Digits of a number that are shown: as many as two integers of 128 bits have.
const SHOWN_CHARS_MAX: usize = 80;

/// From where to where numbers of a type go, as the end of a sentence.
fn range(param: ValueType) -> String {
    match param {
        ValueType::I32 => format!(", which goes from {} to {}", i32::MIN, u32::MAX),
        ValueType::I64 => format!(", which goes from {} to {}", i64::MIN, u64::MAX),
        ValueType::F32 => format!(", which goes from {:e} to {:e}", f32::MIN, f32::MAX),
        ValueType::F64 => format!(", which goes from {:e} to {:e}", f64::MIN, f64::MAX),
        ValueType::Other => String::new(),
    }
}

pub(crate) fn count(arguments: usize) -> String {
    match arguments {
        0 => "no arguments".into(),
        1 => "1 argument".into(),
        n => format!("{n} arguments"),
    }
}

/// Results of a scalar function as the caller's type: nothing, one number, or a tuple of them.
pub(crate) fn decode<T: DeserializeOwned>(results: &[Scalar]) -> Result<T, String> {
    let value = match results {
        [] => T::deserialize(().into_deserializer()),
        [one] => T::deserialize(One(*one)),
        many => T::deserialize(SeqDeserializer::new(many.iter().map(|one| One(*one)))),
    };
    value.map_err(|error: de::value::Error| error.to_string())
}

#[derive(Clone, Copy)]
struct One(Scalar);

impl One {
    fn number(self) -> Number {
        match self.0 {
            Scalar::I32(value) => value.into(),
            Scalar::I64(value) => value.into(),
            Scalar::F32(bits) => f32::from_bits(bits).into(),
            Scalar::F64(bits) => f64::from_bits(bits).into(),
        }
    }
}

impl<'de> IntoDeserializer<'de> for One {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> de::Deserializer<'de> for One {
    type Error = de::value::Error;

    fn deserialize_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Scalar::I32(value) => visitor.visit_i32(value),
            Scalar::I64(value) => visitor.visit_i64(value),
            Scalar::F32(bits) => visitor.visit_f32(f32::from_bits(bits)),
            Scalar::F64(bits) => visitor.visit_f64(f64::from_bits(bits)),
        }
    }

    // Serde's own floats take any number, and round it.
    fn deserialize_f32<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.number().to_f32() {
            Some(float) => visitor.visit_f32(float),
            None => Err(de::Error::custom(format_args!("{} is not an f32", self.number()))),
        }
    }

    fn deserialize_f64<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.number().to_f64() {
            Some(float) => visitor.visit_f64(float),
            None => Err(de::Error::custom(format_args!("{} is not an f64", self.number()))),
        }
    }

    // A guest's integers have no sign of their own: the caller's type decides.
    fn deserialize_u32<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Scalar::I32(value) => visitor.visit_u32(value as u32),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_u64<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Scalar::I32(value) => visitor.visit_u32(value as u32),
            Scalar::I64(value) => visitor.visit_u64(value as u64),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_bool<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Scalar::I32(value) => visitor.visit_bool(value != 0),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: de::Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 char str string bytes byte_buf option unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

fn as_scalar(number: Number, param: ValueType) -> Result<Scalar, String> {
    // A guest's integers have no sign of their own, and JSON knows one kind of float.
    let scalar = match param {
        ValueType::I32 => number
            .to_integer()
            .or_else(|| number.to_integer().map(u32::cast_signed))
            .map(Scalar::I32),
        ValueType::I64 => number
            .to_integer()
            .or_else(|| number.to_integer().map(u64::cast_signed))
            .map(Scalar::I64),
        ValueType::F32 => number.round_to_f32().map(|float| Scalar::F32(float.to_bits())),
        ValueType::F64 => number.to_f64().map(|float| Scalar::F64(float.to_bits())),
        ValueType::Other => {
            return Err(format!("{number} cannot be passed: the parameter is no number"));
        }
    };
    scalar.ok_or_else(|| match (number, param) {
        (Number::Natural(_) | Number::Negative(_), ValueType::I32 | ValueType::I64) => {
            format!("{number} does not fit an {param}{}", range(param))
        }
        (Number::F64(_), ValueType::F32) => {
            format!("{number} does not fit an {param}{}", range(param))
        }
        (Number::Natural(_) | Number::Negative(_), ValueType::F32 | ValueType::F64) => {
            format!("{number} is not an {param}: it has more digits than one holds exactly")
        }
        _ => format!("{number} is not an {param}"),
    })
}

/// Collects the numbers of a tuple.
#[derive(Default)]
struct Numbers {
    found: Vec<Number>,
    /// Whether this is inside the tuple of arguments, where no other may stand.
    inside: bool,
}

#[derive(Debug)]
struct NotScalar(String);

impl fmt::Display for NotScalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotScalar {}

impl ser::Error for NotScalar {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl Numbers {
    fn refuse<T>(&self, what: &str) -> Result<T, NotScalar> {
        let position = self.found.len() + 1;
        Err(NotScalar(format!("argument {position} is {what}, where a number is needed")))
    }
}

macro_rules! numbers {
    ($($method:ident($type:ty)),* $(,)?) => {$(
        fn $method(self, value: $type) -> Result<(), NotScalar> {
            self.found.push(value.into());
            Ok(())
        }
    )*};
}

macro_rules! refused {
    ($($method:ident($($type:ty),*) -> $result:ty = $what:literal),* $(,)?) => {$(
        fn $method(self, $(_: $type),*) -> Result<$result, NotScalar> {
            self.refuse($what)
        }
    )*};
}

type No = Impossible<(), NotScalar>;

impl ser::Serializer for &mut Numbers {
    type Ok = ();
    type Error = NotScalar;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = No;
    type SerializeTupleVariant = No;
    type SerializeMap = No;
    type SerializeStruct = No;
    type SerializeStructVariant = No;

    numbers! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32),
        serialize_i64(i64), serialize_i128(i128), serialize_u8(u8), serialize_u16(u16),
        serialize_u32(u32), serialize_u64(u64), serialize_u128(u128), serialize_f32(f32),
        serialize_f64(f64),
    }

    refused! {
        serialize_char(char) -> () = "a character",
        serialize_str(&str) -> () = "text",
        serialize_bytes(&[u8]) -> () = "bytes",
        serialize_none() -> () = "nothing",
        serialize_unit_struct(&'static str) -> () = "a struct",
        serialize_unit_variant(&'static str, u32, &'static str) -> () = "a variant",
        serialize_tuple_struct(&'static str, usize) -> No = "a struct",
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> No = "a variant",
        serialize_map(Option<usize>) -> No = "a map",
        serialize_struct(&'static str, usize) -> No = "a struct",
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> No = "a variant",
    }

    fn serialize_unit(self) -> Result<(), NotScalar> {
        // The empty tuple of arguments, which serde calls a unit.
        if self.inside { self.refuse("nothing") } else { Ok(()) }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), NotScalar> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), NotScalar> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<(), NotScalar> {
        self.refuse("a variant")
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Self, NotScalar> {
        if self.inside {
            return self.refuse("a list");
        }
        self.inside = true;
        Ok(self)
    }

    fn serialize_tuple(self, _len: usize) -> Result<Self, NotScalar> {
        if self.inside {
            return self.refuse("a tuple");
        }
        self.inside = true;
        Ok(self)
    }
}

impl SerializeTuple for &mut Numbers {
    type Ok = ();
    type Error = NotScalar;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotScalar> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), NotScalar> {
        Ok(())
    }
}

impl ser::SerializeSeq for &mut Numbers {
    type Ok = ();
    type Error = NotScalar;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotScalar> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), NotScalar> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ValueType::{F32, F64, I32, I64};

    #[test]
    fn numbers_are_held_against_the_parameters_range() {
        assert_eq!(encode(&(i32::MAX,), &[I32]).unwrap(), [Scalar::I32(i32::MAX)]);
        assert_eq!(encode(&(u32::MAX,), &[I32]).unwrap(), [Scalar::I32(-1)]);
        assert!(encode(&(1u64 << 32,), &[I32]).is_err());
        assert_eq!(encode(&(u64::MAX,), &[I64]).unwrap(), [Scalar::I64(-1)]);
        assert!(encode(&(1i128 << 64,), &[I64]).is_err());
        assert!(encode(&(1.5f64,), &[I32]).is_err());
        assert!(encode(&(1e300f64,), &[F32]).is_err());
        assert_eq!(encode(&(3,), &[F64]).unwrap(), [Scalar::F64(3f64.to_bits())]);
        assert!(encode(&((1i64 << 53) + 1,), &[F64]).is_err());
        assert!(encode(&(i128::MAX,), &[F64]).is_err());
    }

    #[test]
    fn json_numbers_of_any_length_are_exact_or_refused_with_the_range() {
        let one =
            |text: &str, param| encode_json([text].into_iter(), &[param]).map(|given| given[0]);
        let f64_of = |value: f64| Ok(Scalar::F64(value.to_bits()));
        assert_eq!(one("-0", I32), Ok(Scalar::I32(0)));
        assert_eq!(one("-0", F64), f64_of(-0.0));
        assert_eq!(one("-0.0", F64), f64_of(-0.0));
        assert_eq!(one("-0", F32), Ok(Scalar::F32((-0.0f32).to_bits())));
        assert_eq!(one("18446744073709551615", I64), Ok(Scalar::I64(-1)));
        assert_eq!(one("-9223372036854775808", I64), Ok(Scalar::I64(i64::MIN)));
        for (text, param, range) in [
            ("18446744073709551616", I64, "from -9223372036854775808 to 18446744073709551615"),
            ("-9223372036854775809", I64, "from -9223372036854775808"),
            ("4294967296", I32, "from -2147483648 to 4294967295"),
            ("340282366920938463463374607431768211456", I64, "does not fit an i64"),
            ("1e400", F64, "from -1.7976931348623157e308 to 1.7976931348623157e308"),
            ("-1e400", F64, "does not fit an f64"),
            ("1e39", F32, "to 3.4028235e38"),
            ("1e3", I64, "is not an i64"),
            ("1.0", I32, "is not an i32"),
        ] {
            let refused = one(text, param).unwrap_err();
            assert!(refused.contains(range), "{text}: {refused}");
        }
        // Integers are exact as floats, or refused; what is written as a float is rounded as one.
        assert_eq!(one("18446744073709551616", F64), f64_of(2f64.powi(64)));
        assert!(one("18446744073709551617", F64).unwrap_err().contains("holds exactly"));
        assert_eq!(one("18446744073709551617.0", F64), f64_of(2f64.powi(64)));
        let long = format!("{:.0}", 2f64.powi(200));
        assert_eq!(one(&long, F64), f64_of(2f64.powi(200)));
        assert_eq!(one(&format!("-{long}"), F64), f64_of(-2f64.powi(200)));
        assert!(one(&format!("{long}1"), F64).is_err());
        assert!(one(&long, I64).unwrap_err().contains("does not fit an i64"));
        let endless = "9".repeat(100_000);
        assert!(one(&endless, F64).unwrap_err().len() < 200);
        assert_eq!(one("true", I32), Ok(Scalar::I32(1)));
        for (text, what) in
            [("null", "nothing"), ("\"1\"", "text"), ("[1]", "a list"), ("{}", "a map")]
        {
            assert!(one(text, I32).unwrap_err().contains(&format!("argument 1 is {what}")));
        }
    }

    #[test]
    fn too_few_and_too_many_arguments_are_refused() {
        assert!(encode(&(1,), &[I32, I32]).unwrap_err().contains("2 arguments"));
        assert!(encode(&(1, 2, 3), &[I32, I32]).is_err());
        assert_eq!(encode(&(), &[]).unwrap(), []);
    }

    #[test]
    fn what_is_no_number_is_named_with_its_place() {
        let refused = encode(&(1, "two"), &[I32, I32]).unwrap_err();
        assert!(refused.contains("argument 2 is text"), "{refused}");
    }

    #[test]
    fn tuples_within_the_tuple_are_no_arguments() {
        assert!(encode(&((1, 2),), &[I32, I32]).is_err());
        assert!(encode(&((1,), 2), &[I32, I32]).is_err());
        assert!(encode(&((), 1, 2), &[I32, I32]).is_err());
        assert!(encode(&(vec![1, 2],), &[I32, I32]).is_err());
        assert_eq!(encode(&vec![1, 2], &[I32, I32]).unwrap().len(), 2);
    }

    #[test]
    fn nan_payloads_survive_both_ways() {
        let bits = 0x7ff8_dead_beef_0001;
        let sent = encode(&(f64::from_bits(bits),), &[F64]).unwrap();
        assert_eq!(sent, [Scalar::F64(bits)]);
        assert_eq!(decode::<f64>(&sent).unwrap().to_bits(), bits);
    }

    #[test]
    fn results_become_nothing_one_value_or_a_tuple() {
        decode::<()>(&[]).unwrap();
        assert_eq!(decode::<i32>(&[Scalar::I32(-1)]).unwrap(), -1);
        assert_eq!(decode::<u32>(&[Scalar::I32(-1)]).unwrap(), u32::MAX);
        let pair = [Scalar::I64(5), Scalar::F32(0.5f32.to_bits())];
        assert_eq!(decode::<(i64, f32)>(&pair).unwrap(), (5, 0.5));
        assert!(decode::<String>(&[Scalar::I32(1)]).is_err());
        assert!(decode::<i8>(&[Scalar::I32(300)]).is_err());
    }

    #[test]
    fn results_become_floats_only_where_these_hold_them_exactly() {
        assert_eq!(decode::<f64>(&[Scalar::I64(1 << 53)]).unwrap(), 9_007_199_254_740_992.0);
        assert!(decode::<f64>(&[Scalar::I64((1 << 53) + 1)]).is_err());
        assert!(decode::<f32>(&[Scalar::F64(0.1f64.to_bits())]).is_err());
        assert_eq!(decode::<f32>(&[Scalar::F64(0.5f64.to_bits())]).unwrap(), 0.5);
    }
}

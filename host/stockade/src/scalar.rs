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

/// A tuple of numbers as scalars of the types `params`.
pub(crate) fn encode<A: Serialize + ?Sized>(
    arguments: &A,
    params: &[ValueType],
) -> Result<Vec<Scalar>, String> {
    let mut numbers = Numbers::default();
    arguments.serialize(&mut numbers).map_err(|error| error.0)?;
    if numbers.0.len() != params.len() {
        return Err(format!("it takes {}, got {}", count(params.len()), numbers.0.len()));
    }
    numbers
        .0
        .into_iter()
        .zip(params)
        .enumerate()
        .map(|(index, (number, param))| {
            number.as_scalar(*param).map_err(|why| format!("argument {}: {why}", index + 1))
        })
        .collect()
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
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A number as its caller gave it.
#[derive(Clone, Copy, Debug)]
enum Number {
    Whole(i128),
    F32(f32),
    F64(f64),
}

impl Number {
    fn as_scalar(self, param: ValueType) -> Result<Scalar, String> {
        match (self, param) {
            (Self::Whole(value), ValueType::I32) => i32::try_from(value)
                .or_else(|_| u32::try_from(value).map(|unsigned| unsigned as i32))
                .map(Scalar::I32)
                .map_err(|_| format!("{value} does not fit an i32")),
            (Self::Whole(value), ValueType::I64) => i64::try_from(value)
                .or_else(|_| u64::try_from(value).map(|unsigned| unsigned as i64))
                .map(Scalar::I64)
                .map_err(|_| format!("{value} does not fit an i64")),
            // A whole number for a float parameter, where the float holds it exactly.
            (Self::Whole(value), ValueType::F32) if (value as f32) as i128 == value => {
                Ok(Scalar::F32((value as f32).to_bits()))
            }
            (Self::Whole(value), ValueType::F64) if (value as f64) as i128 == value => {
                Ok(Scalar::F64((value as f64).to_bits()))
            }
            (Self::F32(value), ValueType::F32) => Ok(Scalar::F32(value.to_bits())),
            (Self::F64(value), ValueType::F64) => Ok(Scalar::F64(value.to_bits())),
            (Self::F32(value), ValueType::F64) => Ok(Scalar::F64(f64::from(value).to_bits())),
            // JSON knows one kind of float; rounding it to an f32 parameter is what is meant.
            (Self::F64(value), ValueType::F32)
                if !value.is_finite() || (value as f32).is_finite() =>
            {
                Ok(Scalar::F32((value as f32).to_bits()))
            }
            (number, ValueType::Other) => {
                Err(format!("{number} cannot be passed: the parameter is no number"))
            }
            (number, param) => Err(format!("{number} is not an {param}")),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(f),
            Self::F32(value) => write!(f, "{value:?}"),
            Self::F64(value) => write!(f, "{value:?}"),
        }
    }
}

/// Collects the numbers of a tuple.
#[derive(Default)]
struct Numbers(Vec<Number>);

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
        let position = self.0.len() + 1;
        Err(NotScalar(format!("argument {position} is {what}, where a number is needed")))
    }
}

macro_rules! numbers {
    ($($method:ident($type:ty) => $variant:ident),* $(,)?) => {$(
        fn $method(self, value: $type) -> Result<(), NotScalar> {
            self.0.push(Number::$variant(value.into()));
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
        serialize_bool(bool) => Whole, serialize_i8(i8) => Whole, serialize_i16(i16) => Whole,
        serialize_i32(i32) => Whole, serialize_i64(i64) => Whole, serialize_i128(i128) => Whole,
        serialize_u8(u8) => Whole, serialize_u16(u16) => Whole, serialize_u32(u32) => Whole,
        serialize_u64(u64) => Whole, serialize_f32(f32) => F32, serialize_f64(f64) => F64,
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
        // The empty tuple of arguments; anywhere else the count is wrong and says so.
        Ok(())
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
        if self.0.is_empty() { Ok(self) } else { self.refuse("a list") }
    }

    fn serialize_tuple(self, _len: usize) -> Result<Self, NotScalar> {
        if self.0.is_empty() { Ok(self) } else { self.refuse("a tuple") }
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
}

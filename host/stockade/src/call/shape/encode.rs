//! Encodes a caller's values for a shape.
//!
//! A layer between the caller's type and the serializer of bytes, which passes on fitting values. A
//! value that does not fit is recorded in a [`Mistake`].

use std::fmt::Display;

use serde::Serialize;
use serde::ser::{self, Impossible, Serializer};

use super::mistake::{Mistake, Step};
use super::{ANY, BYTE, Shape};
use crate::call::number::{Number, NumberKind};

/// A value that is written as a shape wants it.
pub(crate) struct Guided<'a, T: ?Sized> {
    pub(crate) value: &'a T,
    pub(crate) shape: &'a Shape,
    pub(crate) mistake: &'a Mistake,
}

impl<T: Serialize + ?Sized> Serialize for Guided<'_, T> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        if let Shape::Any = self.shape {
            return self.value.serialize(inner);
        }
        self.value.serialize(Guide { inner, shape: self.shape, mistake: self.mistake })
    }
}

/// A serializer for values of a shape that is known.
struct Guide<'a, S> {
    inner: S,
    shape: &'a Shape,
    mistake: &'a Mistake,
}

impl<'a, S: Serializer> Guide<'a, S> {
    fn refuse<T>(&self, got: impl Display) -> Result<T, S::Error> {
        let hint = match self.shape {
            Shape::Option(_) => "; pass Some(…) or None",
            _ => "",
        };
        Err(self.mistake.note(format!("takes {}, got {got}{hint}", self.shape)))
    }

    fn number(self, number: impl Into<Number>) -> Result<S::Ok, S::Error> {
        let number = number.into();
        let Shape::Number(kind) = *self.shape else { return self.refuse(number) };
        macro_rules! write {
            ($converted:expr, $method:ident) => {
                match $converted {
                    Some(value) => self.inner.$method(value),
                    None => self.refuse(format_args!("{number}{}", why_not(number, kind))),
                }
            };
        }
        match kind {
            NumberKind::I8 => write!(number.to_integer(), serialize_i8),
            NumberKind::I16 => write!(number.to_integer(), serialize_i16),
            NumberKind::I32 => write!(number.to_integer(), serialize_i32),
            NumberKind::I64 | NumberKind::Isize => write!(number.to_integer(), serialize_i64),
            NumberKind::I128 => write!(number.to_integer(), serialize_i128),
            NumberKind::U8 => write!(number.to_integer(), serialize_u8),
            NumberKind::U16 => write!(number.to_integer(), serialize_u16),
            NumberKind::U32 => write!(number.to_integer(), serialize_u32),
            NumberKind::U64 | NumberKind::Usize => write!(number.to_integer(), serialize_u64),
            NumberKind::U128 => write!(number.to_integer(), serialize_u128),
            NumberKind::F32 => write!(number.round_to_f32(), serialize_f32),
            NumberKind::F64 => write!(number.to_f64(), serialize_f64),
        }
    }

    /// Begins a list, an array or a tuple, given as `what`.
    fn elements(
        self,
        length: Option<usize>,
        what: impl Display,
    ) -> Result<Elements<'a, S>, S::Error> {
        let (shape, mistake) = (self.shape, self.mistake);
        let expected = match shape {
            Shape::List(_) | Shape::Bytes => None,
            Shape::Array(_, expected) => expected.or(length),
            Shape::Tuple(parts) => Some(parts.len()),
            _ => return self.refuse(what),
        };
        if let (Some(expected), Some(given)) = (expected, length)
            && given != expected
        {
            return self.refuse(elements_in_words(given));
        }
        let writer = match expected {
            None => Writer::List(self.inner.serialize_seq(length)?),
            Some(expected) => Writer::Parts(self.inner.serialize_tuple(expected)?),
        };
        Ok(Elements { writer, shape, mistake, expected, index: 0 })
    }
}

/// Why `number` does not fit `kind`, if that is not obvious.
fn why_not(number: Number, kind: NumberKind) -> &'static str {
    match (number, kind) {
        (Number::Natural(_) | Number::Negative(_), NumberKind::F32 | NumberKind::F64) => {
            ", which it cannot hold exactly"
        }
        (Number::F32(_) | Number::F64(_), NumberKind::F32 | NumberKind::F64)
        | (Number::Natural(_) | Number::Negative(_), _) => ", which does not fit",
        _ => "",
    }
}

fn elements_in_words(count: usize) -> String {
    if count == 1 { "1 element".into() } else { format!("{count} elements") }
}

macro_rules! numbers {
    ($($method:ident($type:ty)),* $(,)?) => {$(
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.number(value)
        }
    )*};
}

/// Methods whose values have one shape that they fit.
macro_rules! of_one_shape {
    ($($method:ident($type:ty) for $shape:ident, else $got:literal);* $(;)?) => {$(
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            match self.shape {
                Shape::$shape => self.inner.$method(value),
                _ => self.refuse($got),
            }
        }
    )*};
}

impl<'a, S: Serializer> Serializer for Guide<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Elements<'a, S>;
    type SerializeTuple = Elements<'a, S>;
    type SerializeTupleStruct = Elements<'a, S>;
    type SerializeTupleVariant = Impossible<S::Ok, S::Error>;
    type SerializeMap = Entries<'a, S>;
    type SerializeStruct = Elements<'a, S>;
    type SerializeStructVariant = Impossible<S::Ok, S::Error>;

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }

    numbers! {
        serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_i128(i128), serialize_u8(u8), serialize_u16(u16), serialize_u32(u32),
        serialize_u64(u64), serialize_u128(u128), serialize_f32(f32), serialize_f64(f64),
    }

    of_one_shape! {
        serialize_bool(bool) for Bool, else "a bool";
        serialize_char(char) for Char, else "a char";
        serialize_str(&str) for Text, else "text";
        serialize_bytes(&[u8]) for Bytes, else "bytes";
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        match self.shape {
            Shape::Option(_) => self.inner.serialize_none(),
            _ => self.refuse("None"),
        }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        match self.shape {
            Shape::Option(shape) => {
                self.inner.serialize_some(&Guided { value, shape, mistake: self.mistake })
            }
            _ => self.refuse("Some(…)"),
        }
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        match self.shape {
            Shape::Unit => self.inner.serialize_unit(),
            _ => self.refuse("()"),
        }
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        match self.shape {
            Shape::Unit => self.inner.serialize_unit_struct(name),
            _ => self.refuse(format_args!("a struct `{name}`")),
        }
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        _index: u32,
        _variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.refuse(format_args!("an enum `{name}`"))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.refuse(format_args!("an enum `{name}`"))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Elements<'a, S>, S::Error> {
        self.elements(length, "a list")
    }

    fn serialize_tuple(self, length: usize) -> Result<Elements<'a, S>, S::Error> {
        self.elements(Some(length), "a tuple or an array")
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Elements<'a, S>, S::Error> {
        self.elements(Some(length), format_args!("a struct `{name}`"))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.refuse(format_args!("an enum `{name}`"))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Entries<'a, S>, S::Error> {
        let Shape::Map(key, value) = self.shape else { return self.refuse("a map") };
        let writer = self.inner.serialize_map(length)?;
        Ok(Entries { writer, key, value, mistake: self.mistake, index: 0 })
    }

    fn serialize_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Elements<'a, S>, S::Error> {
        // Its fields are the parts of a tuple in their order; a list of them would mean nothing.
        match self.shape {
            Shape::Tuple(_) => self.elements(Some(length), ""),
            _ => self.refuse(format_args!("a struct `{name}`")),
        }
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.refuse(format_args!("an enum `{name}`"))
    }
}

enum Writer<S: Serializer> {
    List(S::SerializeSeq),
    Parts(S::SerializeTuple),
}

/// The elements of a list, an array or a tuple, whichever the shape is.
struct Elements<'a, S: Serializer> {
    writer: Writer<S>,
    shape: &'a Shape,
    mistake: &'a Mistake,
    /// How many there must be, unless that is written before them.
    expected: Option<usize>,
    index: usize,
}

impl<S: Serializer> Elements<'_, S> {
    fn write<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        let index = self.index;
        self.index += 1;
        let (shape, step) = match self.shape {
            Shape::List(element) | Shape::Array(element, _) => (&**element, Step::Element(index)),
            Shape::Tuple(parts) => (parts.get(index).unwrap_or(&ANY), Step::Part(index)),
            _ => (&BYTE, Step::Element(index)),
        };
        let value = Guided { value, shape, mistake: self.mistake };
        match &mut self.writer {
            Writer::List(list) => ser::SerializeSeq::serialize_element(list, &value),
            Writer::Parts(parts) => ser::SerializeTuple::serialize_element(parts, &value),
        }
        .map_err(self.mistake.at(step))
    }

    fn finish(self) -> Result<S::Ok, S::Error> {
        if self.expected.is_some_and(|expected| expected != self.index) {
            let given = elements_in_words(self.index);
            return Err(self.mistake.note(format!("takes {}, got {given}", self.shape)));
        }
        match self.writer {
            Writer::List(list) => ser::SerializeSeq::end(list),
            Writer::Parts(parts) => ser::SerializeTuple::end(parts),
        }
    }
}

macro_rules! elements {
    ($($of:ident::$method:ident($($key:ident: $type:ty)?)),* $(,)?) => {$(
        impl<S: Serializer> ser::$of for Elements<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($key: $type,)?
                value: &T,
            ) -> Result<(), S::Error> {
                self.write(value)
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.finish()
            }
        }
    )*};
}

elements! {
    SerializeSeq::serialize_element(),
    SerializeTuple::serialize_element(),
    SerializeTupleStruct::serialize_field(),
    SerializeStruct::serialize_field(_name: &'static str),
}

/// The entries of a map.
struct Entries<'a, S: Serializer> {
    writer: S::SerializeMap,
    key: &'a Shape,
    value: &'a Shape,
    mistake: &'a Mistake,
    index: usize,
}

impl<S: Serializer> ser::SerializeMap for Entries<'_, S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        let key = Guided { value: key, shape: self.key, mistake: self.mistake };
        self.writer.serialize_key(&key).map_err(self.mistake.at(Step::Key(self.index)))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        let value = Guided { value, shape: self.value, mistake: self.mistake };
        self.writer.serialize_value(&value).map_err(self.mistake.at(Step::Value(self.index)))?;
        self.index += 1;
        Ok(())
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.writer.end()
    }
}

//! Decodes a guest's result of a known shape into the caller's type.
//!
//! The form is bincode's with fixed widths, read here by hand because its bytes are hostile and a
//! limit needs to know how many are left: no length beyond them is accepted, values that have no
//! bytes of their own are counted, and depth is bounded. Where the shape is not known the caller's
//! type says what to read. Nothing here blocks or allocates; that is up to the caller's type.

mod input;

use serde::Deserialize;
use serde::de::value::Error;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};

use self::input::Input;
use super::{ANY, BYTE, Shape};
use crate::call::number::{Number, NumberKind};

/// Reads a value of the shape `shape` that takes up all of `bytes`.
pub(crate) fn decode<'de, T: Deserialize<'de>>(
    bytes: &'de [u8],
    shape: &Shape,
) -> Result<T, Error> {
    let mut input = Input::new(bytes);
    let value = T::deserialize(Reader { input: &mut input, shape })?;
    match input.bytes_left() {
        0 => Ok(value),
        rest => Err(Error::custom(format_args!("{rest} bytes follow the value"))),
    }
}

/// Reads one value.
struct Reader<'a, 'de> {
    input: &'a mut Input<'de>,
    shape: &'a Shape,
}

impl<'de> Reader<'_, 'de> {
    /// Passes the guest's value to the visitor, which may refuse it.
    fn by_shape<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let input = self.input;
        match self.shape {
            Shape::Any => Err(Error::custom(
                "neither the module nor the caller's type says what the value is made of",
            )),
            Shape::Number(kind) => visit_number(input.number(*kind)?, visitor),
            Shape::Bool => visitor.visit_bool(input.flag()?),
            Shape::Char => visitor.visit_char(input.character()?),
            Shape::Text => visitor.visit_borrowed_str(input.text()?),
            Shape::Bytes => visitor.visit_borrowed_bytes(input.bytes()?),
            Shape::Unit => visitor.visit_unit(),
            Shape::Option(held) => visit_option(input, held, visitor),
            Shape::List(element) => visit_list(input, element, visitor),
            Shape::Array(element, Some(length)) => {
                visit_elements(input, Shapes::Each(element), *length, visitor)
            }
            Shape::Array(_, None) => Err(Error::custom(
                "the module does not say how long the array is, and the caller's type is not an \
                 array",
            )),
            Shape::Tuple(parts) => {
                visit_elements(input, Shapes::Parts(parts), parts.len(), visitor)
            }
            Shape::Map(key, value) => visit_map(input, key, value, visitor),
        }
    }

    fn number<V: Visitor<'de>, N>(
        self,
        asked: NumberKind,
        convert: impl FnOnce(Number) -> Option<N>,
        visitor: V,
        visit: impl FnOnce(V, N) -> Result<V::Value, Error>,
    ) -> Result<V::Value, Error> {
        let written = match self.shape {
            Shape::Any => asked,
            Shape::Number(written) => *written,
            _ => return self.by_shape(visitor),
        };
        let number = self.input.number(written)?;
        match convert(number) {
            Some(converted) => visit(visitor, converted),
            None => Err(Error::custom(format_args!("{number} is not {asked}"))),
        }
    }
}

fn visit_number<'de, V: Visitor<'de>>(number: Number, visitor: V) -> Result<V::Value, Error> {
    match number {
        Number::Natural(value) => match u64::try_from(value) {
            Ok(value) => visitor.visit_u64(value),
            Err(_) => visitor.visit_u128(value),
        },
        Number::Negative(value) => match i64::try_from(value) {
            Ok(value) => visitor.visit_i64(value),
            Err(_) => visitor.visit_i128(value),
        },
        Number::F32(value) => visitor.visit_f32(value),
        Number::F64(value) => visitor.visit_f64(value),
    }
}

fn visit_option<'de, V: Visitor<'de>>(
    input: &mut Input<'de>,
    shape: &Shape,
    visitor: V,
) -> Result<V::Value, Error> {
    match input.flag()? {
        false => visitor.visit_none(),
        true => input.inside(|input| visitor.visit_some(Reader { input, shape })),
    }
}

fn visit_list<'de, V: Visitor<'de>>(
    input: &mut Input<'de>,
    element: &Shape,
    visitor: V,
) -> Result<V::Value, Error> {
    let length = input.length()?;
    visit_elements(input, Shapes::Each(element), length, visitor)
}

fn visit_elements<'de, V: Visitor<'de>>(
    input: &mut Input<'de>,
    shapes: Shapes<'_>,
    count: usize,
    visitor: V,
) -> Result<V::Value, Error> {
    if let Shapes::Each(_) = shapes {
        input.check_count(count)?;
    }
    input.inside(|input| {
        let mut elements = Elements { input, shapes, count, taken: 0 };
        let value = visitor.visit_seq(&mut elements)?;
        elements.check_all_taken()?;
        Ok(value)
    })
}

fn visit_map<'de, V: Visitor<'de>>(
    input: &mut Input<'de>,
    key: &Shape,
    value: &Shape,
    visitor: V,
) -> Result<V::Value, Error> {
    let count = input.length()?;
    input.check_count(count)?;
    input.inside(|input| {
        let shapes = Shapes::Entries(key, value);
        let mut entries = Elements { input, shapes, count, taken: 0 };
        let map = visitor.visit_map(&mut entries)?;
        entries.check_all_taken()?;
        Ok(map)
    })
}

macro_rules! numbers {
    ($($method:ident: $kind:ident by $convert:ident to $visit:ident);* $(;)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.number(NumberKind::$kind, Number::$convert, visitor, |visitor, number| {
                visitor.$visit(number)
            })
        }
    )*};
}

/// Methods that read one thing where the shape is not known.
macro_rules! of_caller {
    ($($method:ident($($argument:ident: $type:ty),*): $input:ident, $visitor:ident => $read:expr);*
    $(;)?) => {$(
        fn $method<V: Visitor<'de>>(
            self,
            $($argument: $type,)*
            $visitor: V,
        ) -> Result<V::Value, Error> {
            match (self.shape, self.input) {
                (Shape::Any, $input) => $read,
                (shape, input) => Reader { input, shape }.by_shape($visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_, 'de> {
    type Error = Error;

    fn is_human_readable(&self) -> bool {
        false
    }

    numbers! {
        deserialize_i8: I8 by to_integer to visit_i8;
        deserialize_i16: I16 by to_integer to visit_i16;
        deserialize_i32: I32 by to_integer to visit_i32;
        deserialize_i64: I64 by to_integer to visit_i64;
        deserialize_i128: I128 by to_integer to visit_i128;
        deserialize_u8: U8 by to_integer to visit_u8;
        deserialize_u16: U16 by to_integer to visit_u16;
        deserialize_u32: U32 by to_integer to visit_u32;
        deserialize_u64: U64 by to_integer to visit_u64;
        deserialize_u128: U128 by to_integer to visit_u128;
        deserialize_f32: F32 by to_f32 to visit_f32;
        deserialize_f64: F64 by to_f64 to visit_f64;
    }

    of_caller! {
        deserialize_bool(): input, visitor => visitor.visit_bool(input.flag()?);
        deserialize_char(): input, visitor => visitor.visit_char(input.character()?);
        deserialize_option(): input, visitor => visit_option(input, &ANY, visitor);
        deserialize_unit(): _input, visitor => visitor.visit_unit();
        deserialize_unit_struct(_name: &'static str): _input, visitor => visitor.visit_unit();
        deserialize_map(): input, visitor => visit_map(input, &ANY, &ANY, visitor);
        deserialize_struct(_name: &'static str, fields: &'static [&'static str]): input, visitor =>
            visit_elements(input, Shapes::OfCaller, fields.len(), visitor);
        deserialize_enum(_name: &'static str, _variants: &'static [&'static str]): input, visitor =>
            visitor.visit_enum(Variant(input));
    }

    // Text and bytes are written alike, and some types take either for the other.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.shape {
            Shape::Any => visitor.visit_borrowed_str(self.input.text()?),
            Shape::Bytes => Err(Error::invalid_type(Unexpected::Other("bytes"), &visitor)),
            _ => self.by_shape(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.shape {
            Shape::Any => visitor.visit_borrowed_bytes(self.input.bytes()?),
            Shape::Text => Err(Error::invalid_type(Unexpected::Other("text"), &visitor)),
            _ => self.by_shape(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.shape {
            Shape::Any => visit_list(self.input, &ANY, visitor),
            Shape::Bytes => visit_list(self.input, &BYTE, visitor),
            _ => self.by_shape(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.shape {
            Shape::Any => visit_elements(self.input, Shapes::OfCaller, length, visitor),
            Shape::Array(element, None) => {
                visit_elements(self.input, Shapes::Each(element), length, visitor)
            }
            _ => self.deserialize_seq(visitor),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.by_shape(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.by_shape(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.by_shape(visitor)
    }
}

/// What elements are made of.
#[derive(Clone, Copy)]
enum Shapes<'a> {
    /// As many as the guest says.
    Each(&'a Shape),
    /// Keys and values, as many as the guest says.
    Entries(&'a Shape, &'a Shape),
    /// Of a tuple.
    Parts(&'a [Shape]),
    /// As many as the caller's type has, of its types.
    OfCaller,
}

/// The elements of a list, an array or a tuple, or the entries of a map.
struct Elements<'a, 'de> {
    input: &'a mut Input<'de>,
    shapes: Shapes<'a>,
    count: usize,
    taken: usize,
}

impl Elements<'_, '_> {
    /// A type that wants fewer leaves some, which are then no part of what comes next.
    fn check_all_taken(&self) -> Result<(), Error> {
        if self.taken == self.count {
            return Ok(());
        }
        let Self { count, taken, .. } = self;
        Err(Error::custom(format_args!("there are {count} elements, where {taken} are expected")))
    }

    /// What may be reserved: never more than there are bytes.
    fn size_hint(&self) -> usize {
        (self.count - self.taken).min(self.input.bytes_left())
    }
}

impl<'de> SeqAccess<'de> for &mut Elements<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if self.taken == self.count {
            return Ok(None);
        }
        let index = self.taken;
        self.taken += 1;
        let read = |shape| move |input: &mut Input<'de>| seed.deserialize(Reader { input, shape });
        match self.shapes {
            Shapes::Each(shape) | Shapes::Entries(shape, _) => {
                self.input.counted(shape, read(shape))
            }
            Shapes::Parts(parts) => self.input.counted(&parts[index], read(&parts[index])),
            Shapes::OfCaller => read(&ANY)(self.input),
        }
        .map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(Elements::size_hint(self))
    }
}

impl<'de> MapAccess<'de> for &mut Elements<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let shape = match self.shapes {
            Shapes::Entries(_, shape) => shape,
            _ => &ANY,
        };
        self.input.counted(shape, |input| seed.deserialize(Reader { input, shape }))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(Elements::size_hint(self))
    }
}

/// A variant of an enum, which is always one of the caller's type.
struct Variant<'a, 'de>(&'a mut Input<'de>);

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let index = u32::from_le_bytes(self.0.array()?);
        let index: de::value::U32Deserializer<Error> = index.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        self.0.inside(|input| seed.deserialize(Reader { input, shape: &ANY }))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        visit_elements(self.0, Shapes::OfCaller, length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.tuple_variant(fields.len(), visitor)
    }
}

//! How arguments become bytes and results become values.
//!
//! The only place of this crate that names bincode, whose form with fixed-width integers is the
//! guest ABI's; what a value must be like is [`Shape`]'s affair. Results come from untrusted code:
//! they are decoded within limits, by the caller's thread, and a failure concerns that task alone.

use std::borrow::Cow;
use std::cell::Cell;

use serde::Serialize;
use serde::de::value::SeqDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, IgnoredAny, Visitor};
use serde_json::Value;
use stockade_wire::Codec;

use crate::call::shape::{self, Guided, Mistake, Refused, Shape};
use crate::outcome::error::Undecodable;

/// Why arguments have no encoded form.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// A value is not of its shape.
    Refused(Refused),
    /// It cannot be written at all.
    Unwritable(String),
}

/// Arguments as one bincode tuple of the shape `shape`.
pub(crate) fn to_bincode<A: Serialize + ?Sized>(
    arguments: &A,
    shape: &Shape,
) -> Result<Vec<u8>, Unfit> {
    let mistake = Mistake::default();
    let guided = Guided { value: arguments, shape, mistake: &mistake };
    bincode::serde::encode_to_vec(&guided, bincode::config::legacy()).map_err(|error| match mistake
        .take()
    {
        Some(refused) => Unfit::Refused(refused),
        None => Unfit::Unwritable(error.to_string()),
    })
}

/// A result in the codec of its call; `shape` is that of one in bincode.
pub(crate) fn decode<'b, T: DeserializeOwned>(
    codec: Codec,
    bytes: impl Into<Cow<'b, [u8]>>,
    shape: &Shape,
) -> Result<T, Undecodable> {
    let bytes = bytes.into();
    let decoded = match codec {
        Codec::Raw => {
            let is_malformed = Cell::new(false);
            let raw = Raw { bytes, is_malformed: &is_malformed };
            T::deserialize(raw).map_err(|error| (error.to_string(), !is_malformed.get()))
        }
        Codec::Json => serde_json::from_slice(&bytes).map_err(|error| {
            // What follows the mistake may be malformed, too. It is ignored, and so not looked at for
            // UTF-8, which JSON is.
            let text = std::str::from_utf8(&bytes).ok().filter(|_| error.is_data());
            let is_json = text.is_some_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
            (error.to_string(), is_json)
        }),
        Codec::Bincode => shape::decode(&bytes, shape).map_err(|error| {
            // Of a type of the guest's own nobody here can tell, and its word is not taken for it.
            let is_of_shape = shape::decode::<IgnoredAny>(&bytes, shape).is_ok();
            (error.to_string(), is_of_shape)
        }),
    };
    decoded.map_err(|(reason, is_well_formed)| match is_well_formed {
        true => Undecodable::of_another_type(reason),
        false => Undecodable::from(reason),
    })
}

/// Raw bytes as whatever the caller's type asks for: bytes, a byte vector, text, or else JSON, which
/// is what a guest writes for a result that is not byte-like.
struct Raw<'a> {
    bytes: Cow<'a, [u8]>,
    /// Whether it was asked for what the bytes are not in any type: text, or JSON.
    is_malformed: &'a Cell<bool>,
}

impl Raw<'_> {
    fn json(&self) -> Result<Value, serde_json::Error> {
        let value = serde_json::from_slice(&self.bytes);
        self.is_malformed.set(value.is_err());
        value
    }
}

macro_rules! as_json {
    ($($method:ident($($argument:ident: $type:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(
            self,
            $($argument: $type,)*
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            self.json()?.$method($($argument,)* visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Raw<'_> {
    type Error = serde_json::Error;

    fn is_human_readable(&self) -> bool {
        // So that a type of bytes takes the bytes and not their text.
        false
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_bytes(&self.bytes)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.bytes {
            Cow::Borrowed(bytes) => visitor.visit_bytes(bytes),
            Cow::Owned(bytes) => visitor.visit_byte_buf(bytes),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_seq(SeqDeserializer::new(self.bytes.iter().copied()))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        let text = std::str::from_utf8(&self.bytes);
        self.is_malformed.set(text.is_err());
        visitor.visit_str(text.map_err(de::Error::custom)?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    as_json! {
        deserialize_any() deserialize_bool() deserialize_char() deserialize_option()
        deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_i128()
        deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
        deserialize_f32() deserialize_f64() deserialize_unit() deserialize_map()
        deserialize_identifier() deserialize_ignored_any()
        deserialize_unit_struct(name: &'static str)
        deserialize_tuple(len: usize)
        deserialize_tuple_struct(name: &'static str, len: usize)
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::error::Fault;

    fn any<T: DeserializeOwned>(codec: Codec, bytes: &[u8]) -> Result<T, Undecodable> {
        decode(codec, bytes, &Shape::Any)
    }

    fn fault<T: DeserializeOwned>(codec: Codec, bytes: &[u8], shape: &Shape) -> Fault {
        decode::<T>(codec, bytes, shape).err().expect("it is no such value").fault()
    }

    #[test]
    fn a_malformed_result_is_the_guests_fault_and_one_of_another_type_the_callers() {
        use Codec::{Bincode, Json, Raw};
        use Fault::{Caller, Guest};
        let any = &Shape::Any;
        for (bytes, whose) in [(&b"\"text\""[..], Caller), (b"nope", Guest), (b"\"\xff\"", Guest)] {
            assert_eq!(fault::<u64>(Json, bytes, any), whose, "{bytes:?}");
            assert_eq!(fault::<u64>(Raw, bytes, any), whose, "{bytes:?}");
        }
        assert_eq!(fault::<u64>(Json, "[".repeat(10_000).as_bytes(), any), Guest);
        assert_eq!(fault::<String>(Raw, b"\xff", any), Guest);
        assert_eq!(fault::<String>(Json, b"\"\\ud800\"", any), Guest);
        let number = &Shape::of_result("u32");
        let seven = &7_u32.to_le_bytes()[..];
        assert_eq!(fault::<String>(Bincode, seven, number), Caller);
        assert_eq!(fault::<u8>(Bincode, &300_u32.to_le_bytes(), number), Caller);
        for malformed in [&seven[..3], &[seven, &[0]].concat()] {
            assert_eq!(fault::<u32>(Bincode, malformed, number), Guest);
            assert_eq!(fault::<String>(Bincode, malformed, number), Guest);
        }
        assert_eq!(fault::<bool>(Bincode, &[2], &Shape::of_result("bool")), Guest);
        // What a type of the guest's own is made of, nobody here knows.
        assert_eq!(fault::<u32>(Bincode, &seven[..3], any), Guest);
    }

    #[test]
    fn raw_results_become_bytes_text_or_json_as_the_type_asks() {
        assert_eq!(any::<Vec<u8>>(Codec::Raw, b"\x00\xff").unwrap(), [0, 255]);
        assert_eq!(any::<String>(Codec::Raw, b"42").unwrap(), "42");
        assert_eq!(any::<u64>(Codec::Raw, b"42").unwrap(), 42);
        assert_eq!(any::<Option<(u8, String)>>(Codec::Raw, b"[1,\"x\"]").unwrap().unwrap().0, 1);
        assert!(any::<String>(Codec::Raw, b"\xff").is_err());
        assert_eq!(any::<crate::Bytes>(Codec::Raw, b"\xff").unwrap().0, [255]);
        assert_eq!(any::<crate::Bytes>(Codec::Json, b"\"/w==\"").unwrap().0, [255]);
    }

    #[test]
    fn a_result_with_bytes_to_spare_or_bytes_missing_is_refused() {
        let bytes = to_bincode(&(7u32, "seven"), &Shape::Any).unwrap();
        assert_eq!(any::<(u32, String)>(Codec::Bincode, &bytes).unwrap().1, "seven");
        let long = [&bytes[..], &[0]].concat();
        assert!(any::<(u32, String)>(Codec::Bincode, &long).is_err());
        assert!(any::<(u32, String)>(Codec::Bincode, &bytes[..3]).is_err());
    }

    #[test]
    fn integers_keep_their_width_so_that_none_is_taken_for_another() {
        assert_eq!(to_bincode(&(1i32,), &Shape::Any).unwrap(), [1, 0, 0, 0]);
        for value in [&1i32.to_le_bytes()[..], &1i128.to_le_bytes()] {
            assert!(any::<u64>(Codec::Bincode, value).is_err());
        }
    }
}

//! A value of whatever a guest wrote: the widest type that a caller can ask for.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Takes everything that describes itself, and writes it as it was.
#[derive(Clone, Debug)]
pub enum Anything {
    Bool(bool),
    Natural(u128),
    Negative(i128),
    F32(f32),
    F64(f64),
    Char(char),
    Text(String),
    Bytes(Vec<u8>),
    Unit,
    Option(Option<Box<Anything>>),
    List(Vec<Anything>),
    Map(Vec<(Anything, Anything)>),
}

impl Serialize for Anything {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Natural(value) => serializer.serialize_u128(*value),
            Self::Negative(value) => serializer.serialize_i128(*value),
            Self::F32(value) => serializer.serialize_f32(*value),
            Self::F64(value) => serializer.serialize_f64(*value),
            Self::Char(value) => serializer.serialize_char(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Bytes(value) => serializer.serialize_bytes(value),
            Self::Unit => serializer.serialize_unit(),
            Self::Option(None) => serializer.serialize_none(),
            Self::Option(Some(held)) => serializer.serialize_some(held),
            Self::List(elements) => serializer.collect_seq(elements),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                entries.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnythingVisitor)
    }
}

struct AnythingVisitor;

macro_rules! take {
    ($($method:ident($value:ident: $type:ty) => $made:expr),* $(,)?) => {$(
        fn $method<E: de::Error>(self, $value: $type) -> Result<Anything, E> {
            Ok($made)
        }
    )*};
}

impl<'de> Visitor<'de> for AnythingVisitor {
    type Value = Anything;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    take! {
        visit_bool(value: bool) => Anything::Bool(value),
        visit_i64(value: i64) => Anything::of_signed(value.into()),
        visit_i128(value: i128) => Anything::of_signed(value),
        visit_u64(value: u64) => Anything::Natural(value.into()),
        visit_u128(value: u128) => Anything::Natural(value),
        visit_f32(value: f32) => Anything::F32(value),
        visit_f64(value: f64) => Anything::F64(value),
        visit_char(value: char) => Anything::Char(value),
        visit_str(value: &str) => Anything::Text(value.into()),
        visit_bytes(value: &[u8]) => Anything::Bytes(value.into()),
    }

    fn visit_unit<E: de::Error>(self) -> Result<Anything, E> {
        Ok(Anything::Unit)
    }

    fn visit_none<E: de::Error>(self) -> Result<Anything, E> {
        Ok(Anything::Option(None))
    }

    fn visit_some<D: Deserializer<'de>>(self, held: D) -> Result<Anything, D::Error> {
        Ok(Anything::Option(Some(Box::new(Anything::deserialize(held)?))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Anything, A::Error> {
        let mut found = Vec::new();
        while let Some(element) = elements.next_element()? {
            found.push(element);
        }
        Ok(Anything::List(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Anything, A::Error> {
        let mut found = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            found.push(entry);
        }
        Ok(Anything::Map(found))
    }
}

impl Anything {
    fn of_signed(value: i128) -> Self {
        u128::try_from(value).map_or(Self::Negative(value), Self::Natural)
    }
}

//! Values of random shapes, there and back; and random bytes, which may be refused and no more.
//!
//! A failure prints its seed.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeTuple, Serializer};

use crate::call::codec::to_bincode;
use crate::call::number::NumberKind;
use crate::call::shape::{Shape, decode};

/// SplitMix64, by Vigna.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// A value of any shape but [`Shape::Any`]; numbers are small enough for every kind.
#[derive(Clone, Debug, PartialEq)]
enum Sample {
    Whole(u8),
    Float(f32),
    Bool(bool),
    Text(String),
    Char(char),
    Bytes(Vec<u8>),
    Unit,
    Option(Option<Box<Sample>>),
    Elements(Vec<Sample>),
    Map(Vec<(Sample, Sample)>),
}

impl Serialize for Sample {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            // Of a kind that is seldom the shape's.
            Self::Whole(value) => match value % 4 {
                0 => serializer.serialize_i16(i16::from(*value)),
                1 => serializer.serialize_u128(u128::from(*value)),
                2 => serializer.serialize_i128(i128::from(*value)),
                _ => serializer.serialize_u32(u32::from(*value)),
            },
            Self::Float(value) => serializer.serialize_f64(f64::from(*value)),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Char(value) => serializer.serialize_char(*value),
            Self::Bytes(value) => match value.len() % 2 {
                0 => serializer.serialize_bytes(value),
                _ => serializer.collect_seq(value),
            },
            Self::Unit => serializer.serialize_unit(),
            Self::Option(None) => serializer.serialize_none(),
            Self::Option(Some(held)) => serializer.serialize_some(held),
            Self::Elements(elements) if elements.len() % 2 == 0 => serializer.collect_seq(elements),
            Self::Elements(elements) => {
                let mut tuple = serializer.serialize_tuple(elements.len())?;
                elements.iter().try_for_each(|element| tuple.serialize_element(element))?;
                tuple.end()
            }
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                entries.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Sample {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SampleVisitor)
    }
}

struct SampleVisitor;

impl<'de> Visitor<'de> for SampleVisitor {
    type Value = Sample;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Sample, E> {
        u8::try_from(value).map(Sample::Whole).map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Sample, E> {
        Ok(Sample::Float(value as f32))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Sample, E> {
        Ok(Sample::Bool(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Sample, E> {
        Ok(Sample::Text(value.into()))
    }

    fn visit_char<E: de::Error>(self, value: char) -> Result<Sample, E> {
        Ok(Sample::Char(value))
    }

    fn visit_bytes<E: de::Error>(self, value: &[u8]) -> Result<Sample, E> {
        Ok(Sample::Bytes(value.into()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Sample, E> {
        Ok(Sample::Unit)
    }

    fn visit_none<E: de::Error>(self) -> Result<Sample, E> {
        Ok(Sample::Option(None))
    }

    fn visit_some<D: Deserializer<'de>>(self, held: D) -> Result<Sample, D::Error> {
        Ok(Sample::Option(Some(Box::new(Sample::deserialize(held)?))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Sample, A::Error> {
        let mut found = Vec::new();
        while let Some(element) = elements.next_element()? {
            found.push(element);
        }
        Ok(Sample::Elements(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Sample, A::Error> {
        let mut found = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            found.push(entry);
        }
        Ok(Sample::Map(found))
    }
}

const NUMBERS: [&str; 14] = [
    "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128", "usize", "f32",
    "f64",
];

/// A type's text and a value of it.
fn sample(random: &mut Random, depth: usize) -> (String, Sample) {
    let kinds = if depth == 0 { 7 } else { 13 };
    match random.below(kinds) {
        0 | 1 => {
            let name = NUMBERS[random.below(NUMBERS.len())];
            let value = random.below(128) as u8;
            let float = matches!(name, "f32" | "f64");
            let sample = if float { Sample::Float(value.into()) } else { Sample::Whole(value) };
            (name.into(), sample)
        }
        2 => ("bool".into(), Sample::Bool(random.below(2) == 0)),
        3 => ("&'static str".into(), Sample::Text("ä".repeat(random.below(4)))),
        4 => ("char".into(), Sample::Char(['a', 'ä', '€', '\u{1f980}'][random.below(4)])),
        5 => ("Vec<u8>".into(), Sample::Bytes(vec![random.next() as u8; random.below(5)])),
        6 => ("()".into(), Sample::Unit),
        7 => {
            let (text, held) = sample(random, depth - 1);
            let some = (random.below(3) > 0).then(|| Box::new(held));
            (format!("Option<{text}>"), Sample::Option(some))
        }
        8 | 9 => {
            let (text, element) = sample(random, depth - 1);
            let elements = vec![element; random.below(4)];
            let (text, bytes) = match random.below(2) {
                0 => (format!("Vec<{text}>"), text == "u8"),
                _ => (format!("[{text}; {}]", elements.len()), false),
            };
            (text, if bytes { as_bytes(&elements) } else { Sample::Elements(elements) })
        }
        10 | 11 => {
            let parts: Vec<_> =
                (0..1 + random.below(3)).map(|_| sample(random, depth - 1)).collect();
            let text: String = parts.iter().map(|(text, _)| format!("{text}, ")).collect();
            (format!("({text})"), Sample::Elements(parts.into_iter().map(|part| part.1).collect()))
        }
        _ => {
            let (key_text, key) = sample(random, depth - 1);
            let (value_text, value) = sample(random, depth - 1);
            let entries = vec![(key, value); random.below(3)];
            (format!("std::collections::HashMap<{key_text}, {value_text}>"), Sample::Map(entries))
        }
    }
}

fn as_bytes(elements: &[Sample]) -> Sample {
    let byte = |element: &Sample| match element {
        Sample::Whole(value) => *value,
        other => panic!("{other:?} is no byte"),
    };
    Sample::Bytes(elements.iter().map(byte).collect())
}

#[test]
fn values_come_back_as_they_went() {
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let (text, value) = sample(&mut random, 4);
        let shape = Shape::of_parameter(&text);
        assert_ne!(shape, Shape::Any, "seed {seed}: {text}");
        let bytes = to_bincode(&value, &shape)
            .unwrap_or_else(|unfit| panic!("seed {seed}: {text}: {value:?}: {unfit:?}"));
        let read: Sample = decode(&bytes, &shape)
            .unwrap_or_else(|error| panic!("seed {seed}: {text}: {value:?}: {error}"));
        assert_eq!(read, value, "seed {seed}: {text}");
    }
}

#[test]
fn random_bytes_are_read_or_refused_and_never_panic() {
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let (text, value) = sample(&mut random, 4);
        let shape = Shape::of_parameter(&text);
        let mut bytes = to_bincode(&value, &shape).unwrap();
        for _ in 0..1 + random.below(3) {
            match random.below(3) {
                0 => bytes.truncate(random.below(bytes.len() + 1)),
                1 => bytes.push(random.next() as u8),
                _ if bytes.is_empty() => {}
                _ => {
                    let place = random.below(bytes.len());
                    bytes[place] = random.next() as u8;
                }
            }
        }
        let _ = decode::<Sample>(&bytes, &shape);
        let _ = decode::<de::IgnoredAny>(&bytes, &shape);
        let _ = decode::<Vec<(String, Option<u64>)>>(&bytes, &shape);
    }
}

#[test]
fn every_number_has_a_name() {
    for name in NUMBERS {
        let kind = NumberKind::from_name(name).unwrap();
        assert!(kind.to_string().ends_with(name));
    }
}

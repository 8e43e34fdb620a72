//! Results, items and errors of guests, as the host decodes them for a caller's type.
//!
//! Input: what is read, the type that the manifest names (a guest's text too), then the bytes. What
//! describes itself must encode to the very bytes it was decoded from, nothing is nested deeper than
//! the reader allows, and memory stays near what arrived.

#![no_main]

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};
use stockade::fuzzing;
use stockade::{Bytes, Codec, Frame, GuestError, Scalar, TrapKind};
use stockade_fuzz::allocations::within;
use stockade_fuzz::values::Anything;
use stockade_wire::Failure;

/// As many values without bytes of their own as a result may have besides two for each byte.
const BARE_VALUES_MAX: usize = 1 << 16;

/// What each value may take in memory, with bytes of its own or not: a `Vec` of entries grows to
/// twice what it holds, and both copies are there while it is moved.
const EXPANSION_MAX: usize = 4 * size_of::<(Anything, Anything)>();

const BASE_BYTES: usize = 64 << 10;

/// How deep the readers of both forms let values stand in one another.
const DEPTH_MAX: usize = 128;

#[derive(Arbitrary, Debug)]
enum Reading<'a> {
    Task { codec: Format, ty: TypeText<'a>, wanted: Wanted },
    Scalars { results: Vec<Number>, wanted: Wanted },
    Failure(Ending<'a>),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Format {
    Raw,
    Bincode,
    Json,
}

/// What a manifest says the result is.
#[derive(Arbitrary, Debug)]
enum TypeText<'a> {
    Anything(&'a str),
    Made(Box<Made>),
}

/// Types that the host understands, in one another.
#[derive(Arbitrary, Debug)]
enum Made {
    Named(u8),
    Option(Box<Made>),
    List(Box<Made>),
    Array(Box<Made>, u8),
    Tuple(Vec<Made>),
    Map(Box<Made>, Box<Made>),
    Result(Box<Made>),
}

const NAMES: [&str; 20] = [
    "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128", "usize", "f32",
    "f64", "bool", "char", "String", "()", "Vec<u8>", "Own",
];

/// What the caller asks for.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Wanted {
    Anything,
    Ignored,
    Json,
    Text,
    Bytes,
    Number(u8),
    Rows,
    Record,
    Choice,
    Chain,
    Units,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Number {
    I32(i32),
    I64(i64),
    F32(u32),
    F64(u64),
}

#[derive(Arbitrary, Debug)]
struct Ending<'a> {
    kind: u8,
    message: &'a str,
    location: Option<&'a str>,
    data: Option<&'a str>,
    number: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    name: String,
    scores: Vec<f64>,
    choice: Option<Choice>,
    rest: (u8, char, bool),
}

#[derive(Debug, Serialize, Deserialize)]
enum Choice {
    Nothing,
    One(i64),
    Two(u8, String),
    Named { left: u128, right: Option<Box<Choice>> },
}

/// A type that may hold itself as deep as the guest likes.
#[derive(Debug, Serialize, Deserialize)]
struct Chain {
    next: Option<Box<Chain>>,
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Unstructured::new(bytes);
    let Ok(reading) = Reading::arbitrary(&mut input) else { return };
    let rest = input.take_rest();
    match reading {
        Reading::Task { codec, ty, wanted } => {
            let text = ty.text();
            read(wanted, rest.len(), &Source::Task(codec.codec(), rest, &text));
            if let Format::Bincode = codec {
                come_back(rest, &text);
            }
        }
        Reading::Scalars { results, wanted } => {
            let results: Vec<_> = results.iter().copied().map(Number::scalar).collect();
            read(wanted, results.len() * size_of::<Scalar>(), &Source::Scalars(&results));
        }
        Reading::Failure(ending) => tell(&ending),
    }
});

enum Source<'a> {
    Task(Codec, &'a [u8], &'a str),
    Scalars(&'a [Scalar]),
}

fn read(wanted: Wanted, bytes: usize, source: &Source<'_>) {
    fn decode<T: serde::de::DeserializeOwned>(bytes: usize, source: &Source<'_>) -> Option<T> {
        let bytes_max = BASE_BYTES + EXPANSION_MAX * (3 * bytes + BARE_VALUES_MAX);
        within(bytes_max, || match source {
            Source::Task(codec, bytes, text) => fuzzing::result(*codec, bytes, text),
            Source::Scalars(results) => fuzzing::scalars(results),
        })
        .ok()
    }
    match wanted {
        Wanted::Anything => {
            decode::<Anything>(bytes, source);
        }
        Wanted::Ignored => {
            decode::<serde::de::IgnoredAny>(bytes, source);
        }
        Wanted::Json => {
            decode::<serde_json::Value>(bytes, source);
        }
        Wanted::Text => {
            decode::<String>(bytes, source);
        }
        Wanted::Bytes => {
            decode::<Bytes>(bytes, source);
        }
        Wanted::Number(kind) => match kind % 8 {
            0 => drop(decode::<i8>(bytes, source)),
            1 => drop(decode::<u32>(bytes, source)),
            2 => drop(decode::<i64>(bytes, source)),
            3 => drop(decode::<u128>(bytes, source)),
            4 => drop(decode::<f32>(bytes, source)),
            5 => drop(decode::<f64>(bytes, source)),
            6 => drop(decode::<(i32, f32, u64)>(bytes, source)),
            _ => drop(decode::<[u16; 3]>(bytes, source)),
        },
        Wanted::Rows => {
            decode::<Vec<BTreeMap<String, Option<(i32, f32)>>>>(bytes, source);
        }
        Wanted::Record => {
            decode::<Record>(bytes, source);
        }
        Wanted::Choice => {
            decode::<Choice>(bytes, source);
        }
        Wanted::Chain => {
            let chain = decode::<Chain>(bytes, source);
            let links = std::iter::successors(chain.as_ref(), |chain| chain.next.as_deref());
            assert!(links.count() <= DEPTH_MAX);
        }
        Wanted::Units => {
            let units = decode::<Vec<()>>(bytes, source);
            assert!(units.is_none_or(|units| units.len() <= BARE_VALUES_MAX + 2 * bytes));
        }
    }
}

/// What is decoded, encoded as an argument of the same type, is what was written.
fn come_back(bytes: &[u8], text: &str) {
    let Ok(value) = fuzzing::result::<Anything>(Codec::Bincode, bytes, text) else { return };
    assert_eq!(fuzzing::argument(&value, text).as_deref(), Ok(bytes), "{value:?} as {text:?}");
}

/// Whatever a worker says went wrong can be shown.
fn tell(ending: &Ending<'_>) {
    let error = GuestError {
        message: ending.message.into(),
        location: ending.location.map(Into::into),
        data: ending.data.map(Into::into),
    };
    let function = ending.message.to_owned();
    let backtrace = vec![Frame { function, index: 0, offset: Some(0) }];
    let failure = match ending.kind % 10 {
        0 => Failure::Error(Box::new(error)),
        1 => Failure::Panic(Box::new(error), backtrace),
        2 => Failure::BadArguments(Box::new(error)),
        3 => Failure::Trap { kind: TrapKind::Other, message: ending.message.into(), backtrace },
        4 => Failure::Deadline { backtrace },
        5 => Failure::Fuel { limit: ending.number },
        6 => Failure::Memory { limit: ending.number, wanted: !ending.number },
        7 => Failure::Output { limit: ending.number },
        8 => Failure::Exited(ending.number as i32),
        _ => Failure::Guest(ending.message.into()),
    };
    let error = fuzzing::error(failure);
    let shown = format!("{error} {error:?} {:?} {:?}", error.fault(), error.backtrace());
    assert!(!shown.is_empty());
}

impl Format {
    fn codec(self) -> Codec {
        match self {
            Self::Raw => Codec::Raw,
            Self::Bincode => Codec::Bincode,
            Self::Json => Codec::Json,
        }
    }
}

impl Number {
    fn scalar(self) -> Scalar {
        match self {
            Self::I32(value) => Scalar::I32(value),
            Self::I64(value) => Scalar::I64(value),
            Self::F32(bits) => Scalar::F32(bits),
            Self::F64(bits) => Scalar::F64(bits),
        }
    }
}

impl TypeText<'_> {
    fn text(&self) -> String {
        match self {
            Self::Anything(text) => (*text).into(),
            Self::Made(made) => made.text(),
        }
    }
}

impl Made {
    fn text(&self) -> String {
        match self {
            Self::Named(name) => NAMES[usize::from(*name) % NAMES.len()].into(),
            Self::Option(held) => format!("Option<{}>", held.text()),
            Self::List(element) => format!("Vec<{}>", element.text()),
            Self::Array(element, length) => format!("[{}; {length}]", element.text()),
            Self::Tuple(parts) => {
                let parts: String = parts.iter().map(|part| part.text() + ", ").collect();
                format!("({parts})")
            }
            Self::Map(key, value) => format!("HashMap<{}, {}>", key.text(), value.text()),
            Self::Result(held) => format!("Result<{}, Own>", held.text()),
        }
    }
}

//! Arguments written as JSON: `{"args": […], "kwargs": {…}}`, by position or by name.
//!
//! Each argument stays text until its type is known, so a long one is read once.

use crate::cells;
use crate::failure::Failure;
use serde::Deserialize;
use serde::de::value::Error as MissingError;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// One argument of a call, not yet decoded.
pub(crate) enum JsonArgument<'input> {
    Given(&'input RawValue),
    /// One that comes from a table.
    Cell(&'input RawValue),
    Missing,
}

/// Every member may be left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call<'input> {
    #[serde(borrow, default)]
    args: Vec<&'input RawValue>,
    #[serde(borrow, default)]
    kwargs: Members<'input>,
    /// Whether the arguments are cells of a table.
    #[serde(default)]
    cells: bool,
}

/// The members of an object in their order, each as often as it stands there.
#[derive(Default)]
pub(crate) struct Members<'input>(pub(crate) Vec<(Cow<'input, str>, &'input RawValue)>);

impl<'de: 'input, 'input> Deserialize<'de> for Members<'input> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor<'input>(PhantomData<&'input ()>);

        impl<'de: 'input, 'input> Visitor<'de> for MembersVisitor<'input> {
            type Value = Members<'input>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'input>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor(PhantomData))
    }
}

/// Sorts the arguments in `input` by the parameters that they are for.
pub(crate) fn arguments<'input>(
    names: &[&str],
    input: &'input [u8],
) -> Result<Vec<JsonArgument<'input>>, Failure> {
    let Call { args, kwargs, cells } = serde_json::from_slice(input).map_err(|error| {
        Failure::bad_arguments(format_args!(
            "the input is not `{{\"args\": […], \"kwargs\": {{…}}}}`: {error}"
        ))
    })?;
    if args.len() > names.len() {
        return Err(Failure::bad_arguments(format_args!(
            "too many arguments: expected {}, got {}",
            names.len(),
            args.len()
        )));
    }
    let given = if cells { JsonArgument::Cell } else { JsonArgument::Given };
    let mut sorted: Vec<_> = args.into_iter().map(given).collect();
    let by_position = sorted.len();
    sorted.resize_with(names.len(), || JsonArgument::Missing);
    for (name, value) in kwargs.0 {
        match names.iter().position(|known| *known == name) {
            Some(index) if index < by_position => {
                return Err(Failure::bad_arguments(format_args!(
                    "argument `{name}` is given both by position and by name"
                )));
            }
            Some(index) if !matches!(sorted[index], JsonArgument::Missing) => {
                return Err(Failure::bad_arguments(format_args!(
                    "argument `{name}` is given twice"
                )));
            }
            Some(index) => sorted[index] = given(value),
            None => {
                return Err(Failure::bad_arguments(format_args!(
                    "unknown argument `{name}`: expected {}",
                    match names {
                        [] => "none".to_owned(),
                        names => format!("`{}`", names.join("`, `")),
                    }
                )));
            }
        }
    }
    Ok(sorted)
}

impl JsonArgument<'_> {
    /// Decodes the argument. One that is missing is a `None`, for a type that has it.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T, String> {
        match self {
            Self::Given(value) => {
                serde_json::from_str(value.get()).map_err(|error| error.to_string())
            }
            Self::Cell(value) => cells::decode(value),
            Self::Missing => T::deserialize(Missing).map_err(|error| error.to_string()),
        }
    }
}

/// `1 argument`, `2 arguments`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// Reads as `None` for an `Option`, and as a mistake for anything else.
struct Missing;

impl<'de> Deserializer<'de> for Missing {
    type Error = MissingError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, MissingError> {
        Err(MissingError::custom("missing"))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, MissingError> {
        visitor.visit_none()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

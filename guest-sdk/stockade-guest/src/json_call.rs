//! Arguments written as JSON: `{"args": […], "kwargs": {…}}`, by position or by name.
//!
//! Each argument stays text until its type is known, so a long one is read once.

use crate::failure::Failure;
use serde::Deserialize;
use serde::de::value::Error as MissingError;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// One argument of a call, not yet decoded.
pub(crate) enum JsonArgument<'input> {
    Given(&'input RawValue),
    Missing,
}

/// Both members may be left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call<'input> {
    #[serde(borrow, default)]
    args: Vec<&'input RawValue>,
    #[serde(borrow, default)]
    kwargs: BTreeMap<Cow<'input, str>, &'input RawValue>,
}

/// Sorts the arguments in `input` by the parameters that they are for.
pub(crate) fn arguments<'input>(
    names: &[&str],
    input: &'input [u8],
) -> Result<Vec<JsonArgument<'input>>, Failure> {
    let Call { args, kwargs } = serde_json::from_slice(input).map_err(|error| {
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
    let mut sorted: Vec<_> = args.into_iter().map(JsonArgument::Given).collect();
    let by_position = sorted.len();
    sorted.resize_with(names.len(), || JsonArgument::Missing);
    for (name, value) in kwargs {
        match names.iter().position(|known| *known == name) {
            Some(index) if index < by_position => {
                return Err(Failure::bad_arguments(format_args!(
                    "argument `{name}` is given both by position and by name"
                )));
            }
            Some(index) => sorted[index] = JsonArgument::Given(value),
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

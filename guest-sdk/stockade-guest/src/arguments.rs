//! Takes a task's arguments out of its input, one after another.
//!
//! Owns the three ways in which an input is written, and every message about one that is not what
//! the task takes. The host may not have checked anything, so all errors are handled: too few, too
//! many, unknown, given twice and wrongly typed arguments each have their own message. Deliberately
//! absent: the choice of a type's form, which `forms` makes.

use crate::codec;
use crate::failure::Failure;
use crate::input::RawInput;
use crate::json_call::{self, JsonArgument};
use serde::de::DeserializeOwned;
use std::fmt::Display;
use stockade_abi::Codec;

/// The arguments of one call, in the order of the parameters.
pub struct Arguments<'input> {
    names: &'static [&'static str],
    /// Index of the parameter that is taken next.
    next: usize,
    source: Source<'input>,
}

enum Source<'input> {
    /// The only argument, until it is taken.
    Raw(Option<RawInput>),
    /// What is left of the tuple.
    Bincode(&'input [u8]),
    /// One a parameter, in their order.
    Json(Vec<JsonArgument<'input>>),
}

impl<'input> Arguments<'input> {
    /// Prepares `input` for a task whose parameters have these `names`. It is empty where the bytes
    /// are themselves an argument, which is read when its type is known.
    pub(crate) fn new(
        names: &'static [&'static str],
        codec: Codec,
        input: &'input [u8],
    ) -> Result<Self, Failure> {
        let source = match codec {
            Codec::Raw => Source::Raw(Some(RawInput::new())),
            Codec::Bincode => Source::Bincode(input),
            Codec::Json => Source::Json(json_call::arguments(names, input)?),
        };
        Ok(Self { names, next: 0, source })
    }

    /// Takes the next argument as any type that serde can read.
    pub(crate) fn take<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let taken = match &mut self.source {
            Source::Raw(_) => return Err(self.not_raw()),
            Source::Bincode(rest) if rest.is_empty() && size_of::<T>() > 0 => {
                return Err(Failure::bad_arguments(format_args!(
                    "missing argument `{}`: expected {}, and the input ends after {}",
                    self.names[self.next],
                    json_call::count(self.names.len(), "argument"),
                    self.next,
                )));
            }
            Source::Bincode(rest) => codec::decode(rest)
                .map(|(value, used)| {
                    *rest = &rest[used..];
                    value
                })
                .map_err(|error| error.to_string()),
            Source::Json(arguments) => arguments[self.next].decode(),
        };
        taken.map_err(|error| self.mistake(error)).inspect(|_| self.next += 1)
    }

    /// Takes the next argument as a type that bytes can be: `from_raw` makes it from bytes as they
    /// are, `from_encoded` from its form in the other codecs.
    pub(crate) fn take_bytes<T, Encoded: DeserializeOwned, E: Display>(
        &mut self,
        from_raw: impl FnOnce(RawInput) -> Result<T, E>,
        from_encoded: impl FnOnce(Encoded) -> T,
    ) -> Result<T, Failure> {
        match &mut self.source {
            Source::Raw(input) if self.names.len() == 1 => {
                let Some(input) = input.take() else { return Err(self.not_raw()) };
                from_raw(input).map_err(|error| self.mistake(error)).inspect(|_| self.next += 1)
            }
            Source::Raw(_) => Err(self.not_raw()),
            _ => self.take().map(from_encoded),
        }
    }

    /// Checks that nothing is left.
    pub fn finish(&self) -> Result<(), Failure> {
        match &self.source {
            Source::Raw(Some(rest)) if !rest.is_empty() => Err(self.not_raw()),
            Source::Bincode(rest) if !rest.is_empty() => Err(Failure::bad_arguments(format_args!(
                "too many arguments: {} left after {}",
                json_call::count(rest.len(), "byte"),
                json_call::count(self.names.len(), "argument"),
            ))),
            _ => Ok(()),
        }
    }

    /// What is wrong with the argument that is being taken.
    fn mistake(&self, error: impl Display) -> Failure {
        let name = self.names[self.next];
        Failure::bad_arguments(format_args!("argument {} `{name}`: {error}", self.next + 1))
    }

    fn not_raw(&self) -> Failure {
        Failure::bad_arguments(format_args!(
            "raw bytes are an input only for a task with one parameter of a byte or text type; \
             this one takes {}: pass JSON or bincode",
            match self.names {
                [] => "none".to_owned(),
                names => format!("`{}`", names.join("`, `")),
            }
        ))
    }
}

//! Shapes: the structure of values of a type that a manifest names.
//!
//! The binary form of a value does not say what it is: eight bytes that the caller wrote as an
//! `f64` are a `u64` to a guest that reads one. So values follow the type's text in the manifest:
//!
//! ```text
//! "Vec<(String, u64)>" ──parse──► Shape::List(Tuple([Text, Number(U64)]))
//!     caller's value  ──encode──► arguments, as the guest reads them
//!     caller's type   ◄──decode── result, as the guest wrote it
//! ```
//!
//! Numbers become those of another kind where that changes nothing, and lists, arrays and tuples
//! become one another; anything else must be of its kind, or is refused by name. A type of the
//! guest's own is [`Shape::Any`]: its values pass unchanged, and the caller's type must be the same.
//!
//! The text comes from the guest. A false one harms only the guest's own calls; it never makes the
//! host fail, block or allocate.

mod decode;
mod encode;
mod mistake;
mod parse;

use std::fmt;

pub(crate) use decode::decode;
pub(crate) use encode::Guided;
pub(crate) use mistake::{Mistake, Refused};

use crate::call::number::NumberKind;

/// The structure of a value, if the manifest tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Not known: a type of the guest's own, or a text that is not understood.
    Any,
    /// A number.
    Number(NumberKind),
    /// A `bool`.
    Bool,
    /// A `char`.
    Char,
    /// A `String` or anything else that is text.
    Text,
    /// A `Vec<u8>` or anything else that is a list of bytes.
    Bytes,
    /// `()`.
    Unit,
    /// An `Option`.
    Option(Box<Shape>),
    /// A list or a set.
    List(Box<Shape>),
    /// An array, and its length where that is written as a number.
    Array(Box<Shape>, Option<usize>),
    /// A tuple of one part or more.
    Tuple(Vec<Shape>),
    /// A map: its keys and its values.
    Map(Box<Shape>, Box<Shape>),
}

/// The shape of values of unknown types.
static ANY: Shape = Shape::Any;

/// The shape of the elements of bytes.
static BYTE: Shape = Shape::Number(NumberKind::U8);

impl Shape {
    /// Of a parameter whose type the source writes as `text`.
    pub(crate) fn of_parameter(text: &str) -> Self {
        parse::shape(text, false)
    }

    /// Of a result whose type the source writes as `text`: of a `Result`, what is in its `Ok`.
    pub(crate) fn of_result(text: &str) -> Self {
        parse::shape(text, true)
    }

    /// Of several values one after another.
    pub(crate) fn tuple(parts: Vec<Self>) -> Self {
        if parts.is_empty() { Self::Unit } else { Self::Tuple(parts) }
    }

    /// Whether nothing is written for a value but what is in it.
    fn is_bare(&self) -> bool {
        matches!(self, Self::Unit | Self::Array(..) | Self::Tuple(_))
    }

    /// Of a list, which is bytes where its elements are.
    fn list(element: Self) -> Self {
        if element == BYTE { Self::Bytes } else { Self::List(Box::new(element)) }
    }
}

impl fmt::Display for Shape {
    /// As the object of a sentence: `a usize`, `text`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("a value"),
            Self::Number(kind) => kind.fmt(f),
            Self::Bool => f.write_str("a bool"),
            Self::Char => f.write_str("a char"),
            Self::Text => f.write_str("text"),
            Self::Bytes => f.write_str("bytes"),
            Self::Unit => f.write_str("()"),
            Self::Option(_) => f.write_str("an Option"),
            Self::List(_) => f.write_str("a list"),
            Self::Array(_, None) => f.write_str("an array"),
            Self::Array(_, Some(length)) => write!(f, "an array of {length}"),
            Self::Tuple(parts) => write!(f, "a tuple of {}", parts.len()),
            Self::Map(..) => f.write_str("a map"),
        }
    }
}

#[cfg(test)]
mod tests;

//! How a task fails: what it returned is taken apart if it is a `Result`, and an error is told with
//! its serialised form where it has one.

use super::{Of, TaskError};
use crate::failure::{Failure, data_of};
use serde::Serialize;
use std::convert::Infallible;

/// A returned value that is a `Result`.
pub struct Fallible;

/// A returned value that is anything else.
pub struct Plain;

impl Fallible {
    /// The value as it is.
    pub fn into_result<T, E>(self, returned: Result<T, E>) -> Result<T, E> {
        returned
    }
}

impl Plain {
    /// The value as a success.
    pub fn into_result<T>(self, returned: T) -> Result<T, Infallible> {
        Ok(returned)
    }
}

/// Picks `Fallible`.
pub trait FallibleForm {
    /// The form of a returned value.
    fn return_form(&self) -> Fallible;
}

impl<T, E> FallibleForm for Of<Result<T, E>> {
    fn return_form(&self) -> Fallible {
        Fallible
    }
}

/// Picks `Plain`.
pub trait PlainForm {
    /// The form of a returned value.
    fn return_form(&self) -> Plain;
}

impl<T> PlainForm for &Of<T> {
    fn return_form(&self) -> Plain {
        Plain
    }
}

/// An error that has a serialised form.
pub struct WithData;

/// An error that has only its text.
pub struct TextOnly;

impl WithData {
    /// The failure to report for `error`.
    pub fn failure<E: TaskError + Serialize>(self, error: &E) -> Failure {
        Failure::returned(text_of(error), data_of(error))
    }
}

impl TextOnly {
    /// The failure to report for `error`.
    pub fn failure<E: TaskError>(self, error: &E) -> Failure {
        Failure::returned(text_of(error), None)
    }
}

/// The text of `error`: the alternate form, in which `anyhow` and its like also tell the causes.
fn text_of<E: TaskError>(error: &E) -> String {
    format!("{error:#}")
}

/// Picks `WithData`.
pub trait DataErrorForm {
    /// The form of an error.
    fn error_form(&self) -> WithData;
}

impl<E: Serialize> DataErrorForm for Of<E> {
    fn error_form(&self) -> WithData {
        WithData
    }
}

/// Picks `TextOnly`.
pub trait AnyErrorForm {
    /// The form of an error.
    fn error_form(&self) -> TextOnly;
}

impl<E> AnyErrorForm for &Of<E> {
    fn error_form(&self) -> TextOnly {
        TextOnly
    }
}

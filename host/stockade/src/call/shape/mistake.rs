//! A caller's value that does not fit, and its place.
//!
//! Kept in addition to serde's own error, which belongs to the serializer and holds no more than a text.

use std::cell::RefCell;
use std::fmt;

use serde::ser::Error;

/// Where a mistake is noted.
#[derive(Debug, Default)]
pub(crate) struct Mistake(RefCell<Option<Refused>>);

/// What does not fit, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// From the innermost value outwards.
    path: Vec<Step>,
    problem: String,
}

/// From a value to one inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Element(usize),
    Part(usize),
    Key(usize),
    Value(usize),
}

impl Mistake {
    pub(crate) fn take(&self) -> Option<Refused> {
        self.0.take()
    }

    pub(super) fn note<E: Error>(&self, problem: String) -> E {
        *self.0.borrow_mut() = Some(Refused { path: Vec::new(), problem });
        E::custom("the value does not fit")
    }

    /// Adds to the note, if there is one, that it concerns what is behind `step`.
    pub(super) fn at<E>(&self, step: Step) -> impl FnOnce(E) -> E {
        move |error| {
            if let Some(refused) = self.0.borrow_mut().as_mut() {
                refused.path.push(step);
            }
            error
        }
    }
}

impl Refused {
    /// As a sentence about the arguments of a call, which are the parts of the outermost value and
    /// have these names.
    pub(crate) fn of_arguments<'n>(&self, mut names: impl Iterator<Item = &'n str>) -> String {
        let (path, argument) = match self.path.split_last() {
            Some((Step::Part(index), path)) => (path, *index),
            _ => (&self.path[..], 0),
        };
        let name = names.nth(argument).unwrap_or("?");
        let path: String = path.iter().rev().map(Step::to_string).collect();
        format!("argument {} `{name}{path}` {}", argument + 1, self.problem)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Element(index) => write!(f, "[{index}]"),
            Self::Part(index) => write!(f, ".{index}"),
            Self::Key(index) => write!(f, ".keys[{index}]"),
            Self::Value(index) => write!(f, ".values[{index}]"),
        }
    }
}

//! Items: what the input is cut into, one for each task.

use std::fmt::{self, Write};
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::{escape, json};

/// One item of the input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    /// Its index among all items, from 1. Blank lines have one too.
    pub(crate) ordinal: u64,
    /// Its name in the output.
    pub(crate) name: Name,
    /// Its content, or the reason why it cannot be read.
    pub(crate) content: Result<Content, String>,
    /// Its size in the unit of [`Input::size`](super::input::Input::size).
    pub(crate) weight: u64,
}

/// What an item holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    /// A line, without its end.
    Text(String),
    /// The cells of a row.
    Row(Vec<Cell>),
    /// A whole file.
    Bytes(Vec<u8>),
}

/// A cell of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// Its content, without quotes.
    pub(crate) text: String,
    /// Whether it was quoted.
    pub(crate) quoted: bool,
}

impl Cell {
    /// Whether it was empty, without quotes.
    pub(crate) fn is_nothing(&self) -> bool {
        self.text.is_empty() && !self.quoted
    }
}

impl Content {
    /// Bytes of memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Row(cells) => cells.iter().map(|cell| cell.text.len()).sum(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

/// An item's name in the output.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Name {
    /// The input's line in which it begins, from 1.
    Line(u64),
    /// The file that it is.
    File(Arc<Path>),
}

impl Name {
    /// Writes the first field of its record.
    pub(crate) fn push_field(&self, out: &mut String) {
        // Writing to a `String` never fails.
        let _ = match self {
            Self::Line(number) => write!(out, "\"line\":{number}"),
            Self::File(path) => {
                write!(out, "\"file\":{}", json::text(&json!(path.to_string_lossy())))
            }
        };
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::File(path) => f.write_str(&escape::line(&path.to_string_lossy())),
        }
    }
}

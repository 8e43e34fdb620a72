//! Why a picture has no thumbnail: what a caller would tell apart.

use image::ImageError;
use std::fmt;
use stockade_guest::serde::{Deserialize, Serialize};

/// Why a picture has no thumbnail.
///
/// Callers get its text, and its form as JSON: `{"kind": "too_large"}`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "stockade_guest::serde", tag = "kind", rename_all = "snake_case")]
pub(crate) enum ThumbnailError {
    /// Neither PNG nor JPEG.
    UnknownFormat,
    /// A picture whose sides or whose decoder's memory would be past the limits.
    TooLarge,
    /// A picture that breaks off, or breaks its format's rules.
    Damaged {
        /// The decoder's words.
        reason: String,
    },
    /// A longest side of 0 was asked for.
    NoSide,
}

impl fmt::Display for ThumbnailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFormat => f.write_str("the picture is neither PNG nor JPEG"),
            Self::TooLarge => f.write_str("the picture is too large to be decoded"),
            Self::Damaged { reason } => write!(f, "the picture is damaged: {reason}"),
            Self::NoSide => f.write_str("a thumbnail has sides of at least one pixel"),
        }
    }
}

impl From<ImageError> for ThumbnailError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Limits(_) => Self::TooLarge,
            error => Self::Damaged { reason: error.to_string() },
        }
    }
}

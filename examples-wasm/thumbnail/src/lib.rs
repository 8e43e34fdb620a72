//! Makes thumbnails of pictures that nobody vouches for.
//!
//! Its one idea: a decoder of hostile input is what a sandbox is for. A picture can be a small file
//! that claims to be enormous, or find a mistake in a decoder of several ten thousand lines. The
//! first is refused here, by `PIXEL_SIDE_MAX` and `DECODER_BYTES_MAX`, with an error that tells
//! the caller why; whatever gets past that meets the pool's own limits, and the worst it can reach
//! is an instance that is thrown away after the task.
//!
//! ```text
//! stockade run thumbnail.wasm preview --bytes data/rocket.jpg > rocket.png
//! stockade run thumbnail.wasm describe --bytes data/cat.png
//! ```
#![forbid(unsafe_code)]

mod error;

use error::ThumbnailError;
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;
use stockade_guest::serde::{Deserialize, Serialize};
use stockade_guest::{Bytes, task};

/// The longest side of a picture that is decoded, in pixels.
const PIXEL_SIDE_MAX: u32 = 16_384;

/// The most memory that a decoder may ask for: room for 24 megapixels with 8 bits a channel.
const DECODER_BYTES_MAX: u64 = 96 << 20;

/// The longest side of a [`preview`], in pixels.
const PREVIEW_SIDE: u32 = 128;

/// What the first bytes of a picture tell of it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "stockade_guest::serde")]
struct Info {
    /// `png` or `jpeg`.
    format: String,
    width: u32,
    height: u32,
}

/// Scales a PNG or JPEG picture down until no side is longer than `max_side`; returns a PNG.
///
/// A picture that is small enough keeps its size. A photograph that a camera marked as turned is
/// turned upright.
#[task]
fn thumbnail(image: Bytes, max_side: u32) -> Result<Bytes, ThumbnailError> {
    if max_side == 0 {
        return Err(ThumbnailError::NoSide);
    }
    let picture = decode(&image)?;
    let picture = if picture.width().max(picture.height()) > max_side {
        picture.resize(max_side, max_side, FilterType::Triangle)
    } else {
        picture
    };
    let mut encoded = Cursor::new(Vec::new());
    picture.write_to(&mut encoded, ImageFormat::Png)?;
    Ok(Bytes(encoded.into_inner()))
}

/// A thumbnail of at most 128 pixels a side: one argument, so that it takes and returns raw bytes.
#[task]
fn preview(image: Bytes) -> Result<Bytes, ThumbnailError> {
    thumbnail(image, PREVIEW_SIDE)
}

/// Tells a picture's format and size without decoding the picture.
#[task]
fn describe(image: Bytes) -> Result<Info, ThumbnailError> {
    let (format, decoder) = open(&image)?;
    let (width, height) = decoder.dimensions();
    let format = match format {
        ImageFormat::Png => "png",
        _ => "jpeg",
    };
    Ok(Info { format: format.to_owned(), width, height })
}

fn decode(bytes: &[u8]) -> Result<DynamicImage, ThumbnailError> {
    let (_, mut decoder) = open(bytes)?;
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// Reads the header, and refuses what is too large before anything is set aside for it.
fn open(bytes: &[u8]) -> Result<(ImageFormat, impl ImageDecoder), ThumbnailError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(PIXEL_SIDE_MAX);
    limits.max_image_height = Some(PIXEL_SIDE_MAX);
    limits.max_alloc = Some(DECODER_BYTES_MAX);

    let format = image::guess_format(bytes)
        .ok()
        .filter(|format| matches!(format, ImageFormat::Png | ImageFormat::Jpeg))
        .ok_or(ThumbnailError::UnknownFormat)?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    limits.reserve(decoder.total_bytes())?;
    decoder.set_limits(limits)?;
    Ok((format, decoder))
}

#[cfg(test)]
mod tests;

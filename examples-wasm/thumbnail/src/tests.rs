//! Real pictures, and ones that mean harm.

use super::*;
use stockade_guest::testing::{Call, Status, export_of};

const CAT_PNG: &[u8] = include_bytes!("../data/cat.png");
const ROCKET_JPEG: &[u8] = include_bytes!("../data/rocket.jpg");

fn info(format: &str, width: u32, height: u32) -> Info {
    Info { format: format.to_owned(), width, height }
}

/// A PNG header that claims to be of this size, and nothing after it.
fn png_header(width: u32, height: u32) -> Bytes {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 6, 0, 0, 0]);
    let checksum = chunk.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    });
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    png.extend(chunk);
    png.extend((!checksum).to_be_bytes());
    // The start of the pixels, which a decoder looks for before it believes the header.
    png.extend(b"\0\0\0\x02IDAT\x78\x9c");
    Bytes(png)
}

#[test]
fn pictures_are_described() {
    assert_eq!(describe(CAT_PNG.into()), Ok(info("png", 451, 300)));
    assert_eq!(describe(ROCKET_JPEG.into()), Ok(info("jpeg", 640, 427)));
}

#[test]
fn thumbnails_keep_the_shape_and_become_png() {
    for (picture, width, height) in [(CAT_PNG, 100, 67), (ROCKET_JPEG, 100, 67)] {
        let small = thumbnail(picture.into(), 100).expect("a thumbnail");
        assert_eq!(describe(small), Ok(info("png", width, height)));
    }
}

#[test]
fn small_picture_keeps_its_size() {
    let same = thumbnail(CAT_PNG.into(), 451).expect("a thumbnail");
    assert_eq!(describe(same), Ok(info("png", 451, 300)));
}

#[test]
fn preview_takes_and_gives_raw_bytes() {
    let outcome = Call::raw(ROCKET_JPEG).run(export_of!(preview));

    assert_eq!(outcome.status, Status::Success);
    assert_eq!(describe(Bytes(outcome.output)), Ok(info("png", 128, 85)));
}

#[test]
fn enormous_claims_are_refused() {
    assert_eq!(thumbnail(png_header(60_000, 60_000), 100), Err(ThumbnailError::TooLarge));
    assert_eq!(thumbnail(png_header(16_384, 16_384), 100), Err(ThumbnailError::TooLarge));
    assert_eq!(describe(png_header(64, 64)), Ok(info("png", 64, 64)));
}

#[test]
fn damaged_and_foreign_files_are_told_apart() {
    let half = &ROCKET_JPEG[..100];
    assert!(matches!(thumbnail(half.into(), 100), Err(ThumbnailError::Damaged { .. })));
    assert_eq!(describe(Bytes::from(*b"GIF89a")), Err(ThumbnailError::UnknownFormat));
    assert_eq!(describe(Bytes::default()), Err(ThumbnailError::UnknownFormat));
    assert_eq!(thumbnail(CAT_PNG.into(), 0), Err(ThumbnailError::NoSide));
}

#[test]
fn error_has_a_form_that_callers_can_match() {
    let outcome = Call::raw("not a picture").run(export_of!(preview));

    let error = outcome.error.expect("an error");
    assert_eq!(error.message, "the picture is neither PNG nor JPEG");
    assert_eq!(error.data.as_deref(), Some(r#"{"kind":"unknown_format"}"#));
}

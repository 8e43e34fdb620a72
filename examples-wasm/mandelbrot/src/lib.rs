//! Computes tiles of the Mandelbrot set.
//!
//! Its one idea: work that divides is given away piece by piece. Tiles differ by a thousandfold in
//! what they cost, so a picture cut into many is spread evenly by a pool that hands the next one to
//! whichever worker is free. Each tells its progress by the row.
//!
//! ```text
//! stockade run mandelbrot.wasm tile '{"center_x": -0.5, "center_y": 0, "plane_width": 3,
//!     "image_width": 600, "image_height": 400, "iterations_max": 500}' 0 0 600 400 -o tile.json
//! ```
#![forbid(unsafe_code)]

use std::fmt;
use stockade_guest::serde::{Deserialize, Serialize};
use stockade_guest::{Bytes, progress, task};

/// The most pixels of one tile.
const TILE_PIXELS_MAX: u64 = 16 << 20;

/// Points beyond this distance never come back; a larger one than 2 makes colours smoother.
const ESCAPE_RADIUS: f64 = 256.0;

/// The part of the plane that the whole picture shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(crate = "stockade_guest::serde")]
struct View {
    /// The number in the middle of the picture: its real part.
    center_x: f64,
    /// And its imaginary part, which grows upwards.
    center_y: f64,
    /// How much of the plane the picture is wide.
    plane_width: f64,
    /// The whole picture's width in pixels.
    image_width: u32,
    /// The whole picture's height in pixels.
    image_height: u32,
    /// A number that has not escaped by then is taken for one of the set.
    iterations_max: u32,
}

/// Why there is no such tile.
#[derive(Debug, PartialEq, Serialize)]
#[serde(crate = "stockade_guest::serde", tag = "kind", rename_all = "snake_case")]
enum TileError {
    /// It does not lie within the picture.
    Outside,
    /// It has more than [`TILE_PIXELS_MAX`] pixels.
    TooLarge { pixels_max: u64 },
}

impl fmt::Display for TileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside => f.write_str("the tile does not lie within the picture"),
            Self::TooLarge { pixels_max } => {
                write!(f, "the tile has more than {pixels_max} pixels")
            }
        }
    }
}

/// The pixels of the tile whose upper left corner is at `x`, `y` of the picture.
///
/// Three bytes a pixel, red, green and blue, in rows from the top.
#[task]
fn tile(view: View, x: u32, y: u32, width: u32, height: u32) -> Result<Bytes, TileError> {
    let within = |start: u32, length: u32, end: u32| {
        start.checked_add(length).is_some_and(|tile_end| tile_end <= end)
    };
    if !within(x, width, view.image_width) || !within(y, height, view.image_height) {
        return Err(TileError::Outside);
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels > TILE_PIXELS_MAX {
        return Err(TileError::TooLarge { pixels_max: TILE_PIXELS_MAX });
    }
    let mut rgb = Vec::with_capacity(pixels as usize * 3);
    for row in 0..height {
        for column in 0..width {
            let (re, im) = view.point(x + column, y + row);
            rgb.extend(color(escape(re, im, view.iterations_max)));
        }
        progress(u64::from(row) + 1, u64::from(height));
    }
    Ok(Bytes(rgb))
}

impl View {
    /// The number under the middle of a pixel.
    fn point(&self, x: u32, y: u32) -> (f64, f64) {
        let pixel = self.plane_width / f64::from(self.image_width);
        let from_center =
            |at: u32, size: u32| (f64::from(at) + 0.5 - f64::from(size) / 2.0) * pixel;
        (
            self.center_x + from_center(x, self.image_width),
            self.center_y - from_center(y, self.image_height),
        )
    }
}

/// After how many steps of z² + c the number escapes, with a fraction; `None` for one of the set.
fn escape(re: f64, im: f64, iterations_max: u32) -> Option<f64> {
    if in_largest_parts(re, im) {
        return None;
    }
    let (mut x, mut y) = (0.0, 0.0);
    for iteration in 0..iterations_max {
        let (xx, yy) = (x * x, y * y);
        if xx + yy > ESCAPE_RADIUS * ESCAPE_RADIUS {
            // The usual "normalised iteration count": no bands between whole numbers.
            let beyond = (xx + yy).ln() / (2.0 * ESCAPE_RADIUS.ln());
            return Some(f64::from(iteration) - beyond.log2());
        }
        y = 2.0 * x * y + im;
        x = xx - yy + re;
    }
    None
}

/// Whether the number lies in the main cardioid or the disc left of it, where every step is wasted.
fn in_largest_parts(re: f64, im: f64) -> bool {
    let from_cusp = re - 0.25;
    let q = from_cusp * from_cusp + im * im;
    q * (q + from_cusp) <= 0.25 * im * im || (re + 1.0) * (re + 1.0) + im * im <= 0.0625
}

/// Black for the set; around it, waves of blue, white and amber that grow longer further in.
fn color(escaped: Option<f64>) -> [u8; 3] {
    let Some(steps) = escaped else {
        return [0; 3];
    };
    let phase = (steps.max(0.0) + 1.0).ln() * 2.2;
    [3.4, 2.7, 1.9].map(|shift| (127.5 * (1.0 - (phase + shift).cos())) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stockade_guest::testing::{Call, export_of};

    fn whole(image_width: u32, image_height: u32) -> View {
        View {
            center_x: -0.5,
            center_y: 0.0,
            plane_width: 3.0,
            image_width,
            image_height,
            iterations_max: 200,
        }
    }

    #[test]
    fn known_points_are_inside_and_outside() {
        for (re, im) in [(0.0, 0.0), (-1.0, 0.0), (-0.1, 0.75), (-2.0, 0.0), (0.0, 1.0)] {
            assert_eq!(escape(re, im, 500), None, "{re} {im}");
        }
        for (re, im) in [(0.26, 0.0), (-2.01, 0.0), (1.0, 1.0)] {
            assert!(escape(re, im, 500).is_some(), "{re} {im}");
        }
    }

    #[test]
    fn tiles_make_up_the_picture() {
        let all = tile(whole(6, 4), 0, 0, 6, 4).expect("a tile");
        let left = tile(whole(6, 4), 0, 0, 2, 4).expect("a tile");
        let right = tile(whole(6, 4), 2, 0, 4, 4).expect("a tile");

        let joined: Vec<u8> = left
            .chunks(2 * 3)
            .zip(right.chunks(4 * 3))
            .flat_map(|(left, right)| [left, right].concat())
            .collect();
        assert_eq!(*all, joined);
    }

    #[test]
    fn the_set_is_symmetric() {
        let view = whole(30, 20);
        let all = tile(view, 0, 0, 30, 20).expect("a tile");
        let rows: Vec<_> = all.chunks(30 * 3).collect();
        assert!((0..10).all(|row| rows[row] == rows[19 - row]));
    }

    #[test]
    fn tile_outside_the_picture_is_refused() {
        assert_eq!(tile(whole(6, 4), 5, 0, 2, 4), Err(TileError::Outside));
        assert_eq!(tile(whole(6, 4), u32::MAX, 0, 2, 4), Err(TileError::Outside));
        assert_eq!(tile(whole(6, 4), 6, 4, 0, 0), Ok(Bytes::default()));
        let enormous = tile(whole(1 << 16, 1 << 16), 0, 0, 1 << 16, 1 << 16);
        assert!(matches!(enormous, Err(TileError::TooLarge { .. })));
    }

    #[test]
    fn progress_is_told_by_the_row() {
        let outcome =
            Call::bincode(&(whole(6, 3), 0_u32, 0_u32, 6_u32, 3_u32)).run(export_of!(tile));
        assert_eq!(outcome.progress, [(1, 3), (2, 3), (3, 3)]);
        assert_eq!(outcome.result_bincode::<Bytes>().len(), 6 * 3 * 3);
    }
}

//! Assembles a picture of the Mandelbrot set from tiles that sandboxed tasks compute.
//!
//! Usage: `mandelbrot [MODULE [PICTURE]]`, by default the guest that `just guests` builds, and
//! `mandelbrot.png`. Shows a progress bar where a person watches.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use image::RgbImage;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use stockade::Pool;

/// The part of the plane to show; the guest's parameter of the same form.
#[derive(Clone, Copy, Serialize)]
struct View {
    center_x: f64,
    center_y: f64,
    plane_width: f64,
    image_width: u32,
    image_height: u32,
    iterations_max: u32,
}

const VIEW: View = View {
    center_x: -0.743_65,
    center_y: 0.131_82,
    plane_width: 0.012,
    image_width: 1200,
    image_height: 800,
    iterations_max: 2000,
};

const TILE_SIDE: u32 = 100;

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let module = args.next().unwrap_or_else(|| "target/wasm32-wasip1/guest/mandelbrot.wasm".into());
    let picture = args.next().unwrap_or_else(|| "mandelbrot.png".into());

    let pool = Pool::builder().module(&module).build()?;
    let corners: Vec<(u32, u32)> = (0..VIEW.image_height)
        .step_by(TILE_SIDE as usize)
        .flat_map(|y| (0..VIEW.image_width).step_by(TILE_SIDE as usize).map(move |x| (x, y)))
        .collect();
    let bar = ProgressBar::new(corners.len() as u64).with_style(ProgressStyle::with_template(
        "{bar:40} {pos}/{len} tiles, {per_sec}, {eta} left",
    )?);

    let started = Instant::now();
    let mut image = RgbImage::new(VIEW.image_width, VIEW.image_height);
    let tiles = corners.iter().map(|(x, y)| (VIEW, *x, *y, TILE_SIDE, TILE_SIDE));
    let mut tiles = pool.starmap::<stockade::Bytes, _, _>("tile", tiles).unordered();
    let mut cpu_time = std::time::Duration::ZERO;
    while let Some((index, tile)) = tiles.next_task() {
        let tile = tile?;
        let (x, y) = corners[index];
        let pixels = tile.result().with_context(|| format!("the tile at {x}, {y}"))?;
        let pixels = RgbImage::from_raw(TILE_SIDE, TILE_SIDE, pixels.0)
            .with_context(|| format!("the tile at {x}, {y} has the wrong size"))?;
        image::imageops::replace(&mut image, &pixels, i64::from(x), i64::from(y));
        cpu_time += tile.report().cpu_time;
        bar.inc(1);
    }
    bar.finish_and_clear();
    image.save(&picture).with_context(|| format!("cannot write {}", picture.display()))?;
    writeln!(
        std::io::stdout(),
        "{} tiles in {:.2?}, {:.2?} of processor time in {} workers -> {}",
        corners.len(),
        started.elapsed(),
        cpu_time,
        pool.max_workers(),
        picture.display()
    )?;
    Ok(())
}

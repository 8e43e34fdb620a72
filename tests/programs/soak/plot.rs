//! The plot: tasks in flight, workers and memory over time, one above the other.

use std::fmt::Write;

use crate::sample::Sample;

const WIDTH: f64 = 760.0;
const PANEL_HEIGHT: f64 = 120.0;
const PANEL_GAP: f64 = 44.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 28.0;

/// Points of one line: more would not be seen.
const POINTS_MAX: usize = 600;

/// One quantity.
struct Panel {
    title: &'static str,
    colour: &'static str,
    of: fn(&Sample) -> f64,
}

const PANELS: [Panel; 3] = [
    Panel { title: "tasks in flight", colour: "#3b6ea5", of: |sample| sample.tasks as f64 },
    Panel { title: "workers", colour: "#8a5a9e", of: |sample| sample.workers as f64 },
    Panel {
        title: "memory of the host, MiB",
        colour: "#b3542d",
        of: |sample| sample.census.resident_bytes as f64 / f64::from(1 << 20),
    },
];

/// Draws the samples.
pub(crate) fn svg(samples: &[Sample]) -> String {
    let panels = PANELS.len() as f64;
    let height = TOP + panels * (PANEL_HEIGHT + PANEL_GAP);
    let minutes = samples.last().map_or(1.0, |last| (last.seconds / 60.0).max(0.1));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for (index, panel) in PANELS.iter().enumerate() {
        let top = TOP + index as f64 * (PANEL_HEIGHT + PANEL_GAP);
        draw(&mut out, panel, samples, top, minutes);
    }
    let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
    let bottom = height - 6.0;
    // Writing to a string cannot fail.
    let _ =
        writeln!(out, "<text x=\"{middle}\" y=\"{bottom}\" text-anchor=\"middle\">minutes</text>");
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, panel: &Panel, samples: &[Sample], top: f64, minutes: f64) {
    let width = WIDTH - LEFT - RIGHT;
    let bottom = top + PANEL_HEIGHT;
    let most = samples.iter().map(panel.of).fold(1.0, f64::max);
    let step = step_for(most);
    let full = (most / step).ceil() * step;
    let y = |value: f64| bottom - value / full * PANEL_HEIGHT;
    let x = |at: f64| LEFT + at / minutes * width;

    let title = top - 10.0;
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"{title}\" font-weight=\"bold\">{}</text>",
        panel.title
    );
    for mark in marks(full, step) {
        let (at, right) = (y(mark), WIDTH - RIGHT);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#dddddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555555\">{mark}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for mark in marks(minutes, step_for(minutes)) {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555555\">{mark}</text>",
            x(mark),
            bottom + 16.0
        );
    }
    let every = samples.len().div_ceil(POINTS_MAX).max(1);
    let points = samples
        .iter()
        .step_by(every)
        .map(|sample| format!("{:.1},{:.1}", x(sample.seconds / 60.0), y((panel.of)(sample))));
    let points: Vec<_> = points.collect();
    let _ = writeln!(
        out,
        "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" points=\"{}\"/>",
        panel.colour,
        points.join(" ")
    );
}

/// A round distance between marks, of which there are then three to six.
fn step_for(most: f64) -> f64 {
    let power = 10_f64.powf((most / 3.0).log10().floor());
    [5.0, 2.0, 1.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| most / step >= 2.5)
        .unwrap_or(power)
}

fn marks(full: f64, step: f64) -> impl Iterator<Item = f64> {
    let count = (full / step + 1e-9).floor() as u32;
    // Rounded, so that tenths are written as tenths.
    (0..=count).map(move |index| (f64::from(index) * step * 100.0).round() / 100.0)
}

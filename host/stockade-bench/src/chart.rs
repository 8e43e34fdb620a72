//! A chart of lines as an SVG file.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

const SIZE: (u32, u32) = (760, 380);

/// Colours that people with any kind of sight can tell apart: Okabe and Ito, 2008.
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Evenly, from zero.
    Even,
    /// By powers of two.
    Powers,
    /// Likewise, and marked in bytes.
    Bytes,
}

/// Points of one kind, in order.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Lines over one pair of axes, each named.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) x: (&'static str, Scale),
    pub(crate) y: (&'static str, Scale),
    pub(crate) lines: Vec<Line>,
}

impl Scale {
    /// Where a value is on an even axis.
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Even => value,
            Self::Powers | Self::Bytes => value.max(f64::MIN_POSITIVE).log2(),
        }
    }

    /// From the first place on the axis to the last.
    fn range(self, values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
        let places = values.map(|value| self.place(value));
        let (least, most) = places
            .fold((f64::MAX, f64::MIN), |(least, most), place| (least.min(place), most.max(place)));
        match self {
            Self::Even => 0.0..(most * 1.08).max(f64::MIN_POSITIVE),
            Self::Powers | Self::Bytes => least.floor()..most.ceil().max(least.floor() + 1.0),
        }
    }

    /// The value at a place, for people.
    fn label(self, place: f64) -> String {
        match self {
            Self::Even => short(place),
            Self::Powers => short(place.exp2()),
            Self::Bytes => bytes(place.exp2()),
        }
    }
}

/// Few digits.
fn short(value: f64) -> String {
    match value {
        _ if value >= 10.0 || value.fract() == 0.0 => format!("{value:.0}"),
        _ if value >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// A power of two in binary thousands.
fn bytes(value: f64) -> String {
    const UNITS: [&str; 4] = ["", " Ki", " Mi", " Gi"];
    let thousands = (value.log2() / 10.0).floor().clamp(0.0, 3.0);
    let unit = UNITS[thousands as usize];
    short(value / (10.0 * thousands).exp2()) + unit
}

impl Chart {
    /// Draws it into `file`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn draw(&self, file: &Path) -> Result<()> {
        let mut svg = String::new();
        self.draw_into(&mut svg)?;
        std::fs::write(file, svg)?;
        Ok(())
    }

    fn draw_into(&self, svg: &mut String) -> Result<()> {
        let ((x_name, x_scale), (y_name, y_scale)) = (self.x, self.y);
        let points = || self.lines.iter().flat_map(|line| line.points.iter().copied());
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(52)
            .build_cartesian_2d(
                x_scale.range(points().map(|point| point.0)),
                y_scale.range(points().map(|point| point.1)),
            )?;
        chart
            .configure_mesh()
            .max_light_lines(0)
            .bold_line_style(RGBColor(221, 221, 221))
            .label_style(("sans-serif", 14))
            .axis_desc_style(("sans-serif", 15))
            .x_desc(x_name)
            .y_desc(y_name)
            .x_labels(13)
            .y_labels(8)
            .x_label_formatter(&|place| x_scale.label(*place))
            .y_label_formatter(&|place| y_scale.label(*place))
            .draw()?;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let places = line.points.iter().map(|(x, y)| (x_scale.place(*x), y_scale.place(*y)));
            chart
                .draw_series(LineSeries::new(places, colour.stroke_width(2)))?
                .label(line.name.as_str())
                .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .label_font(("sans-serif", 14))
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(187, 187, 187))
            .draw()?;
        area.present()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_names_its_axes_and_every_line() {
        let line = |name: &str| Line { name: name.into(), points: vec![(1.0, 2.0), (64.0, 3.0)] };
        let chart = Chart {
            title: "a title",
            x: ("across", Scale::Powers),
            y: ("upwards", Scale::Even),
            lines: vec![line("first line"), line("second line")],
        };
        let mut svg = String::new();
        chart.draw_into(&mut svg).unwrap();
        for text in ["a title", "across", "upwards", "first line", "second line"] {
            assert!(svg.contains(text), "{text} is missing");
        }
    }

    #[test]
    fn labels_of_powers_are_the_values_themselves() {
        let labels = [-8.0, 0.0, 6.0, 11.0].map(|place| Scale::Powers.label(place));
        assert_eq!(labels, ["0.0039", "1", "64", "2048"]);
        let labels = [6.0, 16.0, 24.0].map(|place| Scale::Bytes.label(place));
        assert_eq!(labels, ["64", "64 Ki", "16 Mi"]);
    }
}

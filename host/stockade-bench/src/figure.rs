//! A figure and its reference: measured in turns, summed up, shown.

use std::io::{self, Write};

use anyhow::Result;
use serde_json::{Value, json};

/// A figure beside its reference.
#[derive(Debug)]
pub(crate) struct Figure {
    name: &'static str,
    unit: &'static str,
    reference_name: &'static str,
    value: f64,
    reference: f64,
    ratio: f64,
    difference: f64,
}

impl Figure {
    /// Measures `value` and `reference` in turns, `rounds` times each.
    pub(crate) fn measure(
        name: &'static str,
        unit: &'static str,
        reference_name: &'static str,
        rounds: usize,
        mut value: impl FnMut() -> Result<f64>,
        mut reference: impl FnMut() -> Result<f64>,
    ) -> Result<Self> {
        let (mut values, mut references) = (Vec::new(), Vec::new());
        let (mut ratios, mut differences) = (Vec::new(), Vec::new());
        for _ in 0..rounds.max(1) {
            let (value, reference) = (value()?, reference()?);
            values.push(value);
            references.push(reference);
            ratios.push(value / reference);
            differences.push(value - reference);
        }
        Ok(Self {
            name,
            unit,
            reference_name,
            value: median(&mut values),
            reference: median(&mut references),
            ratio: median(&mut ratios),
            difference: median(&mut differences),
        })
    }

    /// How much more the value is than its reference, by the median of the rounds.
    pub(crate) fn difference(&self) -> f64 {
        self.difference
    }

    /// As one line of the figures' file.
    pub(crate) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "unit": self.unit,
            "value": self.value,
            "reference_name": self.reference_name,
            "reference": self.reference,
            "ratio": self.ratio,
        })
    }
}

/// The middle of `values`, which are not empty.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints `figures` as a table.
pub(crate) fn print(out: &mut impl Write, figures: &[Figure]) -> io::Result<()> {
    let width = figures.iter().map(|figure| figure.name.len()).max().unwrap_or_default();
    writeln!(
        out,
        "{:width$} {:>12} {:>8} {:>12} {:>8}  reference",
        "figure", "value", "", "reference", "ratio"
    )?;
    for figure in figures {
        let Figure { name, unit, value, reference, ratio, reference_name, .. } = figure;
        writeln!(
            out,
            "{name:width$} {value:12.1} {unit:>8} {reference:12.1} {ratio:8.2}  {reference_name}"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_and_differences_are_taken_round_by_round() {
        let (mut value, mut reference) = ([10.0, 20.0, 400.0].iter(), [1.0, 2.0, 4.0].iter());
        let next = |values: &mut std::slice::Iter<'_, f64>| Ok(*values.next().unwrap());
        let figure =
            Figure::measure("f", "u", "r", 3, || next(&mut value), || next(&mut reference))
                .unwrap();
        assert_eq!((figure.value, figure.reference, figure.ratio), (20.0, 2.0, 10.0));
        assert_eq!(figure.difference(), 18.0);
    }
}

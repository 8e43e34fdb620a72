//! Figures: what was measured, what it is compared with, and whether that is good enough.
//!
//! Every round measures a figure and its reference close to each other, so that a machine whose speed
//! drifts moves both; what counts is the median of the rounds' ratios, not the ratio of medians.
//!
//! Deliberately absent: how anything is measured, and how it is shown.

use serde_json::{Value, json};

/// What a figure must reach: its ratio to its reference, or, where there is none, its value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    fn number(self) -> f64 {
        match self {
            Self::AtLeast(number) | Self::AtMost(number) => number,
        }
    }

    /// The better of two references: the one that is harder to reach.
    pub(crate) fn harder(self, one: f64, other: f64) -> f64 {
        match self {
            Self::AtLeast(_) => one.max(other),
            Self::AtMost(_) => one.min(other),
        }
    }

    /// As people write it.
    pub(crate) fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {least}"),
            Self::AtMost(most) => format!("≤ {most}"),
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// What it is compared with; `None` where its own value counts.
    pub(crate) reference_name: Option<&'static str>,
    pub(crate) target: Option<Bound>,
    pub(crate) stretch: Option<Bound>,
    /// Or why there is no value.
    pub(crate) measured: Result<Measured, String>,
    /// Why there is a value and no reference.
    pub(crate) unreferenced: Option<String>,
}

/// Medians over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Measured {
    pub(crate) value: f64,
    pub(crate) reference: Option<f64>,
    pub(crate) ratio: Option<f64>,
}

impl Measured {
    /// From one value a round, and the references of the same rounds.
    pub(crate) fn from_rounds(values: &[f64], references: Option<&[f64]>) -> Self {
        let ratios = references.map(|references| {
            let pairs = values.iter().zip(references);
            median(&mut pairs.map(|(value, reference)| value / reference).collect::<Vec<_>>())
        });
        Self {
            value: median(&mut values.to_vec()),
            reference: references.map(|references| median(&mut references.to_vec())),
            ratio: ratios,
        }
    }
}

impl Figure {
    /// What a bound is about.
    fn judged(&self) -> Option<f64> {
        let measured = self.measured.as_ref().ok()?;
        if self.reference_name.is_some() { measured.ratio } else { Some(measured.value) }
    }

    /// Whether the target is met; `None` where there is none, or nothing was measured.
    pub(crate) fn met(&self) -> Option<bool> {
        Some(self.target?.holds(self.judged()?))
    }

    /// Whether the target was met and more; as [`met`](Self::met).
    pub(crate) fn stretched(&self) -> Option<bool> {
        Some(self.stretch?.holds(self.judged()?))
    }

    /// Why it cannot be judged, if something was not measured.
    pub(crate) fn missing(&self) -> Option<&str> {
        self.measured.as_ref().err().or(self.unreferenced.as_ref()).map(String::as_str)
    }

    /// As one line of the figures' file.
    pub(crate) fn json(&self) -> Value {
        let measured = self.measured.as_ref().ok();
        json!({
            "name": self.name,
            "value": measured.map(|measured| measured.value),
            "unit": self.unit,
            "reference_name": self.reference_name,
            "reference": measured.and_then(|measured| measured.reference),
            "ratio": measured.and_then(|measured| measured.ratio),
            "target": self.target.map(Bound::number),
            "target_text": self.target.map(Bound::text),
            "met": self.met(),
            "stretch": self.stretch.map(Bound::number),
            "stretch_met": self.stretched(),
            "not_measured": self.missing(),
        })
    }
}

/// The middle of `values`, which are not empty.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(target: Bound, measured: Result<Measured, String>) -> Figure {
        Figure {
            name: "f",
            unit: "u",
            reference_name: Some("r"),
            target: Some(target),
            stretch: None,
            measured,
            unreferenced: None,
        }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let measured = Measured::from_rounds(&[10.0, 20.0, 400.0], Some(&[1.0, 2.0, 4.0]));
        assert_eq!(measured, Measured { value: 20.0, reference: Some(2.0), ratio: Some(10.0) });
    }

    #[test]
    fn a_target_is_for_the_ratio_and_without_a_reference_for_the_value() {
        let with = Measured { value: 50.0, reference: Some(100.0), ratio: Some(0.5) };
        assert_eq!(figure(Bound::AtLeast(0.5), Ok(with)).met(), Some(true));
        assert_eq!(figure(Bound::AtLeast(0.51), Ok(with)).met(), Some(false));
        let alone = Measured { value: 50.0, reference: None, ratio: None };
        let without = |target| Figure { reference_name: None, ..figure(target, Ok(alone)) };
        assert_eq!(without(Bound::AtMost(50.0)).met(), Some(true));
        assert_eq!(without(Bound::AtMost(49.0)).met(), Some(false));
    }

    #[test]
    fn a_value_whose_reference_is_missing_is_not_taken_for_a_ratio() {
        let alone = Measured { value: 0.5, reference: None, ratio: None };
        let unreferenced = Some("not installed".into());
        let figure = Figure { unreferenced, ..figure(Bound::AtMost(1.0), Ok(alone)) };
        assert_eq!(figure.met(), None);
        assert_eq!(figure.missing(), Some("not installed"));
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed_and_says_why() {
        let figure = figure(Bound::AtMost(1.0), Err("no such peer".into()));
        assert_eq!(figure.met(), None);
        assert_eq!(figure.json()["not_measured"], "no such peer");
        assert_eq!(figure.json()["value"], Value::Null);
    }
}

//! The model: softmax regression over standardised features.

use std::fmt;
use stockade_guest::serde::{Deserialize, Serialize};

/// The features in the order in which rows hold them.
pub(crate) const FEATURES: [&str; 4] =
    ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"];

/// A model as `train.py` writes it, checked.
#[derive(Debug, Deserialize)]
#[serde(crate = "stockade_guest::serde", deny_unknown_fields)]
pub(crate) struct Model {
    features: Vec<String>,
    species: Vec<String>,
    means: [f64; FEATURES.len()],
    deviations: [f64; FEATURES.len()],
    /// One row a species.
    weights: Vec<[f64; FEATURES.len()]>,
    biases: Vec<f64>,
}

/// Why a model cannot be used.
#[derive(Debug, PartialEq, Serialize)]
#[serde(crate = "stockade_guest::serde", tag = "kind", rename_all = "snake_case")]
pub(crate) enum ModelError {
    /// The text is not a model.
    Malformed { reason: String },
    /// It is made for other features, or for the same in another order.
    OtherFeatures { features: Vec<String> },
    /// Its parts are not of one size.
    Inconsistent,
    /// There is a model already.
    LoadedTwice,
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { reason } => write!(f, "the text is not a model: {reason}"),
            Self::OtherFeatures { features } => {
                write!(f, "the model is for other features: {}", features.join(", "))
            }
            Self::Inconsistent => f.write_str("the model does not have one row a species"),
            Self::LoadedTwice => f.write_str("a model is loaded already"),
        }
    }
}

impl Model {
    pub(crate) fn from_json(text: &str) -> Result<Self, ModelError> {
        let model: Self = serde_json::from_str(text)
            .map_err(|error| ModelError::Malformed { reason: error.to_string() })?;
        if model.features != FEATURES {
            return Err(ModelError::OtherFeatures { features: model.features });
        }
        let species = model.species.len();
        if species == 0 || model.weights.len() != species || model.biases.len() != species {
            return Err(ModelError::Inconsistent);
        }
        Ok(model)
    }

    pub(crate) fn species(&self) -> &[String] {
        &self.species
    }

    /// The species that a row most probably belongs to, and with what probability.
    pub(crate) fn most_probable(&self, row: &[f64; FEATURES.len()]) -> (&str, f64) {
        let scores: Vec<_> = self
            .weights
            .iter()
            .zip(&self.biases)
            .map(|(weights, bias)| bias + self.weighted(weights, row))
            .collect();
        // Relative to the largest, so that no power is beyond what f64 holds.
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
        let best = scores.iter().position(|score| *score == largest).unwrap_or(0);
        (&self.species[best], 1.0 / sum)
    }

    fn weighted(&self, weights: &[f64; FEATURES.len()], row: &[f64; FEATURES.len()]) -> f64 {
        (0..FEATURES.len())
            .map(|index| weights[index] * (row[index] - self.means[index]) / self.deviations[index])
            .sum()
    }
}

//! Tells penguins apart by their measurements.
//!
//! Its one idea: what all tasks need is made once. The initializer reads the model into a static;
//! the pool runs it once, keeps the memory that it leaves, and every task starts from there without
//! parsing anything. With an instance per worker it runs at the start of each worker instead, and
//! the finalizer then has something to tell.
//!
//! ```text
//! let pool = Pool::builder().module("classify.wasm").initializer("load", (model_json,)).build()?;
//! for prediction in pool.map("classify", rows) { … }
//! ```
//!
//! `train.py` made the model in `data/`, a softmax regression. It is right for 66 of the 67 penguins
//! that it was not trained on, and for 339 of all 342.
#![forbid(unsafe_code)]

mod model;

use model::{Model, ModelError};
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use stockade_guest::serde::{Deserialize, Serialize};
use stockade_guest::{finalizer, info, initializer, task};

/// What `load` leaves to the tasks.
static MODEL: OnceLock<Model> = OnceLock::new();

/// How many rows this instance has classified; an instance of one task never sees more than its own.
static CLASSIFIED: AtomicU64 = AtomicU64::new(0);

/// One penguin.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(crate = "stockade_guest::serde")]
struct Measurement {
    bill_length_mm: f64,
    bill_depth_mm: f64,
    flipper_length_mm: f64,
    body_mass_g: f64,
}

/// What the model makes of it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "stockade_guest::serde")]
struct Prediction {
    species: String,
    /// How sure the model is, from 0 to 1.
    probability: f64,
}

/// Why a row has no prediction.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "stockade_guest::serde", tag = "kind", rename_all = "snake_case")]
enum ClassifyError {
    /// The pool was built without the initializer.
    NoModel,
    /// A measurement that no penguin has.
    NotPositive { feature: String },
}

impl fmt::Display for ClassifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoModel => f.write_str("no model was loaded: name `load` as the initializer"),
            Self::NotPositive { feature } => write!(f, "`{feature}` is not a positive number"),
        }
    }
}

/// Loads the model, given as the JSON text that `train.py` writes.
#[initializer]
fn load(model: String) -> Result<(), ModelError> {
    let model = Model::from_json(&model)?;
    info!("a model for {}", model.species().join(", "));
    MODEL.set(model).map_err(|_| ModelError::LoadedTwice)
}

/// Tells the species of a penguin.
#[task]
fn classify(row: Measurement) -> Result<Prediction, ClassifyError> {
    let model = MODEL.get().ok_or(ClassifyError::NoModel)?;
    let row = row.features()?;
    let (species, probability) = model.most_probable(&row);
    CLASSIFIED.fetch_add(1, Ordering::Relaxed);
    Ok(Prediction { species: species.to_owned(), probability })
}

/// Tells the species of several penguins; fails for all if one has no prediction.
#[task]
fn classify_all(rows: Vec<Measurement>) -> Result<Vec<Prediction>, ClassifyError> {
    rows.into_iter().map(classify).collect()
}

/// Logs what this instance has done.
#[finalizer]
fn unload() {
    info!("{} rows classified", CLASSIFIED.load(Ordering::Relaxed));
}

impl Measurement {
    /// The measurements in the order of the model.
    fn features(&self) -> Result<[f64; model::FEATURES.len()], ClassifyError> {
        let features =
            [self.bill_length_mm, self.bill_depth_mm, self.flipper_length_mm, self.body_mass_g];
        match features.iter().position(|x| !x.is_finite() || *x <= 0.0) {
            Some(index) => {
                Err(ClassifyError::NotPositive { feature: model::FEATURES[index].to_owned() })
            }
            None => Ok(features),
        }
    }
}

#[cfg(test)]
mod tests;

//! The trained model on the penguins that it was made for.
//!
//! A test binary is one process and has one model; a pool gives each of its workers its own.

use super::*;
use stockade_guest::testing::{Call, Status, export_of};

const MODEL_JSON: &str = include_str!("../data/model.json");
const PENGUINS_CSV: &str = include_str!("../data/penguins.csv");
const PENGUINS_JSONL: &str = include_str!("../data/penguins.jsonl");

fn loaded() {
    // Whichever test comes first loads it; a second time is refused and changes nothing.
    let outcome = Call::raw(MODEL_JSON).run(export_of!(load));
    assert!(
        outcome.status == Status::Success || outcome.error_message() == "a model is loaded already",
        "{outcome:?}"
    );
}

#[test]
fn model_is_right_as_often_as_its_training_said() {
    loaded();
    let species = PENGUINS_CSV
        .lines()
        .skip(1)
        .filter(|line| !line.contains(",NA,NA,NA,NA,"))
        .map(|line| line.split(',').next().expect("a species"));

    let right = species
        .zip(PENGUINS_JSONL.lines())
        .filter(|(species, row)| {
            let outcome = Call::json(&format!(r#"{{"args": [{row}]}}"#)).run(export_of!(classify));
            outcome.result_json::<Prediction>().species == *species
        })
        .count();

    assert_eq!((right, PENGUINS_JSONL.lines().count()), (339, 342));
}

#[test]
fn rows_are_classified_one_by_one_or_together() {
    loaded();
    let adelie = Measurement {
        bill_length_mm: 39.1,
        bill_depth_mm: 18.7,
        flipper_length_mm: 181.0,
        body_mass_g: 3750.0,
    };

    let one = classify(adelie.clone()).expect("a prediction");
    assert_eq!(one.species, "Adelie");
    assert!(one.probability > 0.9 && one.probability <= 1.0, "{one:?}");
    assert_eq!(classify_all(vec![adelie.clone(), adelie]).map(|all| all.len()), Ok(2));
}

#[test]
fn measurement_that_no_penguin_has_is_refused() {
    loaded();
    let row = r#"{"bill_length_mm": 39.1, "bill_depth_mm": -1, "flipper_length_mm": 181, "body_mass_g": 3750}"#;
    let outcome = Call::json(&format!(r#"{{"args": [{row}]}}"#)).run(export_of!(classify));
    assert_eq!(outcome.error_message(), "`bill_depth_mm` is not a positive number");
}

#[test]
fn text_that_is_no_model_is_refused() {
    assert!(matches!(Model::from_json("{}"), Err(ModelError::Malformed { .. })));
    let other = MODEL_JSON.replace("bill_depth_mm", "age");
    assert!(matches!(Model::from_json(&other), Err(ModelError::OtherFeatures { .. })));
    let fewer = MODEL_JSON.replace("\"Gentoo\"", "\"Gentoo\", \"Emperor\"");
    assert_eq!(Model::from_json(&fewer).err(), Some(ModelError::Inconsistent));
}

#[test]
fn finalizer_tells_how_it_went() {
    let outcome = Call::json("{}").run(export_of!(unload));
    assert!(outcome.log[0].1.ends_with("rows classified"), "{outcome:?}");
}

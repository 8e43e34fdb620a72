//! Evaluates formulas that users write.
//!
//! Its one idea: what a user may say is data and not code. The language has no loops, no files and no
//! clock, so most of what could be asked of it cannot even be said. What somebody finds in its reader
//! all the same has one instance of one task, with its fuel and its memory, and nobody else's values.
//!
//! ```text
//! stockade run formula.wasm evaluate 'price * (1 + vat)' '{"price": 80, "vat": 0.25}'
//! stockade run formula.wasm names 'price * (1 + vat)'
//! ```
//!
//! `+ - * / ^`, parentheses, numbers, names of values, and `abs`, `sqrt`, `round`, `min` and `max`.
#![forbid(unsafe_code)]

mod reader;

use reader::Reader;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use stockade_guest::serde::{Deserialize, Serialize};
use stockade_guest::task;

/// How deep parentheses may stand in one another: far beyond what anybody reads, and far below what
/// the stack holds.
const DEPTH_MAX: u32 = 64;

/// Why a formula has no value.
///
/// Callers get its text, and its form as JSON: `{"kind": "unknown_name", "name": "vat"}`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "stockade_guest::serde", tag = "kind", rename_all = "snake_case")]
enum FormulaError {
    /// It breaks the rules.
    Malformed {
        /// Where, in characters from 1.
        at: usize,
        /// What could stand there.
        wanted: String,
    },
    /// It names a value that it was not given, or a function that there is not.
    UnknownName { name: String },
    /// A function was given too few or too many values.
    WrongCount { name: String },
    /// Its parentheses stand deeper in one another than `DEPTH_MAX`.
    TooDeep,
    /// Its value is not a number: it divides by zero, say, or is too large.
    NotFinite,
}

impl fmt::Display for FormulaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { at, wanted } => write!(f, "{wanted} is missing at character {at}"),
            Self::UnknownName { name } => write!(f, "nothing is called `{name}`"),
            Self::WrongCount { name } => write!(f, "`{name}` takes another number of values"),
            Self::TooDeep => f.write_str("the parentheses are too deep"),
            Self::NotFinite => f.write_str("the result is no number"),
        }
    }
}

/// The value of a formula, where names stand for `values`.
#[task]
fn evaluate(formula: &str, values: BTreeMap<String, f64>) -> Result<f64, FormulaError> {
    let value = Reader::new(formula, |name| values.get(name).copied()).formula()?;
    if value.is_finite() { Ok(value) } else { Err(FormulaError::NotFinite) }
}

/// The names of the values that a formula needs, in alphabetical order; fails as `evaluate` would for
/// every value. For a formula that is saved before there are any.
#[task]
fn names(formula: &str) -> Result<BTreeSet<String>, FormulaError> {
    let mut names = BTreeSet::new();
    let name = |name: &str| {
        names.insert(name.to_owned());
        Some(1.0)
    };
    Reader::new(formula, name).formula()?;
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stockade_guest::testing::{Call, Status, export_of};

    fn value(formula: &str) -> Result<f64, FormulaError> {
        let values = [("price", 80.0), ("vat", 0.25), ("n_2", 3.0)];
        evaluate(formula, values.map(|(name, value)| (name.to_owned(), value)).into())
    }

    fn malformed(at: usize) -> impl Fn(Result<f64, FormulaError>) -> bool {
        move |result| matches!(result, Err(FormulaError::Malformed { at: found, .. }) if found == at)
    }

    #[test]
    fn operators_bind_as_on_paper() {
        for (formula, expected) in [
            ("1 + 2 * 3", 7.0),
            ("(1 + 2) * 3", 9.0),
            ("8 / 4 / 2", 1.0),
            ("2 ^ 3 ^ 2", 512.0),
            ("-2 ^ 2", -4.0),
            ("2 ^ -1", 0.5),
            ("- - 3", 3.0),
            ("price * (1 + vat)", 100.0),
            ("n_2", 3.0),
            ("1.5e1", 15.0),
            (".5", 0.5),
            ("max(1, 2, n_2) - min(1, 2)", 2.0),
            ("sqrt(abs(-16)) + round(0.6)", 5.0),
        ] {
            assert_eq!(value(formula), Ok(expected), "{formula}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (formula, at) in [
            ("", 1),
            ("price * (1 +", 13),
            ("(1", 3),
            ("1 1", 3),
            ("1.2.3", 1),
            ("é", 1),
            ("2 *", 4),
        ] {
            assert!(malformed(at)(value(formula)), "{formula}: {:?}", value(formula));
        }
        let unknown = |name: &str| Err(FormulaError::UnknownName { name: name.into() });
        assert_eq!(value("discount"), unknown("discount"));
        assert_eq!(value("system(1)"), unknown("system"));
        assert_eq!(value("sqrt(1, 2)"), Err(FormulaError::WrongCount { name: "sqrt".into() }));
    }

    #[test]
    fn what_is_no_number_is_no_result() {
        for formula in ["1 / 0", "0 / 0", "9 ^ 9 ^ 9", "sqrt(-1)", "1e999"] {
            assert_eq!(value(formula), Err(FormulaError::NotFinite), "{formula}");
        }
    }

    #[test]
    fn depth_has_a_limit_and_length_has_none_of_its_own() {
        let nested = |depth: usize| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(value(&nested(DEPTH_MAX as usize - 1)), Ok(1.0));
        assert_eq!(value(&nested(DEPTH_MAX as usize)), Err(FormulaError::TooDeep));
        assert_eq!(value(&"-".repeat(100_000)), Err(FormulaError::TooDeep));
        assert_eq!(value(&"abs(".repeat(100_000)), Err(FormulaError::TooDeep));
        assert_eq!(value(&"2^".repeat(100_000)), Err(FormulaError::TooDeep));
        assert_eq!(value(&format!("1{}", "+1".repeat(50_000))), Ok(50_001.0));
    }

    #[test]
    fn names_are_known_before_their_values() {
        let needed = |formula| names(formula).map(|names| names.into_iter().collect::<Vec<_>>());
        assert_eq!(needed("b * a / (b - b)"), Ok(vec!["a".into(), "b".into()]));
        assert!(needed("a *").is_err());
    }

    #[test]
    fn error_has_a_form_that_callers_can_match() {
        let outcome = Call::json(r#"{"args": ["a", {}]}"#).run(export_of!(evaluate));

        assert_eq!(outcome.status, Status::Error);
        let error = outcome.error.expect("an error");
        assert_eq!(error.message, "nothing is called `a`");
        assert_eq!(error.data.as_deref(), Some(r#"{"kind":"unknown_name","name":"a"}"#));
    }
}

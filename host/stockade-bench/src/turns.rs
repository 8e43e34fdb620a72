//! Turns: several quantities measured one after the other, round by round.
//!
//! ```text
//! round 1:  map, two processes, threads, a peer …     forwards
//! round 2:  … a peer, threads, two processes, map     backwards
//! ```
//!
//! Rounds go there and back, so that what always follows a certain quantity disturbs none more than
//! another. A quantity that cannot be measured says why, once, and the others go on.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;

use crate::figure::{Bound, Figure, Measured};
use crate::system::quiet;

type Measure<'a> = Box<dyn FnMut() -> Result<f64> + 'a>;

/// What can be measured, under the names by which rows refer to it.
#[derive(Default)]
pub(crate) struct Turns<'a> {
    quantities: Vec<(&'static str, Measure<'a>)>,
    results: Results,
}

/// One value a round for each quantity, or why there is none.
#[derive(Debug, Default)]
pub(crate) struct Results(BTreeMap<&'static str, Result<Vec<f64>, String>>);

/// A figure to be made from results.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// The quantity.
    pub(crate) of: &'static str,
    /// The quantities it is compared with: in each round the one that is hardest to reach.
    pub(crate) against: &'static [&'static str],
    /// What these are together.
    pub(crate) reference: &'static str,
    pub(crate) target: Option<Bound>,
    pub(crate) stretch: Option<Bound>,
}

impl<'a> Turns<'a> {
    /// Adds a quantity.
    pub(crate) fn add(&mut self, name: &'static str, measure: impl FnMut() -> Result<f64> + 'a) {
        self.quantities.push((name, Box::new(measure)));
    }

    /// Adds what could be had, or why it could not.
    pub(crate) fn add_if<T: 'a>(
        &mut self,
        name: &'static str,
        source: Result<T>,
        mut measure: impl FnMut(&mut T) -> Result<f64> + 'a,
    ) {
        match source {
            Ok(mut source) => self.add(name, move || measure(&mut source)),
            Err(error) => self.results.fail(name, format!("{error:#}")),
        }
    }

    /// Measures everything `rounds` times, after one round that does not count, each when the machine is
    /// quiet.
    pub(crate) fn take(self, topic: &str, rounds: usize) -> Results {
        self.take_after(quiet::await_quiet, topic, rounds)
    }

    /// As [`take`](Self::take), where each round comes after `before`.
    fn take_after(mut self, before: impl Fn(), topic: &str, rounds: usize) -> Results {
        for round in 0..=rounds {
            before();
            progress(&format!("{topic}: round {round} of {rounds}"));
            let count = self.quantities.len();
            for index in 0..count {
                let index = if round % 2 == 0 { index } else { count - 1 - index };
                let (name, measure) = &mut self.quantities[index];
                if self.results.has_failed(name) {
                    continue;
                }
                match measure() {
                    // Warm now.
                    Ok(_) if round == 0 => {}
                    Ok(value) => self.results.push(name, value),
                    Err(error) => self.results.fail(name, format!("{error:#}")),
                }
            }
        }
        self.results
    }
}

impl Results {
    fn has_failed(&self, name: &'static str) -> bool {
        matches!(self.0.get(name), Some(Err(_)))
    }

    fn fail(&mut self, name: &'static str, why: String) {
        self.0.insert(name, Err(why));
    }

    fn push(&mut self, name: &'static str, value: f64) {
        if let Ok(values) = self.0.entry(name).or_insert_with(|| Ok(Vec::new())) {
            values.push(value);
        }
    }

    fn of(&self, name: &str) -> Result<&[f64], String> {
        match self.0.get(name) {
            Some(Ok(values)) => Ok(values),
            Some(Err(why)) => Err(why.clone()),
            None => Err(format!("nothing measures `{name}`")),
        }
    }

    /// The figure that `row` describes.
    pub(crate) fn figure(&self, row: &Row) -> Figure {
        let (references, unreferenced) = match self.references(row) {
            Ok(references) => (references, None),
            Err(why) => (None, Some(why)),
        };
        let values = self.of(row.of);
        let measured = values.map(|values| Measured::from_rounds(values, references.as_deref()));
        Figure {
            name: row.name,
            unit: row.unit,
            reference_name: (!row.against.is_empty()).then_some(row.reference),
            target: row.target,
            stretch: row.stretch,
            measured,
            unreferenced,
        }
    }

    /// One reference a round; `None` for a row that has none.
    fn references(&self, row: &Row) -> Result<Option<Vec<f64>>, String> {
        let mut hardest: Option<Vec<f64>> = None;
        for name in row.against {
            let more = self.of(name)?;
            hardest = Some(match (hardest, row.target) {
                (None, _) | (_, None) => more.to_vec(),
                (Some(so_far), Some(target)) => {
                    let pairs = so_far.iter().zip(more);
                    pairs.map(|(one, other)| target.harder(*one, *other)).collect()
                }
            });
        }
        Ok(hardest)
    }
}

/// Tells whoever watches how far the benchmark is.
pub(crate) fn progress(text: &str) {
    // Nobody may be watching.
    let _ = writeln!(std::io::stderr(), "  {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Row = Row {
        name: "row",
        unit: "u",
        of: "a",
        against: &["b", "c"],
        reference: "the better",
        target: Some(Bound::AtLeast(1.0)),
        stretch: None,
    };

    #[test]
    fn the_reference_of_a_round_is_the_one_that_is_hardest_to_reach() {
        let mut turns = Turns::default();
        turns.add("a", || Ok(12.0));
        turns.add("b", || Ok(4.0));
        turns.add("c", || Ok(6.0));
        let results = turns.take_after(|| (), "test", 3);
        assert_eq!(results.figure(&ROW).measured.unwrap().ratio, Some(2.0));
        let slower = Row { target: Some(Bound::AtMost(1.0)), ..ROW };
        assert_eq!(results.figure(&slower).measured.unwrap().ratio, Some(3.0));
    }

    #[test]
    fn a_quantity_that_fails_is_not_asked_again_and_the_others_go_on() {
        let (mut asked, mut others) = (0, 0);
        let mut turns = Turns::default();
        turns.add("a", || {
            others += 1;
            Ok(1.0)
        });
        turns.add("b", || {
            asked += 1;
            anyhow::bail!("broken")
        });
        turns.add_if("c", Err::<(), _>(anyhow::anyhow!("not installed")), |()| Ok(1.0));
        let results = turns.take_after(|| (), "test", 3);
        assert_eq!(results.figure(&ROW).missing(), Some("broken"));
        let absent = Row { against: &["c"], ..ROW };
        assert_eq!(results.figure(&absent).missing(), Some("not installed"));
        assert_eq!((asked, others), (1, 4));
    }
}

//! The language of formulas, evaluated as it is read.
//!
//! ```text
//! sum     = product { ("+" | "-") product }
//! product = signed { ("*" | "/") signed }
//! signed  = "-" signed | atom [ "^" signed ]
//! atom    = number | name | name "(" sum { "," sum } ")" | "(" sum ")"
//! ```
//!
//! Invariant: nothing recurses without `deeper`, so the depth of a formula is bounded before the stack is.

use crate::{DEPTH_MAX, FormulaError};

/// What is left of a formula, and what its names stand for.
pub(crate) struct Reader<'f, V> {
    formula: &'f str,
    /// The byte that comes next.
    at: usize,
    depth: u32,
    value_of: V,
}

impl<'f, V: FnMut(&str) -> Option<f64>> Reader<'f, V> {
    pub(crate) fn new(formula: &'f str, value_of: V) -> Self {
        Self { formula, at: 0, depth: 0, value_of }
    }

    /// The value of the whole formula.
    pub(crate) fn formula(&mut self) -> Result<f64, FormulaError> {
        let value = self.sum()?;
        match self.rest() {
            "" => Ok(value),
            _ => Err(self.malformed("an operator or the end")),
        }
    }

    fn sum(&mut self) -> Result<f64, FormulaError> {
        let mut value = self.product()?;
        loop {
            if self.eat('+') {
                value += self.product()?;
            } else if self.eat('-') {
                value -= self.product()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<f64, FormulaError> {
        let mut value = self.signed()?;
        loop {
            if self.eat('*') {
                value *= self.signed()?;
            } else if self.eat('/') {
                value /= self.signed()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn signed(&mut self) -> Result<f64, FormulaError> {
        if self.eat('-') {
            return Ok(-self.deeper(Self::signed)?);
        }
        let base = self.atom()?;
        if self.eat('^') { Ok(base.powf(self.deeper(Self::signed)?)) } else { Ok(base) }
    }

    fn atom(&mut self) -> Result<f64, FormulaError> {
        if self.eat('(') {
            let value = self.deeper(Self::sum)?;
            return self.expect(')').map(|()| value);
        }
        let begin = self.at;
        let name = self.word(|c| c.is_ascii_alphanumeric() || c == '_');
        match name.chars().next() {
            Some(first) if !first.is_ascii_digit() && self.eat('(') => self.call(name),
            Some(first) if !first.is_ascii_digit() => (self.value_of)(name)
                .ok_or_else(|| FormulaError::UnknownName { name: name.to_owned() }),
            _ => {
                self.at = begin;
                self.number()
            }
        }
    }

    /// A function's value, after its opening parenthesis.
    fn call(&mut self, name: &str) -> Result<f64, FormulaError> {
        let first = self.deeper(Self::sum)?;
        let mut rest = Vec::new();
        while self.eat(',') {
            rest.push(self.deeper(Self::sum)?);
        }
        self.expect(')')?;
        match (name, rest.is_empty()) {
            ("abs", true) => Ok(first.abs()),
            ("sqrt", true) => Ok(first.sqrt()),
            ("round", true) => Ok(first.round()),
            ("min", false) => Ok(rest.into_iter().fold(first, f64::min)),
            ("max", false) => Ok(rest.into_iter().fold(first, f64::max)),
            ("abs" | "sqrt" | "round" | "min" | "max", _) => {
                Err(FormulaError::WrongCount { name: name.to_owned() })
            }
            _ => Err(FormulaError::UnknownName { name: name.to_owned() }),
        }
    }

    fn number(&mut self) -> Result<f64, FormulaError> {
        self.rest();
        let begin = self.at;
        self.word(|c| c.is_ascii_digit() || c == '.');
        if self.at > begin && self.formula[self.at..].starts_with(['e', 'E']) {
            self.at += 1;
            if self.formula[self.at..].starts_with(['+', '-']) {
                self.at += 1;
            }
            self.word(|c| c.is_ascii_digit());
        }
        self.formula[begin..self.at].parse().map_err(|_| {
            self.at = begin;
            self.malformed("a number, a name or `(`")
        })
    }

    /// What `part` reads, one deeper.
    fn deeper(
        &mut self,
        part: impl Fn(&mut Self) -> Result<f64, FormulaError>,
    ) -> Result<f64, FormulaError> {
        self.depth += 1;
        if self.depth >= DEPTH_MAX {
            return Err(FormulaError::TooDeep);
        }
        let value = part(self)?;
        self.depth -= 1;
        Ok(value)
    }

    /// What is left, from its first character that is no space.
    fn rest(&mut self) -> &'f str {
        let rest = self.formula[self.at..].trim_ascii_start();
        self.at = self.formula.len() - rest.len();
        rest
    }

    /// Takes `token` where it comes next.
    fn eat(&mut self, token: char) -> bool {
        let comes = self.rest().starts_with(token);
        self.at += if comes { token.len_utf8() } else { 0 };
        comes
    }

    fn expect(&mut self, token: char) -> Result<(), FormulaError> {
        if self.eat(token) { Ok(()) } else { Err(self.malformed(&format!("`{token}`"))) }
    }

    /// Takes the characters that come next and are of a word.
    fn word(&mut self, is_of_it: impl Fn(char) -> bool) -> &'f str {
        let rest = self.rest();
        let end = rest.find(|c| !is_of_it(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn malformed(&mut self, wanted: &str) -> FormulaError {
        self.rest();
        let at = self.formula[..self.at].chars().count() + 1;
        FormulaError::Malformed { at, wanted: wanted.to_owned() }
    }
}

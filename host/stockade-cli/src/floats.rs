//! Floats: numbers in JSON that are too large for an `f32`.
//!
//! Decoders of JSON make an infinity of such a number, where they refuse an integer that is too large.
//! So the command refuses it before the call, as far as the manifest names the type: a parameter, or
//! what a list, a tuple, a map or an option in it is made of.
//!
//! Deliberately absent: fields of a guest's own types, which no manifest tells.

use serde_json::Value;
use stockade::Parameter;

use crate::arguments::base_type;

/// The parameters of a function that are, or hold, an `f32`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Floats(Vec<Float>);

#[derive(Clone, Debug, PartialEq)]
struct Float {
    position: usize,
    name: String,
    shape: Shape,
}

/// Where in a value an `f32` stands.
#[derive(Clone, Debug, PartialEq)]
enum Shape {
    /// The value itself.
    Number,
    /// Each element of a list.
    List(Box<Self>),
    /// These elements of a list.
    Tuple(Vec<Option<Self>>),
    /// Each value of an object.
    Map(Box<Self>),
}

impl Floats {
    /// Those among `params`.
    pub(crate) fn of(params: &[Parameter]) -> Self {
        let params = params.iter().enumerate().filter(|(_, param)| param.type_name.contains("f32"));
        let floats = params.filter_map(|(position, param)| {
            let shape = Shape::of(&param.type_name)?;
            Some(Float { position, name: param.name.clone(), shape })
        });
        Self(floats.collect())
    }

    /// Whether the JSON `text` fits the parameter at `position`, from 0.
    ///
    /// # Errors
    /// In words, the number that does not.
    pub(crate) fn check_at(&self, position: usize, text: &str) -> Result<(), String> {
        self.check(text, |float| float.position == position)
    }

    /// Whether the JSON `text` fits the parameter `name`.
    ///
    /// # Errors
    /// As [`check_at`](Self::check_at).
    pub(crate) fn check_named(&self, name: &str, text: &str) -> Result<(), String> {
        self.check(text, |float| float.name == name)
    }

    fn check(&self, text: &str, is_meant: impl Fn(&Float) -> bool) -> Result<(), String> {
        let Some(float) = self.0.iter().find(|float| is_meant(float)) else { return Ok(()) };
        // What is not JSON, or too deep, or larger than any float, is refused by those who decode it.
        let Ok(value) = serde_json::from_str(text) else { return Ok(()) };
        match float.shape.too_large(&value) {
            Some(number) => Err(format!(
                "{number:e} does not fit an f32, which goes from {:e} to {:e}",
                f32::MIN,
                f32::MAX
            )),
            None => Ok(()),
        }
    }
}

impl Shape {
    /// Where an `f32` stands in values of a type, if it does.
    fn of(type_name: &str) -> Option<Self> {
        let name = base_type(type_name);
        if name == "f32" {
            return Some(Self::Number);
        }
        let of_list = |inside| Self::of(inside).map(|shape| Self::List(Box::new(shape)));
        if let Some(tuple) = name.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            let shapes: Vec<_> = members(tuple).into_iter().map(Self::of).collect();
            return shapes.iter().any(Option::is_some).then_some(Self::Tuple(shapes));
        }
        if let Some(list) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return of_list(list.rsplit_once(';').map_or(list, |(inside, _)| inside));
        }
        let (outer, inside) = name.strip_suffix('>')?.split_once('<')?;
        match (outer, members(inside).as_slice()) {
            ("Option" | "Box", [inside]) => Self::of(inside),
            ("Vec", [inside]) => of_list(inside),
            ("HashMap" | "BTreeMap", [_, value, ..]) => {
                Self::of(value).map(|shape| Self::Map(Box::new(shape)))
            }
            _ => None,
        }
    }

    /// The first number in `value` that no `f32` holds.
    fn too_large(&self, value: &Value) -> Option<f64> {
        match (self, value) {
            (Self::Number, Value::Number(number)) => {
                number.as_f64().filter(|number| !(*number as f32).is_finite())
            }
            (Self::List(shape), Value::Array(values)) => {
                values.iter().find_map(|value| shape.too_large(value))
            }
            (Self::Tuple(shapes), Value::Array(values)) => {
                let mut members = shapes.iter().zip(values);
                members.find_map(|(shape, value)| shape.as_ref()?.too_large(value))
            }
            (Self::Map(shape), Value::Object(members)) => {
                members.values().find_map(|value| shape.too_large(value))
            }
            _ => None,
        }
    }
}

/// The types in a list of them, cut at its commas and at none inside of one.
fn members(list: &str) -> Vec<&str> {
    let mut depth = 0;
    let members = list.split(|c| {
        depth += i32::from(matches!(c, '<' | '(' | '[')) - i32::from(matches!(c, '>' | ')' | ']'));
        c == ',' && depth == 0
    });
    members.filter(|member| !member.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuses(type_name: &str, text: &str) -> bool {
        let param = Parameter { name: "x".into(), type_name: type_name.into() };
        let floats = Floats::of(&[param]);
        let by_name = floats.check_named("x", text);
        assert_eq!(by_name, floats.check_at(0, text));
        assert_eq!((floats.check_at(1, text), floats.check_named("y", text)), (Ok(()), Ok(())));
        by_name.is_err()
    }

    #[test]
    fn numbers_that_an_f32_holds_are_taken_and_larger_ones_are_refused() {
        for taken in ["3.4028235e38", "-3.4028235e38", "0", "-0", "1e-60", "16777217", "1.5"] {
            assert!(!refuses("f32", taken), "{taken}");
        }
        let digits = format!("1{}", "0".repeat(39));
        for refused in ["1e39", "-1e39", "3.4028236e38", "1e308", &digits] {
            assert!(refuses("f32", refused), "{refused}");
            assert!(!refuses("f64", refused), "{refused}");
        }
        // For others to refuse.
        for other in ["\"1e39\"", "null", "[1e39]", "1e400", "x", ""] {
            assert!(!refuses("f32", other), "{other}");
        }
    }

    #[test]
    fn what_is_made_of_f32_is_looked_into() {
        for (type_name, text) in [
            ("Option < f32 >", "1e39"),
            ("&'a [f32]", "[1, 1e39]"),
            ("Vec<f32>", "[1, 1e39]"),
            ("[f32; 2]", "[1e39, 1]"),
            ("Vec<Option<[f32; 2]>>", "[null, [1, 1e39]]"),
            ("(String, f32)", "[\"a\", 1e39]"),
            ("((f64, i8), Box<f32>)", "[[1e39, 1], 1e39]"),
            ("std::collections::HashMap<String, Vec<f32>>", "{\"a\": [1e39]}"),
            ("BTreeMap<(u8, u8), f32>", "{\"a\": 1e39}"),
        ] {
            assert!(refuses(type_name, text), "{type_name}");
            assert!(!refuses(type_name, &text.replace("1e39", "1e38")), "{type_name}");
            assert!(!refuses(&type_name.replace("f32", "f64"), text), "{type_name}");
        }
        assert!(!refuses("(f64, f32)", "[1e39, 1]"));
        assert!(!refuses("Own<f32>", "1e39"));
        assert!(!refuses("f32", &"[".repeat(10_000)));
    }
}

//! Reads the text of a Rust type.
//!
//! It knows types whose form does not depend on the rest of the guest's source; of a path only the
//! last segment counts. The rest is [`Shape::Any`]. The text is hostile: its length and its depth
//! are bounded, and every step takes something off it.

use super::Shape;
use crate::call::number::NumberKind;

/// Longer texts are not parsed: the compiler truncates them at this length, which changes their
/// meaning.
const TEXT_BYTES_MAX: usize = 4096;

/// How deep types may stand in one another.
const DEPTH_MAX: usize = 32;

/// The shape of the type `text`; with `of_result`, that of a `Result` is that of its first argument.
pub(super) fn shape(text: &str, of_result: bool) -> Shape {
    if text.len() >= TEXT_BYTES_MAX {
        return Shape::Any;
    }
    let mut parser = Parser { rest: text, of_result };
    match parser.any_type(DEPTH_MAX) {
        Some(shape) if parser.rest.trim_ascii().is_empty() => shape,
        _ => Shape::Any,
    }
}

/// What is left of a text. Its methods give `None` for what they do not understand.
struct Parser<'t> {
    rest: &'t str,
    /// Whether the type that comes next is a result's, and not one inside another.
    of_result: bool,
}

impl<'t> Parser<'t> {
    /// Takes `token` if it comes next.
    fn eat(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_ascii_start();
        rest.strip_prefix(token).map(|rest| self.rest = rest).is_some()
    }

    fn word(&mut self) -> Option<&'t str> {
        let rest = self.rest.trim_ascii_start();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    fn lifetime(&mut self) -> bool {
        self.eat("'") && self.word().is_some()
    }

    fn any_type(&mut self, depth: usize) -> Option<Shape> {
        let depth = depth.checked_sub(1)?;
        let of_result = std::mem::take(&mut self.of_result);
        if self.eat("&") {
            self.lifetime();
            let mut after = Parser { ..*self };
            if after.word() == Some("mut") {
                *self = after;
            }
            return self.any_type(depth);
        }
        if self.eat("(") {
            return self.tuple(depth);
        }
        if self.eat("[") {
            return self.array(depth);
        }
        self.path(depth, of_result)
    }

    /// After the opening parenthesis.
    fn tuple(&mut self, depth: usize) -> Option<Shape> {
        let mut parts = Vec::new();
        loop {
            if self.eat(")") {
                return Some(Shape::tuple(parts));
            }
            parts.push(self.any_type(depth)?);
            if !self.eat(",") {
                // Without a comma a pair of parentheses says nothing.
                let only = self.eat(")").then_some(parts)?;
                return Some(if only.len() == 1 {
                    only.into_iter().next()?
                } else {
                    Shape::Tuple(only)
                });
            }
        }
    }

    /// After the opening bracket.
    fn array(&mut self, depth: usize) -> Option<Shape> {
        let element = self.any_type(depth)?;
        if self.eat("]") {
            return Some(Shape::list(element));
        }
        let length = self.eat(";").then(|| self.word())??;
        let digits = length.strip_suffix("usize").unwrap_or(length).replace('_', "");
        let length = digits.parse().ok();
        self.eat("]").then(|| Shape::Array(Box::new(element), length))
    }

    fn path(&mut self, depth: usize, of_result: bool) -> Option<Shape> {
        self.eat("::");
        loop {
            let name = self.word()?;
            let mut arguments = Vec::new();
            if self.eat("::<") || self.eat("<") {
                arguments = self.arguments(depth)?;
            }
            if !self.eat("::") {
                return Some(match arguments.len() {
                    1.. if of_result && name == "Result" => arguments.swap_remove(0),
                    _ => named(name, arguments),
                });
            }
        }
    }

    /// Generic arguments that are types, after the opening bracket.
    fn arguments(&mut self, depth: usize) -> Option<Vec<Shape>> {
        let mut types = Vec::new();
        loop {
            if self.eat(">") {
                return Some(types);
            }
            if !self.lifetime() {
                types.push(self.any_type(depth)?);
            }
            if !self.eat(",") {
                return self.eat(">").then_some(types);
            }
        }
    }
}

/// The shape of the type `name` with these arguments.
fn named(name: &str, arguments: Vec<Shape>) -> Shape {
    let mut arguments = arguments.into_iter();
    match (name, arguments.next(), arguments.next()) {
        ("bool", None, _) => Shape::Bool,
        ("char", None, _) => Shape::Char,
        ("str" | "String", None, _) => Shape::Text,
        ("Bytes", None, _) => Shape::Bytes,
        (name, None, _) => match NumberKind::from_name(name).or_else(|| non_zero(name)) {
            Some(kind) => Shape::Number(kind),
            None => Shape::Any,
        },
        // Serde writes what they hold, and nothing of them.
        (
            "Box" | "Rc" | "Arc" | "Cow" | "NonZero" | "Wrapping" | "Saturating",
            Some(held),
            None,
        ) => held,
        ("Option", Some(held), None) => Shape::Option(Box::new(held)),
        ("Vec" | "VecDeque" | "LinkedList" | "BinaryHeap" | "BTreeSet", Some(element), None) => {
            Shape::list(element)
        }
        // Perhaps with a hasher.
        ("HashSet", Some(element), _) => Shape::list(element),
        ("HashMap" | "BTreeMap", Some(key), Some(value)) => {
            Shape::Map(Box::new(key), Box::new(value))
        }
        _ => Shape::Any,
    }
}

/// `NonZeroU8` and its like.
fn non_zero(name: &str) -> Option<NumberKind> {
    let name = name.strip_prefix("NonZero")?;
    NumberKind::from_name(&name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use NumberKind::{F32, I64, U8, U64, Usize};

    fn of(text: &str) -> Shape {
        shape(text, false)
    }

    fn number(kind: NumberKind) -> Box<Shape> {
        Box::new(Shape::Number(kind))
    }

    #[test]
    fn types_that_the_macro_prints_are_understood() {
        for (text, expected) in [
            ("usize", *number(Usize)),
            ("NonZeroU64", *number(U64)),
            ("std::num::NonZero<u64>", *number(U64)),
            ("bool", Shape::Bool),
            ("char", Shape::Char),
            ("String", Shape::Text),
            ("&'static str", Shape::Text),
            ("Box<str>", Shape::Text),
            ("Cow<'static, str>", Shape::Text),
            ("stockade_guest::Bytes", Shape::Bytes),
            ("Vec<u8>", Shape::Bytes),
            ("&[u8]", Shape::Bytes),
            ("Cow<'_, [u8]>", Shape::Bytes),
            ("()", Shape::Unit),
            ("(u8)", *number(U8)),
            ("(u8,)", Shape::Tuple(vec![*number(U8)])),
            ("Option<i64>", Shape::Option(number(I64))),
            ("::std::collections::VecDeque<f32>", Shape::List(number(F32))),
            ("&mut [f32]", Shape::List(number(F32))),
            ("&'a mut[f32]", Shape::List(number(F32))),
            ("Vec::<f32>", Shape::List(number(F32))),
            ("HashSet<i64, MyHasher>", Shape::List(number(I64))),
            ("[u8; 1_024]", Shape::Array(number(U8), Some(1024))),
            ("[u8; 4usize]", Shape::Array(number(U8), Some(4))),
            ("[u8; DIGEST]", Shape::Array(number(U8), None)),
            (
                "Vec<(String, u64)>",
                Shape::List(Box::new(Shape::Tuple(vec![Shape::Text, *number(U64)]))),
            ),
            (
                "std::collections::BTreeMap<String, Vec<u8>>",
                Shape::Map(Box::new(Shape::Text), Box::new(Shape::Bytes)),
            ),
            ("Vec<my::Point<'static, 3>>", Shape::List(Box::new(Shape::Any))),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn a_results_value_is_what_its_ok_holds() {
        assert_eq!(shape("Result<u64, String>", true), *number(U64));
        assert_eq!(shape("anyhow::Result<()>", true), Shape::Unit);
        assert_eq!(shape("Option<Result<u64, String>>", true), Shape::Option(Box::new(Shape::Any)));
        assert_eq!(shape("u64", true), *number(U64));
        assert_eq!(shape("fmt::Result", true), Shape::Any);
        assert_eq!(of("Result<u64, String>"), Shape::Any);
    }

    #[test]
    fn what_is_not_understood_is_any() {
        for text in [
            "",
            " ",
            "Point",
            "T",
            "&",
            "&&",
            "(",
            ")",
            "[",
            "]",
            "<",
            ">",
            "Vec<",
            "Vec<u8",
            "Vec<u8>>",
            "Vec<>",
            "Vec",
            "u8<u8>",
            "Vec<u8, u8>",
            "(u8, ",
            "(,)",
            "[u8;",
            "[u8; ]",
            "[u8; 2 * 2]",
            "Option<u8, u8>",
            "u8 u8",
            "::",
            "Vec::",
            "'a",
            "Vec<'a>",
            "fn(u8, u8) -> u8",
            "dyn Error",
            "Box<dyn Error + Send>",
            "impl Into<u64>",
            "<Vec<u8> as Trait>::Out",
            "*const u8",
            "!",
            "Foo<{ N }>",
            "r#type",
            "Vec<u8>\0",
            "\u{1f980}",
            "Vec<\u{1f980}>",
            "[u8; size_of::<[u8; 4]>()]",
        ] {
            assert_eq!(of(text), Shape::Any, "{text:?}");
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let nested = |levels: usize| format!("{}u64{}", "Vec<".repeat(levels), ">".repeat(levels));
        assert_ne!(of(&nested(DEPTH_MAX - 1)), Shape::Any);
        assert_eq!(of(&nested(DEPTH_MAX)), Shape::Any);
        for hostile in ["&", "(", "[", "Vec<", "a::", "u8,", "'", "<", "Box<", "(u8,", "\u{1f980}"]
        {
            let text = hostile.repeat(1_000_000 / hostile.len());
            assert_eq!(of(&text), Shape::Any);
            let end = text.floor_char_boundary(TEXT_BYTES_MAX - 1);
            assert_eq!(of(&text[..end]), Shape::Any);
        }
        assert_eq!(of(&format!("{:1$}", "u64", TEXT_BYTES_MAX - 1)), *number(U64));
        assert_eq!(of(&format!("{:1$}", "u64", TEXT_BYTES_MAX)), Shape::Any);
    }

    #[test]
    fn mutilated_texts_never_panic() {
        let text = "std::collections::HashMap<&'a str, [(Option<Vec<u8>>, f32); 3]>";
        for end in 0..text.len() {
            of(&text[..end]);
            of(&text[end..]);
            for symbol in ["<", ">", "(", ")", "[", "]", ",", ";", "::", "&", "'", "é", " "] {
                of(&format!("{}{symbol}{}", &text[..end], &text[end..]));
                of(&format!("{}{symbol}{}", &text[..end], &text[end + 1..]));
            }
        }
    }
}

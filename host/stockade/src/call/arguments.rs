//! Arguments: what a caller passes, checked against the target and encoded before `submit` returns.
//!
//! Arguments are encoded at once, so later changes of the caller's values do not affect the task.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use stockade_wire::{Codec, Parameter, Stdin};

use crate::call::buffer::{BufferSlot, SharedBuffer};
use crate::call::codec::{self, Unfit};
use crate::call::payload::Payload;
use crate::call::scalar;
use crate::call::target::{self, Callable, CallableKind, ModuleEntry, Target};
use crate::outcome::error::SubmitError;

/// Arguments of a task.
///
/// | type | becomes | for |
/// |---|---|---|
/// | a tuple of up to eight serde values: `()`, `(a,)`, `(a, b)` … | bincode, or scalars | Rust callers |
/// | [`Json`] | JSON, by position or by name, or scalars | callers that know no types |
/// | [`Bytes`] | the bytes themselves | tasks of one byte-like parameter |
/// | [`SharedBuffer`] | memory of the guest's, for the time of the task | the same, and large data |
/// | [`GivenArguments`](crate::GivenArguments) | what they were encoded as before | tasks submitted anew |
/// | [`Command`](crate::Command) | a program's arguments, variables and streams | commands, whose results are [`CommandOutput`](crate::CommandOutput)s |
///
/// Where the module's manifest names a parameter's type, a tuple's value becomes one of that type or
/// is refused before anything is queued: a number if its value stays the same (a literal `1`
/// becomes a `usize` or an `f32`, but `-1` and `1.5` do not become a `usize`; an `f64` may be
/// rounded to an `f32`), lists, arrays and tuples for each other, and all other values only for
/// their own kind. A manifest does not describe a guest's own types: for these the caller's type
/// must be the same.
///
/// Sealed: no other type can implement it.
pub trait Arguments: Sealed {}

/// Bytes. As [`Arguments`] they are a task's only argument, passed unchanged. As one of several
/// values, or as a result, they are the guest SDK's `Bytes`, which are encoded as a whole rather
/// than number by number.
///
/// ```
/// let photo = stockade::Bytes(vec![0xff, 0xd8]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.serialize_str(&BASE64.encode(&self.0));
        }
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;

        impl Visitor<'_> for BytesVisitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                BASE64.decode(text).map(Bytes).map_err(E::custom)
            }
        }

        if deserializer.is_human_readable() {
            return deserializer.deserialize_str(BytesVisitor);
        }
        deserializer.deserialize_byte_buf(BytesVisitor)
    }
}

/// Arguments as JSON, by position and by name.
///
/// ```
/// use serde_json::json;
///
/// let arguments = stockade::Json::new().arg(json!("to be or not")).named("limit", json!(3));
/// ```
///
/// A [`Value`] holds integers up to 64 bits, floats, and each key of an object once. Other JSON is
/// given as text, which reaches the guest's parser unchanged: integers of 128 bits and more, `-0`,
/// all digits, duplicate keys.
///
/// ```
/// use stockade::Json;
///
/// let arguments = Json::new().arg_json("340282366920938463463374607431768211455")?;
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Json {
    /// Each is the text of one JSON value, without white space around it.
    args: Vec<String>,
    kwargs: BTreeMap<String, String>,
    cells: bool,
}

impl Json {
    /// No arguments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one by position.
    #[must_use]
    pub fn arg(mut self, value: Value) -> Self {
        self.args.push(json_of(&value));
        self
    }

    /// Adds one by name; a second of that name replaces the first.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>, value: Value) -> Self {
        self.kwargs.insert(name.into(), json_of(&value));
        self
    }

    /// Adds one by position, as the text of its JSON. Any depth is allowed here; the guest's parser
    /// may have a limit.
    ///
    /// # Errors
    /// If `text` is not JSON.
    pub fn arg_json(mut self, text: impl Into<String>) -> Result<Self, serde_json::Error> {
        self.args.push(checked(text.into())?);
        Ok(self)
    }

    /// Adds one by name, as the text of its JSON; a second of that name replaces the first.
    ///
    /// # Errors
    /// If `text` is not JSON.
    pub fn named_json(
        mut self,
        name: impl Into<String>,
        text: impl Into<String>,
    ) -> Result<Self, serde_json::Error> {
        self.kwargs.insert(name.into(), checked(text.into())?);
        Ok(self)
    }

    /// Marks the arguments as cells of a table, or objects of cells: the guest converts a number,
    /// true or false to a text if its type is a text, and a text of a number to a number if its
    /// type is a number. Only for a function that
    /// [`reads_cells`](crate::ManifestFunction::reads_cells); other functions refuse the call.
    #[must_use]
    pub fn of_cells(mut self) -> Self {
        self.cells = true;
        self
    }

    /// The encoded form: `{"args": […], "kwargs": {…}}`.
    fn to_input(&self) -> Vec<u8> {
        let texts = self.args.iter().map(String::len).sum::<usize>()
            + self.kwargs.iter().map(|(name, text)| name.len() + text.len()).sum::<usize>();
        const AROUND: usize = "{\"args\":[],\"kwargs\":{}}".len();
        let commas = self.args.len().saturating_sub(1);
        let commas_and_quotes = 8 * self.kwargs.len() + if self.cells { 16 } else { 0 };
        // Exact for arguments by position, so that it needs no other place when it is done.
        let mut input = String::with_capacity(AROUND + texts + commas + commas_and_quotes);
        input.push_str("{\"args\":[");
        for (index, text) in self.args.iter().enumerate() {
            input.push_str(if index == 0 { "" } else { "," });
            input.push_str(text);
        }
        input.push_str("],\"kwargs\":{");
        for (index, (name, text)) in self.kwargs.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            input.push_str(&format!("{comma}{}:", Value::from(name.as_str())));
            input.push_str(text);
        }
        input.push_str(if self.cells { "},\"cells\":true}" } else { "}}" });
        input.into_bytes()
    }

    fn check(&self, params: &[Parameter]) -> Result<(), String> {
        if self.args.len() > params.len() {
            return Err(format!(
                "it takes {}, got {}",
                scalar::count(params.len()),
                self.args.len()
            ));
        }
        // First, since the one that it was meant for is missing then.
        if let Some(unknown) =
            self.kwargs.keys().find(|name| params.iter().all(|param| param.name != **name))
        {
            return Err(format!("it has no parameter `{unknown}`"));
        }
        for (index, param) in params.iter().enumerate() {
            match (index < self.args.len(), self.kwargs.contains_key(&param.name)) {
                (true, true) => {
                    return Err(format!("`{}` is given by position and by name", param.name));
                }
                // The guest reads one that is missing as `None`.
                (false, false) if param.type_name.starts_with("Option<") => {}
                (false, false) => return Err(format!("`{}` is missing", param.name)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A value as JSON text.
fn json_of(value: &Value) -> String {
    // With room from the beginning, which its `Display` has not. No value fails.
    serde_json::to_string(value).unwrap_or_else(|_| value.to_string())
}

/// `text` without white space around it, where it is one JSON value. The check keeps no value and
/// does not recurse, so any depth is safe.
fn checked(mut text: String) -> Result<String, serde_json::Error> {
    serde_json::from_str::<de::IgnoredAny>(&text)?;
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r');
    text.truncate(text.trim_end_matches(is_space).len());
    let before = text.len() - text.trim_start_matches(is_space).len();
    text.drain(..before);
    Ok(text)
}

/// The most bytes of one task's encoded arguments, or of a command's stdin: half of what a message
/// may have.
pub(crate) const INPUT_BYTES_MAX: usize = 128 << 20;

/// The last step of encoding, when the target is known.
pub(crate) fn encode(
    arguments: impl Arguments,
    callable: &Callable,
) -> Result<Payload, SubmitError> {
    use sealed::Problem;
    let payload = arguments.invoke(callable).map_err(|problem| match problem {
        Problem::Signature(problem) => SubmitError::Signature {
            function: callable.name.clone(),
            problem,
            signature: callable.signature(),
        },
        Problem::Encode(reason) => SubmitError::Encode { function: callable.name.clone(), reason },
    })?;
    match &payload {
        Payload::Task { input, .. } => check_bytes(&callable.name, "they have", input.len())?,
        Payload::Command(command) => {
            if let Stdin::Bytes(bytes) = &command.call.stdin {
                check_bytes(&callable.name, "stdin has", bytes.len())?;
            }
        }
        // The function's parameters bound the numbers, a buffer has its own limit, and no arguments
        // become a column.
        Payload::Scalars(_) | Payload::Buffer(_) | Payload::Column(_) => {}
    }
    Ok(payload)
}

/// Refuses arguments that are too long for a message; `what` begins the sentence.
fn check_bytes(function: &str, what: &str, bytes: usize) -> Result<(), SubmitError> {
    if bytes <= INPUT_BYTES_MAX {
        return Ok(());
    }
    let reason = format!("{what} {bytes} bytes, but only {INPUT_BYTES_MAX} are allowed");
    Err(SubmitError::Encode { function: function.into(), reason })
}

pub(crate) mod sealed {
    use super::*;

    pub trait Sealed: Sized {
        /// Whether the function that they are for may be another than the target's own.
        fn names_function(&self) -> bool {
            false
        }

        /// Finds the function that `target` names among `modules`.
        fn resolve<'a>(
            &self,
            modules: &'a [ModuleEntry],
            target: &Target,
        ) -> Result<(&'a ModuleEntry, &'a Callable), SubmitError> {
            target::resolve(modules, target)
        }

        fn invoke(self, callable: &Callable) -> Result<Payload, Problem>;
    }

    /// Why arguments do not become a payload.
    pub enum Problem {
        Signature(String),
        Encode(String),
    }
}

use sealed::{Problem, Sealed};

fn not_for_commands() -> Problem {
    Problem::Signature("a command takes a `Command`: use `submit_command`".into())
}

fn task(codec: Codec, input: Vec<u8>) -> Payload {
    Payload::Task { codec, input: input.into() }
}

fn check_count(given: usize, params: Option<&[Parameter]>) -> Result<(), Problem> {
    match params {
        Some(params) if params.len() != given => {
            let taken = scalar::count(params.len());
            Err(Problem::Signature(format!("it takes {taken}, got {given}")))
        }
        _ => Ok(()),
    }
}

fn invoke_tuple<A: Serialize>(
    arguments: &A,
    count: usize,
    callable: &Callable,
) -> Result<Payload, Problem> {
    match &callable.kind {
        CallableKind::Task { params, shapes, .. } => {
            let params = params.as_deref();
            check_count(count, params)?;
            let input =
                codec::to_bincode(arguments, &shapes.arguments).map_err(|unfit| match unfit {
                    Unfit::Refused(refused) => {
                        let names = params.unwrap_or_default().iter().map(|param| &*param.name);
                        Problem::Signature(refused.of_arguments(names))
                    }
                    Unfit::Unwritable(reason) => Problem::Encode(reason),
                })?;
            Ok(task(Codec::Bincode, input))
        }
        CallableKind::Scalar { params, .. } => {
            let args = scalar::encode(arguments, params).map_err(Problem::Signature)?;
            Ok(Payload::Scalars(args.into()))
        }
        CallableKind::Command => Err(not_for_commands()),
    }
}

macro_rules! tuples {
    ($($count:literal: $($name:ident)*;)*) => {$(
        impl<$($name: Serialize),*> Arguments for ($($name,)*) {}

        impl<$($name: Serialize),*> Sealed for ($($name,)*) {
            fn invoke(self, callable: &Callable) -> Result<Payload, Problem> {
                invoke_tuple(&self, $count, callable)
            }
        }
    )*};
}

tuples! {
    0: ;
    1: A;
    2: A B;
    3: A B C;
    4: A B C D;
    5: A B C D E;
    6: A B C D E F;
    7: A B C D E F G;
    8: A B C D E F G H;
}

impl Arguments for Bytes {}

impl Sealed for Bytes {
    fn invoke(self, callable: &Callable) -> Result<Payload, Problem> {
        match &callable.kind {
            CallableKind::Task { params, .. } => {
                check_count(1, params.as_deref())?;
                Ok(task(Codec::Raw, self.0))
            }
            CallableKind::Scalar { .. } => {
                Err(Problem::Signature("it takes numbers, not bytes".into()))
            }
            CallableKind::Command => Err(not_for_commands()),
        }
    }
}

impl Arguments for SharedBuffer {}

impl Sealed for SharedBuffer {
    /// Where bytes would be taken, it is lent instead.
    fn invoke(self, callable: &Callable) -> Result<Payload, Problem> {
        Bytes::default().invoke(callable)?;
        Ok(Payload::Buffer(Arc::new(BufferSlot::new(self))))
    }
}

impl Arguments for Json {}

impl Sealed for Json {
    fn invoke(self, callable: &Callable) -> Result<Payload, Problem> {
        match &callable.kind {
            CallableKind::Task { params, .. } => {
                if let Some(params) = params {
                    self.check(params).map_err(Problem::Signature)?;
                }
                Ok(task(Codec::Json, self.to_input()))
            }
            CallableKind::Scalar { params, .. } => {
                if let Some(name) = self.kwargs.keys().next() {
                    let problem = format!("its parameters have no names, so `{name}` fits none");
                    return Err(Problem::Signature(problem));
                }
                let texts = self.args.iter().map(String::as_str);
                let args = scalar::encode_json(texts, params).map_err(Problem::Signature)?;
                Ok(Payload::Scalars(args.into()))
            }
            CallableKind::Command => Err(not_for_commands()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::shape::Shape;
    use crate::call::target::Shapes;
    use serde_json::json;

    fn callable(params: &[&str]) -> Callable {
        callable_of(&params.iter().map(|name| (*name, "u8")).collect::<Vec<_>>())
    }

    fn callable_of(params: &[(&str, &str)]) -> Callable {
        let param = |(name, type_name): &(&str, &str)| Parameter {
            name: name.to_string(),
            type_name: type_name.to_string(),
        };
        let params: Vec<_> = params.iter().map(param).collect();
        let shapes = Shapes::of(&params, "u8");
        let kind = CallableKind::Task {
            export: "e".into(),
            params: Some(params),
            result: "u8".into(),
            shapes,
        };
        Callable { name: "f".into(), number: 0, kind }
    }

    fn problem(arguments: impl Arguments, params: &[&str]) -> Option<String> {
        match encode(arguments, &callable(params)) {
            Err(SubmitError::Signature { problem, .. }) => Some(problem),
            Err(other) => panic!("{other}"),
            Ok(_) => None,
        }
    }

    #[test]
    fn tuples_are_counted_against_the_manifest() {
        assert_eq!(problem((1, 2), &["a", "b"]), None);
        assert!(problem((1,), &["a", "b"]).is_some());
        assert!(problem((1, 2, 3), &["a", "b"]).is_some());
        assert_eq!(problem((), &[]), None);
    }

    #[test]
    fn json_by_name_is_checked_for_what_is_missing_unknown_or_twice() {
        let named = || Json::new().arg(json!(1)).named("b", json!(2));
        assert_eq!(problem(named(), &["a", "b"]), None);
        assert!(problem(named(), &["a", "b", "c"]).unwrap().contains("`c` is missing"));
        assert!(problem(named(), &["a"]).unwrap().contains("no parameter `b`"));
        // Misspelt, which says more than that the right one is missing.
        assert!(problem(named(), &["a", "bb"]).unwrap().contains("no parameter `b`"));
        assert!(problem(named(), &["b"]).unwrap().contains("by position and by name"));
        assert!(problem(Json::new().arg(json!(1)).arg(json!(2)), &["a"]).is_some());
    }

    #[test]
    fn json_text_reaches_the_guest_as_it_stands() {
        let input = |arguments: Json| match encode(arguments, &callable(&["a", "b"])).unwrap() {
            Payload::Task { input, .. } => String::from_utf8(input.into_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        for text in
            ["18446744073709551616", "-0", "1e400", "1.10", "{\"a\": 1,\n\"a\": 2}", "\"\\ud800\""]
        {
            let arguments = Json::new().arg_json(format!(" {text}\n")).unwrap();
            let arguments = arguments.named_json("b", text).unwrap();
            let expected = format!("{{\"args\":[{text}],\"kwargs\":{{\"b\":{text}}}}}");
            assert_eq!(input(arguments), expected);
        }
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let arguments = Json::new().arg_json(&*deep).unwrap().named("b", json!(null));
        assert!(input(arguments).contains(&deep));
        for text in ["", " ", "nul", "1 2", "01", "1,2", "1],\"kwargs\":{}", "NaN"] {
            assert!(Json::new().arg_json(text).is_err(), "{text}");
            assert!(Json::new().named_json("a", text).is_err(), "{text}");
        }
        let quoted = Json::new().named("a\"b", json!(1));
        assert_eq!(quoted.to_input(), br#"{"args":[],"kwargs":{"a\"b":1}}"#);
    }

    #[test]
    fn a_literal_reaches_the_guest_as_the_number_it_is() {
        let top_words = callable_of(&[("text", "String"), ("limit", "usize")]);
        let given = encode(("a b a", 1), &top_words).unwrap();
        assert_eq!(given, encode(("a b a", 1u64), &top_words).unwrap());
        let Payload::Task { input, .. } = given else { panic!("no task") };
        assert!(input.ends_with(&1u64.to_le_bytes()), "{input:?}");
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_place_and_its_type() {
        let params = [("text", "&str"), ("limit", "usize"), ("rows", "Vec<(u8, f32)>")];
        let problem =
            |arguments: (Value, Value, Value)| match encode(arguments, &callable_of(&params)) {
                Err(SubmitError::Signature { problem, .. }) => problem,
                other => panic!("{other:?}"),
            };
        assert_eq!(
            problem((json!("a"), json!("two"), json!([]))),
            "argument 2 `limit` takes a usize, got text"
        );
        assert_eq!(
            problem((json!("a"), json!(-1), json!([]))),
            "argument 2 `limit` takes a usize, got -1, which does not fit"
        );
        assert_eq!(
            problem((json!("a"), json!(1), json!([[1, 0.5], [256, 0.5]]))),
            "argument 3 `rows[1].0` takes a u8, got 256, which does not fit"
        );
        assert_eq!(
            problem((json!("a"), json!(1), json!([[1, 0.5, 2]]))),
            "argument 3 `rows[0]` takes a tuple of 2, got 3 elements"
        );
    }

    #[test]
    fn what_is_not_known_passes_unchanged() {
        let mut own = callable_of(&[("point", "Point")]);
        let expected = codec::to_bincode(&((1i32, "x"),), &Shape::Any).unwrap();
        for _ in 0..2 {
            match encode(((1i32, "x"),), &own).unwrap() {
                Payload::Task { input, .. } => assert_eq!(*input, expected),
                other => panic!("{other:?}"),
            }
            let shapes = Shapes::unknown();
            let (export, result) = ("e".into(), String::new());
            own.kind = CallableKind::Task { export, params: None, result, shapes };
        }
    }

    #[test]
    fn the_message_shows_the_signature() {
        let refused = encode((), &callable(&["text"])).unwrap_err().to_string();
        assert!(refused.contains("f(text: u8) -> u8"), "{refused}");
    }
}

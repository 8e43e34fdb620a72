//! Test vectors of the guest ABI: `tests/abi/vectors.jsonl`, read, and held against what a guest did.
//!
//! ```text
//! vectors.jsonl ─► Vector { function, codec, input, expected … } ─► whoever runs it ─► Ended ─► Vector::check
//! ```
//! Deliberately absent: how a vector is run. `docs/abi.md` says what the lines mean.

use serde_json::Value;
use stockade::Json;

const VECTORS: &str = include_str!("../abi/vectors.jsonl");

/// One call, and how it has to end.
#[derive(Clone, Debug)]
pub struct Vector {
    /// What it shows.
    pub name: String,
    /// The task.
    pub function: String,
    /// How the input is written.
    pub codec: VectorCodec,
    /// The input.
    pub input: Vec<u8>,
    /// The initializer that runs first, without arguments.
    pub initializer: Option<String>,
    expected: Expected,
    may_refuse: bool,
    emitted: Option<Vec<Content>>,
    log: Option<Vec<(u8, String)>>,
    progress: Option<(u64, u64)>,
}

/// How the input of a vector is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorCodec {
    /// As a task's input: bytes as they are.
    Raw,
    /// As a task's input.
    Bincode,
    /// As a task's input.
    Json,
    /// No task: a JSON list of numbers, for a function over scalars.
    Scalar,
}

/// What came of a call.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How it ended.
    pub end: End,
    /// What it emitted, where that is known.
    pub emitted: Option<Vec<Vec<u8>>>,
    /// Levels and texts.
    pub log: Vec<(u8, String)>,
    /// Done and total, if it said.
    pub progress: Option<(u64, u64)>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// With a result.
    Returned(Vec<u8>),
    /// With a text, and perhaps an error's form as JSON.
    Error(String, Option<String>),
    /// Its arguments were refused, by the guest or before it; with a text.
    BadArguments(String),
    /// With its text.
    Panicked(String),
    /// In any other way.
    Other(String),
}

#[derive(Clone, Debug)]
enum Expected {
    Output(Content),
    Error { message: String, data: Value },
    BadArguments,
    Panic(String),
}

/// Bytes, or JSON that may be written in several ways.
#[derive(Clone, Debug)]
enum Content {
    Bytes(Vec<u8>),
    Json(Value),
}

/// Every vector, in the order of the file.
///
/// # Panics
/// If a line is no vector.
pub fn vectors() -> Vec<Vector> {
    let lines = VECTORS.lines().filter(|line| !line.is_empty());
    lines.map(|line| Vector::read(line).unwrap_or_else(|| panic!("no vector: {line}"))).collect()
}

impl Vector {
    fn read(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let codec = match text("codec")?.as_str() {
            "raw" => VectorCodec::Raw,
            "bincode" => VectorCodec::Bincode,
            "json" => VectorCodec::Json,
            "scalar" => VectorCodec::Scalar,
            _ => return None,
        };
        let expected = match (value.get("output"), value.get("error"), value.get("panic")) {
            (Some(output), None, None) => Expected::Output(Content::read(output)?),
            (None, Some(error), None) => match error.get("status")?.as_i64()? {
                1 => Expected::Error {
                    message: error.get("message")?.as_str()?.to_owned(),
                    data: error.get("data")?.clone(),
                },
                2 => Expected::BadArguments,
                _ => return None,
            },
            (None, None, Some(panic)) => Expected::Panic(panic.as_str()?.to_owned()),
            _ => return None,
        };
        let list = |key: &str| value.get(key).and_then(Value::as_array);
        Some(Self {
            name: text("name")?,
            function: text("function")?,
            codec,
            input: Content::read(value.get("input")?)?.into_bytes(),
            initializer: text("initializer"),
            expected,
            may_refuse: value.get("may_refuse").is_some(),
            emitted: match list("emitted") {
                Some(items) => Some(items.iter().map(Content::read).collect::<Option<_>>()?),
                None => None,
            },
            log: match list("log") {
                Some(lines) => Some(lines.iter().map(log_line).collect::<Option<_>>()?),
                None => None,
            },
            progress: match list("progress").map(Vec::as_slice) {
                Some([done, total]) => Some((done.as_u64()?, total.as_u64()?)),
                Some(_) => return None,
                None => None,
            },
        })
    }

    /// The input as arguments by position and by name, where it is JSON of that form and written
    /// plainly.
    pub fn json_call(&self) -> Option<Json> {
        if self.codec != VectorCodec::Json {
            return None;
        }
        let call: Value = serde_json::from_slice(&self.input).ok()?;
        let members = call.as_object()?;
        let mut json = Json::new();
        for (name, value) in members {
            match (name.as_str(), value) {
                ("args", Value::Array(values)) => {
                    json = values.iter().cloned().fold(json, Json::arg);
                }
                ("kwargs", Value::Object(values)) => {
                    for (name, value) in values {
                        json = json.named(name, value.clone());
                    }
                }
                _ => return None,
            }
        }
        Some(json)
    }

    /// Says what of `ended` is not as it has to be.
    ///
    /// # Errors
    /// The difference, in words.
    pub fn check(&self, ended: &Ended) -> Result<(), String> {
        match (&self.expected, &ended.end) {
            (Expected::Output(wanted), End::Returned(bytes)) => {
                wanted.check("the result", bytes)?
            }
            (Expected::BadArguments, End::BadArguments(text)) if !text.is_empty() => {}
            (_, End::BadArguments(text)) if self.may_refuse && !text.is_empty() => {}
            (Expected::Panic(wanted), End::Panicked(text)) if text == wanted => {}
            (Expected::Error { message, data }, End::Error(text, form)) if text == message => {
                let form = form.as_deref().unwrap_or("");
                Content::Json(data.clone()).check("the error's form", form.as_bytes())?;
            }
            (wanted, end) => return Err(format!("expected {wanted:?}, it ended so: {end:?}")),
        }
        if let (Some(wanted), Some(items)) = (&self.emitted, &ended.emitted) {
            if wanted.len() != items.len() {
                return Err(format!("{} items where {} are due", items.len(), wanted.len()));
            }
            for (wanted, item) in wanted.iter().zip(items) {
                wanted.check("an item", item)?;
            }
        }
        match &self.log {
            Some(log) if *log != ended.log => return Err(format!("the log is {:?}", ended.log)),
            _ => {}
        }
        match self.progress {
            Some(_) if self.progress != ended.progress => {
                Err(format!("the progress is {:?}", ended.progress))
            }
            _ => Ok(()),
        }
    }
}

impl Content {
    fn read(value: &Value) -> Option<Self> {
        if let Some(text) = value.get("text") {
            return Some(Self::Bytes(text.as_str()?.into()));
        }
        if let Some(hex) = value.get("hex") {
            let times = value.get("times").map_or(Some(1), Value::as_u64)?;
            return Some(Self::Bytes(
                bytes_of(hex.as_str()?)?.repeat(usize::try_from(times).ok()?),
            ));
        }
        value.get("json").cloned().map(Self::Json)
    }

    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Json(value) => value.to_string().into_bytes(),
        }
    }

    fn check(&self, what: &str, bytes: &[u8]) -> Result<(), String> {
        let alike = match self {
            Self::Bytes(wanted) => wanted == bytes,
            Self::Json(wanted) => {
                serde_json::from_slice(bytes).is_ok_and(|value| same(wanted, &value))
            }
        };
        if alike {
            return Ok(());
        }
        const SHOWN_MAX: usize = 200;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_MAX)]).into_owned();
        Err(format!("{what} is {shown:?} of {} bytes", bytes.len()))
    }
}

fn log_line(line: &Value) -> Option<(u8, String)> {
    let level = line.get(0)?.as_u64()?;
    Some((u8::try_from(level).ok()?, line.get(1)?.as_str()?.to_owned()))
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Whether two JSON values say the same: `3` and `3.0` do, and so do floats whose texts were read
/// differently in the last place.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(one), Value::Number(other)) => {
            let close = |a: f64, b: f64| (a - b).abs() <= f64::EPSILON * a.abs();
            one == other
                || ((one.is_f64() || other.is_f64())
                    && one.as_f64().zip(other.as_f64()).is_some_and(|(a, b)| close(a, b)))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same(a, b))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, a)| other.get(name).is_some_and(|b| same(a, b)))
        }
        _ => left == right,
    }
}

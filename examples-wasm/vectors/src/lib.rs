//! The tasks of the ABI's test vectors, in Rust: `tests/abi/vectors.jsonl` calls them.
//!
//! Its one idea: the folders `c-vectors`, `zig-vectors`, `go-vectors` and `assemblyscript-vectors`
//! next to it hold the same tasks under the same names, so that SDKs can be compared line by line.
//!
//! ```text
//! stockade run vectors.wasm add 2 40
//! stockade run vectors.wasm summarize '{"name": "depths", "values": [1, 2.5, -3]}'
//! stockade run vectors.wasm loaded
//! ```
#![deny(unsafe_code)]

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use stockade_guest::serde::{Deserialize, Serialize};
use stockade_guest::{
    Bytes, EmitError, emit, finalizer, info, initializer, progress, remaining, task, task_id,
};

static LOADED: AtomicI64 = AtomicI64::new(0);

/// Named measurements.
#[derive(Deserialize)]
#[serde(crate = "stockade_guest::serde")]
struct Series {
    name: String,
    values: Vec<f64>,
}

/// What is to be said of some measurements.
#[derive(Serialize)]
#[serde(crate = "stockade_guest::serde")]
struct Summary {
    name: String,
    count: u64,
    sum: f64,
    largest: Option<f64>,
}

/// A failure that a caller can match on.
#[derive(Serialize)]
#[serde(crate = "stockade_guest::serde")]
struct Failed {
    code: i64,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed with code {}", self.code)
    }
}

/// Gives back what it is given.
#[task]
fn echo(data: Bytes) -> Bytes {
    data
}

/// Adds two numbers.
#[task]
fn add(a: i64, b: i64) -> i64 {
    a.wrapping_add(b)
}

/// The negative of a number, if that is really meant.
#[task]
fn negate(x: f64, really: bool) -> f64 {
    if really { -x } else { x }
}

/// Greets somebody.
#[task]
fn greet(name: String) -> String {
    format!("Hello, {name}!")
}

/// Sums up a series.
#[task]
fn summarize(series: Series) -> Summary {
    let Series { name, values } = series;
    let largest = values.iter().copied().reduce(f64::max);
    Summary { name, count: values.len() as u64, sum: values.iter().sum::<f64>() + 0.0, largest }
}

/// Fails.
#[task]
fn fail(code: i64) -> Result<(), Failed> {
    Err(Failed { code })
}

/// Panics.
#[task]
fn panic(message: String) {
    panic!("{message}")
}

/// Emits, logs and tells its progress as often as it is told to.
#[task]
fn tell(count: i64) -> Result<i64, EmitError> {
    for item in 0..count {
        emit(&item)?;
        info!("item {item}");
        progress(item.unsigned_abs() + 1, count.unsigned_abs());
    }
    Ok(count)
}

/// Does nothing.
#[task]
fn nothing() {}

/// Whether this is a numbered task with a deadline.
#[task]
fn hosted() -> bool {
    task_id() > 0 && remaining().is_some_and(|time| !time.is_zero())
}

/// What the initializer loaded.
#[task]
fn loaded() -> i64 {
    LOADED.load(Ordering::Relaxed)
}

/// Keeps a number for every task.
#[initializer]
fn load() {
    LOADED.store(41, Ordering::Relaxed);
}

/// Forgets it.
#[finalizer]
fn unload() {
    LOADED.store(0, Ordering::Relaxed);
}

/// Half of a number: numbers need no SDK.
#[allow(unsafe_code)] // An export's name is the author's promise; this one meets no other symbol.
#[unsafe(no_mangle)]
pub extern "C" fn half(x: f64) -> f64 {
    x / 2.0
}

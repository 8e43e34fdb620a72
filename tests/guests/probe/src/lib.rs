//! A guest that tries things and tells how they went: what Rust guests do through the SDK and the
//! standard library, seen from inside. For tests only.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use stockade_guest::serde::{Deserialize, Serialize};
use stockade_guest::{Bytes, emit, info, task};

static COUNTER: AtomicU64 = AtomicU64::new(0);
static WORDS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A value with a bit of everything that serde knows.
#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "stockade_guest::serde")]
struct Everything {
    number: i64,
    ratio: f64,
    text: String,
    maybe: Option<bool>,
    list: Vec<u16>,
    by_name: HashMap<String, (u8, char)>,
    choice: Choice,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "stockade_guest::serde")]
enum Choice {
    Nothing,
    One(u32),
    Named { left: String, right: Vec<Choice> },
}

/// Gives back what it was given.
#[task]
fn same(value: Everything) -> Everything {
    value
}

/// Gives back bytes as they are.
#[task]
fn same_bytes(bytes: Bytes) -> Bytes {
    bytes
}

/// A row of a table.
#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "stockade_guest::serde")]
struct Row {
    id: u64,
    name: String,
}

/// Gives back a row.
#[task]
fn same_row(row: Row) -> Row {
    row
}

/// Gives back numbers that JSON seldom has.
#[task]
fn same_wide(natural: u128, whole: Option<i128>) -> (u128, Option<i128>) {
    (natural, whole)
}

/// Gives back any value, as far as a parser without types knows it.
#[task]
fn same_value(value: serde_json::Value) -> serde_json::Value {
    value
}

/// Gives back the very text of a value, as a result and as an item.
#[task]
fn same_text(value: Box<serde_json::value::RawValue>) -> Box<serde_json::value::RawValue> {
    // Nobody may be there to take it.
    let _ = emit(&value);
    value
}

/// Turns every bit around.
#[task]
fn invert(pixels: &mut [u8]) {
    for pixel in pixels {
        *pixel = !*pixel;
    }
}

/// Turns every bit around, unless the first is set already.
#[task]
fn invert_once(pixels: &mut [u8]) -> Result<(), String> {
    if pixels.first().is_some_and(|first| first & 0x80 != 0) {
        return Err("it is inverted".to_owned());
    }
    invert(pixels);
    Ok(())
}

/// Adds bytes up.
#[task]
fn sum_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

/// Puts a greeting together.
#[task]
fn greet(name: String, times: u32, mark: Option<char>) -> String {
    let mark = mark.unwrap_or('!');
    vec![format!("hello {name}{mark}"); times as usize].join(" ")
}

/// Takes parameters that have names of other things, and gives them back.
#[task]
fn collide(
    target: String,
    self_: u32,
    timeout: f64,
    args: Vec<u32>,
    kwargs: HashMap<String, u32>,
    input: bool,
) -> (String, u32, f64, Vec<u32>, HashMap<String, u32>, bool) {
    (target, self_, timeout, args, kwargs, input)
}

/// An error that callers can match on.
#[derive(Debug, Serialize)]
#[serde(crate = "stockade_guest::serde")]
enum Trouble {
    Code(u32),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Code(code) = self;
        write!(f, "trouble number {code}")
    }
}

/// Fails.
#[task]
fn fail(code: u32) -> Result<(), Trouble> {
    Err(Trouble::Code(code))
}

/// Panics.
#[task]
fn panic_with(message: String) {
    panic!("{message}")
}

/// Calls itself until the stack ends.
#[task]
fn recurse(depth: u64) -> u64 {
    if depth == u64::MAX { 0 } else { recurse(depth + 1).wrapping_mul(3).wrapping_add(depth) }
}

/// Has a vector of so many bytes, and touches each page of it.
#[task]
fn allocate(bytes: usize) -> usize {
    let mut memory = vec![0u8; bytes];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    memory.iter().map(|byte| usize::from(*byte)).sum()
}

/// Has more and more memory.
#[task]
fn allocate_for_ever() -> usize {
    let mut kept = Vec::new();
    loop {
        kept.push(vec![1u8; 1 << 20]);
    }
}

/// Emits numbers, and returns how many.
#[task]
fn stream(items: u32) -> Result<u32, String> {
    for item in 0..items {
        emit(&item).map_err(|error| error.to_string())?;
    }
    Ok(items)
}

/// Prints and logs.
#[task]
#[allow(clippy::print_stdout, clippy::print_stderr)]
fn say(text: String) {
    println!("{text}");
    eprintln!("{text}?");
    info!("{text}!");
}

/// Counts its calls, from what an initializer left.
#[task]
fn count() -> u64 {
    COUNTER.fetch_add(1, Ordering::Relaxed) + 1
}

/// For an initializer: fills memory that grows.
#[task]
fn remember(words: Vec<String>, counter: u64) -> Result<(), String> {
    if words.is_empty() {
        return Err("nothing to remember".into());
    }
    COUNTER.store(counter, Ordering::Relaxed);
    WORDS.lock().map_err(|_| "poisoned")?.extend(words);
    Ok(())
}

/// What was remembered.
#[task]
fn remembered() -> Vec<String> {
    WORDS.lock().map(|words| words.clone()).unwrap_or_default()
}

/// Arguments and environment.
#[task]
fn surroundings() -> (Vec<String>, Vec<(String, String)>) {
    (std::env::args().collect(), std::env::vars().collect())
}

/// Reads a file.
#[task]
fn read(path: String) -> Result<String, String> {
    fs::read_to_string(path).map_err(told)
}

/// Names in a directory, sorted.
#[task]
fn list(path: String) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(path).map_err(told)?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(told)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Tries to change something: `what` is the call to try, `path` where, `other` what else it needs.
#[task]
fn change(what: String, path: String, other: String) -> Result<(), String> {
    let done = match what.as_str() {
        "create" => fs::OpenOptions::new().write(true).create_new(true).open(path).map(drop),
        "write" => fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, other.as_bytes())),
        "append" => fs::OpenOptions::new()
            .append(true)
            .open(path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, other.as_bytes())),
        "truncate" => fs::OpenOptions::new().write(true).truncate(true).open(path).map(drop),
        "set_len" => fs::OpenOptions::new().read(true).open(path).and_then(|file| file.set_len(0)),
        "remove" => fs::remove_file(path),
        "rename" => fs::rename(path, other),
        "link" => fs::hard_link(path, other),
        "mkdir" => fs::create_dir(path),
        "rmdir" => fs::remove_dir(path),
        unknown => return Err(format!("no such change: {unknown}")),
    };
    done.map_err(told)
}

fn told(error: std::io::Error) -> String {
    format!("{:?}", error.kind())
}

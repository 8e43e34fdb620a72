//! Sources: the kind of a module's file, and its binary form.

use std::borrow::Cow;

use stockade_wire::{Refusal, RefusalKind};

use crate::refusal;

const MAGIC: &[u8] = b"\0asm";
const MODULE_VERSION: [u8; 4] = [1, 0, 0, 0];
/// The version field of any component: its layer is 1.
const COMPONENT_LAYER: [u8; 2] = [1, 0];

/// Formats that are passed by mistake, by their first bytes.
const FORMATS: &[(&[u8], &str)] = &[
    (b"\x7fELF", "an ELF program or library for this machine, or an artefact compiled before"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"MZ", "a Windows program"),
    (b"\xcf\xfa\xed\xfe", "a macOS program"),
    (b"\xfe\xed\xfa\xcf", "a macOS program"),
    (b"\xca\xfe\xba\xbe", "a Java class or a macOS program"),
    (b"!<arch>\n", "a static library"),
    (b"BC\xc0\xde", "LLVM bitcode"),
    (b"%PDF", "a PDF document"),
    (b"#!", "a script"),
    (b"\x89PNG", "an image"),
];

/// The binary form of the module in `bytes`, which may be text if `text` is true.
///
/// # Errors
/// A refusal that names the likely format of the bytes, or the place of the syntax error.
pub fn binary(bytes: &[u8], text: bool) -> Result<Cow<'_, [u8]>, Refusal> {
    if let Some(rest) = bytes.strip_prefix(MAGIC) {
        check_version(rest)?;
        return Ok(Cow::Borrowed(bytes));
    }
    match text_module(bytes) {
        Some(module) if text => parse(module),
        Some(_) => {
            Err(not_wasm("it looks like a module in the text format, which is not accepted here"))
        }
        None => Err(not_wasm(&looks_like(bytes))),
    }
}

fn check_version(rest: &[u8]) -> Result<(), Refusal> {
    let Some((version, _)) = rest.split_first_chunk::<4>() else {
        return Err(refusal(
            RefusalKind::Malformed,
            "the module is truncated within its first 8 bytes",
        ));
    };
    if *version == MODULE_VERSION {
        Ok(())
    } else if version[2..] == COMPONENT_LAYER {
        let message = "it is a component, but a core module for wasm32-wasip1 is needed";
        Err(refusal(RefusalKind::Component, message))
    } else {
        let version = u32::from_le_bytes(*version);
        Err(refusal(RefusalKind::Malformed, &format!("unknown WebAssembly version {version}")))
    }
}

/// `bytes` as text, if the first thing in it that counts is a parenthesis.
fn text_module(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    loop {
        if let Some(comment) = rest.strip_prefix(";;") {
            rest = comment.split_once('\n')?.1.trim_start();
        } else if let Some(comment) = rest.strip_prefix("(;") {
            rest = comment.split_once(";)")?.1.trim_start();
        } else {
            return rest.starts_with('(').then_some(text);
        }
    }
}

fn parse(text: &str) -> Result<Cow<'_, [u8]>, Refusal> {
    let binary = wat::parse_str(text)
        .map_err(|error| refusal(RefusalKind::Malformed, &parse_error(&error.to_string())))?;
    // A component can be written in text as well.
    check_version(binary.strip_prefix(MAGIC).unwrap_or_default())?;
    Ok(Cow::Owned(binary))
}

/// One line for a parser's report: what is wrong, then where. The parser gives line and column in
/// its second line, after the name of a file that has none here, and then quotes the source.
fn parse_error(report: &str) -> String {
    let what = report.lines().next().unwrap_or("it does not parse");
    let place = report.lines().find_map(|line| line.trim().strip_prefix("--> <anon>:"));
    match place.and_then(|place| place.split_once(':')) {
        Some((line, column)) => {
            format!("the text does not parse: {what}, at line {line}, column {column}")
        }
        None => format!("the text does not parse: {what}"),
    }
}

fn looks_like(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "it is empty".into();
    }
    if bytes.len() < MAGIC.len() && MAGIC.starts_with(bytes) {
        return "it is truncated within its first 4 bytes".into();
    }
    if let Some((_, name)) = FORMATS.iter().find(|(start, _)| bytes.starts_with(start)) {
        return format!("it looks like {name}");
    }
    let start = &bytes[..bytes.len().min(256)];
    let is_text = match std::str::from_utf8(start) {
        Ok(text) => text.chars().all(|c| !c.is_control() || c.is_whitespace()),
        Err(_) => false,
    };
    if is_text {
        return "it looks like text, but not like a module's text format".into();
    }
    let start: Vec<String> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("it begins with {}, but a module begins with 00 61 73 6d", start.join(" "))
}

fn not_wasm(why: &str) -> Refusal {
    refusal(RefusalKind::NotWasm, &format!("not a WebAssembly module: {why}"))
}

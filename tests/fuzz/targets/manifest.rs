//! Manifests, in a module that has some of what they claim.
//!
//! Input: how many sections, then their bytes. Whatever is claimed, what is told is bounded and
//! borne out by the module.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use stockade_fuzz::allocations::within;
use stockade_fuzz::modules::{SETTINGS, check};

/// The custom section's name.
const SECTION: &[u8] = b"stockade.tasks";

/// What the values of a line in JSON may take for each of its bytes, and the module besides them.
const EXPANSION_MAX: usize = 256;

const BASE_BYTES: usize = 256 << 10;

static MODULE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    wat::parse_str(
        r#"(module
            (func $f (export "a") (export "b") (export "\n\1b[2J") (result i32) (i32.const 0))
            (func (export "wrong") (param i32))
            (memory (export "memory") 1))"#,
    )
    .expect("a module")
});

fuzz_target!(|bytes: &[u8]| {
    let Some((&sections, bytes)) = bytes.split_first() else { return };
    let sections = usize::from(sections % 4) + 1;
    let mut module = MODULE.clone();
    for section in bytes.chunks(bytes.len().div_ceil(sections).max(1)) {
        append(&mut module, section);
    }
    let answer = within(BASE_BYTES + EXPANSION_MAX * bytes.len(), || {
        stockade_module::admit(&module, &SETTINGS)
    });
    check(&answer);
});

/// Appends a custom section: its number, its length, its name's length, its name, what it holds.
fn append(module: &mut Vec<u8>, contents: &[u8]) {
    module.push(0);
    leb128(module, 1 + SECTION.len() + contents.len());
    leb128(module, SECTION.len());
    module.extend_from_slice(SECTION);
    module.extend_from_slice(contents);
}

fn leb128(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

//! The guests that are measured, in the text format, as tasks of the guest ABI.
//!
//! | guest | what one task of it does |
//! |---|---|
//! | [`realistic`] | what a small compiled program does: see there |
//! | [`counting`] | the same, with a number in JSON as its result |
//! | [`growing`] | the same, in memory that it grows first, as an allocator does |
//! | [`interpreter`] | what an interpreter does to its memory: see there |
//! | [`NOOP`] | nothing, in an instance of almost nothing |
//! | [`COMPUTE`] | computes for so many rounds, and touches no memory |
//! | [`NUMBERS`] | makes a number of another, in a few instructions |
//! | [`ECHO`] | holds the whole of its input in its memory, and gives it back, or changes some of it |

use std::fmt::Write;
use std::path::PathBuf;

/// The bytes of [`realistic`]'s input, and of its result.
pub const PAYLOAD_BYTES: usize = 64;

/// What [`counting`] gives back, in eight digits.
pub const COUNTED: u64 = 12_345_678;

/// Where the data of [`realistic`] begin, behind its stack, and their length.
const DATA_AT: usize = 64 << 10;
const DATA_BYTES: usize = 1 << 20;

/// Pages of its data that a task of [`realistic`] writes, and as many others that it reads.
const PAGES_TOUCHED: usize = 4;

/// Functions in its table, besides a null entry at each end.
const TABLE_FUNCTIONS: usize = 60;

/// A task that does nothing.
pub const NOOP: &str = r#"(module
  (import "stockade" "input_len" (func (result i32)))
  (memory (export "memory") 1)
  (func (export "noop") (result i32) (i32.const 0)))"#;

/// A function of a number of rounds. A round is three shifts, three exclusive ors and a branch.
pub const COMPUTE: &str = r#"(module
  (func (export "compute") (param $rounds i32) (result i64) (local $x i64)
    (local.set $x (i64.const 88172645463325252))
    (loop $again
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
      (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
      (br_if $again (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
    (local.get $x)))"#;

/// A function from one number to another, of one round as in [`COMPUTE`].
pub const NUMBERS: &str = r#"(module
  (func (export "next") (param $x i64) (result i64)
    (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
    (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
    (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17)))))"#;

/// A task whose result is its input, which it has the host put behind its first page if it can, and
/// reads there otherwise; and one that changes the first byte of each of the system's pages of it.
pub const ECHO: &str = r#"(module
  (import "stockade" "input_len" (func $input_len (result i32)))
  (import "stockade" "input_map" (func $input_map (param i32 i32) (result i32)))
  (import "stockade" "input_read" (func $input_read (param i32 i32 i32)))
  (import "stockade" "output_write" (func $output_write (param i32 i32)))
  (memory (export "memory") 1)
  (func $take (result i32) (local $bytes i32) (local $room i32)
    (local.set $bytes (call $input_len))
    (local.set $room (i32.and (i32.const -65536) (i32.add (i32.const 65535) (local.get $bytes))))
    (drop (memory.grow (i32.shr_u (local.get $room) (i32.const 16))))
    (if (i32.eqz (call $input_map (i32.const 65536) (local.get $room))) (then
      (call $input_read (i32.const 65536) (i32.const 0) (local.get $bytes))))
    (local.get $bytes))
  (func (export "echo") (result i32)
    (call $output_write (i32.const 65536) (call $take))
    (i32.const 0))
  (func (export "touch") (result i32) (local $bytes i32) (local $end i32) (local $at i32)
    (local.set $bytes (call $take))
    (local.set $at (i32.const 65536))
    (local.set $end (i32.add (local.get $at) (local.get $bytes)))
    (loop $again
      (i32.store8 (local.get $at) (i32.add (i32.const 1) (i32.load8_u (local.get $at))))
      (br_if $again (i32.lt_u
        (local.tee $at (i32.add (local.get $at) (i32.const 4096))) (local.get $end))))
    (call $output_write (i32.const 65536) (local.get $bytes))
    (i32.const 0)))"#;

/// The memory of [`interpreter`], in pages of WebAssembly, where its data begin, and their length: about
/// those of CPython 3.12 for WASI.
const INTERPRETER_PAGES: usize = 416;
const INTERPRETER_DATA_AT: usize = 1 << 20;
const INTERPRETER_DATA_BYTES: usize = 5 << 20;

/// Functions in its table.
const INTERPRETER_FUNCTIONS: usize = 8_000;

/// Pages of the system that one of its tasks writes: each fifth.
const INTERPRETER_PAGES_WRITTEN: usize = 1_000;

/// What of WASI [`realistic`] imports, as a C library does, and never calls.
const WASI: [(&str, &str, &str); 14] = [
    ("fd_write", "i32 i32 i32 i32", "(result i32)"),
    ("fd_read", "i32 i32 i32 i32", "(result i32)"),
    ("fd_close", "i32", "(result i32)"),
    ("fd_seek", "i32 i64 i32 i32", "(result i32)"),
    ("fd_fdstat_get", "i32 i32", "(result i32)"),
    ("fd_prestat_get", "i32 i32", "(result i32)"),
    ("fd_prestat_dir_name", "i32 i32 i32", "(result i32)"),
    ("environ_get", "i32 i32", "(result i32)"),
    ("environ_sizes_get", "i32 i32", "(result i32)"),
    ("args_get", "i32 i32", "(result i32)"),
    ("args_sizes_get", "i32 i32", "(result i32)"),
    ("clock_time_get", "i32 i64 i32", "(result i32)"),
    ("random_get", "i32 i32", "(result i32)"),
    ("proc_exit", "i32", ""),
];

/// What `handle` does after it has touched its data: hashes its input, calls through the table, and
/// gives back 64 bytes made of the hash, written to the first page of its heap.
const HANDLE: &str = r"
    (call $input_read (i32.const 1024) (i32.const 0) (call $input_len))
    (local.set $end (i32.add (i32.const 1024) (call $input_len)))
    (local.set $at (i32.const 1024))
    (loop $hash
      (local.set $h (i64.mul (i64.const 0x100000001b3)
        (i64.xor (local.get $h) (i64.load8_u (local.get $at)))))
      (br_if $hash (i32.lt_u
        (local.tee $at (i32.add (local.get $at) (i32.const 1))) (local.get $end))))
    (local.set $h (i64.add (local.get $h) (i64.extend_i32_u
      (call_indirect (type $mix) (i32.wrap_i64 (local.get $h)) (i32.const 5)))))
    (local.set $at (global.get $heap))
    (local.set $end (i32.add (local.get $at) (i32.const 64)))
    (loop $fill
      (i64.store (local.get $at) (local.get $h))
      (local.set $h (i64.mul (local.get $h) (i64.const 6364136223846793005)))
      (br_if $fill (i32.lt_u
        (local.tee $at (i32.add (local.get $at) (i32.const 8))) (local.get $end))))
    (call $output_write (global.get $heap) (i32.const 64))
    (global.set $stack (i32.add (global.get $stack) (i32.const 256)))
    (i32.const 0))
";

/// The guest that stands for real ones: a memory of 18 pages, a stack, 1 MiB of data that are not zero,
/// a heap; 14 imports of WASI; a table of 62 functions. Its task `handle` takes and gives
/// [`PAYLOAD_BYTES`], writes four pages of its data, one of its stack and one of its heap, reads four
/// others, and hashes its input.
pub fn realistic() -> String {
    let mut wat = String::with_capacity(4 << 20);
    // Writing to a string cannot fail.
    let _ = write_realistic(&mut wat);
    wat
}

/// As [`realistic`], and in each task it grows its memory by two pages of WebAssembly and writes four of
/// the system's there, as the allocators of Rust and Go do.
pub fn growing() -> String {
    const BEGIN: &str = "(call $input_read (i32.const 1024)";
    let grown_at = DATA_AT + DATA_BYTES + (64 << 10);
    let mut growth = String::from("(drop (memory.grow (i32.const 2)))");
    for page in 0..4 {
        growth += &format!("(i64.store (i32.const {}) (i64.const 9))", grown_at + page * 8192);
    }
    realistic().replacen(BEGIN, &(growth + BEGIN), 1)
}

/// As [`realistic`], for callers that write JSON: it gives back the number [`COUNTED`].
pub fn counting() -> String {
    const END: &str = "(call $output_write (global.get $heap) (i32.const 64))";
    let digits =
        u64::from_le_bytes(COUNTED.to_string().into_bytes().try_into().unwrap_or([b'1'; 8]));
    let written = format!(
        "(i64.store (global.get $heap) (i64.const {digits}))
         (call $output_write (global.get $heap) (i32.const 8))"
    );
    realistic().replacen(END, &written, 1)
}

/// A guest as large as an interpreter. Its task `handle` writes a number to each of 1,000 pages that lie
/// apart from each other in 26 MiB of memory, 5 MiB of which hold data, and gives back
/// [`PAYLOAD_BYTES`].
pub fn interpreter() -> String {
    let mut wat = String::with_capacity(20 << 20);
    // Writing to a string cannot fail.
    let _ = write_interpreter(&mut wat);
    wat
}

fn write_interpreter(wat: &mut String) -> std::fmt::Result {
    let (pages, functions) = (INTERPRETER_PAGES, INTERPRETER_FUNCTIONS);
    let end = INTERPRETER_PAGES_WRITTEN * 5 * 4096;
    writeln!(
        wat,
        r#"(module
        (import "stockade" "input_len" (func $input_len (result i32)))
        (import "stockade" "input_read" (func $input_read (param i32 i32 i32)))
        (import "stockade" "output_write" (func $output_write (param i32 i32)))
        (memory (export "memory") {pages})
        (table {functions} funcref)
        (func (export "handle") (result i32) (local $at i32)
          (call $input_read (i32.const 1024) (i32.const 0) (call $input_len))
          (loop $again
            (i64.store (local.get $at) (i64.const 42))
            (br_if $again (i32.lt_u
              (local.tee $at (i32.add (local.get $at) (i32.const 20480))) (i32.const {end}))))
          (call $output_write (i32.const 1024) (i32.const {PAYLOAD_BYTES}))
          (i32.const 0))
        (func $entry (param i32) (result i32) (i32.mul (local.get 0) (i32.const 3)))"#
    )?;
    writeln!(wat, "(elem (i32.const 0) {})", "$entry ".repeat(functions))?;
    write!(wat, "(data (i32.const {INTERPRETER_DATA_AT}) \"")?;
    write_noise(wat, INTERPRETER_DATA_BYTES)?;
    writeln!(wat, "\"))")
}

/// The guest whose fresh instances are asked for by `name`.
pub fn named(name: &str) -> Option<String> {
    Some(match name {
        "fresh" => realistic(),
        "growing" => growing(),
        "interpreter" => interpreter(),
        _ => return None,
    })
}

/// The script that QuickJS evaluates for the question `name`.
pub fn script(name: &str) -> Option<&'static str> {
    Some(match name {
        "script" => {
            "let words = 'the cat and the dog and the bird'.split(' '), count = {};
             for (const word of words) count[word] = (count[word] ?? 0) + 1;
             console.log(JSON.stringify(Object.entries(count).sort((a, b) => b[1] - a[1])));"
        }
        "empty" => "",
        _ => return None,
    })
}

/// The file of QuickJS, in the target folder next to the program that asks: `just languages` makes it.
///
/// # Errors
/// If this program has no path.
pub fn quickjs() -> std::io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).unwrap_or(&program);
    Ok(target.join("languages/guests/javascript.wasm"))
}

/// Bytes of which none is zero.
fn write_noise(wat: &mut String, bytes: usize) -> std::fmt::Result {
    let mut state = 0x1234_5678_u32;
    for _ in 0..bytes {
        // Marsaglia's xorshift. An odd byte is never zero.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        write!(wat, "\\{:02x}", (state >> 8) as u8 | 1)?;
    }
    Ok(())
}

fn write_realistic(wat: &mut String) -> std::fmt::Result {
    writeln!(wat, "(module (type $mix (func (param i32) (result i32)))")?;
    writeln!(wat, r#"(import "stockade" "input_len" (func $input_len (result i32)))"#)?;
    writeln!(wat, r#"(import "stockade" "input_read" (func $input_read (param i32 i32 i32)))"#)?;
    writeln!(wat, r#"(import "stockade" "output_write" (func $output_write (param i32 i32)))"#)?;
    for (name, params, result) in WASI {
        let module = "wasi_snapshot_preview1";
        writeln!(wat, r#"(import "{module}" "{name}" (func (param {params}) {result}))"#)?;
    }
    let heap = DATA_AT + DATA_BYTES;
    writeln!(wat, r#"(memory (export "memory") 18)"#)?;
    writeln!(wat, "(table {} funcref)", TABLE_FUNCTIONS + 2)?;
    writeln!(wat, "(global $stack (mut i32) (i32.const {DATA_AT}))")?;
    writeln!(wat, "(global $heap (mut i32) (i32.const {heap}))")?;
    for index in 0..TABLE_FUNCTIONS {
        let (factor, summand) = (2 * index + 3, 7 * index + 1);
        writeln!(
            wat,
            "(func $mix{index} (type $mix) (i32.add (i32.const {summand})
               (i32.mul (local.get 0) (i32.const {factor}))))"
        )?;
    }
    write!(wat, "(elem (i32.const 1)")?;
    for index in 0..TABLE_FUNCTIONS {
        write!(wat, " $mix{index}")?;
    }
    writeln!(wat, ")")?;
    writeln!(wat, r#"(func (export "handle") (result i32) (local $h i64) (local $at i32)"#)?;
    writeln!(wat, "  (local $end i32) (local.set $h (i64.const 0xcbf29ce484222325))")?;
    writeln!(wat, "  (global.set $stack (i32.sub (global.get $stack) (i32.const 256)))")?;
    writeln!(wat, "  (i64.store (global.get $stack) (i64.const 42))")?;
    for page in 0..PAGES_TOUCHED {
        let (written, read) = (DATA_AT + page * 4096, DATA_AT + DATA_BYTES / 2 + page * 4096);
        writeln!(
            wat,
            "(i64.store (i32.const {written}) (i64.add (i64.const 1) (i64.load (i32.const {written}))))
             (local.set $h (i64.xor (local.get $h) (i64.load (i32.const {read}))))"
        )?;
    }
    wat.push_str(HANDLE);
    write!(wat, "(data (i32.const {DATA_AT}) \"")?;
    write_noise(wat, DATA_BYTES)?;
    writeln!(wat, "\"))")
}

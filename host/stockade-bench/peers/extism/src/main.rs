//! extism in this process: each task in a fresh plugin of a module that was compiled once.
//!
//! `peer-extism` answers on stdin and stdout: `ready 0`, and `cpu N`: processor time of each of N tasks,
//! in microseconds. The guest has 18 pages and 1 MiB of data and takes and gives 64 bytes, as the one
//! that Stockade is measured with, in the terms of extism's own interface.

#[path = "../../../reference/src/serve.rs"]
mod serve;

use std::error::Error;
use std::fmt::Write;

use extism::{CompiledPlugin, Manifest, Plugin, PluginBuilder, Wasm};

const PAYLOAD_BYTES: usize = 64;
const DATA_BYTES: u32 = 1 << 20;

/// Hashes its input eight bytes at a time into its output, and writes to two pages of its data.
const GUEST: &str = r#"(module
  (import "extism:host/env" "input_load_u64" (func $input (param i64) (result i64)))
  (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
  (import "extism:host/env" "store_u64" (func $store (param i64 i64)))
  (import "extism:host/env" "output_set" (func $output (param i64 i64)))
  (memory (export "memory") 18)
  (func (export "handle") (result i32) (local $to i64) (local $at i64) (local $h i64)
    (local.set $to (call $alloc (i64.const 64)))
    (local.set $h (i64.const 0xcbf29ce484222325))
    (loop $again
      (local.set $h (i64.mul (i64.const 0x100000001b3)
        (i64.xor (local.get $h) (call $input (local.get $at)))))
      (call $store (i64.add (local.get $to) (local.get $at)) (local.get $h))
      (i64.store (i32.add (i32.const 65536)
        (i32.mul (i32.wrap_i64 (local.get $at)) (i32.const 128))) (local.get $h))
      (br_if $again (i64.lt_u
        (local.tee $at (i64.add (local.get $at) (i64.const 8))) (i64.const 64))))
    (call $output (local.get $to) (i64.const 64))
    (i32.const 0))
  (data (i32.const 65536) "#;

fn main() -> Result<(), Box<dyn Error>> {
    let mut guest = format!("{GUEST}\"");
    for index in 0..DATA_BYTES {
        write!(guest, "\\{:02x}", index.wrapping_mul(2_654_435_761) >> 24 | 1)?;
    }
    guest.push_str("\"))");
    let manifest = Manifest::new([Wasm::data(guest.into_bytes())]);
    let compiled = CompiledPlugin::new(PluginBuilder::new(manifest).with_wasi(true))?;
    serve::serve(|question, amount| match question {
        "ready" => cpu_micros(&compiled, 10),
        "cpu" => cpu_micros(&compiled, amount as u32),
        _ => Err(format!("no question is called {question}").into()),
    })?;
    Ok(())
}

fn cpu_micros(compiled: &CompiledPlugin, tasks: u32) -> Result<f64, Box<dyn Error>> {
    let before = cpu_nanos()?;
    for _ in 0..tasks {
        let mut plugin = Plugin::new_from_compiled(compiled)?;
        let output = plugin.call::<&[u8], Vec<u8>>("handle", &[7; PAYLOAD_BYTES])?;
        if output.len() != PAYLOAD_BYTES {
            return Err("the guest gave something else".into());
        }
    }
    Ok((cpu_nanos()? - before) / 1000.0 / f64::from(tasks))
}

/// Processor time of all threads of this process.
fn cpu_nanos() -> Result<f64, Box<dyn Error>> {
    let mut nanos = 0.0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let times = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += times.split(' ').next().ok_or("no times are told")?.parse::<f64>()?;
    }
    Ok(nanos)
}

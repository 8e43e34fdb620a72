//! Comparisons: a worker's instance that was reset, compared with one that the engine makes by itself, byte for
//! byte.
//!
//! ```text
//! module ─► Alone: fresh ── compare ─► calls ─► reset ── compare ─► calls ─► reset ── compare
//!                              └ the engine alone: memories, globals, tables ┘
//! ```
//!
//! What a module does not export cannot be compared; those that import nothing export everything.

use std::time::Duration;

use stockade::{ExportType, Features, ValueType};
use stockade_tests::Random;
use stockade_wire::{
    Call, Codec, CommandCall, Failure, Finished, Invocation, Limits, Outcome, Scalar, Stdin,
    StdioSink,
};
use stockade_worker::Alone;

use crate::make::Made;
use crate::tally::Tally;
use crate::trial::ENGINE_BUG;
use crate::{MEMORY_BYTES, TABLE_ELEMENTS};

/// What one call may take; at that it traps.
const WALL_TIME: Duration = Duration::from_millis(100);

/// The most functions of one module that are called in a round.
const CALLS_MAX: usize = 8;

/// Rounds of calls: in the second, pages are hot that were cold in the first.
const ROUNDS: usize = 2;

/// How often a comparison is tried: on a busy machine a start function may not be run within its time.
const TRIES: usize = 30;

/// Compares instances of a module that was admitted.
pub(crate) fn compare(made: &Made, seed: u32, tally: &Tally) {
    let limits = Limits::default()
        .wall_time(WALL_TIME)
        .interruptible(true)
        .memory_bytes(MEMORY_BYTES)
        .table_elements(TABLE_ELEMENTS)
        .stdio_bytes(4 << 10);
    // Whether it is refused is the pools' to find out.
    let Ok(mut alone) = Alone::new(&made.wasm, &limits, Features::all()) else { return };
    let mut random = Random::of_part(u64::from(seed) + 2, made.number);
    for round in 0..=ROUNDS {
        let mut tries = (0..TRIES).map(|_| alone.difference());
        let first = tries.next().unwrap_or(Ok(None));
        match first.or_else(|why| tries.find(Result::is_ok).unwrap_or(Err(why))) {
            Ok(None) => {}
            Ok(Some(difference)) => {
                return tally
                    .violation(made, format!("after {round} rounds of calls: {difference}"));
            }
            // Its start function takes longer than a call may, and is compared with nothing.
            Err(why) if why.contains("wasm trap: interrupt") => return,
            Err(why) => return tally.violation(made, format!("after {round} rounds: {why}")),
        }
        if round == ROUNDS {
            break;
        }
        for invocation in invocations(&alone, &mut random) {
            match alone.run(invocation.clone(), Vec::new()) {
                Err(why) => {
                    return tally.violation(made, format!("{invocation:?} has no end: {why}"));
                }
                Ok(Finished { outcome: Outcome::Failed(Failure::Guest(why)), .. })
                    if why.contains(ENGINE_BUG) =>
                {
                    return tally.violation(made, format!("{invocation:?}: {why}"));
                }
                Ok(_) => {}
            }
        }
    }
    tally.compared();
}

fn invocations(alone: &Alone, random: &mut Random) -> Vec<Invocation> {
    let mut invocations = Vec::new();
    for export in &alone.description().exports {
        let ExportType::Function { params, results } = &export.kind else { continue };
        let name = export.name.clone();
        let args: Option<Vec<Scalar>> = params.iter().map(|param| edge(*param, random)).collect();
        let Some(args) = args.filter(|_| !results.contains(&ValueType::Other)) else { continue };
        invocations.push(match (name.as_str(), args.is_empty(), results.as_slice()) {
            ("" | "_start", true, [] | [ValueType::I32]) => Invocation::Command {
                entry: name.as_str().into(),
                call: CommandCall {
                    args: vec!["smith".into()],
                    env: Vec::new(),
                    stdin: Stdin::Bytes(b"some text".to_vec()),
                    stdout: StdioSink::Captured,
                    stderr: StdioSink::Captured,
                },
            },
            ("_initialize", ..) => continue,
            (_, true, [ValueType::I32]) => Invocation::Task(Call {
                export: name.as_str().into(),
                codec: Codec::Raw,
                input: random.bytes(16),
            }),
            _ => Invocation::Scalar { export: name.as_str().into(), args },
        });
        if invocations.len() == CALLS_MAX {
            break;
        }
    }
    invocations
}

/// A number at which something may break.
fn edge(ty: ValueType, random: &mut Random) -> Option<Scalar> {
    const NUMBERS: [u64; 8] = [0, 1, u64::MAX, 1 << 31, 0xffff, 1 << 16, 1 << 24, 1 << 32];
    let number = random.one_of(&NUMBERS);
    Some(match ty {
        ValueType::I32 => Scalar::I32(number as i32),
        ValueType::I64 => Scalar::I64(number.cast_signed()),
        ValueType::F32 => Scalar::F32((number as f32).to_bits()),
        ValueType::F64 => Scalar::F64((number as f64).to_bits()),
        ValueType::Other => return None,
    })
}

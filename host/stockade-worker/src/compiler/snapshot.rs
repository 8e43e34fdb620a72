//! Snapshots: a module whose initial state is the one that its initializer left.
//!
//! Two of the three steps are here and the third, running the initializer, is a worker's: see
//! [`state`](crate::state). What the steps agree on are the names of exports that the first adds.
//! The second takes the start function and `_initialize` away, because their work is done.

use std::pin::pin;

use stockade_module::refusal;
use stockade_wire::{Refusal, RefusalKind};
use wasmparser::{Parser, Payload};
use wasmtime_wasi::runtime::poll_noop;
use wasmtime_wizer::{ModuleContext, Wizer};

use super::internal;
use crate::state::InitialisedState;

/// `binary` with all its state exported.
///
/// # Errors
/// A refusal if a snapshot cannot hold the module's state.
pub(super) fn instrument(binary: &[u8]) -> Result<Vec<u8>, Refusal> {
    Ok(instrumented(binary)?.1)
}

/// `binary` with the state in `bytes` as its initial state.
///
/// # Errors
/// As [`instrument`], or where the state is damaged or another module's.
pub(super) fn apply(binary: &[u8], bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    let (module, _) = instrumented(binary)?;
    let damaged = |why: &dyn std::fmt::Display| refusal(RefusalKind::Snapshot, &why.to_string());
    let mut state = InitialisedState::read(bytes).map_err(|error| damaged(&error))?;
    let wizer = wizer();
    let applied = poll_noop(pin!(wizer.snapshot(&module, &mut state)));
    let applied = applied.ok_or_else(|| internal("a snapshot that waits"))?;
    let applied = applied.map_err(|error| damaged(&error))?;
    if state.was_complete() {
        Ok(applied)
    } else {
        Err(damaged(&"the state of the initialised module is another module's"))
    }
}

fn wizer() -> Wizer {
    let mut wizer = Wizer::new();
    // Every function stays callable, also one that happens to have Wizer's own name.
    wizer.keep_init_func(true);
    wizer
}

fn instrumented(binary: &[u8]) -> Result<(ModuleContext<'_>, Vec<u8>), Refusal> {
    // Where nothing is exported Wizer exports no state either, and gives up on it only later.
    let mut payloads = Parser::new(0).parse_all(binary);
    if !payloads.any(|payload| matches!(payload, Ok(Payload::ExportSection(_)))) {
        return Err(refusal(
            RefusalKind::Snapshot,
            "it exports nothing, so there is no initializer",
        ));
    }
    wizer().instrument(binary).map_err(|error| {
        let message = format!("its initialised state cannot be saved: {}", error.root_cause());
        refusal(RefusalKind::Snapshot, &message)
    })
}

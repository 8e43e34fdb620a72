//! Core dumps: a trapped guest's state, sent to its host as a WebAssembly file.
//!
//! ```text
//! module ─ expose, in the compiler ─► its memory and globals are exports of names of our own
//!                                          │
//! trap ─► frames of the backtrace ─► Dump ◄┘ ─► Layout: what fits ─► Dumped … ─► Finished
//! ```
//!
//! The engine's own dumps are a feature of its crate that is left out: they copy the memory twice in
//! this process, whose memory is limited. Here memory is copied directly into messages, a piece at
//! a time, with the same system calls as results.
//!
//! Invariant: what is sent is a valid module of at most as many bytes as the host wants, whatever the
//! guest has done to its memory.
//!
//! Deliberately absent: values of locals and operands, which compiled code keeps where it likes.

mod format;

use std::time::{Duration, Instant};

use stockade_wire::descriptor::SendError;
use stockade_wire::{Bell, COREDUMP_PIECE_BYTES, Coredumps, TaskId, WorkerMessage};
use wasm_encoder::{ConstExpr, GlobalType, HeapType, Ieee32, Ieee64, ValType};
use wasmtime::{Instance, Mutability, Store, Val, WasmBacktrace};

use crate::failure::HostTrap;
use crate::guest::{GuestState, Host};
use format::{Dump, Global, Memory};

/// What the exports are called that the compiler adds: this for the memory, and this with a number for
/// a global.
pub(crate) const MEMORY_EXPORT: &str = "stockade.coredump.memory";
pub(crate) const GLOBAL_EXPORT: &str = "stockade.coredump.global.";

/// The most globals of a dump. Toolchains make a handful.
pub(crate) const GLOBALS_MAX: u32 = 1000;

/// The most pages of a memory with 32-bit addresses, as which a dump has every memory.
const PAGES_MAX: u64 = 1 << 16;

/// A lower bound of the speed of writing a dump, on a busy machine too. A dump that would overrun
/// the task's deadline is truncated: else the trap would not be reported.
const BYTES_PER_MILLISECOND: u64 = 100_000;

/// What a guest that its deadline has ended may take beyond that, of what its host grants it.
const GRACE_PERIOD: Duration = Duration::from_secs(1);

/// The dumps that this worker may still send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dumps(Coredumps);

impl Dumps {
    pub(crate) fn new(coredumps: Coredumps) -> Self {
        Self(coredumps)
    }

    /// Takes one of them for a guest that `error` has ended, if that leaves one: gives its bytes.
    pub(crate) fn take(&mut self, error: &wasmtime::Error) -> Option<u64> {
        let own_wish = matches!(error.downcast_ref(), Some(HostTrap::Exit(_) | HostTrap::HostGone));
        // Without one it never came to run.
        let is_trap = !own_wish && error.downcast_ref::<WasmBacktrace>().is_some();
        self.0.count_max = self.0.count_max.checked_sub(u32::from(is_trap))?;
        is_trap.then_some(self.0.bytes_max)
    }
}

/// Sends what `instance`, if it was made, of the module that is called `module` was at when `error`
/// ended it, in at most `bytes_max` bytes.
///
/// # Errors
/// [`SendError`], usually because the host is gone.
pub(crate) fn send(
    store: &mut Store<GuestState>,
    instance: Option<Instance>,
    error: &wasmtime::Error,
    module: &str,
    bytes_max: u64,
) -> Result<(), SendError> {
    let Some(link) = store.data().surroundings.link.clone() else { return Ok(()) };
    let task = store.data().call.task;
    let (until, bytes_max) = room(store.data(), Instant::now(), bytes_max);
    let globals = instance.map_or_else(Vec::new, |instance| globals(store, instance));
    let memory = instance.and_then(|instance| instance.get_memory(&mut *store, MEMORY_EXPORT));
    let memory = memory.map(|memory| Memory {
        bytes: memory.data(&*store),
        // The same pages, whatever numbers the guest calls them by.
        pages_max: memory.ty(&*store).maximum().map(|pages| pages.min(PAGES_MAX)),
    });
    let dump = Dump { module, frames: frames(error), globals, memory };
    let layout = dump.layout(bytes_max, || until.is_none_or(|until| Instant::now() < until));
    let mut pieces = Pieces { host: link.host, task, left_out: layout.left_out, piece: Vec::new() };
    layout.write(|bytes| pieces.write(bytes))?;
    pieces.flush()
}

/// Until when the memory may be looked at, and how much of it there is time to send then.
fn room(state: &GuestState, now: Instant, bytes_max: u64) -> (Option<Instant>, u64) {
    let call = &state.call;
    let Some(deadline) = call.deadline else { return (None, bytes_max) };
    let grace = call.interrupt_at().map_or(Duration::ZERO, |_| GRACE_PERIOD);
    let half = deadline.saturating_duration_since(now).saturating_add(grace) / 2;
    let bytes = u64::try_from(half.as_millis()).unwrap_or(u64::MAX);
    (now.checked_add(half), bytes_max.min(bytes.saturating_mul(BYTES_PER_MILLISECOND)))
}

/// The functions that were running, innermost first, each by its number and where in it.
fn frames(error: &wasmtime::Error) -> Vec<(u32, u32)> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let offset = |offset: Option<usize>| offset.and_then(|offset| u32::try_from(offset).ok());
    let frames = trace.frames().iter();
    frames
        .map(|frame| (frame.func_index(), offset(frame.func_offset()).unwrap_or_default()))
        .collect()
}

/// The globals from the first to the last that is exported as one, or to the first that is not.
fn globals(store: &mut Store<GuestState>, instance: Instance) -> Vec<Global> {
    let exported = (0..GLOBALS_MAX).map_while(|number| {
        let global = instance.get_global(&mut *store, &format!("{GLOBAL_EXPORT}{number}"))?;
        let mutable = global.ty(&*store).mutability() == Mutability::Var;
        let (val_type, value) = constant(&global.get(&mut *store));
        Some(Global { ty: GlobalType { val_type, mutable, shared: false }, value })
    });
    exported.collect()
}

/// The type of `value` and the expression that makes it. References mean nothing outside of the
/// instance, so they are null.
fn constant(value: &Val) -> (ValType, ConstExpr) {
    match *value {
        Val::I32(number) => (ValType::I32, ConstExpr::i32_const(number)),
        Val::I64(number) => (ValType::I64, ConstExpr::i64_const(number)),
        Val::F32(bits) => (ValType::F32, ConstExpr::f32_const(Ieee32::new(bits))),
        Val::F64(bits) => (ValType::F64, ConstExpr::f64_const(Ieee64::new(bits))),
        Val::V128(bits) => (ValType::V128, ConstExpr::v128_const(bits.as_u128().cast_signed())),
        Val::ExternRef(_) => (ValType::EXTERNREF, ConstExpr::ref_null(HeapType::EXTERN)),
        _ => (ValType::FUNCREF, ConstExpr::ref_null(HeapType::FUNC)),
    }
}

/// A dump on its way.
struct Pieces {
    host: Host,
    task: TaskId,
    left_out: u64,
    piece: Vec<u8>,
}

impl Pieces {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), SendError> {
        while !bytes.is_empty() {
            let room = COREDUMP_PIECE_BYTES - self.piece.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == COREDUMP_PIECE_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SendError> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let Self { task, left_out, .. } = *self;
        let message =
            WorkerMessage::Dumped { task, piece: std::mem::take(&mut self.piece), left_out };
        let sent = self.host.send(&message, Bell::Now);
        if let WorkerMessage::Dumped { piece, .. } = message {
            // Its memory serves the next.
            self.piece = piece;
            self.piece.clear();
        }
        sent
    }
}

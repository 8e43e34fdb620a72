//! Turns a guest's end into a failure for its caller.
//!
//! Everything that comes from the guest is bounded here: messages, the number of a backtrace's
//! frames and the length of their names.

use std::fmt::Write;

use stockade_abi::{ERROR_BYTES_MAX, ErrorRecord};
use stockade_module::{Bounded, bounded, quoted};
use stockade_wire::{
    BACKTRACE_FRAMES_MAX, ERROR_TEXT_BYTES_MAX, FRAME_NAME_BYTES_MAX, Failure, Frame, GuestError,
    TrapKind,
};
use wasmtime::{ThrownException, Trap, WasmBacktrace};

use crate::guest::GuestState;

// The limit of the guest ABI is that of the host.
const _: () = assert!(ERROR_BYTES_MAX == ERROR_TEXT_BYTES_MAX);

/// Reasons why a host call ends a guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostTrap {
    /// It asked for its own end.
    #[error("exit with code {0}")]
    Exit(i32),
    /// Its result and its items exceed their limit.
    #[error("output limit exceeded")]
    Output,
    /// The deadline came while it slept.
    #[error("deadline passed")]
    Deadline,
    /// A pointer and length that do not lie in its memory.
    #[error("{length} bytes at {pointer:#x} are not in the guest's memory")]
    OutOfBounds {
        /// Where they should begin.
        pointer: u32,
        /// How many.
        length: u32,
    },
    /// It wants more of its input than there is.
    #[error("the guest reads {length} bytes from byte {offset} of an input of {input} bytes")]
    InputRange {
        /// Where they should begin.
        offset: u32,
        /// How many.
        length: u32,
        /// How many there are.
        input: usize,
    },
    /// It calls the host and has no memory that the host could read.
    #[error("the guest exports no memory named `memory`")]
    NoMemory,
    /// It calls an import that is not provided, with a trap as stand-in.
    #[error("it calls `{}`, which is not provided", quoted(.0))]
    NotProvided(String),
    /// The worker's host is gone.
    #[error("the host is gone")]
    HostGone,
}

/// Turns the `error` of a guest with this state into a failure.
pub(crate) fn failure_of(error: &wasmtime::Error, state: &GuestState) -> Failure {
    if let Some(trap) = error.downcast_ref::<HostTrap>() {
        return host_trap_failure(trap, error, state);
    }
    let trap = error.downcast_ref::<Trap>().copied();
    match trap {
        Some(Trap::Interrupt) => return Failure::Deadline { backtrace: backtrace(error) },
        Some(Trap::OutOfFuel) => return Failure::Fuel { limit: state.call.fuel_limit },
        _ => {}
    }
    // A panic is more precise than an earlier refused growth.
    if let Some(panic) = panic_record(&state.call.error) {
        return Failure::Panic(Box::new(panic), backtrace(error));
    }
    if let Some(wanted) = state.meter.refused_bytes() {
        return memory_failure(wanted, state);
    }
    if error.is::<ThrownException>() {
        return Failure::Trap {
            kind: TrapKind::UncaughtException,
            message: "an exception was thrown and nothing caught it".into(),
            backtrace: backtrace(error),
        };
    }
    match trap {
        Some(trap) => Failure::Trap {
            kind: kind_of(trap),
            message: words(trap, error),
            backtrace: backtrace(error),
        },
        None => Failure::Guest(bounded(&error.root_cause().to_string())),
    }
}

/// The engine's words for a trap; those with the address where it knows which it was.
fn words(trap: Trap, error: &wasmtime::Error) -> String {
    // The outermost is the backtrace, whose names are the guest's and of any length.
    let mut inner = error.chain().skip(1).map(ToString::to_string);
    let fault = inner.find(|words| words.starts_with("memory fault at"));
    fault.unwrap_or_else(|| trap.to_string().trim_start_matches("wasm trap: ").to_owned())
}

fn memory_failure(wanted: u64, state: &GuestState) -> Failure {
    Failure::Memory { limit: state.meter.memory_limit(), wanted }
}

/// Whether a call failed for lack of memory that the system would not give this process: none of the
/// guest's doing, whose own growth is refused without an error.
pub(crate) fn is_out_of_memory(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| {
        let of_system = cause.downcast_ref::<std::io::Error>();
        of_system.is_some_and(|error| error.kind() == std::io::ErrorKind::OutOfMemory)
            || cause.downcast_ref::<rustix::io::Errno>() == Some(&rustix::io::Errno::NOMEM)
    })
}

fn host_trap_failure(trap: &HostTrap, error: &wasmtime::Error, state: &GuestState) -> Failure {
    match trap {
        // A runtime that gives up for lack of memory: Go's prints that and exits with 2. One that grew
        // after the refusal got by without, and means its code.
        HostTrap::Exit(code) => match state.meter.last_refused_bytes() {
            Some(wanted) if *code != 0 => memory_failure(wanted, state),
            _ => Failure::Exited(*code),
        },
        HostTrap::Output => Failure::Output { limit: state.call.output_limit },
        HostTrap::Deadline => Failure::Deadline { backtrace: backtrace(error) },
        HostTrap::NotProvided(_) => Failure::Trap {
            kind: TrapKind::NotProvided,
            message: bounded(&trap.to_string()),
            backtrace: backtrace(error),
        },
        HostTrap::OutOfBounds { .. } => Failure::Trap {
            kind: TrapKind::MemoryOutOfBounds,
            message: trap.to_string(),
            backtrace: backtrace(error),
        },
        HostTrap::InputRange { .. } | HostTrap::NoMemory | HostTrap::HostGone => {
            Failure::Guest(trap.to_string())
        }
    }
}

/// Reads what a failed task wrote with `error_write`.
pub(crate) fn guest_error(text: &[u8]) -> GuestError {
    match serde_json::from_slice::<ErrorRecord>(text) {
        Ok(record) => from_record(record),
        Err(_) => {
            let mut message = String::from_utf8_lossy(text).into_owned();
            // What is not UTF-8 has grown.
            message.truncate(message.floor_char_boundary(ERROR_BYTES_MAX));
            GuestError { message, location: None, data: None }
        }
    }
}

fn panic_record(text: &[u8]) -> Option<GuestError> {
    let record = serde_json::from_slice::<ErrorRecord>(text).ok()?;
    record.panic.then(|| from_record(record))
}

fn from_record(record: ErrorRecord) -> GuestError {
    GuestError { message: record.message, location: record.location, data: record.data }
}

fn kind_of(trap: Trap) -> TrapKind {
    match trap {
        Trap::UnreachableCodeReached => TrapKind::Unreachable,
        Trap::StackOverflow => TrapKind::StackOverflow,
        Trap::MemoryOutOfBounds => TrapKind::MemoryOutOfBounds,
        Trap::TableOutOfBounds => TrapKind::TableOutOfBounds,
        Trap::IndirectCallToNull => TrapKind::NullCall,
        Trap::NullReference => TrapKind::NullReference,
        Trap::BadSignature => TrapKind::WrongCallType,
        Trap::IntegerDivisionByZero => TrapKind::DivisionByZero,
        Trap::IntegerOverflow => TrapKind::IntegerOverflow,
        Trap::BadConversionToInteger => TrapKind::BadConversion,
        _ => TrapKind::Other,
    }
}

/// The functions that were running, innermost first.
fn backtrace(error: &wasmtime::Error) -> Vec<Frame> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let frames = trace.frames().iter().take(BACKTRACE_FRAMES_MAX);
    frames
        .map(|frame| Frame {
            function: match frame.func_name() {
                Some(name) => readable(name),
                None => format!("<function {}>", frame.func_index()),
            },
            index: frame.func_index(),
            offset: frame.func_offset().and_then(|offset| offset.try_into().ok()),
        })
        .collect()
}

/// A function's name as its author wrote it, where a compiler had encoded it.
pub(crate) fn readable(name: &str) -> String {
    let mut text = Bounded::new(FRAME_NAME_BYTES_MAX);
    // Writing fails where the name is too long, which is how its writing is cut short.
    let _ = match rustc_demangle::try_demangle(name) {
        Ok(symbol) => write!(text, "{symbol:#}"),
        // It reads any name as a type where it can: `s` is `short` to it, and `f` is `float`.
        Err(_) if name.trim_start_matches('_').starts_with('Z') && name.starts_with('_') => {
            match cpp_demangle::Symbol::new(name).map(|symbol| symbol.demangle()) {
                Ok(Ok(symbol)) => text.write_str(&symbol),
                _ => text.write_str(name),
            }
        }
        Err(_) => text.write_str(name),
    };
    text.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_their_authors_wrote_them() {
        assert_eq!(readable("_ZN5guest4main17h0123456789abcdefE"), "guest::main");
        assert_eq!(readable("_Z3addii"), "add(int, int)");
        assert_eq!(readable("__Z3addii"), "add(int, int)");
        for plain in ["plain", "s", "f", "i", "v", "PKc", "St", "Z", "_", "", "_Zone"] {
            assert_eq!(readable(plain), plain);
        }
    }

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let name = "é".repeat(FRAME_NAME_BYTES_MAX);
        let shown = readable(&name);
        assert_eq!(shown, "é".repeat(FRAME_NAME_BYTES_MAX / 2) + "…");
        assert_eq!(readable(&"a".repeat(FRAME_NAME_BYTES_MAX)).len(), FRAME_NAME_BYTES_MAX);
    }

    #[test]
    fn error_text_that_is_no_record_is_the_message() {
        assert_eq!(guest_error(b"plain").message, "plain");
        assert_eq!(guest_error(b"\xff").message, "\u{fffd}");
        assert_eq!(guest_error(b"[1]").message, "[1]");
        let grown = guest_error(&[0xff; ERROR_BYTES_MAX]).message;
        assert_eq!(grown.len(), ERROR_BYTES_MAX - ERROR_BYTES_MAX % '\u{fffd}'.len_utf8());
        let deep = "[".repeat(10_000);
        assert_eq!(guest_error(deep.as_bytes()).message, deep);
    }
}

//! The host calls of a wasm build. This crate's `unsafe` is here and in `region`.
//!
//! The host reads and writes nothing but the range that a call names, and traps where that range
//! does not lie in the guest's memory; so a slice is all that a call needs to be sound.
#![allow(unsafe_code)]

mod raw {
    // Names and types as in `stockade_abi::import`, where each is described.
    #[link(wasm_import_module = "stockade")]
    unsafe extern "C" {
        pub(in crate::host) safe fn input_len() -> i32;
        pub(in crate::host) safe fn input_codec() -> i32;
        pub(super) fn input_read(into: *mut u8, offset: usize, length: usize);
        pub(super) fn input_map(at: *mut u8, length: usize) -> i32;
        pub(super) fn output_write(from: *const u8, length: usize);
        pub(super) fn error_write(from: *const u8, length: usize);
        pub(in crate::host) safe fn progress(done: i64, total: i64);
        pub(super) fn emit(from: *const u8, length: usize);
        pub(super) fn log(level: i32, from: *const u8, length: usize);
        pub(in crate::host) safe fn remaining_ns() -> i64;
        pub(in crate::host) safe fn task_id() -> i64;
    }
}

pub(super) use raw::{input_codec, input_len, progress, remaining_ns, task_id};

/// Fills `into` with the input from `offset`.
pub(super) fn input_read(into: &mut [u8], offset: usize) {
    // SAFETY: the host writes `length` bytes at `into`, which are ours to change and initialised.
    unsafe { raw::input_read(into.as_mut_ptr(), offset, into.len()) }
}

/// Maps the input over `room`, whole pages, if the host does that; returns whether it did.
pub(super) fn input_map(room: &mut [u8]) -> bool {
    // SAFETY: the host puts other bytes where these are, which are ours to change; they stay memory
    // like any other, and initialised.
    unsafe { raw::input_map(room.as_mut_ptr(), room.len()) != 0 }
}

pub(super) fn output_write(bytes: &[u8]) {
    // SAFETY: the host only reads, and only these bytes, which outlive the call.
    unsafe { raw::output_write(bytes.as_ptr(), bytes.len()) }
}

pub(super) fn error_write(bytes: &[u8]) {
    // SAFETY: as for `output_write`.
    unsafe { raw::error_write(bytes.as_ptr(), bytes.len()) }
}

pub(super) fn emit(bytes: &[u8]) {
    // SAFETY: as for `output_write`.
    unsafe { raw::emit(bytes.as_ptr(), bytes.len()) }
}

pub(super) fn log(level: i32, message: &[u8]) {
    // SAFETY: as for `output_write`.
    unsafe { raw::log(level, message.as_ptr(), message.len()) }
}

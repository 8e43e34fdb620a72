//! The binary form of arguments and results.
//!
//! The only module that names bincode. Its upstream is frozen, so a wire-compatible successor will
//! have to take its place here; the host keeps it behind one module in the same way. The form is
//! bincode 2's fixed-width one (`legacy`: little-endian, every integer at its own width), through
//! serde. Not the standard one: there a `1` of one integer type reads as a `2` of another, where
//! here widths that differ leave bytes over or fall short.

use bincode::config::{self, Configuration, Fixint, LittleEndian};
use bincode::error::{DecodeError, EncodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;

const FIXED_WIDTH: Configuration<LittleEndian, Fixint> = config::legacy();

/// Writes `value`.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    bincode::serde::encode_to_vec(value, FIXED_WIDTH)
}

/// Reads a value from the start of `bytes`; also returns how many of them it took.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    bincode::serde::decode_from_slice(bytes, FIXED_WIDTH)
}

/// What stands before the bytes of a byte string or a text of `length` bytes.
pub(crate) fn length_prefix(length: usize) -> Result<Vec<u8>, EncodeError> {
    encode(&(length as u64))
}

//! The binary form of arguments and results.
//!
//! The only module that names bincode. Its upstream is frozen, so a wire-compatible successor will
//! have to take its place here; the host keeps it behind one module in the same way. The form is
//! bincode 2's standard configuration (little-endian, variable-length integers) through serde.

use bincode::config::{self, Configuration};
use bincode::error::{DecodeError, EncodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;

const STANDARD: Configuration = config::standard();

/// Writes `value`.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    bincode::serde::encode_to_vec(value, STANDARD)
}

/// Reads a value from the start of `bytes`; also returns how many of them it took.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    bincode::serde::decode_from_slice(bytes, STANDARD)
}

/// What stands before the bytes of a byte string or a text of `length` bytes.
pub(crate) fn length_prefix(length: usize) -> Result<Vec<u8>, EncodeError> {
    encode(&(length as u64))
}

//! Writes results in the form that the call's codec wants.

use crate::bytes;
use crate::codec;
use crate::failure::Failure;
use crate::host;
use serde::{Serialize, Serializer};
use stockade_abi::Codec;

/// Bytes that are written as [`Bytes`](crate::Bytes) are, but borrowed.
pub(crate) struct AsBytes<'a>(pub(crate) &'a [u8]);

impl Serialize for AsBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        bytes::serialize(self.0, serializer)
    }
}

/// The form of `value` in this call's codec.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Failure> {
    match host::codec() {
        Some(Codec::Bincode) => codec::encode(value).map_err(Failure::unwritable),
        _ => serde_json::to_vec(value).map_err(Failure::unwritable),
    }
}

/// Writes `value` as the result.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T) -> Result<(), Failure> {
    host::output_write(&encode(value)?);
    Ok(())
}

/// Writes the text or the bytes `content` as the result; `json` is their form in JSON.
///
/// The host appends what it gets, so a binary caller's length goes ahead and the content follows
/// from where it lies, without a copy that holds both.
pub(crate) fn write_bytes<T: Serialize>(content: &[u8], json: &T) -> Result<(), Failure> {
    match host::codec() {
        Some(Codec::Raw) => host::output_write(content),
        Some(Codec::Bincode) => {
            host::output_write(&codec::length_prefix(content.len()).map_err(Failure::unwritable)?);
            host::output_write(content);
        }
        Some(Codec::Json) | None => return write(json),
    }
    Ok(())
}

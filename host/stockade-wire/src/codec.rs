//! The binary form of messages: bincode 2 in its standard configuration, always with a limit.
//!
//! The only place on this side that names bincode, so that a wire-compatible successor can replace
//! it here.

pub use bincode::{Decode, Encode};

use crate::frame::FRAME_BYTES_MAX;

const CONFIG: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<FRAME_BYTES_MAX>,
> = bincode::config::standard().with_limit::<FRAME_BYTES_MAX>();

/// A message that cannot be encoded, or bytes that are not one.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The message has no binary form within the limit.
    #[error("cannot encode the message: {0}")]
    Encode(#[from] bincode::error::EncodeError),
    /// The bytes are not a message of the expected type.
    #[error("cannot decode the message: {0}")]
    Decode(#[from] bincode::error::DecodeError),
    /// Bytes follow the message.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
}

/// Appends `message` to `out`.
///
/// # Errors
/// [`CodecError::Encode`]; `out` may then hold a part of the message.
pub fn encode<M: Encode>(message: &M, out: &mut Vec<u8>) -> Result<(), CodecError> {
    bincode::encode_into_std_write(message, out, CONFIG)?;
    Ok(())
}

/// Reads the one message that `bytes` holds. Bytes come from an untrusted process: no allocation
/// exceeds the limit whatever lengths they claim.
///
/// # Errors
/// [`CodecError::Decode`] where they are not a message, [`CodecError::Trailing`] where more follows.
pub fn decode<M: Decode<()>>(bytes: &[u8]) -> Result<M, CodecError> {
    let (message, used) = bincode::decode_from_slice(bytes, CONFIG)?;
    match bytes.len() - used {
        0 => Ok(message),
        rest => Err(CodecError::Trailing(rest)),
    }
}

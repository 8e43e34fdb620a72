//! The binary form of messages: bincode 2 in its standard configuration, always with a limit.
//!
//! The only place on this side that names bincode, so that a wire-compatible successor can replace
//! it here.

pub use bincode::{Decode, Encode};

/// For types whose form is written by hand, because there are many of them.
pub(crate) use bincode::{
    de::{Decoder, read::Reader},
    enc::{Encoder, write::Writer},
    error::{DecodeError, EncodeError},
    impl_borrow_decode,
};

use crate::frame::FRAME_BYTES_MAX;

type Config<const LIMIT: usize> = bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<LIMIT>,
>;

const fn config<const LIMIT: usize>() -> Config<LIMIT> {
    bincode::config::standard().with_limit::<LIMIT>()
}

/// A message that cannot be encoded, or bytes that are not one.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The message has no binary form within the limit.
    #[error("cannot encode the message: {0}")]
    Encode(#[from] EncodeError),
    /// The bytes are not a message of the expected type.
    #[error("cannot decode the message: {0}")]
    Decode(#[from] DecodeError),
    /// Bytes follow the message.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
}

/// Appends `message` to `out`.
///
/// # Errors
/// [`CodecError::Encode`]; `out` may then hold a part of the message.
pub fn encode<M: Encode>(message: &M, out: &mut Vec<u8>) -> Result<(), CodecError> {
    bincode::encode_into_std_write(message, out, config::<FRAME_BYTES_MAX>())?;
    Ok(())
}

/// Reads the one message that `bytes` holds. Bytes come from an untrusted process: what is allocated
/// for the lengths that they claim is at most 64 KiB, or some hundred times as much as arrived, and
/// never more than [`FRAME_BYTES_MAX`].
///
/// # Errors
/// [`CodecError::Decode`] where they are not a message, [`CodecError::Trailing`] where more follows.
pub fn decode<M: Decode<()>>(bytes: &[u8]) -> Result<M, CodecError> {
    // The codec reserves memory for what is claimed before it has seen it, and its limit is part of
    // a type. No message is more than 36 times its encoded size: a list of exports without names.
    match bytes.len() {
        ..=0x400 => decode_within::<M, { 64 << 10 }>(bytes),
        0x401..=0x4000 => decode_within::<M, { 1 << 20 }>(bytes),
        0x4001..=0x4_0000 => decode_within::<M, { 16 << 20 }>(bytes),
        _ => decode_within::<M, FRAME_BYTES_MAX>(bytes),
    }
}

/// Bytes behind their number, as a `Vec<u8>` is written. Copied from the message at once, where the
/// codec's own way writes zeros first.
pub(crate) fn bytes<D: Decoder>(decoder: &mut D) -> Result<Vec<u8>, DecodeError> {
    let count = usize::try_from(u64::decode(decoder)?).map_err(|_| DecodeError::LimitExceeded)?;
    decoder.claim_container_read::<u8>(count)?;
    // Every message is read from a slice, which shows what is left of it.
    let left = decoder.reader().peek_read(count);
    let bytes = left.ok_or(DecodeError::UnexpectedEnd { additional: count })?.to_vec();
    decoder.reader().consume(count);
    Ok(bytes)
}

fn decode_within<M: Decode<()>, const LIMIT: usize>(bytes: &[u8]) -> Result<M, CodecError> {
    let (message, used) = bincode::decode_from_slice(bytes, config::<LIMIT>())?;
    match bytes.len() - used {
        0 => Ok(message),
        rest => Err(CodecError::Trailing(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(elements: u32, body_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![252]; // a number of 32 bits follows
        bytes.extend_from_slice(&elements.to_le_bytes());
        bytes.resize(body_bytes, 0);
        bytes
    }

    fn is_over_the_limit<M: Decode<()>>(body: &[u8]) -> bool {
        let error = decode::<M>(body).err().expect("more is claimed than is there");
        matches!(error, CodecError::Decode(DecodeError::LimitExceeded))
    }

    /// Memory is reserved for what is claimed once that is below the limit.
    #[test]
    fn a_claim_that_no_body_of_its_length_explains_is_refused_before_memory_is_reserved() {
        for body_bytes in [5, 1 << 10, 1 << 14, 1 << 18] {
            let bytes_max = (body_bytes as u32).next_power_of_two().max(1 << 10) * 64;
            assert!(!is_over_the_limit::<Vec<u8>>(&claim(bytes_max / 2, body_bytes)));
            assert!(is_over_the_limit::<Vec<u8>>(&claim(bytes_max + 1, body_bytes)));
            assert!(is_over_the_limit::<Vec<String>>(&claim(bytes_max / 8, body_bytes)));
        }
    }

    #[test]
    fn what_expands_most_in_memory_is_decoded_at_every_length() {
        let export = || crate::Export { name: String::new(), kind: crate::ExportType::Memory };
        for count in [1, 500, 520, 8_000, 8_200, crate::EXPORTS_MAX] {
            let description = crate::ModuleDescription {
                exports: (0..count).map(|_| export()).collect(),
                ..Default::default()
            };
            let mut body = Vec::new();
            encode(&description, &mut body).unwrap();
            assert_eq!(decode::<crate::ModuleDescription>(&body).unwrap(), description);
        }
    }
}

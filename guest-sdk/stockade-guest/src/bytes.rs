//! Bytes, encoded as a whole.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::Deref;

/// The maximum that is allocated for a claimed length before any byte has arrived.
const RESERVED_BYTES_MAX: usize = 64 * 1024;

/// Bytes, encoded as a whole and not as a list of numbers.
///
/// | codec | written as | read from |
/// |---|---|---|
/// | raw | the bytes | the bytes |
/// | bincode | a length and the bytes, the same as `Vec<u8>` | the same |
/// | JSON | a string in base64 (standard alphabet, padded) | such a string, or an array of numbers |
///
/// A whole parameter or a whole result that is `Vec<u8>` or `&[u8]` is treated as `Bytes`; inside a
/// struct or a list use `Bytes`, or serde encodes each byte as a number.
///
/// ```
/// use stockade_guest::{Bytes, task};
///
/// #[task]
/// fn reversed(mut data: Bytes) -> Bytes {
///     data.0.reverse();
///     data
/// }
///
/// assert_eq!(*reversed(Bytes::from(*b"abc")), *b"cba");
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl<const N: usize> From<[u8; N]> for Bytes {
    fn from(bytes: [u8; N]) -> Self {
        Self(bytes.into())
    }
}

impl From<Bytes> for Vec<u8> {
    fn from(bytes: Bytes) -> Self {
        bytes.0
    }
}

impl fmt::Debug for Bytes {
    /// Prints only the length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

/// Writes `bytes` in the form of [`Bytes`] without owning them.
pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(&BASE64.encode(bytes))
    } else {
        serializer.serialize_bytes(bytes)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(BytesVisitor)
        } else {
            deserializer.deserialize_byte_buf(BytesVisitor)
        }
    }
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes: a string in base64, or an array of numbers from 0 to 255")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
        Ok(bytes.into())
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
        Ok(Bytes(bytes))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
        BASE64
            .decode(text)
            .map(Bytes)
            .map_err(|error| E::custom(format_args!("not base64: {error}")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Bytes, A::Error> {
        let expected = numbers.size_hint().unwrap_or(0);
        let mut bytes = Vec::with_capacity(expected.min(RESERVED_BYTES_MAX));
        while let Some(byte) = numbers.next_element()? {
            bytes.push(byte);
        }
        Ok(Bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;
    use crate::codec;

    #[test]
    fn json_reads_base64_and_numbers_and_writes_base64() {
        let written = serde_json::to_string(&Bytes::from([0, 255])).expect("JSON");
        assert_eq!(written, r#""AP8=""#);
        for text in [&written, "[0, 255]"] {
            assert_eq!(serde_json::from_str::<Bytes>(text).expect(text).0, [0, 255]);
        }
    }

    #[test]
    fn json_that_is_neither_is_refused() {
        for text in ["\"%\"", "[256]", "[-1]", "7", "null", "{}"] {
            assert!(serde_json::from_str::<Bytes>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn binary_form_is_that_of_a_list() {
        let list: Vec<u8> = (0..=255).chain(0..=255).collect();
        let written = codec::encode(&Bytes(list.clone())).expect("bincode");

        assert_eq!(written, codec::encode(&list).expect("bincode"));
        let (read, used) = codec::decode::<Bytes>(&written).expect("bytes");
        assert_eq!((read.0, used), (list, written.len()));
    }
}

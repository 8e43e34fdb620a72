//! Bounds: how much of each kind a message from a worker or a compiler may hold.
//!
//! A field of a few bytes on the wire can take twenty times as much in memory, and a frame may be as
//! long as the longest result. So every text and every list that such a process says has a limit of
//! its own, which an honest one keeps to, and which is checked while the message is decoded: before
//! memory is taken for the field, and before anything behind it is read.
//!
//! Deliberately absent: results, items and captured streams. They take no more memory than they have
//! bytes, and their limits are a task's, see [`Limits`](crate::Limits).

use crate::codec::{Decode, DecodeError, Decoder, Reader};

/// The most bytes of an error text that a guest writes: message, place and data together. The guest
/// ABI promises as many.
pub const ERROR_TEXT_BYTES_MAX: usize = 64 << 10;

/// The most bytes of a text that is shown as one message, before the mark that it was cut.
pub const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// The most bytes of the reason why a module is refused, before that mark: it may name as many imports
/// as there may be.
pub const REFUSAL_BYTES_MAX: usize = 128 << 10;

/// What stands for the rest of a text that was cut.
pub const CUT_MARK: char = '…';

/// The most frames of a backtrace: what a person reads of one.
pub const BACKTRACE_FRAMES_MAX: usize = 32;

/// The most bytes of a function's name in a backtrace, before the mark that it was cut.
pub const FRAME_NAME_BYTES_MAX: usize = 256;

/// The most results of a function: as many as WebAssembly's engines and tools allow.
pub const SCALARS_MAX: usize = 1000;

/// The most parameters of a function, and the most results, likewise.
pub(crate) const SIGNATURE_TYPES_MAX: usize = 1000;

/// The most exports that are described.
pub const EXPORTS_MAX: usize = 10_000;

/// The most imports of a module: there are fewer than a hundred available.
pub const IMPORTS_MAX: usize = 1000;

/// The most bytes of a name of an export or an import.
pub const NAME_BYTES_MAX: usize = 1024;

/// The most functions of a manifest.
pub const FUNCTIONS_MAX: usize = 10_000;

/// The most parameters of a function of a manifest.
pub const PARAMETERS_MAX: usize = 64;

/// The most bytes of a name of a function of a manifest, or of its parameter.
pub const FUNCTION_NAME_BYTES_MAX: usize = 256;

/// The most bytes of a doc comment or a type in a manifest.
pub const FUNCTION_TEXT_BYTES_MAX: usize = 4 << 10;

/// The most warnings about a module, before the one that counts the others.
pub const WARNINGS_MAX: usize = 20;

/// The most functions that are told as inlined into one another at one place.
pub const INLINED_MAX: usize = 16;

/// The most bytes of a file's name in debug information, before the mark that it was cut.
pub const FILE_NAME_BYTES_MAX: usize = 1024;

/// The most bytes of a text that is cut after so many.
pub(crate) const fn cut(bytes_max: usize) -> usize {
    bytes_max + CUT_MARK.len_utf8()
}

/// Reads a text of at most so many bytes.
pub(crate) fn text<const BYTES_MAX: usize>(
    decoder: &mut impl Decoder,
) -> Result<String, DecodeError> {
    let length = length(decoder, BYTES_MAX)?;
    decoder.claim_bytes_read(length)?;
    let mut bytes = vec![0; length];
    decoder.reader().read(&mut bytes)?;
    String::from_utf8(bytes).map_err(|error| DecodeError::Utf8 { inner: error.utf8_error() })
}

/// Reads a text of at most so many bytes, if there is one.
pub(crate) fn optional_text<const BYTES_MAX: usize>(
    decoder: &mut impl Decoder,
) -> Result<Option<String>, DecodeError> {
    optional(decoder, text::<BYTES_MAX>)
}

fn optional<T, D: Decoder>(
    decoder: &mut D,
    read: impl FnOnce(&mut D) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    match u8::decode(decoder)? {
        0 => Ok(None),
        1 => read(decoder).map(Some),
        _ => Err(DecodeError::Other("the tag of an option is neither 0 nor 1")),
    }
}

/// Reads a message for people, which may have been cut.
pub(crate) fn message(decoder: &mut impl Decoder) -> Result<String, DecodeError> {
    text::<{ cut(MESSAGE_BYTES_MAX) }>(decoder)
}

/// Reads a list of at most so many elements, which are bounded themselves.
pub(crate) fn list<const LENGTH_MAX: usize, T, D>(decoder: &mut D) -> Result<Vec<T>, DecodeError>
where
    D: Decoder,
    T: Decode<D::Context>,
{
    list_of::<LENGTH_MAX, T, D>(decoder, T::decode)
}

/// Reads a list of at most so many elements, each by `read`.
pub(crate) fn list_of<const LENGTH_MAX: usize, T, D: Decoder>(
    decoder: &mut D,
    mut read: impl FnMut(&mut D) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let length = length(decoder, LENGTH_MAX)?;
    decoder.claim_container_read::<T>(length)?;
    let mut list = Vec::with_capacity(length);
    for _ in 0..length {
        // Claimed with the others.
        decoder.unclaim_bytes_read(size_of::<T>());
        list.push(read(decoder)?);
    }
    Ok(list)
}

fn length(decoder: &mut impl Decoder, length_max: usize) -> Result<usize, DecodeError> {
    let length = u64::decode(decoder)?;
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= length_max)
        .ok_or(DecodeError::Other("a text or a list is too long"))
}

/// Implements `Decode` for a struct: reads its fields in their order, each by a function.
macro_rules! impl_bounded_decode {
    ($type:ident { $($field:tt: $read:expr),+ $(,)? }) => {
        impl<Context> $crate::codec::Decode<Context> for $type {
            fn decode<D: $crate::codec::Decoder<Context = Context>>(
                decoder: &mut D,
            ) -> Result<Self, $crate::codec::DecodeError> {
                Ok(Self { $($field: $read(decoder)?),+ })
            }
        }
        $crate::codec::impl_borrow_decode!($type);
    };
}
pub(crate) use impl_bounded_decode;

#[cfg(test)]
mod tests;

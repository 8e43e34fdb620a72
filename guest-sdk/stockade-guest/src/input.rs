//! The raw input: read where it is wanted as a vector, and lent by the host where a slice will do.

use crate::failure::Failure;
use crate::forms::argument::ByteArgument;
use crate::host;
use crate::{Bytes, output};
use std::convert::Infallible;
use std::ops::{Deref, DerefMut};

/// The input of the call that is under way, not yet read.
pub struct RawInput(());

impl RawInput {
    pub(crate) fn new() -> Self {
        Self(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        host::input_len() == 0
    }

    /// A copy of it.
    pub fn into_vec(self) -> Vec<u8> {
        host::input()
    }

    fn into_slice(self) -> InputBytes {
        #[cfg(target_arch = "wasm32")]
        // What an initializer took would be a part of what every task starts from.
        if host::task_id() > 0
            && host::input_len() >= stockade_abi::MAP_BYTES_MIN
            && let Some(region) = host::region::Region::take_input(host::input_len())
        {
            return InputBytes(Memory::Region(region));
        }
        InputBytes(Memory::Own(self.into_vec()))
    }
}

/// What a parameter of type `&[u8]` or `&mut [u8]` borrows.
pub struct InputBytes(Memory);

enum Memory {
    Own(Vec<u8>),
    #[cfg(target_arch = "wasm32")]
    Region(host::region::Region),
}

impl Deref for InputBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Memory::Own(bytes) => bytes,
            #[cfg(target_arch = "wasm32")]
            Memory::Region(region) => region,
        }
    }
}

impl DerefMut for InputBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Own(bytes) => bytes,
            #[cfg(target_arch = "wasm32")]
            Memory::Region(region) => region,
        }
    }
}

impl ByteArgument for InputBytes {
    type Encoded = Bytes;
    type Error = Infallible;

    fn from_raw(input: RawInput) -> Result<Self, Infallible> {
        Ok(input.into_slice())
    }

    fn from_encoded(encoded: Bytes) -> Self {
        Self(Memory::Own(encoded.0))
    }
}

/// Writes what a function has made of its `&mut [u8]` as the result. Where the host lent the memory it
/// finds it there, and it must not change any more.
pub fn write_in_place(bytes: &InputBytes) -> Result<(), Failure> {
    output::write_bytes(bytes, &output::AsBytes(bytes))
}

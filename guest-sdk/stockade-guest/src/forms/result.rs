//! How a result is written: as it is where its type is bytes or text, else through serde.

use super::{Of, Output};
use crate::Bytes;
use crate::failure::Failure;
use crate::output::{self, AsBytes};

/// Writes a result that is bytes or text.
pub struct ToBytes;

/// Writes any other result.
pub struct ToSerde;

impl ToBytes {
    /// Writes `value` in the call's codec.
    pub fn write<T: ByteResult>(self, value: &T) -> Result<(), Failure> {
        value.write()
    }
}

impl ToSerde {
    /// Writes `value` in the call's codec.
    pub fn write<T: Output>(self, value: &T) -> Result<(), Failure> {
        output::write(value)
    }
}

/// Picks `ToBytes`.
pub trait ByteResultForm {
    /// The form of a result.
    fn result_form(&self) -> ToBytes;
}

impl<T: ByteResult> ByteResultForm for Of<T> {
    fn result_form(&self) -> ToBytes {
        ToBytes
    }
}

/// Picks `ToSerde`.
pub trait AnyResultForm {
    /// The form of a result.
    fn result_form(&self) -> ToSerde;
}

impl<T> AnyResultForm for &Of<T> {
    fn result_form(&self) -> ToSerde {
        ToSerde
    }
}

/// A result that can be the raw output.
pub trait ByteResult {
    /// Writes it in the call's codec.
    fn write(&self) -> Result<(), Failure>;
}

impl ByteResult for Bytes {
    fn write(&self) -> Result<(), Failure> {
        output::write_bytes(self, &AsBytes(self))
    }
}

impl ByteResult for Vec<u8> {
    fn write(&self) -> Result<(), Failure> {
        output::write_bytes(self, &AsBytes(self))
    }
}

impl ByteResult for &[u8] {
    fn write(&self) -> Result<(), Failure> {
        output::write_bytes(self, &AsBytes(self))
    }
}

impl ByteResult for String {
    fn write(&self) -> Result<(), Failure> {
        output::write_bytes(self.as_bytes(), self)
    }
}

impl ByteResult for &str {
    fn write(&self) -> Result<(), Failure> {
        output::write_bytes(self.as_bytes(), self)
    }
}

//! Undecoded results of tasks.

use stockade_wire::{Codec, Scalar};

/// A task's undecoded result.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// A task's result, in the codec of its call.
    Encoded {
        /// Its encoding.
        codec: Codec,
        /// The bytes that the guest wrote.
        bytes: Vec<u8>,
    },
    /// The contents of the [`SharedBuffer`](crate::SharedBuffer) that the task was lent.
    InPlace,
    /// A scalar function's results.
    Scalars(Vec<Scalar>),
    /// A command's exit code.
    Exited(i32),
}

//! Core dumps: how many a pool wants, and the pieces that one travels in.

use crate::codec::{Decode, Encode};

/// Which core dumps a pool keeps: the memory, the globals and the functions of a guest at its trap, as
/// a WebAssembly file that debuggers read. Whoever has one has the task's data.
///
/// ```
/// use stockade_wire::Coredumps;
///
/// let few = Coredumps::default().count_max(3).bytes_max(16 << 20);
/// assert_eq!(few.count_max, 3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub struct Coredumps {
    /// How many tasks of a pool leave one: those that trap first. Default: 100.
    pub count_max: u32,
    /// Bytes of one. The end of a memory that makes it longer is left out of it. Default: 256 MiB.
    pub bytes_max: u64,
}

/// The fewest bytes that [`Coredumps::bytes_max`] may be: enough for all but the memory.
pub const COREDUMP_BYTES_MIN: u64 = 1 << 20;

/// The most that [`Coredumps::bytes_max`] may be: readers of WebAssembly take no longer section.
pub const COREDUMP_BYTES_MAX: u64 = 1 << 30;

/// Bytes of every piece of a core dump but the last, which has at least one and no more. Any frame
/// holds as many, for any limits.
pub const COREDUMP_PIECE_BYTES: usize = 256 << 10;

impl Default for Coredumps {
    fn default() -> Self {
        Self { count_max: 100, bytes_max: 256 << 20 }
    }
}

impl Coredumps {
    /// Sets [`count_max`](Self::count_max).
    #[must_use]
    pub fn count_max(mut self, count: u32) -> Self {
        self.count_max = count;
        self
    }

    /// Sets [`bytes_max`](Self::bytes_max).
    #[must_use]
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes;
        self
    }
}

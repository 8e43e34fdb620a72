//! Core dumps: received from workers, and returned to callers.
//!
//! ```text
//! WorkerMessage::Dumped … ─► Incoming, one a worker ─ Finished, and it failed ─► Coredump ─► TaskReport
//!                                                                                  └─ save ─► FILE
//! ```
//!
//! A dump comes from a worker that may be hostile, and may have the maximum length. It arrives in
//! several messages and stays in these pieces, so it costs no copy, and no file is written under
//! the pool's lock. It is never parsed here.
//!
//! Invariant: a worker has at most one dump here, no longer than requested.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use stockade_wire::{COREDUMP_PIECE_BYTES, Coredumps, TaskId};

use crate::base::private_file;

/// A core dump of a guest that trapped: its functions, memory and globals, as a WebAssembly file
/// for debuggers ([Coredump.md] of the tool conventions).
///
/// It comes from the task's worker, which may be under its guest's control: open it only with tools
/// that tolerate hostile files. It contains the task's data. See
/// [`PoolBuilder::coredumps`](crate::PoolBuilder::coredumps).
///
/// [Coredump.md]: https://github.com/WebAssembly/tool-conventions/blob/main/Coredump.md
#[derive(Clone)]
pub struct Coredump(Arc<Pieces>);

#[derive(Default)]
struct Pieces {
    pieces: Vec<Vec<u8>>,
    left_out: u64,
}

impl Coredump {
    /// Atomically writes it to the file `path`, which only its owner may read: to a temporary file,
    /// then renames it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> io::Result<()> {
        private_file::write(path.as_ref(), |file| {
            self.pieces().try_for_each(|piece| file.write_all(piece))
        })
    }

    /// All of its bytes, in the pieces in which they arrived.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.0.pieces.iter().map(Vec::as_slice)
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.pieces().map(|piece| piece.len() as u64).sum()
    }

    /// How many bytes at the end of the guest's memory are truncated, because of the dump's maximum
    /// or the task's deadline; they read as zero.
    pub fn left_out(&self) -> u64 {
        self.0.left_out
    }
}

impl fmt::Debug for Coredump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, left_out) = (self.bytes(), self.left_out());
        let mut shown = f.debug_struct("Coredump");
        shown.field("bytes", &bytes).field("left_out", &left_out).finish_non_exhaustive()
    }
}

/// The dump that a worker is sending.
pub(crate) struct Incoming {
    task: TaskId,
    pieces: Pieces,
    bytes: u64,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("task", &self.task).finish_non_exhaustive()
    }
}

impl Incoming {
    /// An empty dump of `task`.
    pub(crate) fn new(task: TaskId) -> Self {
        Self { task, pieces: Pieces::default(), bytes: 0 }
    }

    /// Whose it is.
    pub(crate) fn task(&self) -> TaskId {
        self.task
    }

    /// Adds the next piece. Returns false if an honest worker would not send it; then nothing is
    /// kept.
    pub(crate) fn push(&mut self, piece: Vec<u8>, left_out: u64, wanted: &Coredumps) -> bool {
        let Pieces { pieces, left_out: told } = &mut self.pieces;
        // Else very many small ones would take far more memory than there are bytes in them.
        let is_whole = |piece: &Vec<u8>| piece.len() == COREDUMP_PIECE_BYTES;
        let bytes = self.bytes + piece.len() as u64;
        let fits = (1..=COREDUMP_PIECE_BYTES).contains(&piece.len())
            && pieces.last().is_none_or(is_whole)
            && bytes <= wanted.bytes_max;
        if fits {
            pieces.push(piece);
            (self.bytes, *told) = (bytes, left_out);
        }
        fits
    }

    /// It is complete.
    pub(crate) fn finish(self) -> Coredump {
        Coredump(Arc::new(self.pieces))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(bytes: usize) -> Coredumps {
        Coredumps::default().bytes_max(bytes as u64)
    }

    #[test]
    fn a_dump_of_the_most_bytes_is_taken_and_one_byte_more_is_not() {
        let wanted = wanted(COREDUMP_PIECE_BYTES + 10);
        for (last, taken) in [(10, true), (11, false)] {
            let mut incoming = Incoming::new(TaskId(1));
            assert!(incoming.push(vec![1; COREDUMP_PIECE_BYTES], 7, &wanted));
            assert_eq!(incoming.push(vec![2; last], 7, &wanted), taken);
            let dump = incoming.finish();
            let rest = if taken { last as u64 } else { 0 };
            assert_eq!(dump.bytes(), COREDUMP_PIECE_BYTES as u64 + rest);
            assert_eq!(dump.left_out(), 7);
        }
    }

    #[test]
    fn pieces_as_no_honest_worker_sends_them_are_refused() {
        let wanted = wanted(100 * COREDUMP_PIECE_BYTES);
        let mut incoming = Incoming::new(TaskId(1));
        assert!(!incoming.push(Vec::new(), 0, &wanted));
        assert!(!incoming.push(vec![0; COREDUMP_PIECE_BYTES + 1], 0, &wanted));
        assert!(incoming.push(vec![0; 5], 0, &wanted));
        assert!(!incoming.push(vec![0; 5], 0, &wanted), "behind one that is not whole");
    }
}

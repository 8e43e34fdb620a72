//! Allowances: how much a worker may send that answers nothing, before it is killed.
//!
//! | sent by the worker | allowed | renewed by |
//! |---|---|---|
//! | bells without a message | [`VAIN_BELLS_MAX`] reads of its socket | each message allows one more |
//! | a frame in small pieces | as many reads as its maximum length needs | the message |
//! | items of a hook, which are dropped | a task's limit for its output | an answer, or `Close` |
//!
//! An honest worker rings only for messages, and writes a long one at once. Items of a running task are
//! its own and have its limits; all else that answers nothing is never allowed, and kills its
//! worker at once.
//!
//! Deliberately absent: what happens to a worker that exceeds it.

use stockade_wire::{EMIT_OVERHEAD_BYTES, Limits};

/// Reads of a worker's socket that may return only bells. A bell may be read after its message was
/// taken from the ring, which costs an honest worker one read for a message at most.
const VAIN_BELLS_MAX: u32 = 64;

/// The least that a read brings of a long frame, on average: what the kernel hands over at once is many
/// times as much, and a reader's buffer begins with four times as much.
const READ_BYTES_MIN: usize = 4 << 10;

/// The remaining allowance of one worker.
#[derive(Debug)]
pub(crate) struct Allowance {
    poller: u32,
    reads: usize,
    reads_max: usize,
    hook_bytes: u64,
    hook_bytes_max: u64,
}

impl Allowance {
    /// The allowance of a worker whose tasks have these limits.
    pub(crate) fn new(limits: &Limits) -> Self {
        let reads_max = VAIN_BELLS_MAX as usize + limits.frame_bytes() / READ_BYTES_MIN;
        Self {
            poller: VAIN_BELLS_MAX,
            reads: reads_max,
            reads_max,
            hook_bytes: limits.output_bytes,
            hook_bytes_max: limits.output_bytes,
        }
    }

    /// It has sent a message.
    pub(crate) fn message(&mut self) {
        self.poller = (self.poller + 1).min(VAIN_BELLS_MAX);
        self.reads = self.reads_max;
    }

    /// A read of its socket returned no message, but a piece of one, or bells. Returns false if
    /// that is too much.
    pub(crate) fn read(&mut self, is_piece: bool) -> bool {
        let left = if is_piece {
            self.reads.checked_sub(1).map(|left| self.reads = left)
        } else {
            self.poller.checked_sub(1).map(|left| self.poller = left)
        };
        left.is_some()
    }

    /// A hook has emitted an item of this many bytes. Returns false if that is too much.
    pub(crate) fn hook_item(&mut self, bytes: usize) -> bool {
        let left = self.hook_bytes.checked_sub(bytes as u64 + EMIT_OVERHEAD_BYTES);
        left.map(|left| self.hook_bytes = left).is_some()
    }

    /// It has answered a task, after which a hook may run anew, or is to close, when another does.
    pub(crate) fn hook_may_run(&mut self) {
        self.hook_bytes = self.hook_bytes_max;
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    fn allowance() -> Allowance {
        Allowance::new(&Limits::default().output_bytes(1000))
    }

    #[test]
    fn bells_without_messages_come_to_an_end_and_each_message_allows_one() {
        let mut allowance = allowance();
        let taken =
            |allowance: &mut Allowance| (0..1000).take_while(|_| allowance.read(false)).count();
        assert_eq!(taken(&mut allowance), VAIN_BELLS_MAX as usize);
        for _ in 0..3 {
            allowance.message();
        }
        assert_eq!(taken(&mut allowance), 3);
        for _ in 0..1_000_000 {
            allowance.message();
            assert!(allowance.read(false), "as many poller as messages are no flood");
        }
        (0..1_000_000).for_each(|_| allowance.message());
        assert_eq!(taken(&mut allowance), VAIN_BELLS_MAX as usize, "none are saved up");
    }

    #[test]
    fn a_frame_in_crumbs_comes_to_an_end_and_the_longest_in_large_pieces_does_not() {
        let limits = Limits::default();
        let reads = |piece: usize| limits.frame_bytes().div_ceil(piece);
        for (piece, taken) in [(16 << 10, true), (READ_BYTES_MIN, true), (1 << 10, false)] {
            let mut allowance = Allowance::new(&limits);
            assert_eq!((0..reads(piece)).all(|_| allowance.read(true)), taken, "{piece}");
            allowance.message();
            assert!(allowance.read(true));
        }
    }

    #[test]
    fn items_of_a_hook_have_the_limit_of_a_task_each_time_that_one_may_run() {
        let mut allowance = allowance();
        assert!(!allowance.hook_item(1000 - EMIT_OVERHEAD_BYTES as usize + 1));
        for _ in 0..2 {
            assert!(allowance.hook_item(1000 - EMIT_OVERHEAD_BYTES as usize));
            assert!(!allowance.hook_item(0));
            allowance.hook_may_run();
        }
        let empty = (0..1000).take_while(|_| allowance.hook_item(0)).count() as u64;
        assert_eq!(empty, 1000 / EMIT_OVERHEAD_BYTES);
    }
}

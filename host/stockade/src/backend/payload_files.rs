//! Payload files on the host: the memory files of long inputs of one worker's tasks.
//!
//! Fresh memory costs as much as a copy, because the system clears it; so a worker has its files for
//! life, and the next input takes the place of the last. No file ever goes to another worker.
//!
//! ```text
//! put(input) ─► Loan { placement, memory } ── as long as anybody holds it, the file is not free ──► put …
//! ```
//!
//! Deliberately absent: reference counting. A file is free when only this table holds its memory.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use stockade_wire::{
    PAYLOAD_FILES_MAX, PAYLOAD_KEPT_BYTES_MAX, Placement, PlacementFile, SharedMemory,
};

/// The files of one worker.
#[derive(Debug, Default)]
pub(crate) struct PayloadFiles([Option<Arc<SharedMemory>>; PAYLOAD_FILES_MAX]);

/// An input in its file, and the file for as long as this lives.
#[derive(Debug)]
pub(crate) struct Loan {
    pub(crate) placement: Placement,
    pub(crate) memory: Arc<SharedMemory>,
}

impl Loan {
    /// The file's descriptor, if its worker does not have it.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.placement.brings_descriptor().then(|| self.memory.descriptor())
    }
}

impl PayloadFiles {
    /// Puts `input` into a file that is free. `None` where none is, or the system has no memory: it
    /// can go with its message.
    pub(crate) fn put(&mut self, input: &[u8]) -> Option<Loan> {
        let fits = |memory: &Arc<SharedMemory>| input.len() <= memory.bytes();
        let mut free: Vec<_> = (0..).zip(&mut self.0).filter_map(only_free).collect();
        let fitting = free.iter().position(|(_, file)| file.as_ref().is_some_and(fits));
        let chosen = fitting.unwrap_or(0);
        if free.is_empty() {
            return None;
        }
        let (file, slot) = free.swap_remove(chosen);
        let kept = slot.take().filter(fits);
        let is_new = kept.is_none();
        let mut memory = match kept {
            Some(memory) => memory,
            None => Arc::new(SharedMemory::create(room_for(input.len())).ok()?),
        };
        Arc::get_mut(&mut memory)?.put(input);
        if memory.bytes() <= PAYLOAD_KEPT_BYTES_MAX {
            *slot = Some(memory.clone());
        }
        let place = PlacementFile::Kept { file, is_new };
        Some(Loan { placement: Placement { bytes: input.len() as u64, place }, memory })
    }
}

type File = Option<Arc<SharedMemory>>;

fn only_free((number, file): (u8, &mut File)) -> Option<(u8, &mut File)> {
    let is_free = file.as_mut().is_none_or(|memory| Arc::get_mut(memory).is_some());
    is_free.then_some((number, file))
}

/// A file that is kept has room for inputs that are somewhat longer; what is not written takes none.
fn room_for(bytes: usize) -> usize {
    let room = bytes.next_power_of_two();
    if room <= PAYLOAD_KEPT_BYTES_MAX { room } else { bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(loan: &Loan) -> (u8, bool) {
        match loan.placement.place {
            PlacementFile::Kept { file, is_new } => (file, is_new),
            PlacementFile::Lent => panic!("nobody lent it"),
        }
    }

    #[test]
    fn a_file_is_used_again_once_nobody_has_it() {
        let mut files = PayloadFiles::default();
        let first = files.put(&[1; 5000]).unwrap();
        assert_eq!(place(&first), (0, true));
        let second = files.put(&[2; 5000]).unwrap();
        assert_eq!(place(&second), (1, true));
        assert!(files.put(&[3; 5000]).is_none());
        drop(second);
        let third = files.put(&[3; 8192]).unwrap();
        assert_eq!(place(&third), (1, false));
        let mut read = Vec::new();
        first.memory.read_into(5000, &mut read);
        assert!(read.iter().all(|byte| *byte == 1));
    }

    #[test]
    fn an_input_that_is_longer_than_a_file_gets_another_file() {
        let mut files = PayloadFiles::default();
        drop(files.put(&[1; 5000]).unwrap());
        let longer = files.put(&[1; 9000]).unwrap();
        assert_eq!(place(&longer), (0, true));
        drop(longer);
        assert_eq!(place(&files.put(&[1; 100]).unwrap()), (0, false));
    }

    #[test]
    fn a_file_that_fits_is_taken_before_one_that_does_not() {
        let mut files = PayloadFiles::default();
        let small = files.put(&[1; 5000]).unwrap();
        drop(files.put(&[1; 50_000]).unwrap());
        drop(small);
        assert_eq!(place(&files.put(&[1; 40_000]).unwrap()), (1, false));
        assert_eq!(place(&files.put(&[1; 4000]).unwrap()), (0, false));
    }

    #[test]
    fn a_file_that_is_too_long_to_keep_is_gone_with_its_task() {
        let mut files = PayloadFiles::default();
        let long = files.put(&vec![1; PAYLOAD_KEPT_BYTES_MAX + 1]).unwrap();
        assert_eq!(place(&long), (0, true));
        assert_eq!(Arc::strong_count(&long.memory), 1);
        drop(long);
        assert_eq!(place(&files.put(&[1; 100]).unwrap()), (0, true));
    }
}

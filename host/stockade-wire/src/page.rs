//! The status page: one page of memory that a worker writes and its host reads.
//!
//! It carries what changes too often for messages, and what must be readable after the worker's
//! death: which task had been started, and how far it says it is. Each field is one atomic word, so
//! a worker that writes nonsense gives the host a wrong number and nothing worse.
//!
//! Invariant: the file is sealed against resizing before it is mapped, because a page that vanishes
//! under a mapping kills its reader.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::SealFlags;
use rustix::mm::{MapFlags, ProtFlags};

use crate::TaskId;
use crate::descriptor::memory_file;

const PAGE_BYTES: usize = 4096;

#[repr(C)]
struct Words {
    /// The task started last, 0 before the first.
    started: AtomicU64,
    progress_task: AtomicU64,
    progress_done: AtomicU64,
    progress_total: AtomicU64,
}

/// A page that cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// A system call failed.
    #[error("cannot map the status page: {0}")]
    Io(#[from] io::Error),
    /// The descriptor is not a page that stays as long as it is.
    #[error("the status page is not sealed against resizing")]
    Unsealed,
}

/// One side's view of the status page.
#[derive(Debug)]
pub struct StatusPage {
    words: NonNull<Words>,
    file: File,
}

// SAFETY: the mapping lives until drop whatever thread drops it, and every access is atomic.
unsafe impl Send for StatusPage {}
// SAFETY: as above.
unsafe impl Sync for StatusPage {}

impl StatusPage {
    /// Makes a page for one worker.
    ///
    /// # Errors
    /// [`PageError::Io`] where memory files or mappings cannot be had.
    pub fn create() -> Result<Self, PageError> {
        let file = memory_file("stockade-status")?;
        file.set_len(PAGE_BYTES as u64)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)
            .map_err(io::Error::from)?;
        Self::open(file)
    }

    /// Maps the page that `file` holds.
    ///
    /// # Errors
    /// [`PageError`]
    pub fn open(file: File) -> Result<Self, PageError> {
        let resize = SealFlags::GROW | SealFlags::SHRINK;
        let sealed = rustix::fs::fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(resize));
        if !sealed || file.metadata()?.len() != PAGE_BYTES as u64 {
            return Err(PageError::Unsealed);
        }
        // SAFETY: a fresh mapping at an address the kernel picks aliases nothing of ours; the file
        // has the mapped length and, sealed, keeps it.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                PAGE_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )
        }
        .map_err(io::Error::from)?;
        let words = NonNull::new(address.cast::<Words>())
            .ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Self { words, file })
    }

    /// The descriptor to hand to the other side.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Worker: `task` starts now. Published before its first instruction.
    pub fn start(&self, task: TaskId) {
        self.words().started.store(task.0, Ordering::Release);
    }

    /// Worker: `task` says that `done` of `total` is done.
    pub fn progress(&self, task: TaskId, done: u64, total: u64) {
        let words = self.words();
        words.progress_done.store(done, Ordering::Relaxed);
        words.progress_total.store(total, Ordering::Relaxed);
        words.progress_task.store(task.0, Ordering::Release);
    }

    /// Host: the task that the worker says it started last.
    pub fn started(&self) -> Option<TaskId> {
        match self.words().started.load(Ordering::Acquire) {
            0 => None,
            task => Some(TaskId(task)),
        }
    }

    /// Host: what `task` last said of its progress. The two numbers may come from two calls of a
    /// task that calls often; they are for a person's eyes.
    pub fn progress_of(&self, task: TaskId) -> Option<(u64, u64)> {
        let words = self.words();
        (words.progress_task.load(Ordering::Acquire) == task.0).then(|| {
            (
                words.progress_done.load(Ordering::Relaxed),
                words.progress_total.load(Ordering::Relaxed),
            )
        })
    }

    fn words(&self) -> &Words {
        // SAFETY: the mapping is at least as large and as aligned as `Words`, lives as long as
        // `self`, and holds only atomics, for which any bit pattern is a value.
        unsafe { self.words.as_ref() }
    }
}

impl Drop for StatusPage {
    fn drop(&mut self) {
        // SAFETY: mapped by `open` with this length; no reference outlives `self`. A failure would
        // leak one page and is nothing to act on.
        let _ = unsafe { rustix::mm::munmap(self.words.as_ptr().cast(), PAGE_BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_see_the_same_page() {
        let host = StatusPage::create().unwrap();
        let worker =
            StatusPage::open(File::from(host.descriptor().try_clone_to_owned().unwrap())).unwrap();
        assert_eq!(host.started(), None);
        worker.start(TaskId(7));
        worker.progress(TaskId(7), 3, 10);
        assert_eq!(host.started(), Some(TaskId(7)));
        assert_eq!(host.progress_of(TaskId(7)), Some((3, 10)));
        assert_eq!(host.progress_of(TaskId(8)), None);
    }

    #[test]
    fn a_page_that_could_shrink_is_refused() {
        let file = memory_file("page").unwrap();
        file.set_len(PAGE_BYTES as u64).unwrap();
        assert!(matches!(StatusPage::open(file), Err(PageError::Unsealed)));
    }
}

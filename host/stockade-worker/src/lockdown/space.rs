//! The address space of a worker: where its guests' memory is, and how much there may be at all.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::process::Resource;
use stockade_wire::MEMORY_BYTES_MAX;

use super::limits::lower;
use super::own::in_words;

/// Where a worker has the memory of its guests, once its engine has reserved it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    /// From the first memory's beginning to the end of the last, all of it mapped.
    pub(crate) memories: Range<usize>,
    /// Where access to memory may be taken away again, from the beginning of each: pages that are kept
    /// until a guest grows again. What was written there stays resident, and the kernel no longer counts
    /// it.
    pub(crate) windows: Vec<Range<usize>>,
}

impl Space {
    /// A range that begins in [`memories`](Self::memories) ends behind them by less than this: the
    /// longest memory.
    pub(crate) const BEYOND_BYTES_MAX: usize = MEMORY_BYTES_MAX as usize;

    /// The most windows. Each is a rule of about 20 instructions, of which a filter has 4,096.
    pub(crate) const WINDOWS_MAX: usize = 64;

    /// The most bytes of a window. What stays written in windows is not counted: 64 MiB at most.
    pub(crate) const WINDOW_BYTES_MAX: usize = 1 << 20;
}

/// How much is mapped in this process: a file about it that is opened while files still are.
#[derive(Debug)]
pub(crate) struct Mapped {
    file: File,
    page_bytes: u64,
}

impl Mapped {
    /// Opens it.
    ///
    /// # Errors
    /// The kernel's words.
    pub(crate) fn open() -> Result<Self, String> {
        let file = File::open("/proc/self/statm").map_err(in_words)?;
        // The system must not be asked for it later.
        Ok(Self { file, page_bytes: rustix::param::page_size() as u64 })
    }

    /// Bytes that are mapped now, reserved or used.
    fn bytes(&self) -> Result<u64, String> {
        let mut text = [0; 128];
        let length = self.file.read_at(&mut text, 0).map_err(in_words)?;
        // The first number counts the pages, see proc_pid_statm(5).
        let text = std::str::from_utf8(&text[..length]).unwrap_or_default();
        let pages = text.split_whitespace().next().and_then(|pages| pages.parse::<u64>().ok());
        let pages = pages.ok_or("the system does not say how much is mapped")?;
        Ok(pages.saturating_mul(self.page_bytes))
    }

    /// Limits the address space for good, in a process that may have `data_bytes` of private memory
    /// and may make reserved memory writable.
    ///
    /// What can be mapped: what is mapped now, the private memory, and what may lie behind the
    /// memories of guests. And once more the largest mapping that is not writable, since the kernel
    /// would let it become writable beyond `data_bytes` if it did not fit: see
    /// [`sealed`](super::seccomp).
    ///
    /// # Errors
    /// The kernel's words.
    pub(crate) fn limit_reserved(&self, data_bytes: u64) -> Result<(), String> {
        let once = self.bytes()?.saturating_add(Space::BEYOND_BYTES_MAX as u64);
        let bytes = once.saturating_mul(2).saturating_add(data_bytes);
        lower(Resource::As, bytes, bytes)
    }

    /// Limits the address space for good, in a process that makes no memory writable that was not:
    /// what is mapped now, and the private memory.
    ///
    /// # Errors
    /// The kernel's words.
    pub(crate) fn limit(&self, data_bytes: u64) -> Result<(), String> {
        let bytes = self.bytes()?.saturating_add(data_bytes).saturating_add(SLACK_BYTES);
        lower(Resource::As, bytes, bytes)
    }
}

/// What a process may map that is neither mapped yet nor private memory: its main stack.
const SLACK_BYTES: u64 = super::limits::STACK_BYTES_MAX + (1 << 20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memories;

    #[test]
    fn what_is_mapped_grows_with_a_mapping_of_address_space_alone() {
        let mapped = Mapped::open().unwrap();
        let before = mapped.bytes().unwrap();
        let memories = Memories::new(1).unwrap();
        assert!(mapped.bytes().unwrap() >= before + (1 << 30), "{before}");
        drop(memories);
    }
}

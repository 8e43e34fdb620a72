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
    /// Where access to memory may be taken away again.
    pub(crate) hiding: Hiding,
}

/// Where a sealed worker may take the access to its memory away. What was written there stays
/// resident, and the kernel no longer counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hiding {
    /// In all memories: the engine's pooling allocator takes back in this way what a guest has grown.
    InMemories,
    /// From the beginning of each of these: pages that are kept until a guest grows again.
    #[allow(dead_code, reason = "for memory that is not the engine's own")]
    Windows(Vec<Range<usize>>),
}

impl Space {
    /// A range that begins in [`memories`](Self::memories) ends behind them by less than this: the
    /// longest memory.
    pub(crate) const BEYOND_BYTES_MAX: usize = MEMORY_BYTES_MAX as usize;

    /// Looks for it, in a process whose engine has just reserved it and has made no instance: it is by
    /// far the largest mapping. Empty where the system does not tell.
    pub(crate) fn find() -> Self {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let memories = maps.lines().filter_map(range).max_by_key(Range::len).unwrap_or_default();
        Self { memories, hiding: Hiding::InMemories }
    }
}

/// The addresses that a line of /proc/PID/maps begins with, see proc_pid_maps(5).
fn range(line: &str) -> Option<Range<usize>> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
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

    #[test]
    fn a_line_of_the_map_begins_with_its_addresses() {
        let line = "7f0ba7c00000-7f1ba7c00000 ---p 00000000 00:00 0 ";
        assert_eq!(range(line), Some(0x7f0b_a7c0_0000..0x7f1b_a7c0_0000));
        assert_eq!(range(""), None);
        assert_eq!(range("7f-zz"), None);
    }

    #[test]
    fn what_is_mapped_grows_with_a_mapping_of_address_space_alone() {
        let mapped = Mapped::open().unwrap();
        let before = mapped.bytes().unwrap();
        let space = wasmtime_reservation();
        assert!(mapped.bytes().unwrap() >= before + (1 << 30), "{before}");
        drop(space);
    }

    /// A gibibyte that is reserved as an engine does.
    fn wasmtime_reservation() -> wasmtime::Engine {
        let settings = stockade_wire::Limits::default().engine_settings();
        let code = std::sync::Arc::new(crate::artefact::Code::new());
        crate::engine::for_worker(&settings, code).unwrap()
    }
}

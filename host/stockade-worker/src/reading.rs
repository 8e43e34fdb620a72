//! `fd_read`: how a guest reads files.
//!
//! wasmtime-wasi has the kernel read right into the guest's memory. Of all calls of
//! `wasi_snapshot_preview1` it is the only one; the others copy what they have read. The kernel fails
//! where a page is still protected, so the pages that it is to fill are touched first.

use std::ops::Range;

use wasmtime::{AsContextMut, Caller, Linker};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{WasiSnapshotPreview1, fd_read};
use wasmtime_wasi::runtime::in_tokio;
use wiggle::GuestMemory;

use crate::descriptors::read_pipe;
use crate::guest::GuestState;
use crate::{hostcalls, memory};

/// Bytes of an `iovec`: a pointer and a length.
const IOVEC_BYTES: usize = 8;

/// Puts ours in the place of wasmtime-wasi's.
///
/// # Errors
/// If the linker does not allow that.
pub(crate) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "wasi_snapshot_preview1",
        "fd_read",
        |mut caller: Caller<'_, GuestState>, fd: i32, iovecs: i32, count: i32, read: i32| {
            let fuel = caller.as_context_mut().hostcall_fuel();
            let (memory, state) = hostcalls::memory_and_state(&mut caller)?;
            let page_bytes = state.surroundings.page_bytes;
            let initial = state.initial_bytes.map(|bytes| bytes as usize);
            let end = initial.map_or(usize::MAX, |bytes| bytes + memory::WINDOW_BYTES);
            if let Some(place) = first_place(memory, iovecs.cast_unsigned(), count.cast_unsigned())
            {
                // Beyond that nothing is protected, and a file may be much shorter than its place.
                let protected = place.end.min(end).saturating_sub(place.start);
                memory::touch(&mut memory[place.start..place.start + protected], page_bytes);
            }
            let numbers = [iovecs, count, read].map(i32::cast_unsigned);
            if let Some(errno) = read_pipe(state, memory, fd.cast_unsigned(), numbers) {
                return Ok(errno);
            }
            let context = state.wasi();
            context.set_hostcall_fuel(fuel);
            let mut memory = GuestMemory::Unshared(memory);
            in_tokio(fd_read(context, &mut memory, fd, iovecs, count, read))
        },
    )?;
    Ok(())
}

/// The first place that is not empty, which is the one that is read to; none where the call will fail.
fn first_place(memory: &[u8], iovecs: u32, count: u32) -> Option<Range<usize>> {
    let (start, count) = (iovecs as usize, count as usize);
    // Two 32-bit numbers cannot overflow it.
    let list = memory.get(start..start + count * IOVEC_BYTES)?;
    let place: Range<usize> = list.chunks_exact(IOVEC_BYTES).find_map(|iovec| {
        let number = |at: usize| Some(u32::from_le_bytes(*iovec[at..].first_chunk()?) as usize);
        let (pointer, length) = (number(0)?, number(4)?);
        (length > 0).then_some(pointer..pointer + length)
    })?;
    (place.end <= memory.len()).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_is_not_empty_is_found_within_the_memory() {
        let iovec =
            |pointer: u32, length: u32| [pointer.to_le_bytes(), length.to_le_bytes()].concat();
        let mut memory = [iovec(90, 0), iovec(100, 28), iovec(0, 1)].concat();
        memory.resize(128, 0);
        let length = |memory: &[u8], at, count| first_place(memory, at, count).map(|it| it.len());
        assert_eq!(length(&memory, 0, 3), Some(28));
        assert_eq!(length(&memory, 0, 1), None, "all are empty");
        assert_eq!(length(&memory, 16, 1), Some(1));
        assert_eq!(length(&memory, 0, u32::MAX), None, "the list is out of bounds");
        memory[12] = 29;
        assert_eq!(length(&memory, 0, 3), None, "the place is out of bounds");
    }
}

//! Rings: two queues of records in memory that a host shares with one worker, one each way.
//!
//! ```text
//! ┌ indices ┬ indices ┬── host's records ──┬── worker's records ──┐
//! └─────────┴─────────┴────────────────────┴──────────────────────┘
//! record: length, whether its body is here or on the socket │ body │ to a multiple of 8 bytes
//! ```
//!
//! A message costs a copy each way and no system call, unless the other side sleeps. A body that is
//! too long for a ring, or that brings descriptors, travels on the socket; the record that announces
//! it keeps its place in the order.
//!
//! Invariant: the reader copies a record out before it looks at it, and believes neither index nor
//! length that do not fit what it has read so far.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::indices::{Indices, RingError, Wake};
use crate::mapping::{Mapping, MappingError};

/// Bytes of records that a ring holds: a power of two.
pub const RING_BYTES: usize = 128 << 10;

/// The most bytes of a body that travels in a ring.
pub const RING_BODY_BYTES_MAX: usize = 32 << 10;

/// Kept free for announcements of what travels on the socket, so that there is room for them where
/// there is none for bodies.
const ANNOUNCEMENT_BYTES: usize = 8 << 10;

const HEADER_BYTES: usize = 8;
const ALIGNMENT: usize = 8;
/// Says that the body is on the socket.
const ON_SOCKET: u64 = 1 << 32;

/// Where the records begin.
const RECORDS_AT: usize = 4096;
const BYTES: usize = RECORDS_AT + 2 * RING_BYTES;

const _: () = assert!(RING_BYTES.is_power_of_two() && RING_BYTES.is_multiple_of(ALIGNMENT));
const _: () = assert!(2 * size_of::<Indices>() <= RECORDS_AT);

/// Where a record's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// It was copied out.
    Here,
    /// It is the next frame on the socket.
    OnSocket,
}

/// The memory of both rings, before it is known whose side this is.
#[derive(Debug)]
pub struct Rings(Arc<Mapping>);

impl Rings {
    /// Makes empty rings for one worker.
    ///
    /// # Errors
    /// [`MappingError::Io`] if memory files or mappings are not available.
    pub fn create() -> Result<Self, MappingError> {
        Ok(Self(Arc::new(Mapping::create("stockade-rings", BYTES)?)))
    }

    /// Maps the rings that `file` holds.
    ///
    /// # Errors
    /// [`MappingError`]
    pub fn open(file: File) -> Result<Self, MappingError> {
        Ok(Self(Arc::new(Mapping::open(file, BYTES)?)))
    }

    /// The descriptor to hand to the other side.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.descriptor()
    }

    /// The host's ends, of rings in which nothing was written yet.
    pub fn host(&self) -> (Writer, Reader) {
        (self.writer(0), self.reader(1))
    }

    /// The worker's ends, likewise.
    pub fn worker(&self) -> (Writer, Reader) {
        (self.writer(1), self.reader(0))
    }

    fn writer(&self, ring: usize) -> Writer {
        Writer { half: Half { mapping: self.0.clone(), ring }, head: 0, tail_seen: 0 }
    }

    fn reader(&self, ring: usize) -> Reader {
        Reader { half: Half { mapping: self.0.clone(), ring }, tail: 0, head_seen: 0 }
    }
}

/// One of the two rings.
#[derive(Debug)]
struct Half {
    mapping: Arc<Mapping>,
    ring: usize,
}

impl Half {
    fn indices(&self) -> &Indices {
        let indices = self.mapping.start().cast::<Indices>();
        // SAFETY: the mapping begins at a page and holds two of these, only atomics, for which any
        // bit pattern is a value; it lives as long as `self`.
        unsafe { indices.add(self.ring).as_ref() }
    }

    /// The first of the ring's `RING_BYTES` bytes.
    fn records(&self) -> NonNull<u8> {
        // SAFETY: within the mapping, as its length is the sum of its parts.
        unsafe { self.mapping.start().add(RECORDS_AT + self.ring * RING_BYTES) }
    }

    /// Copies `bytes` to where index `at` and what follows it stand.
    fn write(&self, at: u64, bytes: &[u8]) {
        debug_assert!(bytes.len() <= RING_BYTES);
        let start = at as usize % RING_BYTES;
        let (first, rest) = bytes.split_at(bytes.len().min(RING_BYTES - start));
        // SAFETY: both parts lie within the ring, and `bytes` is private memory, which no mapping
        // overlaps. The other side is another process: what it does to these bytes meanwhile
        // changes what it reads, and nothing here.
        unsafe {
            self.records().add(start).copy_from_nonoverlapping(slice_start(first), first.len());
            self.records().copy_from_nonoverlapping(slice_start(rest), rest.len());
        }
    }

    /// Appends to `out` the `count` bytes from index `at` on.
    fn read(&self, at: u64, count: usize, out: &mut Vec<u8>) {
        debug_assert!(count <= RING_BYTES);
        let start = at as usize % RING_BYTES;
        let first = count.min(RING_BYTES - start);
        out.reserve(count);
        let filled = out.len();
        // SAFETY: both parts lie within the ring, and `out` has room for them, which is private
        // memory. The other side may change the bytes while they are copied; any bytes will do, as
        // they are looked at only in the copy.
        unsafe {
            let end = out.as_mut_ptr().add(filled);
            std::ptr::copy_nonoverlapping(self.records().add(start).as_ptr(), end, first);
            let end = end.add(first);
            std::ptr::copy_nonoverlapping(self.records().as_ptr(), end, count - first);
            out.set_len(filled + count);
        }
    }

    fn read_header(&self, at: u64) -> u64 {
        let start = at as usize % RING_BYTES;
        // SAFETY: records begin at multiples of 8, so the 8 bytes of a header never wrap; read as a
        // whole and once, because the other side may change them.
        u64::from_le(unsafe { self.records().add(start).cast::<u64>().read_volatile() })
    }
}

fn slice_start(bytes: &[u8]) -> NonNull<u8> {
    NonNull::from(bytes).cast()
}

/// What a record with a body of so many bytes takes.
fn record_bytes(body_bytes: usize) -> usize {
    HEADER_BYTES + body_bytes.next_multiple_of(ALIGNMENT)
}

/// The end that writes records.
#[derive(Debug)]
pub struct Writer {
    half: Half,
    head: u64,
    /// A tail that the reader really had once: there is at least as much room.
    tail_seen: u64,
}

impl Writer {
    /// Writes a record with this body. The reader can read it at once, and has perhaps to be woken.
    ///
    /// # Errors
    /// [`RingError::Full`], also for a body above [`RING_BODY_BYTES_MAX`]; [`RingError::Index`].
    pub fn push(&mut self, body: &[u8]) -> Result<(), RingError> {
        if body.len() > RING_BODY_BYTES_MAX {
            return Err(RingError::Full);
        }
        self.make_room(record_bytes(body.len()) + ANNOUNCEMENT_BYTES)?;
        self.half.write(self.head + HEADER_BYTES as u64, body);
        self.finish(body.len() as u64, record_bytes(body.len()));
        Ok(())
    }

    /// Writes a record that announces the next frame on the socket.
    ///
    /// # Errors
    /// [`RingError::Full`], [`RingError::Index`].
    pub fn announce(&mut self) -> Result<(), RingError> {
        self.make_room(HEADER_BYTES)?;
        self.finish(ON_SOCKET, HEADER_BYTES);
        Ok(())
    }

    fn make_room(&mut self, bytes: usize) -> Result<(), RingError> {
        if self.room() < bytes {
            let tail = self.half.indices().tail();
            if !(self.tail_seen..=self.head).contains(&tail) {
                return Err(RingError::Index);
            }
            self.tail_seen = tail;
        }
        if self.room() < bytes { Err(RingError::Full) } else { Ok(()) }
    }

    fn room(&self) -> usize {
        RING_BYTES - (self.head - self.tail_seen) as usize
    }

    fn finish(&mut self, header: u64, bytes: usize) {
        self.half.write(self.head, &header.to_le_bytes());
        self.head += bytes as u64;
        self.half.indices().publish(self.head);
    }

    /// Whether the reader sleeps and has to be woken by a bell, which is said once. `is_idle`: nothing
    /// follows before the reader writes something itself.
    pub fn wakes_reader(&self, is_idle: bool) -> Wake {
        self.half.indices().wakes_reader(is_idle)
    }

    /// Whether to sleep until a bell rings, after [`RingError::Full`].
    pub fn may_sleep(&self) -> bool {
        self.half.indices().writer_may_sleep(self.tail_seen)
    }
}

/// The end that reads records.
#[derive(Debug)]
pub struct Reader {
    half: Half,
    tail: u64,
    /// A head that the writer really had once: everything before it is written.
    head_seen: u64,
}

impl Reader {
    /// Takes the next record, if there is one, and puts its body into `body`, which is emptied first.
    ///
    /// # Errors
    /// [`RingError::Index`], [`RingError::Record`]: the ring is of no further use.
    pub fn next(&mut self, body: &mut Vec<u8>) -> Result<Option<Record>, RingError> {
        if self.head_seen == self.tail {
            let head = self.half.indices().head();
            let written = head.checked_sub(self.tail).ok_or(RingError::Index)?;
            if written > RING_BYTES as u64 || !written.is_multiple_of(ALIGNMENT as u64) {
                return Err(RingError::Index);
            }
            self.head_seen = head;
            if written == 0 {
                return Ok(None);
            }
        }
        // At least a header, as both are multiples of its length.
        let header = self.half.read_header(self.tail);
        body.clear();
        if header == ON_SOCKET {
            self.tail += HEADER_BYTES as u64;
            return Ok(Some(Record::OnSocket));
        }
        let length = usize::try_from(header).map_err(|_| RingError::Record)?;
        let unread = (self.head_seen - self.tail) as usize;
        if length > RING_BODY_BYTES_MAX || record_bytes(length) > unread {
            return Err(RingError::Record);
        }
        self.half.read(self.tail + HEADER_BYTES as u64, length, body);
        self.tail += record_bytes(length) as u64;
        Ok(Some(Record::Here))
    }

    /// Whether there is a record to take, as far as indices say.
    pub fn has_next(&self) -> bool {
        self.head_seen != self.tail || self.half.indices().head() != self.tail
    }

    /// Frees the room of what was taken. True: the writer sleeps for lack of it, and has to be woken
    /// by a bell, which is said once.
    pub fn release(&self) -> bool {
        let indices = self.half.indices();
        indices.release(self.tail);
        indices.wakes_writer()
    }

    /// Takes back that this side sleeps. It looks for records itself, until it
    /// [`may_sleep`](Self::may_sleep).
    pub fn stay_awake(&self) {
        self.half.indices().reader_stays_awake();
    }

    /// Whether to sleep until a bell rings, after there was no record.
    pub fn may_sleep(&self) -> bool {
        self.half.indices().reader_may_sleep(self.tail)
    }

    /// As [`may_sleep`](Self::may_sleep), by a reader that will look again soon: a bell rings only if
    /// the writer has nothing more to do.
    pub fn may_doze(&self) -> bool {
        self.half.indices().reader_may_doze(self.tail)
    }
}

#[cfg(test)]
#[cfg(not(miri))]
mod tests;

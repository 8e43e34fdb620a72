//! Shared buffers: memory of the caller that is lent to a task without a copy, and comes back.
//!
//! ```text
//! SharedBuffer ── moved into submit ──► BufferSlot ── once the task has ended ──► result, take_buffer
//!                  its descriptor ──► worker ──► the guest's memory, until the task's end
//! ```
//!
//! Invariant: the host makes no reference to bytes that a worker can write. See
//! [`SharedMemory`](stockade_wire::SharedMemory).

use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU8;
use std::sync::{Mutex, MutexGuard, PoisonError};

use stockade_wire::{FrozenMemory, SharedMemory};

/// The most bytes of a [`SharedBuffer`].
pub(crate) const BUFFER_BYTES_MAX: usize = 1 << 30;

/// Memory for large inputs and results, which a task reads and changes in place: nothing is copied.
///
/// It is passed as the only argument of a task and comes back as its result; in between it is part
/// of the guest's memory. If the guest's function takes `&mut [u8]`, the buffer then has the
/// changes. A task that takes `&[u8]` may return another result;
/// [`TaskHandle::take_buffer`](crate::TaskHandle::take_buffer) then returns the buffer, and also
/// after a failure. A guest without support for buffers reads its input as usual, and its result is
/// copied into the buffer if it has the same length.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = stockade::Pool::builder().module("tasks.wasm").build()?;
/// use stockade::SharedBuffer;
///
/// let mut buffer = SharedBuffer::new(16 << 20)?;
/// buffer.copy_from_slice(0, b"pixels");
/// for _ in 0..3 {
///     buffer = pool.run("sharpen", buffer)?;
/// }
/// let picture = buffer.freeze()?;
/// println!("{} bytes", picture.len());
/// # Ok(())
/// # }
/// ```
///
/// # What a task leaves behind
///
/// The memory is shared with each worker that had it. A worker under its guest's control may keep
/// it, and read and change later contents at any moment. So use a buffer only with pools of one
/// domain of trust. Its contents can only be copied or read as atomics; before you check and trust
/// them, copy or [freeze](Self::freeze) them. A task that is retried finds what its last attempt
/// wrote.
#[derive(Debug)]
pub struct SharedBuffer(SharedMemory);

impl SharedBuffer {
    /// A buffer of `bytes` bytes, at most 1 GiB, all zero. Memory is allocated when it is written.
    ///
    /// # Errors
    /// If it is too long, or the system has no memory or descriptors left.
    pub fn new(bytes: usize) -> io::Result<Self> {
        if bytes > BUFFER_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a buffer of {bytes} bytes, but only {BUFFER_BYTES_MAX} are allowed"),
            ));
        }
        SharedMemory::create(bytes).map(Self).map_err(io::Error::other)
    }

    /// Its length in bytes, which never changes.
    pub fn len(&self) -> usize {
        self.0.bytes()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `from` to `offset`.
    ///
    /// # Panics
    /// If it does not fit.
    pub fn copy_from_slice(&mut self, offset: usize, from: &[u8]) {
        self.0.write_at(offset, from);
    }

    /// Copies bytes from `offset` into `into`.
    ///
    /// # Panics
    /// If there are not enough bytes.
    pub fn copy_to_slice(&self, offset: usize, into: &mut [u8]) {
        self.0.read_at(offset, into);
    }

    /// A copy of its contents.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.read_into(self.len(), &mut bytes);
        bytes
    }

    /// All bytes as atomics: a hostile worker may change a byte between two reads.
    pub fn bytes(&mut self) -> &[AtomicU8] {
        self.0.atomics()
    }

    /// Makes it immutable, here and in every worker, so that it can be read as a slice. Copies
    /// nothing. Blocks for a fraction of a second at most.
    ///
    /// # Errors
    /// [`FreezeError::InUse`], with the buffer, if a worker still has it as memory: that of a task
    /// that was just cancelled or killed, or one under its guest's control.
    pub fn freeze(self) -> Result<FrozenBuffer, FreezeError> {
        match self.0.freeze() {
            Ok(memory) => Ok(FrozenBuffer(memory)),
            Err(stockade_wire::FreezeError::InUse(memory)) => Err(FreezeError::InUse(Self(memory))),
            Err(stockade_wire::FreezeError::Io(error)) => Err(FreezeError::Io(error)),
        }
    }

    /// The descriptor for a worker.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.descriptor()
    }

    /// Makes a result its contents, if that is as long. Returns whether it is.
    fn takes(&mut self, result: &[u8]) -> bool {
        let fits = result.len() == self.len();
        if fits {
            self.0.write_at(0, result);
        }
        fits
    }
}

#[cfg(test)]
impl PartialEq for BufferSlot {
    fn eq(&self, _: &Self) -> bool {
        // No buffer is another.
        false
    }
}

/// A [`SharedBuffer`] that was not frozen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FreezeError {
    /// A worker still has it as memory. The buffer is returned unchanged.
    #[error("a worker still has the buffer as its memory")]
    InUse(SharedBuffer),
    /// The system failed, or a worker that had it has sealed it against freezing.
    #[error("the buffer cannot be sealed: {0}")]
    Io(#[source] io::Error),
}

/// A frozen [`SharedBuffer`], which no process can change.
pub struct FrozenBuffer(FrozenMemory);

impl Deref for FrozenBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for FrozenBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrozenBuffer({})", self.0.len())
    }
}

/// The buffer that a task is lent, until it is taken after the task's end.
#[derive(Debug)]
pub struct BufferSlot {
    buffer: Mutex<Option<SharedBuffer>>,
    bytes: usize,
}

impl BufferSlot {
    pub(crate) fn new(buffer: SharedBuffer) -> Self {
        Self { bytes: buffer.len(), buffer: Mutex::new(Some(buffer)) }
    }

    /// The buffer's length, also after it was taken.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Looks at the buffer; nobody takes it meanwhile.
    pub(crate) fn with<T>(&self, look: impl FnOnce(Option<&SharedBuffer>) -> T) -> T {
        look(self.lock().as_ref())
    }

    pub(crate) fn take(&self) -> Option<SharedBuffer> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<SharedBuffer>> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it with the task's result in it; `None` if the result is already there.
    pub(crate) fn take_with(&self, result: Option<&[u8]>) -> Result<SharedBuffer, String> {
        let mut slot = self.lock();
        let buffer = slot.as_mut().ok_or(TAKEN)?;
        if let Some(result) = result
            && !buffer.takes(result)
        {
            let (result, buffer) = (result.len(), buffer.len());
            return Err(format!(
                "the task returned {result} bytes, which cannot replace the {buffer} bytes of its \
                 buffer"
            ));
        }
        slot.take().ok_or_else(|| TAKEN.into())
    }

    /// A copy of what is in it.
    pub(crate) fn to_vec(&self) -> Result<Vec<u8>, String> {
        let slot = self.lock();
        slot.as_ref().map(SharedBuffer::to_vec).ok_or_else(|| TAKEN.into())
    }
}

const TAKEN: &str = "the buffer with the result was taken already";

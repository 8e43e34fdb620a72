//! Shared buffers: a caller's memory that goes to a task as it is, and comes back.
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

/// Memory for large inputs and results, which a task reads and changes where it is: nothing is copied
/// on the way there or back.
///
/// It is passed as the only argument of a task and comes back as its result; in between the guest has
/// it as its own memory. For a task that the guest SDK makes of a function of `&mut [u8]`, what that
/// wrote is then in it. A task that takes `&[u8]` may answer anything else, and
/// [`TaskHandle::take_buffer`](crate::TaskHandle::take_buffer) gives the buffer back beside that, or
/// after a failure. Where a guest knows nothing of buffers, it reads its input as ever, and its result
/// is copied into the buffer if it is as long.
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
/// The memory is shared with each worker that had it, and a worker that was taken over by its guest
/// may keep it: such a one reads what the buffer is given later, and changes it at any moment. So a
/// buffer must not go from one pool to another unless both are of one domain of trust, its contents
/// are only ever copied or read as atomics, and what is to be believed, once checked, is copied first
/// or [frozen](Self::freeze). A task that is tried again finds what its last attempt left.
#[derive(Debug)]
pub struct SharedBuffer(SharedMemory);

impl SharedBuffer {
    /// A buffer of `bytes` bytes, at most 1 GiB, all zero. It takes memory as it is written.
    ///
    /// # Errors
    /// Where it is too long, or the system has no memory or no descriptors left.
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

    /// Copies `from` to the place `offset`.
    ///
    /// # Panics
    /// Where it does not fit.
    pub fn copy_from_slice(&mut self, offset: usize, from: &[u8]) {
        self.0.write_at(offset, from);
    }

    /// Copies what stands at `offset` into `into`.
    ///
    /// # Panics
    /// Where there is not as much.
    pub fn copy_to_slice(&self, offset: usize, into: &mut [u8]) {
        self.0.read_at(offset, into);
    }

    /// A copy of all of it.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.read_into(self.len(), &mut bytes);
        bytes
    }

    /// All bytes, each to be read and written by itself: what was just read may be another by the
    /// next time, if a worker means harm.
    pub fn bytes(&mut self) -> &[AtomicU8] {
        self.0.atomics()
    }

    /// Makes it memory that nobody can change any more, here or in a worker, and that is a slice from
    /// then on. Copies nothing. Blocks for a fraction of a second at most.
    ///
    /// # Errors
    /// [`FreezeError::InUse`], with the buffer, where a worker still has it as memory: the one of a
    /// task that has just been cancelled or killed, for a moment, or one that was taken over.
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

    /// Makes a result its contents, if that is as long. Says whether it is.
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
    /// A worker still has it as memory. It is given back as it was.
    #[error("a worker still has the buffer as its memory")]
    InUse(SharedBuffer),
    /// The system failed, or a worker that had it has forbidden it for good.
    #[error("the buffer cannot be sealed: {0}")]
    Io(#[source] io::Error),
}

/// What was a [`SharedBuffer`] and can no longer be changed by anybody.
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

/// The buffer that a task is lent, until somebody takes it, which only who has seen the task's end can.
#[derive(Debug)]
pub struct BufferSlot {
    buffer: Mutex<Option<SharedBuffer>>,
    bytes: usize,
}

impl BufferSlot {
    pub(crate) fn new(buffer: SharedBuffer) -> Self {
        Self { bytes: buffer.len(), buffer: Mutex::new(Some(buffer)) }
    }

    /// The buffer's length, also once it was taken.
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

    /// Takes it with the task's result in it, which stands there already where it is `None`.
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

//! Descriptors: sealed memory files, and frames that carry descriptors with their bytes.
//!
//! Descriptors travel in the order of the frames they belong to, from the host to its processes, and
//! from a template to its host those of its clones. A receiver takes exactly as many as a message calls
//! for.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use crate::codec::{self, Decode, Encode};
use crate::frame::{self, Body, Filled, FrameError, FrameReader, INLINE_BYTES_MAX};
use crate::indices::RingError;

/// The most descriptors with one frame: the out-of-line body and what its message carries.
const FRAME_DESCRIPTORS_MAX: usize = 5;

/// The most descriptors a receiver holds before their messages are read.
const PENDING_DESCRIPTORS_MAX: usize = 64;

/// An unnamed memory file that can be written and, later, sealed.
///
/// # Errors
/// If the system has no memory files or no descriptors left.
pub fn memory_file(name: &str) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let descriptor = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 do not know files that nobody can execute.
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        created => created?,
    };
    Ok(File::from(descriptor))
}

/// A sealed memory file that holds `bytes`.
///
/// # Errors
/// As [`memory_file`], or where memory runs out.
pub fn sealed_file(name: &str, bytes: &[u8]) -> io::Result<File> {
    let mut file = memory_file(name)?;
    file.write_all(bytes)?;
    seal(&file)?;
    Ok(file)
}

const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// Seals `file` for good: from here on nobody can change its bytes or its length.
///
/// # Errors
/// If somebody still maps it for writing, or it is not a memory file.
pub fn seal(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fcntl_add_seals(file, SEALS)?)
}

/// Whether `file` is a memory file with every seal on, so that its bytes can be trusted to stay.
pub fn is_sealed(file: impl AsFd) -> bool {
    rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SEALS))
}

/// How long `file` is. Unlike `File::metadata` it asks in a way that can name no other file, so that
/// a filter of system calls can allow it.
///
/// # Errors
/// If it is no file.
pub fn file_bytes(file: impl AsFd) -> io::Result<u64> {
    let status = rustix::fs::fstat(file)?;
    u64::try_from(status.st_size).map_err(io::Error::other)
}

/// Writes messages into a socket.
#[derive(Debug)]
pub struct Sender {
    socket: UnixStream,
    buffer: Vec<u8>,
    /// Whole frames that wait to be sent together.
    batch: Vec<u8>,
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The message has no binary form.
    #[error(transparent)]
    Codec(#[from] codec::CodecError),
    /// The peer's socket is full although what is in flight is bounded: it has stopped reading.
    #[error("the peer does not read its socket")]
    Full,
    /// The peer's ring is of no more use.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The socket failed, usually because the peer is gone.
    #[error("cannot write to the socket: {0}")]
    Io(#[from] io::Error),
}

impl Sender {
    /// Sends through `socket`.
    pub fn new(socket: UnixStream) -> Self {
        Self { socket, buffer: Vec::new(), batch: Vec::new() }
    }

    /// Sends `message` and waits for as long as the peer does not read. For a worker, whose host
    /// always reads, and which has nothing better to do.
    ///
    /// # Errors
    /// [`SendError`], never [`SendError::Full`].
    pub fn send<M: Encode>(&mut self, message: &M) -> Result<(), SendError> {
        self.encode(message)?;
        self.send_encoded()
    }

    /// Sends `message` with `descriptors` and never blocks. A body above [`INLINE_BYTES_MAX`]
    /// travels as a sealed memory file.
    ///
    /// # Errors
    /// [`SendError`]; part of the frame may then be out, so the socket is of no further use.
    pub fn try_send<M: Encode>(
        &mut self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        self.encode(message)?;
        self.try_send_encoded(descriptors)
    }

    /// Writes `message` down, to be sent by one of the next two.
    pub(crate) fn encode<M: Encode>(&mut self, message: &M) -> Result<(), SendError> {
        self.buffer.clear();
        Ok(frame::encode_inline(message, &mut self.buffer)?)
    }

    /// The body of the message that was written down.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.buffer[frame::HEADER_BYTES..]
    }

    pub(crate) fn send_encoded(&mut self) -> Result<(), SendError> {
        self.socket.write_all(&self.buffer)?;
        self.buffer.shrink_to(INLINE_BYTES_MAX);
        Ok(())
    }

    pub(crate) fn try_send_encoded(
        &mut self,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        if self.encoded().len() <= INLINE_BYTES_MAX {
            return self.try_write(&self.buffer, descriptors);
        }
        let file = sealed_file("stockade-message", self.encoded())?;
        let header = frame::out_of_line_header(self.encoded().len());
        self.buffer = Vec::new();
        let mut all = vec![file.as_fd()];
        all.extend_from_slice(descriptors);
        self.try_write(&header, &all)
    }

    /// As [`try_send`](Self::try_send), and may keep the message until
    /// [`flush_batch`](Self::flush_batch), so that several travel together.
    pub(crate) fn try_send_batched<M: Encode>(
        &mut self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
        batch_bytes_max: usize,
    ) -> Result<(), SendError> {
        let before = self.batch.len();
        frame::encode_inline(message, &mut self.batch)?;
        if descriptors.is_empty() && self.batch.len() <= batch_bytes_max {
            return Ok(());
        }
        let last = self.batch.split_off(before);
        self.flush_batch()?;
        self.buffer = last;
        self.try_send_encoded(descriptors)
    }

    /// Sends what was kept.
    pub(crate) fn flush_batch(&mut self) -> Result<(), SendError> {
        if !self.batch.is_empty() {
            self.try_write(&self.batch, &[])?;
            self.batch.clear();
            self.batch.shrink_to(INLINE_BYTES_MAX);
        }
        Ok(())
    }

    /// Rings a bell at the peer, which may be gone or have unread ones in plenty.
    pub(crate) fn ring(&self) {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        // A bell that does not fit is behind others, and one that is torn is as loud.
        let _ = rustix::net::send(&self.socket, &frame::BELL, flags);
    }

    fn try_write(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FRAME_DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            let fits = ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
            assert!(fits, "a message carries at most {FRAME_DESCRIPTORS_MAX} descriptors");
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = loop {
            match rustix::net::sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut ancillary, flags)
            {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Err(SendError::Full),
                Err(error) => return Err(SendError::Io(error.into())),
                Ok(sent) => break sent,
            }
        };
        if sent < bytes.len() { Err(SendError::Full) } else { Ok(()) }
    }
}

/// Reads a socket's bytes and keeps the descriptors that come with them.
#[derive(Debug)]
struct DescriptorReader {
    socket: UnixStream,
    descriptors: VecDeque<OwnedFd>,
}

impl Read for DescriptorReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FRAME_DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(out)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        if self.descriptors.len() > PENDING_DESCRIPTORS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors"));
        }
        Ok(received.bytes)
    }
}

/// Reads messages, and the descriptors that belong to them, from a socket.
#[derive(Debug)]
pub struct Receiver {
    frames: FrameReader<DescriptorReader>,
}

impl Receiver {
    /// Receives from `socket` messages of at most `limit` bytes.
    pub fn new(socket: UnixStream, limit: usize) -> Self {
        let stream = DescriptorReader { socket, descriptors: VecDeque::new() };
        Self { frames: FrameReader::new(stream, limit) }
    }

    /// Blocks for the next message; `None` once the peer has closed its end.
    ///
    /// # Errors
    /// [`FrameError`]; the socket is of no further use then.
    pub fn receive<M: Decode<()>>(&mut self) -> Result<Option<M>, FrameError> {
        match self.frames.read()? {
            None => Ok(None),
            Some(Body::Inline(bytes)) => Ok(Some(codec::decode(bytes)?)),
            Some(Body::OutOfLine(length)) => self.read_file(length).map(Some),
        }
    }

    /// Takes the next message if all of it has been read. Never blocks.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub(crate) fn take<M: Decode<()>>(&mut self) -> Result<Option<M>, FrameError> {
        match self.frames.take()? {
            None => Ok(None),
            Some(Body::Inline(bytes)) => Ok(Some(codec::decode(bytes)?)),
            Some(Body::OutOfLine(length)) => self.read_file(length).map(Some),
        }
    }

    /// Blocks until something comes, a bell or a part of a message.
    pub(crate) fn fill_once(&mut self) -> io::Result<Filled> {
        self.frames.fill_once()
    }

    /// The message in the file that came with its frame.
    fn read_file<M: Decode<()>>(&mut self, length: usize) -> Result<M, FrameError> {
        let file = self.take_descriptor().map(File::from).ok_or(FrameError::Misplaced)?;
        if !is_sealed(&file) || file_bytes(&file)? != length as u64 {
            return Err(FrameError::Misplaced);
        }
        let mut body = vec![0; length];
        // The sender's offset is shared with ours and stands at the end: read at a position.
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut body, 0)?;
        Ok(codec::decode(&body)?)
    }

    /// Takes the next descriptor that came with a message.
    pub fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.frames.get_mut().descriptors.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Sender, Receiver) {
        let (left, right) = UnixStream::pair().unwrap();
        (Sender::new(left), Receiver::new(right, frame::FRAME_BYTES_MAX))
    }

    #[test]
    #[cfg_attr(miri, ignore = "sends descriptors")]
    fn a_message_above_the_inline_limit_arrives_through_a_sealed_file() {
        let (mut sender, mut receiver) = pair();
        for bytes in [0, INLINE_BYTES_MAX - 10, INLINE_BYTES_MAX, 3 << 20] {
            let message = vec![9u8; bytes];
            sender.try_send(&message, &[]).unwrap();
            assert_eq!(receiver.receive::<Vec<u8>>().unwrap(), Some(message));
            assert!(receiver.take_descriptor().is_none());
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "sends descriptors")]
    fn descriptors_keep_the_order_of_their_messages() {
        let (mut sender, mut receiver) = pair();
        let (first, second) = (sealed_file("a", b"1").unwrap(), sealed_file("b", b"22").unwrap());
        sender.try_send(&1u32, &[first.as_fd()]).unwrap();
        sender.try_send(&vec![0u8; 1 << 20], &[second.as_fd()]).unwrap();
        assert_eq!(receiver.receive::<u32>().unwrap(), Some(1));
        let file = File::from(receiver.take_descriptor().unwrap());
        assert_eq!(file.metadata().unwrap().len(), 1);
        assert!(receiver.receive::<Vec<u8>>().unwrap().is_some());
        let file = File::from(receiver.take_descriptor().unwrap());
        assert_eq!(file.metadata().unwrap().len(), 2);
    }

    #[test]
    #[cfg_attr(miri, ignore = "sends on a real socket")]
    fn a_peer_that_never_reads_makes_the_sender_full_instead_of_blocked() {
        let (mut sender, _receiver) = pair();
        let message = vec![0u8; 32 << 10];
        let refused = (0..1000).find_map(|_| sender.try_send(&message, &[]).err());
        assert!(matches!(refused, Some(SendError::Full)));
    }

    #[test]
    #[cfg_attr(miri, ignore = "sends descriptors")]
    fn an_unsealed_body_is_refused() {
        let (sender, mut receiver) = pair();
        let file = memory_file("open").unwrap();
        file.set_len(100).unwrap();
        sender.try_write(&frame::out_of_line_header(100), &[file.as_fd()]).unwrap();
        assert!(matches!(receiver.receive::<Vec<u8>>(), Err(FrameError::Misplaced)));
    }

    #[test]
    #[cfg_attr(miri, ignore = "seals a memory file")]
    fn a_sealed_file_can_be_neither_written_nor_resized() {
        let mut file = sealed_file("sealed", b"abc").unwrap();
        assert!(is_sealed(&file));
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(1).is_err());
        assert!(!is_sealed(memory_file("open").unwrap()));
    }
}

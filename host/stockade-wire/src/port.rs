//! Ports: the two ends of the way between a host and one worker.
//!
//! ```text
//! HostPort                                              WorkerPort
//!   send ─► ring, or announced there and on the socket ─► receive, which may sleep
//!   flush ─► a bell, if the worker sleeps
//!   hear  ◄─ ring, or announced there and on the socket ◄─ send ─► a bell, now or soon, if the host
//!   may_sleep, until the socket says something                     sleeps
//! ```
//!
//! Messages come out in the order in which they went in, wherever they travelled. A worker's bells
//! are lazy: while it has more to do, one stands for many results, because a system call for each
//! would cost more than a short task. A result that was not rung for was written within
//! [`BELL_INTERVAL`] after the bell before. So a host that looks once after that time finds it, however
//! long the next task takes.
//!
//! A host that [may doze](HostPort::may_doze) looks by itself before long, and is rung for only by a
//! worker that has nothing more to do.
//!
//! Without rings, because the system gave no memory for them, every message travels on the socket,
//! and several of a host's at a time.
//!
//! Invariant: a record announces a frame before the frame is written, so a frame that nothing
//! announces is a message of its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::descriptor::{Receiver, SendError, Sender};
use crate::frame::{Body, FRAME_BYTES_MAX, Filled, FrameError, FrameReader};
use crate::indices::{RingError, Wake};
use crate::ring::{RING_BODY_BYTES_MAX, Reader, Record, Rings, Writer};
use crate::spin::Spin;
use crate::{HostMessage, Returned, WorkerMessage, codec};

/// Results for which no bell was rung.
const UNSIGNALLED_MAX: u32 = 256;

/// How long after a bell the next one may come, unless there is nothing else to do: far more than a
/// bell takes, and little compared with what a person or a network notices.
pub const BELL_INTERVAL: Duration = Duration::from_micros(200);

/// How long a worker may look for its next task before it sleeps: a host that runs one task after the
/// other sends the next within this time, and it is a few times what a short task takes.
const SPIN_MAX: Duration = Duration::from_micros(20);

/// Bytes of messages that wait to be written to a socket together.
const BATCH_BYTES_MAX: usize = 16 << 10;

/// A message of a worker.
#[derive(Debug)]
pub enum Heard {
    /// The commonest, whose output is the [`output_of`](HostPort::output_of) the port.
    Returned(Returned),
    /// Any other.
    Message(WorkerMessage),
}

/// A host's end. Nothing here blocks.
#[derive(Debug)]
pub struct HostPort {
    frames: FrameReader<UnixStream>,
    sender: Sender,
    rings: Option<(Writer, Reader)>,
    /// The record was taken, and its frame has not come whole.
    announced: bool,
    body: Vec<u8>,
}

impl HostPort {
    /// Talks through `socket`, whose other end a worker has, and accepts messages of at most
    /// `limit` bytes.
    ///
    /// # Errors
    /// If the socket cannot be set up.
    pub fn new(socket: UnixStream, limit: usize) -> io::Result<Self> {
        let incoming = socket.try_clone()?;
        incoming.set_nonblocking(true)?;
        Ok(Self {
            frames: FrameReader::new(incoming, limit),
            sender: Sender::new(socket),
            rings: None,
            announced: false,
            body: Vec::new(),
        })
    }

    /// Everything from the next message on travels in these rings, of which the worker has been told.
    pub fn use_rings(&mut self, rings: &Rings) {
        self.rings = Some(rings.host());
    }

    /// Sends `message` with `descriptors`. Its worker hears of it at the latest after
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    /// [`SendError`]; the worker is of no further use.
    pub fn send(
        &mut self,
        message: &HostMessage,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        let Some((writer, _)) = &mut self.rings else {
            return self.sender.try_send_batched(message, descriptors, BATCH_BYTES_MAX);
        };
        self.sender.encode(message)?;
        if descriptors.is_empty() {
            match writer.push(self.sender.encoded()) {
                Ok(()) => return Ok(()),
                Err(RingError::Full) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match writer.announce() {
            Ok(()) => self.sender.try_send_encoded(descriptors),
            Err(RingError::Full) => Err(SendError::Full),
            Err(error) => Err(error.into()),
        }
    }

    /// Wakes the worker if it sleeps and something was sent.
    ///
    /// # Errors
    /// [`SendError`]; the worker is of no further use.
    pub fn flush(&mut self) -> Result<(), SendError> {
        match &self.rings {
            Some((writer, _)) if writer.wakes_reader(true) == Wake::Now => self.sender.ring(),
            Some(_) => {}
            None => self.sender.flush_batch()?,
        }
        Ok(())
    }

    /// Takes the next message that is there, without a system call.
    ///
    /// # Errors
    /// [`FrameError`]; the worker is of no further use.
    pub fn hear(&mut self) -> Result<Option<Heard>, FrameError> {
        if let Some((_, reader)) = &mut self.rings
            && !self.announced
        {
            match reader.next(&mut self.body)? {
                Some(Record::Here) => {
                    return Ok(Some(match Returned::read(&self.body) {
                        Some(returned) => Heard::Returned(returned),
                        None => Heard::Message(codec::decode(&self.body)?),
                    }));
                }
                Some(Record::OnSocket) => self.announced = true,
                None => {}
            }
        }
        Ok(self.take_frame()?.map(Heard::Message))
    }

    /// The output of what was heard last.
    pub fn output_of(&self, returned: &Returned) -> &[u8] {
        returned.output_in(&self.body)
    }

    /// As [`hear`](Self::hear), whatever the message is.
    ///
    /// # Errors
    /// [`FrameError`]; the worker is of no further use.
    pub fn take(&mut self) -> Result<Option<WorkerMessage>, FrameError> {
        Ok(self.hear()?.map(|heard| match heard {
            Heard::Message(message) => message,
            Heard::Returned(returned) => {
                WorkerMessage::Finished(returned.to_finished(self.output_of(&returned)))
            }
        }))
    }

    fn take_frame(&mut self) -> Result<Option<WorkerMessage>, FrameError> {
        match self.frames.take()? {
            None => Ok(None),
            Some(Body::OutOfLine(_)) => Err(FrameError::Misplaced),
            Some(Body::Inline(body)) => {
                self.announced = false;
                Ok(Some(codec::decode(body)?))
            }
        }
    }

    /// Reads once from the socket what has come there: bells, and parts of messages.
    ///
    /// # Errors
    /// [`FrameError`]; the worker is of no further use.
    pub fn fill(&mut self) -> Result<Filled, FrameError> {
        match self.frames.fill_once() {
            Ok(filled) => Ok(filled),
            // It ended without having read all that it was sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Filled::End),
            Err(error) => Err(error.into()),
        }
    }

    /// After everything was taken: whether a part of a message has come.
    pub fn has_part(&self) -> bool {
        self.frames.has_part()
    }

    /// Whether there is something to take, as far as a ring says, without a system call.
    pub fn has_written(&self) -> bool {
        self.rings.as_ref().is_some_and(|(_, reader)| !self.announced && reader.has_next())
    }

    /// The caller looks for what is written itself, until it [`may_sleep`](Self::may_sleep): the
    /// worker need not ring.
    pub fn stay_awake(&self) {
        if let Some((_, reader)) = &self.rings {
            reader.stay_awake();
        }
    }

    /// After everything was taken: whether there is nothing more until the socket says something.
    pub fn may_sleep(&self) -> bool {
        self.may_rest(Reader::may_sleep)
    }

    /// As [`may_sleep`](Self::may_sleep), where the caller looks again within [`BELL_INTERVAL`] or a
    /// little later: the worker rings only if it has nothing more to do.
    pub fn may_doze(&self) -> bool {
        self.may_rest(Reader::may_doze)
    }

    fn may_rest(&self, may_rest: impl Fn(&Reader) -> bool) -> bool {
        let Some((_, reader)) = &self.rings else { return true };
        if reader.release() {
            self.sender.ring();
        }
        // Whatever comes of an announced message comes on the socket.
        self.announced || may_rest(reader)
    }
}

impl AsFd for HostPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.frames.get_ref().as_fd()
    }
}

/// When a worker rings for what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bell {
    /// At once.
    Now,
    /// With others of the next moments, or when there is nothing more to do.
    Soon,
    /// As [`Soon`](Self::Soon), by a worker that has more to do, whether or not more was sent.
    Busy,
}

/// A worker's end, whose host is trusted and always reads.
#[derive(Debug)]
pub struct WorkerPort {
    receiver: Receiver,
    sender: Sender,
    rings: Option<(Writer, Reader)>,
    announced: bool,
    body: Vec<u8>,
    unsignalled: u32,
    last_bell: Instant,
    spin: Spin,
}

impl WorkerPort {
    /// Talks through `socket`.
    ///
    /// # Errors
    /// If the system has no descriptors left.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        Ok(Self {
            receiver: Receiver::new(socket.try_clone()?, FRAME_BYTES_MAX),
            sender: Sender::new(socket),
            rings: None,
            announced: false,
            body: Vec::new(),
            unsignalled: 0,
            last_bell: Instant::now(),
            spin: Spin::new(SPIN_MAX),
        })
    }

    /// Everything from the next message on travels in these rings.
    pub fn use_rings(&mut self, rings: &Rings) {
        self.rings = Some(rings.worker());
    }

    /// Blocks for the next message; `None` once the host has closed its end.
    ///
    /// # Errors
    /// [`FrameError`]; the port is of no further use then.
    pub fn receive(&mut self) -> Result<Option<HostMessage>, FrameError> {
        if let Some(message) = self.take()? {
            return Ok(Some(message));
        }
        self.signal(true);
        let since = Instant::now();
        if let Some((_, reader)) = &self.rings
            && !self.announced
        {
            self.spin.look(|| reader.has_next());
        }
        loop {
            if let Some(message) = self.take()? {
                self.spin.note(since.elapsed());
                return Ok(Some(message));
            }
            let sleeps = match &self.rings {
                Some((_, reader)) if !self.announced => {
                    // The host never sleeps for lack of room.
                    reader.release();
                    reader.may_sleep()
                }
                _ => true,
            };
            if sleeps && self.receiver.fill_once()? == Filled::End {
                return Ok(None);
            }
        }
    }

    fn take(&mut self) -> Result<Option<HostMessage>, FrameError> {
        if let Some((_, reader)) = &mut self.rings
            && !self.announced
        {
            match reader.next(&mut self.body)? {
                Some(Record::Here) => {
                    reader.release();
                    return Ok(Some(codec::decode(&self.body)?));
                }
                Some(Record::OnSocket) => self.announced = true,
                None => {}
            }
        }
        let message = self.receiver.take()?;
        self.announced &= message.is_none();
        Ok(message)
    }

    /// Takes the next descriptor that came with a message.
    pub fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.receiver.take_descriptor()
    }

    /// Sends `message`, and waits for as long as there is no room for it.
    ///
    /// # Errors
    /// [`SendError`], never [`SendError::Full`].
    pub fn send(&mut self, message: &WorkerMessage, bell: Bell) -> Result<(), SendError> {
        self.sender.encode(message)?;
        if self.rings.is_none() {
            return self.sender.send_encoded();
        }
        if self.sender.encoded().len() <= RING_BODY_BYTES_MAX {
            self.write(|writer, body| writer.push(body))?;
        } else {
            self.write(|writer, _| writer.announce())?;
            self.sender.send_encoded()?;
        }
        self.unsignalled += 1;
        let now = Instant::now();
        let has_more_to_do =
            bell == Bell::Busy || self.rings.as_ref().is_some_and(|(_, reader)| reader.has_next());
        if bell == Bell::Now
            || !has_more_to_do
            || self.unsignalled >= UNSIGNALLED_MAX
            || now.saturating_duration_since(self.last_bell) >= BELL_INTERVAL
        {
            // One that was not rung is no bell: a host that dozes no more by the time of the next result
            // would count on one that never came.
            if self.signal(bell == Bell::Now || !has_more_to_do) {
                self.last_bell = now;
            }
        }
        Ok(())
    }

    /// Writes a record as soon as there is room.
    fn write(
        &mut self,
        write: impl Fn(&mut Writer, &[u8]) -> Result<(), RingError>,
    ) -> Result<(), SendError> {
        while let Some((writer, _)) = &mut self.rings {
            match write(writer, self.sender.encoded()) {
                Ok(()) => break,
                Err(RingError::Full) => {}
                Err(error) => return Err(error.into()),
            }
            // Nothing follows before the host reads.
            self.signal(true);
            let sleeps = self.rings.as_ref().is_some_and(|(writer, _)| writer.may_sleep());
            if sleeps && self.receiver.fill_once()? == Filled::End {
                return Err(SendError::Io(io::ErrorKind::BrokenPipe.into()));
            }
        }
        Ok(())
    }

    /// Wakes the host if it sleeps beside results; one that dozes only if this worker has nothing more
    /// to do. Returns whether the host hears of them before it looks by itself.
    fn signal(&mut self, is_idle: bool) -> bool {
        if self.unsignalled > 0
            && let Some((writer, _)) = &self.rings
        {
            match writer.wakes_reader(is_idle) {
                Wake::Later => return false,
                Wake::Now => self.sender.ring(),
                Wake::Needless => {}
            }
            self.unsignalled = 0;
        }
        true
    }
}

#[cfg(test)]
#[cfg(not(miri))]
mod tests;

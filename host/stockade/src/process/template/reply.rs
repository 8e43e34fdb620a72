//! What a template answers: one frame within a time, and at most one descriptor beside it.
//!
//! Invariant: of what a template sends, no descriptor stays open in the host but the one that this returns.

use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use stockade_wire::frame::{Body, FrameReader};
use stockade_wire::{TemplateReply, codec};

use crate::compile::{Patience, timed_out};
use crate::footprint::Weighed;

/// The most bytes of a reply.
const REPLY_BYTES_MAX: usize = 4 << 10;

/// Room for the descriptor of a clone. Where more come, the kernel closes those that find no room.
const DESCRIPTORS_MAX: usize = 1;

/// Reads the answer to one request, until `deadline`, of a template that is looked at meanwhile.
///
/// # Errors
/// Where there is none in time, it is none, or the template has too much memory.
pub(super) fn read(
    socket: &UnixStream,
    deadline: Instant,
    weighed: Weighed,
) -> io::Result<(TemplateReply, Option<OwnedFd>)> {
    let mut descriptor = None;
    let patience = Patience::new(deadline, weighed);
    let stream = Answer { socket, patience, descriptor: &mut descriptor };
    // It answers once to each request, so nothing is behind the answer.
    let reply = match FrameReader::new(stream, REPLY_BYTES_MAX).read() {
        Ok(Some(Body::Inline(body))) => codec::decode(body).map_err(io::Error::other)?,
        Ok(Some(Body::OutOfLine(_))) => return Err(io::ErrorKind::InvalidData.into()),
        Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) => return Err(io::Error::other(error)),
    };
    Ok((reply, descriptor))
}

struct Answer<'a> {
    socket: &'a UnixStream,
    patience: Patience,
    descriptor: &'a mut Option<OwnedFd>,
}

impl Read for Answer<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            self.socket.set_read_timeout(Some(self.patience.left()?))?;
            match self.receive(out) {
                Err(error) if timed_out(&error) => {}
                received => return received,
            }
        }
    }
}

impl Answer<'_> {
    fn receive(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            self.socket,
            &mut [IoSliceMut::new(out)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        for message in ancillary.drain() {
            let RecvAncillaryMessage::ScmRights(descriptors) = message else { continue };
            for descriptor in descriptors {
                if self.descriptor.replace(descriptor).is_some() {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors"));
                }
            }
        }
        Ok(received.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::Duration;

    use stockade_wire::descriptor::Sender;

    use super::*;
    use crate::footprint::MemoryAllowance;

    fn told(descriptors: usize) -> io::Result<(TemplateReply, Option<OwnedFd>)> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let all = vec![file.as_fd(); descriptors];
        Sender::new(theirs).try_send(&TemplateReply::Started, &all).unwrap();
        read(&ours, Instant::now() + Duration::from_secs(60), unwatched())
    }

    /// Of this very process, which may have any memory.
    fn unwatched() -> Weighed {
        Weighed { pid: std::process::id(), allowance: MemoryAllowance::of(u64::MAX) }
    }

    #[test]
    fn a_reply_comes_with_one_descriptor_or_none() {
        assert!(matches!(told(0), Ok((TemplateReply::Started, None))));
        assert!(matches!(told(1), Ok((TemplateReply::Started, Some(_)))));
        // Others are closed by the kernel.
        assert!(!matches!(told(3), Ok((_, None))));
    }

    #[test]
    fn descriptors_beside_each_byte_are_refused_and_silence_ends_at_the_deadline() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let mut sender = Sender::new(theirs);
        // Two frames that are read together, each with a descriptor.
        for _ in 0..2 {
            sender.try_send(&vec![0_u8; 2000], &[file.as_fd()]).unwrap();
        }
        assert!(read(&ours, Instant::now() + Duration::from_secs(60), unwatched()).is_err());
        let (silent, _theirs) = UnixStream::pair().unwrap();
        assert!(read(&silent, Instant::now(), unwatched()).is_err());
    }
}

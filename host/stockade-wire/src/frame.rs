//! Frames: where one message ends and the next begins, apart from any I/O on descriptors.
//!
//! A frame is a little-endian `u32`, then a body. The number's low 31 bits are the body's length.
//! With the high bit set the body is out of line: it lies in a descriptor that travels with the
//! frame, and the number is that body's length. A frame without a body is a bell: no message is that
//! short, and all that it says is that the reader should look around.

use std::io::{self, Read};

use crate::codec::{self, CodecError, Encode};
use crate::indices::RingError;

/// The most bytes one message may have, in line or out of line.
pub const FRAME_BYTES_MAX: usize = 256 << 20;

/// The most bytes of a body that the host sends in line; a longer one travels out of line. Together
/// with the limits on what is in flight this keeps a well-behaved worker's socket from filling.
pub const INLINE_BYTES_MAX: usize = 64 << 10;

/// Bytes before the body.
pub const HEADER_BYTES: usize = 4;

const OUT_OF_LINE: u32 = 1 << 31;

/// A bell.
pub const BELL: [u8; HEADER_BYTES] = [0; HEADER_BYTES];

/// The most that is read at once in the hope of several frames.
const READ_BYTES: usize = 16 << 10;

/// The longest buffer that a reader keeps when little is left in it: what a longer message takes anew
/// is little compared with the message itself.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// What stopped a [`FrameReader`].
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed.
    #[error("cannot read from the socket: {0}")]
    Io(#[from] io::Error),
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Torn,
    /// A frame claims more than the reader allows.
    #[error("a frame of {claimed} bytes, but only {limit} are allowed")]
    TooLong {
        /// The length in its header.
        claimed: usize,
        /// The reader's limit.
        limit: usize,
    },
    /// The body is not a message.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// What is in shared memory is no ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A frame without the descriptor that holds its body, or with one where none is allowed.
    #[error("a frame's body is not at the place in its header")]
    Misplaced,
}

/// Where a frame's body is.
#[derive(Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// In the stream.
    Inline(&'a [u8]),
    /// In the next descriptor, with this many bytes.
    OutOfLine(usize),
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Bytes, and there may be more.
    Some,
    /// Nothing for this moment.
    Nothing,
    /// The end of the stream.
    End,
}

/// Appends `message` as an in-line frame.
///
/// # Errors
/// [`CodecError`]; `out` is then as it was.
pub fn encode_inline<M: Encode>(message: &M, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    if let Err(error) = codec::encode(message, out) {
        out.truncate(start);
        return Err(error);
    }
    let length = (out.len() - start - HEADER_BYTES) as u32;
    out[start..start + HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// The header of a frame whose body of `bytes` bytes travels in a descriptor.
pub fn out_of_line_header(bytes: usize) -> [u8; HEADER_BYTES] {
    debug_assert!(bytes <= FRAME_BYTES_MAX);
    (bytes as u32 | OUT_OF_LINE).to_le_bytes()
}

/// Reads frames from an untrusted stream.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    limit: usize,
    /// Bytes read and not yet taken are `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R: Read> FrameReader<R> {
    /// Reads from `stream` frames of at most `limit` bytes (and never more than
    /// [`FRAME_BYTES_MAX`]).
    pub fn new(stream: R, limit: usize) -> Self {
        Self {
            stream,
            limit: limit.min(FRAME_BYTES_MAX),
            buffer: vec![0; READ_BYTES],
            start: 0,
            end: 0,
        }
    }

    /// The stream below.
    pub fn get_ref(&self) -> &R {
        &self.stream
    }

    /// The stream below, to take what it collected besides the bytes.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.stream
    }

    /// Whether a whole frame has been read already, so that [`read`](Self::read) will not block.
    pub fn has_frame(&self) -> bool {
        match self.header() {
            None => false,
            Some((_, true)) => true,
            Some((length, false)) => self.end - self.start >= HEADER_BYTES + length,
        }
    }

    /// Whether something was read and not taken.
    pub fn has_part(&self) -> bool {
        self.start < self.end
    }

    /// Reads once, as much as comes, without waiting for a whole frame. Blocks where the stream does.
    ///
    /// # Errors
    /// What the stream says, other than that nothing has come.
    pub fn fill_once(&mut self) -> io::Result<Filled> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.buffer.len() > KEPT_BYTES_MAX && self.end - self.start < READ_BYTES {
            // After a long frame: what has come of the next stays, and the room goes.
            let mut buffer = vec![0; READ_BYTES];
            buffer[..self.end - self.start].copy_from_slice(&self.buffer[self.start..self.end]);
            (self.start, self.end) = (0, self.end - self.start);
            self.buffer = buffer;
        }
        if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end == self.buffer.len() {
                // A long frame: room for as much again as has come of it.
                self.buffer.resize(self.end * 2, 0);
            }
        }
        loop {
            match self.stream.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(Filled::End),
                Ok(count) => {
                    self.end += count;
                    return Ok(Filled::Some);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Filled::Nothing);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the next frame if all of it has been read, and the bells before it.
    ///
    /// # Errors
    /// [`FrameError::TooLong`]; the stream is of no further use then.
    pub fn take(&mut self) -> Result<Option<Body<'_>>, FrameError> {
        while self.header() == Some((0, false)) {
            self.start += HEADER_BYTES;
        }
        if let Some((length, _)) = self.header()
            && length > self.limit
        {
            return Err(FrameError::TooLong { claimed: length, limit: self.limit });
        }
        if self.has_frame() { self.read() } else { Ok(None) }
    }

    /// Blocks for the next frame; `None` at the end of the stream.
    ///
    /// # Errors
    /// [`FrameError`]; the stream is of no further use then.
    pub fn read(&mut self) -> Result<Option<Body<'_>>, FrameError> {
        if !self.fill(HEADER_BYTES)? {
            return Ok(None);
        }
        let Some((length, out_of_line)) = self.header() else { return Err(FrameError::Torn) };
        if length > self.limit {
            return Err(FrameError::TooLong { claimed: length, limit: self.limit });
        }
        if out_of_line {
            self.start += HEADER_BYTES;
            return Ok(Some(Body::OutOfLine(length)));
        }
        if !self.fill(HEADER_BYTES + length)? {
            return Err(FrameError::Torn);
        }
        let body = self.start + HEADER_BYTES;
        self.start = body + length;
        Ok(Some(Body::Inline(&self.buffer[body..body + length])))
    }

    fn header(&self) -> Option<(usize, bool)> {
        let bytes = self.buffer[self.start..self.end].first_chunk::<HEADER_BYTES>()?;
        let number = u32::from_le_bytes(*bytes);
        Some(((number & !OUT_OF_LINE) as usize, number & OUT_OF_LINE != 0))
    }

    /// Reads until `wanted` bytes are there; false where the stream ends cleanly before the first.
    fn fill(&mut self, wanted: usize) -> Result<bool, FrameError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.buffer.len() - self.start < wanted {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.buffer.len() < wanted {
                // Grows with what arrives rather than at once to what a header claims.
                let grown = wanted.min(self.buffer.len().max(self.end * 2));
                self.buffer.resize(grown, 0);
            }
        }
        while self.end - self.start < wanted {
            if self.end == self.buffer.len() {
                let grown = (self.start + wanted).min(self.buffer.len() * 2);
                self.buffer.resize(grown, 0);
            }
            match self.stream.read(&mut self.buffer[self.end..]) {
                Ok(0) if self.start == self.end => return Ok(false),
                Ok(0) => return Err(FrameError::Torn),
                Ok(n) => self.end += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte a call, so that every boundary is crossed.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let n = self.0.len().min(out.len()).min(1);
            out[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn frames(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for message in messages {
            encode_inline(message, &mut out).unwrap();
        }
        out
    }

    #[test]
    fn frames_survive_a_stream_of_single_bytes() {
        // A long one takes Miri half a minute.
        let long = if cfg!(miri) { 400 } else { 40_000 };
        let messages = vec![vec![1; 3], vec![], vec![7; long], vec![2; 5]];
        let bytes = frames(&messages);
        let mut reader = FrameReader::new(Trickle(&bytes), FRAME_BYTES_MAX);
        for message in &messages {
            let Some(Body::Inline(body)) = reader.read().unwrap() else {
                panic!("expected a body")
            };
            assert_eq!(&codec::decode::<Vec<u8>>(body).unwrap(), message);
        }
        assert!(reader.read().unwrap().is_none());
    }

    #[test]
    fn a_frame_one_byte_too_long_is_refused_and_one_at_the_limit_is_read() {
        let bytes = frames(&[vec![0; 99]]); // a body of 100 bytes: one for the length
        assert!(FrameReader::new(&bytes[..], 100).read().is_ok());
        let mut reader = FrameReader::new(&bytes[..], 99);
        let refused = reader.read();
        assert!(matches!(refused, Err(FrameError::TooLong { claimed: 100, limit: 99 })));
    }

    #[test]
    fn a_stream_that_ends_anywhere_inside_a_frame_is_torn() {
        let bytes = frames(&[vec![5; 20]]);
        for cut in 1..bytes.len() {
            let torn = FrameReader::new(&bytes[..cut], FRAME_BYTES_MAX).read().map(|_| ());
            assert!(matches!(torn, Err(FrameError::Torn)), "cut at {cut}");
        }
    }

    #[test]
    fn a_claimed_length_allocates_nothing_before_bytes_arrive() {
        let mut bytes = (FRAME_BYTES_MAX as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0; 100]);
        let mut reader = FrameReader::new(&bytes[..], FRAME_BYTES_MAX);
        assert!(matches!(reader.read(), Err(FrameError::Torn)));
        assert!(reader.buffer.len() < 64 << 10);
    }

    #[test]
    fn the_room_of_a_long_frame_is_given_up_after_it_and_nothing_behind_it_is_lost() {
        // Miri needs half a minute for a megabyte.
        let long = if cfg!(miri) { KEPT_BYTES_MAX + 1 } else { 4 << 20 };
        let messages = [vec![7; long], vec![3; 5], vec![4; 6]];
        let bytes = frames(&messages);
        // The end of the second frame comes later than its beginning.
        let (first, rest) = bytes.split_at(bytes.len() - 13);
        let mut reader = FrameReader::new(Read::chain(first, rest), FRAME_BYTES_MAX);
        let mut heard = Vec::new();
        let mut longest = 0;
        loop {
            let filled = reader.fill_once().unwrap();
            longest = longest.max(reader.buffer.len());
            while let Some(Body::Inline(body)) = reader.take().unwrap() {
                heard.push(codec::decode::<Vec<u8>>(body).unwrap());
            }
            if filled == Filled::End {
                break;
            }
        }
        assert_eq!(heard, messages);
        assert!(longest > long);
        assert!(reader.buffer.len() <= KEPT_BYTES_MAX, "{}", reader.buffer.len());
    }

    #[test]
    fn out_of_line_frames_carry_only_their_length() {
        let header = out_of_line_header(70_000);
        let mut reader = FrameReader::new(&header[..], FRAME_BYTES_MAX);
        assert_eq!(reader.read().unwrap(), Some(Body::OutOfLine(70_000)));
    }
}

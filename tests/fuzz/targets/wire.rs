//! Frames and messages, in arbitrary pieces.
//!
//! Input: which side's messages, the sizes of the pieces, then the stream. A message that decodes
//! must encode to something that decodes to the same, reading takes no more memory than the bytes that
//! arrived explain, and a report that is read where it lies says what it says when it is decoded.

#![no_main]

use std::io::{self, Read};

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use stockade_fuzz::allocations::within;
use stockade_wire::codec::{self, Decode, Encode};
use stockade_wire::frame::{self, Body, FrameReader};
use stockade_wire::{CompileReply, CompileRequest, HostMessage, Returned, WorkerMessage};

/// Far above what the fuzzer's inputs hold, far below what a header can claim.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// What may be reserved for the lengths that a body of so many bytes claims.
const CLAIMS_MAX: [(usize, usize); 3] =
    [(1 << 10, 64 << 10), (16 << 10, 1 << 20), (256 << 10, 16 << 20)];

/// What is there next to it: the stream's buffer, the message encoded again and decoded again.
const EXPANSION_MAX: usize = 64;
const BASE_BYTES: usize = 64 << 10;

#[derive(Arbitrary, Debug)]
enum Side {
    Host,
    Worker,
    Request,
    Reply,
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Unstructured::new(bytes);
    let (Ok(side), Ok(pieces)) = (Side::arbitrary(&mut input), <[u8; 4]>::arbitrary(&mut input))
    else {
        return;
    };
    let stream = Pieces { bytes: input.take_rest(), pieces, next: 0 };
    let length = stream.bytes.len();
    let claims_max = CLAIMS_MAX.iter().find(|(bytes, _)| length <= *bytes);
    let claims_max = claims_max.map_or(FRAME_BYTES_MAX, |(_, claims_max)| *claims_max);
    let bytes_max = BASE_BYTES + EXPANSION_MAX * length + claims_max;
    within(bytes_max, || match side {
        Side::Host => read::<HostMessage>(stream),
        Side::Worker => read::<WorkerMessage>(stream),
        Side::Request => read::<CompileRequest>(stream),
        Side::Reply => read::<CompileReply>(stream),
    });
});

fn read<M: Encode + Decode<()> + PartialEq + std::fmt::Debug>(stream: Pieces<'_>) {
    let mut frames = FrameReader::new(stream, FRAME_BYTES_MAX);
    loop {
        let arrived = frames.has_frame();
        let body = match frames.read() {
            Ok(Some(Body::Inline(body))) => body,
            Ok(Some(Body::OutOfLine(length))) => {
                assert!(length <= FRAME_BYTES_MAX);
                continue;
            }
            Ok(None) => return,
            Err(error) => {
                let too_long = matches!(error, frame::FrameError::TooLong { .. });
                assert!(!arrived || too_long, "a whole frame was there: {error}");
                return;
            }
        };
        if let Some(returned) = Returned::read(body) {
            let finished = returned.to_finished(returned.output_in(body));
            let whole = codec::decode(body).expect("what is read where it lies can be decoded");
            assert_eq!(WorkerMessage::Finished(finished), whole);
        }
        let Ok(message) = codec::decode::<M>(body) else { continue };
        let mut again = Vec::new();
        frame::encode_inline(&message, &mut again).expect("what was decoded can be encoded");
        let decoded: M = codec::decode(&again[frame::HEADER_BYTES..]).expect("and decoded again");
        assert_eq!(decoded, message);
    }
}

/// A stream that arrives in pieces of these sizes, again and again; a piece of 0 is interrupted.
struct Pieces<'a> {
    bytes: &'a [u8],
    pieces: [u8; 4],
    next: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let piece = usize::from(self.pieces[self.next % self.pieces.len()]);
        self.next += 1;
        // Never forever.
        if piece == 0 && self.next % self.pieces.len() != 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = self.bytes.len().min(out.len()).min(piece.max(1));
        out[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        Ok(count)
    }
}

//! A task's log: its lines as bytes, one after another, in messages and in memory.
//!
//! ```text
//! level: u32 │ length: u32 │ the line │ level …      little-endian
//! ```
//!
//! A line takes as many bytes as it counts in [`Limits::stdio_bytes`](crate::Limits::stdio_bytes),
//! so a log with any number of lines takes no more memory than the limit. Lines are decoded on
//! request.
//!
//! Invariant: the bytes are whole lines of known levels, in UTF-8; what arrives is checked for that.

use crate::codec::{
    Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, impl_borrow_decode,
};

/// The bytes of a line in addition to its text.
pub const LOG_LINE_BYTES: u64 = 8;

/// The most verbose level: trace.
const LEVEL_MAX: u8 = 5;

/// One line of a task's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// 1 error, 2 warning, 3 information, 4 debug, 5 trace.
    pub level: u8,
    /// The guest's words, invalid UTF-8 replaced.
    pub message: String,
}

/// The lines of one task, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log(Vec<u8>);

impl Log {
    /// Adds a line.
    pub fn push(&mut self, level: u8, message: &str) {
        debug_assert!((1..=LEVEL_MAX).contains(&level));
        self.0.extend_from_slice(&u32::from(level).to_le_bytes());
        self.0.extend_from_slice(&(message.len() as u32).to_le_bytes());
        self.0.extend_from_slice(message.as_bytes());
    }

    /// The lines.
    pub fn lines(&self) -> impl Iterator<Item = LogLine> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (level, message);
            (level, message, rest) = split_first(rest)?;
            Some(LogLine { level, message: message.to_owned() })
        })
    }

    /// Its length: [`LOG_LINE_BYTES`] and the text of each line.
    pub fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    /// Whether there are no lines.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The first line of `bytes`, and what follows it; `None` where they do not begin with one.
fn split_first(bytes: &[u8]) -> Option<(u8, &str, &[u8])> {
    let (level, rest) = split_number(bytes)?;
    let (length, rest) = split_number(rest)?;
    let level = u8::try_from(level).ok().filter(|level| (1..=LEVEL_MAX).contains(level))?;
    let (message, rest) = rest.split_at_checked(length as usize)?;
    Some((level, std::str::from_utf8(message).ok()?, rest))
}

fn split_number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*number), rest))
}

impl Encode for Log {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.encode(encoder)
    }
}

impl<Context> Decode<Context> for Log {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let log = Self(Decode::decode(decoder)?);
        let mut rest = &log.0[..];
        while !rest.is_empty() {
            (_, _, rest) = split_first(rest).ok_or(DecodeError::Other("a log without lines"))?;
        }
        Ok(log)
    }
}

impl_borrow_decode!(Log);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    fn of(lines: &[(u8, &str)]) -> Log {
        let mut log = Log::default();
        lines.iter().for_each(|(level, message)| log.push(*level, message));
        log
    }

    fn decoded(bytes: &[u8]) -> Result<Log, codec::CodecError> {
        let mut body = Vec::new();
        codec::encode(&bytes.to_vec(), &mut body).unwrap();
        codec::decode(&body)
    }

    #[test]
    fn lines_come_back_and_take_what_they_are_counted_for() {
        let lines = [(1, "first"), (5, ""), (3, "grün")];
        let log = of(&lines);
        assert_eq!(log.bytes(), 3 * LOG_LINE_BYTES + 10);
        assert_eq!(decoded(&log.0).unwrap(), log);
        let back: Vec<_> = log.lines().map(|line| (line.level, line.message)).collect();
        assert_eq!(back, lines.map(|(level, message)| (level, message.to_owned())));
        assert!(of(&[]).is_empty() && of(&[]).lines().next().is_none());
    }

    #[test]
    fn bytes_that_are_no_lines_are_no_log() {
        let whole = of(&[(2, "whole"), (2, "é")]).0;
        for cut in (1..whole.len()).filter(|cut| *cut != 13) {
            assert!(decoded(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for (level, taken) in [(0, false), (1, true), (5, true), (6, false), (256, false)] {
            let bytes = [u32::to_le_bytes(level), [0; 4]].concat();
            assert_eq!(decoded(&bytes).is_ok(), taken, "level {level}");
        }
        let endless = [1_u32.to_le_bytes(), u32::MAX.to_le_bytes()].concat();
        assert!(decoded(&endless).is_err());
        assert!(decoded(&[&[1, 0, 0, 0, 1, 0, 0, 0][..], b"\xff"].concat()).is_err());
    }
}

//! The rings, of which a hostile worker writes any byte at any time.
//!
//! Input: steps of the host and of the worker in turn. As long as the worker keeps to the rules, each
//! side takes what the other has written, in order and unchanged. From the first lie on, the host
//! takes records within their bounds or an error, and never goes on after one.

#![no_main]

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use stockade_wire::{
    RING_BODY_BYTES_MAX, RING_BYTES, Reader, Record, RingError, Rings, Wake, Writer,
};

/// Bytes before the records: two rings' indices, each word in a line of its own.
const RECORDS_AT: u64 = 4096;
const LINE_BYTES: u64 = 64;
/// Head, tail and two marks of each ring.
const LINES: u64 = 8;
/// Room that only announcements may take.
const KEPT_BYTES: usize = 8 << 10;
const BYTES: u64 = RECORDS_AT + 2 * RING_BYTES as u64;

#[derive(Arbitrary, Debug)]
enum Step {
    Write {
        side: Side,
        bytes: Length,
    },
    Announce {
        side: Side,
    },
    Take {
        side: Side,
    },
    Release {
        side: Side,
    },
    /// Of a reader, besides what it has taken.
    Sleep {
        side: Side,
    },
    /// Of a writer, for lack of room.
    Starve {
        side: Side,
    },
    /// The worker, as it should not be.
    Store {
        line: u8,
        value: Value,
    },
    Smear {
        place: u32,
        bytes: [u8; 9],
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Side {
    Host,
    Worker,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Length {
    Some(u8),
    Many(u16),
    TooMany,
}

/// Values near to the truth, and any.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Value {
    OffBy(i8),
    OffByRings(i8),
    Any(u64),
}

/// One direction: who writes, who reads, and what is on its way.
struct Way {
    writer: Writer,
    reader: Reader,
    /// Bodies on their way; `None` is announced.
    written: VecDeque<Option<Vec<u8>>>,
    /// Bytes of records that were taken and not released.
    taken: usize,
    is_broken: bool,
}

fuzz_target!(|steps: Vec<Step>| {
    let rings = Rings::create().expect("memory");
    let file = File::from(rings.descriptor().try_clone_to_owned().expect("a descriptor"));
    let worker = Rings::open(file.try_clone().expect("a descriptor")).expect("sealed");
    let (host_writer, host_reader) = rings.host();
    let (worker_writer, worker_reader) = worker.worker();
    let way = |writer, reader| Way {
        writer,
        reader,
        written: VecDeque::new(),
        taken: 0,
        is_broken: false,
    };
    // What the host writes, and what the worker writes.
    let mut ways = [way(host_writer, worker_reader), way(worker_writer, host_reader)];
    let (mut is_hostile, mut next, mut body) = (false, 0_u8, Vec::new());
    for step in steps {
        match step {
            Step::Write { side, bytes } => {
                next = next.wrapping_add(1);
                write(&mut ways[side as usize], &vec![next; bytes.of()], is_hostile);
            }
            Step::Announce { side } => announce(&mut ways[side as usize], is_hostile),
            Step::Take { side } => take(&mut ways[1 - side as usize], &mut body, is_hostile),
            Step::Release { side } => {
                let way = &mut ways[1 - side as usize];
                let wakes = way.reader.release();
                assert!(is_hostile || !wakes, "nobody sleeps");
                way.taken = 0;
            }
            Step::Sleep { side } => {
                let way = &ways[1 - side as usize];
                let may_sleep = way.reader.may_sleep();
                assert!(is_hostile || may_sleep == way.written.is_empty());
                let wakes = way.writer.wakes_reader(false) == Wake::Now;
                assert!(is_hostile || may_sleep == wakes);
                let may_doze = way.reader.may_doze();
                assert!(is_hostile || may_doze == may_sleep);
                assert!(is_hostile || way.writer.wakes_reader(false) != Wake::Now);
                let wakes = way.writer.wakes_reader(true) == Wake::Now;
                assert!(is_hostile || may_doze == wakes);
            }
            Step::Starve { side } => {
                let way = &mut ways[side as usize];
                if way.writer.may_sleep() {
                    assert!(way.reader.release() || is_hostile, "sleeps for ever");
                    way.taken = 0;
                }
            }
            Step::Store { line, value } => {
                is_hostile = true;
                let place = u64::from(line) % LINES * LINE_BYTES;
                let mut word = [0; 8];
                file.read_exact_at(&mut word, place).expect("memory");
                let word = value.near(u64::from_le_bytes(word));
                file.write_all_at(&word.to_le_bytes(), place).expect("memory");
            }
            Step::Smear { place, bytes } => {
                is_hostile = true;
                let place = u64::from(place) % (BYTES - bytes.len() as u64);
                file.write_all_at(&bytes, place).expect("memory");
            }
        }
    }
    // What the worker cannot do: make the rings another size than the host has mapped.
    assert!(file.set_len(BYTES - 1).is_err() && file.set_len(BYTES + 1).is_err());
});

fn write(way: &mut Way, body: &[u8], is_hostile: bool) {
    let fits =
        body.len() <= RING_BODY_BYTES_MAX && record_bytes(body.len()) + KEPT_BYTES <= way.room();
    let pushed = way.writer.push(body);
    if pushed.is_ok() {
        way.written.push_back(Some(body.to_vec()));
    }
    assert!(is_hostile || pushed == if fits { Ok(()) } else { Err(RingError::Full) });
    assert!(pushed.is_err() || body.len() <= RING_BODY_BYTES_MAX);
}

fn announce(way: &mut Way, is_hostile: bool) {
    let fits = record_bytes(0) <= way.room();
    let announced = way.writer.announce();
    if announced.is_ok() {
        way.written.push_back(None);
    }
    assert!(is_hostile || announced == if fits { Ok(()) } else { Err(RingError::Full) });
}

/// What a record takes: a word, and its body in whole words.
fn record_bytes(body_bytes: usize) -> usize {
    8 + body_bytes.next_multiple_of(8)
}

impl Way {
    fn room(&self) -> usize {
        let length = |body: &Option<Vec<u8>>| record_bytes(body.as_ref().map_or(0, Vec::len));
        RING_BYTES.saturating_sub(self.taken + self.written.iter().map(length).sum::<usize>())
    }
}

fn take(way: &mut Way, body: &mut Vec<u8>, is_hostile: bool) {
    // Its owner gives a ring up at the first error.
    if way.is_broken {
        return;
    }
    let taken = way.reader.next(body);
    if is_hostile {
        way.is_broken = taken.is_err();
        assert!(body.len() <= RING_BODY_BYTES_MAX);
        return;
    }
    let taken = taken.expect("no lie was told").map(|record| match record {
        Record::Here => Some(body.clone()),
        Record::OnSocket => None,
    });
    let written = way.written.pop_front();
    if let Some(written) = &written {
        way.taken += record_bytes(written.as_ref().map_or(0, Vec::len));
    }
    assert_eq!(taken, written);
}

impl Length {
    fn of(self) -> usize {
        match self {
            Self::Some(bytes) => usize::from(bytes),
            Self::Many(bytes) => usize::from(bytes) % (RING_BODY_BYTES_MAX + 1),
            Self::TooMany => RING_BODY_BYTES_MAX + 1,
        }
    }
}

impl Value {
    fn near(self, word: u64) -> u64 {
        match self {
            Self::OffBy(off) => word.wrapping_add_signed(i64::from(off)),
            Self::OffByRings(off) => word.wrapping_add_signed(i64::from(off) * RING_BYTES as i64),
            Self::Any(word) => word,
        }
    }
}

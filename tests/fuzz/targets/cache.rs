//! Entries of the artefact cache, as somebody else may have left them.
//!
//! Input: how the entry is made, then its bytes. An entry is believed only where it is authentic, and
//! an authentic one is read without a panic whatever its description says.

#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use stockade::{ModuleDescription, fuzzing};
use stockade_fuzz::allocations::within;
use stockade_wire::codec;

const MAGIC: &[u8] = b"stockade";
const VERSION: u32 = 1;
const KEY: [u8; 32] = [7; 32];
const SECRET: [u8; 32] = [9; 32];

/// Bytes before the authentication code, and before the description.
const CODE_AT: usize = 60;
const HEADER_BYTES: usize = CODE_AT + blake3::OUT_LEN;

/// What a description may take in memory for what is claimed in it, besides what arrived.
const EXPANSION_MAX: usize = 64;
const BASE_BYTES: usize = 2 << 20;

#[derive(Arbitrary, Debug)]
enum Making {
    /// The bytes as they are.
    Given,
    /// After a header that fits them, and with a code of the fuzzer's own.
    Headed { description: u16, code: [u8; 32] },
    /// With a header and a code that are right.
    Authentic { description: u16 },
    /// The same, changed in one place afterwards.
    Changed { description: u16, place: u16, change: u8 },
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Unstructured::new(bytes);
    let Ok(making) = Making::arbitrary(&mut input) else { return };
    let rest = input.take_rest();
    match making {
        Making::Given => assert!(read(rest).is_none() || is_authentic(rest)),
        Making::Headed { description, code } => {
            let (mut entry, _) = entry(rest, description);
            entry[CODE_AT..HEADER_BYTES].copy_from_slice(&code);
            assert!(read(&entry).is_none() || is_authentic(&entry));
        }
        Making::Authentic { description } => {
            let (entry, description) = entry(rest, description);
            assert_eq!(read(&entry), codec::decode(description).ok());
        }
        Making::Changed { description, place, change } => {
            let (mut entry, _) = entry(rest, description);
            let place = usize::from(place) % entry.len();
            entry[place] ^= change;
            assert!(change == 0 || read(&entry).is_none(), "changed at {place}");
        }
    }
});

fn read(entry: &[u8]) -> Option<ModuleDescription> {
    within(BASE_BYTES + EXPANSION_MAX * entry.len(), || fuzzing::cache_entry(entry, KEY, SECRET))
}

/// An authentic entry of `rest`, of which so many bytes are the description; and these.
fn entry(rest: &[u8], description: u16) -> (Vec<u8>, &[u8]) {
    let (description, artefact) = rest.split_at(usize::from(description).min(rest.len()));
    let mut entry = MAGIC.to_vec();
    entry.extend(VERSION.to_le_bytes());
    entry.extend(KEY);
    entry.extend((description.len() as u64).to_le_bytes());
    entry.extend((artefact.len() as u64).to_le_bytes());
    assert_eq!(entry.len(), CODE_AT);
    entry.extend(code(&entry, rest).as_bytes());
    entry.extend(rest);
    (entry, description)
}

fn code(header: &[u8], rest: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(&SECRET);
    hasher.update(header).update(rest);
    hasher.finalize()
}

fn is_authentic(entry: &[u8]) -> bool {
    entry.len() >= HEADER_BYTES
        && code(&entry[..CODE_AT], &entry[HEADER_BYTES..]).as_bytes()[..]
            == entry[CODE_AT..HEADER_BYTES]
}

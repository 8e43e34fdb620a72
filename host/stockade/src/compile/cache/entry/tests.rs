//! Entries that are right, and every way of being wrong.

use stockade_wire::{Export, ExportType};

use super::*;

const KEY: EntryKey = EntryKey([7; 32]);
const SECRET: Secret = Secret([9; 32]);
const ARTEFACT: &[u8] = b"native code, or so it says";

fn description() -> ModuleDescription {
    let export = Export { name: "f".into(), kind: ExportType::Memory };
    ModuleDescription { wasm_bytes: 8, exports: vec![export], ..ModuleDescription::default() }
}

fn entry() -> Vec<u8> {
    let mut entry = head(&KEY, &description(), ARTEFACT, &SECRET).unwrap();
    entry.extend(ARTEFACT);
    entry
}

/// An entry whose code is right for the bytes that `change` leaves.
fn signed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut entry = entry();
    change(&mut entry);
    let rest = entry.split_off(HEADER_BYTES);
    let code = code(&entry[..CODE_AT], &rest, &[], &SECRET);
    entry[CODE_AT..].copy_from_slice(code.as_bytes());
    entry.extend(rest);
    entry
}

#[track_caller]
fn error_of(entry: &[u8]) -> EntryError {
    verify(entry, &KEY, &SECRET).expect_err("an entry that is wrong")
}

#[test]
fn an_entry_that_nobody_touched_gives_its_description_back() {
    assert_eq!(verify(&entry(), &KEY, &SECRET).unwrap(), description());
}

#[test]
fn an_artefact_and_a_description_may_be_empty() {
    let empty = ModuleDescription::default();
    let entry = head(&KEY, &empty, &[], &SECRET).unwrap();
    assert_eq!(verify(&entry, &KEY, &SECRET).unwrap(), empty);
}

#[test]
fn every_bit_of_an_entry_counts() {
    let entry = entry();
    for position in 0..entry.len() {
        for bit in 0..8 {
            let mut changed = entry.clone();
            changed[position] ^= 1 << bit;
            let error = error_of(&changed);
            let right = match position {
                0..VERSION_AT => matches!(error, EntryError::Magic),
                VERSION_AT..KEY_AT => matches!(error, EntryError::Version(_)),
                KEY_AT..DESCRIPTION_AT => matches!(error, EntryError::Key),
                DESCRIPTION_AT..CODE_AT => {
                    matches!(error, EntryError::Length { .. } | EntryError::Limit)
                }
                _ => matches!(error, EntryError::Code),
            };
            assert!(right, "bit {bit} of byte {position}: {error:?}");
        }
    }
}

#[test]
fn an_entry_that_ends_early_is_refused_at_every_length() {
    let entry = entry();
    for length in 0..entry.len() {
        let error = error_of(&entry[..length]);
        let right = match length {
            0..HEADER_BYTES => matches!(error, EntryError::Size(_)),
            _ => matches!(error, EntryError::Length { .. }),
        };
        assert!(right, "{length}: {error:?}");
    }
}

#[test]
fn bytes_that_follow_an_entry_are_refused_even_under_a_right_code() {
    let mut longer = entry();
    longer.push(0);
    assert!(matches!(error_of(&longer), EntryError::Length { .. }));
    let longer = signed(|entry| entry.push(0));
    assert!(matches!(error_of(&longer), EntryError::Length { .. }));
}

#[test]
fn lengths_beyond_their_limits_are_refused_before_anything_is_read() {
    let with = |at: usize, length: u64| {
        signed(|entry| entry[at..at + 8].copy_from_slice(&length.to_le_bytes()))
    };
    let lengths = [u64::MAX / 2, u64::MAX - HEADER_BYTES as u64 + 1, u64::MAX];
    let most = with(DESCRIPTION_AT, DESCRIPTION_BYTES_MAX);
    assert!(matches!(error_of(&most), EntryError::Length { .. }));
    for length in [&[DESCRIPTION_BYTES_MAX + 1], &lengths[..]].concat() {
        assert!(matches!(error_of(&with(DESCRIPTION_AT, length)), EntryError::Limit), "{length}");
    }
    // An artefact may be as long as its file.
    for length in lengths {
        let error = error_of(&with(ARTEFACT_AT, length));
        assert!(matches!(error, EntryError::Length { .. }), "{length}: {error:?}");
    }
}

#[test]
fn a_byte_cannot_move_from_the_artefact_into_the_description() {
    let mut moved = entry();
    moved[DESCRIPTION_AT] += 1;
    moved[ARTEFACT_AT] -= 1;
    assert!(matches!(error_of(&moved), EntryError::Code));
}

#[test]
fn another_secret_makes_another_code() {
    let error = verify(&entry(), &KEY, &Secret([8; 32])).unwrap_err();
    assert!(matches!(error, EntryError::Code), "{error:?}");
}

#[test]
fn an_entry_does_not_serve_another_key_not_even_with_its_header_copied() {
    let other = EntryKey([6; 32]);
    let error = verify(&entry(), &other, &SECRET).unwrap_err();
    assert!(matches!(error, EntryError::Key), "{error:?}");
    // The other's entry, with this one's artefact put behind its header.
    let mut planted = head(&other, &description(), b"harmless", &SECRET).unwrap();
    planted[ARTEFACT_AT..CODE_AT].copy_from_slice(&(ARTEFACT.len() as u64).to_le_bytes());
    planted.extend(ARTEFACT);
    let error = verify(&planted, &other, &SECRET).unwrap_err();
    assert!(matches!(error, EntryError::Code), "{error:?}");
}

#[test]
fn a_description_that_does_not_decode_is_refused_even_under_a_right_code() {
    let last = HEADER_BYTES + 2;
    let entry = signed(|entry| entry[last] = 0xff);
    assert!(matches!(error_of(&entry), EntryError::Description(_)), "{:?}", error_of(&entry));
    // One byte of the artefact taken for the description's: it follows what was decoded.
    let entry = signed(|entry| {
        entry[DESCRIPTION_AT] += 1;
        entry[ARTEFACT_AT] -= 1;
    });
    let error = error_of(&entry);
    assert!(matches!(error, EntryError::Description(CodecError::Trailing(1))), "{error:?}");
}

#[test]
fn an_artefact_that_is_not_as_long_as_it_was_said_to_be_is_refused() {
    let entry = entry();
    let (header, rest) = entry.split_first_chunk().unwrap();
    let check = |pieces: &[&[u8]]| {
        let header = Header::parse(*header, entry.len() as u64, &KEY).unwrap();
        let description = rest[..header.description_bytes].to_vec();
        let mut check = header.check(description, &SECRET);
        pieces.iter().for_each(|piece| check.add(piece));
        check.finish()
    };
    for artefact in [&[&ARTEFACT[1..]][..], &[ARTEFACT, b"x"], &[]] {
        let error = check(artefact).unwrap_err();
        assert!(matches!(error, EntryError::Length { .. }), "{error:?}");
    }
    let (first, second) = ARTEFACT.split_at(9);
    assert_eq!(check(&[first, second]).unwrap(), description());
    assert!(matches!(check(&[second, first]), Err(EntryError::Code)));
}

#[test]
fn a_secret_is_not_shown() {
    assert_eq!(format!("{SECRET:?}"), "Secret");
}

#[test]
fn bytes_of_every_kind_end_in_an_error_and_nothing_else() {
    // What an attacker without the secret can do, at random: no panic, no description.
    let entry = entry();
    let mut state = 1_u64;
    let mut random = || {
        // Steele and Vigna's SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    };
    for _ in 0..20_000 {
        let mut changed = entry.clone();
        for _ in 0..=random() % 4 {
            let position = random() as usize % changed.len();
            changed[position] = random() as u8;
        }
        changed.truncate(entry.len() - random() as usize % 3);
        if changed != entry {
            assert!(verify(&changed, &KEY, &SECRET).is_err());
        }
    }
}

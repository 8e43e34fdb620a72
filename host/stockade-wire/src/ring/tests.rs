//! Rings as both sides use them, and as a hostile side may leave them.

use std::os::unix::fs::FileExt;

use super::*;

fn both_sides() -> ((Writer, Reader), (Writer, Reader), File) {
    let rings = Rings::create().unwrap();
    let file = File::from(rings.descriptor().try_clone_to_owned().unwrap());
    let worker = Rings::open(file.try_clone().unwrap()).unwrap();
    (rings.host(), worker.worker(), file)
}

fn next(reader: &mut Reader) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    let record = reader.next(&mut body).unwrap()?;
    assert_eq!(record, Record::Here);
    Some(body)
}

#[test]
fn records_come_out_as_they_went_in_and_once_around_the_ring_many_times() {
    let ((mut writer, mut answers), (mut answer, mut reader), _) = both_sides();
    for number in 0..10_000_usize {
        let body = vec![number as u8; number * 37 % 3000];
        writer.push(&body).unwrap();
        assert_eq!(next(&mut reader), Some(body.clone()));
        assert_eq!(next(&mut reader), None);
        reader.release();
        answer.push(&body[..body.len() / 2]).unwrap();
        assert_eq!(next(&mut answers).map(|body| body.len()), Some(body.len() / 2));
        answers.release();
    }
}

#[test]
fn a_full_ring_takes_no_body_but_announcements_until_room_is_released() {
    let ((mut writer, _), (_, mut reader), _) = both_sides();
    let body = vec![1; 1000];
    let fitting = (0..).take_while(|_| writer.push(&body).is_ok()).count();
    assert_eq!(fitting, (RING_BYTES - ANNOUNCEMENT_BYTES) / record_bytes(body.len()));
    assert_eq!(writer.push(&body), Err(RingError::Full));
    writer.announce().unwrap();
    // Read, and not yet released.
    assert_eq!(next(&mut reader), Some(body.clone()));
    assert_eq!(writer.push(&body), Err(RingError::Full));
    reader.release();
    writer.push(&[]).unwrap();
    for _ in 1..fitting {
        assert_eq!(next(&mut reader), Some(body.clone()));
    }
    assert_eq!(reader.next(&mut Vec::new()), Ok(Some(Record::OnSocket)));
    assert_eq!(next(&mut reader), Some(Vec::new()));
}

#[test]
fn announcements_fill_the_ring_to_its_last_byte() {
    let ((mut writer, _), (_, mut reader), _) = both_sides();
    let announced = (0..).take_while(|_| writer.announce().is_ok()).count();
    assert_eq!(announced, RING_BYTES / HEADER_BYTES);
    for _ in 0..announced {
        assert_eq!(reader.next(&mut Vec::new()), Ok(Some(Record::OnSocket)));
    }
    assert_eq!(reader.next(&mut Vec::new()), Ok(None));
}

#[test]
fn the_longest_body_fits_and_one_byte_more_does_not() {
    let ((mut writer, _), (_, mut reader), _) = both_sides();
    writer.push(&vec![7; RING_BODY_BYTES_MAX]).unwrap();
    assert_eq!(writer.push(&vec![7; RING_BODY_BYTES_MAX + 1]), Err(RingError::Full));
    assert_eq!(next(&mut reader), Some(vec![7; RING_BODY_BYTES_MAX]));
}

#[test]
fn a_reader_that_dozes_is_woken_by_an_idle_writer_only() {
    let ((mut writer, _), (_, mut reader), _) = both_sides();
    assert!(reader.may_doze());
    writer.push(&[1]).unwrap();
    assert_eq!(writer.wakes_reader(false), Wake::Later);
    assert_eq!(writer.wakes_reader(true), Wake::Now);
    assert_eq!(writer.wakes_reader(true), Wake::Needless);
    assert_eq!(next(&mut reader), Some(vec![1]));
    assert!(reader.may_doze() && reader.may_sleep());
    assert_eq!(writer.wakes_reader(false), Wake::Now, "it has dozed and sleeps");
}

#[test]
fn who_sleeps_is_woken_once() {
    let ((mut writer, _), (_, mut reader), _) = both_sides();
    assert_eq!(writer.wakes_reader(true), Wake::Needless);
    assert!(reader.may_sleep());
    writer.push(&[1]).unwrap();
    assert_eq!(writer.wakes_reader(false), Wake::Now);
    assert_eq!(writer.wakes_reader(true), Wake::Needless);
    assert!(!reader.may_sleep() && !reader.may_doze(), "there is a record");
    assert_eq!(writer.wakes_reader(true), Wake::Needless, "the reader is awake");
    while writer.push(&[0; 1000]).is_ok() {}
    assert!(writer.may_sleep());
    while next(&mut reader).is_some() {}
    assert!(reader.release());
    assert!(!reader.release());
    writer.push(&[0; 1000]).unwrap();
}

/// The first ring's head and tail: the words of two cache lines.
const HEAD_AT: u64 = 0;
const TAIL_AT: u64 = 64;

fn store(file: &File, at: u64, value: u64) {
    file.write_all_at(&value.to_le_bytes(), at).unwrap();
}

#[test]
fn a_head_that_no_writer_can_have_is_refused() {
    let ring = RING_BYTES as u64;
    for head in [1, 7, ring + 8, u64::MAX, 1 << 63] {
        let (_, (_, mut reader), file) = both_sides();
        store(&file, HEAD_AT, head);
        assert_eq!(reader.next(&mut Vec::new()), Err(RingError::Index), "{head}");
    }
    let ((mut writer, _), (_, mut reader), file) = both_sides();
    writer.push(&[1; 100]).unwrap();
    next(&mut reader).unwrap();
    store(&file, HEAD_AT, 0);
    assert_eq!(reader.next(&mut Vec::new()), Err(RingError::Index), "it turned back");
}

#[test]
fn a_tail_that_no_reader_can_have_is_refused() {
    for tail in [u64::MAX, 1 << 40, RING_BYTES as u64 * 2] {
        let ((mut writer, _), _, file) = both_sides();
        while writer.push(&[0; 1000]).is_ok() {}
        store(&file, TAIL_AT, tail);
        assert_eq!(writer.push(&[0; 1000]), Err(RingError::Index), "{tail}");
    }
}

#[test]
fn a_record_that_is_longer_than_what_was_written_is_refused() {
    for header in [101, RING_BODY_BYTES_MAX as u64 + 1, ON_SOCKET + 1, u64::MAX] {
        let ((mut writer, _), (_, mut reader), file) = both_sides();
        writer.push(&[1; 96]).unwrap();
        store(&file, RECORDS_AT as u64, header);
        assert_eq!(reader.next(&mut Vec::new()), Err(RingError::Record), "{header}");
    }
}

#[test]
fn memory_of_another_size_is_no_rings() {
    let page = crate::StatusPage::create().unwrap();
    let file = File::from(page.descriptor().try_clone_to_owned().unwrap());
    assert!(matches!(Rings::open(file), Err(MappingError::Unsealed)));
}

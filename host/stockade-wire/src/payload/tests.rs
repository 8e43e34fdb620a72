use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use super::*;
use crate::PlacementFile;
use crate::descriptor::memory_file;

fn other_side(memory: &SharedMemory) -> PayloadFile {
    PayloadFile::open(memory.descriptor().try_clone_to_owned().unwrap()).unwrap()
}

#[test]
fn both_sides_see_the_same_bytes() {
    let mut memory = SharedMemory::create(10_000).unwrap();
    let file = other_side(&memory);
    memory.write_at(9_998, b"ab");
    let mut read = [0; 2];
    file.file().read_exact_at(&mut read, 9_998).unwrap();
    assert_eq!(&read, b"ab");
    file.file().write_all_at(b"cd", 0).unwrap();
    memory.read_at(0, &mut read);
    assert_eq!(&read, b"cd");
    assert_eq!(memory.atomics()[1].load(Ordering::Relaxed), b'd');
    assert_eq!(memory.atomics().len(), 10_000);
}

#[test]
fn nothing_of_an_input_stands_behind_the_next_one_in_its_last_page() {
    let mut memory = SharedMemory::create(8_192).unwrap();
    memory.put(&[7; 8_192]);
    memory.put(&[1; 5_000]);
    let mut read = Vec::new();
    memory.read_into(8_192, &mut read);
    assert!(read[..5_000].iter().all(|byte| *byte == 1));
    assert!(read[5_000..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_copy_takes_the_memory_that_is_there_if_it_is_enough() {
    let mut memory = SharedMemory::create(3).unwrap();
    memory.put(b"abc");
    let mut into = Vec::with_capacity(100);
    let before = into.as_ptr();
    memory.read_into(2, &mut into);
    assert_eq!((into.as_slice(), into.as_ptr()), (&b"ab"[..], before));
    let mut small = vec![1];
    memory.read_into(3, &mut small);
    assert_eq!(small, b"abc");
}

#[test]
fn whatever_is_beyond_the_memory_is_refused() {
    let mut memory = SharedMemory::create(100).unwrap();
    memory.write_at(100, &[]);
    for (offset, bytes) in [(0, 101), (100, 1), (101, 0), (usize::MAX, 1)] {
        let write = AssertUnwindSafe(|| memory.write_at(offset, &vec![0; bytes]));
        assert!(catch_unwind(write).is_err(), "{offset} {bytes}");
        let read = AssertUnwindSafe(|| memory.read_at(offset, &mut vec![0; bytes]));
        assert!(catch_unwind(read).is_err(), "{offset} {bytes}");
    }
}

#[test]
fn the_other_side_can_make_it_neither_shorter_nor_longer() {
    let memory = SharedMemory::create(10).unwrap();
    let file = other_side(&memory);
    assert_eq!(file.bytes(), rustix::param::page_size() as u64);
    assert!(file.file().set_len(0).is_err());
    assert!(file.file().set_len(1 << 20).is_err());
    let placement = |bytes| Placement { bytes, place: PlacementFile::Lent };
    assert!(file.holds(placement(file.bytes())));
    assert!(!file.holds(placement(file.bytes() + 1)));
    let unsealed = memory_file("open").unwrap();
    assert!(matches!(PayloadFile::open(unsealed.into()), Err(MappingError::Unsealed)));
}

#[test]
fn empty_memory_has_no_bytes_and_a_file() {
    let mut memory = SharedMemory::create(0).unwrap();
    assert!(memory.atomics().is_empty());
    memory.put(&[]);
    assert!(memory.freeze().unwrap().is_empty());
}

#[test]
fn frozen_memory_is_a_slice_that_nobody_can_write_to() {
    let mut memory = SharedMemory::create(3).unwrap();
    let file = other_side(&memory);
    memory.put(b"abc");
    let frozen = memory.freeze().unwrap();
    assert_eq!(&*frozen, b"abc");
    assert!(file.file().write_all_at(b"x", 0).is_err());
    assert_eq!(&*frozen, b"abc");
}

#[test]
fn memory_that_another_still_maps_for_writing_is_not_frozen_and_given_back() {
    let mut memory = SharedMemory::create(3).unwrap();
    memory.put(b"abc");
    let file = memory.descriptor().try_clone_to_owned().unwrap();
    let mapped = Mapping::open(File::from(file), rustix::param::page_size()).unwrap();
    let Err(FreezeError::InUse(memory)) = memory.freeze() else { panic!("it is frozen") };
    let mut read = [0; 3];
    memory.read_at(0, &mut read);
    assert_eq!(&read, b"abc");
    drop(mapped);
    assert_eq!(&*memory.freeze().unwrap(), b"abc");
}

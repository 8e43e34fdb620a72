//! Images: the initial content of a module's memories, computed from its active data segments,
//! which are removed.
//!
//! ```text
//! (data (i32.const 8) "ab") (data "cd")  ─► image: "ab" at 8
//!                                        └► (data "") (data "cd"): numbers of segments stay
//! ```
//!
//! An active segment is dropped after it was copied, so a passive, empty segment in its place makes
//! no difference. A memory keeps its segments, for the engine to copy at each instantiation, where
//! one of them is at a place that is not a constant, where one is out of bounds, and where the
//! image would be far larger than they are.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use wasm_encoder::{DataSection, Module, RawSection};
use wasmparser::{Data, DataKind, MemoryType, Operator, Parser, Payload, TypeRef};

use crate::memory::{Contents, GRANULE_BYTES, RUNS_MAX};

/// The most bytes of an image whose segments are much smaller.
const SPARSE_BYTES_MAX: u64 = 16 << 20;

/// How many times as large as its segments a larger image may be.
const SPARSENESS_MAX: u64 = 2;

/// `binary`, a valid module, without the segments that are in the images, and an image for each of its
/// own memories.
///
/// # Errors
/// If it is no valid module.
pub(super) fn separate(binary: &[u8]) -> wasmparser::Result<(Cow<'_, [u8]>, Vec<Contents>)> {
    let (mut imported, mut memories, mut segments) = (0, Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(binary) {
        match payload? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    imported += u32::from(matches!(import?.ty, TypeRef::Memory(_)));
                }
            }
            Payload::MemorySection(section) => {
                memories = section.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::DataSection(section) => {
                segments = section.into_iter().collect::<Result<_, _>>()?;
            }
            _ => {}
        }
    }
    let mut images = Vec::new();
    let mut is_taken = vec![false; segments.len()];
    for (number, memory) in (imported..).zip(&memories) {
        let own: Vec<_> = (0..segments.len()).filter(|at| is_of(&segments[*at], number)).collect();
        let placed = own.iter().map(|at| placed(&segments[*at], memory)).collect::<Option<_>>();
        let granules = placed.and_then(|placed: Vec<_>| granules(&placed));
        if granules.is_some() {
            own.iter().for_each(|at| is_taken[*at] = true);
        }
        images.push(Contents { minimum_bytes: bytes_of(memory).unwrap_or(u64::MAX), granules });
    }
    if !is_taken.contains(&true) {
        return Ok((binary.into(), images));
    }
    Ok((without(binary, &segments, &is_taken)?.into(), images))
}

fn bytes_of(memory: &MemoryType) -> Option<u64> {
    memory.initial.checked_mul(1 << memory.page_size_log2.unwrap_or(16))
}

fn is_of(segment: &Data<'_>, memory: u32) -> bool {
    matches!(segment.kind, DataKind::Active { memory_index, .. } if memory_index == memory)
}

/// Where in `memory` the bytes of an active segment are, if that is known and within it.
fn placed<'a>(segment: &Data<'a>, memory: &MemoryType) -> Option<(u64, &'a [u8])> {
    let DataKind::Active { offset_expr, .. } = &segment.kind else { return None };
    if memory.memory64 || memory.shared || memory.page_size_log2.is_some() {
        return None;
    }
    let mut operators = offset_expr.get_operators_reader();
    let Ok(Operator::I32Const { value }) = operators.read() else { return None };
    if !matches!(operators.read(), Ok(Operator::End)) {
        return None;
    }
    let start = u64::from(value.cast_unsigned());
    let end = start + segment.data.len() as u64;
    (end <= bytes_of(memory)?).then_some((start, segment.data))
}

/// What segments make of a memory, if that is not too much compared with them.
fn granules(placed: &[(u64, &[u8])]) -> Option<BTreeMap<u64, Vec<u8>>> {
    let (mut numbers, mut data_bytes) = (BTreeSet::new(), 0);
    for (start, data) in placed {
        data_bytes += data.len() as u64;
        numbers.extend(*start / GRANULE_BYTES..(start + data.len() as u64).div_ceil(GRANULE_BYTES));
        let image_bytes = numbers.len() as u64 * GRANULE_BYTES;
        // At the end it counts, but before that no more is noted than is certainly too much.
        if image_bytes > SPARSE_BYTES_MAX.max(SPARSENESS_MAX * data_bytes) + SPARSE_BYTES_MAX {
            return None;
        }
    }
    if numbers.len() as u64 * GRANULE_BYTES > SPARSE_BYTES_MAX.max(SPARSENESS_MAX * data_bytes) {
        return None;
    }
    let mut granules: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for (start, data) in placed {
        let (mut at, mut rest) = (*start, *data);
        while !rest.is_empty() {
            let within = (at % GRANULE_BYTES) as usize;
            let (now, later) = rest.split_at(rest.len().min(GRANULE_BYTES as usize - within));
            let granule = granules.entry(at / GRANULE_BYTES);
            let granule = granule.or_insert_with(|| vec![0; GRANULE_BYTES as usize]);
            granule[within..within + now.len()].copy_from_slice(now);
            at += now.len() as u64;
            rest = later;
        }
    }
    granules.retain(|_, granule| granule.iter().any(|byte| *byte != 0));
    let numbers: Vec<_> = granules.keys().collect();
    let runs = numbers.chunk_by(|a, b| **a + 1 == **b).count();
    (runs <= RUNS_MAX).then_some(granules)
}

/// `binary` with a passive and empty segment in place of each that is taken.
fn without(binary: &[u8], segments: &[Data<'_>], is_taken: &[bool]) -> wasmparser::Result<Vec<u8>> {
    let mut rest = Module::new();
    for payload in Parser::new(0).parse_all(binary) {
        let payload = payload?;
        let Some((id, range)) = payload.as_section() else { continue };
        if !matches!(payload, Payload::DataSection(_)) {
            rest.section(&RawSection { id, data: &binary[range] });
            continue;
        }
        let mut section = DataSection::new();
        for (segment, is_taken) in segments.iter().zip(is_taken) {
            match is_taken {
                true => section.passive([]),
                false => section.raw(&binary[segment.range.clone()]),
            };
        }
        rest.section(&section);
    }
    Ok(rest.finish())
}

#[cfg(test)]
mod tests {
    use wasmparser::Validator;

    use super::*;

    /// What a memory's image has, by the number of each granule.
    type Granules = Option<BTreeMap<u64, Vec<u8>>>;

    /// What is separated from `source`: which segments are still active, and each memory's granules.
    fn separated(source: &str) -> (Vec<bool>, Vec<Granules>) {
        let binary = wat::parse_str(source).unwrap();
        let (rest, images) = separate(&binary).unwrap();
        Validator::new().validate_all(&rest).unwrap();
        let mut active = Vec::new();
        for payload in Parser::new(0).parse_all(&rest) {
            if let Payload::DataSection(section) = payload.unwrap() {
                let kinds = section.into_iter().map(|data| data.unwrap().kind);
                active.extend(kinds.map(|kind| matches!(kind, DataKind::Active { .. })));
            }
        }
        (active, images.into_iter().map(|image| image.granules).collect())
    }

    #[test]
    fn segments_become_an_image_in_their_order_and_keep_their_numbers() {
        let (active, images) = separated(
            r#"(module (memory 3)
                (data (i32.const 65535) "abc") (data "passive") (data (i32.const 65536) "x")
                (data (i32.const 131072) "\00\00")
                (func (memory.init 1 (i32.const 0) (i32.const 0) (i32.const 7)) (data.drop 2)))"#,
        );
        assert_eq!(active, [false; 4]);
        let image = images[0].as_ref().unwrap();
        assert_eq!(image.keys().collect::<Vec<_>>(), [&0, &1], "zeros need no granule");
        assert_eq!((image[&0][65535], &image[&1][..3]), (b'a', &b"xc\0"[..]));
    }

    #[test]
    fn a_memory_whose_segments_cannot_all_be_placed_keeps_them() {
        for data in [
            r#"(data (i32.const 0) "a") (data (i32.const 65535) "bc")"#,
            r#"(data (i32.const 0) "a") (data (i32.const -1) "")"#,
            r#"(data (i32.const 0) "a") (data (global.get 0) "b")"#,
        ] {
            let (active, images) =
                separated(&format!(r#"(module (global i32 (i32.const 0)) (memory 1) {data})"#));
            assert_eq!((active, images), (vec![true, true], vec![None]), "{data}");
        }
    }

    #[test]
    fn a_segment_at_the_very_end_is_taken_and_so_is_an_empty_one() {
        let (active, images) = separated(
            r#"(module (memory 1) (data (i32.const 65535) "a") (data (i32.const 65536) ""))"#,
        );
        assert_eq!(active, [false, false]);
        assert_eq!(images[0].as_ref().unwrap()[&0][65535], b'a');
    }

    #[test]
    fn each_memory_has_its_own_image() {
        let (active, images) = separated(
            r#"(module (memory 1) (memory 1) (memory i64 1)
                (data (memory 1) (i32.const 0) "a") (data (memory 2) (i64.const 0) "b"))"#,
        );
        assert_eq!(active, [false, true]);
        assert_eq!(images[0], Some(BTreeMap::new()));
        assert_eq!(images[1].as_ref().unwrap()[&0][0], b'a');
        assert_eq!(images[2], None);
    }

    /// A module with a byte in every so many granules.
    fn scattered(count: u64, every: u64) -> String {
        let data = (0..count)
            .map(|number| format!(r#"(data (i32.const {}) "a")"#, number * every * GRANULE_BYTES));
        let data: String = data.collect();
        format!("(module (memory {}) {data})", count * every)
    }

    #[test]
    fn an_image_that_is_far_larger_than_its_segments_is_not_made() {
        let granules = SPARSE_BYTES_MAX / GRANULE_BYTES;
        assert!(separated(&scattered(granules, 1)).1[0].is_some());
        assert!(separated(&scattered(granules + 1, 1)).1[0].is_none());
        assert!(separated(&scattered(3 * granules, 1)).1[0].is_none());
    }

    #[test]
    fn an_image_of_too_many_pieces_is_not_made() {
        assert!(separated(&scattered(RUNS_MAX as u64, 2)).1[0].is_some());
        assert!(separated(&scattered(RUNS_MAX as u64 + 1, 2)).1[0].is_none());
    }

    #[test]
    fn a_module_without_segments_is_as_it_was() {
        let binary = wat::parse_str("(module (memory 1) (func))").unwrap();
        assert!(matches!(separate(&binary).unwrap().0, Cow::Borrowed(_)));
    }
}

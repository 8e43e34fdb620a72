//! Images: the initial content of a module's memories, stored behind its artefact.
//!
//! ```text
//! artefact │ to a granule │ runs of granules │ table │ its place, its length, magic
//! table: u64 memories, each: u64 minimum, u64 runs or all ones where the engine fills it,
//!        each run: u64 place in the memory, u64 bytes, u64 place in the file
//! ```
//!
//! Numbers are little-endian. Only granules that are not all zero are kept. A granule is as large as a
//! page of WebAssembly, which no system's page is larger than, so each can be mapped.
//!
//! Invariant: what was read is within the file and within the memory, in ascending order in both.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::RESERVATION_BYTES;
use super::pages::{Access, Mapping};
use stockade_module::MEMORIES_MAX;

/// Pieces of an image begin at multiples of this, in the memory and in the file.
pub(crate) const GRANULE_BYTES: u64 = 64 << 10;

/// The most runs of one memory: each is a mapping of its own in every worker.
pub(crate) const RUNS_MAX: usize = 64;

const MAGIC: [u8; 8] = *b"stkimg01";
const FOOTER_BYTES: u64 = 24;

/// In place of a number of runs, if the engine fills the memory from its segments.
const BY_THE_ENGINE: u64 = u64::MAX;

/// The initial content of a memory, from a compiler.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) minimum_bytes: u64,
    /// The granules that are not all zero, by their number. None where the engine is to fill the memory.
    pub(crate) granules: Option<BTreeMap<u64, Vec<u8>>>,
}

/// A file without a table, or with an invalid one.
#[derive(Debug, thiserror::Error)]
#[error("the image behind the artefact is malformed")]
pub(crate) struct Malformed;

/// A piece of a memory and where in the file it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// In the memory.
    pub(super) place: Range<usize>,
    /// In the file.
    pub(super) offset: u64,
}

/// The initial content of a memory, as a worker reads it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) minimum_bytes: usize,
    pub(super) runs: Option<Vec<Run>>,
}

/// The initial content of one module's memories.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Images(pub(super) Vec<Read>);

/// Writes images behind an artefact.
pub(crate) fn append(artefact: &mut Vec<u8>, memories: &[Contents]) {
    artefact.resize(artefact.len().next_multiple_of(GRANULE_BYTES as usize), 0);
    let mut table = Vec::new();
    let mut number = |number: u64| table.extend(number.to_le_bytes());
    number(memories.len() as u64);
    for Contents { minimum_bytes, granules } in memories {
        number(*minimum_bytes);
        let Some(granules) = granules else {
            number(BY_THE_ENGINE);
            continue;
        };
        let granules: Vec<_> = granules.iter().collect();
        let runs: Vec<_> = granules.chunk_by(|(a, _), (b, _)| **a + 1 == **b).collect();
        number(runs.len() as u64);
        for run in runs {
            number(run[0].0 * GRANULE_BYTES);
            number(run.len() as u64 * GRANULE_BYTES);
            number(artefact.len() as u64);
            run.iter().for_each(|(_, bytes)| artefact.extend_from_slice(bytes));
        }
    }
    let place = artefact.len() as u64;
    artefact.extend_from_slice(&table);
    artefact.extend(place.to_le_bytes());
    artefact.extend((table.len() as u64).to_le_bytes());
    artefact.extend(MAGIC);
}

impl Images {
    /// Reads the table in `file`, whose contents no longer change.
    ///
    /// # Errors
    /// [`Malformed`]
    pub(super) fn read(file: &File) -> Result<Self, Malformed> {
        let length = file.metadata().map_err(|_| Malformed)?.len();
        let mut footer = [0; FOOTER_BYTES as usize];
        let footer_at = length.checked_sub(FOOTER_BYTES).ok_or(Malformed)?;
        file.read_exact_at(&mut footer, footer_at).map_err(|_| Malformed)?;
        let mut rest = Numbers(&footer);
        let (at, bytes) = (rest.next()?, rest.next()?);
        let is_between = at.checked_add(bytes) == Some(footer_at);
        if rest.0 != MAGIC || !is_between || bytes > table_bytes_max() {
            return Err(Malformed);
        }
        let mut table = vec![0; bytes as usize];
        file.read_exact_at(&mut table, at).map_err(|_| Malformed)?;
        parse(&table, at)
    }
}

const fn table_bytes_max() -> u64 {
    8 + MEMORIES_MAX as u64 * (16 + RUNS_MAX as u64 * 24)
}

/// Reads a table whose images end before `end` in the file.
fn parse(table: &[u8], end: u64) -> Result<Images, Malformed> {
    let mut numbers = Numbers(table);
    let count = numbers.next()?;
    if count > MEMORIES_MAX as u64 {
        return Err(Malformed);
    }
    let mut memories = Vec::new();
    for _ in 0..count {
        let minimum = numbers.next()?;
        let runs = match numbers.next()? {
            BY_THE_ENGINE => None,
            count if count > RUNS_MAX as u64 || minimum > RESERVATION_BYTES => {
                return Err(Malformed);
            }
            count => Some(runs(&mut numbers, count, minimum, end)?),
        };
        let minimum_bytes = usize::try_from(minimum).map_err(|_| Malformed)?;
        memories.push(Read { minimum_bytes, runs });
    }
    if numbers.0.is_empty() { Ok(Images(memories)) } else { Err(Malformed) }
}

fn runs(
    numbers: &mut Numbers<'_>,
    count: u64,
    minimum: u64,
    file_end: u64,
) -> Result<Vec<Run>, Malformed> {
    let (mut runs, mut free_from, mut file_from) = (Vec::new(), 0, 0);
    for _ in 0..count {
        let (start, bytes, offset) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let is_whole = [start, bytes, offset].iter().all(|n| n.is_multiple_of(GRANULE_BYTES));
        let end = start.checked_add(bytes).filter(|end| *end <= minimum);
        let in_file = offset.checked_add(bytes).is_some_and(|end| end <= file_end);
        let (Some(end), true, true) = (end, in_file, is_whole) else { return Err(Malformed) };
        if bytes == 0 || start < free_from || offset < file_from {
            return Err(Malformed);
        }
        (free_from, file_from) = (end, offset + bytes);
        // No more than the reservation, which is an address.
        runs.push(Run { place: start as usize..end as usize, offset });
    }
    Ok(runs)
}

struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> Result<u64, Malformed> {
        let (number, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*number))
    }
}

/// The image of one memory, ready to be mapped and to be copied from.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) minimum_bytes: usize,
    file: Arc<File>,
    runs: Vec<Run>,
    /// The runs as they are in the file, for reading.
    pristine: Option<Mapping>,
}

impl Image {
    /// Maps the runs of `file`, of a memory of `minimum_bytes`, for reading.
    ///
    /// # Errors
    /// The system's, where there is no address space.
    pub(super) fn new(file: Arc<File>, runs: Vec<Run>, minimum_bytes: usize) -> io::Result<Self> {
        let pristine = match (runs.first(), runs.last()) {
            (Some(first), Some(last)) => {
                let bytes = last.offset + last.place.len() as u64 - first.offset;
                let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
                Some(Mapping::of_file(&file, first.offset, bytes)?)
            }
            _ => None,
        };
        Ok(Self { minimum_bytes, file, runs, pristine })
    }

    /// Pieces of `range`, in ascending order: each with what is in it, from the file or all zero.
    pub(super) fn pieces(&self, range: Range<usize>) -> impl Iterator<Item = Piece<'_>> {
        let from = self.runs.partition_point(|run| run.place.end <= range.start);
        let mut runs = self.runs[from..].iter();
        let mut next = runs.next();
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let piece = match next {
                Some(run) if run.place.start <= at => {
                    let place = at..range.end.min(run.place.end);
                    let offset = run.offset + (at - run.place.start) as u64;
                    if place.end == run.place.end {
                        next = runs.next();
                    }
                    Piece { place, source: Some((self, offset)) }
                }
                Some(run) => Piece { place: at..range.end.min(run.place.start), source: None },
                None => Piece { place: at..range.end, source: None },
            };
            at = piece.place.end;
            Some(piece)
        })
    }
}

/// A piece of a memory's image.
pub(super) struct Piece<'a> {
    pub(super) place: Range<usize>,
    /// Where in the file it is; none where it is all zero.
    source: Option<(&'a Image, u64)>,
}

impl Piece<'_> {
    /// Maps it anew to its place in the memory at `base`, for reading, dropping what was there.
    ///
    /// # Errors
    /// The system's.
    ///
    /// # Safety
    /// The memory is reserved there, as long as the piece's place says, nobody refers to what is in it,
    /// and no guest runs in it.
    #[allow(unsafe_code)]
    pub(super) unsafe fn map(&self, base: *mut u8) -> io::Result<()> {
        let file = self.source.as_ref().map(|(image, offset)| (&*image.file, *offset));
        // SAFETY: as the caller promises.
        unsafe { super::pages::map_over(base, &self.place, file, Access::Read) }
    }

    /// Its bytes; `None` for zeros.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        let (image, offset) = self.source?;
        let (first, pristine) = (image.runs.first()?, image.pristine.as_ref()?);
        let from = usize::try_from(offset - first.offset).ok()?;
        pristine.bytes().get(from..from + self.place.len())
    }
}

#[cfg(test)]
mod tests {
    use stockade_wire::descriptor::sealed_file;

    use super::*;

    const GRANULE: usize = GRANULE_BYTES as usize;

    fn contents(minimum: u64, filled: &[u64]) -> Contents {
        let granules = filled.iter().map(|number| (*number, vec![*number as u8 + 1; GRANULE]));
        Contents { minimum_bytes: minimum * GRANULE_BYTES, granules: Some(granules.collect()) }
    }

    fn file(memories: &[Contents]) -> Vec<u8> {
        let mut artefact = b"an artefact".to_vec();
        append(&mut artefact, memories);
        artefact
    }

    fn read(bytes: &[u8]) -> Result<Images, Malformed> {
        Images::read(&sealed_file("artefact", bytes).unwrap())
    }

    #[test]
    fn images_are_read_as_they_were_written() {
        let by_the_engine = Contents { minimum_bytes: 7, granules: None };
        let bytes = file(&[contents(9, &[0, 1, 4]), by_the_engine, contents(0, &[])]);
        let Images(memories) = read(&bytes).unwrap();
        let runs = memories[0].runs.as_ref().unwrap();
        let places: Vec<_> = runs.iter().map(|run| run.place.clone()).collect();
        assert_eq!(places, [0..2 * GRANULE, 4 * GRANULE..5 * GRANULE]);
        for (run, byte) in runs.iter().zip([1, 5]) {
            assert_eq!(bytes[run.offset as usize], byte);
        }
        assert_eq!((memories[0].minimum_bytes, memories[1].minimum_bytes), (9 * GRANULE, 7));
        assert_eq!((&memories[1].runs, &memories[2].runs), (&None, &Some(vec![])));
    }

    #[test]
    fn every_piece_of_a_range_is_from_the_file_or_zero() {
        let bytes = file(&[contents(9, &[1, 2, 5])]);
        let file = Arc::new(sealed_file("artefact", &bytes).unwrap());
        let Read { minimum_bytes, runs } = Images::read(&file).unwrap().0.remove(0);
        let image = Image::new(file, runs.unwrap(), minimum_bytes).unwrap();
        for (start, end) in [(0, 9), (1, 3), (0, 1), (2, 6), (5, 6), (6, 9), (3, 3)] {
            let mut at = start * GRANULE;
            for piece in image.pieces(at..end * GRANULE) {
                assert_eq!(piece.place.start, at);
                at = piece.place.end;
                let number = piece.place.start / GRANULE;
                let expected = [1, 2, 5].contains(&number);
                assert_eq!(piece.bytes().is_some(), expected, "{start} {end}");
                assert!(piece.bytes().is_none_or(|bytes| bytes[0] == number as u8 + 1));
            }
            assert_eq!(at, end * GRANULE, "{start} {end}");
        }
    }

    #[test]
    fn a_file_without_a_table_is_malformed() {
        let good = file(&[contents(2, &[1])]);
        for bytes in [&b""[..], b"short", &[0; 100], &good[..good.len() - 1], &good[1..]] {
            assert!(read(bytes).is_err(), "{}", bytes.len());
        }
    }

    #[test]
    fn no_flipped_bit_leads_out_of_the_file_or_the_memory() {
        let good = file(&[contents(9, &[0, 1, 4]), contents(3, &[2])]);
        let table = good.len() - 200;
        for bit in table * 8..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(Images(memories)) = read(&bytes) else { continue };
            for Read { minimum_bytes, runs } in memories {
                let mut free_from = 0;
                for run in runs.into_iter().flatten() {
                    assert!(run.place.start >= free_from && run.place.end <= minimum_bytes);
                    assert!(run.offset as usize + run.place.len() <= good.len());
                    free_from = run.place.end;
                }
            }
        }
    }

    #[test]
    fn a_table_beyond_its_limits_is_malformed() {
        let many: Vec<u64> = (0..=RUNS_MAX as u64).map(|number| number * 2).collect();
        assert!(read(&file(&[contents(1000, &many[1..])])).is_ok());
        assert!(read(&file(&[contents(1000, &many)])).is_err());
        let memories = |count| (0..count).map(|_| contents(1, &[])).collect::<Vec<_>>();
        assert!(read(&file(&memories(MEMORIES_MAX))).is_ok());
        assert!(read(&file(&memories(MEMORIES_MAX + 1))).is_err());
        let whole = RESERVATION_BYTES / GRANULE_BYTES;
        assert!(read(&file(&[contents(whole, &[])])).is_ok());
        assert!(read(&file(&[contents(whole + 1, &[])])).is_err());
    }
}

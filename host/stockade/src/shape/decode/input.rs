//! The bytes of a result, taken one value after another, and the limits that hold for all of it.
//!
//! Every method checks what is left before it takes or believes anything.

use serde::de::Error as _;
use serde::de::value::Error;

use crate::number::{Number, NumberKind};

/// How deep values may stand in one another: as in a result in JSON, whose reader has this limit.
const DEPTH_MAX: usize = 128;

/// The most elements of a result that have no bytes, such as those of a `Vec<()>`: a few bytes claim
/// any number of them.
const EMPTY_ELEMENTS_MAX: usize = 1 << 20;

/// The most parts of tuples, and values of maps, that have no bytes, beside one for each byte that
/// was read: the guest's own text says how many parts a tuple has, and its result how many tuples.
const EMPTY_PARTS_MAX: usize = 1 << 20;

/// What is left of a result, and of its limits.
pub(super) struct Input<'de> {
    rest: &'de [u8],
    /// Bytes of all of the result.
    length: usize,
    depth: usize,
    empty_elements: usize,
    /// So many were read.
    empty_parts: usize,
}

impl<'de> Input<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self {
            rest: bytes,
            length: bytes.len(),
            depth: DEPTH_MAX,
            empty_elements: EMPTY_ELEMENTS_MAX,
            empty_parts: 0,
        }
    }

    pub(super) fn bytes_left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'de [u8], Error> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or_else(|| self.ends_before(count))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| self.ends_before(N))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn ends_before(&self, count: usize) -> Error {
        let left = self.rest.len();
        Error::custom(format_args!("{count} bytes are needed and {left} are left"))
    }

    pub(super) fn length(&mut self) -> Result<usize, Error> {
        let length = u64::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(Error::custom)
    }

    pub(super) fn bytes(&mut self) -> Result<&'de [u8], Error> {
        let length = self.length()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<&'de str, Error> {
        std::str::from_utf8(self.bytes()?).map_err(Error::custom)
    }

    /// A `bool`, or what comes before the value of an `Option`.
    pub(super) fn flag(&mut self) -> Result<bool, Error> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(Error::custom(format_args!("a byte is {other}, not 0 or 1"))),
        }
    }

    pub(super) fn character(&mut self) -> Result<char, Error> {
        let width = match self.rest.first() {
            Some(0xf0..) => 4,
            Some(0xe0..) => 3,
            Some(0xc0..) => 2,
            _ => 1,
        };
        let text = std::str::from_utf8(self.take(width)?).map_err(Error::custom)?;
        text.chars().next().ok_or_else(|| Error::custom("no character"))
    }

    pub(super) fn number(&mut self, kind: NumberKind) -> Result<Number, Error> {
        Ok(match kind {
            NumberKind::I8 => i8::from_le_bytes(self.array()?).into(),
            NumberKind::I16 => i16::from_le_bytes(self.array()?).into(),
            NumberKind::I32 => i32::from_le_bytes(self.array()?).into(),
            NumberKind::I64 | NumberKind::Isize => i64::from_le_bytes(self.array()?).into(),
            NumberKind::I128 => i128::from_le_bytes(self.array()?).into(),
            NumberKind::U8 => u8::from_le_bytes(self.array()?).into(),
            NumberKind::U16 => u16::from_le_bytes(self.array()?).into(),
            NumberKind::U32 => u32::from_le_bytes(self.array()?).into(),
            NumberKind::U64 | NumberKind::Usize => u64::from_le_bytes(self.array()?).into(),
            NumberKind::U128 => u128::from_le_bytes(self.array()?).into(),
            NumberKind::F32 => f32::from_le_bytes(self.array()?).into(),
            NumberKind::F64 => f64::from_le_bytes(self.array()?).into(),
        })
    }

    /// Reads what is inside a value.
    pub(super) fn inside<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(depth) = self.depth.checked_sub(1) else {
            return Err(Error::custom(format_args!("it is nested deeper than {DEPTH_MAX} levels")));
        };
        self.depth = depth;
        let value = read(self)?;
        self.depth += 1;
        Ok(value)
    }

    /// Checks a number of elements that the guest claims, before any is read.
    pub(super) fn check_count(&self, count: usize) -> Result<(), Error> {
        // At least so many of them have no bytes.
        if count.saturating_sub(self.rest.len()) > self.empty_elements {
            let left = self.rest.len();
            return Err(Error::custom(format_args!("{left} bytes are left for {count} elements")));
        }
        Ok(())
    }

    /// Reads one of the elements whose number the guest claims, and counts it if it has no bytes.
    pub(super) fn claimed<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let before = self.rest.len();
        let element = read(self)?;
        if self.rest.len() == before {
            self.empty_elements = self.empty_elements.checked_sub(1).ok_or_else(|| {
                Error::custom(format_args!("more than {EMPTY_ELEMENTS_MAX} elements have no bytes"))
            })?;
        }
        Ok(element)
    }

    /// Reads a part of a tuple or the value of an entry, and counts it if it has no bytes.
    pub(super) fn part<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let before = self.rest.len();
        let part = read(self)?;
        if self.rest.len() == before {
            self.empty_parts += 1;
            if self.empty_parts > EMPTY_PARTS_MAX + (self.length - self.rest.len()) {
                let parts = self.empty_parts;
                return Err(Error::custom(format_args!("{parts} parts of tuples have no bytes")));
            }
        }
        Ok(part)
    }
}

//! The bytes of a result, taken one value after another, and the limits that hold for all of it.
//!
//! Every method checks what is left before it takes or believes anything.

use serde::de::Error as _;
use serde::de::value::Error;

use crate::call::number::{Number, NumberKind};
use crate::call::shape::Shape;

/// How deep values may stand in one another: as in a result in JSON, whose reader has this limit.
const DEPTH_MAX: usize = 128;

/// The most values of a result that have no bytes of their own, besides [`BARE_VALUES_PER_BYTE`]: a
/// few bytes claim any number of elements of a `Vec<()>`, and the guest's own text says how many
/// parts a tuple has and how many tuples stand around one byte. Each may be a list in memory.
const BARE_VALUES_MAX: usize = 1 << 16;

/// As many such values each byte of the result pays for: a pair of a byte and `()` is two.
const BARE_VALUES_PER_BYTE: usize = 2;

/// What is left of a result, and of its limits.
pub(super) struct Input<'de> {
    rest: &'de [u8],
    depth: usize,
    /// So many more values without bytes of their own are read.
    bare_values: usize,
}

impl<'de> Input<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self {
            rest: bytes,
            depth: DEPTH_MAX,
            bare_values: BARE_VALUES_MAX + BARE_VALUES_PER_BYTE * bytes.len(),
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
        if count.saturating_sub(self.rest.len()) > self.bare_values {
            let left = self.rest.len();
            return Err(Error::custom(format_args!("{left} bytes are left for {count} elements")));
        }
        Ok(())
    }

    /// Reads one of the values whose number the guest says; it counts if it has no bytes of its own.
    pub(super) fn counted<T>(
        &mut self,
        shape: &Shape,
        read: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let before = self.rest.len();
        let value = read(self)?;
        if shape.is_bare() || self.rest.len() == before {
            self.bare_values = self.bare_values.checked_sub(1).ok_or_else(|| {
                Error::custom("it has too many values without bytes of their own for its length")
            })?;
        }
        Ok(value)
    }
}

//! Numbers: which kinds there are, and when a number of one kind is one of another.
//!
//! Pure rules, the same for arguments, results and scalars: a whole number must lie in the range of
//! an integer, and a float must hold it exactly; a float never becomes an integer. Nothing wraps.

use std::fmt;

/// A type of numbers in a guest's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Their names say it.
pub(crate) enum NumberKind {
    I8,
    I16,
    I32,
    I64,
    I128,
    Isize,
    U8,
    U16,
    U32,
    U64,
    U128,
    Usize,
    F32,
    F64,
}

impl NumberKind {
    /// The kind that Rust calls `name`.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "i8" => Self::I8,
            "i16" => Self::I16,
            "i32" => Self::I32,
            "i64" => Self::I64,
            "i128" => Self::I128,
            "isize" => Self::Isize,
            "u8" => Self::U8,
            "u16" => Self::U16,
            "u32" => Self::U32,
            "u64" => Self::U64,
            "u128" => Self::U128,
            "usize" => Self::Usize,
            "f32" => Self::F32,
            "f64" => Self::F64,
            _ => return None,
        })
    }
}

impl fmt::Display for NumberKind {
    /// With its article: `a usize`, `an i32`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::I8 => "an i8",
            Self::I16 => "an i16",
            Self::I32 => "an i32",
            Self::I64 => "an i64",
            Self::I128 => "an i128",
            Self::Isize => "an isize",
            Self::U8 => "a u8",
            Self::U16 => "a u16",
            Self::U32 => "a u32",
            Self::U64 => "a u64",
            Self::U128 => "a u128",
            Self::Usize => "a usize",
            Self::F32 => "an f32",
            Self::F64 => "an f64",
        })
    }
}

/// A number as its caller or its guest gave it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    /// A whole number from 0.
    Natural(u128),
    /// A whole number below 0.
    Negative(i128),
    /// A float of 32 bits.
    F32(f32),
    /// A float of 64 bits.
    F64(f64),
}

macro_rules! from_integers {
    ($($type:ty),*) => {$(
        impl From<$type> for Number {
            fn from(value: $type) -> Self {
                match u128::try_from(value) {
                    Ok(natural) => Self::Natural(natural),
                    Err(_) => Self::Negative(i128::try_from(value).unwrap_or(i128::MIN)),
                }
            }
        }
    )*};
}

from_integers!(i8, i16, i32, i64, i128, u8, u16, u32, u64, u128);

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Natural(value.into())
    }
}

impl From<f32> for Number {
    fn from(value: f32) -> Self {
        Self::F32(value)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::F64(value)
    }
}

impl Number {
    /// The number that a JSON text is: an integer where it is written as one. `None` for one that is
    /// no JSON number, and one that none of these kinds has: an integer beyond 128 bits that no float
    /// of 64 bits holds exactly, or what would be an infinite float.
    pub(crate) fn from_json(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().ok().filter(|float: &f64| float.is_finite()).map(Self::F64);
        }
        let integer = match text.len() > digits.len() {
            true => text.parse().ok().map(|value: i128| value.into()),
            false => text.parse().ok().map(|value: u128| value.into()),
        };
        // A float shows all of its digits before the point.
        let float = || text.parse().ok().filter(|float: &f64| format!("{float:.0}") == text);
        integer.or_else(|| float().map(Self::F64))
    }

    /// As an integer of the type `T`, where it is a whole number in its range.
    pub(crate) fn to_integer<T: TryFrom<u128> + TryFrom<i128>>(self) -> Option<T> {
        match self {
            Self::Natural(value) => T::try_from(value).ok(),
            Self::Negative(value) => T::try_from(value).ok(),
            Self::F32(_) | Self::F64(_) => None,
        }
    }

    /// As a float of 64 bits, where that changes nothing.
    pub(crate) fn to_f64(self) -> Option<f64> {
        match self {
            Self::Natural(value) => (digits(value) <= f64::MANTISSA_DIGITS).then_some(value as f64),
            Self::Negative(value) => {
                (digits(value.unsigned_abs()) <= f64::MANTISSA_DIGITS).then_some(value as f64)
            }
            Self::F32(value) => Some(value.into()),
            Self::F64(value) => Some(value),
        }
    }

    /// As a float of 32 bits, where that changes nothing.
    pub(crate) fn to_f32(self) -> Option<f32> {
        match self {
            Self::Natural(value) => (digits(value) <= f32::MANTISSA_DIGITS).then_some(value as f32),
            Self::Negative(value) => {
                (digits(value.unsigned_abs()) <= f32::MANTISSA_DIGITS).then_some(value as f32)
            }
            Self::F32(value) => Some(value),
            Self::F64(value) => {
                let short = value as f32;
                (f64::from(short) == value || value.is_nan()).then_some(short)
            }
        }
    }

    /// As a float of 32 bits, rounded where it is one of 64 bits in the range: a literal and a
    /// number in JSON have 64 bits whatever they are for.
    pub(crate) fn round_to_f32(self) -> Option<f32> {
        match self {
            Self::F64(value) if (value as f32).is_finite() => Some(value as f32),
            other => other.to_f32(),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Natural(value) => value.fmt(f),
            Self::Negative(value) => value.fmt(f),
            // With the point that tells them from whole numbers.
            Self::F32(value) => write!(f, "{value:?}"),
            Self::F64(value) => write!(f, "{value:?}"),
        }
    }
}

/// Binary digits from the first 1 to the last: what a float's mantissa must hold.
fn digits(value: u128) -> u32 {
    u128::BITS - (value.leading_zeros() + value.trailing_zeros()).min(u128::BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_ranges_with_two_sides() {
        assert_eq!(Number::from(255).to_integer(), Some(255u8));
        assert_eq!(Number::from(256).to_integer::<u8>(), None);
        assert_eq!(Number::from(0i64).to_integer(), Some(0u128));
        assert_eq!(Number::from(-1).to_integer::<u64>(), None);
        assert_eq!(Number::from(i64::MIN).to_integer(), Some(i64::MIN));
        assert_eq!(Number::from(i128::from(i64::MIN) - 1).to_integer::<i64>(), None);
        assert_eq!(Number::from(u128::MAX).to_integer(), Some(u128::MAX));
        assert_eq!(Number::from(u128::MAX).to_integer::<i128>(), None);
        assert_eq!(Number::from(2.0).to_integer::<u8>(), None);
    }

    #[test]
    fn floats_hold_whole_numbers_exactly_or_not_at_all() {
        assert_eq!(Number::from(1u64 << 53).to_f64(), Some(9_007_199_254_740_992.0));
        assert_eq!(Number::from((1u64 << 53) + 1).to_f64(), None);
        assert_eq!(Number::from(-(1i64 << 24)).to_f32(), Some(-16_777_216.0));
        assert_eq!(Number::from(-(1i64 << 24) - 1).to_f32(), None);
        assert_eq!(Number::from(i128::MIN).to_f64(), Some(-((1u128 << 127) as f64)));
        assert_eq!(Number::from(i128::MAX).to_f64(), None);
        assert_eq!(Number::from(u128::MAX).to_f32(), None);
        assert_eq!(Number::from(0).to_f32(), Some(0.0));
    }

    #[test]
    fn a_long_float_is_short_where_it_is_exact_or_may_be_rounded() {
        assert_eq!(Number::from(0.5f64).to_f32(), Some(0.5));
        assert_eq!(Number::from(0.1f64).to_f32(), None);
        assert_eq!(Number::from(0.1f64).round_to_f32(), Some(0.1));
        assert_eq!(Number::from(1e300).round_to_f32(), None);
        assert_eq!(Number::from(f64::INFINITY).to_f32(), Some(f32::INFINITY));
        assert!(Number::from(f64::NAN).round_to_f32().is_some_and(f32::is_nan));
    }
}

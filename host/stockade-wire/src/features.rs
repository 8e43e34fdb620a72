//! Features of WebAssembly 3.0, and atomic instructions, that a pool's modules may use.
//!
//! WebAssembly 2.0 is always on, except references to host values, which need a heap of objects.
//! Each other feature can be turned off by itself, so that a pool exposes only the parts of the
//! engine that its guests need.
//!
//! Deliberately absent: threads, shared memories, and all else that is not part of WebAssembly 3.0.
//! No pool has them.

use std::fmt;
use std::str::FromStr;

use crate::codec::{Decode, Encode};

/// A feature of WebAssembly that a pool can turn on and off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Feature {
    /// Addition, subtraction and multiplication in constant expressions.
    ExtendedConst,
    /// Calls that replace the caller's stack frame.
    TailCall,
    /// More than one memory in a module.
    MultiMemory,
    /// Memories and tables with 64-bit addresses. They have the same limits as others.
    Memory64,
    /// Vector instructions whose result may differ between processors. A deterministic pool uses
    /// the deterministic result of the specification.
    RelaxedSimd,
    /// References to functions of one type, which may exclude null, and calls through them.
    FunctionReferences,
    /// Exceptions that are thrown and caught. They are on a heap, which counts as the task's
    /// memory.
    Exceptions,
    /// The type `externref`. Stockade gives guests no host values, so null is its only value,
    /// unless [`Gc`](Self::Gc) is on, which can convert objects to it.
    ExternReferences,
    /// Structures and arrays on a heap that is collected. Off by default. Needs
    /// [`FunctionReferences`](Self::FunctionReferences) and [`ExternReferences`](Self::ExternReferences).
    Gc,
    /// Atomic instructions of the threads proposal, on memory that is not shared: for programs that
    /// were built for threads and start none. Off by default. Waiting traps, since no thread could
    /// end it.
    Atomics,
}

impl Feature {
    /// Every feature, in the order in which they are shown.
    pub const ALL: [Self; 10] = [
        Self::ExtendedConst,
        Self::TailCall,
        Self::MultiMemory,
        Self::Memory64,
        Self::RelaxedSimd,
        Self::FunctionReferences,
        Self::Exceptions,
        Self::ExternReferences,
        Self::Gc,
        Self::Atomics,
    ];

    /// Its name in lists of features: that of its proposal, where it has one.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExtendedConst => "extended-const",
            Self::TailCall => "tail-call",
            Self::MultiMemory => "multi-memory",
            Self::Memory64 => "memory64",
            Self::RelaxedSimd => "relaxed-simd",
            Self::FunctionReferences => "function-references",
            Self::Exceptions => "exceptions",
            Self::ExternReferences => "externref",
            Self::Gc => "gc",
            Self::Atomics => "atomics",
        }
    }

    /// What it is, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::ExtendedConst => "extended constant expressions",
            Self::TailCall => "tail calls",
            Self::MultiMemory => "several memories",
            Self::Memory64 => "64-bit memory",
            Self::RelaxedSimd => "relaxed SIMD",
            Self::FunctionReferences => "typed function references",
            Self::Exceptions => "exceptions",
            Self::ExternReferences => "references to values of the host",
            Self::Gc => "garbage-collected types",
            Self::Atomics => "atomic instructions",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }

    /// The features that it needs.
    const fn needs(self) -> u16 {
        match self {
            Self::Gc => Self::FunctionReferences.bit() | Self::ExternReferences.bit(),
            _ => 0,
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of [`Feature`]s. By default all but [`Feature::Gc`] and [`Feature::Atomics`].
///
/// ```
/// use stockade_wire::{Feature, Features};
///
/// let narrow = Features::default().without(Feature::TailCall);
/// assert!(!narrow.has(Feature::TailCall) && narrow.has(Feature::Exceptions));
/// assert_eq!("-tail-call".parse(), Ok(narrow));
/// assert_eq!("none,exceptions".parse(), Ok(Features::none().with(Feature::Exceptions)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Features(u16);

const ALL: u16 = {
    let (mut bits, mut at) = (0, 0);
    while at < Feature::ALL.len() {
        bits |= Feature::ALL[at].bit();
        at += 1;
    }
    bits
};

impl Features {
    /// No feature beyond WebAssembly 2.0.
    #[must_use]
    pub const fn none() -> Self {
        Self(0)
    }

    /// Every feature.
    #[must_use]
    pub const fn all() -> Self {
        Self(ALL)
    }

    /// These and `feature`, with what that needs.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Self {
        Self(self.0 | feature.bit() | feature.needs())
    }

    /// These without `feature`, and without what needs it.
    #[must_use]
    pub fn without(self, feature: Feature) -> Self {
        let needing = Feature::ALL.into_iter().filter(|other| other.needs() & feature.bit() != 0);
        let bits = needing.fold(feature.bit(), |bits, other| bits | other.bit());
        Self(self.0 & !bits)
    }

    /// Whether `feature` is among them.
    #[must_use]
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & feature.bit() != 0
    }

    /// These and what they need.
    #[must_use]
    pub fn with_needs(self) -> Self {
        self.iter().fold(self, Self::with)
    }

    /// Whether there is a heap of objects for some of them.
    #[must_use]
    pub const fn need_heap(self) -> bool {
        self.has(Feature::Exceptions)
            || self.has(Feature::ExternReferences)
            || self.has(Feature::Gc)
    }

    /// Each of them, in the order of [`Feature::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.into_iter().filter(move |feature| self.has(*feature))
    }
}

impl Default for Features {
    fn default() -> Self {
        Self::all().without(Feature::Gc).without(Feature::Atomics)
    }
}

/// Exactly these. A pool also turns on the features that they need.
impl FromIterator<Feature> for Features {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        Self(features.into_iter().fold(0, |bits, feature| bits | feature.bit()))
    }
}

/// Their names, separated by commas; `none` if empty.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Feature::name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(","))
    }
}

/// A word in a list of features that is not a feature's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no feature {:?}; there are {}, and the sets default, all and none", .0, names())]
pub struct UnknownFeature(String);

fn names() -> String {
    Feature::ALL.map(Feature::name).join(", ")
}

/// Parses a comma-separated list from the left: it may begin with the sets `all`, `none` or
/// `default`, and otherwise begins with `default`; `NAME` or `+NAME` adds a feature, `-NAME`
/// removes one.
impl FromStr for Features {
    type Err = UnknownFeature;

    fn from_str(list: &str) -> Result<Self, UnknownFeature> {
        let named = |name: &str| Feature::ALL.into_iter().find(|feature| feature.name() == name);
        list.split(',').map(str::trim).filter(|word| !word.is_empty()).try_fold(
            Self::default(),
            |features, word| {
                let unknown = || UnknownFeature(word.chars().take(40).collect());
                Ok(match word {
                    "all" => Self::all(),
                    "none" => Self::none(),
                    "default" => Self::default(),
                    _ => match word.strip_prefix('-') {
                        Some(name) => features.without(named(name).ok_or_else(unknown)?),
                        None => {
                            let name = word.strip_prefix('+').unwrap_or(word);
                            features.with(named(name).ok_or_else(unknown)?)
                        }
                    },
                })
            },
        )
    }
}

impl Encode for Features {
    fn encode<E: crate::codec::Encoder>(
        &self,
        encoder: &mut E,
    ) -> Result<(), crate::codec::EncodeError> {
        self.0.encode(encoder)
    }
}

/// Unknown bits are ignored.
impl<Context> Decode<Context> for Features {
    fn decode<D: crate::codec::Decoder<Context = Context>>(
        decoder: &mut D,
    ) -> Result<Self, crate::codec::DecodeError> {
        let bits = u16::decode(decoder)?;
        Ok(Self(bits & ALL))
    }
}

crate::codec::impl_borrow_decode!(Features);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn every_feature_is_on_by_default_but_garbage_collection_and_atomics() {
        for feature in Feature::ALL {
            let is_off = [Feature::Gc, Feature::Atomics].contains(&feature);
            assert_eq!(Features::default().has(feature), !is_off, "{feature}");
        }
    }

    #[test]
    fn what_needs_another_goes_with_it() {
        let gc = Features::none().with(Feature::Gc);
        assert!(gc.has(Feature::FunctionReferences) && gc.has(Feature::ExternReferences));
        for needed in [Feature::FunctionReferences, Feature::ExternReferences] {
            let without = Features::all().without(needed);
            assert!(!without.has(Feature::Gc) && without.has(Feature::Exceptions));
        }
        assert_eq!(gc.without(Feature::Gc).iter().count(), 2, "what it needed stays");
    }

    #[test]
    fn a_list_is_read_from_the_left() {
        let default = Features::default();
        for (list, expected) in [
            ("", default),
            ("default", default),
            ("all", default.with(Feature::Gc).with(Feature::Atomics)),
            ("atomics", default.with(Feature::Atomics)),
            ("gc", default.with(Feature::Gc)),
            ("+gc,-gc", default),
            ("none", Features::none()),
            (" none , tail-call ", Features::none().with(Feature::TailCall)),
            ("all,-tail-call,gc", Features::all().without(Feature::TailCall)),
            ("-tail-call,all", Features::all()),
        ] {
            assert_eq!(list.parse(), Ok(expected), "{list}");
        }
        for list in ["threads", "-", "+", "all,-no", "ALL"] {
            let unknown = list.parse::<Features>().unwrap_err();
            assert!(unknown.to_string().contains("tail-call"), "{unknown}");
        }
    }

    #[test]
    fn a_set_is_shown_as_it_is_read() {
        for features in [Features::none(), Features::default(), Features::all()] {
            let shown = features.to_string();
            assert_eq!(format!("none,{shown}").parse(), Ok(features), "{shown}");
        }
    }

    #[test]
    fn what_is_decoded_has_only_features_that_there_are() {
        for bits in [0, 1, ALL, u16::MAX, Feature::Gc.bit()] {
            let mut bytes = Vec::new();
            codec::encode(&Features(bits), &mut bytes).unwrap();
            let features: Features = codec::decode(&bytes).unwrap();
            assert_eq!(features.0, bits & ALL);
            assert!(
                !features.has(Feature::Gc) || features.with_needs().has(Feature::ExternReferences)
            );
        }
    }
}

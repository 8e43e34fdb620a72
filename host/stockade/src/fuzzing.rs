//! What a fuzzer reaches of the host's readers of hostile bytes, without a pool and its processes.
//!
//! Only with the feature `fuzzing`, and no part of this crate's interface.
#![allow(missing_docs)]

use serde::Serialize;
use serde::de::DeserializeOwned;
use stockade_wire::{Codec, Failure, ModuleDescription, Scalar};

use crate::call::codec::{self, Unfit};
use crate::call::scalar;
use crate::call::shape::Shape;
use crate::compile::cache::{self, EntryKey, Secret};
use crate::outcome::error::TaskError;

/// A result, or an item, of a task whose result has the type that a manifest writes as `type_text`.
pub fn result<T: DeserializeOwned>(
    codec: Codec,
    bytes: &[u8],
    type_text: &str,
) -> Result<T, String> {
    codec::decode(codec, bytes, &Shape::of_result(type_text)).map_err(|why| why.to_string())
}

/// `value` as an argument of the very type that [`result()`] reads.
pub fn argument<A: Serialize>(value: &A, type_text: &str) -> Result<Vec<u8>, String> {
    codec::to_bincode(value, &Shape::of_result(type_text)).map_err(|unfit| match unfit {
        Unfit::Refused(refused) => refused.of_arguments(std::iter::once("x")),
        Unfit::Unwritable(reason) => reason,
    })
}

/// Results of a scalar function.
pub fn scalars<T: DeserializeOwned>(results: &[Scalar]) -> Result<T, String> {
    scalar::decode(results)
}

/// What a caller is told of a failure.
pub fn error(failure: Failure) -> TaskError {
    TaskError::from_failure(failure, None)
}

/// The description in the cache's entry `bytes`, if these are the entry of `key`.
pub fn cache_entry(bytes: &[u8], key: [u8; 32], secret: [u8; 32]) -> Option<ModuleDescription> {
    cache::verify(bytes, &EntryKey(key), &Secret(secret)).ok()
}

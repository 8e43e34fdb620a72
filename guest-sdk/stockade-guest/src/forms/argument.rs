//! How an argument is decoded: from the raw input where its type can be bytes, else through serde.

use super::{Argument, Of};
use crate::Bytes;
use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::input::RawInput;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::fmt::Display;
use std::marker::PhantomData;
use std::string::FromUtf8Error;

/// Decodes an argument that bytes can be.
pub struct FromBytes<T>(PhantomData<T>);

/// Decodes any other argument.
pub struct FromSerde<T>(PhantomData<T>);

impl<T: ByteArgument> FromBytes<T> {
    /// Takes the next argument.
    pub fn take(self, arguments: &mut Arguments<'_>) -> Result<T, Failure> {
        arguments.take_bytes(T::from_raw, T::from_encoded)
    }
}

impl<T> FromSerde<T> {
    /// Takes the next argument.
    pub fn take(self, arguments: &mut Arguments<'_>) -> Result<T, Failure>
    where
        T: Argument,
    {
        arguments.take()
    }
}

/// Picks `FromBytes`.
pub trait ByteArgumentForm<T> {
    /// The form of `T` as an argument.
    fn argument_form(&self) -> FromBytes<T>;
}

impl<T: ByteArgument> ByteArgumentForm<T> for Of<T> {
    fn argument_form(&self) -> FromBytes<T> {
        FromBytes(PhantomData)
    }
}

/// Picks `FromSerde`.
pub trait AnyArgumentForm<T> {
    /// The form of `T` as an argument.
    fn argument_form(&self) -> FromSerde<T>;
}

impl<T> AnyArgumentForm<T> for &Of<T> {
    fn argument_form(&self) -> FromSerde<T> {
        FromSerde(PhantomData)
    }
}

/// A parameter that can be the raw input.
pub trait ByteArgument: Sized {
    /// What it is decoded as in the other codecs.
    type Encoded: DeserializeOwned;
    /// Why bytes may not do.
    type Error: Display;

    /// Takes the raw input.
    fn from_raw(input: RawInput) -> Result<Self, Self::Error>;

    /// Takes the decoded form.
    fn from_encoded(encoded: Self::Encoded) -> Self;
}

impl ByteArgument for Bytes {
    type Encoded = Self;
    type Error = Infallible;

    fn from_raw(input: RawInput) -> Result<Self, Infallible> {
        Ok(Self(input.into_vec()))
    }

    fn from_encoded(encoded: Self) -> Self {
        encoded
    }
}

impl ByteArgument for Vec<u8> {
    type Encoded = Bytes;
    type Error = Infallible;

    fn from_raw(input: RawInput) -> Result<Self, Infallible> {
        Ok(input.into_vec())
    }

    fn from_encoded(encoded: Bytes) -> Self {
        encoded.0
    }
}

impl ByteArgument for String {
    type Encoded = Self;
    type Error = FromUtf8Error;

    fn from_raw(input: RawInput) -> Result<Self, FromUtf8Error> {
        Self::from_utf8(input.into_vec())
    }

    fn from_encoded(encoded: Self) -> Self {
        encoded
    }
}

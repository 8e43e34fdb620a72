//! Collects mistakes, so that an author sees all of them at once.

use proc_macro2::TokenStream;
use quote::ToTokens;
use std::fmt::Display;

/// The mistakes found so far, each with the tokens it is about.
#[derive(Default)]
pub(crate) struct Errors {
    found: Option<syn::Error>,
}

impl Errors {
    /// Records a mistake about `tokens`.
    pub(crate) fn push(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.push_error(syn::Error::new_spanned(tokens, message));
    }

    /// Records a mistake that the parser found.
    pub(crate) fn push_error(&mut self, error: syn::Error) {
        match &mut self.found {
            Some(found) => found.combine(error),
            None => self.found = Some(error),
        }
    }

    /// `Ok` with what `checked` holds if there was no mistake; else the tokens that report them.
    pub(crate) fn finish<T>(self, checked: Option<T>) -> Result<T, TokenStream> {
        match (self.found, checked) {
            (None, Some(checked)) => Ok(checked),
            (found, _) => Err(found.map(|error| error.to_compile_error()).unwrap_or_default()),
        }
    }
}

//! Chooses how a type travels: as bytes, as text, or through serde.
//!
//! Generated code knows its types, but a trait cannot say "unless it is bytes", so the choice is
//! left to method resolution ("autoref specialisation"): for `(&Of::<T>::NEW).argument_form()` the
//! compiler first tries what is implemented for `Of<T>`, the special form, and then what is
//! implemented for `&Of<T>`, the general one. The method only picks a form. What a form demands of
//! `T` stands on the form's own method, so a type that fits none is reported in one plain sentence.
//!
//! | on | special | general |
//! |---|---|---|
//! | a parameter | [`ByteArgument`](argument::ByteArgument) | [`Argument`]: anything that serde reads |
//! | a returned value | `Result<T, E>` | anything else, as if in `Ok` |
//! | a result | [`ByteResult`](result::ByteResult) | [`Output`]: anything that serde writes |
//! | an error | `Serialize` besides | [`TaskError`]: anything that has a text |

pub(crate) mod argument;
pub(crate) mod error;
pub(crate) mod result;

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::marker::PhantomData;

/// Stands for the type `T` where a form is chosen.
pub struct Of<T>(PhantomData<T>);

impl<T> Of<T> {
    /// For a type that is written out.
    pub const NEW: Self = Self(PhantomData);

    /// For a type that only a value has.
    pub const fn type_of(_: &T) -> Self {
        Self::NEW
    }
}

/// What a parameter's type must be.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a task",
    label = "does not implement `serde::Deserialize`",
    note = "derive it: `#[derive(Deserialize)] #[serde(crate = \"stockade_guest::serde\")]`"
)]
pub trait Argument: DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> Argument for T {}

/// What a result's type must be.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a task",
    label = "does not implement `serde::Serialize`",
    note = "derive it: `#[derive(Serialize)] #[serde(crate = \"stockade_guest::serde\")]`"
)]
pub trait Output: Serialize {}

#[diagnostic::do_not_recommend]
impl<T: Serialize> Output for T {}

/// What the error of a task that returns a `Result` must be.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a task",
    label = "does not implement `std::fmt::Display`",
    note = "its text is what the caller reads"
)]
pub trait TaskError: Display {}

#[diagnostic::do_not_recommend]
impl<T: Display> TaskError for T {}

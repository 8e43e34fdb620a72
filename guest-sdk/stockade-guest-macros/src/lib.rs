//! The attributes that turn a function into a task, an initializer or a finalizer.
//!
//! Use them through `stockade-guest`, which re-exports and documents them: what they generate
//! names nothing but `::stockade_guest::__private` and the annotated function itself.
//!
//! ```text
//! attribute + item ──► Signature::parse ──► Errors          every mistake, each at its span
//!                            │ none
//!                            ├──► manifest::line             one line of `stockade.tasks`
//!                            └──► expand::function           the function, its export, the line
//! ```
//!
//! One invariant: the annotated item is always emitted unchanged, even after mistakes, so that one
//! wrong parameter does not cause further errors about a missing function. Deliberately absent:
//! anything about how arguments are decoded, which `stockade-guest` owns.

mod errors;
mod expand;
mod manifest;
mod signature;
mod type_text;

use proc_macro::TokenStream;
use stockade_abi::FunctionKind;

/// Exports a function as a task.
///
/// ```
/// use stockade_guest::task;
///
/// /// Counts the words of `text`.
/// #[task]
/// fn word_count(text: String) -> u64 {
///     text.split_whitespace().count() as u64
/// }
///
/// assert_eq!(word_count("to be or not to be".to_owned()), 6); // still an ordinary function
/// ```
///
/// **Parameters** are plain names. Their types own their data and implement `serde::Deserialize`;
/// `&str` and `&[T]` are also accepted, and decoded as `String` and `Vec<T>`.
///
/// **The result** is `()` or any type that implements `serde::Serialize`. A `Result<T, E>` is
/// taken apart: `Ok` is the result, `Err` fails the task with the error's `Display` text and, where
/// `E` implements `Serialize`, its serialised form. The type decides, not its spelling, so an alias
/// such as `std::io::Result<T>` works as well.
///
/// **A panic** fails the task with its message and location.
///
/// The doc comment, the names and the types go into the module's manifest, so tools can list the
/// tasks and JSON callers can pass arguments by name.
#[proc_macro_attribute]
pub fn task(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::attribute(FunctionKind::Task, arguments.into(), item.into()).into()
}

/// Makes a function the initializer, which prepares a guest before its tasks.
///
/// A module has at most one. With an instance per task it runs once, and its memory is snapshotted,
/// so that every task starts from it at no cost; with an instance per worker it runs when each
/// worker starts. Arguments and result are as in [`macro@task`]; an `Err` breaks the pool.
///
/// ```
/// use std::sync::OnceLock;
/// use stockade_guest::{initializer, task};
///
/// static WEIGHTS: OnceLock<Vec<f32>> = OnceLock::new();
///
/// #[initializer]
/// fn load(weights: Vec<f32>) -> Result<(), String> {
///     WEIGHTS.set(weights).map_err(|_| "loaded twice".to_owned())
/// }
///
/// #[task]
/// fn score(row: Vec<f32>) -> f32 {
///     let weights = WEIGHTS.get().expect("`load` runs first");
///     row.iter().zip(weights).map(|(x, w)| x * w).sum()
/// }
///
/// load(vec![0.5, 2.0]).unwrap();
/// assert_eq!(score(vec![4.0, 1.0]), 4.0);
/// ```
#[proc_macro_attribute]
pub fn initializer(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::attribute(FunctionKind::Initializer, arguments.into(), item.into()).into()
}

/// Makes a function the finalizer, which runs when a worker closes.
///
/// A module has at most one. Its result is only logged; a killed worker does not run it, so do not
/// depend on it.
///
/// ```
/// #[stockade_guest::finalizer]
/// fn unload() {
///     stockade_guest::info!("no more tasks");
/// }
/// ```
#[proc_macro_attribute]
pub fn finalizer(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::attribute(FunctionKind::Finalizer, arguments.into(), item.into()).into()
}

/// Names the export that an attribute made from a function, for `stockade_guest::testing`.
///
/// `export_of!(path::word_count)` is the `extern "C" fn() -> i32` behind `path::word_count`.
#[proc_macro]
pub fn export_of(path: TokenStream) -> TokenStream {
    expand::export_of(path.into()).into()
}

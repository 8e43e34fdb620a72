//! The manifest: a guest's description of its functions; and the record of a failed task.
//!
//! The custom section [`MANIFEST_SECTION`] holds JSON Lines, one [`FunctionRecord`] a line. Lines,
//! because a linker joins the sections of all object files by writing them one after another.
//! The host checks a manifest against the module's exports.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The custom section that holds the manifest.
pub const MANIFEST_SECTION: &str = "stockade.tasks";

/// What a function of the manifest is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FunctionKind {
    /// Called by the pool's users.
    Task,
    /// Runs before the tasks; see `Instances` of the host library.
    Initializer,
    /// Runs when a worker closes.
    Finalizer,
}

/// One line of the manifest: one exported function of type `() -> i32`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionRecord {
    /// [`ABI_VERSION`](crate::ABI_VERSION) of the SDK that wrote it.
    pub abi: u32,
    /// What the function is for.
    pub kind: FunctionKind,
    /// The name that callers use.
    pub name: String,
    /// The name of the export behind it.
    pub export: String,
    /// The doc comment, lines joined by `\n`; empty where there is none.
    #[serde(default)]
    pub doc: String,
    /// Parameters in order.
    #[serde(default)]
    pub params: Vec<ParameterRecord>,
    /// The result's type as its source writes it; empty for a function that returns nothing.
    #[serde(default)]
    pub result: String,
    /// Whether it accepts JSON arguments that are cells of a table, marked by `"cells": true` next
    /// to `args` and `kwargs`.
    #[serde(default)]
    pub cells: bool,
}

/// One parameter of a [`FunctionRecord`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterRecord {
    /// Its name, for JSON callers that pass arguments by name.
    pub name: String,
    /// Its type as the source writes it, for people.
    #[serde(rename = "type")]
    pub type_name: String,
}

/// The record that a failed task writes with `error_write`, as JSON; plain UTF-8 text is also
/// accepted as the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// The message, for people.
    pub message: String,
    /// `file:line:column` of a panic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Whether the guest panicked; it then traps instead of returning a status.
    #[serde(default)]
    pub panic: bool,
    /// The error's serialised form as JSON text, where its type has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

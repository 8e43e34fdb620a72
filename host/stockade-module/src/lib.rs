//! Parses hostile WebAssembly modules: checks whether one may run here, and describes it.
//!
//! ```text
//! bytes ─ binary ─► binary ─ admit ─► ModuleDescription
//!         text is     │      valid, no feature off, imports provided, within limits
//!         parsed      └────► Refusal: what is wrong with it, in a line
//! ```
//!
//! | where | what it owns |
//! |---|---|
//! | `source` | what kind of file the bytes are, and the text format |
//! | `admission`, `counts`, `features`, `imports` | what is valid, allowed and provided |
//! | `hosts` | for which other host a module was made |
//! | `description`, `manifest` | the description of a module for its callers |
//! | `locate` | source lines of code offsets |
//! | `text` | guests' words, bounded |
//!
//! Invariant: for any bytes there is no panic, and the answer is bounded.
//!
//! Deliberately absent: the engine. Nothing is compiled or run here, so the first parser of hostile
//! bytes can be fuzzed without the code generator.

mod source;

mod admission;
mod counts;
mod features;
mod hosts;
mod imports;

mod description;
mod manifest;

mod locate;

mod text;

pub use admission::{INSTANCE_BYTES_MAX, MEMORIES_MAX, TABLES_MAX, TYPES_MAX, admit};
pub use description::PAGE_BYTES;
pub use features::wasm_features;
pub use imports::{IMPORTS, Provided, provided};
pub use locate::locate;
pub use source::binary;
pub use text::{Bounded, bounded, quoted, refusal};

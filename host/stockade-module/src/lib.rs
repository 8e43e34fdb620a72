//! Reads hostile WebAssembly modules: whether one may run here, and what is in it.
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
//! | `hosts` | for whom a module was made that is not provided for here |
//! | `description`, `manifest` | what is in a module, for those who call it |
//! | `locate` | where in its source a place in its code is |
//! | `text` | guests' words, bounded |
//!
//! Invariant: whatever the bytes, the answer comes without a panic, and what it holds is bounded.
//!
//! Deliberately absent: the engine. Nothing is compiled here and nothing is run, so what reads
//! hostile bytes first can be fuzzed without what generates code.

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

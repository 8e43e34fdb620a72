//! What the fuzz targets share.
//!
//! ```text
//! bytes of the fuzzer ─► target ─► a reader of hostile bytes ─► no panic
//!                                        │                      ▼
//!                                        └── allocations ──► no more memory than arrived explains
//! ```
//!
//! | target | reads | as it comes from |
//! |---|---|---|
//! | `wire` | frames and messages of both directions | a worker, a compiler, a host |
//! | `slots` | the words of a status page | a worker that writes what it likes |
//! | `results` | results, items, errors and the types that manifests name | a guest |
//! | `manifest` | manifests | a module |
//! | `cache` | entries of the artefact cache | whoever can write to its directory |
//! | `admission` | modules, binary and text, made by wasm-smith or broken | whoever made the module |
//!
//! Every target asserts more than the absence of a panic; its header says what. Each has a corpus in
//! `corpus/`, which `examples/seeds.rs` began and fuzzing extended.

pub mod allocations;
pub mod modules;
mod rules;
pub mod values;

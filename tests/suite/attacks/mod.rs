//! The catalogue of attacks by hostile modules and hostile workers, and of failures, with the
//! outcome of each.
//!
//! ```text
//! execution  1–21   what code does while it runs
//! modules   22–30   what a module is made of
//! abi       31–41   what it says to its worker
//! wasi      42–60   what it asks of the system
//! worker    61–79   what native code does that has taken a worker or a compiler over
//! memory    80–83   what is left in guest memory
//! roles     85–87   the same of templates and compilers
//! children  90      what a host does with its children
//!           88, 89  and how much it may say
//! memory    84      memory of such code that the kernel does not count
//! catalogue.txt ─┐
//! seen(n, …) ────┴─► page ─► docs/security.md, one row a number
//! ```
//!
//! Invariant: the test of number 7 is named `a07_…` and ends by telling [`seen`] of number 7, in words
//! that come from what the test saw. Further tests of a number are next to it under their own
//! names.
//!
//! Deliberately absent: well-behaved guests; the rest of the suite tests these.

mod abi;
mod cache;
mod children;
#[cfg(target_arch = "x86_64")]
mod escape;
mod execution;
mod guest_memory;
mod modules;
#[cfg(target_arch = "x86_64")]
mod native_memory;
mod page;
#[cfg(target_arch = "x86_64")]
mod roles;
mod scene;
mod wasi;
mod worker;

use page::seen;

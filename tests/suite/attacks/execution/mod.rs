//! 1–21: attacks by running code.
//!
//! ```text
//! time     1–4           what never ends by itself
//! traps    5–7, 13–14    what ends at once
//! space    8–12, 15–16   memory, tables and data without measure
//! state    17–18, 21     exit codes, bits of numbers, and what is left behind
//! hooks    19–20         initializers and finalizers that fail
//! ```

mod hooks;
mod space;
mod state;
mod time;
mod traps;

//! What the programs of the benchmark share: the guests they run, and how one asks another for a figure.
//!
//! ```text
//! stockade-bench ── "tasks 0.3\n" ──► stockade-reference, a peer's program, a Python script
//!                ◄── "ok 151000\n" ──  one line a question, one line an answer
//! ```
//!
//! Whatever is compared with Stockade is a program of its own that waits for a question. So all of them
//! are there and warm while figures are taken in turns, and none costs anything while another is asked.
//!
//! Deliberately absent: the engine, which only the program of this package links.

pub mod guests;
pub mod serve;

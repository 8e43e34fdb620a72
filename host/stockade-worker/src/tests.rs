//! Tests of both roles in one process: a session over a socket pair, fed with small guests.

mod columns;
mod compiler;
mod coredumps;
mod features;
mod guests;
mod hooks;
mod hostile;
mod imports;
mod limits;
mod memory;
mod payloads;
mod session;
mod sharing;
mod snapshots;
mod streams;
mod tighter;
mod wasi;

mod support;

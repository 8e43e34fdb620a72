//! What Stockade promises, tested from outside with real worker processes.
// Every function here is a part of a test.
#![allow(clippy::unwrap_used)]

mod attacks;
mod batches;
mod building;
mod cache;
mod calling;
mod commands;
mod compile_limits;
mod conformance;
mod coredumps;
mod deterministic;
mod docs;
mod ending;
mod features;
mod feeding;
mod handles;
mod hooks;
mod isolation;
mod languages;
mod limits;
mod located;
mod maps;
mod metrics;
mod options;
mod own_threads;
mod payloads;
mod quarantine;
mod recordings;
mod roles;
mod room;
mod self_test;
mod sharing;
mod slices;
mod spare;
mod state;
mod streams;
mod tasks;
mod template;
mod watching;
mod workers;

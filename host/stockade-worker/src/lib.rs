//! Runs guests and compiles modules: the worker program, which a pool starts.
//!
//! ```text
//! run_if_worker ── role ──► worker::run ──► session ──► Runtime ──► Guest (Store + Instance)
//!                  │                        the loop    modules      hostcalls, wasi, poll
//!                  └──────► compiler::run ──► stockade_module::admit ─► artefact
//!                                             may it run, what is in it  native code
//! ```
//!
//! | where | what it owns |
//! |---|---|
//! | `worker`, `session` | the worker's life and its message loop |
//! | `template`, `clone` | the process that workers are cloned from, and how |
//! | `engine`, `alarm`, `artefact` | the engine both roles agree on, deadlines, loading code |
//! | `runtime`, `stopwatch` | modules, how long instances live, what time tasks take |
//! | `factory`, `linked`, `guest`, `function`, `column` | how instances are made and called, once or for many numbers |
//! | `call`, `hostcalls`, `failure` | one invocation's input and output, the guest ABI, how it failed |
//! | `memory` | guest memory: its addresses and its reset |
//! | `payload`, `overlay` | files that long inputs lie in, mapped over a guest's memory |
//! | `wasi`, `stdio`, `descriptors`, `poll`, `reading` | WASI with nothing granted, streams, open files, waiting, reading |
//! | `capture`, `meter`, `reserve` | bounded output, limits, descriptors that guests leave |
//! | `lockdown` | the lockdown of a process before it reads hostile input |
//! | `alone` | a worker's runtime without its process, for the benchmark and tests |
//! | `compiler` and below | one module from bytes to artefact, or a refusal |
//!
//! Invariant: a worker never compiles, and a compiler never runs a guest.

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("Stockade's worker runs on Linux, on x86-64 and aarch64");

mod session;
mod worker;

mod batch;
mod clone;
mod runtime;
mod stopwatch;
mod template;

mod column;
mod factory;
mod function;
mod guest;
mod linked;
mod stand_ins;

mod memory;

mod call;
mod hostcalls;
mod overlay;
mod payload;

mod capture;
mod descriptors;
mod poll;
mod reading;
mod reserve;
mod stdio;
mod wasi;

mod coredump;
mod failure;
mod meter;

mod alarm;
mod artefact;
mod engine;

mod lockdown;
mod socket;

mod compiler;
mod state;

mod alone;

#[cfg(test)]
mod tests;

use std::io::Write;

use stockade_wire::Role;

// The C library of a static program cannot be asked at run time whether it has `getrandom`; the crate then
// opens a device, which no worker may.
#[cfg(all(
    target_env = "gnu",
    target_feature = "crt-static",
    not(getrandom_backend = "linux_getrandom")
))]
compile_error!(
    r#"a static worker needs RUSTFLAGS with --cfg getrandom_backend="linux_getrandom", as in `just static`"#
);

#[doc(hidden)]
pub use alone::Alone;
pub use engine::ENGINE;
#[doc(hidden)]
pub use engine::engine_alone;

/// Runs this process as a worker or a compiler, and exits, if its first argument says that a pool
/// started it as one; returns otherwise. Call it first in `main`, before any thread exists and
/// before anything is read from the environment.
///
/// ```
/// // No pool started this process, so it goes on.
/// stockade_worker::run_if_worker();
/// ```
pub fn run_if_worker() {
    let argument = std::env::args_os().nth(1);
    let role = argument.as_ref().and_then(|text| text.to_str()).and_then(Role::from_argument);
    let ended = match role {
        None => return,
        Some(Role::Worker) => worker::run().map_err(|error| (error.exit_code(), error.to_string())),
        Some(Role::Template) => {
            template::run().map_err(|error| (error.exit_code(), error.to_string()))
        }
        Some(Role::Compiler) => compiler::run().map_err(|error| (1, error.to_string())),
    };
    let code = match ended {
        Ok(()) => 0,
        Err((code, message)) => {
            // Nobody is left to tell where stderr is closed.
            let _ = writeln!(std::io::stderr(), "stockade-worker: {message}");
            code
        }
    };
    std::process::exit(code)
}

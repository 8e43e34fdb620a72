//! Other pools and other sandboxes: programs that answer questions as the references do.
//!
//! | peer | where from | answers |
//! |---|---|---|
//! | asyncpal, pebble, loky | PyPI, in `target/peers/python` | `map1`, `map64`: items a second through a map of so many |
//! | concurrent.futures, multiprocessing.Pool | Python's own | the same |
//! | procspawn | crates.io, `peers/procspawn` | `window`: tasks a second, 32 at a time |
//! | extism | crates.io, `peers/extism` | `cpu`: processor time of a task in a fresh plugin, in microseconds |
//!
//! `just bench` installs and builds what it can; what is missing says so in the table.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::pools::WORKERS;
use crate::remote::Remote;

/// The script that runs Python's pools.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/pools.py");

/// The folder of whatever was installed or built for the benchmark alone.
fn folder() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).context("this program is in no folder")?;
    Ok(target.join("peers"))
}

/// The pool `name` in Python.
///
/// # Errors
/// If Python or the package is missing.
pub(crate) fn python(name: &str) -> Result<Remote> {
    let own = folder()?.join("python/bin/python");
    let mut command = Command::new(if own.exists() { own } else { PathBuf::from("python3") });
    command.arg(SCRIPT).arg(name).arg(WORKERS.to_string());
    let mut remote = Remote::start(command)?;
    remote.ask("ready", 0.0).with_context(|| format!("{name} is not installed"))?;
    Ok(remote)
}

/// The program `peer-NAME` of the peers' own workspace.
///
/// # Errors
/// If it was not built.
pub(crate) fn rust(name: &str) -> Result<Remote> {
    let program = folder()?.join("release").join(format!("peer-{name}"));
    ensure!(program.exists(), "{name} is not built");
    let mut command = Command::new(program);
    command.arg(WORKERS.to_string());
    let mut remote = Remote::start(command)?;
    remote.ask("ready", 0.0).with_context(|| format!("{name} does not run"))?;
    Ok(remote)
}

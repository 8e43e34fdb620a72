//! A program that uses a pool, to be killed in the middle of it.
//!
//! Builds a pool over the module in its first argument, keeps two workers busy for ever, writes
//! their process numbers to stdout, and waits.

use std::io::Write;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let module = std::env::args().nth(1).context("the first argument is a module")?;
    let limits = stockade::Limits::default().wall_time(None);
    let pool = stockade::Pool::dual().module(module).limits(limits).build()?;
    let handles = [pool.submit::<()>("spin", ())?, pool.submit::<()>("spin", ())?];
    while handles.iter().any(|handle| handle.progress().is_none()) {
        std::thread::yield_now();
    }
    let mut stdout = std::io::stdout().lock();
    for worker in pool.workers() {
        writeln!(stdout, "{}", worker.pid)?;
    }
    stdout.flush()?;
    drop(stdout);
    handles[0].result()?;
    Ok(())
}

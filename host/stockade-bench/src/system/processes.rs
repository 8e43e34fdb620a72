//! Processes that do nothing, or one task: the least that a process costs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Result, bail, ensure};

use super::session;
use crate::figure::median;

/// The median time from the start of `/bin/true` to its being waited for, in microseconds.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn true_micros(count: usize) -> Result<f64> {
    let mut micros = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        Command::new("/bin/true").stdin(Stdio::null()).status()?;
        micros.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(&mut micros))
}

/// Tasks a second where each has a process of its own, of the program `reference`, that loads
/// `artefact`, runs the task and ends; as many at a time as `side_by_side`.
///
/// # Errors
/// If one of them fails.
pub(crate) fn one_a_task(
    reference: &Path,
    artefact: &Path,
    side_by_side: usize,
    count: usize,
) -> Result<f64> {
    let started = Instant::now();
    let work = || -> Result<()> {
        for _ in 0..count {
            let mut command = Command::new(reference);
            let ended = session::apart(&mut command).arg("once").arg(artefact).status()?;
            ensure!(ended.success(), "a process for one task failed");
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..side_by_side).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(ended) => ended,
            Err(_) => bail!("a thread panicked"),
        })
    })?;
    Ok((side_by_side * count) as f64 / started.elapsed().as_secs_f64())
}

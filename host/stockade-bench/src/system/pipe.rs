//! A byte to another process over a pipe, and back over a second one.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use super::session;

/// A process that sends back whatever it gets. It ends with its stdin.
#[derive(Debug)]
pub(crate) struct Pipe {
    child: Child,
    /// `None` once it is being ended.
    there: Option<ChildStdin>,
    back: ChildStdout,
}

impl Pipe {
    /// Starts the process, which `command` must have call [`echo`].
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let command = session::apart(&mut command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let there = child.stdin.take();
        let back = child.stdout.take().context("its stdout was piped")?;
        Ok(Self { child, there, back })
    }

    /// The times of so many round trips, in microseconds.
    ///
    /// # Errors
    /// If the other process is gone.
    pub(crate) fn round_trips(&mut self, count: usize) -> Result<Vec<f64>> {
        let there = self.there.as_mut().context("it is being ended")?;
        let mut micros = Vec::with_capacity(count);
        for _ in 0..count {
            let started = Instant::now();
            there.write_all(&[1])?;
            self.back.read_exact(&mut [0])?;
            micros.push(started.elapsed().as_secs_f64() * 1e6);
        }
        Ok(micros)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        drop(self.there.take());
        // It ends at the end of its stdin.
        let _ = self.child.wait();
    }
}

/// The other process: sends back every byte, until there are no more.
///
/// # Errors
/// If stdin or stdout fails.
pub(crate) fn echo() -> Result<()> {
    let mut byte = [0];
    let (mut from, mut to) = (std::io::stdin().lock(), std::io::stdout().lock());
    while from.read(&mut byte)? == 1 {
        to.write_all(&byte)?;
        to.flush()?;
    }
    Ok(())
}

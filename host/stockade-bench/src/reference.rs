//! What the machine does without Stockade: bare processes, bare pipes.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::figure::median;

const PROCESSES: usize = 100;

/// How many processes that do nothing can be started and waited for in a second, one by one: the
/// least that one process a task costs.
pub(crate) fn processes_per_second() -> Result<f64> {
    let started = Instant::now();
    for _ in 0..PROCESSES {
        Command::new("/bin/true").status()?;
    }
    Ok(PROCESSES as f64 / started.elapsed().as_secs_f64())
}

/// Median time of one byte to another thread over a pipe and back over a second one.
pub(crate) fn pipe_round_trip_micros(round_trips: usize) -> Result<f64> {
    let (there_reader, mut there) = std::io::pipe()?;
    let (mut back, back_writer) = std::io::pipe()?;
    let echo = std::thread::Builder::new()
        .name("echo".into())
        .spawn(move || echo(there_reader, back_writer))?;
    let mut micros = Vec::with_capacity(round_trips);
    for _ in 0..round_trips {
        let started = Instant::now();
        there.write_all(&[1])?;
        back.read_exact(&mut [0])?;
        micros.push(started.elapsed().as_secs_f64() * 1e6);
    }
    drop(there);
    // It ends at the end of the stream; an error of its own has shown itself here already.
    let _ = echo.join();
    Ok(median(&mut micros))
}

fn echo(mut from: PipeReader, mut to: PipeWriter) {
    let mut byte = [0];
    while from.read_exact(&mut byte).is_ok() && to.write_all(&byte).is_ok() {}
}

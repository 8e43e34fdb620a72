//! A process that takes memory without end, in the place of one with a role.
//!
//! `greedy ROLE PROGRAM ARGUMENT`: as `PROGRAM ARGUMENT`, unless the argument is of that role.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

/// Taken at a time.
const STEP_BYTES: usize = 16 << 20;

/// It gives up then: nobody has ended it.
const STEPS_MAX: usize = 512;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next().context("no role")?;
    let program = arguments.next().context("no program")?;
    let argument = arguments.next().context("no argument")?;
    if !argument.ends_with(&role) {
        return Err(Command::new(program).arg(argument).env_clear().exec().into());
    }
    let mut taken = Vec::new();
    for _ in 0..STEPS_MAX {
        taken.push(vec![1_u8; STEP_BYTES]);
        // Slower than it is looked at.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(())
}

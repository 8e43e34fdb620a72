//! A number to another process through shared memory, and back, each waking the other by a futex.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::Result;
use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::thread::futex;

use super::session;

/// Two words that two processes share.
#[derive(Debug)]
struct Words(NonNull<[AtomicU32; 2]>);

const BYTES: usize = 4096;

/// Tells the other process to end.
const END: u32 = u32::MAX;

impl Words {
    fn map(file: impl AsFd) -> Result<Self> {
        // SAFETY: a new mapping, at an address of the system's choice.
        let at = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut::<c_void>(),
                BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )
        }?;
        NonNull::new(at.cast()).map(Self).ok_or_else(|| anyhow::anyhow!("mapped at zero"))
    }

    fn both(&self) -> &[AtomicU32; 2] {
        // SAFETY: the mapping is a page, aligned as one, lives as long as this, and is only ever
        // accessed atomically.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length; no reference outlives this.
        // A failure would leave a page mapped.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), BYTES) };
    }
}

/// Says `number` in `word` and wakes whoever waits for it.
fn say(word: &AtomicU32, number: u32) -> Result<()> {
    word.store(number, Ordering::SeqCst);
    futex::wake(word, futex::Flags::empty(), 1)?;
    Ok(())
}

/// Waits until `word` is no longer `old`.
fn hear(word: &AtomicU32, old: u32) -> u32 {
    loop {
        let now = word.load(Ordering::SeqCst);
        if now != old {
            return now;
        }
        // It may have changed meanwhile, or a signal came: looked at again in any case.
        let _ = futex::wait(word, futex::Flags::empty(), old, None);
    }
}

/// A process that answers every number with itself.
#[derive(Debug)]
pub(crate) struct Futex {
    child: Child,
    words: Words,
    number: u32,
}

impl Futex {
    /// Starts the process, which `command` must have call [`echo`].
    ///
    /// # Errors
    /// If it cannot be started, or there is no shared memory.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let file: OwnedFd = rustix::fs::memfd_create("stockade-bench", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&file, BYTES as u64)?;
        let words = Words::map(&file)?;
        let child = session::apart(&mut command).stdin(file).spawn()?;
        Ok(Self { child, words, number: 0 })
    }

    /// The times of so many round trips, in microseconds.
    ///
    /// # Errors
    /// If the system has no futexes.
    pub(crate) fn round_trips(&mut self, count: usize) -> Result<Vec<f64>> {
        let [there, back] = self.words.both();
        let mut micros = Vec::with_capacity(count);
        for _ in 0..count {
            let started = Instant::now();
            say(there, self.number + 1)?;
            self.number = hear(back, self.number);
            micros.push(started.elapsed().as_secs_f64() * 1e6);
        }
        Ok(micros)
    }
}

impl Drop for Futex {
    fn drop(&mut self) {
        // If it could not be told, it is killed; if it is gone, both are for nothing.
        if say(&self.words.both()[0], END).is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// The other process, whose stdin is the shared memory.
///
/// # Errors
/// If stdin is something else.
pub(crate) fn echo() -> Result<()> {
    let words = Words::map(std::io::stdin())?;
    let [there, back] = words.both();
    let mut number = 0;
    loop {
        number = hear(there, number);
        if number == END {
            return Ok(());
        }
        say(back, number)?;
    }
}

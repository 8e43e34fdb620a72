//! Ctrl-C, SIGTERM and SIGHUP: the first ends a map in order, the second at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::{Handle, Signals};

use crate::exit::Exit;

/// The signals that ask for an end, and how the command ends then.
const SIGNALS: [(i32, Exit); 3] =
    [(SIGINT, Exit::Interrupted), (SIGTERM, Exit::Terminated), (SIGHUP, Exit::HungUp)];

/// Reports signals.
#[derive(Debug)]
pub(crate) struct Interrupts {
    signals: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Interrupts {
    /// From now on `tell` is called for each signal with the command's exit. If SIGHUP was ignored
    /// when this process began it stays so, as `nohup` wants it. The others are asked for by
    /// somebody: scripts start jobs in the background with SIGINT ignored, and end them by it.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn watch(tell: impl Fn(Exit) + Send + 'static) -> io::Result<Self> {
        let ignored = std::fs::read_to_string("/proc/self/status").map_or(0, |text| ignored(&text));
        let survives = ignored & (1 << (SIGHUP - 1)) != 0;
        let watched = SIGNALS.into_iter().filter(|(signal, _)| *signal != SIGHUP || !survives);
        let watched: Vec<_> = watched.collect();
        let armed = Arc::new(AtomicBool::new(false));
        for (signal, exit) in &watched {
            // In this order: the first signal finds the flag unset and sets it, the second ends the
            // process in the handler itself, even if all other threads are blocked.
            flag::register_conditional_shutdown(*signal, exit.code().into(), armed.clone())?;
            flag::register(*signal, armed.clone())?;
        }
        let mut signals = Signals::new(watched.iter().map(|(signal, _)| *signal))?;
        let handle = signals.handle();
        let thread =
            std::thread::Builder::new().name("stockade-signals".into()).spawn(move || {
                for signal in signals.forever() {
                    watched
                        .iter()
                        .filter(|(watched, _)| *watched == signal)
                        .for_each(|(_, exit)| tell(*exit));
                }
            })?;
        Ok(Self { signals: handle, thread: Some(thread) })
    }
}

/// The signals that are ignored, a bit for each, from what `proc_pid_status(5)` shows of a process.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.signals.close();
        if let Some(thread) = self.thread.take() {
            // It only waits for this; a panic is on stderr.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_bits_of_a_mask() {
        let status = "Name:\tx\nSigBlk:\tffff\nSigIgn:\t0000000000001003\nSigCgt:\t1\n";
        assert_eq!(ignored(status), 0x1003);
        assert_eq!(ignored(""), 0);
    }
}

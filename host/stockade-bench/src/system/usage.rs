//! What `/proc` tells of processes and their threads: processor time, wake-ups, memory.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// What the threads of some processes have used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// Processor time, in seconds.
    pub(crate) cpu_seconds: f64,
    /// How often a thread gave up its processor by itself; it is woken as often.
    pub(crate) wake_ups: u64,
}

impl Usage {
    /// Of all threads of the processes `pids`, without the thread `but` if there is one.
    ///
    /// # Errors
    /// If a process is gone.
    pub(crate) fn of(pids: impl IntoIterator<Item = u32>, but: Option<i32>) -> Result<Self> {
        let mut usage = Self::default();
        let but = but.map(|thread| thread.to_string());
        for pid in pids {
            let threads = format!("/proc/{pid}/task");
            for thread in fs::read_dir(&threads).with_context(|| threads.clone())? {
                let thread = thread?;
                if but.as_ref().is_some_and(|but| thread.file_name() == but.as_str()) {
                    continue;
                }
                // A thread that has just ended uses nothing any more.
                usage.add(&thread.path()).unwrap_or_default();
            }
        }
        Ok(usage)
    }

    fn add(&mut self, thread: &Path) -> Option<()> {
        let times = fs::read_to_string(thread.join("schedstat")).ok()?;
        let nanos: u64 = times.split_whitespace().next()?.parse().ok()?;
        let status = fs::read_to_string(thread.join("status")).ok()?;
        self.cpu_seconds += nanos as f64 / 1e9;
        self.wake_ups += field(&status, "voluntary_ctxt_switches:")?;
        Some(())
    }

    /// What was used since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            wake_ups: self.wake_ups.saturating_sub(before.wake_ups),
        }
    }
}

/// The memory that this process has now, in bytes.
///
/// # Errors
/// If `/proc` does not tell.
pub(crate) fn resident_bytes() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    Ok(1024.0 * field(&status, "VmRSS:").context("no resident memory is told")? as f64)
}

/// The machine that figures come from: what of it can be told in a line.
pub(crate) fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // What follows the numbers is the distributor's.
    let version = kernel.split(['-', '\n']).next().unwrap_or_default();
    format!("{processors} processors, Linux {version}")
}

/// The number behind `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status =
            "nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t42\nVmRSS:  12 kB\n";
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(42));
        assert_eq!(field(status, "VmRSS:"), Some(12));
        assert_eq!(field(status, "VmHWM:"), None);
    }
}

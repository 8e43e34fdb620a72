//! The footprint of a process: its real memory usage, as its host sees it.
//!
//! ```text
//! /proc/PID/status: RssAnon + VmSwap + VmPTE ─► more than its limit and the overshoot? ─► it is ended
//! ```
//!
//! The kernel enforces `RLIMIT_DATA`, and the filter prevents memory that it does not count. This
//! catches all other memory, including page tables.
//!
//! What is not counted: files, which belong to those who made them. An artefact is sealed, and a
//! worker's payload files have a length that is the host's own.
//!
//! Deliberately absent: when to sample, and ending processes. Each owner does that, see
//! [`vigil`](crate::process::vigil) for workers.

use std::time::Duration;

use crate::outcome::exit::MemoryExcess;

/// How often a process is looked at that works: what it takes within this time comes on top of the
/// overshoot.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a process may have beyond its limit without having escaped it. The main stack, 8 MiB; pages of
/// program files that were written before they became read-only, some MiB; pages without access that
/// are kept for a guest to grow into, 64 MiB; page tables of memory that is spread out. Twice their
/// sum, as an honest worker that is ended is worse than another that is ended late.
const OVERSHOOT_BYTES: u64 = 192 << 20;

/// Page tables take the 512th part of what they describe; twice that is allowed.
const PART_FOR_PAGE_TABLES: u64 = 256;

/// What a process may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryAllowance {
    bytes: u64,
}

impl MemoryAllowance {
    /// That of a process whose private memory is limited to `data_bytes`.
    pub(crate) fn of(data_bytes: u64) -> Self {
        let tables = data_bytes / PART_FOR_PAGE_TABLES;
        Self { bytes: data_bytes.saturating_add(tables).saturating_add(OVERSHOOT_BYTES) }
    }

    /// Not a byte.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { bytes: 0 }
    }

    /// The excess of a process with this much memory.
    pub(crate) fn excess(self, seen_bytes: u64) -> Option<MemoryExcess> {
        let Self { bytes: allowed_bytes } = self;
        (seen_bytes > allowed_bytes).then_some(MemoryExcess { allowed_bytes, seen_bytes })
    }
}

/// A process whose memory its owner samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weighed {
    pub(crate) pid: u32,
    pub(crate) allowance: MemoryAllowance,
}

impl Weighed {
    /// The excess of its present memory.
    pub(crate) fn excess(&self) -> Option<MemoryExcess> {
        self.allowance.excess(of(self.pid)?)
    }
}

/// The present memory of the process `pid`, in bytes; `None` if it is gone, or the system does not
/// tell.
pub(crate) fn of(pid: u32) -> Option<u64> {
    // Some 20 µs.
    counted_in(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// What counts of the text of /proc/PID/status, see proc_pid_status(5). A process that has ended has
/// none of it.
fn counted_in(status: &str) -> Option<u64> {
    const COUNTED: [&str; 3] = ["RssAnon:", "VmSwap:", "VmPTE:"];
    let mut bytes = None;
    for line in status.lines() {
        if let Some(value) = COUNTED.iter().find_map(|name| line.strip_prefix(name)) {
            let kibibytes: u64 = value.trim().strip_suffix(" kB")?.trim().parse().ok()?;
            bytes = Some(u64::saturating_add(bytes.unwrap_or(0), kibibytes.saturating_mul(1024)));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_its_own_swap_and_page_tables_count_and_files_do_not() {
        let status = "Name:\tx\nVmRSS:\t  900 kB\nRssAnon:\t  100 kB\nRssFile:\t  300 kB\n\
                      RssShmem:\t  500 kB\nVmPTE:\t  20 kB\nVmSwap:\t  3 kB\n";
        assert_eq!(counted_in(status), Some(123 << 10));
        assert_eq!(counted_in("Name:\tzombie\n"), None);
        assert_eq!(counted_in("RssAnon:\tmuch kB\n"), None);
        assert!(of(std::process::id()).is_some_and(|bytes| bytes > 4096));
        assert_eq!(of(0), None);
    }

    #[test]
    fn a_process_may_have_its_limit_and_the_overshoot_and_not_a_byte_more() {
        let limit = 1 << 30;
        let allowed = limit + limit / 256 + OVERSHOOT_BYTES;
        assert_eq!(MemoryAllowance::of(limit).excess(allowed), None);
        let excess = MemoryExcess { allowed_bytes: allowed, seen_bytes: allowed + 1 };
        assert_eq!(MemoryAllowance::of(limit).excess(allowed + 1), Some(excess));
        assert_eq!(MemoryAllowance::of(u64::MAX).excess(u64::MAX), None);
    }
}

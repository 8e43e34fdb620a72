//! The resources of this process: memory, descriptors, threads, children.
//!
//! For programs that have a process to themselves; concurrent tests identify theirs by name.

use std::fs;

use crate::processes::thread_names;

/// What this process held at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Memory that is resident.
    pub resident_bytes: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads, this one included.
    pub threads: usize,
    /// Child processes that were not waited for, alive or not.
    pub children: usize,
}

impl Census {
    /// Counts everything now.
    pub fn take() -> Self {
        Self {
            resident_bytes: resident_bytes(),
            // The listing itself holds one.
            descriptors: count("/proc/self/fd").saturating_sub(1),
            threads: thread_names().count(),
            children: children_of(std::process::id()).len(),
        }
    }
}

/// The most memory that was ever resident.
pub fn resident_peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() << 10
}

/// Memory that is resident now.
pub fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * rustix::param::page_size() as u64
}

fn count(folder: &str) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Processes that `parent` started and has not waited for.
pub fn children_of(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc is there");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may hold anything: the state, then the parent.
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

//! Out-of-memory kills: how often the kernel has ended a process for lack of memory.
//!
//! A SIGKILL does not say who sent it. The kernel counts its own before it sends them, so a worker
//! that was killed by nobody known while the count rose most likely met the kernel.
//!
//! Deliberately absent: certainty. The count is that of the whole machine, not of one process.

use std::fs::File;
use std::io::Read;

/// More than the text of `/proc/vmstat` has, which is some 4 KiB.
const VMSTAT_BYTES: usize = 16 << 10;

/// Processes that the kernel has killed for lack of memory since the machine started, in whatever
/// control group. `None` where it does not say.
pub(crate) fn kills() -> Option<u64> {
    // Made anew at each reading, some 20 µs: for the start and the end of a process only. With room for
    // all of it there are two readings, not ten.
    let mut text = String::with_capacity(VMSTAT_BYTES);
    File::open("/proc/vmstat").ok()?.read_to_string(&mut text).ok()?;
    count_in(&text)
}

/// The count in the text of `/proc/vmstat`.
fn count_in(vmstat: &str) -> Option<u64> {
    vmstat.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// Whether there were such kills between two readings.
pub(crate) fn rose(before: Option<u64>, after: Option<u64>) -> bool {
    before.zip(after).is_some_and(|(before, after)| after > before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_its_neighbours() {
        let vmstat = "pgmigrate_fail 3\noom_kill_disable 9\noom_kill 12\nnuma_pages 1\n";
        assert_eq!(count_in(vmstat), Some(12));
        assert_eq!(count_in("oom_kill_disable 9\n"), None);
        assert_eq!(count_in("oom_kill many\n"), None);
    }

    #[test]
    fn only_a_count_that_is_known_twice_and_higher_is_a_rise() {
        assert!(rose(Some(1), Some(2)));
        assert!(!rose(Some(2), Some(2)));
        assert!(!rose(Some(2), Some(1)));
        assert!(!rose(None, Some(2)));
        assert!(!rose(Some(1), None));
    }
}

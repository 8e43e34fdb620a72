//! Control groups: less memory for one process than the machine has.
//!
//! Made only where this user may, in either version of the kernel's interface.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A control group whose processes have so much memory together. Dropping it removes it, once its
/// processes are gone.
#[derive(Debug)]
pub struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// A new one, at the top.
    ///
    /// # Errors
    /// If this user may not make one, or memory is not controlled.
    pub fn new(bytes: u64) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("stockade-test-{}-{number}", std::process::id());
        let (top, limit) = match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            true => ("/sys/fs/cgroup", "memory.max"),
            false => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        };
        let folder = Path::new(top).join(name);
        fs::create_dir(&folder)?;
        let group = Self(folder);
        fs::write(group.0.join(limit), bytes.to_string())?;
        Ok(group)
    }

    /// Moves a process into it; what memory it has already stays with the group that it was in.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), pid.to_string())
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Left behind where a process in it is alive.
        let _ = fs::remove_dir(&self.0);
    }
}

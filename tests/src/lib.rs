//! Helpers for tests of real pools: builders for small modules, and waiting for events.
//!
//! Nothing here sleeps for a fixed time. What cannot be waited for on an event is polled until it
//! holds, and fails after [`PATIENCE`].

use std::path::PathBuf;
use std::time::{Duration, Instant};

use stockade::PoolBuilder;

/// How long a test waits for what must happen: far longer than it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A builder over the module that `wat` holds in the text format, written to a file of its own.
pub fn wat(wat: &str) -> PoolBuilder {
    stockade::Pool::builder().module_as("test", wat_file(wat)).max_workers(2)
}

/// The file of a module in the text format. Files are named by their contents and shared.
pub fn wat_file(wat: &str) -> PathBuf {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    wat.hash(&mut hasher);
    let folder = std::env::temp_dir().join("stockade-test-modules");
    std::fs::create_dir_all(&folder).expect("the temporary directory can be written");
    let file = folder.join(format!("{:016x}.wat", hasher.finish()));
    // Written aside and renamed, so that a test beside this one never reads half of it.
    let aside = folder.join(format!("{:016x}.{}.tmp", hasher.finish(), std::process::id()));
    std::fs::write(&aside, wat).expect("the temporary directory can be written");
    std::fs::rename(&aside, &file).expect("the temporary directory can be written");
    file
}

/// The example guest `name`, which `just guests` builds.
pub fn guest(name: &str) -> PathBuf {
    let path = repository().join(format!("target/wasm32-wasip1/guest/{name}.wasm"));
    assert!(path.exists(), "{} is not built: run `just guests`", path.display());
    path
}

/// The repository's folder.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Waits until `holds` does.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::yield_now();
    }
}

/// Whether a process of that number is alive and no zombie.
pub fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z')
    })
}

//! Modules to run, and pools over them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use stockade::{Bytes, Lockdown, Pool, PoolBuilder, WorkerProgram};

/// Functions over numbers, and every trap there is. See the file.
const NUMBERS: &str = include_str!("../fixtures/numbers.wat");

/// Tasks in the ABI's own terms. See the file.
pub const TASKS: &str = include_str!("../fixtures/tasks.wat");

/// Tasks whose results can be checked, for long runs. See the file.
pub const RELIABILITY: &str = include_str!("../fixtures/reliability.wat");

/// A pool of one worker over the functions of `fixtures/numbers.wat`.
pub fn numbers() -> PoolBuilder {
    wat(NUMBERS)
}

/// A pool of one worker over the tasks of `fixtures/tasks.wat`.
pub fn tasks() -> PoolBuilder {
    wat(TASKS)
}

/// A pool of one worker over the module that `wat` holds in the text format.
pub fn wat(wat: &str) -> PoolBuilder {
    single().module_as("test", wat_file(wat))
}

/// A pool of one worker, which names the system call that it dies of, should it do so.
fn single() -> PoolBuilder {
    let lockdown = Lockdown::default().explain_violations(true);
    Pool::single().name(name_for_a_pool()).lockdown(lockdown)
}

/// A pool of one worker over the guest `name`.
pub fn guest_pool(name: &str) -> PoolBuilder {
    single().module(guest(name))
}

/// A name that no other pool of this machine has, also where another suite runs at the same time,
/// and short enough to stand whole before `-worker` where the system keeps 15 bytes of a name.
pub fn name_for_a_pool() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{}{}", in_letters(std::process::id().into(), 5), in_letters(number, 3))
}

/// The last so many digits of a number in base 36: five hold any process number, and three as many
/// pools as one process will ever have.
fn in_letters(number: u64, digits: u32) -> String {
    let digit = |place| {
        let digit = number / 36_u64.pow(place) % 36;
        char::from_digit(digit as u32, 36).expect("a digit of base 36")
    };
    (0..digits).rev().map(digit).collect()
}

/// The file of a module in the text format. Files are named by their contents and shared.
pub fn wat_file(wat: &str) -> PathBuf {
    use std::hash::{DefaultHasher, Hash, Hasher};
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let mut hasher = DefaultHasher::new();
    wat.hash(&mut hasher);
    // A folder of each user's own: what one has made another may not change.
    let user = rustix::process::getuid().as_raw();
    let folder = std::env::temp_dir().join(format!("stockade-test-modules-{user}"));
    std::fs::create_dir_all(&folder).expect("the temporary directory can be written");
    let file = folder.join(format!("{:016x}.wat", hasher.finish()));
    // Written aside and renamed, so that a test at the same time never reads half of it.
    let writer = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let aside = folder.join(format!("{:016x}.{writer}.tmp", hasher.finish()));
    std::fs::write(&aside, wat).expect("the temporary directory can be written");
    std::fs::rename(&aside, &file).expect("the temporary directory can be written");
    file
}

/// The guest `name`, which `just guests` builds.
///
/// # Panics
/// If it is not built.
pub fn guest(name: &str) -> PathBuf {
    let path = repository().join(format!("target/wasm32-wasip1/guest/{name}.wasm"));
    assert!(path.exists(), "{} is not built: run `just guests`", path.display());
    path
}

/// The worker program that pools find by themselves: the one in `STOCKADE_WORKER`, else next to the tests' own
/// folder.
///
/// # Panics
/// If it is not built.
pub fn worker_program() -> PathBuf {
    if let Some(chosen) = std::env::var_os("STOCKADE_WORKER") {
        return chosen.into();
    }
    program_beside("stockade-worker")
}

/// The program of the workspace of this name, which is built next to this one.
///
/// # Panics
/// If it is not built.
pub fn program_beside(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("this program has a path");
    let folders = this.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not built: run `cargo build --workspace --bins`"))
}

/// A program in `folder` that runs `text` in the shell.
///
/// # Panics
/// If the folder cannot be written.
pub fn script(folder: &Folder, text: &str) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = folder.path().join(format!("script-{number}"));
    // Written by another process: a descriptor of ours, inherited by a child that another test
    // starts at this moment, would keep the file from being run.
    let mut writer = Command::new("/bin/sh")
        .args(["-c", "cat > \"$0\" && chmod +x \"$0\""])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("the shell runs");
    let mut stdin = writer.stdin.take().expect("a pipe was asked for");
    write!(stdin, "#!/bin/sh\n{text}\n").expect("the shell reads");
    drop(stdin);
    assert!(writer.wait().expect("the shell ends").success());
    path
}

/// A worker program whose compilers are real and whose workers fail to start, but not before there is
/// `release` in the folder: a pool breaks at the moment that the test chooses.
pub fn workers_that_fail_when_released() -> (Folder, WorkerProgram) {
    let folder = Folder::new();
    let text = format!(
        "case \"$1\" in *compiler) exec {} \"$1\";; esac\n\
         while [ ! -e {} ]; do sleep 0.01; done\nexit 3",
        worker_program().display(),
        folder.path().join("release").display()
    );
    let program = WorkerProgram::Path(script(&folder, &text));
    (folder, program)
}

/// The repository's folder.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The input of a task of `fixtures/tasks.wat` that takes a number.
pub fn int(number: i32) -> Bytes {
    Bytes(number.to_le_bytes().to_vec())
}

/// The input of a task of `fixtures/tasks.wat` that takes two numbers.
pub fn two_ints(first: i32, second: i32) -> Bytes {
    Bytes([first.to_le_bytes(), second.to_le_bytes()].concat())
}

/// An empty folder of the host, removed with what is in it when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new one.
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// A new one for very many files: in memory, where the system has a place for that.
    pub fn in_memory() -> Self {
        let shared_memory = Path::new("/dev/shm");
        let writable = rustix::fs::access(shared_memory, rustix::fs::Access::WRITE_OK).is_ok();
        if writable { Self::below(shared_memory) } else { Self::new() }
    }

    fn below(place: &Path) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("stockade-test-{}-{number}", std::process::id());
        let path = place.join(name);
        std::fs::create_dir_all(&path).expect("the temporary directory can be written");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it; returns where.
    pub fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, contents).expect("a folder of the test's own can be written");
        path
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left behind where a test made something in it that cannot be removed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

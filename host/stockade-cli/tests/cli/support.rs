//! What the tests share: the command, folders of modules, and processes that are watched.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes on a busy machine; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(300);

/// A folder of its own, gone at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cli-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, contents).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A module in the text format, in a folder of its own.
pub(crate) fn module(wat: &str) -> (Folder, PathBuf) {
    let folder = Folder::new();
    let path = folder.file("guest.wat", wat);
    (folder, path)
}

/// An example guest, built by `just guests`.
pub(crate) fn example(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join("target/wasm32-wasip1/guest").join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is missing: run `just guests` first", path.display());
    path
}

/// A file of an example.
pub(crate) fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples-wasm").join(path)
}

/// `stockade` with these arguments, in an environment without colours.
pub(crate) fn stockade(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Stockade {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Stockade { command, input: Vec::new() }
}

/// Arguments of different types as one list.
#[macro_export]
macro_rules! args {
    ($($arg:expr),* $(,)?) => {
        [$(std::ffi::OsString::from(&$arg)),*]
    };
}

pub(crate) struct Stockade {
    command: Command,
    input: Vec<u8>,
}

impl Stockade {
    pub(crate) fn input(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.input = bytes.as_ref().to_vec();
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn folder(mut self, path: &Path) -> Self {
        self.command.current_dir(path);
        self
    }

    /// Leaves it so many KiB of address space, as `ulimit -v` does.
    pub(crate) fn address_space(mut self, kib: u64) -> Self {
        let mut limited = Command::new("/bin/sh");
        limited.args(["-c", &format!("ulimit -v {kib} && exec \"$0\" \"$@\"")]);
        limited.arg(self.command.get_program()).args(self.command.get_args());
        limited.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command = limited;
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn end(self) -> Ended {
        let input = self.input.clone();
        let mut running = self.start();
        let mut stdin = running.stdin.take().expect("stdin");
        let writer = std::thread::spawn(move || {
            // It may end without having read everything.
            let _ = stdin.write_all(&input);
        });
        let ended = running.end();
        writer.join().expect("the writer");
        ended
    }

    /// Starts it, with its stdin and stdout in the test's hands.
    pub(crate) fn start(mut self) -> Running {
        let mut child = self.command.stdin(Stdio::piped()).spawn().expect("the command starts");
        let mut stderr = child.stderr.take().expect("stderr");
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).expect("stderr is read");
            String::from_utf8_lossy(&text).into_owned()
        });
        Running {
            stdin: child.stdin.take(),
            stdout: child.stdout.take().map(BufReader::new),
            stderr: Some(stderr),
            child,
        }
    }
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Asserts the exit code and everything that stderr has to name.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, named: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for words in named {
            assert!(self.stderr.contains(words), "{words:?} is not in:\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked at host"), "{}", self.stderr);
    }

    /// Asserts success with this on stdout.
    #[track_caller]
    pub(crate) fn gives(&self, stdout: &str) {
        assert_eq!((self.code, self.stdout().as_str()), (Some(0), stdout), "{}", self.stderr);
    }
}

/// One that runs.
pub(crate) struct Running {
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<std::thread::JoinHandle<String>>,
    child: Child,
}

impl Running {
    pub(crate) fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).expect("stdin is read");
    }

    /// The next line of stdout.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().expect("stdout is open").read_line(&mut line).expect("a line");
        line.trim_end().to_string()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the signal is sent");
    }

    /// Processes that it started and that still run.
    pub(crate) fn workers(&self) -> Vec<Pid> {
        let own = self.child.id();
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        // What workers are cloned from is a child too.
        let is_template = |pid: i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(b"template-of-")
        };
        pids.filter(|&pid| stat(pid).is_some_and(|stat| stat.parent == own) && !is_template(pid))
            .filter_map(Pid::from_raw)
            .collect()
    }

    /// Blocks until one worker has used so much more processor time than now, and gives that one:
    /// it is in the middle of a task.
    pub(crate) fn busy_worker(&self, ticks: u64) -> Pid {
        let used = |pid: Pid| stat(pid.as_raw_nonzero().get()).map_or(0, |stat| stat.ticks);
        let mut before: Vec<(Pid, u64)> = Vec::new();
        let started = Instant::now();
        loop {
            for pid in self.workers() {
                match before.iter().find(|(known, _)| *known == pid) {
                    Some((_, then)) if used(pid) >= then + ticks => return pid,
                    Some(_) => {}
                    None => before.push((pid, used(pid))),
                }
            }
            assert!(started.elapsed() < PATIENCE, "no worker is busy");
            std::thread::yield_now();
        }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_some()
    }

    /// Waits for its end. Kills it where that does not come.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        let pid = Pid::from_child(&self.child);
        let (done, over) = std::sync::mpsc::channel::<()>();
        let watchdog = std::thread::spawn(move || {
            if over.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        let mut bytes = Vec::new();
        if let Some(mut stdout) = self.stdout.take() {
            stdout.read_to_end(&mut bytes).expect("stdout is read");
        }
        let status = self.child.wait().expect("its end");
        drop(done);
        watchdog.join().expect("the watchdog");
        let stderr = self.stderr.take().expect("stderr").join().expect("stderr");
        Ended { code: status.code(), bytes, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind; one that has ended is not signalled any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Stat {
    parent: u32,
    ticks: u64,
}

/// What the kernel tells of a process: `proc_pid_stat(5)`.
fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, and ends at the last parenthesis.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat { parent: number(1)? as u32, ticks: number(11)? + number(12)? })
}

//! The protocol of a chaos run and its workers: the pool's name, and two files.
//!
//! ```text
//! chaos ──── storm (one byte: whether it rages) ───► chaos-worker
//!       ◄─── log (one line for every mischief) ─────
//! ```
//!
//! A worker has an empty environment, so it finds both files next to its program and by the pool's
//! name, which is in its own. It writes to the log before it acts, so that whatever follows is
//! explained by a line that is there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use stockade::WorkerId;

/// What a worker does to itself or to its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mischief {
    /// Random bytes in the socket.
    Noise,
    /// A well-formed message that it may not send.
    Forgery,
    /// The beginning of a frame, in the middle of everything.
    HalfFrame,
    /// Nonsense on the status page.
    Page,
    /// The socket shut down, one way or both.
    Hangup,
    /// An exit with a code.
    Exit,
    /// An abort.
    Abort,
}

impl Mischief {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Noise,
        Self::Forgery,
        Self::HalfFrame,
        Self::Page,
        Self::Hangup,
        Self::Exit,
        Self::Abort,
    ];

    /// Its name in the log and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Noise => "noise in the socket",
            Self::Forgery => "forged message",
            Self::HalfFrame => "half a frame",
            Self::Page => "nonsense on the page",
            Self::Hangup => "socket shut down",
            Self::Exit => "exit with a code",
            Self::Abort => "abort",
        }
    }

    /// Whether what its worker says from then on may be untrue. No host can tell a worker's lie
    /// about its own task from the truth.
    pub fn makes_liar(self) -> bool {
        matches!(self, Self::Noise | Self::Forgery | Self::HalfFrame)
    }
}

/// What a forged result says, so that it is known wherever it turns up.
pub fn forged_text(worker: WorkerId) -> String {
    format!("forged by worker {worker}")
}

/// Who forged `text`, if somebody did.
pub fn forger_of(text: &[u8]) -> Option<WorkerId> {
    let number = std::str::from_utf8(text).ok()?.strip_prefix("forged by worker ")?;
    number.parse().ok().map(WorkerId)
}

/// The name of the pool of `seed`: short enough to stand whole before a worker's number where the
/// system keeps 15 bytes of a name.
pub fn pool_name(seed: u32) -> String {
    format!("chaos{seed:08x}")
}

/// The worker's number in the name of a worker.
pub fn worker_of_name(name: &str) -> Option<WorkerId> {
    name.rsplit_once("-worker-")?.1.parse().ok().map(WorkerId)
}

/// The files of one run.
#[derive(Debug)]
pub struct Storm {
    rages: File,
    log: File,
    paths: [PathBuf; 2],
}

impl Storm {
    /// Makes the files: a storm that does not rage yet.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn create(pool: &str) -> io::Result<Self> {
        let paths = paths(pool)?;
        if let Some(folder) = paths[0].parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&paths[0], [0])?;
        std::fs::write(&paths[1], [])?;
        Self::open(pool)
    }

    /// Opens the files of the pool named `pool`.
    ///
    /// # Errors
    /// If they are not there.
    pub fn open(pool: &str) -> io::Result<Self> {
        let paths = paths(pool)?;
        let rages = OpenOptions::new().read(true).write(true).open(&paths[0])?;
        let log = OpenOptions::new().append(true).open(&paths[1])?;
        Ok(Self { rages, log, paths })
    }

    /// Begins or ends the storm.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_rages(&self, rages: bool) -> io::Result<()> {
        self.rages.write_all_at(&[u8::from(rages)], 0)
    }

    /// Whether it rages now.
    pub fn rages(&self) -> bool {
        let mut byte = [0];
        self.rages.read_exact_at(&mut byte, 0).is_ok() && byte == [1]
    }

    /// Notes what a worker is about to do.
    ///
    /// # Errors
    /// If the log cannot be written.
    pub fn note(&self, worker: WorkerId, mischief: Mischief) -> io::Result<()> {
        // One write of few bytes to a file opened for appending: lines never mix.
        (&self.log).write_all(format!("{worker} {}\n", mischief.name()).as_bytes())
    }

    /// Everything that workers noted.
    ///
    /// # Errors
    /// If the log cannot be read, or holds what no worker writes.
    pub fn noted(&self) -> io::Result<Vec<(WorkerId, Mischief)>> {
        let text = std::fs::read_to_string(&self.paths[1])?;
        let parse = |line: &str| {
            let (worker, name) = line.split_once(' ')?;
            let mischief = Mischief::ALL.into_iter().find(|mischief| mischief.name() == name)?;
            Some((WorkerId(worker.parse().ok()?), mischief))
        };
        let unreadable = |line| io::Error::other(format!("no mischief: {line}"));
        text.lines().map(|line| parse(line).ok_or_else(|| unreadable(line))).collect()
    }

    /// Removes the files.
    ///
    /// # Errors
    /// If they cannot be removed.
    pub fn remove(self) -> io::Result<()> {
        self.paths.iter().try_for_each(std::fs::remove_file)
    }
}

/// Where both files of the pool are: next to the folder of this program.
fn paths(pool: &str) -> io::Result<[PathBuf; 2]> {
    let program = std::env::current_exe()?;
    let folder = program.ancestors().nth(2).unwrap_or(&program).join("storm");
    Ok([folder.join(format!("{pool}.storm")), folder.join(format!("{pool}.log"))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_text_names_its_forger_and_nothing_else_does() {
        assert_eq!(forger_of(forged_text(WorkerId(12)).as_bytes()), Some(WorkerId(12)));
        assert_eq!(forger_of(b"forged by worker "), None);
        assert_eq!(forger_of(b"\xff"), None);
    }

    #[test]
    fn a_workers_number_is_read_from_its_name() {
        assert_eq!(worker_of_name(&format!("{}-worker-7", pool_name(1))), Some(WorkerId(7)));
        assert_eq!(worker_of_name("worker"), None);
    }

    #[test]
    fn what_workers_note_is_read_back_in_order() {
        let pool = format!("test{}", std::process::id());
        let storm = Storm::create(&pool).unwrap();
        assert!(!storm.rages());
        storm.set_rages(true).unwrap();
        let worker = Storm::open(&pool).unwrap();
        assert!(worker.rages());
        for (number, mischief) in (1..).zip(Mischief::ALL) {
            worker.note(WorkerId(number), mischief).unwrap();
        }
        let expected: Vec<_> = (1..).map(WorkerId).zip(Mischief::ALL).collect();
        assert_eq!(storm.noted().unwrap(), expected);
        storm.remove().unwrap();
    }
}

//! A worker that is the real one, with a thread next to it that makes mischief.
//!
//! The thread waits until the worker has come on by a random number of steps, does one thing that a guest
//! which took the process over could do, notes it, and waits again, for as long as the storm rages and the
//! process lives. A step is a look at the status page that finds another task started: a worker that gets
//! no processor comes to no harm meanwhile. Few make mischief at once, before they are ready. The sequence
//! is decided by the run's seed and the worker's number. As a compiler it is the real one.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::SealFlags;
use stockade::{GuestError, WorkerId};
use stockade_tests::{Mischief, Random, Storm, finished, forged_text, worker_of_name};
use stockade_wire::{
    Failure, LockdownReport, ModuleId, Outcome, Role, SOCKET_DESCRIPTOR, Scalar, TaskId,
    WorkerMessage, frame,
};

/// How long a worker behaves between two mischiefs, in looks that find it at another task.
const CALM_STEPS: (u64, u64) = (1, 60);

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How many of a thousand workers make mischief as they begin, and after how many milliseconds at most. So
/// few that hardly ever as many do in a row as break a pool.
const EARLY_PER_MILLE: u64 = 50;
const EARLY_MILLIS_MAX: u64 = 20;

/// No descriptor of a worker has this number or a higher one.
const DESCRIPTORS_END: i32 = 64;

fn main() -> Result<()> {
    let role = std::env::args().nth(1).and_then(|argument| Role::from_argument(&argument));
    if role == Some(Role::Template) {
        bail!("every worker is to begin by itself, with a thread");
    }
    if role == Some(Role::Worker) {
        // Everything is opened now: later the worker gives up what it needs to open files.
        let imp = Imp::new()?;
        if imp.storm.rages() {
            // A thread that begins makes system calls that it may not make in a locked-down process:
            // it is waited for. The channel ends when it runs; nothing is ever sent.
            let (is_up, up) = std::sync::mpsc::channel::<()>();
            let begin = move || {
                drop(is_up);
                imp.run();
            };
            std::thread::Builder::new().name("imp".into()).spawn(begin)?;
            let _ = up.recv();
        }
    }
    stockade_worker::run_if_worker();
    bail!("started by hand")
}

/// Who makes the mischief.
struct Imp {
    worker: WorkerId,
    storm: Storm,
    /// The worker's own socket under another number.
    socket: UnixStream,
    random: Random,
}

impl Imp {
    fn new() -> Result<Self> {
        let name = std::env::args().next().context("no name")?;
        let worker = worker_of_name(&name).context("no worker's name")?;
        let pool = name.split('-').next().unwrap_or_default();
        let seed = pool.strip_prefix("chaos").context("no chaos")?;
        let seed = u64::from_str_radix(seed, 16)?;
        // SAFETY: whoever starts a worker leaves its socket there, and nothing has closed it yet.
        let socket = unsafe { BorrowedFd::borrow_raw(SOCKET_DESCRIPTOR) };
        Ok(Self {
            worker,
            storm: Storm::open(pool)?,
            socket: socket.try_clone_to_owned()?.into(),
            random: Random::of_part(seed, worker.0),
        })
    }

    fn run(mut self) {
        let mut is_early = self.random.per_mille(EARLY_PER_MILLE);
        loop {
            if std::mem::take(&mut is_early) {
                std::thread::sleep(self.random.millis(0, EARLY_MILLIS_MAX));
            } else {
                let steps = self.random.between(CALM_STEPS.0, CALM_STEPS.1);
                self.await_steps(steps);
            }
            let mischief = self.random.one_of(&Mischief::ALL);
            if mischief == Mischief::Page && page().is_err() {
                // Not set up yet, and what does not happen must not be noted.
                continue;
            }
            if !self.storm.rages() || self.storm.note(self.worker, mischief).is_err() {
                return;
            }
            // Fails where the host or the worker's own thread was quicker.
            let _ = self.make(mischief);
        }
    }

    /// Blocks until the worker has been seen at so many tasks, or the storm is over.
    fn await_steps(&self, steps: u64) {
        let (mut left, mut last) = (steps, started());
        while left > 0 && self.storm.rages() {
            std::thread::sleep(LOOK_EVERY);
            let now = started();
            left -= u64::from(now != last);
            last = now;
        }
    }

    fn make(&mut self, mischief: Mischief) -> io::Result<()> {
        match mischief {
            Mischief::Noise => {
                let count = self.random.one_of(&[1, 3, 4, 8, 64, 5000, 100_000]);
                let noise = self.random.bytes(count);
                self.socket.write_all(&noise)
            }
            Mischief::Forgery => {
                let task = self.aim();
                let mut bytes = Vec::new();
                let message = self.forged(task);
                frame::encode_inline(&message, &mut bytes).map_err(io::Error::other)?;
                self.socket.write_all(&bytes)
            }
            Mischief::HalfFrame => self.socket.write_all(&[100, 0, 0, 0, 5]),
            Mischief::Page => {
                let at = self.random.below(64) * 8;
                let words = self.random.between(1, 64) as usize;
                let nonsense = if self.random.per_mille(500) {
                    self.random.bytes(8 * words)
                } else {
                    self.aim().0.to_le_bytes().repeat(words)
                };
                page()?.write_all_at(&nonsense, at)
            }
            Mischief::Hangup => {
                hang_up();
                Ok(())
            }
            Mischief::Exit => std::process::exit(self.random.below(3) as i32),
            Mischief::Abort => std::process::abort(),
        }
    }

    /// A task's number: most likely one near those that this worker has, which other workers have.
    fn aim(&mut self) -> TaskId {
        const TASKS_MAX: u64 = 1 << 40;
        let mut words = [0; 512];
        // Without a page there is nothing to aim by.
        let _ = page().and_then(|page| page.read_exact_at(&mut words, 0));
        // Whatever the page's layout is: words that could be numbers of tasks.
        let words = words.chunks_exact(8).filter_map(|word| word.try_into().ok());
        let near: Vec<_> = words
            .map(u64::from_le_bytes)
            .filter(|number| (1..TASKS_MAX).contains(number))
            .collect();
        TaskId(match near.as_slice() {
            [] => self.random.below(1000),
            _ if self.random.per_mille(100) => self.random.number(),
            near => (self.random.one_of(near) + self.random.below(400)).saturating_sub(200),
        })
    }

    fn forged(&mut self, task: TaskId) -> WorkerMessage {
        let text = forged_text(self.worker);
        let error = GuestError { message: text.clone(), location: None, data: None };
        match self.random.below(20) {
            0 => WorkerMessage::Ready(LockdownReport(Vec::new())),
            1 => WorkerMessage::Closed,
            2 => WorkerMessage::Loaded(ModuleId(self.random.below(2) as u32)),
            3 => WorkerMessage::LoadFailed(ModuleId(0), text),
            4 => WorkerMessage::SetupFailed(text),
            5 => WorkerMessage::Initialized { state_bytes: self.random.number() },
            6 => WorkerMessage::InitializerFailed(Failure::Error(Box::new(error))),
            7 => WorkerMessage::FinalizerFailed(Failure::Error(Box::new(error))),
            8..11 => WorkerMessage::Emitted(task, text.into()),
            11 => WorkerMessage::Emitted(TaskId(0), text.into()),
            12 => finished(task, Outcome::Recalled),
            13 => finished(task, Outcome::Scalars(vec![Scalar::I32(7)])),
            14..17 => finished(task, Outcome::Failed(Failure::Error(Box::new(error)))),
            17 => finished(task, Outcome::InFile(self.random.number())),
            _ => finished(task, Outcome::Returned(text.into())),
        }
    }
}

/// What the status page says in its first word, the task started last, if there is a page.
fn started() -> Option<[u8; 8]> {
    let mut word = [0; 8];
    page().and_then(|page| page.read_exact_at(&mut word, 0)).ok().map(|()| word)
}

/// The status page as a file: mapped, and sealed against nothing but resizing, which tells it from
/// any other. Found by asking every number, because a worker opens no files any more.
fn page() -> io::Result<File> {
    const OTHERS: SealFlags = SealFlags::WRITE.union(SealFlags::FUTURE_WRITE);
    for number in SOCKET_DESCRIPTOR..DESCRIPTORS_END {
        // SAFETY: a borrow only long enough to ask the kernel what the number stands for, and to
        // make a second handle of it; on a closed one the calls fail.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let is_page = rustix::fs::fcntl_get_seals(descriptor)
            .is_ok_and(|seals| seals.contains(SealFlags::SHRINK) && !seals.intersects(OTHERS));
        if is_page {
            return Ok(File::from(descriptor.try_clone_to_owned()?));
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Closes the socket under every number that it has.
fn hang_up() {
    for number in SOCKET_DESCRIPTOR..DESCRIPTORS_END {
        // SAFETY: whoever owns a descriptor here loses it, and the process with it: it is what
        // somebody does who took the process over.
        unsafe { libc::close(number) };
    }
}

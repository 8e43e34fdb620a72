//! The reader of stdout: whether there is one still.
//!
//! A pipe whose reader has gone says so only to a process that writes or polls. A map that writes nothing
//! for a while would go on in vain.

use std::io::{self, PipeWriter};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FileType;

/// Tells when the reader of stdout has gone.
#[derive(Debug)]
pub(crate) struct Reader {
    /// The thread sleeps until this is gone, if the reader stays.
    end: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// From now on: `tell` is called once the reader has gone, and never where stdout is a file or a
    /// terminal.
    ///
    /// # Errors
    /// A thread or a pipe that the system does not give.
    pub(crate) fn watch(tell: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        if !can_leave() {
            return Ok(Self { end: None, thread: None });
        }
        let (ended, end) = io::pipe()?;
        let thread =
            std::thread::Builder::new().name("stockade-reader".into()).spawn(move || {
                let stdout = io::stdout();
                let nothing = PollFlags::empty();
                loop {
                    let mut both = [PollFd::new(&stdout, nothing), PollFd::new(&ended, nothing)];
                    let waited = rustix::event::poll(&mut both, None);
                    let [stdout, ended] = both.map(|one| !one.revents().is_empty());
                    match waited {
                        Err(rustix::io::Errno::INTR) => {}
                        Ok(_) if stdout && !ended => {
                            tell();
                            return;
                        }
                        _ => return,
                    }
                }
            })?;
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It waits for nothing but this; had it panicked, that is on stderr.
            let _ = thread.join();
        }
    }
}

/// Whether the reader of stdout has gone.
pub(crate) fn has_left() -> bool {
    let stdout = io::stdout();
    let mut one = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec::default();
    can_leave()
        && rustix::event::poll(&mut one, Some(&now)).is_ok()
        && one[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Whether somebody reads stdout who may leave: a file stays, and a terminal that goes sends a signal.
fn can_leave() -> bool {
    !super::closed::at_start(1)
        && rustix::fs::fstat(io::stdout()).is_ok_and(|stat| {
            matches!(FileType::from_raw_mode(stat.st_mode), FileType::Fifo | FileType::Socket)
        })
}

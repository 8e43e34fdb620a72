//! The side that asks: another program that answers questions with numbers.
//!
//! ```text
//! Remote::start(Command) ─ ask("tasks", 0.3) ─► its stdin     its stdout ─► Ok(151000.0)
//! ```
//!
//! See [`stockade_reference::serve`] for the other side. A program that does not answer in time is no
//! longer asked; dropping its [`Remote`] ends it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::system::session;

/// How long an answer may take; the slowest takes some seconds.
const ANSWER_WAIT: Duration = Duration::from_secs(120);

/// How long a program may take to end once its stdin has ended.
const END_WAIT: Duration = Duration::from_secs(5);

/// A running program.
#[derive(Debug)]
pub(crate) struct Remote {
    child: Child,
    /// `None` once it is being ended.
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Remote {
    /// Starts `command`.
    ///
    /// # Errors
    /// If there is no such program.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let mut child = session::apart(&mut command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let questions = child.stdin.take();
        let answers = child.stdout.take().context("its stdout was piped")?;
        Ok(Self { child, questions, answers: BufReader::new(answers) })
    }

    /// Asks, and blocks for the answer.
    ///
    /// # Errors
    /// What the program said of its own error, or that it did not answer.
    pub(crate) fn ask(&mut self, question: &str, amount: f64) -> Result<f64> {
        self.begin(question, amount)?;
        self.finish()
    }

    /// Asks, so that several programs can work at the same time.
    ///
    /// # Errors
    /// If the program is gone.
    pub(crate) fn begin(&mut self, question: &str, amount: f64) -> Result<()> {
        let questions = self.questions.as_mut().context("it is being ended")?;
        writeln!(questions, "{question} {amount}").context("it has ended")
    }

    /// Blocks for the answer to [`begin`](Self::begin).
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(crate) fn finish(&mut self) -> Result<f64> {
        let wait = Timespec::try_from(ANSWER_WAIT)?;
        let mut stdout = [PollFd::new(self.answers.get_ref(), PollFlags::IN)];
        ensure!(
            rustix::event::poll(&mut stdout, Some(&wait))? == 1,
            "no answer in {ANSWER_WAIT:?}"
        );
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        match answer.trim_end().split_once(' ') {
            Some(("ok", number)) => Ok(number.parse()?),
            Some(("error", why)) => bail!("{why}"),
            _ => bail!("it ended without an answer"),
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        drop(self.questions.take());
        let process = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty());
        if let (Ok(process), Ok(wait)) = (process, Timespec::try_from(END_WAIT)) {
            // Readable once the process has ended; whether it has or its time is over, it ends now.
            let _ = rustix::event::poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&wait));
        }
        // Whether it is gone already makes no difference.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks several programs the same at once, and adds their answers up.
///
/// # Errors
/// As [`Remote::ask`].
pub(crate) fn ask_all(remotes: &mut [Remote], question: &str, amount: f64) -> Result<f64> {
    remotes.iter_mut().try_for_each(|remote| remote.begin(question, amount))?;
    remotes.iter_mut().map(Remote::finish).sum()
}

/// A command for one part of this benchmark in a process of its own, see `parts`.
///
/// # Errors
/// If this program has no path.
pub(crate) fn part(name: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["part", name]);
    Ok(command)
}

/// A command for the program `name` that is built next to this one.
///
/// # Errors
/// If it is not built.
pub(crate) fn beside(name: &str) -> Result<Command> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.exists(), "{name} is not built");
    Ok(Command::new(path))
}

//! Lines: what the command makes of the library's map, compared with that map itself.
//!
//! ```text
//! a thread ─ lines ─► stockade map … - ─ records ─► counted here
//! ```
//!
//! The same function of the same module is called for the same texts. The command is started and warm
//! before the first round and maps one input all the time, so that its start is no part of a figure.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use stockade::{Json, Pool};
use stockade_reference::guests;

use crate::pools::{self, WORKERS};
use crate::system::session;

/// A line of text, of about the length of one in a book.
const LINE: &str = "to be or not to be, that is the question: whether";

/// Lines that are mapped before the first round, so that every worker has started.
const WARM_UP_LINES: usize = 20_000;

/// `stockade map` over lines, under way.
pub(crate) struct Lines {
    child: Child,
    /// `None` once the input has ended.
    input: Option<ChildStdin>,
    records: BufReader<ChildStdout>,
    module: PathBuf,
}

impl Lines {
    /// Starts `command`, which is `stockade`, and maps the first lines.
    ///
    /// # Errors
    /// If there is no such program, or it does not map.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let module = std::env::temp_dir().join(format!("stockade-lines-{}", std::process::id()));
        std::fs::write(&module, wat::parse_str(guests::counting())?)?;
        command.arg("map").arg(&module).args(["handle", "-", "--input", "text", "--workers"]);
        let mut child = session::apart(command.arg(WORKERS.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the command")?;
        let input = child.stdin.take();
        let records = BufReader::new(child.stdout.take().context("its stdout was piped")?);
        let mut lines = Self { child, input, records, module };
        lines.map(WARM_UP_LINES)?;
        Ok(lines)
    }

    /// Has so many lines mapped, and waits for their records.
    ///
    /// # Errors
    /// If it ended, or wrote another record than it should.
    pub(crate) fn map(&mut self, count: usize) -> Result<()> {
        let Self { input, records, .. } = self;
        let input = input.as_mut().context("its input has ended")?;
        let text = format!("{LINE}\n").repeat(count);
        std::thread::scope(|scope| {
            let sent = scope.spawn(move || input.write_all(text.as_bytes()));
            let result = format!(",\"result\":{}}}\n", guests::COUNTED);
            let mut record = String::new();
            for _ in 0..count {
                record.clear();
                records.read_line(&mut record)?;
                ensure!(record.ends_with(&result), "the command wrote {record:?}");
            }
            sent.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?.map_err(Into::into)
        })
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.module);
    }
}

/// A pool over the same module.
///
/// # Errors
/// If it cannot be built.
pub(crate) fn pool() -> Result<Pool> {
    Ok(pools::pool_of(&guests::counting())?.build()?)
}

/// The library's map over so many texts.
///
/// # Errors
/// If a task fails.
pub(crate) fn map(pool: &Pool, count: usize) -> Result<()> {
    let items = std::iter::repeat_with(|| Json::new().arg(LINE.into())).take(count);
    for result in pool.starmap::<u64, _, _>("handle", items) {
        ensure!(result? == guests::COUNTED, "the guest gave something else");
    }
    Ok(())
}

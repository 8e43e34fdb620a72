//! What a person sees of a map: a bar while it runs, if stderr is a terminal.

use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tally::Tally;
use crate::streams;

/// How often the bar is redrawn, and how long a map may take before there is one.
const GLANCE: Duration = Duration::from_millis(100);
const QUIET: Duration = Duration::from_millis(500);

/// How long a map without a bar sleeps when there is nothing to do: nothing hangs on it.
const NO_GLANCE: Duration = Duration::from_secs(3600);

/// The bar, or its absence.
#[derive(Debug)]
pub(crate) struct Watch {
    bar: Option<ProgressBar>,
    size: Option<u64>,
    started: Instant,
    drawn: Option<Instant>,
    shares_terminal: bool,
    /// Whether another part of the command draws the bar.
    is_beside: bool,
}

impl Watch {
    /// Shows a bar if stderr is a terminal. `size` is that of the input, if known; the output may go to the
    /// same terminal.
    pub(crate) fn new(size: Option<u64>, to_stdout: bool) -> Self {
        let watched = streams::stderr_is_terminal();
        let bar = watched.then(|| {
            let template = match size {
                Some(_) => "{bar:24} {percent:>3}%  {msg}",
                None => "{spinner} {msg}",
            };
            let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::stderr());
            match ProgressStyle::with_template(template) {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        let shares_terminal = to_stdout && streams::stdout_is_terminal();
        let (started, drawn, is_beside) = (Instant::now(), None, false);
        Self { bar, size, started, drawn, shares_terminal, is_beside }
    }

    /// With `bar`, which another part of the command draws.
    pub(crate) fn beside(bar: ProgressBar, to_stdout: bool) -> Self {
        let shares_terminal = to_stdout && streams::stdout_is_terminal();
        let (bar, started) = (Some(bar), Instant::now());
        Self { bar, size: None, started, drawn: Some(started), shares_terminal, is_beside: true }
    }

    /// Whether a bar or a live view is shown.
    pub(crate) fn is_watched(&self) -> bool {
        self.bar.is_some()
    }

    /// Time since the map began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How long to sleep at most before the next [`glance`](Self::glance).
    pub(crate) fn patience(&self) -> Duration {
        if self.is_watched() { GLANCE } else { NO_GLANCE }
    }

    /// Brings the bar up to date, but no more often than an eye can follow.
    pub(crate) fn glance(&mut self, tally: &Tally, workers: usize) {
        let Some(bar) = self.bar.as_ref().filter(|_| !self.is_beside) else { return };
        let due = match self.drawn {
            Some(drawn) => drawn.elapsed() >= GLANCE,
            None => self.started.elapsed() >= QUIET,
        };
        if due {
            self.drawn = Some(Instant::now());
            let (here, all) = tally.weight();
            let left =
                self.size.map(|size| time_left(self.elapsed(), here, size.saturating_sub(all)));
            let left = left.flatten().map_or(String::new(), |left| format!(", {left} left"));
            let rate = tally.rate(self.elapsed().as_secs_f64());
            let (done, failed) = (HumanCount(tally.done()), HumanCount(tally.failures()));
            let plural = if workers == 1 { "" } else { "s" };
            bar.set_message(format!(
                "{done} done, {rate}/s{left}, {failed} failed, {workers} worker{plural}"
            ));
            bar.set_position(all);
            bar.tick();
        }
    }

    /// Does `write` without the bar in its way, where both go to the same terminal.
    pub(crate) fn aside<T>(&self, to_stderr: bool, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) if self.drawn.is_some() && (to_stderr || self.shares_terminal) => {
                bar.suspend(write)
            }
            _ => write(),
        }
    }

    /// Removes the bar, so that a second interrupt leaves none behind. Says what is waited for.
    pub(crate) fn interrupted(&self, running: usize) {
        self.finish();
        let plural = if running == 1 { "" } else { "s" };
        if running > 0 {
            streams::say(|to| {
                writeln!(
                    to,
                    "interrupted: waiting for {running} running task{plural}; Ctrl-C again ends at once"
                )
            });
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How long the rest takes, if it goes on as it went so far.
fn time_left(elapsed: Duration, done: u64, left: u64) -> Option<String> {
    if done == 0 {
        return None;
    }
    let seconds = (elapsed.as_secs_f64() * left as f64 / done as f64).ceil() as u64;
    Some(match (seconds / 3600, seconds / 60, seconds) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {} s", seconds % 60),
        (hours, minutes, _) => format!("{hours} h {} min", minutes % 60),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_takes_as_long_as_what_was_done() {
        let left = |seconds, done, left| time_left(Duration::from_secs(seconds), done, left);
        assert_eq!(left(10, 0, 100), None);
        assert_eq!(left(10, 50, 50).as_deref(), Some("10 s"));
        assert_eq!(left(10, 50, 500).as_deref(), Some("1 min 40 s"));
        assert_eq!(left(10, 1, 1000).as_deref(), Some("2 h 46 min"));
    }
}

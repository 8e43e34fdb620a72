//! What a person sees of a map: a bar while it runs, if stderr is a terminal.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tally::Tally;

/// How often the bar is redrawn, and how long a map may take before there is one.
const GLANCE: Duration = Duration::from_millis(100);
const QUIET: Duration = Duration::from_millis(500);

/// How long a map without a bar sleeps when there is nothing to do: nothing hangs on it.
const NO_GLANCE: Duration = Duration::from_secs(3600);

/// The bar, or its absence.
#[derive(Debug)]
pub(crate) struct Watch {
    bar: Option<ProgressBar>,
    started: Instant,
    drawn: Option<Instant>,
    shares_terminal: bool,
    /// Whether the bar is drawn by somebody else.
    is_beside: bool,
}

impl Watch {
    /// Looks whether anybody watches.
    pub(crate) fn new() -> Self {
        let watched = io::stderr().is_terminal();
        let bar = watched.then(|| {
            let template = "{spinner} {human_pos} done, {msg}, {elapsed}";
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            match ProgressStyle::with_template(template) {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        let shares_terminal = io::stdout().is_terminal();
        let (started, drawn, is_beside) = (Instant::now(), None, false);
        Self { bar, started, drawn, shares_terminal, is_beside }
    }

    /// Beside `bar`, which somebody else draws.
    pub(crate) fn beside(bar: ProgressBar) -> Self {
        let shares_terminal = io::stdout().is_terminal();
        let now = Instant::now();
        Self { bar: Some(bar), started: now, drawn: Some(now), shares_terminal, is_beside: true }
    }

    /// Whether anybody watches.
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
            let plural = if workers == 1 { "" } else { "s" };
            let per_second = tally.done() as f64 / self.elapsed().as_secs_f64();
            let failed = tally.failures();
            bar.set_message(format!(
                "{per_second:.0}/s, {failed} failed, {workers} worker{plural}"
            ));
            bar.set_position(tally.done());
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

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

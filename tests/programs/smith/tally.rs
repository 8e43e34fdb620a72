//! The tally: what became of every module and every call, told while it runs and at the end.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use stockade_tests::repository;

use crate::make::{Kind, Made};

/// How often progress is told where no terminal shows a bar.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// The most findings that are kept; a run with more has found enough.
const FINDINGS_MAX: usize = 50;

/// Shared by the threads that try modules.
#[derive(Debug)]
pub(crate) struct Tally {
    seed: u32,
    bar: ProgressBar,
    started: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    modules: u64,
    workers: u64,
    compared: u64,
    fates: BTreeMap<(Kind, String), u64>,
    ends: BTreeMap<String, u64>,
    findings: Vec<String>,
    told: Duration,
}

impl Tally {
    pub(crate) fn new(seed: u32, modules: u64) -> Self {
        let bar = ProgressBar::new(modules);
        let template = "{wide_bar} {pos} of {len} modules, {per_sec}, {eta} left, {msg}";
        // The template is a constant and valid; without it there would be a plain bar.
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        Self { seed, bar, started: Instant::now(), inner: Mutex::default() }
    }

    /// What became of a module, once for each.
    pub(crate) fn module(&self, made: &Made, fate: &str) {
        let mut inner = self.inner();
        *inner.fates.entry((made.kind, fate.into())).or_default() += 1;
        inner.modules += 1;
        self.show(&mut inner);
    }

    /// How one call ended.
    pub(crate) fn end(&self, name: String) {
        *self.inner().ends.entry(name).or_default() += 1;
    }

    /// A pool had so many workers, one after the other.
    pub(crate) fn workers(&self, count: u64) {
        self.inner().workers += count;
    }

    /// Instances of a module were compared and are alike.
    pub(crate) fn compared(&self) {
        self.inner().compared += 1;
    }

    /// Something happened that must not; the module is kept.
    pub(crate) fn violation(&self, made: &Made, what: String) {
        let kept = match self.keep(made) {
            Ok(path) => format!("kept in {}", path.display()),
            Err(error) => format!("not kept: {error}"),
        };
        let (number, kind) = (made.number, made.kind);
        self.finding(format!("module {number} ({kind:?}) {what}; {kept}"));
    }

    /// As [`violation`](Self::violation), of no module.
    pub(crate) fn finding(&self, what: String) {
        // Told at once too: what comes next may be worse. Nobody may be reading.
        let _ = writeln!(io::stderr(), "- {what} (seed {})", self.seed);
        let mut inner = self.inner();
        inner.findings.push(what);
    }

    /// Whether so much was found that there is no point in going on.
    pub(crate) fn has_enough(&self) -> bool {
        self.inner().findings.len() >= FINDINGS_MAX
    }

    fn keep(&self, made: &Made) -> io::Result<PathBuf> {
        let folder = repository().join("target/smith");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}-{}.wasm", self.seed, made.number));
        std::fs::write(&path, &made.wasm)?;
        Ok(path)
    }

    fn show(&self, inner: &mut Inner) {
        self.bar.set_position(inner.modules);
        self.bar.set_message(format!("{} findings", inner.findings.len()));
        let time = self.started.elapsed();
        if self.bar.is_hidden() && time - inner.told >= LINE_INTERVAL {
            inner.told = time;
            let seconds = time.as_secs_f64();
            let rate = inner.modules as f64 / seconds;
            let (modules, findings) = (inner.modules, inner.findings.len());
            let _ = writeln!(
                io::stderr(),
                "{seconds:.0} s: {modules} modules, {rate:.1} a second, {findings} findings"
            );
        }
    }

    /// Writes the figures as a table; gives the findings.
    pub(crate) fn print(self, out: &mut impl Write) -> io::Result<Vec<String>> {
        self.bar.finish_and_clear();
        let seconds = self.started.elapsed().as_secs_f64();
        let inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut row = |name: &str, value: String| writeln!(out, "{name:<58} {value:>10}");
        row("modules", inner.modules.to_string())?;
        row("seconds", format!("{seconds:.1}"))?;
        row("modules a second", format!("{:.1}", inner.modules as f64 / seconds))?;
        row("workers used", inner.workers.to_string())?;
        row("reset and fresh, byte for byte alike", inner.compared.to_string())?;
        for ((kind, fate), count) in &inner.fates {
            row(&format!("{kind:?}: {fate}"), count.to_string())?;
        }
        row("calls", inner.ends.values().sum::<u64>().to_string())?;
        for (end, count) in &inner.ends {
            row(&format!("end: {end}"), count.to_string())?;
        }
        Ok(inner.findings)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

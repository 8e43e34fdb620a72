//! WASI: a guest's access to the outside, limited to its grants.
//!
//! The context is built at a guest's first WASI call, because most tasks make none. Everything in
//! it works on the calling thread: nothing here starts a thread or waits on a runtime's timers.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rand::SeedableRng;
use rand::rngs::StdRng;
use stockade_wire::{Captured, Grants};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use crate::capture::Capture;
use crate::descriptors::{self, BADF, Descriptors, Noted, SUCCESS, Waitable};
use crate::stdio::{Output, Stdin};

/// The most bytes of randomness for one call; wasmtime makes them all before it looks where to put
/// them.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// A directory that was granted and cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the granted directory {}: {source}", path.display())]
pub(crate) struct GrantError {
    path: PathBuf,
    source: io::Error,
}

/// Checks that every granted directory exists, since there is no way to report it later.
///
/// # Errors
/// [`GrantError`] for the first that is not.
pub(crate) fn check(grants: &Grants) -> Result<(), GrantError> {
    for grant in grants.directories() {
        let path = grant.host();
        if let Err(source) = std::fs::read_dir(&path) {
            return Err(GrantError { path, source });
        }
    }
    Ok(())
}

/// The parts of a context in addition to grants. By default none, for functions.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) args: Vec<String>,
    /// Variables besides the granted ones.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) stdin: Stdin,
    /// Where stdout goes; captured where that is nowhere.
    pub(crate) stdout: Option<OwnedFd>,
    /// As `stdout`.
    pub(crate) stderr: Option<OwnedFd>,
}

/// A guest's context and what it wrote.
pub(crate) struct Wasi {
    pub(crate) context: WasiP1Ctx,
    /// Noted from the first call on that is answered here. Not before: this context is built within a
    /// call of wasmtime-wasi's, in which no other can be made.
    descriptors: Option<Descriptors>,
    /// How many directories were granted and opened.
    granted: usize,
    stdin: Stdin,
    stdout: Sink,
    stderr: Sink,
}

/// Where stdout or stderr goes.
#[derive(Debug)]
enum Sink {
    Captured(Capture),
    Descriptor(Output),
}

impl Sink {
    fn begin(&self, stdio_bytes: u64) {
        if let Self::Captured(capture) = self {
            capture.begin(stdio_bytes);
        }
    }

    fn take(&self) -> Captured {
        match self {
            Self::Captured(capture) => capture.take(),
            Self::Descriptor(_) => Captured::default(),
        }
    }

    /// What can be waited for; none where a write never waits.
    fn waitable(&self) -> Option<Waitable> {
        match self {
            Self::Captured(_) => None,
            Self::Descriptor(output) => Some(Waitable::Stream(Arc::clone(output.descriptor()))),
        }
    }
}

impl Wasi {
    /// Builds a context in which each captured stream has room for `stdio_bytes`.
    ///
    /// Where there is a `seed`, it is what randomness comes from, and `clock` is virtual.
    pub(crate) fn build(
        plan: Plan,
        grants: &Grants,
        clock: Clock,
        seed: Option<u64>,
        stdio_bytes: u64,
    ) -> Self {
        let captured = || Sink::Captured(Capture::new(stdio_bytes));
        let described = |output| Sink::Descriptor(output);
        let stdin = plan.stdin;
        let stdout = plan.stdout.map(Output::stdout).map_or_else(captured, described);
        let stderr = plan.stderr.map(Output::stderr).map_or_else(captured, described);
        let mut builder = WasiCtxBuilder::new();
        builder
            .allow_blocking_current_thread(true)
            .max_random_size(RANDOM_BYTES_MAX)
            .monotonic_clock(clock.clone())
            .allow_tcp(false)
            .allow_udp(false)
            .args(&plan.args)
            .envs(grants.variables())
            .envs(&plan.env);
        if let Some(seed) = seed {
            builder
                .secure_random(StdRng::seed_from_u64(seed))
                .insecure_random(StdRng::seed_from_u64(seed))
                .insecure_random_seed(seed.into());
            builder.wall_clock(clock);
        }
        builder.stdin(stdin.clone());
        match &stdout {
            Sink::Captured(capture) => builder.stdout(capture.clone()),
            Sink::Descriptor(output) => builder.stdout(output.clone()),
        };
        match &stderr {
            Sink::Captured(capture) => builder.stderr(capture.clone()),
            Sink::Descriptor(output) => builder.stderr(output.clone()),
        };
        let mut granted = 0;
        for grant in grants.directories() {
            let access = if grant.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
            // It was there when the worker started. If it has gone since, the guest finds nothing
            // under its name, as with any directory that goes.
            granted +=
                usize::from(builder.preopened_dir(grant.host(), &grant.guest, access).is_ok());
        }
        let (context, descriptors) = (builder.build_p1(), None);
        Self { context, descriptors, granted, stdin, stdout, stderr }
    }

    /// The context, and what is noted of the guest's descriptors. Not to be asked for within a call of
    /// wasmtime-wasi's.
    pub(crate) fn noted(&mut self) -> (&mut WasiP1Ctx, &mut Descriptors) {
        let Self { context, descriptors, granted, .. } = self;
        let noted = descriptors.get_or_insert_with(|| Descriptors::new(context, *granted));
        (context, noted)
    }

    /// What a guest waits for that wants to read from `number`; none where it need not wait.
    ///
    /// # Errors
    /// The error number of one that it cannot read from.
    pub(crate) fn readable(&mut self, number: u32) -> Result<Option<Waitable>, i32> {
        match self.noted().1.get(number) {
            Some(Noted::Stdin) => {
                let descriptor = self.stdin.descriptor();
                Ok(descriptor.map(|descriptor| Waitable::Stream(Arc::clone(descriptor))))
            }
            Some(Noted::Pipe(file)) => Ok(Some(Waitable::File(Arc::clone(file)))),
            Some(Noted::Stdout | Noted::Stderr | Noted::Directory(_)) => Err(BADF),
            None => self.is_open(number),
        }
    }

    /// As [`readable`](Self::readable), of one that wants to write.
    ///
    /// # Errors
    /// The error number of one that it cannot write to.
    pub(crate) fn writable(&mut self, number: u32) -> Result<Option<Waitable>, i32> {
        match self.noted().1.get(number) {
            Some(Noted::Stdout) => Ok(self.stdout.waitable()),
            Some(Noted::Stderr) => Ok(self.stderr.waitable()),
            Some(Noted::Pipe(file)) => Ok(Some(Waitable::File(Arc::clone(file)))),
            Some(Noted::Stdin | Noted::Directory(_)) => Err(BADF),
            None => self.is_open(number),
        }
    }

    /// Of a file with places, which is always ready.
    fn is_open(&mut self, number: u32) -> Result<Option<Waitable>, i32> {
        match descriptors::status(&mut self.context, number) {
            SUCCESS => Ok(None),
            error => Err(error),
        }
    }

    /// Starts both streams anew with room for `stdio_bytes`.
    pub(crate) fn begin(&self, stdio_bytes: u64) {
        self.stdout.begin(stdio_bytes);
        self.stderr.begin(stdio_bytes);
    }

    /// Takes what was written since to stdout and to stderr.
    pub(crate) fn take(&self) -> (Captured, Captured) {
        (self.stdout.take(), self.stderr.take())
    }
}

/// Time as a guest reads it: the same for WASI and for [`poll`](crate::poll), so that an absolute
/// time in one means the same in the other.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    /// Monotonic since the worker's start, the same for every guest, in addition to the system's.
    Worker(Instant),
    /// Its own, for a deterministic guest.
    Virtual(VirtualTime),
}

impl Clock {
    /// Nanoseconds since 1970.
    pub(crate) fn since_epoch_ns(&self) -> u64 {
        let since = HostWallClock::now(self);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        match self {
            Self::Worker(_) => 1,
            Self::Virtual(_) => TICK.as_nanos() as u64,
        }
    }

    fn now(&self) -> u64 {
        match self {
            Self::Worker(since) => u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX),
            Self::Virtual(time) => time.tick(),
        }
    }
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(HostMonotonicClock::resolution(self))
    }

    fn now(&self) -> Duration {
        match self {
            Self::Worker(_) => {
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
            }
            Self::Virtual(time) => YEAR_2000 + Duration::from_nanos(time.tick()),
        }
    }
}

/// How much a virtual clock advances each time it is read, so that a guest that waits for it to
/// advance does not wait forever.
const TICK: Duration = Duration::from_micros(1);

/// Where virtual time begins, after 1970.
const YEAR_2000: Duration = Duration::from_secs(946_684_800);

/// Nanoseconds that passed for one guest. It is shared between that guest's clocks, and a guest has
/// one thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct VirtualTime(Arc<AtomicU64>);

impl VirtualTime {
    /// The time, which moves on by being read.
    fn tick(&self) -> u64 {
        self.pass(TICK);
        self.0.load(Ordering::Relaxed)
    }

    /// So much time passes.
    pub(crate) fn pass(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.store(self.0.load(Ordering::Relaxed).saturating_add(time), Ordering::Relaxed);
    }
}

//! The weather: what happens to workers from outside, at random.
//!
//! A worker is signalled through a descriptor of its process, opened before its name is looked at,
//! so that no signal ever reaches a process that took over a number.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, pidfd_open, pidfd_send_signal, prlimit,
};
use stockade::{Pool, WorkerId, WorkerInfo};
use stockade_tests::{Mischief, Random, is_alive};

/// Tasks that end between two disturbances. Not time: under other load a worker may take longer to start
/// than any pause is, and then nothing would come of the run but starts.
const PAUSE_TASKS: (u64, u64) = (20, 180);

/// What is done to a worker from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Disturbance {
    Kill,
    /// Stopped, and continued a little later.
    Pause,
    /// Stopped for good.
    Freeze,
    /// No more address space.
    StarveAddresses,
    /// No more private memory.
    StarveData,
}

impl Disturbance {
    pub(crate) const ALL: [Self; 5] =
        [Self::Kill, Self::Pause, Self::Freeze, Self::StarveAddresses, Self::StarveData];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Pause => "stopped, continued later",
            Self::Freeze => "stopped for good",
            Self::StarveAddresses => "no more address space",
            Self::StarveData => "no more private memory",
        }
    }

    fn random(random: &mut Random) -> Self {
        match random.below(100) {
            0..60 => Self::Kill,
            60..80 => Self::Pause,
            80..82 => Self::Freeze,
            82..91 => Self::StarveAddresses,
            _ => Self::StarveData,
        }
    }
}

/// What happened to a worker, whoever did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    Outside(Disturbance),
    Inside(Mischief),
}

impl Harm {
    pub(crate) fn makes_liar(&self) -> bool {
        matches!(self, Self::Inside(mischief) if mischief.makes_liar())
    }

    /// A page that says what it likes makes the host believe that tasks had started, or had not.
    pub(crate) fn overwrites_page(&self) -> bool {
        matches!(self, Self::Inside(Mischief::Page))
    }

    pub(crate) fn starves(&self) -> bool {
        use Disturbance::{StarveAddresses, StarveData};
        matches!(self, Self::Outside(StarveAddresses | StarveData))
    }
}

/// Disturbs the workers of one pool.
#[derive(Debug)]
pub(crate) struct Weather<'a> {
    pool: &'a Pool,
    random: Random,
    done: Vec<(WorkerId, Disturbance)>,
    /// Workers that are left to what was done to them.
    left_alone: BTreeSet<WorkerId>,
    /// Signals that are still to be sent.
    later: Vec<(Instant, OwnedFd, Signal)>,
}

impl<'a> Weather<'a> {
    pub(crate) fn new(pool: &'a Pool, seed: u32) -> Self {
        Self {
            pool,
            random: Random::new(seed.into()),
            done: Vec::new(),
            left_alone: BTreeSet::new(),
            later: Vec::new(),
        }
    }

    /// Disturbs until `over`, as tasks are `settled`, counting in `count`; then lets everybody go on who
    /// was to, and says what it did.
    pub(crate) fn rage(
        mut self,
        over: &AtomicBool,
        settled: impl Fn() -> u64,
        count: &AtomicU64,
    ) -> Vec<(WorkerId, Disturbance)> {
        let mut next = 0;
        while !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(2));
            let now = Instant::now();
            self.send_due(now);
            let settled = settled();
            if next <= settled {
                next = settled + self.random.between(PAUSE_TASKS.0, PAUSE_TASKS.1);
                self.disturb(now);
                count.store(self.done.len() as u64, Ordering::Relaxed);
            }
        }
        self.send_due(Instant::now() + Duration::from_secs(3600));
        self.done
    }

    fn send_due(&mut self, now: Instant) {
        let due = self.later.extract_if(.., |(at, ..)| *at <= now);
        due.for_each(|(_, process, signal)| {
            // Fails where it is gone already.
            let _ = pidfd_send_signal(process, signal);
        });
    }

    fn disturb(&mut self, now: Instant) {
        let Some((worker, process, pid)) = self.victim() else { return };
        let disturbance = Disturbance::random(&mut self.random);
        match disturbance {
            Disturbance::Kill => signal(&process, Signal::KILL),
            Disturbance::Freeze => signal(&process, Signal::STOP),
            Disturbance::Pause => {
                signal(&process, Signal::STOP);
                // Some beyond the deadline of the task at hand.
                let millis = if self.random.per_mille(30) { (1000, 3000) } else { (1, 200) };
                let at = now + self.random.millis(millis.0, millis.1);
                self.later.push((at, process, Signal::CONT));
            }
            Disturbance::StarveAddresses | Disturbance::StarveData => {
                let starved = disturbance == Disturbance::StarveData;
                let resource = if starved { Resource::Data } else { Resource::As };
                let limit = Rlimit { current: Some(4096), maximum: Some(4096) };
                // A child keeps its number until it is waited for, and this one was alive just now.
                let _ = prlimit(Some(pid), resource, limit);
                // One that lives on without allocating would fail every task that needs memory.
                let at = now + self.random.millis(5, 500);
                self.later.push((at, process, Signal::KILL));
            }
        }
        if !matches!(disturbance, Disturbance::Kill | Disturbance::Pause) {
            self.left_alone.insert(worker);
        }
        self.done.push((worker, disturbance));
    }

    /// Any worker; rarely one that has not finished a task, so that starts mostly succeed.
    fn victim(&mut self) -> Option<(WorkerId, OwnedFd, Pid)> {
        let mut workers = self.pool.workers();
        workers.retain(|info| !self.left_alone.contains(&info.id));
        if workers.is_empty() {
            return None;
        }
        let info = &workers[self.random.below(workers.len() as u64) as usize];
        if info.tasks_done == 0 && self.random.per_mille(800) {
            return None;
        }
        let pid = Pid::from_raw(i32::try_from(info.pid).ok()?)?;
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        is_worker(info).then_some((info.id, process, pid))
    }
}

/// Whether the process with the worker's number also has its name, and is alive.
fn is_worker(info: &WorkerInfo) -> bool {
    let line = std::fs::read(format!("/proc/{}/cmdline", info.pid)).unwrap_or_default();
    line.split(|byte| *byte == 0).next() == Some(info.name.as_bytes()) && is_alive(info.pid)
}

fn signal(process: &OwnedFd, signal: Signal) {
    // Fails where it is gone already.
    let _ = pidfd_send_signal(process, signal);
}

/// What happened to every worker, from outside and from inside.
pub(crate) fn harms(
    outside: &[(WorkerId, Disturbance)],
    inside: &[(WorkerId, Mischief)],
) -> BTreeMap<WorkerId, Vec<Harm>> {
    let outside = outside.iter().map(|&(worker, what)| (worker, Harm::Outside(what)));
    let inside = inside.iter().map(|&(worker, what)| (worker, Harm::Inside(what)));
    let mut harms = BTreeMap::<_, Vec<_>>::new();
    for (worker, harm) in outside.chain(inside) {
        harms.entry(worker).or_default().push(harm);
    }
    harms
}

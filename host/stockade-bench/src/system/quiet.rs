//! Whether the machine has something else to do: then figures say as much about that as about a pool.
//!
//! Looked at before each round, while the benchmark itself does nothing, so that all that is busy is
//! somebody else. A round waits for quiet, and is taken without it in the end; how many were is told with
//! the figures.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::turns::progress;

/// How long a look takes: the system counts in hundredths of a second.
const LOOK: Duration = Duration::from_millis(250);

/// Others may have so many processors, which is the system's own work and a look's inaccuracy.
const OTHERS_MAX: f64 = 0.2;

/// How long a round waits for quiet.
const PATIENCE: Duration = Duration::from_secs(30);

static LOUD_ROUNDS: AtomicUsize = AtomicUsize::new(0);

/// Waits until the machine has little else to do, or for as long as that is worth. Says so where it waits.
pub(crate) fn await_quiet() {
    let began = Instant::now();
    let mut has_said_so = false;
    while let Some(others) = processors_of_others().filter(|others| *others > OTHERS_MAX) {
        if began.elapsed() >= PATIENCE {
            progress("the machine stays busy: this round says less");
            LOUD_ROUNDS.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if !std::mem::replace(&mut has_said_so, true) {
            progress(&format!("{others:.1} processors are busy with something else: waiting"));
        }
    }
}

/// What is to be said of the rounds besides the figures, if anything is.
pub(crate) fn remark() -> Option<String> {
    match LOUD_ROUNDS.load(Ordering::Relaxed) {
        0 => None,
        rounds => Some(format!("{rounds} of all rounds ran beside other work, so figures differ")),
    }
}

/// How many processors are busy now, while this process sleeps. `None` where the system does not tell.
fn processors_of_others() -> Option<f64> {
    let before = busy_in(&std::fs::read_to_string("/proc/stat").ok()?)?;
    let began = Instant::now();
    std::thread::sleep(LOOK);
    let after = busy_in(&std::fs::read_to_string("/proc/stat").ok()?)?;
    let seconds = after.saturating_sub(before) as f64 / f64::from(TICKS_PER_SECOND);
    Some(seconds / began.elapsed().as_secs_f64())
}

/// What `/proc/stat` counts in, on every Linux that this runs on.
const TICKS_PER_SECOND: u32 = 100;

/// The ticks of all processors that were not idle, see proc_stat(5): all but the fourth and fifth, and
/// without the time of guests, which is in the first two already.
fn busy_in(stat: &str) -> Option<u64> {
    let all = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks = all.split_whitespace().take(8).map(|number| number.parse::<u64>().ok());
    let ticks: Vec<u64> = ticks.collect::<Option<_>>()?;
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    Some(ticks.iter().sum::<u64>().saturating_sub(idle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ticks_count_but_those_of_idle_processors_and_of_guests() {
        let stat = "cpu  1 2 4 800 1600 8 16 32 64 128\ncpu0 9 9 9 9 9 9 9 9 9 9\nintr 7\n";
        assert_eq!(busy_in(stat), Some(63));
        assert_eq!(busy_in("cpu0 1 2 3\n"), None);
        assert_eq!(busy_in("cpu  1 x 3\n"), None);
    }
}

//! Callbacks in every order of jobs, threads, idle time and ends: `just shuttle`.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::base::sync::model::{Time, check, far, pause};
use crate::state::completions::Completions;

/// How often each job has run.
#[derive(Clone, Debug)]
struct Runs(Arc<Vec<AtomicUsize>>);

impl Runs {
    fn of(jobs: usize) -> Self {
        Self(Arc::new((0..jobs).map(|_| AtomicUsize::new(0)).collect()))
    }

    fn job(&self, number: usize) -> impl FnOnce() + Send + 'static {
        let runs = self.clone();
        move || {
            runs.0[number].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counts(&self) -> Vec<usize> {
        self.0.iter().map(|run| run.load(Ordering::Relaxed)).collect()
    }
}

fn callbacks() -> Callbacks {
    Callbacks::new("model".into())
}

/// Closes what nobody uses any more: every job has run once, and no thread is left.
fn end(callbacks: &Callbacks, runs: &Runs) {
    callbacks.close(None);
    assert!(runs.counts().iter().all(|count| *count == 1), "{runs:?}");
    let inner = lock(&callbacks.shared.inner);
    assert!(inner.jobs.is_empty() && inner.running.is_empty() && inner.ended.is_empty());
    assert!(inner.idle == 0 && inner.closers.is_empty());
}

fn jobs_come_while_the_end_does() {
    let (callbacks, runs) = (callbacks(), Runs::of(4));
    let callers = [0, 2].map(|first| {
        let (callbacks, runs) = (callbacks.clone(), runs.clone());
        thread::spawn(move || {
            callbacks.run(runs.job(first));
            callbacks.run(runs.job(first + 1));
        })
    });
    let closer = {
        let callbacks = callbacks.clone();
        thread::spawn(move || callbacks.close(None))
    };
    callers.into_iter().chain([closer]).for_each(|thread| thread.join().unwrap());
    end(&callbacks, &runs);
}

#[test]
fn every_job_runs_once_whenever_the_end_comes() {
    check(Time::Stands, jobs_come_while_the_end_does);
}

#[test]
fn every_job_runs_once_however_soon_idle_threads_go() {
    check(Time::Flies, jobs_come_while_the_end_does);
}

#[test]
fn jobs_run_by_themselves_without_an_end_to_wake_them() {
    check(Time::Stands, || {
        let (callbacks, heard) = (callbacks(), Arc::new(Completions::default()));
        for number in 0..4 {
            let said = heard.clone();
            callbacks.run(move || said.push(number));
            if number % 2 == 1 {
                // Now the threads are idle, or about to be.
                assert!(heard.next(None).is_some() && heard.next(None).is_some());
            }
        }
        end(&callbacks, &Runs::of(0));
    });
}

#[test]
fn a_job_that_blocks_holds_up_no_other() {
    check(Time::Stands, || {
        let callbacks = callbacks();
        let [gate, heard] = [(); 2].map(|()| Arc::new(Completions::default()));
        // Leaves a thread idle, which is not enough for two.
        let said = heard.clone();
        callbacks.run(move || said.push(0));
        assert_eq!(heard.next(None), Some(0));
        let (wait_for, said) = (gate.clone(), heard.clone());
        callbacks.run(move || said.push(wait_for.next(None).unwrap_or_default()));
        callbacks.run(move || gate.push(7));
        assert_eq!(heard.next(None), Some(7));
        end(&callbacks, &Runs::of(0));
    });
}

#[test]
fn jobs_beyond_the_threads_wait_for_their_turn() {
    check(Time::Flies, || {
        let (callbacks, runs) = (callbacks(), Runs::of(CALLBACK_THREADS_MAX + 3));
        let running = Arc::new(AtomicUsize::new(0));
        for number in 0..CALLBACK_THREADS_MAX + 3 {
            let (running, job) = (running.clone(), runs.job(number));
            callbacks.run(move || {
                assert!(running.fetch_add(1, Ordering::Relaxed) < CALLBACK_THREADS_MAX);
                pause();
                job();
                running.fetch_sub(1, Ordering::Relaxed);
            });
        }
        end(&callbacks, &runs);
        assert_eq!(running.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn jobs_that_close_together_wait_for_neither_each_other_nor_themselves() {
    check(Time::Stands, || {
        let (callbacks, runs) = (callbacks(), Runs::of(3));
        for number in 0..3 {
            let (own, job) = (callbacks.clone(), runs.job(number));
            callbacks.run(move || {
                own.close(None);
                job();
                own.close(None);
            });
        }
        end(&callbacks, &runs);
    });
}

#[test]
fn the_end_waits_for_what_jobs_add() {
    check(Time::Flies, || {
        let (callbacks, runs) = (callbacks(), Runs::of(2));
        let (own, first, second) = (callbacks.clone(), runs.job(0), runs.job(1));
        callbacks.run(move || {
            own.run(second);
            first();
        });
        end(&callbacks, &runs);
    });
}

#[test]
fn a_job_that_panics_harms_no_other() {
    check(Time::Stands, || {
        let (callbacks, runs) = (callbacks(), Runs::of(4));
        for number in 0..4 {
            let job = runs.job(number);
            callbacks.run(move || {
                job();
                if number < 2 {
                    // Without the report of a panic, which would be one a schedule.
                    std::panic::resume_unwind(Box::new("on purpose"));
                }
            });
        }
        end(&callbacks, &runs);
    });
}

#[test]
fn an_end_with_a_deadline_leaves_a_job_that_blocks_to_run_on() {
    check(Time::Flies, || {
        let (callbacks, runs) = (callbacks(), Runs::of(1));
        let gate = Arc::new(Completions::default());
        let (wait_for, job) = (gate.clone(), runs.job(0));
        callbacks.run(move || {
            wait_for.next(None);
            job();
        });
        callbacks.close(Some(far()));
        assert_eq!(runs.counts(), [0]);
        gate.push(0);
        end(&callbacks, &runs);
    });
}

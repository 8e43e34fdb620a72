//! Samples: what the process holds, every half second, from beginning to end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use stockade_tests::Census;

const INTERVAL: Duration = Duration::from_millis(500);

/// One moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) seconds: f64,
    pub(crate) tasks: usize,
    pub(crate) workers: usize,
    pub(crate) census: Census,
}

impl Sample {
    fn json(self) -> String {
        let Self { seconds, tasks, workers, census } = self;
        let Census { resident_bytes, descriptors, threads, children } = census;
        format!(
            "{{\"seconds\":{seconds:.2},\"tasks\":{tasks},\"workers\":{workers},\
             \"resident_bytes\":{resident_bytes},\"descriptors\":{descriptors},\
             \"threads\":{threads},\"processes\":{children}}}\n"
        )
    }
}

/// Takes samples on a thread of its own.
#[derive(Debug)]
pub(crate) struct Sampler {
    told: Arc<Told>,
    thread: JoinHandle<Vec<Sample>>,
}

/// What the sampler cannot see for itself.
#[derive(Debug, Default)]
struct Told {
    tasks: AtomicUsize,
    workers: AtomicUsize,
    over: AtomicBool,
}

impl Sampler {
    pub(crate) fn start(started: Instant) -> Self {
        let told = Arc::new(Told::default());
        let shared = told.clone();
        let thread = std::thread::spawn(move || {
            let mut samples = Vec::new();
            while !shared.over.load(Ordering::Relaxed) {
                samples.push(Sample {
                    seconds: started.elapsed().as_secs_f64(),
                    tasks: shared.tasks.load(Ordering::Relaxed),
                    workers: shared.workers.load(Ordering::Relaxed),
                    census: Census::take(),
                });
                std::thread::sleep(INTERVAL);
            }
            samples
        });
        Self { told, thread }
    }

    /// Tells it how many tasks are in flight, and how many workers there are.
    pub(crate) fn note(&self, tasks: usize, workers: usize) {
        self.told.tasks.store(tasks, Ordering::Relaxed);
        self.told.workers.store(workers, Ordering::Relaxed);
    }

    pub(crate) fn end(self) -> Vec<Sample> {
        self.told.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Where everything is written.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) samples: PathBuf,
    pub(crate) plot: PathBuf,
}

/// Writes the samples, a JSON object a line, next to the folder of this program.
pub(crate) fn write(samples: &[Sample]) -> io::Result<Files> {
    let program = std::env::current_exe()?;
    let folder = program.ancestors().nth(2).unwrap_or(&program).join("soak");
    std::fs::create_dir_all(&folder)?;
    let files = Files { samples: folder.join("samples.jsonl"), plot: folder.join("soak.svg") };
    let lines: String = samples.iter().map(|sample| sample.json()).collect();
    std::fs::write(&files.samples, lines)?;
    Ok(files)
}

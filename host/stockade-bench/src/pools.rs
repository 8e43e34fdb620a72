//! Pools over the guests that are measured, and what is done with them: everything here goes through
//! the public interface of `stockade`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use stockade::{Bytes, Limits, Pool, PoolBuilder, SharedBuffer, TaskHandle, TaskOptions};
use stockade_reference::guests;

use crate::figure::median;

/// Workers of every pool, unless a figure is about their number.
pub(crate) const WORKERS: usize = 2;

/// How long a measurement of throughput takes, about.
const SPAN: Duration = Duration::from_millis(400);

/// The fewest tasks of such a measurement, so that a slow pool is measured too.
const TASKS_MIN: usize = 2_000;

/// Tasks in flight where they are submitted one by one.
const IN_FLIGHT: usize = 10_000;

/// A task that ends only by its deadline, and one that does nothing.
const HOLD: &str = r#"(module
  (import "stockade" "input_len" (func (result i32)))
  (memory (export "memory") 1)
  (func (export "hold") (result i32) (loop $ever (br $ever)) (unreachable))
  (func (export "noop") (result i32) (i32.const 0)))"#;

/// A pool over the module `wat`, whose workers stay.
///
/// # Errors
/// If the text is no module.
pub(crate) fn pool_of(wat: &str) -> Result<PoolBuilder> {
    let wasm = wat::parse_str(wat)?;
    Ok(Pool::builder().module_bytes("guest", wasm).max_workers(WORKERS).idle_timeout(None))
}

/// A pool over the realistic guest.
///
/// # Errors
/// Never, with this guest.
pub(crate) fn realistic() -> Result<PoolBuilder> {
    pool_of(&guests::realistic())
}

/// A pool over a guest whose task `hold` never ends, while `noop` does at once.
///
/// # Errors
/// Never, with this guest.
pub(crate) fn holding() -> Result<PoolBuilder> {
    pool_of(HOLD)
}

/// The input of the realistic guest.
pub(crate) fn payload() -> Bytes {
    Bytes(vec![7; guests::PAYLOAD_BYTES])
}

/// How many tasks make a measurement of the right length: learnt from the last one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    per_second: f64,
    least: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { per_second: 0.0, least: TASKS_MIN }
    }
}

impl Pace {
    /// Measures `work`, which does as many tasks as it is told; answers tasks a second.
    ///
    /// # Errors
    /// Its own.
    pub(crate) fn measure(&mut self, work: impl FnOnce(usize) -> Result<()>) -> Result<f64> {
        let tasks = ((self.per_second * SPAN.as_secs_f64()) as usize).max(self.least);
        let started = Instant::now();
        work(tasks)?;
        self.per_second = tasks as f64 / started.elapsed().as_secs_f64();
        Ok(self.per_second)
    }
}

/// How a map is asked to work.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    /// 0 is the default.
    pub(crate) chunk: usize,
    pub(crate) shared: bool,
    /// 0 is the default.
    pub(crate) buffer: usize,
}

/// A map of so many tasks of the realistic guest, to its end.
///
/// # Errors
/// If a task fails.
pub(crate) fn map(pool: &Pool, shape: Shape, tasks: usize) -> Result<()> {
    let items = std::iter::repeat_with(payload).take(tasks);
    let mut map = pool.starmap::<Bytes, _, _>("handle", items);
    if shape.chunk > 0 {
        map = map.chunk_size(shape.chunk);
    }
    if shape.shared {
        map = map.shared_instance();
    }
    if shape.buffer > 0 {
        map = map.buffer_size(shape.buffer);
    }
    for result in map {
        ensure!(result?.0.len() == guests::PAYLOAD_BYTES, "the guest gave something else");
    }
    Ok(())
}

/// Tasks a second of the realistic guest where each is submitted by itself, and 10,000 are in flight
/// all the time.
///
/// # Errors
/// If a task fails.
pub(crate) fn submitted_per_second(pool: &Pool) -> Result<f64> {
    let submit = || pool.submit::<Bytes>("handle", payload());
    let mut in_flight = (0..IN_FLIGHT).map(|_| submit()).collect::<Result<VecDeque<_>, _>>()?;
    // Tasks that have ended and whose results were not taken yet.
    let ended = |handles: &VecDeque<TaskHandle<Bytes>>| {
        handles.iter().filter(|handle| handle.is_done()).count()
    };
    let (before, mut taken) = (ended(&in_flight), 0);
    let started = Instant::now();
    while started.elapsed() < SPAN {
        if let Some(oldest) = in_flight.pop_front() {
            let bytes = oldest.result()?.0.len();
            ensure!(bytes == guests::PAYLOAD_BYTES, "the guest gave something else");
        }
        in_flight.push_back(submit()?);
        taken += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    let done = (taken + ended(&in_flight)).saturating_sub(before);
    // Whatever is measured next begins with an empty queue.
    for handle in &in_flight {
        handle.cancel();
    }
    for handle in &in_flight {
        handle.wait(None);
    }
    Ok(done as f64 / seconds)
}

/// The times of so many tasks that are each waited for, in microseconds.
///
/// # Errors
/// If a task fails.
pub(crate) fn runs(pool: &Pool, task: &str, tasks: usize) -> Result<Vec<f64>> {
    let with_payload = task == "handle";
    let mut micros = Vec::with_capacity(tasks);
    for _ in 0..tasks {
        let input = if with_payload { payload() } else { Bytes(Vec::new()) };
        let started = Instant::now();
        let output = pool.run::<Bytes>(task, input)?;
        micros.push(started.elapsed().as_secs_f64() * 1e6);
        drop(output);
    }
    Ok(micros)
}

/// The median time of `bytes` to a guest and back, in microseconds.
///
/// # Errors
/// If a task fails.
pub(crate) fn echo_micros(pool: &Pool, bytes: usize, times: usize) -> Result<f64> {
    let mut micros = Vec::with_capacity(times);
    for _ in 0..times {
        let input = Bytes(vec![3; bytes]);
        let started = Instant::now();
        let output = pool.run::<Bytes>("echo", input)?;
        micros.push(started.elapsed().as_secs_f64() * 1e6);
        ensure!(output.0.len() == bytes, "the guest gave something else");
    }
    Ok(median(&mut micros))
}

/// The median time of a buffer of `bytes` to a guest that changes a byte of each of its pages, and
/// back, in microseconds.
///
/// # Errors
/// If a task fails.
pub(crate) fn buffer_micros(pool: &Pool, bytes: usize, times: usize) -> Result<f64> {
    let mut buffer = SharedBuffer::new(bytes)?;
    let mut micros = Vec::with_capacity(times);
    for round in 0..times {
        buffer.copy_from_slice(0, &vec![round as u8; bytes]);
        let started = Instant::now();
        buffer = pool.run("touch", buffer)?;
        micros.push(started.elapsed().as_secs_f64() * 1e6);
        let mut ends = [0; 2];
        buffer.copy_to_slice(bytes - 4096, &mut ends);
        ensure!(ends == [round as u8 + 1, round as u8], "the guest did something else");
    }
    Ok(median(&mut micros))
}

/// A pool for [`echo_micros`] and [`buffer_micros`] of up to 64 MiB.
///
/// # Errors
/// If it cannot be built.
pub(crate) fn echoing() -> Result<Pool> {
    let limits = Limits::default().output_bytes(64 << 20);
    Ok(pool_of(guests::ECHO)?.limits(limits).max_workers(1).build()?)
}

/// The median time from a submission to its result in a pool that has no worker yet, in microseconds.
///
/// # Errors
/// If a task fails.
pub(crate) fn first_task_micros(pool: &Pool, task: &str, starts: usize) -> Result<f64> {
    let mut micros = Vec::with_capacity(starts);
    for _ in 0..starts {
        // Each worker does one task and closes: the next has to be started.
        micros.append(&mut runs(pool, task, 1)?);
        pool.join(None)?;
    }
    Ok(median(&mut micros))
}

/// The median time from the deadline of a task until the next one has its result, which a replacement
/// of the killed worker gives, in microseconds.
///
/// # Errors
/// If a task ends as it should not.
pub(crate) fn replacement_micros(pool: &Pool, times: usize) -> Result<f64> {
    let deadline = Duration::from_millis(10);
    let limits = pool.limits().clone().wall_time(deadline);
    let mut micros = Vec::with_capacity(times);
    for _ in 0..times {
        // There is a worker, and it has done something since the last was killed.
        runs(pool, "noop", 1)?;
        let options = TaskOptions::default().limits(limits.clone());
        let started = Instant::now();
        let held = pool.submit_with::<Bytes>("hold", Bytes(Vec::new()), options)?;
        let next = pool.submit::<Bytes>("noop", Bytes(Vec::new()))?;
        next.result()?;
        let after = started.elapsed().saturating_sub(deadline);
        micros.push(after.as_secs_f64() * 1e6);
        ensure!(held.is_failed(), "the task without an end has ended");
    }
    Ok(median(&mut micros))
}

//! Counters, gauges and histograms for operators, through the `metrics` facade, for any recorder
//! that the program installs.
//!
//! Names and units are one table, [`METRICS`], which is also what [`describe_metrics`] tells the
//! recorder; a test compares it with what a pool really counts.
//!
//! Invariant: a recorder's code never runs under a lock of the pool.

use metrics::{Unit, counter, gauge, histogram};

use crate::outcome::report::Summary;
use crate::state::shared::{WorkerInfo, WorkerState};
use crate::state::spec::TaskSpec;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// A present value.
    Gauge,
    /// A distribution.
    Histogram,
}

/// A metric of this library.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, with its unit at the end.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// What it measures, and its labels in addition to `pool`.
    pub help: &'static str,
    unit: Unit,
}

const fn metric(name: &'static str, kind: MetricKind, unit: Unit, help: &'static str) -> Metric {
    Metric { name, kind, help, unit }
}

/// Every metric that a pool with [`PoolBuilder::metrics`](crate::PoolBuilder::metrics) counts.
pub const METRICS: &[Metric] = &[
    metric(
        "stockade_tasks_submitted_total",
        MetricKind::Counter,
        Unit::Count,
        "tasks that were accepted; by function",
    ),
    metric(
        "stockade_tasks_ended_total",
        MetricKind::Counter,
        Unit::Count,
        "tasks that have ended; by function and status: completed, failed, cancelled",
    ),
    metric(
        "stockade_task_attempts_total",
        MetricKind::Counter,
        Unit::Count,
        "starts of tasks, including those whose worker was lost; by function",
    ),
    metric(
        "stockade_task_fuel_total",
        MetricKind::Counter,
        Unit::Count,
        "fuel that tasks used, where it is counted; by function",
    ),
    metric(
        "stockade_task_queue_wait_seconds",
        MetricKind::Histogram,
        Unit::Seconds,
        "time from a task's submission to its start; by function",
    ),
    metric(
        "stockade_task_wall_time_seconds",
        MetricKind::Histogram,
        Unit::Seconds,
        "time from a task's start to its end, of those that started; by function",
    ),
    metric(
        "stockade_task_cpu_time_seconds",
        MetricKind::Histogram,
        Unit::Seconds,
        "processor time of a task, of those that started; by function",
    ),
    metric(
        "stockade_task_memory_peak_bytes",
        MetricKind::Histogram,
        Unit::Bytes,
        "the largest linear memory of a task, of those that started; by function",
    ),
    metric(
        "stockade_workers_started_total",
        MetricKind::Counter,
        Unit::Count,
        "workers that were started",
    ),
    metric(
        "stockade_workers_lost_total",
        MetricKind::Counter,
        Unit::Count,
        "workers that ended unexpectedly",
    ),
    metric(
        "stockade_workers",
        MetricKind::Gauge,
        Unit::Count,
        "live workers, when last sampled; by state: starting, idle, busy, closing, dying",
    ),
    metric(
        "stockade_workers_memory_bytes",
        MetricKind::Gauge,
        Unit::Bytes,
        "private memory of all workers, when last sampled",
    ),
    metric(
        "stockade_tasks_pending",
        MetricKind::Gauge,
        Unit::Count,
        "queued tasks, when last sampled",
    ),
];

/// Describes each of [`METRICS`] to the program's recorder. Call it once, after installing the
/// recorder.
pub fn describe_metrics() {
    for Metric { name, kind, help, unit } in METRICS {
        match kind {
            MetricKind::Counter => metrics::describe_counter!(*name, *unit, *help),
            MetricKind::Gauge => metrics::describe_gauge!(*name, *unit, *help),
            MetricKind::Histogram => metrics::describe_histogram!(*name, *unit, *help),
        }
    }
}

pub(crate) fn submitted(spec: &TaskSpec, pool: &str) {
    let (pool, function) = (pool.to_owned(), spec.target.clone());
    counter!("stockade_tasks_submitted_total", "pool" => pool, "function" => function).increment(1);
}

pub(crate) fn ended(spec: &TaskSpec, pool: &str, report: &Summary) {
    let labels = || [("pool", pool.to_owned()), ("function", spec.target.clone())];
    let [by_pool, by_function] = labels();
    let status = ("status", report.status.name().to_owned());
    counter!("stockade_tasks_ended_total", &[by_pool, by_function, status]).increment(1);
    histogram!("stockade_task_queue_wait_seconds", &labels()).record(report.queue_wait);
    if report.attempt == 0 {
        return;
    }
    counter!("stockade_task_attempts_total", &labels()).increment(report.attempt.into());
    histogram!("stockade_task_wall_time_seconds", &labels()).record(report.wall_time);
    histogram!("stockade_task_cpu_time_seconds", &labels()).record(report.cpu_time);
    let memory = report.memory_peak_bytes as f64;
    histogram!("stockade_task_memory_peak_bytes", &labels()).record(memory);
    if let Some(fuel) = report.fuel {
        counter!("stockade_task_fuel_total", &labels()).increment(fuel);
    }
}

pub(crate) fn worker_started(pool: &str) {
    counter!("stockade_workers_started_total", "pool" => pool.to_owned()).increment(1);
}

pub(crate) fn worker_lost(pool: &str) {
    counter!("stockade_workers_lost_total", "pool" => pool.to_owned()).increment(1);
}

/// Sets the gauges to what is so now.
pub(crate) fn sample(pool: &str, workers: &[WorkerInfo], pending: usize) {
    for (state, name) in [
        (WorkerState::Starting, "starting"),
        (WorkerState::Idle, "idle"),
        (WorkerState::Busy, "busy"),
        (WorkerState::Closing, "closing"),
        (WorkerState::Dying, "dying"),
    ] {
        let count = workers.iter().filter(|worker| worker.state == state).count();
        gauge!("stockade_workers", "pool" => pool.to_owned(), "state" => name).set(count as f64);
    }
    let memory: u64 = workers.iter().filter_map(|worker| worker.memory_bytes).sum();
    gauge!("stockade_workers_memory_bytes", "pool" => pool.to_owned()).set(memory as f64);
    gauge!("stockade_tasks_pending", "pool" => pool.to_owned()).set(pending as f64);
}

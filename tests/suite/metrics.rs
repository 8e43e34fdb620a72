//! What an operator counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use ::metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use stockade::{Limits, METRICS, MetricKind, TaskError};
use stockade_tests::{eventually, wat};

/// Values by name and labels: the sum of a counter, a gauge's last, how many a histogram has.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<BTreeMap<String, Arc<Entry>>>>);

#[derive(Default)]
struct Entry(AtomicU64);

impl CounterFn for Entry {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl GaugeFn for Entry {
    fn increment(&self, _: f64) {}

    fn decrement(&self, _: f64) {}

    fn set(&self, value: f64) {
        self.0.store(value as u64, Ordering::Relaxed);
    }
}

impl HistogramFn for Entry {
    fn record(&self, _: f64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Book {
    fn map(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, key: &Key) -> Arc<Entry> {
        let labels: BTreeSet<_> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let labels: Vec<_> = labels.into_iter().collect();
        self.map().entry(format!("{} {}", key.name(), labels.join(","))).or_default().clone()
    }

    fn value(&self, name: &str) -> Option<u64> {
        self.map().get(name).map(|entry| entry.0.load(Ordering::Relaxed))
    }

    /// The names of metrics that have the label `pool`.
    fn names(&self, pool: &str) -> BTreeSet<String> {
        let of_pool = |key: &&String| key.contains(&format!("pool={pool}"));
        self.map()
            .keys()
            .filter(of_pool)
            .filter_map(|key| Some(key.split_once(' ')?.0.into()))
            .collect()
    }
}

impl Recorder for Book {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.entry(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.entry(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.entry(key))
    }
}

/// The recorder of this process, which has one.
static BOOK: LazyLock<Book> = LazyLock::new(|| {
    let book = Book::default();
    assert!(::metrics::set_global_recorder(book.clone()).is_ok());
    stockade::describe_metrics();
    book
});

#[test]
fn every_metric_that_is_documented_is_counted_and_no_other() {
    let source = r#"(module (func (export "ok")) (func (export "trap") unreachable))"#;
    let limits = Limits::default().fuel(1_000);
    let book = &*BOOK;
    let pool = wat(source).limits(limits).metrics().build().unwrap();
    let name = pool.name().to_owned();
    let value = |key: &str| book.value(&key.replace("POOL", &name));
    for _ in 0..3 {
        pool.run::<()>("ok", ()).unwrap();
    }
    let failed = pool.submit::<()>("trap", ()).unwrap().result();
    assert!(matches!(failed, Err(TaskError::Trap { .. })));
    // Told after the caller has its result, by whoever ended the task.
    eventually("the last task is counted", || {
        value("stockade_tasks_ended_total function=trap,pool=POOL,status=failed") == Some(1)
    });
    eventually("the others are counted", || {
        value("stockade_tasks_ended_total function=ok,pool=POOL,status=completed") == Some(3)
    });
    assert_eq!(value("stockade_tasks_submitted_total function=ok,pool=POOL"), Some(3));
    assert_eq!(value("stockade_task_wall_time_seconds function=ok,pool=POOL"), Some(3));

    pool.sample_metrics();
    assert_eq!(value("stockade_workers pool=POOL,state=idle"), Some(1));
    assert_eq!(value("stockade_tasks_pending pool=POOL"), Some(0));
    let victim = pool.workers()[0].pid;
    stockade_tests::kill(victim);
    eventually("the worker is counted as lost", || {
        value("stockade_workers_lost_total pool=POOL") == Some(1)
    });
    pool.shutdown();
    let documented: BTreeSet<_> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(book.names(&name), documented);
}

#[test]
fn each_item_of_a_map_is_counted_once_whatever_becomes_of_it() {
    let book = &*BOOK;
    let pool = wat(r#"(module (func (export "ok") (param i32)))"#).metrics().build().unwrap();
    let name = pool.name().to_owned();
    let value = |key: &str| book.value(&key.replace("POOL", &name)).unwrap_or_default();
    assert_eq!(pool.map::<(), _, _>("ok", 0..100).map(Result::unwrap).count(), 100);
    let mut dropped = pool.map::<(), _, _>("ok", 0..1000).chunk_size(100).submit_all();
    dropped.next().unwrap().unwrap();
    drop(dropped);
    let closing = pool.clone();
    let items = (0..10).inspect(move |number| {
        if *number == 3 {
            closing.shutdown();
        }
    });
    assert_eq!(pool.map::<(), _, _>("ok", items).chunk_size(10).count(), 1);
    let submitted = || value("stockade_tasks_submitted_total function=ok,pool=POOL");
    let ended = |status| {
        value(&format!("stockade_tasks_ended_total function=ok,pool=POOL,status={status}"))
    };
    // What a closed pool refuses was never submitted.
    assert_eq!(submitted(), 1100);
    eventually("each is counted", || ended("completed") + ended("cancelled") == submitted());
}

#[test]
fn a_pool_that_does_not_ask_is_not_counted() {
    let book = &*BOOK;
    let pool = wat(r#"(module (func (export "ok")))"#).build().unwrap();
    pool.run::<()>("ok", ()).unwrap();
    let name = pool.name().to_owned();
    pool.shutdown();
    assert_eq!(book.names(&name), BTreeSet::new());
}

#[test]
fn names_say_what_they_are() {
    for metric in METRICS {
        let is_total = metric.name.ends_with("_total");
        assert_eq!(is_total, metric.kind == MetricKind::Counter, "{}", metric.name);
        assert!(metric.name.starts_with("stockade_") && !metric.help.is_empty());
    }
}

#[test]
fn every_metric_stands_in_the_documentation_with_its_kind_and_no_other_does() {
    let page = stockade_tests::repository().join("docs/seeing-inside.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows: BTreeSet<(String, String)> = page
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `stockade_")?.split_once("` | ")?;
            Some((format!("stockade_{name}"), rest.split(' ').next()?.to_owned()))
        })
        .collect();
    let kind_of = |kind| match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    };
    let counted = METRICS.iter().map(|metric| (metric.name.into(), kind_of(metric.kind).into()));
    assert_eq!(rows, counted.collect());
}

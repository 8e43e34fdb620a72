//! What watchers of the program are told by `tracing`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use stockade::Limits;
use stockade_tests::{eventually, numbers, wat};
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber, span};

/// Fields by their names.
type Fields = BTreeMap<String, String>;

/// What was told, in order.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Vec<Fields>>>);

struct Listener {
    target: &'static str,
    told: Told,
}

impl Told {
    fn all(&self) -> Vec<Fields> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, add: impl FnOnce(&mut Vec<Fields>)) {
        add(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

struct Reader<'a>(&'a mut Fields);

impl Visit for Reader<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().into(), format!("{value:?}"));
    }
}

/// A span's number is its place among what was told, from 1.
impl Subscriber for Listener {
    /// Whatever another test's thread decided for its own listener, or for lack of one, counts for
    /// every thread; so nobody decides once for all.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == self.target
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut number = 0;
        self.told.note(|told| {
            let mut fields = Fields::new();
            attributes.record(&mut Reader(&mut fields));
            told.push(fields);
            number = told.len() as u64;
        });
        span::Id::from_u64(number)
    }

    fn record(&self, id: &span::Id, values: &span::Record<'_>) {
        self.told.note(|told| values.record(&mut Reader(&mut told[id.into_u64() as usize - 1])));
    }

    fn event(&self, event: &Event<'_>) {
        self.told.note(|told| {
            let mut fields = Fields::new();
            event.record(&mut Reader(&mut fields));
            told.push(fields);
        });
    }

    fn try_close(&self, id: span::Id) -> bool {
        self.told.note(|told| {
            told[id.into_u64() as usize - 1].insert("closed".into(), "true".into());
        });
        true
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn a_task_is_a_span_from_its_submission_to_its_end() {
    LazyLock::force(&WORKERS);
    let pool = numbers().build().unwrap();
    let told = Told::default();
    let listener = Listener { target: "stockade::task", told: told.clone() };
    let ended = tracing::subscriber::with_default(listener, || {
        let options = stockade::TaskOptions::default().label("urgent");
        pool.submit_with::<i32>("add", (1, 2), options).unwrap().result()
    });
    assert_eq!(ended.unwrap(), 3);
    // Told after the caller has its result, by whoever ended the task.
    eventually("the span is closed", || {
        told.all().first().is_some_and(|span| span.contains_key("closed"))
    });
    let span = told.all().remove(0);
    for (field, value) in [
        ("task", "1"),
        ("function", "add"),
        ("label", "\"urgent\""),
        ("status", "\"completed\""),
        ("worker", "1"),
        ("attempt", "1"),
    ] {
        assert_eq!(span.get(field).map(String::as_str), Some(value), "{field} of {span:?}");
    }
    for field in ["pool", "queue_wait_us", "wall_time_us", "cpu_time_us"] {
        assert!(span.contains_key(field), "{field} of {span:?}");
    }
}

#[test]
fn a_module_is_a_span_for_each_step_of_its_compilation() {
    LazyLock::force(&WORKERS);
    let told = Told::default();
    let listener = Listener { target: "stockade::compile", told: told.clone() };
    tracing::subscriber::with_default(listener, || numbers().build().unwrap());
    let spans = told.all();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0]["step"], "Compile");
    assert!(spans[0].contains_key("closed"));
}

/// What all threads of this process are told of workers; set once, as the process has one such. Every
/// test here sets it first: a thread without any listener would decide that nobody listens.
static WORKERS: LazyLock<Told> = LazyLock::new(|| {
    let told = Told::default();
    let listener = Listener { target: "stockade::worker", told: told.clone() };
    tracing::subscriber::set_global_default(listener).unwrap();
    told
});

#[test]
fn workers_are_told_of_as_they_start_and_end() {
    LazyLock::force(&WORKERS);
    let endless = r#"(module (func (export "spin") (loop $l (br $l))) (func (export "ok")))"#;
    let limits = Limits::default().wall_time(std::time::Duration::from_millis(50));
    let pool = wat(endless).limits(limits).build().unwrap();
    pool.run::<()>("spin", ()).unwrap_err();
    let ended = pool.submit::<()>("ok", ()).unwrap();
    ended.result().unwrap();
    // Not the one that is killed for its deadline, and may still be there.
    let worker = ended.report().worker;
    let victim = pool.workers().iter().find(|info| Some(info.id) == worker).unwrap().pid;
    stockade_tests::kill(victim);
    eventually("the worker is gone", || pool.workers().iter().all(|worker| worker.pid != victim));
    let name = pool.name().to_owned();
    pool.shutdown();
    let told: Vec<_> = WORKERS
        .all()
        .into_iter()
        .filter(|fields| fields["worker"].trim_matches('"').starts_with(&name))
        .map(|fields| fields["message"].clone())
        .collect();
    let lost = told.iter().filter(|message| *message == "a worker was lost").count();
    let started = told.iter().filter(|message| *message == "a worker was started").count();
    let ended = told.iter().filter(|message| *message == "a worker has ended").count();
    assert_eq!((lost, started), (1, lost + ended), "{told:?}");
    assert!(ended >= 1, "{told:?}");
}

//! 88, 89: floods of messages from a worker.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use stockade::{Bytes, Limits, TaskError};
use stockade_tests::{Gate, PATIENCE, wat};
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber, span};

use super::super::seen;
use super::{assert_each_costs_its_worker_and_one_task, cost_of, hostile};

/// Workers of the pool that is flooded.
const WORKERS: usize = 2;

/// The most messages that one call handles: three turns, each of so many messages, and as many of each
/// busy worker where a deadline has come.
const CALL_MESSAGES_MAX: usize = 3 * 1024 * (1 + WORKERS);

/// Items of the flood, many times as many.
const ITEMS: usize = 1_000_000;

/// Counts what turns of the calling thread have heard.
#[derive(Clone, Default)]
struct Heard(Arc<AtomicUsize>);

impl Heard {
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl Visit for &Heard {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "messages" {
            self.0.fetch_add(value as usize, Ordering::Relaxed);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

impl Subscriber for Heard {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "stockade::turn"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut &*self);
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Submits while a task emits [`ITEMS`] items as fast as it can: the most messages that one call of
/// `submit` handled.
fn most_heard_in_a_submission() -> usize {
    let module = format!(
        r#"(module (import "stockade" "emit" (func $emit (param i32 i32)))
            (memory (export "memory") 1)
            (func (export "flood") (result i32) (local $n i32)
                (loop $more
                    (call $emit (i32.const 0) (i32.const 0))
                    (local.set $n (i32.add (local.get $n) (i32.const 1)))
                    (br_if $more (i32.lt_u (local.get $n) (i32.const {ITEMS}))))
                (i32.const 0))
            (func (export "quick") (result i32) (i32.const 0)))"#
    );
    let limits = Limits::default().output_bytes(128 << 20).wall_time(PATIENCE);
    let pool = wat(&module).max_workers(WORKERS).limits(limits).build().unwrap();
    let submit = |name: &str| pool.submit::<Vec<u8>>(name, Bytes(Vec::new())).unwrap();
    submit("quick").result().unwrap();
    let heard = Heard::default();
    let flood = submit("flood");
    let most = tracing::subscriber::with_default(heard.clone(), || {
        let mut most = 0;
        while !flood.is_done() {
            heard.take();
            let quick = submit("quick");
            most = most.max(heard.take());
            quick.result().unwrap();
        }
        most
    });
    flood.result().unwrap();
    // As many items as it may emit are no flood to be punished.
    assert_eq!(flood.emitted::<Vec<u8>>().count(), ITEMS);
    assert_eq!(pool.workers().iter().map(|worker| worker.id.0).max(), Some(WORKERS as u64));
    most
}

#[test]
fn a88_a_flood_ends_its_worker_or_costs_nobody_else_their_time() {
    assert_each_costs_its_worker_and_one_task(&["items-of-no-task", "bells-without-end"]);
    floods_of_a_worker_that_closes();
    let most = most_heard_in_a_submission();
    assert!(most <= CALL_MESSAGES_MAX, "a call of `submit` handled {most} messages");
    seen(
        88,
        &format!(
            "items of no task and bells for nothing: killed, one task of ten lost; `Closed` or a finalizer's items without end: killed; beside a task that emits {ITEMS} items, which it may, no call of `submit` handles more than {CALL_MESSAGES_MAX} messages"
        ),
    );
}

/// A worker that is to close says so, or emits items of its finalizer, without end: it has an hour for
/// that, which nobody waits for.
fn floods_of_a_worker_that_closes() {
    for evil in ["closed-without-end", "finalizer-items-without-end"] {
        let gate = Gate::new();
        gate.open();
        let pool = hostile(evil, &gate).finalizer("nothing", ());
        let pool = pool.shutdown_grace_period(Duration::from_secs(3600)).build().unwrap();
        assert_eq!(pool.spawn_workers(1).unwrap(), 1);
        let (said, ended) = mpsc::channel();
        std::thread::spawn(move || said.send(pool.shutdown()));
        assert_eq!(ended.recv_timeout(PATIENCE), Ok(true), "{evil}");
    }
}

#[test]
fn a89_what_a_worker_says_beyond_its_promises_is_not_taken() {
    let beyond = [
        "long-error",
        "long-panic",
        "long-message",
        "many-frames",
        "long-frame",
        "long-log",
        "too-many-results",
    ];
    assert_each_costs_its_worker_and_one_task(&beyond);
    // As long as it may be.
    let cost = cost_of("long-errors-of-all");
    let bytes = |error: &TaskError| match error {
        TaskError::Guest(error) => {
            let rest =
                [&error.location, &error.data].map(|text| text.as_ref().map_or(0, String::len));
            error.message.len() + rest.iter().sum::<usize>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(cost.errors.iter().map(bytes).collect::<Vec<_>>(), vec![64 << 10; 10]);
    assert!(cost.survived);
    seen(
        89,
        &format!(
            "{} ways: killed, one task of ten lost; an error text of 64 KiB is taken as it is",
            beyond.len()
        ),
    );
}

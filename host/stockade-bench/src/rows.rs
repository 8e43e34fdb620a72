//! The rows of the table: each figure with what it is compared with and what it must reach.
//!
//! A row without references is judged by its value. Names in `of` and `against` are those of the
//! quantities in `groups`.

use crate::figure::Bound::{AtLeast, AtMost};
use crate::turns::Row;

/// The group `throughput`.
pub(crate) const THROUGHPUT: [Row; 12] = [
    Row {
        name: "map",
        unit: "tasks/s",
        of: "map",
        against: &["two processes"],
        reference: "2 processes without IPC",
        target: Some(AtLeast(1.2)),
        stretch: Some(AtLeast(1.6)),
    },
    Row {
        name: "map, chunk_size(1)",
        unit: "tasks/s",
        of: "map, one by one",
        against: &["two processes"],
        reference: "2 processes without IPC",
        target: Some(AtLeast(0.9)),
        stretch: Some(AtLeast(1.2)),
    },
    Row {
        name: "submit, 10,000 in flight",
        unit: "tasks/s",
        of: "submit",
        against: &["two processes"],
        reference: "2 processes without IPC",
        target: Some(AtLeast(0.9)),
        stretch: Some(AtLeast(1.2)),
    },
    Row {
        name: "map beside threads",
        unit: "tasks/s",
        of: "map",
        against: &["threads"],
        reference: "2 threads in one process",
        target: Some(AtLeast(1.4)),
        stretch: Some(AtLeast(1.9)),
    },
    Row {
        name: "map beside asyncpal",
        unit: "tasks/s",
        of: "map",
        against: &["asyncpal"],
        reference: "asyncpal, chunk 1, native",
        target: Some(AtLeast(40.0)),
        stretch: Some(AtLeast(60.0)),
    },
    Row {
        name: "map beside concurrent.futures",
        unit: "tasks/s",
        of: "map",
        against: &["concurrent.futures"],
        reference: "concurrent.futures, chunk 1, native",
        target: Some(AtLeast(40.0)),
        stretch: Some(AtLeast(60.0)),
    },
    Row {
        name: "map beside multiprocessing.Pool",
        unit: "tasks/s",
        of: "map",
        against: &["multiprocessing.Pool"],
        reference: "multiprocessing.Pool, chunk 1, native",
        target: Some(AtLeast(8.0)),
        stretch: Some(AtLeast(14.0)),
    },
    Row {
        name: "map beside pebble",
        unit: "tasks/s",
        of: "map",
        against: &["pebble"],
        reference: "pebble, chunk 1, native",
        target: None,
        stretch: None,
    },
    Row {
        name: "map beside loky",
        unit: "tasks/s",
        of: "map",
        against: &["loky"],
        reference: "loky, chunk 1, native",
        target: None,
        stretch: None,
    },
    Row {
        name: "map, shared_instance, chunk 64",
        unit: "items/s",
        of: "map, chunks",
        against: &["multiprocessing.Pool, chunks"],
        reference: "multiprocessing.Pool, chunk 64, native",
        target: Some(AtLeast(1.0)),
        stretch: Some(AtLeast(2.0)),
    },
    Row {
        name: "map beside procspawn",
        unit: "tasks/s",
        of: "map",
        against: &["procspawn"],
        reference: "procspawn, window 32, native",
        target: Some(AtLeast(10.0)),
        stretch: Some(AtLeast(15.0)),
    },
    Row {
        name: "map beside a process per task",
        unit: "tasks/s",
        of: "map",
        against: &["process per task"],
        reference: "a process per task, precompiled",
        target: Some(AtLeast(400.0)),
        stretch: Some(AtLeast(600.0)),
    },
];

/// The group `scaling`.
pub(crate) const SCALING: [Row; 2] = [
    Row {
        name: "map with two workers",
        unit: "tasks/s",
        of: "two workers",
        against: &["one worker"],
        reference: "with one worker",
        target: Some(AtLeast(1.6)),
        stretch: Some(AtLeast(1.8)),
    },
    Row {
        name: "map with two workers, 4 under way",
        unit: "tasks/s",
        of: "two workers, 4 under way",
        against: &["one worker, 4 under way"],
        reference: "with one worker",
        target: Some(AtLeast(1.2)),
        stretch: Some(AtLeast(1.5)),
    },
];

/// The group `command`.
pub(crate) const COMMAND: [Row; 1] = [Row {
    name: "stockade map over lines",
    unit: "lines/s",
    of: "stockade map",
    against: &["map of lines"],
    reference: "the library's map",
    target: Some(AtLeast(0.7)),
    stretch: Some(AtLeast(0.9)),
}];

/// The group `latency`.
pub(crate) const LATENCY: [Row; 2] = [
    Row {
        name: "run, one at a time, p50",
        unit: "µs",
        of: "run",
        against: &["in process"],
        reference: "fresh task in process",
        target: Some(AtMost(1.8)),
        stretch: Some(AtMost(1.3)),
    },
    Row {
        name: "no-op round trip, p50",
        unit: "µs",
        of: "noop",
        against: &["pipe", "futex"],
        reference: "better of pipe and futex",
        target: Some(AtMost(1.3)),
        stretch: Some(AtMost(1.1)),
    },
];

/// The group `payload`.
pub(crate) const PAYLOAD: [Row; 2] = [
    Row {
        name: "16 MiB in and back, SharedBuffer",
        unit: "ms",
        of: "shared buffer",
        against: &["copies"],
        reference: "two memcpys",
        target: Some(AtMost(0.5)),
        stretch: Some(AtMost(0.33)),
    },
    Row {
        name: "16 MiB in and back, Vec",
        unit: "ms",
        of: "vec",
        against: &["copies"],
        reference: "two memcpys",
        target: Some(AtMost(1.6)),
        stretch: Some(AtMost(1.35)),
    },
];

/// The group `start`.
pub(crate) const START: [Row; 2] = [
    Row {
        name: "worker ready, with its first task",
        unit: "µs",
        of: "first task",
        against: &["true"],
        reference: "/bin/true, spawn and wait",
        target: Some(AtMost(1.3)),
        stretch: Some(AtMost(0.7)),
    },
    Row {
        name: "from deadline to the next result",
        unit: "µs",
        of: "replacement",
        against: &["true"],
        reference: "/bin/true, spawn and wait",
        target: Some(AtMost(2.0)),
        stretch: Some(AtMost(0.5)),
    },
];

/// The group `compute`.
pub(crate) const COMPUTE: [Row; 1] = [Row {
    name: "guest compute",
    unit: "Mrounds/s",
    of: "compute",
    against: &["bare compute"],
    reference: "wasmtime without checks",
    target: Some(AtLeast(0.97)),
    stretch: Some(AtLeast(0.99)),
}];

/// The group `numbers`.
pub(crate) const NUMBERS: [Row; 1] = [Row {
    name: "map_slice of 1,000,000 i64",
    unit: "M items/s",
    of: "map_slice",
    against: &["bare loop"],
    reference: "wasmtime without checks, one call an item",
    target: Some(AtLeast(0.5)),
    stretch: Some(AtLeast(0.8)),
}];

/// The group `cpu`.
pub(crate) const CPU: [Row; 2] = [
    Row {
        name: "CPU per task",
        unit: "µs",
        of: "task",
        against: &["extism"],
        reference: "extism, fresh plugin",
        target: Some(AtMost(0.04)),
        stretch: Some(AtMost(0.025)),
    },
    Row {
        name: "the host's CPU per item of a map",
        unit: "µs",
        of: "host",
        against: &[],
        reference: "",
        target: Some(AtMost(0.5)),
        stretch: Some(AtMost(0.25)),
    },
];

/// The group `fresh`.
pub(crate) const FRESH: [Row; 5] = [
    Row {
        name: "fresh instance",
        unit: "µs",
        of: "fresh",
        against: &["bare fresh"],
        reference: "wasmtime, pooling and page map",
        target: Some(AtMost(0.7)),
        stretch: Some(AtMost(0.5)),
    },
    Row {
        name: "fresh instance that grows",
        unit: "µs",
        of: "growing",
        against: &["bare growing"],
        reference: "wasmtime, pooling and page map",
        target: None,
        stretch: None,
    },
    Row {
        name: "fresh interpreter, 1,000 pages written",
        unit: "µs",
        of: "interpreter",
        against: &["bare interpreter"],
        reference: "wasmtime, pooling and page map",
        target: Some(AtMost(0.15)),
        stretch: Some(AtMost(0.08)),
    },
    Row {
        name: "QuickJS, a small script",
        unit: "µs",
        of: "script",
        against: &["bare script"],
        reference: "wasmtime, pooling and page map",
        target: None,
        stretch: None,
    },
    Row {
        name: "QuickJS, an empty script",
        unit: "µs",
        of: "empty",
        against: &["bare empty"],
        reference: "wasmtime, pooling and page map",
        target: None,
        stretch: None,
    },
];

/// The group `idle`.
pub(crate) const IDLE: [Row; 5] = [
    Row {
        name: "private memory of an idle worker",
        unit: "MiB",
        of: "memory",
        against: &[],
        reference: "",
        target: Some(AtMost(2.0)),
        stretch: Some(AtMost(1.3)),
    },
    Row {
        name: "wake-ups of an idle pool",
        unit: "1/s",
        of: "wake-ups",
        against: &[],
        reference: "",
        target: Some(AtMost(0.0)),
        stretch: None,
    },
    Row {
        name: "CPU of an idle pool",
        unit: "µs/s",
        of: "cpu",
        against: &[],
        reference: "",
        target: None,
        stretch: None,
    },
    Row {
        name: "memory per queued task, of 1,000,000",
        unit: "B",
        of: "queue",
        against: &[],
        reference: "",
        target: Some(AtMost(200.0)),
        stretch: Some(AtMost(100.0)),
    },
    Row {
        name: "memory per queued item of map_all, of 1,000,000",
        unit: "B",
        of: "queued items",
        against: &[],
        reference: "",
        target: Some(AtMost(60.0)),
        stretch: Some(AtMost(24.0)),
    },
];

//! What is counted: the host's work for a task, in pieces that are the same each time.

use std::hint::black_box;
use std::io::Cursor;
use std::time::Duration;

use stockade::counting;
use stockade_wire::frame::{self, Body, FrameReader};
use stockade_wire::{
    Call, Callee, Captured, Codec, Finished, HostMessage, Invocation, Limits, Log, Metrics,
    ModuleId, Outcome, Run, StatusPage, TaskId, WorkerMessage, codec,
};

/// A piece of work for so many tasks.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: fn(u64),
}

/// All of them.
pub(crate) const SCENARIOS: [Scenario; 7] = [
    Scenario { name: "dispatch, one", run: |tasks| dispatch(tasks, 1) },
    Scenario { name: "dispatch, 64", run: |tasks| dispatch(tasks, 64) },
    Scenario { name: "dispatch, all queued", run: |tasks| dispatch(tasks, usize::MAX) },
    Scenario { name: "submit a task", run: counting::submit },
    Scenario { name: "encode a task", run: encode },
    Scenario { name: "decode an answer", run: decode },
    Scenario { name: "slot of the page", run: slots },
];

const PAYLOAD: [u8; 64] = [7; 64];

/// The dispatcher, with so many tasks under way.
fn dispatch(tasks: u64, in_flight: usize) {
    assert_eq!(counting::dispatch(tasks, in_flight), tasks);
}

/// Tasks as the host writes them.
fn encode(tasks: u64) {
    let mut frames = Vec::with_capacity(1 << 20);
    for number in 1..=tasks {
        let (export, input) = (Callee::Number(0), black_box(PAYLOAD).to_vec());
        let call = Call { export, codec: Codec::Raw, input };
        let run = HostMessage::Run(Run {
            task: TaskId(number),
            module: ModuleId(0),
            invocation: Invocation::Task(call),
            limits: None,
            slot: (number % 8) as u8,
            share: None,
            placement: None,
        });
        frames.clear();
        frame::encode_inline(&run, &mut frames).expect("a task can be encoded");
        black_box(&frames);
    }
}

/// Answers as the host reads them: all of one stream.
fn decode(tasks: u64) {
    let mut frames = Vec::new();
    for number in 1..=MANY_ANSWERS {
        let finished = WorkerMessage::Finished(Box::new(Finished {
            task: TaskId(number),
            outcome: Outcome::Returned(PAYLOAD.to_vec()),
            metrics: Metrics {
                wall_time: Duration::from_micros(9),
                cpu_time: Duration::from_micros(8),
                fuel: None,
                memory_peak_bytes: 18 << 16,
            },
            stdout: Captured::default(),
            stderr: Captured::default(),
            log: Log::default(),
            log_dropped: 0,
        }));
        frame::encode_inline(&finished, &mut frames).expect("an answer can be encoded");
    }
    let mut reader = FrameReader::new(Cursor::new(frames), Limits::default().frame_bytes());
    for _ in 0..tasks {
        let body = reader.read().expect("every frame is whole").expect("there are enough");
        let Body::Inline(bytes) = body else { panic!("a body is out of line") };
        black_box(codec::decode::<WorkerMessage>(bytes).expect("every body is a message"));
    }
}

/// As many answers as any run reads: written in every run, so that they do not count.
const MANY_ANSWERS: u64 = 3_000;

/// A slot from the offer of a task to its start.
fn slots(tasks: u64) {
    let page = StatusPage::create().expect("there is memory for a page");
    for number in 1..=tasks {
        let slot = (number % 8) as u8;
        page.offer(slot, TaskId(number));
        assert!(page.start(black_box(slot), TaskId(number)));
    }
}

//! What is counted: the host's work for a task, in pieces that are the same each time.

use std::hint::black_box;
use std::io::Cursor;
use std::time::Duration;

use stockade::counting;
use stockade_wire::frame::{self, Body, FrameReader};
use stockade_wire::{
    Call, Callee, Codec, Finished, HostMessage, Invocation, Limits, Metrics, ModuleId, Outcome,
    PageSlot, Returned, Run, StatusPage, TaskId, TaskRange, WorkerMessage,
};

/// A piece of work for so many tasks.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: fn(u64),
}

/// All of them.
pub(crate) const SCENARIOS: [Scenario; 9] = [
    Scenario { name: "dispatch, one", run: |tasks| dispatch(tasks, 1, 1) },
    Scenario { name: "dispatch, 64", run: |tasks| dispatch(tasks, 64, 1) },
    Scenario { name: "dispatch, all queued", run: |tasks| dispatch(tasks, usize::MAX, 1) },
    Scenario { name: "dispatch, in batches", run: |tasks| dispatch(tasks, 64, BATCH) },
    Scenario { name: "submit a task", run: counting::submit },
    Scenario { name: "encode a task", run: |tasks| encode(tasks, 1) },
    Scenario { name: "encode a task of a batch", run: |tasks| encode(tasks, BATCH) },
    Scenario { name: "decode an answer", run: decode },
    Scenario { name: "slot of the page", run: slots },
];

const PAYLOAD: [u8; 64] = [7; 64];

/// Tasks of a batch; a divisor of how many are counted.
const BATCH: u32 = 20;

/// The dispatcher, with so many tasks under way, in batches of so many.
fn dispatch(tasks: u64, in_flight: usize, batch: u32) {
    assert_eq!(counting::dispatch(tasks, in_flight, batch), tasks);
}

/// Tasks as the host writes them.
fn encode(tasks: u64, batch: u32) {
    let mut frames = Vec::with_capacity(1 << 20);
    for number in (1..=tasks).step_by(batch as usize) {
        let (export, input) = (Callee::Number(0), black_box(PAYLOAD).repeat(batch as usize));
        let call = Call { export, codec: Codec::Raw, input };
        let lengths =
            if batch > 1 { vec![PAYLOAD.len() as u32; batch as usize] } else { Vec::new() };
        let run = HostMessage::Run(Run {
            tasks: TaskRange::new(TaskId(number), batch).expect("a batch has tasks"),
            module: ModuleId(0),
            invocation: Invocation::Task(call),
            lengths,
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
        let metrics = Metrics {
            wall_time: Duration::from_micros(9),
            cpu_time: Duration::from_micros(8),
            fuel: None,
            memory_peak_bytes: 18 << 16,
        };
        let answer = Finished::new(TaskId(number), Outcome::Returned(PAYLOAD.to_vec()));
        let finished = WorkerMessage::Finished(Finished { metrics, ..answer });
        frame::encode_inline(&finished, &mut frames).expect("an answer can be encoded");
    }
    let mut reader = FrameReader::new(Cursor::new(frames), Limits::default().frame_bytes());
    for _ in 0..tasks {
        let body = reader.read().expect("every frame is whole").expect("there are enough");
        let Body::Inline(bytes) = body else { panic!("a body is out of line") };
        // As the host's port does.
        match Returned::read(bytes) {
            Some(returned) => _ = black_box(returned.output_in(bytes)),
            None => panic!("the commonest answer is read where it lies"),
        }
    }
}

/// As many answers as any run reads: written in every run, so that they do not count.
const MANY_ANSWERS: u64 = 3_000;

/// A slot from the offer of a task to its start.
fn slots(tasks: u64) {
    let page = StatusPage::create().expect("there is memory for a page");
    for number in 1..=tasks {
        let slot = (number % 8) as u8;
        page.offer(slot, TaskId(number).into());
        let place = PageSlot { slot: black_box(slot), first: TaskId(number), index: 0 };
        assert!(page.start(place));
    }
}

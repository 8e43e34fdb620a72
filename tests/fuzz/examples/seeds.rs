//! Writes the first inputs of each target's corpus: one of each kind of thing that is read, so that
//! the fuzzer begins behind the first checks.
//!
//! `cargo run --manifest-path tests/fuzz/Cargo.toml --example seeds -- FOLDER`

use std::fs;
use std::path::Path;
use std::time::Duration;

use stockade_wire::codec::{self, Encode};
use stockade_wire::{
    Call, Callee, Captured, Codec, CommandCall, CompileLimits, CompileReply, CompileRequest,
    CompileStep, Confinement, Coredumps, Export, ExportType, Failure, Finished, Frame, Grants,
    GuestError, HostMessage, Instances, Invocation, Limits, Load, LockdownReport, Log, Metrics,
    ModuleDescription, ModuleId, Outcome, Refusal, RefusalKind, Run, Scalar, Setup, SourcePlace,
    Stdin, StdioSink, TaskId, TrapKind, ValueType, WorkerId, WorkerMessage, Written, frame,
};

fn main() {
    let folder = std::env::args().nth(1).expect("a folder");
    let folder = Path::new(&folder);
    write(folder, "wire", wire());
    write(folder, "manifest", manifest());
    write(folder, "results", results());
    write(folder, "cache", cache());
    write(folder, "admission", admission());
}

fn write(folder: &Path, target: &str, seeds: Vec<Vec<u8>>) {
    let folder = folder.join(target);
    fs::create_dir_all(&folder).expect("a folder");
    for (number, seed) in seeds.into_iter().enumerate() {
        fs::write(folder.join(format!("seed-{number:02}")), seed).expect("a file");
    }
}

/// The bytes that `arbitrary` reads the variant `index` of `count` from.
fn variant(index: u64, count: u64) -> [u8; 4] {
    (((index << 32).div_ceil(count)) as u32).to_le_bytes()
}

fn wire() -> Vec<Vec<u8>> {
    let limits = Limits::default();
    let run = |invocation| {
        HostMessage::Run(Run {
            tasks: TaskId(1).into(),
            module: ModuleId(0),
            invocation,
            lengths: vec![],
            limits: Some(Box::new(limits.clone())),
            slot: 0,
            share: None,
            placement: None,
        })
    };
    let command = CommandCall {
        args: vec!["a".into()],
        env: vec![("k".into(), "v".into())],
        stdin: Stdin::Bytes(b"in".into()),
        stdout: StdioSink::Captured,
        stderr: StdioSink::Captured,
    };
    let setup = Setup {
        worker: WorkerId(1),
        name: "w".into(),
        engine: limits.engine_settings(),
        limits: limits.clone(),
        grants: Grants::none().env("k", "v"),
        instances: Instances::PerTask,
        confinement: Confinement::default(),
        modules: 1,
        memories: 2,
        rings: true,
        coredumps: Some(Coredumps::default()),
    };
    let load = Load {
        module: ModuleId(0),
        name: "m".into(),
        functions: vec!["e".into(), "f".into()],
        initializer: None,
        finalizer: None,
        initialized: false,
    };
    let call = |export: Callee| Call { export, codec: Codec::Raw, input: vec![1, 2, 3] };
    let host = [
        HostMessage::Setup(setup),
        HostMessage::Load(load),
        run(Invocation::Task(call("f".into()))),
        run(Invocation::Task(call(Callee::Number(1)))),
        run(Invocation::Scalar { export: "f".into(), args: vec![Scalar::I32(1), Scalar::F64(2)] }),
        run(Invocation::Column { export: Callee::Number(1), input: vec![1, 0, 0, 0] }),
        run(Invocation::Command { entry: "_start".into(), call: command }),
        HostMessage::Close,
    ];
    let error = || GuestError { message: "m".into(), location: Some("l".into()), data: None };
    let frame = || Frame { function: "f".into(), index: 1, offset: Some(2) };
    let outcomes = [
        Outcome::Returned(vec![1, 2]),
        Outcome::Scalars(vec![Scalar::I64(1)]),
        Outcome::Exited(1),
        Outcome::Recalled,
        Outcome::ItemFailed { index: 1, failure: Failure::Output { limit: 1 } },
        Outcome::Failed(Failure::Panic(Box::new(error()), vec![frame()])),
        Outcome::Failed(Failure::Trap {
            kind: TrapKind::Unreachable,
            message: "t".into(),
            backtrace: vec![],
        }),
        Outcome::Failed(Failure::Memory { limit: 1, wanted: 2 }),
    ];
    let finished = |outcome| {
        let metrics = Metrics { wall_time: Duration::from_millis(1), ..Metrics::default() };
        let stdout = Captured { bytes: b"out".into(), dropped: 1 };
        let written = Written { stdout, log: log(), ..Written::default() }.if_any();
        WorkerMessage::Finished(Finished { metrics, written, ..Finished::new(TaskId(1), outcome) })
    };
    let mut worker: Vec<_> = outcomes.into_iter().map(finished).collect();
    // As most do.
    let returned = |bytes| Finished::new(TaskId(1), Outcome::Returned(vec![7; bytes]));
    worker.extend([0, 2, 300].map(returned).map(WorkerMessage::Finished));
    worker.extend([
        WorkerMessage::Ready(LockdownReport(Vec::new())),
        WorkerMessage::LoadFailed(ModuleId(0), "why".into()),
        WorkerMessage::Emitted(TaskId(1), vec![1]),
        WorkerMessage::Dumped { task: TaskId(1), piece: vec![0, 97], left_out: 1 },
        WorkerMessage::Closed,
    ]);
    let request = CompileRequest {
        step: CompileStep::Compile,
        engine: limits.engine_settings(),
        text: true,
        limits: CompileLimits::default(),
        exposed: false,
    };
    let refused = Refusal { kind: RefusalKind::Limit, message: "why".into() };
    let place = SourcePlace { function: Some("f".into()), line: Some(1), ..SourcePlace::default() };
    let replies = [
        CompileReply::Compiled(description()),
        CompileReply::Refused(refused),
        CompileReply::Located(vec![vec![place], vec![]]),
    ];
    vec![
        stream(0, &host),
        stream(1, &worker),
        stream(2, &[request]),
        stream(3, &replies),
        [&variant(1, 4)[..], &[9; 4], &frame::out_of_line_header(1000)].concat(),
    ]
}

fn stream<M: Encode>(side: u64, messages: &[M]) -> Vec<u8> {
    let mut out = [&variant(side, 4)[..], &[1, 0, 7, 255]].concat();
    for message in messages {
        frame::encode_inline(message, &mut out).expect("a message");
    }
    out
}

fn description() -> ModuleDescription {
    let function = ExportType::Function { params: vec![ValueType::I32], results: vec![] };
    ModuleDescription {
        wasm_bytes: 8,
        exports: vec![
            Export { name: "f".into(), kind: function },
            Export { name: "memory".into(), kind: ExportType::Memory },
        ],
        warnings: vec!["a warning".into()],
        ..ModuleDescription::default()
    }
}

fn manifest() -> Vec<Vec<u8>> {
    let record = r#"{"abi":1,"kind":"task","name":"first","export":"a","doc":"Counts.","params":[{"name":"text","type":"String"}],"result":"u64"}"#;
    let setup = r#"{"abi":1,"kind":"initializer","name":"setup","export":"b"}"#;
    [
        format!("\0{record}\n{setup}\0\0"),
        format!("\u{1}{record}{record}"),
        format!("\u{2}{}", record.replace("\"a\"", "\"wrong\"")),
        "\0{\"abi\":2}".into(),
        format!("\0{}", record.replace("task", "wizard")),
    ]
    .map(String::into_bytes)
    .into()
}

fn results() -> Vec<Vec<u8>> {
    // A task's result in a format, of the named type of a number, read as the wanted one.
    let task = |format: u64, name: u8, wanted: u64, bytes: &[u8]| {
        let ty = [&variant(1, 2)[..], &variant(0, 7), &[name]].concat();
        [&variant(0, 3)[..], &variant(format, 3), &ty, &variant(wanted, 11), bytes].concat()
    };
    let text = [&3u64.to_le_bytes()[..], b"abc"].concat();
    vec![
        task(0, 19, 3, b"text"),
        task(0, 19, 2, br#"{"a":[1,2.5,null]}"#),
        task(1, 16, 0, &text),
        task(1, 9, 0, &7u64.to_le_bytes()),
        task(1, 13, 0, &1.5f64.to_le_bytes()),
        task(1, 19, 6, &[&1u64.to_le_bytes()[..], &1u64.to_le_bytes(), &text, &[0]].concat()),
        task(1, 19, 9, &[1, 1, 1, 0]),
        task(1, 19, 10, &(1u64 << 20).to_le_bytes()),
        task(2, 19, 7, br#"{"name":"n","scores":[1.5],"choice":{"One":3},"rest":[1,"x",true]}"#),
        task(2, 19, 8, br#"{"Named":{"left":1,"right":"Nothing"}}"#),
    ]
}

fn cache() -> Vec<Vec<u8>> {
    let mut encoded = Vec::new();
    codec::encode(&description(), &mut encoded).expect("a description");
    let length = (encoded.len() as u16).to_le_bytes();
    let rest = [&encoded[..], b"code"].concat();
    vec![
        [&variant(2, 4)[..], &length, &rest].concat(),
        [&variant(3, 4)[..], &length, &[70, 0, 1], &rest].concat(),
        [&variant(1, 4)[..], &length, &[0; 32], &rest].concat(),
        [&variant(0, 4)[..], b"stockade\x01\0\0\0"].concat(),
    ]
}

fn admission() -> Vec<Vec<u8>> {
    let texts = [
        r#"(module (import "stockade" "input_len" (func (result i32))) (memory (export "memory") 1))"#,
        r#"(module (table 3 funcref) (func (export "f") (param i64 f32) (result f64) (f64.const 0)))"#,
        "(module (memory i64 1) (func $f (return_call $f)))",
        ";; (\n(; (; ;) ;) (module (func (export \"a\\u{1b}\")) (start 0))",
        r#"(module (@custom "stockade.tasks" "{}") (global i32 (i32.const 1)) (data "x"))"#,
        "(component)",
    ];
    let mut seeds = Vec::new();
    for text in texts {
        seeds.push([&variant(0, 4)[..], text.as_bytes()].concat());
        if let Ok(binary) = wat::parse_str(text) {
            seeds.push([&variant(0, 4)[..], &binary].concat());
        }
    }
    for (making, length) in [(1, 300), (1, 1500), (2, 400), (3, 700)] {
        let noise = (0..length).map(|number: u32| (number * number * 31 + number * 7) as u8);
        seeds.push(variant(making, 4).into_iter().chain(noise).collect());
    }
    seeds
}

/// A log of one line.
fn log() -> Log {
    let mut log = Log::default();
    log.push(1, "line");
    log
}

use std::time::Duration;

use super::*;
use crate::codec::{self, CodecError, Encode};
use crate::*;

fn bytes(message: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(message, &mut bytes).unwrap();
    bytes
}

#[track_caller]
fn assert_taken<M: Encode + Decode<()> + PartialEq + std::fmt::Debug>(message: &M) {
    assert_eq!(&codec::decode::<M>(&bytes(message)).unwrap(), message);
}

/// Refused for what it claims, and not because bytes are missing.
#[track_caller]
fn assert_refused<M: Encode + Decode<()> + std::fmt::Debug>(message: &M) {
    let refused = codec::decode::<M>(&bytes(message)).map(|_| ());
    let Err(CodecError::Decode(DecodeError::Other(_))) = refused else {
        panic!("{refused:?}");
    };
}

fn letters(count: usize) -> String {
    "a".repeat(count)
}

fn failed(failure: Failure) -> WorkerMessage {
    let outcome = Outcome::Failed(failure);
    let metrics = Metrics { wall_time: Duration::from_nanos(1), ..Metrics::default() };
    WorkerMessage::Finished(Finished { metrics, ..Finished::new(TaskId(1), outcome) })
}

fn frames(count: usize, name_bytes: usize) -> Vec<Frame> {
    let frame = Frame { function: letters(name_bytes), index: 1, offset: Some(2) };
    vec![frame; count]
}

fn error(message: usize, location: usize, data: usize) -> GuestError {
    GuestError {
        message: letters(message),
        location: (location > 0).then(|| letters(location)),
        data: (data > 0).then(|| letters(data)),
    }
}

#[test]
fn texts_and_lists_of_a_worker_are_taken_up_to_their_limits_and_no_further() {
    let message = cut(MESSAGE_BYTES_MAX);
    let name = cut(FRAME_NAME_BYTES_MAX);
    let trap = |text, backtrace| {
        failed(Failure::Trap { kind: TrapKind::Other, message: letters(text), backtrace })
    };
    let with_error = |error: GuestError| {
        [
            Failure::Error(Box::new(error.clone())),
            Failure::Panic(Box::new(error.clone()), Vec::new()),
            Failure::BadArguments(Box::new(error)),
        ]
        .map(failed)
    };
    let of_item = |bytes| {
        let failure = Failure::Guest(letters(bytes));
        Outcome::ItemFailed { index: u32::MAX, failure }
    };
    assert_taken(&of_item(message));
    assert_refused(&of_item(message + 1));
    let with_text = |text| {
        [
            WorkerMessage::SetupFailed(letters(text)),
            WorkerMessage::LoadFailed(ModuleId(1), letters(text)),
            failed(Failure::Guest(letters(text))),
            WorkerMessage::InitializerFailed(Failure::Guest(letters(text))),
            WorkerMessage::FinalizerFailed(Failure::Guest(letters(text))),
            trap(text, Vec::new()),
        ]
    };
    let with_frames = |count, name| {
        [
            trap(1, frames(count, name)),
            failed(Failure::Deadline { backtrace: frames(count, name) }),
            failed(Failure::Panic(Box::new(error(1, 1, 1)), frames(count, name))),
        ]
    };
    let scalars = |count| Outcome::Scalars(vec![Scalar::I32(7); count]);
    let layer =
        |text| LayerReport { layer: Layer::Seccomp, level: Level::Full, reason: letters(text) };
    let report = |count, text| WorkerMessage::Ready(LockdownReport(vec![layer(text); count]));

    with_text(message).iter().for_each(|message| assert_taken(message));
    with_text(message + 1).iter().for_each(|message| assert_refused(message));
    with_frames(BACKTRACE_FRAMES_MAX, name).iter().for_each(|message| assert_taken(message));
    with_frames(BACKTRACE_FRAMES_MAX + 1, 0).iter().for_each(|message| assert_refused(message));
    with_frames(1, name + 1).iter().for_each(|message| assert_refused(message));
    const MAX: usize = ERROR_TEXT_BYTES_MAX;
    for (message, location, data) in [(MAX, 0, 0), (0, MAX, 0), (0, 0, MAX), (MAX - 20, 10, 10)] {
        with_error(error(message, location, data)).iter().for_each(|taken| assert_taken(taken));
        for (m, l, d) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            let more = error(message + m, location + l, data + d);
            with_error(more).iter().for_each(|refused| assert_refused(refused));
        }
    }
    assert_taken(&scalars(SCALARS_MAX));
    assert_refused(&scalars(SCALARS_MAX + 1));
    assert_taken(&report(Layer::ALL.len(), message));
    assert_refused(&report(Layer::ALL.len() + 1, 0));
    assert_refused(&report(1, message + 1));
}

#[test]
fn texts_and_lists_of_a_compiler_are_taken_up_to_their_limits_and_no_further() {
    let (message, reason) = (cut(MESSAGE_BYTES_MAX), cut(REFUSAL_BYTES_MAX));
    let module = || ModuleDescription::default();
    let export = |name, types| Export {
        name: letters(name),
        kind: ExportType::Function {
            params: vec![ValueType::I32; types],
            results: vec![ValueType::Other; types],
        },
    };
    let import = |length| Import {
        module: letters(length),
        name: letters(length),
        type_name: letters(length),
    };
    let parameter = |name, text| Parameter { name: letters(name), type_name: letters(text) };
    let function = |name, export, text, params: Vec<Parameter>| ManifestFunction {
        kind: FunctionKind::Task,
        name: letters(name),
        export: letters(export),
        doc: letters(text),
        params,
        result: letters(text),
        reads_cells: false,
    };
    let (name, text) = (FUNCTION_NAME_BYTES_MAX, FUNCTION_TEXT_BYTES_MAX);
    let described =
        |exports: Vec<Export>, imports: Vec<Import>, functions: Vec<ManifestFunction>| {
            CompileReply::Compiled(ModuleDescription { exports, imports, functions, ..module() })
        };
    let exports = |exports| described(exports, vec![], vec![]);
    let imports = |imports| described(vec![], imports, vec![]);
    let functions = |functions| described(vec![], vec![], functions);
    let warnings = |count, length| {
        let warnings = vec![letters(length); count];
        CompileReply::Compiled(ModuleDescription { warnings, ..module() })
    };
    let place = |function, file| SourcePlace {
        function: Some(letters(function)),
        file: Some(letters(file)),
        line: Some(1),
        column: None,
    };
    let refused = |length| {
        let kind = RefusalKind::Malformed;
        CompileReply::Refused(Refusal { kind, message: letters(length) })
    };
    let (shown, file) = (cut(FRAME_NAME_BYTES_MAX), cut(FILE_NAME_BYTES_MAX));

    for taken in [
        exports(vec![export(NAME_BYTES_MAX, SIGNATURE_TYPES_MAX)]),
        exports(vec![export(0, 0); EXPORTS_MAX]),
        imports(vec![import(NAME_BYTES_MAX)]),
        imports(vec![import(0); IMPORTS_MAX]),
        functions(vec![function(name, NAME_BYTES_MAX, text, vec![])]),
        functions(vec![function(0, 0, 0, vec![parameter(name, text); PARAMETERS_MAX])]),
        functions(vec![function(0, 0, 0, vec![]); FUNCTIONS_MAX]),
        warnings(WARNINGS_MAX + 1, message),
        CompileReply::Located(vec![vec![place(shown, file); INLINED_MAX]; LOCATED_FRAMES_MAX]),
        CompileReply::Failed(letters(message)),
        refused(reason),
    ] {
        assert_taken(&taken);
    }
    for refused in [
        exports(vec![export(NAME_BYTES_MAX + 1, 0)]),
        exports(vec![export(0, SIGNATURE_TYPES_MAX + 1)]),
        exports(vec![export(0, 0); EXPORTS_MAX + 1]),
        imports(vec![import(NAME_BYTES_MAX + 1)]),
        imports(vec![import(0); IMPORTS_MAX + 1]),
        functions(vec![function(name + 1, 0, 0, vec![])]),
        functions(vec![function(0, NAME_BYTES_MAX + 1, 0, vec![])]),
        functions(vec![function(0, 0, text + 1, vec![])]),
        functions(vec![function(0, 0, 0, vec![parameter(0, 0); PARAMETERS_MAX + 1])]),
        functions(vec![function(0, 0, 0, vec![parameter(name + 1, 0)])]),
        functions(vec![function(0, 0, 0, vec![parameter(0, text + 1)])]),
        functions(vec![function(0, 0, 0, vec![]); FUNCTIONS_MAX + 1]),
        warnings(WARNINGS_MAX + 2, 0),
        warnings(1, message + 1),
        CompileReply::Located(vec![vec![]; LOCATED_FRAMES_MAX + 1]),
        CompileReply::Located(vec![vec![place(0, 0); INLINED_MAX + 1]]),
        CompileReply::Located(vec![vec![place(shown + 1, 0)]]),
        CompileReply::Located(vec![vec![place(0, file + 1)]]),
        CompileReply::Failed(letters(message + 1)),
        refused(reason + 1),
    ] {
        assert_refused(&refused);
    }
}

/// What is written by the derived form is read by hand: every variant has its number.
#[test]
fn every_variant_comes_back_as_itself() {
    let task = TaskId(3);
    let messages = [
        WorkerMessage::Ready(LockdownReport(Vec::new())),
        WorkerMessage::SetupFailed("no".into()),
        WorkerMessage::Loaded(ModuleId(1)),
        WorkerMessage::LoadFailed(ModuleId(1), "no".into()),
        WorkerMessage::Emitted(task, vec![1]),
        failed(Failure::Exited(1)),
        WorkerMessage::Initialized { state_bytes: 1 << 40 },
        WorkerMessage::InitializerFailed(Failure::Exited(1)),
        WorkerMessage::FinalizerFailed(Failure::Exited(1)),
        WorkerMessage::Closed,
        WorkerMessage::Dumped { task, piece: vec![1], left_out: 2 },
    ];
    messages.iter().for_each(|message| assert_taken(message));
    let failures = [
        Failure::Error(Box::new(error(1, 0, 0))),
        Failure::Panic(Box::new(error(1, 2, 0)), frames(1, 1)),
        Failure::BadArguments(Box::new(error(1, 2, 3))),
        Failure::Trap { kind: TrapKind::NullCall, message: letters(1), backtrace: frames(2, 1) },
        Failure::Deadline { backtrace: frames(1, 1) },
        Failure::Fuel { limit: 1 },
        Failure::Memory { limit: 1, wanted: 2 },
        Failure::Output { limit: 1 },
        Failure::Exited(-1),
        Failure::Guest(letters(1)),
    ];
    failures.iter().for_each(|failure| assert_taken(failure));
    let outcomes = [
        Outcome::Returned(vec![1]),
        Outcome::InFile(2),
        Outcome::Scalars(vec![Scalar::F64(3)]),
        Outcome::Exited(4),
        Outcome::Failed(Failure::Exited(5)),
        Outcome::Recalled,
        Outcome::ItemFailed { index: 6, failure: Failure::Exited(7) },
    ];
    outcomes.iter().for_each(|outcome| assert_taken(outcome));
    let replies = [
        CompileReply::Ready(LockdownReport(Vec::new())),
        CompileReply::Failed("no".into()),
        CompileReply::Compiled(ModuleDescription::default()),
        CompileReply::Refused(Refusal { kind: RefusalKind::Limit, message: "no".into() }),
        CompileReply::Located(vec![vec![SourcePlace::default()]]),
    ];
    replies.iter().for_each(|reply| assert_taken(reply));
    let kind = ExportType::Function { params: vec![ValueType::I32], results: vec![] };
    let kinds =
        [kind, ExportType::Memory, ExportType::Table, ExportType::Global, ExportType::Other];
    kinds.iter().for_each(|kind| assert_taken(kind));
    // The number behind the last is nothing.
    for (last, is_any) in [
        (10, codec::decode::<WorkerMessage>(&[11]).is_ok()),
        (9, codec::decode::<Failure>(&[10]).is_ok()),
        (6, codec::decode::<Outcome>(&[7]).is_ok()),
        (4, codec::decode::<CompileReply>(&[5]).is_ok()),
        (4, codec::decode::<ExportType>(&[5]).is_ok()),
    ] {
        assert!(!is_any, "{last} is not the last");
    }
}

//! Messages between the host and a compiler, which then is gone.
//!
//! ```text
//! host                                      compiler
//!   │── CompilerSetup ────────────────────────►│  locks itself down, with its threads inside
//!   │◄─────────────────────── Ready | Failed ──│
//!   │── CompileRequest + module … ────────────►│  reads the first hostile byte
//!   │◄ Compiled | Located | Refused | Failed ──│  then end of file
//! ```

use std::fmt;

use crate::bounds::{
    self, EXPORTS_MAX, FILE_NAME_BYTES_MAX, FRAME_NAME_BYTES_MAX, FUNCTION_NAME_BYTES_MAX,
    FUNCTION_TEXT_BYTES_MAX, FUNCTIONS_MAX, IMPORTS_MAX, INLINED_MAX, NAME_BYTES_MAX,
    PARAMETERS_MAX, REFUSAL_BYTES_MAX, SIGNATURE_TYPES_MAX, WARNINGS_MAX, impl_bounded_decode,
};
use crate::codec::{Decode, DecodeError, Decoder, Encode, impl_borrow_decode};
use crate::{CompileLimits, Confinement, EngineSettings, Features, LockdownReport, UnknownImports};

/// What a compiler must know before it hears of a module: the first thing that it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct CompilerSetup {
    /// How it confines itself.
    pub confinement: Confinement,
    /// How many threads compile. They are started before the lockdown is closed, which lets none start;
    /// so it is not the request that says it, and no request depends on it. One, and zero, is the main
    /// thread itself; above [`COMPILE_THREADS_MAX`](crate::COMPILE_THREADS_MAX) counts as that.
    pub threads: u32,
}

/// What the host asks of a compiler, with two or three descriptors: the module in a sealed memory
/// file, a memory file to write the artefact to, and for [`CompileStep::Snapshot`] the state.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct CompileRequest {
    /// What to make of the module.
    pub step: CompileStep,
    /// The engine to compile for.
    pub engine: EngineSettings,
    /// Whether the module may be in the text format.
    pub text: bool,
    /// What it may use.
    pub limits: CompileLimits,
    /// Whether its code is to be looked into where it traps: memory and globals are exported under
    /// names of the worker's own, and the code knows its places.
    pub exposed: bool,
}

/// Which step of a module's way to its artefact.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum CompileStep {
    /// Validate and describe; write nothing.
    Describe,
    /// Compile the module as it is.
    Compile,
    /// Compile it with every global and memory exported, for an initializer to run in.
    Instrument,
    /// Compile it with the state that an initializer left as its initial state.
    Snapshot,
    /// Say where in its source these places are, of which there are at most
    /// [`LOCATED_FRAMES_MAX`]; write nothing.
    Locate(Vec<CodePlace>),
}

impl CompileStep {
    /// Whether code is generated, which is what more than one thread is for.
    pub fn generates_code(&self) -> bool {
        match self {
            Self::Describe | Self::Locate(_) => false,
            Self::Compile | Self::Instrument | Self::Snapshot => true,
        }
    }
}

/// The most places of one [`CompileStep::Locate`].
pub const LOCATED_FRAMES_MAX: usize = 64;

/// A place in a module's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct CodePlace {
    /// The function's number, imported functions first.
    pub function: u32,
    /// Bytes from the beginning of its body.
    pub offset: u32,
}

/// A place in the source that a module was made from, as the module says. Every text is bounded and
/// none is true because it is here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode)]
pub struct SourcePlace {
    /// The function, which may have been inlined into another.
    pub function: Option<String>,
    /// The file, as the compiler knew it.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<u32>,
    /// The column, from 1.
    pub column: Option<u32>,
}

impl_bounded_decode!(SourcePlace {
    function: bounds::optional_text::<{ bounds::cut(FRAME_NAME_BYTES_MAX) }>,
    file: bounds::optional_text::<{ bounds::cut(FILE_NAME_BYTES_MAX) }>,
    line: Decode::decode,
    column: Decode::decode,
});

/// What a compiler answers. Hostile until checked.
#[derive(Clone, Debug, PartialEq, Encode)]
pub enum CompileReply {
    /// Locked down, so far as this says; before anything of the module is read.
    Ready(LockdownReport),
    /// It cannot do its work, for a reason that says nothing about the module: a layer that is required
    /// cannot be put on, or the system refuses what it needs.
    Failed(String),
    /// Done, with the artefact written.
    Compiled(ModuleDescription),
    /// The module is refused.
    Refused(Refusal),
    /// For each place that was asked for the functions that were inlined into one another there,
    /// innermost first; none where the module does not say.
    Located(Vec<Vec<SourcePlace>>),
}

/// The variants are numbered in their order.
impl<Context> Decode<Context> for CompileReply {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(match u32::decode(decoder)? {
            0 => Self::Ready(Decode::decode(decoder)?),
            1 => Self::Failed(bounds::message(decoder)?),
            2 => Self::Compiled(Decode::decode(decoder)?),
            3 => Self::Refused(Decode::decode(decoder)?),
            4 => Self::Located(bounds::list_of::<LOCATED_FRAMES_MAX, _, _>(
                decoder,
                bounds::list::<INLINED_MAX, SourcePlace, _>,
            )?),
            _ => return Err(DecodeError::Other("no such reply")),
        })
    }
}

impl_borrow_decode!(CompileReply);

/// Why a module is refused.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Refusal {
    /// What kind of reason.
    pub kind: RefusalKind,
    /// The reason in words.
    pub message: String,
}

impl_bounded_decode!(Refusal {
    kind: Decode::decode,
    message: bounds::text::<{ bounds::cut(REFUSAL_BYTES_MAX) }>,
});

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub enum RefusalKind {
    /// The bytes are no WebAssembly module: another file format, or empty.
    NotWasm,
    /// A component, where a module is needed.
    Component,
    /// Truncated, corrupt or not valid; or text that does not parse.
    Malformed,
    /// It uses a feature that no pool has on.
    Feature,
    /// It imports what Stockade does not provide.
    Import,
    /// It needs more memory, tables or code than the limits allow.
    Limit,
    /// Its initializer's effect cannot be snapshotted.
    Snapshot,
    /// The compiler itself failed, which says nothing about the module.
    Internal,
    /// It uses these features, which could be on and are off.
    FeaturesOff(Features),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What a module holds. Made by the compiler from the module; the guest's words in it are bounded
/// but not true because they are here.
#[derive(Clone, Debug, Default, PartialEq, Encode)]
pub struct ModuleDescription {
    /// Bytes of the module.
    pub wasm_bytes: u64,
    /// Exports in the order of the module.
    pub exports: Vec<Export>,
    /// Imports in the order of the module.
    pub imports: Vec<Import>,
    /// Functions of the manifest whose exports exist and have the right type.
    pub functions: Vec<ManifestFunction>,
    /// Bytes of memory at the start, all memories together.
    pub memory_min_bytes: u64,
    /// Table elements at the start, all tables together.
    pub table_min_elements: u64,
    /// The strictest setting that admits its imports.
    pub unknown_imports: UnknownImports,
    /// How many memories it has.
    pub memories: u32,
    /// Whether a start function runs in every new instance.
    pub has_start: bool,
    /// Whether it says in DWARF which lines of its source it was made from.
    pub has_debug_info: bool,
    /// What was ignored, and why: for people.
    pub warnings: Vec<String>,
}

impl_bounded_decode!(ModuleDescription {
    wasm_bytes: Decode::decode,
    exports: bounds::list::<EXPORTS_MAX, _, _>,
    imports: bounds::list::<IMPORTS_MAX, _, _>,
    functions: bounds::list::<FUNCTIONS_MAX, _, _>,
    memory_min_bytes: Decode::decode,
    table_min_elements: Decode::decode,
    unknown_imports: Decode::decode,
    memories: Decode::decode,
    has_start: Decode::decode,
    has_debug_info: Decode::decode,
    warnings: warnings,
});

impl ModuleDescription {
    /// Whether a module that was admitted to an engine of the same features is admitted to one of
    /// `settings`: what admission asks of a module's needs, for code that is there already.
    pub fn fits(&self, settings: &EngineSettings) -> bool {
        self.memory_min_bytes <= settings.memory_bytes
            && self.table_min_elements <= settings.table_elements
            && settings.unknown_imports.admits(self.unknown_imports)
    }
}

/// As many as there may be, and one that counts the others.
fn warnings<D: Decoder>(decoder: &mut D) -> Result<Vec<String>, DecodeError> {
    bounds::list_of::<{ WARNINGS_MAX + 1 }, _, _>(decoder, bounds::message)
}

/// An export.
#[derive(Clone, Debug, PartialEq, Encode)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ExportType,
}

impl_bounded_decode!(Export { name: bounds::text::<NAME_BYTES_MAX>, kind: Decode::decode });

/// What an export is.
#[derive(Clone, Debug, PartialEq, Encode)]
pub enum ExportType {
    /// A function.
    Function {
        /// Parameters in order.
        params: Vec<ValueType>,
        /// Results in order.
        results: Vec<ValueType>,
    },
    /// A linear memory.
    Memory,
    /// A table.
    Table,
    /// A global.
    Global,
    /// Anything else.
    Other,
}

/// The variants are numbered in their order.
impl<Context> Decode<Context> for ExportType {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(match u32::decode(decoder)? {
            0 => Self::Function { params: types(decoder)?, results: types(decoder)? },
            1 => Self::Memory,
            2 => Self::Table,
            3 => Self::Global,
            4 => Self::Other,
            _ => return Err(DecodeError::Other("no such kind of export")),
        })
    }
}

impl_borrow_decode!(ExportType);

fn types<D: Decoder>(decoder: &mut D) -> Result<Vec<ValueType>, DecodeError> {
    bounds::list::<SIGNATURE_TYPES_MAX, _, _>(decoder)
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ValueType {
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// A vector or a reference: no scalar.
    Other,
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Other => "(not a scalar)",
        })
    }
}

/// An import.
#[derive(Clone, Debug, PartialEq, Encode)]
pub struct Import {
    /// The module it is imported from.
    pub module: String,
    /// Its name there.
    pub name: String,
    /// Its type in words.
    pub type_name: String,
}

impl_bounded_decode!(Import {
    module: bounds::text::<NAME_BYTES_MAX>,
    name: bounds::text::<NAME_BYTES_MAX>,
    type_name: bounds::text::<NAME_BYTES_MAX>,
});

/// A function of the manifest.
#[derive(Clone, Debug, PartialEq, Encode)]
pub struct ManifestFunction {
    /// What it is for.
    pub kind: FunctionKind,
    /// The name that callers use.
    pub name: String,
    /// The export behind it.
    pub export: String,
    /// Its doc comment; may be empty.
    pub doc: String,
    /// Parameters in order.
    pub params: Vec<Parameter>,
    /// Its result's type as the source writes it; may be empty.
    pub result: String,
    /// Whether it reads JSON arguments that are cells of a table, as their types take them.
    pub reads_cells: bool,
}

impl_bounded_decode!(ManifestFunction {
    kind: Decode::decode,
    name: bounds::text::<FUNCTION_NAME_BYTES_MAX>,
    export: bounds::text::<NAME_BYTES_MAX>,
    doc: bounds::text::<FUNCTION_TEXT_BYTES_MAX>,
    params: bounds::list::<PARAMETERS_MAX, _, _>,
    result: bounds::text::<FUNCTION_TEXT_BYTES_MAX>,
    reads_cells: Decode::decode,
});

/// What a function of the manifest is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum FunctionKind {
    /// Called by the pool's users.
    Task,
    /// Runs before the tasks.
    Initializer,
    /// Runs when a worker closes.
    Finalizer,
}

/// A parameter of a function of the manifest.
#[derive(Clone, Debug, PartialEq, Encode)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its type as the source writes it.
    pub type_name: String,
}

impl_bounded_decode!(Parameter {
    name: bounds::text::<FUNCTION_NAME_BYTES_MAX>,
    type_name: bounds::text::<FUNCTION_TEXT_BYTES_MAX>,
});

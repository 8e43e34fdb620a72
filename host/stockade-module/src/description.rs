//! The description of a module for its callers.
//!
//! Read from a module that has been validated. What a description may hold is bounded, because a
//! module may have a million exports with names of many kilobytes.

use std::collections::BTreeSet;
use std::fmt;

use stockade_wire::{
    EXPORTS_MAX, Export, ExportType, Import, ModuleDescription, NAME_BYTES_MAX, Refusal,
    RefusalKind, ValueType, WARNINGS_MAX,
};
use wasmparser::types::{CoreTypeId, Types};
use wasmparser::{
    ConstExpr, ElementItems, ExternalKind, FuncType, Operator, Parser, Payload, TableInit, TypeRef,
    ValType,
};

use crate::imports::Provided;
use crate::locate::is_debug_section;
use crate::text::{bounded_to, quoted};
use crate::{bounded, imports, manifest, refusal};

/// The size of a WebAssembly page.
pub const PAGE_BYTES: u64 = 64 << 10;

/// What an instance keeps of a global, and of a function that is referred to: wasmtime 48's
/// `VMGlobalDefinition` and `VMFuncRef`; and of a tag, `VMTagDefinition`.
const GLOBAL_BYTES: u64 = 16;
const FUNCTION_BYTES: u64 = 32;
const TAG_BYTES: u64 = 8;

/// What an instance keeps besides those: itself, its imports, tables and memory.
const INSTANCE_BYTES: u64 = 64 << 10;

/// An outline of a module, as references into it.
#[derive(Debug, Default)]
pub(crate) struct Outline<'a> {
    pub(crate) imports: Vec<ImportOutline<'a>>,
    pub(crate) tables: Vec<u64>,
    exports: Vec<(&'a str, ExportType)>,
    globals: u64,
    tags: u64,
    pub(crate) types: u32,
    /// Functions that anything but a direct call refers to.
    referred_to: BTreeSet<u32>,
    pub(crate) memory_min_pages: Vec<u64>,
    /// Whether a memory, of its own or imported, is one for threads to share.
    pub(crate) shares_memory: bool,
    manifest: Vec<&'a [u8]>,
    has_start: bool,
    has_debug_info: bool,
    wasm_bytes: u64,
}

/// An import.
#[derive(Debug)]
pub(crate) struct ImportOutline<'a> {
    pub(crate) module: &'a str,
    pub(crate) name: &'a str,
    pub(crate) ty: TypeRef,
    /// Its whole type, where it is a function.
    pub(crate) id: Option<CoreTypeId>,
    /// Where it is a function.
    pub(crate) signature: Option<Signature>,
    /// Whether each of its results has a default value: zero, or null.
    pub(crate) has_default_results: bool,
}

/// A function's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) params: Vec<ValueType>,
    pub(crate) results: Vec<ValueType>,
}

impl Signature {
    /// The type of what is provided.
    pub(crate) fn of(provided: &Provided) -> Self {
        Self { params: provided.params.to_vec(), results: provided.results.to_vec() }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |types: &[ValueType]| {
            let names: Vec<String> = types.iter().map(ValueType::to_string).collect();
            names.join(", ")
        };
        write!(f, "({}) -> ({})", list(&self.params), list(&self.results))
    }
}

impl<'a> Outline<'a> {
    /// Reads the validated module `binary`.
    ///
    /// # Errors
    /// If it is malformed after all.
    pub(crate) fn read(binary: &'a [u8], types: &Types) -> Result<Self, Refusal> {
        let mut outline = Self { wasm_bytes: binary.len() as u64, ..Self::default() };
        for payload in Parser::new(0).parse_all(binary) {
            let read = payload.and_then(|payload| outline.add(payload, types));
            read.map_err(|error| {
                refusal(RefusalKind::Malformed, &format!("not a valid module: {error}"))
            })?;
        }
        Ok(outline)
    }

    fn add(&mut self, payload: Payload<'a>, types: &Types) -> wasmparser::Result<()> {
        match payload {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    let id = match import.ty {
                        TypeRef::Func(index) => Some(types.as_ref().core_type_at_in_module(index)),
                        _ => None,
                    };
                    let results = id.map(|id| types[id].unwrap_func().results());
                    let has_default_results =
                        results.is_some_and(|results| results.iter().all(ValType::is_defaultable));
                    let signature = id.map(|id| signature(types, id));
                    let (module, name, ty) = (import.module, import.name, import.ty);
                    self.shares_memory |= matches!(ty, TypeRef::Memory(memory) if memory.shared);
                    let import =
                        ImportOutline { module, name, ty, id, signature, has_default_results };
                    self.imports.push(import);
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    let table = table?;
                    self.tables.push(table.ty.initial);
                    if let TableInit::Expr(initial) = &table.init {
                        self.refer(initial)?;
                    }
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory?;
                    self.shares_memory |= memory.shared;
                    self.memory_min_pages.push(memory.initial);
                }
            }
            Payload::TypeSection(section) => {
                for group in section {
                    // As many as the validator allows, which are fewer than there are numbers.
                    self.types += group?.types().len() as u32;
                }
            }
            Payload::TagSection(section) => self.tags = section.count().into(),
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if matches!(export.kind, ExternalKind::Func) {
                        self.referred_to.insert(export.index);
                    }
                    self.exports.push((export.name, export_type(types, export.kind, export.index)));
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    self.globals += 1;
                    self.refer(&global?.init_expr)?;
                }
            }
            Payload::ElementSection(section) => {
                for element in section {
                    match element?.items {
                        ElementItems::Functions(functions) => {
                            for function in functions {
                                self.referred_to.insert(function?);
                            }
                        }
                        ElementItems::Expressions(_, expressions) => {
                            for expression in expressions {
                                self.refer(&expression?)?;
                            }
                        }
                    }
                }
            }
            Payload::StartSection { .. } => self.has_start = true,
            Payload::CustomSection(section) if section.name() == stockade_abi::MANIFEST_SECTION => {
                self.manifest.push(section.data());
            }
            Payload::CustomSection(section) if is_debug_section(section.name()) => {
                self.has_debug_info = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// Notes the functions that a constant refers to.
    fn refer(&mut self, expression: &ConstExpr<'_>) -> wasmparser::Result<()> {
        for operator in expression.get_operators_reader() {
            if let Operator::RefFunc { function_index } = operator? {
                self.referred_to.insert(function_index);
            }
        }
        Ok(())
    }

    /// Bytes that an instance takes besides its memory and its tables' elements; never less than
    /// what it really takes.
    pub(super) fn instance_bytes(&self) -> u64 {
        let functions = self.referred_to.len() as u64;
        INSTANCE_BYTES
            + self.globals * GLOBAL_BYTES
            + self.tags * TAG_BYTES
            + functions * FUNCTION_BYTES
    }

    /// Bytes of memory that an instance begins with.
    pub(crate) fn memory_min_bytes(&self) -> u64 {
        self.memory_min_pages
            .iter()
            .fold(0, |sum, pages| sum.saturating_add(pages.saturating_mul(PAGE_BYTES)))
    }

    /// Table elements that an instance begins with.
    pub(crate) fn table_min_elements(&self) -> u64 {
        self.tables.iter().fold(0, |sum, elements| sum.saturating_add(*elements))
    }

    /// The description for the module's callers.
    ///
    /// # Errors
    /// If its manifest was written for another version of the guest ABI.
    pub(crate) fn describe(&self) -> Result<ModuleDescription, Refusal> {
        let mut warnings = Warnings::default();
        let functions = manifest::functions(&self.manifest, &self.exports, &mut warnings)?;
        let mut exports = Vec::new();
        for (name, kind) in &self.exports {
            if name.len() > NAME_BYTES_MAX {
                warnings.push(&format!("export `{}`: its name is too long", quoted(name)));
            } else if exports.len() == EXPORTS_MAX {
                warnings.push(&format!("exports beyond the first {EXPORTS_MAX} are ignored"));
                break;
            } else {
                exports.push(Export { name: (*name).to_owned(), kind: kind.clone() });
            }
        }
        let imports = self.imports.iter().map(|import| Import {
            module: import.module.to_owned(),
            name: import.name.to_owned(),
            type_name: match &import.signature {
                // That of a function that something stands in for may be of any length.
                Some(signature) => bounded_to(NAME_BYTES_MAX, &signature.to_string()),
                None => type_name(import.ty).to_owned(),
            },
        });
        Ok(ModuleDescription {
            wasm_bytes: self.wasm_bytes,
            exports,
            imports: imports.collect(),
            functions,
            memory_min_bytes: self.memory_min_bytes(),
            table_min_elements: self.table_min_elements(),
            unknown_imports: imports::strictest(&self.imports),
            // More are refused.
            memories: self.memory_min_pages.len() as u32,
            has_start: self.has_start,
            has_debug_info: self.has_debug_info,
            warnings: warnings.finish(),
        })
    }
}

fn export_type(types: &Types, kind: ExternalKind, index: u32) -> ExportType {
    match kind {
        ExternalKind::Func | ExternalKind::FuncExact => {
            let Signature { params, results } =
                signature(types, types.as_ref().core_function_at(index));
            ExportType::Function { params, results }
        }
        ExternalKind::Memory => ExportType::Memory,
        ExternalKind::Table => ExportType::Table,
        ExternalKind::Global => ExportType::Global,
        ExternalKind::Tag => ExportType::Other,
    }
}

fn signature(types: &Types, id: CoreTypeId) -> Signature {
    let ty: &FuncType = types[id].unwrap_func();
    Signature {
        params: ty.params().iter().map(value_type).collect(),
        results: ty.results().iter().map(value_type).collect(),
    }
}

fn value_type(ty: &ValType) -> ValueType {
    match ty {
        ValType::I32 => ValueType::I32,
        ValType::I64 => ValueType::I64,
        ValType::F32 => ValueType::F32,
        ValType::F64 => ValueType::F64,
        ValType::V128 | ValType::Ref(_) => ValueType::Other,
    }
}

/// What an import that is no function is, in a word.
pub(crate) fn type_name(ty: TypeRef) -> &'static str {
    match ty {
        TypeRef::Func(_) | TypeRef::FuncExact(_) => "function",
        TypeRef::Table(_) => "table",
        TypeRef::Memory(_) => "memory",
        TypeRef::Global(_) => "global",
        TypeRef::Tag(_) => "tag",
    }
}

/// Warnings, of which a hostile module could cause any number.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    texts: Vec<String>,
    beyond: usize,
}

impl Warnings {
    /// Adds a warning, bounded as every message, or counts it where there are many already.
    pub(crate) fn push(&mut self, text: &str) {
        if self.texts.len() < WARNINGS_MAX {
            self.texts.push(bounded(text));
        } else {
            self.beyond += 1;
        }
    }

    pub(crate) fn finish(mut self) -> Vec<String> {
        if self.beyond > 0 {
            self.texts.push(format!("and {} more", self.beyond));
        }
        self.texts
    }
}

//! Linked modules: data that all instances of a module share, computed once.

use std::sync::Arc;

use stockade_abi::MEMORY_EXPORT;
use stockade_wire::{Callee, HookCall, UnknownImports};
use wasmtime::{ExternType, InstancePre, Linker, Module, ModuleExport};

use crate::function::{Function, Functions};
use crate::guest::GuestState;
use crate::memory::ModuleMemories;
use crate::stand_ins;

/// The export that every instance must run before anything else: a library's, or a program's that has it
/// besides its `_start`.
pub(crate) const INITIALIZE: &str = "_initialize";

/// A linked module.
pub(crate) struct Linked {
    pub(crate) pre: InstancePre<GuestState>,
    /// Where its memories lie.
    pub(crate) memories: Arc<ModuleMemories>,
    /// The memory that host calls refer to.
    pub(crate) memory: Option<ModuleExport>,
    /// How much of that every instance begins with.
    pub(crate) initial_bytes: u64,
    functions: Functions,
    /// What tasks call by its place here: its name, and its place among the functions if it is one.
    announced: Vec<(String, Option<usize>)>,
    /// Whether it has an `_initialize` that every instance must run first.
    pub(crate) initialize: bool,
    /// Runs in every instance, after that.
    pub(crate) initializer: Option<HookCall>,
}

impl Linked {
    /// Links `module`, with stand-ins where it may have any, whose memories are `memories`, which is past its `_initialize` where
    /// `initialized`, and of which tasks will call what is `announced`.
    ///
    /// # Errors
    /// If the module imports what `linker` does not have.
    pub(crate) fn new(
        linker: &Linker<GuestState>,
        unknown_imports: UnknownImports,
        module: &Module,
        memories: Arc<ModuleMemories>,
        initialized: bool,
        initializer: Option<HookCall>,
        announced: Vec<String>,
    ) -> wasmtime::Result<Self> {
        let functions = Functions::of(module);
        let place = |name: String| {
            let place = functions.place(&name);
            (name, place)
        };
        let announced = announced.into_iter().map(place).collect();
        Ok(Self {
            pre: stand_ins::added(linker, module, unknown_imports)?.instantiate_pre(module)?,
            memories,
            memory: module.get_export_index(MEMORY_EXPORT),
            initial_bytes: match module.get_export(MEMORY_EXPORT) {
                Some(ExternType::Memory(memory)) => memory.minimum() * memory.page_size(),
                _ => 0,
            },
            functions,
            announced,
            initialize: !initialized && module.get_export_index(INITIALIZE).is_some(),
            initializer,
        })
    }

    /// Whether `callee` was announced, if it is a number.
    pub(crate) fn knows(&self, callee: &Callee) -> bool {
        match callee {
            Callee::Named(_) => true,
            Callee::Number(number) => self.announced(*number).is_some(),
        }
    }

    /// The function that is `callee` and is as `is` wants it.
    ///
    /// # Errors
    /// That there is none, which is said to be `wanted`.
    pub(crate) fn function(
        &self,
        callee: &Callee,
        is: impl FnOnce(&Function) -> bool,
        wanted: &str,
    ) -> wasmtime::Result<&Function> {
        let (name, function) = match callee {
            Callee::Named(name) => (name.as_str(), self.functions.get(name)),
            Callee::Number(number) => match self.announced(*number) {
                Some((name, place)) => (name.as_str(), place.and_then(|at| self.functions.at(at))),
                // The session asks before; this is for a session that forgets.
                None => ("", None),
            },
        };
        function.filter(|function| is(function)).ok_or_else(|| missing(name, wanted))
    }

    /// The function that is exported as `name` and is as `is` wants it.
    ///
    /// # Errors
    /// As [`function`](Self::function).
    pub(crate) fn function_named(
        &self,
        name: &str,
        is: impl FnOnce(&Function) -> bool,
        wanted: &str,
    ) -> wasmtime::Result<&Function> {
        let function = self.functions.get(name).filter(|function| is(function));
        function.ok_or_else(|| missing(name, wanted))
    }

    fn announced(&self, number: u32) -> Option<&(String, Option<usize>)> {
        self.announced.get(usize::try_from(number).ok()?)
    }
}

fn missing(name: &str, wanted: &str) -> wasmtime::Error {
    wasmtime::Error::msg(stockade_module::bounded(&format!(
        "the module has no export `{name}` that is {wanted}"
    )))
}

//! Templates: what all instances of one module are made from, found out once.

use stockade_abi::MEMORY_EXPORT;
use stockade_wire::HookCall;
use wasmtime::{ExternType, InstancePre, Linker, Module, ModuleExport};

use crate::function::{Function, Functions};
use crate::guest::GuestState;

/// The export that every instance of a reactor must run before anything else.
pub(crate) const INITIALIZE: &str = "_initialize";

/// What instances of one module are made from.
pub(crate) struct Template {
    pub(crate) pre: InstancePre<GuestState>,
    /// The memory that host calls refer to.
    pub(crate) memory: Option<ModuleExport>,
    /// How much of that every instance begins with.
    pub(crate) initial_bytes: u64,
    functions: Functions,
    /// Whether it has an `_initialize` that every instance must run first.
    pub(crate) initialize: bool,
    /// Runs in every instance, after that.
    pub(crate) initializer: Option<HookCall>,
}

impl Template {
    /// A template for `module`, which is past its `_initialize` where `initialized`.
    ///
    /// # Errors
    /// Where the module imports what `linker` does not have.
    pub(crate) fn new(
        linker: &Linker<GuestState>,
        module: &Module,
        initialized: bool,
        initializer: Option<HookCall>,
    ) -> wasmtime::Result<Self> {
        Ok(Self {
            pre: linker.instantiate_pre(module)?,
            memory: module.get_export_index(MEMORY_EXPORT),
            initial_bytes: match module.get_export(MEMORY_EXPORT) {
                Some(ExternType::Memory(memory)) => memory.minimum() * memory.page_size(),
                _ => 0,
            },
            functions: Functions::of(module),
            initialize: !initialized && module.get_export_index(INITIALIZE).is_some(),
            initializer,
        })
    }

    /// The function that is exported as `name` and is as `is` wants it.
    ///
    /// # Errors
    /// That there is none, which is said to be `wanted`.
    pub(crate) fn function(
        &self,
        name: &str,
        is: impl FnOnce(&Function) -> bool,
        wanted: &str,
    ) -> wasmtime::Result<&Function> {
        self.functions.get(name).filter(|function| is(function)).ok_or_else(|| {
            wasmtime::Error::msg(stockade_module::bounded(&format!(
                "the module has no export `{name}` that is {wanted}"
            )))
        })
    }
}

//! A compiler that asks the cache first.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use stockade_wire::{CompileStep, EngineSettings, ModuleDescription};

use super::store::Store;
use crate::compile::compiler::{Compiler, NotCompiled, Source};
use crate::process::conversation::Interrupt;

/// Starts a compiler only for what no entry of the cache holds.
#[derive(Clone, Debug)]
pub(crate) struct CachedCompiler {
    compiler: Compiler,
    store: Option<Arc<Store>>,
}

impl CachedCompiler {
    pub(crate) fn new(compiler: Compiler, store: Option<Store>) -> Self {
        Self { compiler, store: store.map(Arc::new) }
    }

    /// The same for another engine.
    pub(crate) fn for_engine(&self, engine: EngineSettings) -> Self {
        let compiler = Compiler { engine, ..self.compiler.clone() };
        Self { compiler, store: self.store.clone() }
    }

    pub(crate) fn program(&self) -> &Path {
        &self.compiler.program
    }

    /// As [`Compiler::compile`], without a process where the cache has it and its module may be run.
    pub(crate) fn compile(
        &self,
        source: &Source,
        step: CompileStep,
        state: Option<&File>,
        interrupt: &Interrupt,
    ) -> Result<(ModuleDescription, File), NotCompiled> {
        let kept = matches!(step, CompileStep::Compile | CompileStep::Instrument);
        let Some(store) = self.store.as_ref().filter(|_| kept) else {
            return self.compiler.compile(source, step, state, interrupt);
        };
        let request = self.compiler.request(source, step.clone());
        let identity = store.key(self.program(), &request, &source.hash);
        let found = identity.and_then(|(_, key)| store.lookup(&key, request.limits.artefact_bytes));
        // A compiler refuses a module that does not fit, before it makes code, and says why.
        if let Some((description, artefact)) =
            found.filter(|(module, _)| module.fits(&request.engine))
        {
            self.compiler.check_artefact(&artefact)?;
            return Ok((description, artefact));
        }
        let made = self.compiler.compile(source, step, state, interrupt)?;
        if let Some(identity) = identity {
            store.keep(self.program(), identity, &made.0, &made.1);
        }
        Ok(made)
    }
}

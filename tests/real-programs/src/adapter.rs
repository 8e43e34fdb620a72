//! Functions added to a module, for one that takes pointers into its memory and so cannot be called from
//! outside.
//!
//! ```text
//! module ───────────────────────────┐
//! adapter (.wat): imports of        ├─► one module: the module's sections, with the adapter's types,
//! "program" are the module's        │   functions and exports behind its own
//! exports, others its imports ──────┘
//! ```
//!
//! An adapter has types, imports, functions and exports, and nothing else. A user of such a module can
//! do the same with `wasm-merge` of Binaryen.

use std::convert::Infallible;

use anyhow::{Context, Result};
use wasm_encoder_of_smith::reencode::{Error, Reencode, utils};
use wasm_encoder_of_smith::{
    CodeSection, ExportKind, ExportSection, FunctionSection, Module, TypeSection,
};
use wasmparser_of_smith::{
    CodeSectionReader, CompositeInnerType, ExportSectionReader, ExternalKind, FuncType,
    FunctionBody, FunctionSectionReader, Parser, Payload, TypeRef, TypeSectionReader,
};

/// The module that has what both have.
///
/// # Errors
/// One of them is no module, the adapter imports what the module does not have, or it has more than an
/// adapter may.
pub(crate) fn adapted(module: &[u8], adapter: &str) -> Result<Vec<u8>> {
    let adapter = wat::parse_str(adapter)?;
    let adapter = Parts::of(&adapter)?;
    let known = Parts::of(module)?;
    let mut functions = Vec::new();
    for (from, name) in &adapter.imports {
        let found = match *from {
            "program" => {
                known.exports.iter().find(|(known, _)| known == name).map(|(_, index)| *index)
            }
            _ => known.imports.iter().position(|known| known == &(*from, *name)).map(|i| i as u32),
        };
        functions.push(found.with_context(|| format!("the module has no function {from}.{name}"))?);
    }
    let first = (known.imports.len() + known.functions.len()) as u32;
    functions.extend((0..adapter.functions.len() as u32).map(|index| first + index));
    let mut joined = Joined { adapter: &adapter, functions, first_type: known.types.len() as u32 };
    let mut made = Module::new();
    joined.parse_core_module(&mut made, Parser::new(0), module)?;
    Ok(made.finish())
}

/// What is to be known of a module.
#[derive(Default)]
struct Parts<'a> {
    types: Vec<Option<FuncType>>,
    /// Functions alone, as are exports.
    imports: Vec<(&'a str, &'a str)>,
    /// The type of each.
    functions: Vec<u32>,
    exports: Vec<(&'a str, u32)>,
    bodies: Vec<FunctionBody<'a>>,
}

impl<'a> Parts<'a> {
    fn of(module: &'a [u8]) -> Result<Self> {
        let mut parts = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(types) => {
                    for group in types {
                        parts.types.extend(group?.into_types().map(|ty| {
                            match ty.composite_type.inner {
                                CompositeInnerType::Func(ty) => Some(ty),
                                _ => None,
                            }
                        }));
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import?;
                        if matches!(import.ty, TypeRef::Func(_)) {
                            parts.imports.push((import.module, import.name));
                        }
                    }
                }
                Payload::FunctionSection(functions) => {
                    parts.functions = functions.into_iter().collect::<Result<_, _>>()?;
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        if export.kind == ExternalKind::Func {
                            parts.exports.push((export.name, export.index));
                        }
                    }
                }
                Payload::CodeSectionEntry(body) => parts.bodies.push(body),
                _ => {}
            }
        }
        Ok(parts)
    }
}

/// Copies a module, and adds the adapter's part at the end of each section.
struct Joined<'a> {
    adapter: &'a Parts<'a>,
    /// Where each of the adapter's functions is now.
    functions: Vec<u32>,
    first_type: u32,
}

impl Reencode for Joined<'_> {
    type Error = Infallible;

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: TypeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_type_section(self, types, section)?;
        for ty in self.adapter.types.iter().flatten() {
            let ty = self.func_type(ty.clone())?;
            types.ty().func_type(&ty);
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_function_section(self, functions, section)?;
        for ty in &self.adapter.functions {
            functions.function(self.first_type + ty);
        }
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: ExportSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_export_section(self, exports, section)?;
        for (name, index) in &self.adapter.exports {
            exports.export(name, ExportKind::Func, self.functions[*index as usize]);
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_code_section(self, code, section)?;
        let mut moved = Moved { functions: &self.functions, first_type: self.first_type };
        for body in &self.adapter.bodies {
            moved.parse_function_body(code, body.clone())?;
        }
        Ok(())
    }
}

/// Copies the adapter's functions to where they are now.
struct Moved<'a> {
    functions: &'a [u32],
    first_type: u32,
}

impl Reencode for Moved<'_> {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error<Infallible>> {
        Ok(self.functions[function as usize])
    }

    fn type_index(&mut self, ty: u32) -> Result<u32, Error<Infallible>> {
        Ok(self.first_type + ty)
    }
}

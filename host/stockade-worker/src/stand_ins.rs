//! Stand-ins: functions in place of imports that are not provided, for modules that never call
//! them.
//!
//! The pool allows them, see [`UnknownImports`]; the compiler has refused imports without a
//! possible stand-in.

use std::borrow::Cow;

use stockade_module::provided;
use stockade_wire::UnknownImports;
use wasmtime::{ExternType, Linker, Module, Val};

use crate::failure::HostTrap;
use crate::guest::GuestState;

/// `linker` with stand-ins for what `module` imports beyond it; as it is where that is nothing, or
/// where there are to be none.
///
/// # Errors
/// If the engine refuses a definition; none is expected to.
pub(crate) fn added<'a>(
    linker: &'a Linker<GuestState>,
    module: &Module,
    unknown: UnknownImports,
) -> wasmtime::Result<Cow<'a, Linker<GuestState>>> {
    let mut linker = Cow::Borrowed(linker);
    if unknown == UnknownImports::Refuse {
        return Ok(linker);
    }
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        let (ExternType::Func(ty), None) = (import.ty(), provided(from, name)) else { continue };
        // The same may be imported again, as the same type.
        let linker = linker.to_mut().allow_shadowing(true);
        match unknown {
            UnknownImports::DefaultValues => {
                let types: Vec<_> = ty.results().collect();
                linker.func_new(from, name, ty, move |_, _, results| {
                    for (result, ty) in results.iter_mut().zip(&types) {
                        let value = Val::default_for_ty(ty);
                        *result = value.ok_or_else(|| wasmtime::Error::msg("no default value"))?;
                    }
                    Ok(())
                })?;
            }
            _ => {
                let called = format!("{from}.{name}");
                linker.func_new(from, name, ty, move |_, _, _| {
                    Err(HostTrap::NotProvided(called.clone()).into())
                })?;
            }
        }
    }
    Ok(linker)
}

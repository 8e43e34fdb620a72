//! Whether a call would be taken, told by what a module says of itself: before there is a pool.

use stockade_wire::{ModuleDescription, ModuleId};

use crate::call::arguments::{self, Arguments};
use crate::call::target::{Callables, ModuleEntry, Target};
use crate::outcome::error::SubmitError;

/// Checks whether a pool of this module would take a call of `function` with these arguments: whether
/// there is such a function, and whether they fit it as far as its types are known. For a
/// [`Command`](crate::Command) `function` is `"_start"`, which stands for the program's own entry.
/// Neither compiles nor runs anything, and never blocks.
///
/// # Errors
/// As [`Pool::submit`](crate::Pool::submit), where the function or the arguments are wrong.
///
/// ```no_run
/// let module = stockade::inspect("tasks.wasm", None)?;
/// stockade::check_call("tasks", &module, "top_words", ("to be or not", 2))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check_call(
    name: &str,
    module: &ModuleDescription,
    function: &str,
    arguments: impl Arguments,
) -> Result<(), SubmitError> {
    let entry = ModuleEntry {
        id: ModuleId(0),
        name: name.into(),
        callables: Callables::of(module),
        description: module.clone(),
        source: None,
    };
    let modules = std::slice::from_ref(&entry);
    let (_, callable) = arguments.resolve(modules, &Target::from(function))?;
    arguments::encode(arguments, callable).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stockade_wire::{Export, ExportType, ValueType};

    #[test]
    fn a_call_is_checked_without_a_pool() {
        let kind =
            ExportType::Function { params: vec![ValueType::I32; 2], results: vec![ValueType::I32] };
        let exports = vec![Export { name: "add".into(), kind }];
        let module = ModuleDescription { exports, ..ModuleDescription::default() };
        check_call("m", &module, "add", (1, 2)).unwrap();
        let refused = |function, arguments: (i32,)| {
            check_call("m", &module, function, arguments).unwrap_err()
        };
        assert!(matches!(refused("add", (1,)), SubmitError::Signature { .. }));
        let unknown = refused("ad", (1,));
        assert!(matches!(unknown, SubmitError::UnknownFunction { suggestion: Some(_), .. }));
    }
}

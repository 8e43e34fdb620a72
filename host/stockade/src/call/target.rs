//! Targets: functions of modules, found by name before a task is sent.
//!
//! The compiler read a module's description in a process of its own. Here it only decides which
//! calls are refused early, so a false description harms only the module's own calls.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use stockade_wire::{
    Export, ExportType, FunctionKind, ManifestFunction, ModuleDescription, ModuleId, Parameter,
    ValueType,
};

use crate::call::shape::Shape;
use crate::compile::compiler::Source;
use crate::outcome::error::SubmitError;

/// The names that a program's own entry may have, in the order in which they are looked for, as in
/// wasmtime.
const OWN_ENTRIES: [&str; 2] = ["", "_start"];

/// Stands for a program's own entry, one of [`OWN_ENTRIES`].
pub(crate) const OWN_ENTRY: &str = "_start";

/// Which function to call: its name, or the names of its module and of itself.
///
/// ```
/// use stockade::Target;
///
/// let only_module: Target = "word_count".into();
/// let of_module: Target = ("images", "thumbnail").into();
/// assert_eq!(of_module.to_string(), "images.thumbnail");
/// # let _ = only_module;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    module: Option<String>,
    function: String,
}

impl Target {
    /// Whether it names a module too.
    pub(crate) fn names_module(&self) -> bool {
        self.module.is_some()
    }

    /// Whether this may be a program's own entry, under any name.
    pub(crate) fn is_own_entry(&self) -> bool {
        self.function == OWN_ENTRY
    }

    /// The same function of another name.
    pub(crate) fn renamed(&self, function: &str) -> Self {
        Self { module: self.module.clone(), function: function.into() }
    }

    /// Whether this names the function `function` of the module `module`.
    pub(crate) fn names(&self, module: &str, function: &str) -> bool {
        self.function == function && self.module.as_deref().is_none_or(|name| name == module)
    }
}

impl From<&str> for Target {
    fn from(function: &str) -> Self {
        Self { module: None, function: function.into() }
    }
}

impl From<&String> for Target {
    fn from(function: &String) -> Self {
        Self::from(function.as_str())
    }
}

impl From<String> for Target {
    fn from(function: String) -> Self {
        Self { module: None, function }
    }
}

impl From<(&str, &str)> for Target {
    fn from((module, function): (&str, &str)) -> Self {
        Self { module: Some(module.into()), function: function.into() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An entry may have no name at all.
        let function = if self.function.is_empty() { "\"\"" } else { &self.function };
        match &self.module {
            Some(module) => write!(f, "{module}.{function}"),
            None => f.write_str(function),
        }
    }
}

/// A function that can be called, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Callable {
    pub(crate) name: String,
    /// Its place among those of its module, by which workers know it.
    pub(crate) number: u32,
    pub(crate) kind: CallableKind,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CallableKind {
    /// Reads its input through host calls; parameters are known where a manifest names them.
    Task { export: String, params: Option<Vec<Parameter>>, result: String, shapes: Shapes },
    /// Takes and returns numbers.
    Scalar { params: Vec<ValueType>, results: Vec<ValueType> },
    /// A whole program.
    Command,
}

/// The shapes of a task's arguments and its result: the types of its manifest, parsed once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shapes {
    /// Of all arguments, as one tuple.
    pub(crate) arguments: Shape,
    pub(crate) result: Arc<Shape>,
}

impl Shapes {
    /// The shapes of a task without a manifest.
    pub(crate) fn unknown() -> Self {
        Self { arguments: Shape::Any, result: Arc::new(Shape::Any) }
    }

    pub(crate) fn of(params: &[Parameter], result: &str) -> Self {
        let params = params.iter().map(|param| Shape::of_parameter(&param.type_name));
        Self {
            arguments: Shape::tuple(params.collect()),
            result: Arc::new(Shape::of_result(result)),
        }
    }
}

impl Callable {
    /// The name of its export.
    pub(crate) fn export(&self) -> &str {
        match &self.kind {
            CallableKind::Task { export, .. } => export,
            CallableKind::Scalar { .. } | CallableKind::Command => &self.name,
        }
    }

    /// The shape of its result, if known.
    pub(crate) fn result_shape(&self) -> Option<Arc<Shape>> {
        match &self.kind {
            CallableKind::Task { shapes, .. } => Some(shapes.result.clone()),
            CallableKind::Scalar { .. } | CallableKind::Command => None,
        }
    }

    /// The signature in words, as the guest's source would put it.
    pub(crate) fn signature(&self) -> String {
        let name = &self.name;
        match &self.kind {
            CallableKind::Command => format!("{name} (a command)"),
            CallableKind::Task { params: None, .. } => format!("{name}(…)"),
            CallableKind::Task { params: Some(params), result, .. } => {
                let params: Vec<_> = params
                    .iter()
                    .map(|param| format!("{}: {}", param.name, param.type_name))
                    .collect();
                let result =
                    if result.is_empty() { String::new() } else { format!(" -> {result}") };
                format!("{name}({}){result}", params.join(", "))
            }
            CallableKind::Scalar { params, results } => {
                let list = |types: &[ValueType]| {
                    types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                };
                let result = match results.as_slice() {
                    [] => String::new(),
                    [one] => format!(" -> {one}"),
                    many => format!(" -> ({})", list(many)),
                };
                format!("{name}({}){result}", list(params))
            }
        }
    }
}

/// The functions of one module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Callables {
    /// Each at its number.
    list: Vec<Callable>,
    numbers: BTreeMap<String, u32>,
    /// Exports in which a program may begin: those of the functions that are programs, and others
    /// whose type allows it.
    entries: BTreeMap<String, u32>,
}

impl Callables {
    /// All functions of `module` that can be called. The manifest's tasks come under their own
    /// names, and then hide the exports behind them.
    pub(crate) fn of(module: &ModuleDescription) -> Self {
        let mut found = BTreeMap::new();
        let mut add = |name: &str, kind| {
            found.entry(name.to_string()).or_insert(kind);
        };
        let mut hidden: Vec<&str> = vec!["_initialize"];
        for function in &module.functions {
            hidden.push(&function.export);
            if function.kind == FunctionKind::Task {
                add(&function.name, task_of(function));
            }
        }
        let asks_host = module.imports.iter().any(|import| import.module == "stockade");
        // Two underscores are a toolchain's own: `__main_void` in addition to `_start`, for one.
        let internal = |name: &str| name.starts_with("__") || hidden.contains(&name);
        for export in module.exports.iter().filter(|export| !internal(&export.name)) {
            if let Some(kind) = kind_of(export, asks_host) {
                add(&export.name, kind);
            }
        }
        let mut this = Self::default();
        for (number, (name, kind)) in (0..).zip(found) {
            this.numbers.insert(name.clone(), number);
            this.list.push(Callable { name, number, kind });
        }
        let entries = module.exports.iter().filter(|export| is_entry(&export.kind));
        for export in entries.filter(|export| !hidden.contains(&export.name.as_str())) {
            this.add_entry(&export.name);
        }
        this
    }

    fn add_entry(&mut self, name: &str) {
        let known = self.get(name).filter(|callable| callable.kind == CallableKind::Command);
        let number = match known {
            Some(callable) => callable.number,
            None => {
                // There are no more than twice as many as a description has exports.
                let number = self.list.len() as u32;
                let (name, kind) = (name.to_owned(), CallableKind::Command);
                self.list.push(Callable { name, number, kind });
                number
            }
        };
        self.entries.insert(name.to_owned(), number);
    }

    /// Where a program begins in the export `name`.
    fn entry(&self, name: &str) -> Option<&Callable> {
        self.at(*self.entries.get(name)?)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Callable> {
        self.at(*self.numbers.get(name)?)
    }

    /// The one of this number.
    pub(crate) fn at(&self, number: u32) -> Option<&Callable> {
        self.list.get(usize::try_from(number).ok()?)
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.numbers.keys().cloned().collect()
    }

    /// The names of their exports, each at its function's number.
    pub(crate) fn exports(&self) -> Vec<String> {
        self.list.iter().map(|callable| callable.export().to_owned()).collect()
    }

    fn nearest(&self, name: &str) -> Option<String> {
        nearest(self.numbers.keys(), name)
    }
}

/// The one of the `known` names that takes the fewest edits to become `name`: letters that are added,
/// left out, changed, or swapped with the next. `None` where even that takes more than a third of the
/// name.
fn nearest<'a>(known: impl Iterator<Item = &'a String>, name: &str) -> Option<String> {
    let allowed = (name.chars().count() / 3).max(1);
    known
        // A program's own entry is like nothing.
        .filter(|known| !known.is_empty())
        .map(|known| (strsim::damerau_levenshtein(start(known), start(name)), known))
        .min()
        .filter(|(distance, _)| *distance <= allowed)
        .map(|(_, known)| known.clone())
}

pub(crate) fn task_of(function: &ManifestFunction) -> CallableKind {
    CallableKind::Task {
        export: function.export.clone(),
        params: Some(function.params.clone()),
        result: function.result.clone(),
        shapes: Shapes::of(&function.params, &function.result),
    }
}

/// The kind of an export that is not in the manifest. `() -> i32` is a task if the module imports
/// host calls, else a function over numbers.
fn kind_of(export: &Export, asks_host: bool) -> Option<CallableKind> {
    let ExportType::Function { params, results } = &export.kind else { return None };
    let scalars = |types: &[ValueType]| !types.contains(&ValueType::Other);
    match (params.as_slice(), results.as_slice()) {
        _ if OWN_ENTRIES.contains(&&*export.name) && is_entry(&export.kind) => {
            Some(CallableKind::Command)
        }
        ([], [ValueType::I32]) if asks_host => {
            let export = export.name.clone();
            let (result, shapes) = (String::new(), Shapes::unknown());
            Some(CallableKind::Task { export, params: None, result, shapes })
        }
        _ if scalars(params) && scalars(results) => {
            Some(CallableKind::Scalar { params: params.clone(), results: results.clone() })
        }
        _ => None,
    }
}

/// Whether a program may begin in an export: one of type `() -> ()` or `() -> i32`.
fn is_entry(kind: &ExportType) -> bool {
    matches!(kind, ExportType::Function { params, results }
        if params.is_empty() && matches!(results[..], [] | [ValueType::I32]))
}

/// One module of a pool.
#[derive(Clone, Debug)]
pub struct ModuleEntry {
    pub(crate) id: ModuleId,
    pub(crate) name: String,
    pub(crate) callables: Callables,
    pub(crate) description: ModuleDescription,
    /// Its bytes, where they may be asked for again.
    pub(crate) source: Option<Source>,
}

/// Finds what `target` names among `modules`.
pub(crate) fn resolve<'a>(
    modules: &'a [ModuleEntry],
    target: &Target,
) -> Result<(&'a ModuleEntry, &'a Callable), SubmitError> {
    let module = resolve_module(modules, target)?;
    let callable =
        module.callables.get(&target.function).ok_or_else(|| SubmitError::UnknownFunction {
            module: module.name.clone(),
            function: target.function.clone(),
            suggestion: module.callables.nearest(&target.function),
            available: module.callables.names(),
        })?;
    Ok((module, callable))
}

/// Finds where the program of `target` begins: in the export that `entry` names, or else in the one
/// that the target does, where [`OWN_ENTRY`] and no name stand for the program's own.
pub(crate) fn resolve_entry<'a>(
    modules: &'a [ModuleEntry],
    target: &Target,
    entry: Option<&str>,
) -> Result<(&'a ModuleEntry, &'a Callable), SubmitError> {
    let module = resolve_module(modules, target)?;
    let callables = &module.callables;
    let own = || OWN_ENTRIES.iter().find_map(|name| callables.entry(name));
    let (name, found) = match entry.unwrap_or(&target.function) {
        name if entry.is_none() && OWN_ENTRIES.contains(&name) => (OWN_ENTRY, own()),
        name => (name, callables.entry(name)),
    };
    let refused = || match callables.get(name) {
        Some(callable) => SubmitError::Signature {
            function: callable.name.clone(),
            problem:
                "it is not a program's entry, which takes nothing and returns nothing or an i32"
                    .into(),
            signature: callable.signature(),
        },
        None => SubmitError::UnknownFunction {
            module: module.name.clone(),
            function: name.into(),
            suggestion: nearest(callables.entries.keys(), name),
            available: match callables.entries.is_empty() {
                true => callables.names(),
                false => callables.entries.keys().cloned().collect(),
            },
        },
    };
    Ok((module, found.ok_or_else(refused)?))
}

fn resolve_module<'a>(
    modules: &'a [ModuleEntry],
    target: &Target,
) -> Result<&'a ModuleEntry, SubmitError> {
    let available = || modules.iter().map(|module| module.name.clone()).collect();
    match (&target.module, modules) {
        (None, [only]) => Ok(only),
        (None, _) => Err(SubmitError::ModuleNeeded { available: available() }),
        (Some(name), _) => modules.iter().find(|module| module.name == *name).ok_or_else(|| {
            SubmitError::UnknownModule { name: name.clone(), available: available() }
        }),
    }
}

/// The characters of a name that are compared: a hostile module has many names, and long ones.
fn start(name: &str) -> &str {
    const CHARS_MAX: usize = 64;
    name.char_indices().nth(CHARS_MAX).map_or(name, |(end, _)| &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, params: &[ValueType], results: &[ValueType]) -> Export {
        let kind = ExportType::Function { params: params.to_vec(), results: results.to_vec() };
        Export { name: name.into(), kind }
    }

    fn module(description: ModuleDescription) -> ModuleEntry {
        let callables = Callables::of(&description);
        ModuleEntry { id: ModuleId(0), name: "m".into(), callables, description, source: None }
    }

    #[test]
    fn exports_are_told_apart_by_type_and_by_what_the_module_imports() {
        use ValueType::{F64, I32, Other};
        let mut description = ModuleDescription {
            exports: vec![
                function("answer", &[], &[I32]),
                function("add", &[I32, F64], &[F64]),
                function("vector", &[Other], &[]),
                function("_start", &[], &[]),
                function("_initialize", &[], &[]),
                function("__main_void", &[], &[I32]),
            ],
            ..ModuleDescription::default()
        };
        let found = Callables::of(&description);
        assert_eq!(found.names(), ["_start", "add", "answer"]);
        assert!(matches!(found.get("answer").unwrap().kind, CallableKind::Scalar { .. }));
        assert_eq!(found.get("_start").unwrap().kind, CallableKind::Command);

        description.imports.push(stockade_wire::Import {
            module: "stockade".into(),
            name: "input_len".into(),
            type_name: String::new(),
        });
        let found = Callables::of(&description);
        assert!(matches!(found.get("answer").unwrap().kind, CallableKind::Task { .. }));
    }

    #[test]
    fn an_unknown_function_is_answered_with_the_nearest_name() {
        let entry = module(ModuleDescription {
            exports: vec![function("word_count", &[], &[]), function("other", &[], &[])],
            ..ModuleDescription::default()
        });
        let refused = resolve(&[entry], &"wordcount".into()).unwrap_err();
        let SubmitError::UnknownFunction { suggestion, available, .. } = refused else {
            panic!("expected an unknown function")
        };
        assert_eq!(suggestion.as_deref(), Some("word_count"));
        assert_eq!(available, ["other", "word_count"]);
    }

    #[test]
    fn a_name_is_like_another_up_to_a_third_of_its_letters() {
        let long = "n".repeat(1000);
        let known = ["", "add", "word_count", "größe", &long].map(String::from);
        for (name, expected) in [
            ("ad", Some("add")),
            ("dad", Some("add")),
            ("word_cuont", Some("word_count")),
            ("wodrcuont", Some("word_count")),
            ("wrdcnt", None),
            ("grösse", Some("größe")),
            ("", None),
            ("x", None),
            (&long[1..], Some(long.as_str())),
        ] {
            assert_eq!(nearest(known.iter(), name).as_deref(), expected, "{name}");
        }
    }
}

//! Targets: what of a module can be called, told apart as the library does.
//!
//! This only shows, counts and reads arguments; whether a call is right is the library's to say.

use stockade::{
    Export, ExportType, FunctionKind, ManifestFunction, ModuleDescription, Parameter, ValueType,
};

use crate::escape;

/// The entries of programs that need not be named.
pub(crate) const OWN_ENTRIES: [&str; 2] = ["", "_start"];

/// The module of the host calls.
pub(crate) const HOST_CALLS: &str = "stockade";

/// Something of a module that can be called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Target<'m> {
    /// Its name.
    pub(crate) name: &'m str,
    /// What it takes and gives.
    pub(crate) shape: Shape<'m>,
}

/// What a target takes and gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape<'m> {
    /// A function of the manifest: its parameters are known.
    Task(&'m ManifestFunction),
    /// A task that no manifest describes.
    Untyped,
    /// Numbers.
    Scalar { params: &'m [ValueType], results: &'m [ValueType] },
    /// A whole program.
    Command,
}

/// Everything in `module` that can be called: the manifest's tasks first, which hide the exports
/// behind them, then exports.
pub(crate) fn targets(module: &ModuleDescription) -> Vec<Target<'_>> {
    let tasks = module.functions.iter().filter(|function| function.kind == FunctionKind::Task);
    let mut found: Vec<_> =
        tasks.map(|task| Target { name: &task.name, shape: Shape::Task(task) }).collect();
    let asks_host = module.imports.iter().any(|import| import.module == HOST_CALLS);
    for export in &module.exports {
        let hidden = export.name == "_initialize"
            || module.functions.iter().any(|function| function.export == export.name)
            || found.iter().any(|target| target.name == export.name);
        if let (false, Some(shape)) = (hidden, shape_of(export, asks_host)) {
            found.push(Target { name: &export.name, shape });
        }
    }
    found
}

fn shape_of(export: &Export, asks_host: bool) -> Option<Shape<'_>> {
    let ExportType::Function { params, results } = &export.kind else { return None };
    match (params.as_slice(), results.as_slice()) {
        ([], [] | [ValueType::I32]) if OWN_ENTRIES.contains(&&*export.name) => Some(Shape::Command),
        ([], [ValueType::I32]) if asks_host => Some(Shape::Untyped),
        _ if params.contains(&ValueType::Other) || results.contains(&ValueType::Other) => None,
        _ => Some(Shape::Scalar { params, results }),
    }
}

/// The exports of `module` in which a program may begin, its own entries among them.
pub(crate) fn entries(module: &ModuleDescription) -> impl Iterator<Item = &str> {
    let is_entry = |export: &&Export| {
        matches!(&export.kind, ExportType::Function { params, results }
            if params.is_empty() && matches!(results[..], [] | [ValueType::I32]))
            && export.name != "_initialize"
            && !module.functions.iter().any(|function| function.export == export.name)
    };
    module.exports.iter().filter(is_entry).map(|export| export.name.as_str())
}

/// The initializer or finalizer that the manifest declares under `name`, or the first.
pub(crate) fn hook<'m>(
    module: &'m ModuleDescription,
    kind: FunctionKind,
    name: Option<&str>,
) -> Option<&'m ManifestFunction> {
    let mut declared = module.functions.iter().filter(|function| function.kind == kind);
    declared.find(|function| name.is_none_or(|name| name == function.name))
}

impl<'m> Target<'m> {
    /// Its parameters, where the manifest declares them.
    pub(crate) fn params(&self) -> Option<&'m [Parameter]> {
        match self.shape {
            Shape::Task(function) => Some(&function.params),
            _ => None,
        }
    }

    /// How many arguments it takes, where that is known.
    pub(crate) fn arity(&self) -> Option<usize> {
        match self.shape {
            Shape::Task(function) => Some(function.params.len()),
            Shape::Scalar { params, .. } => Some(params.len()),
            Shape::Untyped | Shape::Command => None,
        }
    }

    /// Its signature in words, on one line.
    pub(crate) fn signature(&self) -> String {
        match self.shape {
            Shape::Task(function) => signature(function),
            Shape::Untyped => format!("{}(...)", escape::line(self.name)),
            Shape::Command if self.name.is_empty() => "\"\"".into(),
            Shape::Command => escape::line(self.name),
            Shape::Scalar { params, results } => {
                let result = match results {
                    [] => String::new(),
                    [one] => format!(" -> {one}"),
                    many => format!(" -> ({})", types(many)),
                };
                format!("{}({}){result}", escape::line(self.name), types(params))
            }
        }
    }
}

/// The signature of a function of the manifest, on one line.
pub(crate) fn signature(function: &ManifestFunction) -> String {
    let params: Vec<_> = function
        .params
        .iter()
        .map(|param| format!("{}: {}", escape::line(&param.name), escape::line(&param.type_name)))
        .collect();
    let result = match function.result.as_str() {
        "" => String::new(),
        result => format!(" -> {}", escape::line(result)),
    };
    format!("{}({}){result}", escape::line(&function.name), params.join(", "))
}

fn types(types: &[ValueType]) -> String {
    types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use stockade::Import;

    fn function(name: &str, params: &[ValueType], results: &[ValueType]) -> Export {
        let kind = ExportType::Function { params: params.to_vec(), results: results.to_vec() };
        Export { name: name.into(), kind }
    }

    fn described(kind: FunctionKind, name: &str, type_name: &str) -> ManifestFunction {
        let params = vec![Parameter { name: "x".into(), type_name: type_name.into() }];
        let (doc, result) = (String::new(), "u64".into());
        let export = format!("e.{name}");
        ManifestFunction {
            kind,
            name: name.into(),
            export,
            doc,
            params,
            result,
            reads_cells: false,
        }
    }

    #[test]
    fn tasks_hide_their_exports_and_hooks_are_no_targets() {
        use ValueType::{F64, I32, Other};
        let module = ModuleDescription {
            exports: vec![
                function("e.count", &[], &[I32]),
                function("e.load", &[], &[I32]),
                function("other", &[], &[I32]),
                function("add", &[I32, F64], &[F64]),
                function("vector", &[Other], &[]),
                function("_start", &[], &[]),
                function("_initialize", &[], &[]),
                Export { name: "memory".into(), kind: ExportType::Memory },
            ],
            imports: vec![Import {
                module: HOST_CALLS.into(),
                name: "input_len".into(),
                type_name: String::new(),
            }],
            functions: vec![
                described(FunctionKind::Task, "count", "String"),
                described(FunctionKind::Initializer, "load", "u8"),
            ],
            ..ModuleDescription::default()
        };
        let signatures: Vec<_> = targets(&module).iter().map(Target::signature).collect();
        let expected = ["count(x: String) -> u64", "other(...)", "add(i32, f64) -> f64", "_start"];
        assert_eq!(signatures, expected);
        assert_eq!(hook(&module, FunctionKind::Initializer, None).unwrap().name, "load");
        assert!(hook(&module, FunctionKind::Initializer, Some("other")).is_none());
    }

    #[test]
    fn names_cannot_leave_their_line() {
        let function = described(FunctionKind::Task, "a\nhelp: b", "\x1b[1m");
        assert_eq!(signature(&function), "a\\nhelp: b(x: \\u{1b}[1m) -> u64");
    }
}

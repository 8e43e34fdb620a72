//! `stockade inspect`: what is in a module, for people and as JSON.
//!
//! Everything here was written by the module's author, so all of it is escaped and bounded.

use std::io::{self, Write};

use clap::builder::styling::Style;
use serde_json::{Value, json};
use stockade::{
    ExportType, FunctionKind, Import, ManifestFunction, ModuleDescription, WorkerProgram,
};

use crate::args::{InspectArgs, UnknownImports};
use crate::error::Error;
use crate::exit::Exit;
use crate::target::{self, HOST_CALLS, Shape, Target};
use crate::{advice, escape, json, report, setup, streams};

const WASI: &str = "wasi_snapshot_preview1";
const DOC_BYTES_MAX: usize = 2000;
const WIDTH: usize = 90;

/// Shows what the module holds.
///
/// # Errors
/// A module that cannot be read or is refused, or a stdout that cannot be written.
pub(crate) fn run(args: &InspectArgs) -> Result<Exit, Error> {
    setup::check_module(&args.module)?;
    let (program, unknown) = (WorkerProgram::CurrentProgram, args.unknown_imports.into());
    let module = match stockade::inspect_with(&args.module, Some(&program), unknown) {
        Ok(module) => module,
        Err(error) => {
            let kind = advice::kind_of(&error);
            let error = Error::from(error);
            let error = match args.unknown_imports {
                UnknownImports::Refuse => error,
                // It was asked for, and is not enough.
                _ => error.without_help(advice::NEVER_CALLED),
            };
            return if args.json { refused(&error, kind) } else { Err(error) };
        }
    };
    streams::print(|to| match args.json {
        true => writeln!(to, "{}", json::text(&as_json(&module))),
        false => show(to, &args.module.display().to_string(), &module),
    })?;
    Ok(Exit::Success)
}

/// Tells by JSON why a module is not shown.
fn refused(error: &Error, kind: &str) -> Result<Exit, Error> {
    let told = json!({ "error": error.to_json(kind) });
    streams::print(|to| writeln!(to, "{}", json::text(&told)))?;
    Err(Error::silent(error.exit()))
}

fn show(to: &mut dyn Write, name: &str, module: &ModuleDescription) -> io::Result<()> {
    let targets = target::targets(module);
    let of = |wanted: fn(&Shape<'_>) -> bool| -> Vec<&Target<'_>> {
        targets.iter().filter(|target| wanted(&target.shape)).collect()
    };
    let bold = Style::new().bold();
    writeln!(to, "{bold}{}{bold:#}  {}", escape::line(name), report::size(module.wasm_bytes))?;

    let tasks = of(|shape| matches!(shape, Shape::Task(_) | Shape::Untyped));
    heading(to, "tasks", !tasks.is_empty())?;
    for task in tasks {
        match task.shape {
            Shape::Task(function) => show_function(to, function)?,
            _ => writeln!(to, "  {}  (not described)", task.signature())?,
        }
    }
    let scalars = of(|shape| matches!(shape, Shape::Scalar { .. }));
    heading(to, "functions over numbers", !scalars.is_empty())?;
    for scalar in scalars {
        writeln!(to, "  {}", scalar.signature())?;
    }
    if !of(|shape| matches!(shape, Shape::Command)).is_empty() {
        heading(to, "program", true)?;
        writeln!(to, "  stockade run {} -- ARGV...", escape::line(name))?;
    }
    for (title, kind) in
        [("initializer", FunctionKind::Initializer), ("finalizer", FunctionKind::Finalizer)]
    {
        let functions: Vec<_> = module.functions.iter().filter(|f| f.kind == kind).collect();
        heading(to, title, !functions.is_empty())?;
        for function in functions {
            show_function(to, function)?;
        }
    }
    if targets.is_empty() {
        heading(to, "nothing in it can be called", true)?;
    }
    show_imports(to, &module.imports)?;
    show_rest(to, module)
}

fn heading(to: &mut dyn Write, title: &str, shown: bool) -> io::Result<()> {
    let bold = Style::new().bold();
    if shown { writeln!(to, "\n{bold}{title}{bold:#}") } else { Ok(()) }
}

fn show_function(to: &mut dyn Write, function: &ManifestFunction) -> io::Result<()> {
    writeln!(to, "  {}", target::signature(function))?;
    let doc = escape::text(&escape::bounded(&function.doc, DOC_BYTES_MAX));
    for line in doc.trim().lines() {
        writeln!(to, "{}", format!("      {line}").trim_end())?;
    }
    Ok(())
}

/// Imports by where they come from.
fn grouped(imports: &[Import]) -> Vec<(&'static str, Vec<String>)> {
    let group = |title, wanted: fn(&str) -> bool, name: fn(&Import) -> String| {
        let names = imports.iter().filter(|import| wanted(&import.module)).map(name).collect();
        (title, names)
    };
    let name = |import: &Import| import.name.clone();
    let full_name = |import: &Import| format!("{}.{}", import.module, import.name);
    let mut groups = vec![
        group("WASI preview 1", |module| module == WASI, name),
        group("Stockade", |module| module == HOST_CALLS, name),
        group("other", |module| module != WASI && module != HOST_CALLS, full_name),
    ];
    groups.retain(|(_, names): &(_, Vec<String>)| !names.is_empty());
    groups
}

fn show_imports(to: &mut dyn Write, imports: &[Import]) -> io::Result<()> {
    let groups = grouped(imports);
    heading(to, "imports", !groups.is_empty())?;
    for (title, names) in groups {
        let names: Vec<_> = names.iter().map(|name| escape::line(name)).collect();
        for (index, line) in wrapped(&names, WIDTH - 18).iter().enumerate() {
            let title = if index == 0 { title } else { "" };
            writeln!(to, "  {title:<15} {line}")?;
        }
    }
    Ok(())
}

/// `names` with commas between them, in lines of at most `width` characters where they fit.
fn wrapped(names: &[String], width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for (index, name) in names.iter().enumerate() {
        let comma = if index + 1 < names.len() { "," } else { "" };
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty() && line.chars().count() + name.chars().count() + 2 > width {
            lines.push(format!("{name}{comma}"));
        } else {
            let space = if line.is_empty() { "" } else { " " };
            line.push_str(&format!("{space}{name}{comma}"));
        }
    }
    lines
}

fn show_rest(to: &mut dyn Write, module: &ModuleDescription) -> io::Result<()> {
    heading(to, "memory", true)?;
    let memories = memories(module);
    let exported = match memories.as_slice() {
        [] => "not exported".to_string(),
        names => {
            let names: Vec<_> =
                names.iter().map(|name| format!("`{}`", escape::line(name))).collect();
            format!("exported as {}", names.join(", "))
        }
    };
    match (module.memory_min_bytes, memories.len()) {
        (0, 0) => writeln!(to, "  none")?,
        (bytes, _) => writeln!(to, "  {} at the start, {exported}", report::size(bytes))?,
    }
    if module.has_start {
        heading(to, "start function", true)?;
        writeln!(to, "  runs in every new instance, before anything else")?;
    }
    heading(to, "warnings", !module.warnings.is_empty())?;
    for warning in &module.warnings {
        writeln!(to, "  {}", escape::line(warning))?;
    }
    Ok(())
}

fn memories(module: &ModuleDescription) -> Vec<&str> {
    let memories = module.exports.iter().filter(|export| export.kind == ExportType::Memory);
    memories.map(|export| export.name.as_str()).collect()
}

/// Everything of it, for machines.
pub(crate) fn as_json(module: &ModuleDescription) -> Value {
    let hooks = |kind| {
        let functions = module.functions.iter().filter(move |function| function.kind == kind);
        functions.map(function_as_json).collect::<Vec<_>>()
    };
    let imports = module.imports.iter().map(
        |import| json!({ "module": import.module, "name": import.name, "type": import.type_name }),
    );
    json!({
        "wasm_bytes": module.wasm_bytes,
        "targets": target::targets(module).iter().map(target_as_json).collect::<Vec<_>>(),
        "initializers": hooks(FunctionKind::Initializer),
        "finalizers": hooks(FunctionKind::Finalizer),
        "imports": imports.collect::<Vec<_>>(),
        "memory_min_bytes": module.memory_min_bytes,
        "exported_memories": memories(module),
        "has_start_function": module.has_start,
        "warnings": module.warnings,
    })
}

fn target_as_json(target: &Target<'_>) -> Value {
    let types =
        |types: &[stockade::ValueType]| types.iter().map(ToString::to_string).collect::<Vec<_>>();
    match target.shape {
        Shape::Task(function) => {
            let mut value = function_as_json(function);
            value["kind"] = "task".into();
            value
        }
        Shape::Untyped => json!({ "kind": "task", "name": target.name }),
        Shape::Command => json!({ "kind": "command", "name": target.name }),
        Shape::Scalar { params, results } => json!({
            "kind": "scalar",
            "name": target.name,
            "params": types(params),
            "results": types(results),
        }),
    }
}

fn function_as_json(function: &ManifestFunction) -> Value {
    let params =
        function.params.iter().map(|param| json!({ "name": param.name, "type": param.type_name }));
    json!({
        "name": function.name,
        "doc": function.doc,
        "params": params.collect::<Vec<_>>(),
        "result": function.result,
        "signature": target::signature(function),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_wrapped_between_them() {
        let names = ["fd_write", "fd_read", "proc_exit"].map(String::from);
        assert_eq!(wrapped(&names, 18), ["fd_write, fd_read,", "proc_exit"]);
        assert_eq!(wrapped(&names, 1), ["fd_write,", "fd_read,", "proc_exit"]);
    }

    #[test]
    fn what_a_module_says_of_itself_stays_in_its_place() {
        let function = ManifestFunction {
            kind: FunctionKind::Task,
            name: "f".into(),
            export: "e".into(),
            doc: "one\n\ntwo \x1b[1m".into(),
            params: Vec::new(),
            result: String::new(),
            reads_cells: false,
        };
        let warnings = vec!["bad\nline".into()];
        let module =
            ModuleDescription { functions: vec![function], warnings, ..Default::default() };
        let mut shown = Vec::new();
        show(&mut anstream::StripStream::new(&mut shown), "m.wasm", &module).unwrap();
        let expected = "m.wasm  0 bytes\n\ntasks\n  f()\n      one\n\n      two \\u{1b}[1m\n\n\
                        memory\n  none\n\nwarnings\n  bad\\nline\n";
        assert_eq!(String::from_utf8(shown).unwrap(), expected);
    }
}

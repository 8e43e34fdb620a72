//! The manifest: a guest's description of its functions, checked against the module's exports.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use stockade_abi::{ABI_VERSION, FunctionRecord, ParameterRecord};
use stockade_wire::{
    ExportType, FUNCTION_NAME_BYTES_MAX, FUNCTION_TEXT_BYTES_MAX, FUNCTIONS_MAX, FunctionKind,
    ManifestFunction, NAME_BYTES_MAX, PARAMETERS_MAX, Parameter, Refusal, RefusalKind, ValueType,
};

use crate::description::Warnings;
use crate::refusal;
use crate::text::quoted;

/// The most bytes of a manifest, all its sections together.
const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// The functions of a manifest in `sections` whose exports exist and have the right type.
///
/// # Errors
/// A refusal where a record was written for another version of the guest ABI.
pub(crate) fn functions(
    sections: &[&[u8]],
    exports: &[(&str, ExportType)],
    warnings: &mut Warnings,
) -> Result<Vec<ManifestFunction>, Refusal> {
    let bytes: usize = sections.iter().map(|section| section.len()).sum();
    if bytes > MANIFEST_BYTES_MAX {
        let text = format!(
            "the manifest is ignored: it has {bytes} bytes, but only {MANIFEST_BYTES_MAX} are \
             allowed"
        );
        warnings.push(&text);
        return Ok(Vec::new());
    }
    let exports = exports.iter().map(|(name, kind)| (*name, kind)).collect();
    let mut reader = Reader { exports, functions: Vec::new(), seen: HashSet::new(), warnings };
    for section in sections {
        // The linker may have put zeros between what it joined.
        for line in section.split(|byte| matches!(byte, b'\n' | 0)) {
            if !line.trim_ascii().is_empty() {
                reader.line(line)?;
            }
        }
    }
    Ok(reader.functions)
}

struct Reader<'a> {
    exports: HashMap<&'a str, &'a ExportType>,
    functions: Vec<ManifestFunction>,
    seen: HashSet<String>,
    warnings: &'a mut Warnings,
}

impl Reader<'_> {
    fn line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let value: Value = match serde_json::from_slice(line) {
            Ok(value) => value,
            Err(error) => {
                self.ignore(&format!("a line is not JSON: {error}"));
                return Ok(());
            }
        };
        check_version(&value)?;
        match serde_json::from_value::<FunctionRecord>(value) {
            Ok(record) => match self.reason_against(&record) {
                None => self.add(record),
                Some(reason) => {
                    self.ignore(&format!("function `{}`: {reason}", quoted(&record.name)));
                }
            },
            Err(error) => self.ignore(&format!("a line is not a record: {error}")),
        }
        Ok(())
    }

    fn reason_against(&self, record: &FunctionRecord) -> Option<String> {
        if record.name.is_empty() {
            return Some("it has no name".into());
        }
        if record.name.len() > FUNCTION_NAME_BYTES_MAX {
            return Some(format!("its name is longer than {FUNCTION_NAME_BYTES_MAX} bytes"));
        }
        if record.export.len() > NAME_BYTES_MAX {
            return Some(format!("its export's name is longer than {NAME_BYTES_MAX} bytes"));
        }
        if record.params.len() > PARAMETERS_MAX {
            return Some(format!("it has more than {PARAMETERS_MAX} parameters"));
        }
        if self.functions.len() == FUNCTIONS_MAX {
            return Some(format!("there are {FUNCTIONS_MAX} before it"));
        }
        match self.exports.get(record.export.as_str()) {
            None => return Some(format!("there is no export `{}`", quoted(&record.export))),
            Some(kind) if is_task(kind) => {}
            Some(_) => {
                return Some(format!(
                    "export `{}` is not of type () -> i32",
                    quoted(&record.export)
                ));
            }
        }
        if self.seen.contains(&record.name) {
            return Some("another function has its name".into());
        }
        let kind = kind_of(record);
        let only_one = kind != FunctionKind::Task;
        if only_one && self.functions.iter().any(|function| function.kind == kind) {
            return Some("there is another function of that kind".into());
        }
        None
    }

    fn add(&mut self, record: FunctionRecord) {
        let kind = kind_of(&record);
        self.seen.insert(record.name.clone());
        self.functions.push(ManifestFunction {
            kind,
            name: record.name,
            export: record.export,
            doc: cut(record.doc, FUNCTION_TEXT_BYTES_MAX),
            params: record.params.into_iter().map(parameter).collect(),
            result: cut(record.result, FUNCTION_TEXT_BYTES_MAX),
            reads_cells: record.cells,
        });
    }

    fn ignore(&mut self, why: &str) {
        self.warnings.push(&format!("manifest: ignored: {why}"));
    }
}

/// Looked at before anything else, since another version's records may have other fields.
fn check_version(value: &Value) -> Result<(), Refusal> {
    match value.get("abi").and_then(Value::as_u64) {
        Some(version) if version != u64::from(ABI_VERSION) => Err(refusal(
            RefusalKind::Feature,
            &format!(
                "it was built for version {version} of the guest ABI, but this release supports \
                 version {ABI_VERSION}; build it with the guest SDK of this release"
            ),
        )),
        _ => Ok(()),
    }
}

fn kind_of(record: &FunctionRecord) -> FunctionKind {
    match record.kind {
        stockade_abi::FunctionKind::Task => FunctionKind::Task,
        stockade_abi::FunctionKind::Initializer => FunctionKind::Initializer,
        stockade_abi::FunctionKind::Finalizer => FunctionKind::Finalizer,
    }
}

fn is_task(kind: &ExportType) -> bool {
    matches!(kind, ExportType::Function { params, results }
        if params.is_empty() && *results == [ValueType::I32])
}

fn parameter(record: ParameterRecord) -> Parameter {
    Parameter {
        name: cut(record.name, FUNCTION_NAME_BYTES_MAX),
        type_name: cut(record.type_name, FUNCTION_TEXT_BYTES_MAX),
    }
}

fn cut(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_that_quotes_a_manifest_is_as_long_as_a_message_at_most() {
        let manifest = format!(r#"{{"abi":1,"kind":"{}"}}"#, "k".repeat(100_000));
        let mut warnings = Warnings::default();
        functions(&[manifest.as_bytes()], &[], &mut warnings).unwrap();
        let texts = warnings.finish();
        assert_eq!(texts.len(), 1);
        assert!((1000..5000).contains(&texts[0].len()), "{} bytes", texts[0].len());
    }
}

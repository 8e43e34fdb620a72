//! The line that a function adds to the module's manifest, made while the macro runs.

use crate::signature::Signature;
use crate::type_text::type_text;
use stockade_abi::{ABI_VERSION, EXPORT_PREFIX, FunctionKind, FunctionRecord, ParameterRecord};
use syn::{Attribute, Expr, ExprLit, Lit, Meta};

/// The name of the export behind the function `name`.
pub(crate) fn export_name(name: &str) -> String {
    format!("{EXPORT_PREFIX}{name}")
}

/// One [`FunctionRecord`] as JSON, with the line feed that ends it.
pub(crate) fn line(
    kind: FunctionKind,
    signature: &Signature,
    attributes: &[Attribute],
) -> serde_json::Result<String> {
    let record = FunctionRecord {
        abi: ABI_VERSION,
        kind,
        name: signature.name.clone(),
        export: export_name(&signature.name),
        doc: doc_comment(attributes),
        params: signature
            .params
            .iter()
            .map(|param| ParameterRecord {
                name: param.name.clone(),
                type_name: type_text(&param.written),
            })
            .collect(),
        result: result_text(signature),
        cells: true,
    };
    Ok(serde_json::to_string(&record)? + "\n")
}

/// The type of what callers get.
fn result_text(signature: &Signature) -> String {
    let written = signature.result.as_ref().map(type_text).unwrap_or_default();
    match (signature.in_place, written.is_empty()) {
        (false, _) => written,
        (true, true) => "Vec<u8>".to_owned(),
        (true, false) => written.replacen("()", "Vec<u8>", 1),
    }
}

/// The doc comment's lines, without the one space that follows `///` by custom.
fn doc_comment(attributes: &[Attribute]) -> String {
    let lines: Vec<_> = attributes.iter().filter_map(doc_text).collect();
    let mut text = String::new();
    for line in lines.iter().flat_map(|block| block.split('\n')) {
        text.push_str(line.strip_prefix(' ').unwrap_or(line).trim_end());
        text.push('\n');
    }
    text.trim_end().to_owned()
}

/// The literal text of `#[doc = "…"]`. An included file is not ours to read here and stays out.
fn doc_text(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proc_macro2::TokenStream;

    fn record_of(source: &str) -> FunctionRecord {
        let function: syn::ItemFn = syn::parse_str(source).expect("a function");
        let signature = Signature::parse(FunctionKind::Task, &TokenStream::new(), &function)
            .unwrap_or_else(|errors| panic!("{errors}"));
        let line = line(FunctionKind::Task, &signature, &function.attrs).expect("JSON");
        assert!(line.ends_with('\n') && line.lines().count() == 1, "{line}");
        serde_json::from_str(&line).expect("a record")
    }

    #[test]
    fn line_describes_the_function() {
        let record = record_of(
            "/// Counts words.\n///\n///  - twice \"indented\"\nfn count(text: &str, mut limit: usize) -> Vec<(String, u64)> { Vec::new() }",
        );

        assert_eq!(record.name, "count");
        assert_eq!(record.export, "stockade.task.count");
        assert_eq!(record.doc, "Counts words.\n\n - twice \"indented\"");
        assert_eq!(record.result, "Vec<(String, u64)>");
        let params: Vec<_> = record.params.iter().map(|p| (&*p.name, &*p.type_name)).collect();
        assert_eq!(params, [("text", "&str"), ("limit", "usize")]);
    }

    #[test]
    fn bytes_that_are_changed_in_place_are_the_result() {
        assert_eq!(record_of("fn invert(pixels: &mut [u8]) {}").result, "Vec<u8>");
        let fallible = record_of("fn f(pixels: &mut [u8]) -> Result<(), Trouble> { Ok(()) }");
        assert_eq!(fallible.result, "Result<Vec<u8>, Trouble>");
        assert_eq!(fallible.params[0].type_name, "&mut [u8]");
    }

    #[test]
    fn raw_names_lose_their_prefix() {
        let record = record_of("fn r#match(r#type: String) {}");

        assert_eq!(record.name, "match");
        assert_eq!(record.params[0].name, "type");
        assert_eq!(record.result, "");
    }
}

//! What the attributes accept of a function, and what they say of the rest.
//!
//! Owns the rules. Every rule is checked before any is reported, and each mistake is reported at
//! the tokens that make it. Deliberately absent: whether a type can be decoded, which only the
//! compiler knows; the generated code asks it at the type's span.

use crate::errors::Errors;
use crate::type_text::type_text;
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use stockade_abi::FunctionKind;
use syn::ext::IdentExt;
use syn::{FnArg, Ident, ItemFn, Pat, PatType, ReturnType, Type};

/// A function that passed every rule.
pub(crate) struct Signature {
    /// The name that callers use.
    pub(crate) name: String,
    pub(crate) params: Vec<Param>,
    /// The result's type, unless the function returns nothing.
    pub(crate) result: Option<Type>,
    /// Whether its only parameter, changed, is its result.
    pub(crate) in_place: bool,
}

/// One parameter.
pub(crate) struct Param {
    pub(crate) name: String,
    /// The type as the author wrote it.
    pub(crate) written: Type,
    /// The type that is decoded: the written one, or its owned form where that one borrows.
    pub(crate) decoded: Type,
    /// How the function takes what was decoded.
    pub(crate) passed: Passed,
}

/// How a function takes an argument.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passed {
    Owned,
    Borrowed,
    /// As `&mut [u8]`.
    InPlace,
}

/// The attribute's own name, for messages.
pub(crate) fn attribute_name(kind: FunctionKind) -> &'static str {
    match kind {
        FunctionKind::Task => "task",
        FunctionKind::Initializer => "initializer",
        FunctionKind::Finalizer => "finalizer",
    }
}

impl Signature {
    /// Checks `function` and its attribute's arguments against every rule.
    pub(crate) fn parse(
        kind: FunctionKind,
        arguments: &TokenStream,
        function: &ItemFn,
    ) -> Result<Self, TokenStream> {
        let mut errors = Errors::default();
        let attribute = attribute_name(kind);
        if !arguments.is_empty() {
            errors.push(arguments, format!("`#[{attribute}]` takes no arguments"));
        }
        check_qualifiers(attribute, &function.sig, &mut errors);
        let params: Vec<_> = function
            .sig
            .inputs
            .iter()
            .filter_map(|input| parameter(attribute, input, &mut errors))
            .collect();
        let result = result_type(attribute, &function.sig.output, &mut errors);
        let in_place = params.iter().any(|param| param.passed == Passed::InPlace);
        if in_place {
            check_in_place(kind, function, result.as_ref(), &mut errors);
        }
        let name = function.sig.ident.unraw().to_string();
        errors.finish(Some(Self { name, params, result, in_place }))
    }
}

/// What holds for a function of `&mut [u8]`.
fn check_in_place(
    kind: FunctionKind,
    function: &ItemFn,
    result: Option<&Type>,
    errors: &mut Errors,
) {
    let inputs = &function.sig.inputs;
    if kind != FunctionKind::Task {
        errors.push(inputs, "only a task gives back what it changes; take `&[u8]`");
    }
    if inputs.len() > 1 {
        errors.push(
            inputs,
            "a task that changes its input in place takes nothing beside it: take `Vec<u8>`, and return it",
        );
    }
    if let Some(ty) = result.filter(|ty| !type_text(*ty).contains("Result<(), ")) {
        errors.push(
            ty,
            "what a task of `&mut [u8]` gives is those bytes, so it returns nothing else, or `Result<(), E>`",
        );
    }
}

/// Everything about a signature but its parameters and its result.
fn check_qualifiers(attribute: &str, signature: &syn::Signature, errors: &mut Errors) {
    if let Some(asyncness) = &signature.asyncness {
        errors.push(
            asyncness,
            format!("`#[{attribute}]` functions cannot be `async`: a guest has one thread and no executor"),
        );
    }
    if let Some(unsafety) = &signature.unsafety {
        errors.push(
            unsafety,
            format!(
                "`#[{attribute}]` functions cannot be `unsafe`: their caller is another process"
            ),
        );
    }
    if let Some(abi) = &signature.abi {
        errors.push(
            abi,
            format!(
                "`#[{attribute}]` functions cannot be `extern`: the attribute makes the export"
            ),
        );
    }
    for parameter in &signature.generics.params {
        errors.push(
            parameter,
            format!("`#[{attribute}]` functions cannot be generic: their caller knows a name and nothing else"),
        );
    }
    if let Some(clause) = &signature.generics.where_clause {
        errors.push(clause, format!("`#[{attribute}]` functions cannot have a `where` clause"));
    }
    if let Some(variadic) = &signature.variadic {
        errors.push(
            variadic,
            format!("`#[{attribute}]` functions have a fixed list of parameters; take a `Vec<T>`"),
        );
    }
}

fn parameter(attribute: &str, input: &FnArg, errors: &mut Errors) -> Option<Param> {
    let PatType { pat, ty, .. } = match input {
        FnArg::Receiver(receiver) => {
            errors.push(
                receiver,
                format!("`#[{attribute}]` functions cannot be methods: there is no `self` to call them on"),
            );
            return None;
        }
        FnArg::Typed(typed) => typed,
    };
    let name = parameter_name(pat, errors);
    let decoded = decoded_type(ty, errors);
    let (decoded, passed) = decoded?;
    Some(Param { name: name?.unraw().to_string(), written: (**ty).clone(), decoded, passed })
}

fn parameter_name<'a>(pattern: &'a Pat, errors: &mut Errors) -> Option<&'a Ident> {
    match pattern {
        Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => {
            Some(&pattern.ident)
        }
        _ => {
            errors.push(
                pattern,
                "a parameter needs a plain name, by which callers can pass it; take it apart in the body",
            );
            None
        }
    }
}

/// The type to decode for a parameter of type `ty`, and how the function takes it.
fn decoded_type(ty: &Type, errors: &mut Errors) -> Option<(Type, Passed)> {
    match ty {
        Type::Reference(reference) if is_bytes(&reference.elem) && reference.lifetime.is_none() => {
            let passed =
                if reference.mutability.is_some() { Passed::InPlace } else { Passed::Borrowed };
            Some((syn::parse_quote!(::stockade_guest::__private::InputBytes), passed))
        }
        Type::Reference(reference) => {
            let (owned, target) = match &*reference.elem {
                Type::Path(path) if path.path.is_ident("str") => {
                    (syn::parse_quote!(::std::string::String), "String".to_owned())
                }
                Type::Slice(slice) => {
                    let item = &slice.elem;
                    let owned = syn::parse_quote!(::std::vec::Vec<#item>);
                    (owned, format!("Vec<{}>", type_text(&**item)))
                }
                other => (other.clone(), type_text(other)),
            };
            if reference.mutability.is_some() {
                errors.push(
                    ty,
                    format!("an argument is decoded for this call and nobody sees a change to it; take `{target}`, or `mut name: {target}`"),
                );
                return None;
            }
            if reference.lifetime.is_some() {
                errors.push(
                    ty,
                    format!("an argument lives only as long as this call, so its reference takes no named lifetime; take `{target}`"),
                );
                return None;
            }
            if !matches!(&*reference.elem, Type::Path(path) if path.path.is_ident("str"))
                && !matches!(&*reference.elem, Type::Slice(_))
            {
                errors.push(
                    ty,
                    format!("an argument is decoded into a value of its own; take `{target}` (only `&str` and `&[T]` are borrowed for you)"),
                );
                return None;
            }
            owns_its_data(&reference.elem, errors).then_some((owned, Passed::Borrowed))
        }
        Type::ImplTrait(_) => {
            errors.push(ty, "an argument needs one concrete type to be decoded into; name it");
            None
        }
        _ => owns_its_data(ty, errors).then(|| (ty.clone(), Passed::Owned)),
    }
}

/// Whether this is `[u8]`.
fn is_bytes(ty: &Type) -> bool {
    let Type::Slice(slice) = ty else { return false };
    matches!(&*slice.elem, Type::Path(path) if path.path.is_ident("u8"))
}

/// Reports the first reference inside `ty`. One mistake a type: the rest would say the same.
fn owns_its_data(ty: &Type, errors: &mut Errors) -> bool {
    match first_reference(ty.to_token_stream()) {
        None => true,
        Some(token) => {
            errors.push(
                token,
                "an argument owns what it holds; write `String` for `&str`, `Vec<T>` for `&[T]`",
            );
            false
        }
    }
}

fn first_reference(tokens: TokenStream) -> Option<TokenTree> {
    tokens.into_iter().find_map(|token| match &token {
        TokenTree::Group(group) => first_reference(group.stream()),
        TokenTree::Punct(punct) if punct.as_char() == '&' => Some(token),
        _ => None,
    })
}

fn result_type(attribute: &str, output: &ReturnType, errors: &mut Errors) -> Option<Type> {
    match output {
        ReturnType::Default => None,
        ReturnType::Type(_, ty) => match &**ty {
            Type::Never(_) => {
                errors.push(ty, format!("`#[{attribute}]` functions return; `!` never does"));
                None
            }
            Type::Tuple(tuple) if tuple.elems.is_empty() => None,
            ty => Some(ty.clone()),
        },
    }
}

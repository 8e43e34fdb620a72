//! The code that an attribute generates for its function.
//!
//! For `fn word_count(text: String) -> u64` these come out: the function as written; a function
//! `__stockade_export_word_count` of type `extern "C" fn() -> i32`, exported by wasm builds under
//! the name of the ABI; and, in wasm builds, a static in the manifest's section. Names inside the
//! export have the hygiene of `macro_rules!`, so none can meet the author's.
//!
//! The generated `unsafe` attributes need no leave from the author's crate: lints do not look into
//! the expansion of another crate's macro, so even `#![forbid(unsafe_code)]` stands.

use crate::errors::Errors;
use crate::manifest;
use crate::signature::{Param, Passed, Signature, attribute_name};
use proc_macro2::{Literal, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use stockade_abi::{FunctionKind, MANIFEST_SECTION};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Ident, Item, ItemFn, Path};

/// Expands one attribute: the item as written, then what it adds or what is wrong with it.
pub(crate) fn attribute(
    kind: FunctionKind,
    arguments: TokenStream,
    item: TokenStream,
) -> TokenStream {
    let added = match parse_function(kind, &item) {
        Err(report) => report,
        Ok(written) => match Signature::parse(kind, &arguments, &written) {
            Err(report) => report,
            Ok(signature) => additions(kind, &written, &signature),
        },
    };
    quote!(#item #added)
}

/// Expands `export_of!(path::name)` to the path of the export.
pub(crate) fn export_of(path: TokenStream) -> TokenStream {
    match syn::parse2::<Path>(path) {
        Err(error) => error.to_compile_error(),
        Ok(mut path) => {
            if let Some(last) = path.segments.last_mut() {
                last.ident = export_ident(&last.ident);
            }
            path.to_token_stream()
        }
    }
}

fn parse_function(kind: FunctionKind, item: &TokenStream) -> Result<ItemFn, TokenStream> {
    let mut errors = Errors::default();
    let function = match syn::parse2::<Item>(item.clone()) {
        Ok(Item::Fn(function)) => Some(function),
        Ok(other) => {
            let attribute = attribute_name(kind);
            errors.push(first_tokens(&other), format!("`#[{attribute}]` goes on a function"));
            None
        }
        Err(error) => {
            errors.push_error(error);
            None
        }
    };
    errors.finish(function)
}

/// Enough of an item to point at: a mistake about all of it need not underline its body.
fn first_tokens(item: &Item) -> TokenStream {
    match item {
        Item::Struct(item) => item.ident.to_token_stream(),
        Item::Enum(item) => item.ident.to_token_stream(),
        Item::Trait(item) => item.ident.to_token_stream(),
        Item::Mod(item) => item.ident.to_token_stream(),
        Item::Impl(item) => item.impl_token.to_token_stream(),
        other => other.to_token_stream(),
    }
}

fn export_ident(function: &Ident) -> Ident {
    format_ident!("__stockade_export_{}", function.unraw(), span = function.span())
}

fn additions(kind: FunctionKind, function: &ItemFn, signature: &Signature) -> TokenStream {
    let conditions: Vec<_> =
        function.attrs.iter().filter(|attribute| is_condition(attribute)).collect();
    let export = export(function, signature, &conditions);
    match manifest::line(kind, signature, &function.attrs) {
        Ok(line) => {
            let manifest = manifest_static(&line, &conditions);
            quote!(#export #manifest)
        }
        Err(error) => {
            let report = syn::Error::new(Span::call_site(), error).to_compile_error();
            quote!(#export #report)
        }
    }
}

/// What is compiled only with the function must carry its conditions.
fn is_condition(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
}

fn export(function: &ItemFn, signature: &Signature, conditions: &[&Attribute]) -> TokenStream {
    let visibility = &function.vis;
    let called = &function.sig.ident;
    let ident = export_ident(called);
    let export_name = manifest::export_name(&signature.name);
    let names = signature.params.iter().map(|param| &param.name);
    let locals: Vec<_> = (0..signature.params.len())
        .map(|index| format_ident!("argument_{index}", span = Span::mixed_site()))
        .collect();
    let decoding = signature.params.iter().zip(&locals).map(|(param, local)| decode(param, local));
    let passed = signature.params.iter().zip(&locals).map(|(param, local)| match param.passed {
        Passed::Owned => quote!(#local),
        Passed::Borrowed => quote!(&#local),
        Passed::InPlace => quote!(&mut #local),
    });
    let private = private();
    let encoding = encode(signature, &locals);
    quote_spanned! {Span::mixed_site()=>
        #(#conditions)*
        #[doc(hidden)]
        #[allow(dead_code, deprecated, non_snake_case, clippy::all, clippy::pedantic)]
        #[cfg_attr(target_arch = "wasm32", unsafe(export_name = #export_name))]
        #visibility extern "C" fn #ident() -> i32 {
            #[allow(unused_imports)]
            use #private::forms::*;
            #private::run(&[#(#names),*], |arguments| {
                #(#decoding)*
                arguments.finish()?;
                let returned = #called(#(#passed),*);
                #encoding
            })
        }
    }
}

fn decode(param: &Param, local: &Ident) -> TokenStream {
    let ty = &param.decoded;
    let private = private();
    // At the type's span, so that a type which cannot be decoded is reported where it stands.
    let decoder = quote_spanned! {param.written.span().resolved_at(Span::mixed_site())=>
        (&#private::Of::<#ty>::NEW).argument_form().take
    };
    let mutable = (param.passed == Passed::InPlace).then(|| quote!(mut));
    quote_spanned!(Span::mixed_site()=> let #mutable #local = #decoder(arguments)?;)
}

/// `returned`, taken apart if it is a `Result`, and written as the caller's codec wants it.
///
/// Which form a type takes is decided here and not in a generic function: the choice needs the
/// concrete type.
fn encode(signature: &Signature, locals: &[Ident]) -> TokenStream {
    let private = private();
    let span = match &signature.result {
        Some(ty) => ty.span().resolved_at(Span::mixed_site()),
        None => Span::mixed_site(),
    };
    let writing = match locals {
        [bytes] if signature.in_place => quote_spanned!(span=> {
            let () = value;
            #private::write_in_place(&#bytes)
        }),
        _ => quote_spanned!(span=> {
            (&#private::Of::type_of(&value)).result_form().write(&value)
        }),
    };
    quote_spanned! {span=>
        match (&#private::Of::type_of(&returned)).return_form().into_result(returned) {
            ::core::result::Result::Ok(value) => #writing
            ::core::result::Result::Err(error) => ::core::result::Result::Err(
                (&#private::Of::type_of(&error)).error_form().failure(&error),
            ),
        }
    }
}

fn manifest_static(line: &str, conditions: &[&Attribute]) -> TokenStream {
    let bytes = Literal::byte_string(line.as_bytes());
    let length = Literal::usize_unsuffixed(line.len());
    quote_spanned! {Span::mixed_site()=>
        #(#conditions)*
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            // `used`, or link-time optimisation takes a static that nobody reads for dead.
            #[used]
            #[unsafe(link_section = #MANIFEST_SECTION)]
            static MANIFEST: [u8; #length] = *#bytes;
        };
    }
}

fn private() -> TokenStream {
    quote!(::stockade_guest::__private)
}

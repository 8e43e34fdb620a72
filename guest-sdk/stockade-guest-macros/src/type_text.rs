//! Prints a type the way its author would: `Vec<(String, u64)>`, not `Vec < (String , u64) >`.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use quote::ToTokens;

/// The source form of `ty` on one line.
///
/// Tokens carry no white space, so it is put back by rule: after `,`, `;` and `:`, around `->`, `=`
/// and `+`, and between two words.
pub(crate) fn type_text(ty: &impl ToTokens) -> String {
    let mut text = String::new();
    print(ty.to_token_stream(), &mut text);
    text
}

fn print(tokens: TokenStream, text: &mut String) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                if text.ends_with("&mut") {
                    text.push(' ');
                }
                text.push_str(open);
                print(group.stream(), text);
                text.push_str(close);
            }
            TokenTree::Punct(punct) => match punct.as_char() {
                ',' | ';' => {
                    text.push(punct.as_char());
                    if tokens.peek().is_some() {
                        text.push(' ');
                    }
                }
                '-' if punct.spacing() == Spacing::Joint => {
                    tokens.next();
                    text.push_str(" -> ");
                }
                '=' => text.push_str(" = "),
                '+' => text.push_str(" + "),
                other => text.push(other),
            },
            word => {
                let word = word.to_string();
                let follows_word = text
                    .chars()
                    .next_back()
                    .is_some_and(|last| last.is_alphanumeric() || last == '_');
                if follows_word {
                    text.push(' ');
                }
                text.push_str(&word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::type_text;

    #[test]
    fn types_read_as_written() {
        for written in [
            "u64",
            "Vec<(String, u64)>",
            "Result<Bytes, ThumbnailError>",
            "Option<[f32; 4]>",
            "std::collections::BTreeMap<String, Vec<u8>>",
            "Box<dyn Error + Send>",
            "fn(u8, u8) -> u8",
            "Box<dyn Iterator<Item = u8>>",
            "&str",
            "&'static str",
            "&mut [u8]",
        ] {
            let ty: syn::Type = syn::parse_str(written).expect("a type");
            assert_eq!(type_text(&ty), written);
        }
    }
}

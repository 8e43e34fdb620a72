//! Counts words: the smallest useful guest.
//!
//! Its one idea: a task is a function. Text comes in as any type that serde reads, numbers and
//! lists go out, and nothing says that the function runs in another process.
//!
//! ```text
//! stockade run wordcount.wasm word_count --bytes data/alice.txt
//! stockade run wordcount.wasm top_words @data/alice.txt 5
//! ```
#![forbid(unsafe_code)]

use std::collections::HashMap;
use stockade_guest::task;

/// Counts the words of a text.
#[task]
fn word_count(text: String) -> u64 {
    words(&text).count() as u64
}

/// The words that a text uses most, with how often, the most frequent first.
///
/// Words that are equally frequent stand in alphabetical order. Case is ignored.
#[task]
fn top_words(text: String, limit: usize) -> Vec<(String, u64)> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    for word in words(&text) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then(a.cmp(b)));
    counts.truncate(limit);
    counts
}

/// Counts the words of a line that has any; fails for an empty one.
///
/// For a map over lines that should tell which of them were empty.
#[task]
fn words_in_line(line: &str) -> Result<u64, String> {
    match words(line).count() {
        0 => Err(format!("no words in {line:?}")),
        count => Ok(count as u64),
    }
}

/// The words of `text`: letters and digits, with apostrophes inside (`don't`, but not `'tis`'s).
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_alphanumeric() && character != '\'')
        .map(|word| word.trim_matches('\''))
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use stockade_guest::testing::{Call, Status, export_of};

    const ALICE: &str = include_str!("../data/alice.txt");

    #[test]
    fn words_are_counted_without_their_punctuation() {
        assert_eq!(word_count("\"Don't!\" -- 'Tis the 2nd; the end.".to_owned()), 6);
        assert_eq!(word_count(String::new()), 0);
    }

    #[test]
    fn the_book_has_its_words() {
        let most_frequent = top_words(ALICE.to_owned(), 3);

        assert_eq!(word_count(ALICE.to_owned()), 26_685);
        assert_eq!(most_frequent[0], ("the".to_owned(), 1642));
        assert_eq!(most_frequent.len(), 3);
    }

    #[test]
    fn equally_frequent_words_stand_in_order() {
        let top = top_words("b A a B c".to_owned(), 5);
        assert_eq!(top, [("a".to_owned(), 2), ("b".to_owned(), 2), ("c".to_owned(), 1)]);
    }

    #[test]
    fn every_codec_brings_the_same_text() {
        let text = "to be or not to be";
        let json = format!(r#"{{"kwargs": {{"text": "{text}"}}}}"#);

        assert_eq!(Call::json(&json).run(export_of!(word_count)).result_json::<u64>(), 6);
        assert_eq!(Call::bincode(&(text,)).run(export_of!(word_count)).result_bincode::<u64>(), 6);
        assert_eq!(Call::raw(text).run(export_of!(word_count)).result_json::<u64>(), 6);
    }

    #[test]
    fn empty_line_fails_with_its_text() {
        let outcome = Call::bincode(&(" ",)).run(export_of!(words_in_line));

        assert_eq!(outcome.status, Status::Error);
        assert_eq!(outcome.error_message(), "no words in \" \"");
    }
}

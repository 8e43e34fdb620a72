//! Visibility: which characters a terminal, a log or a person's eye takes for something else than a sign
//! of their own.
//!
//! The one table of such characters: all code that shows a guest's words asks it, and writes an escape for what
//! is not visible. A test holds it against the properties of Unicode.
//!
//! Deliberately absent: how an escape is written, which is another thing in a message than in JSON.

/// What a character looks like where it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// A sign of its own, or a space.
    Visible,
    /// Nothing by itself: it changes how its neighbours look, which some scripts and emoji need. Text may
    /// have it, but two names that differ in nothing else look the same.
    Joiner,
    /// Nothing, or it does something: controls, which move cursors, change titles and answer back; ends of
    /// lines; marks that turn the direction of text; characters without width, and tags.
    Hidden,
}

impl Visibility {
    /// What `c` looks like.
    ///
    /// ```
    /// use stockade_wire::Visibility;
    ///
    /// assert_eq!(Visibility::of('ü'), Visibility::Visible);
    /// assert_eq!(Visibility::of('\u{200d}'), Visibility::Joiner);
    /// for hidden in ['\n', '\u{1b}', '\u{200b}', '\u{202e}', '\u{2028}', '\u{e0041}'] {
    ///     assert_eq!(Visibility::of(hidden), Visibility::Hidden);
    /// }
    /// ```
    pub fn of(c: char) -> Self {
        match c {
            ' '..='~' => Self::Visible,
            // The joiner of graphemes, variation selectors, the joiner of letters and its opposite.
            '\u{34f}' | '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{200c}' | '\u{200d}' => {
                Self::Joiner
            }
            '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => Self::Joiner,
            // Controls.
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => Self::Hidden,
            // Ends of lines and of paragraphs, and marks that turn the direction of text.
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Self::Hidden,
            '\u{61c}' | '\u{200e}' | '\u{200f}' => Self::Hidden,
            // Without width: a hyphen and a space that may be there, and what must not be broken.
            '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{feff}' => {
                Self::Hidden
            }
            // Without width: letters that stand for none.
            '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{ffa0}' => {
                Self::Hidden
            }
            // Other formats: shapes of digits, annotations, hieroglyphs, shorthand, music.
            '\u{206a}'..='\u{206f}' | '\u{fff0}'..='\u{fffb}' => Self::Hidden,
            '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' => Self::Hidden,
            '\u{1d173}'..='\u{1d17a}' => Self::Hidden,
            // Tags, and what is reserved for more of their kind.
            '\u{e0000}'..='\u{e0fff}' => Self::Hidden,
            _ => Self::Visible,
        }
    }
}

#[cfg(test)]
mod tests {
    use icu_properties::props::{
        DefaultIgnorableCodePoint, GeneralCategory, JoinControl, PrependedConcatenationMark,
        VariationSelector,
    };
    use icu_properties::{CodePointMapData, CodePointSetData};

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "a million characters")]
    fn every_character_is_as_visible_as_unicode_says() {
        const GRAPHEME_JOINER: char = '\u{34f}';
        let category = CodePointMapData::<GeneralCategory>::new();
        let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
        let joins = CodePointSetData::new::<JoinControl>();
        let selects = CodePointSetData::new::<VariationSelector>();
        // Signs around numbers, which are formats and have a shape.
        let encloses = CodePointSetData::new::<PrependedConcatenationMark>();
        for c in '\0'..=char::MAX {
            let has_no_shape = match category.get(c) {
                GeneralCategory::Control
                | GeneralCategory::LineSeparator
                | GeneralCategory::ParagraphSeparator => true,
                GeneralCategory::Format => !encloses.contains(c),
                _ => ignorable.contains(c),
            };
            let expected = if joins.contains(c) || selects.contains(c) || c == GRAPHEME_JOINER {
                Visibility::Joiner
            } else if has_no_shape {
                Visibility::Hidden
            } else {
                Visibility::Visible
            };
            assert_eq!(Visibility::of(c), expected, "{c:?}");
        }
    }
}
